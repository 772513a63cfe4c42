//! `kubectl registry validate`: every registry of some files, checked from here before anything is applied.
//!
//! Owns the order: the manifest itself, then what it names, then the registry. What each layer says is
//! [`check`](crate::check)'s; how it looks is [`report`](crate::report)'s.

use std::{
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::ResourceExt;
use registry_api::{
    TENANT_LABEL,
    spec::{Registry, Scope as ApiScope},
};
use registry_operator::{
    cluster::ClusterAddresses,
    ecr::Tokens,
    subject::{Key, Scope, Subject},
    trust::CaFile,
    validate::Boundaries,
};
use registry_probe::{CaBundle, Prober, ProberSettings, Proxy};
use secrecy::SecretString;
use serde_json::Value;

use crate::{
    admission::{self, Admission},
    advice::Outcome,
    check::{Checker, Surroundings},
    cli::{ClusterArgs, UserName, ValidateArgs},
    cluster::{Cluster, ClusterError, Tenancy, offline_namespace},
    manifest::{Declared, Manifests, api_version},
    progress,
    report::{Answer, Manifest, Report},
    schema,
    supply::{Supply, SupplyError},
};

/// What standard input may hold, at most.
const LONGEST: u64 = 16 * 1024 * 1024;

/// Checks every registry of the files.
pub async fn run(
    args: &ValidateArgs,
    cluster: &ClusterArgs,
    clock: fn() -> Timestamp,
) -> anyhow::Result<Vec<Report>> {
    let manifests = read(args)?;
    if manifests.registries.is_empty() {
        bail!("no SystemRegistry or TenantRegistry in the files given with -f");
    }
    let connected = connect(args, cluster).await?;
    let namespace = match &connected {
        Ok(connected) => connected.namespace.clone(),
        Err(_) => offline_namespace(cluster),
    };
    let password = password(args, &manifests)?;
    let mut session = Session {
        checker: checker(args, clock)?,
        system_namespace: &cluster.system_namespace,
        supply: Supply {
            manifests: &manifests,
            cluster: connected.as_ref().map_err(Clone::clone),
            namespace: &namespace,
            password,
            username: args.username.as_ref().map(|UserName(name)| name.clone()),
            typed: std::collections::HashMap::new(),
            notes: Vec::new(),
        },
    };
    let mut reports = Vec::new();
    for declared in &manifests.registries {
        reports.push(session.report(declared).await?);
    }
    Ok(reports)
}

fn read(args: &ValidateArgs) -> anyhow::Result<Manifests> {
    let mut manifests = Manifests::default();
    for file in &args.files {
        let from_stdin = file == Path::new("-");
        if from_stdin && args.password_stdin {
            bail!("standard input can't be both the file and the password; put one of them in a file");
        }
        let shown = if from_stdin { "standard input".to_owned() } else { file.display().to_string() };
        let text = if from_stdin { from_standard_input() } else { std::fs::read_to_string(file) };
        manifests.read(&shown, &text.with_context(|| format!("failed to read {shown}"))?)?;
    }
    Ok(manifests)
}

fn from_standard_input() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// What is on standard input, without the line break that ends it.
fn password(args: &ValidateArgs, manifests: &Manifests) -> anyhow::Result<Option<SecretString>> {
    if !args.password_stdin {
        return Ok(None);
    }
    if manifests.registries.len() > 1 {
        bail!("--password-stdin works for one registry, but the files have {}", manifests.registries.len());
    }
    let text = SecretString::from(from_standard_input().context("failed to read the password")?);
    let password = secrecy::ExposeSecret::expose_secret(&text).trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        bail!("--password-stdin: standard input is empty");
    }
    Ok(Some(SecretString::from(password)))
}

/// The cluster, or why it is not asked. One that was named must be usable.
async fn connect(args: &ValidateArgs, cluster: &ClusterArgs) -> anyhow::Result<Result<Cluster, String>> {
    if args.offline {
        return Ok(Err("the cluster is not used (--offline)".to_owned()));
    }
    let nobody_asked = cluster.kubeconfig.is_none() && cluster.context.is_none();
    match Cluster::configured(cluster).await {
        Ok(connected) => Ok(Ok(connected)),
        Err(ClusterError::NotConfigured(_)) if nobody_asked => Ok(Err("no cluster is configured".to_owned())),
        Err(error) => Err(error.into()),
    }
}

fn checker(args: &ValidateArgs, clock: fn() -> Timestamp) -> anyhow::Result<Checker> {
    let (proxy, ca) = outbound(args)?;
    let settings = ProberSettings {
        version: concat!(env!("CARGO_PKG_VERSION"), " (kubectl-registry)").to_owned(),
        proxy,
        ca,
        ..ProberSettings::default()
    };
    let boundaries = Boundaries {
        egress_allow: Arc::new([]),
        egress_deny: Arc::new([]),
        cluster_addresses: ClusterAddresses::new([]),
        trusted_token_services: args.trusted_token_service.clone().into(),
    };
    let prober = Prober::new(settings).context("failed to set up the prober")?;
    Ok(Checker { prober, tokens: tokens(args, clock)?, boundaries, clock })
}

fn outbound(args: &ValidateArgs) -> anyhow::Result<(Option<Proxy>, Option<CaBundle>)> {
    let ca = args.outbound.ca_file.as_deref().map(CaFile::read).transpose()?;
    Ok((args.outbound.proxy()?, ca.map(|(_, bundle)| bundle)))
}

#[cfg(feature = "ecr")]
fn tokens(args: &ValidateArgs, clock: fn() -> Timestamp) -> anyhow::Result<Option<Arc<Tokens>>> {
    use registry_operator::{
        ecr::{
            api::{Aws, Endpoints},
            http::AwsHttp,
        },
        metrics::Metrics,
        settings::AwsEndpoint,
    };
    let url = |endpoint: &Option<AwsEndpoint>| endpoint.as_ref().and_then(|AwsEndpoint(url)| url.clone());
    let endpoints = Endpoints {
        ecr: url(&args.aws_endpoint_url_ecr),
        sts: url(&args.aws_endpoint_url_sts),
        region: args.aws_region.clone(),
    };
    let (proxy, ca) = outbound(args)?;
    let aws = Aws::new(endpoints, AwsHttp::new(proxy, ca.as_ref()), Metrics::new(), clock);
    let tokens = Tokens::new(Arc::new(aws), clock, fastrand::f64);
    Ok(Some(Arc::new(tokens.context("failed to create the key of the token cache")?)))
}

#[cfg(not(feature = "ecr"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn tokens(_: &ValidateArgs, _: fn() -> Timestamp) -> anyhow::Result<Option<Arc<Tokens>>> {
    Ok(None)
}

/// One run over all registries.
struct Session<'a> {
    checker: Checker,
    system_namespace: &'a str,
    supply: Supply<'a>,
}

impl Session<'_> {
    async fn report(&mut self, declared: &Declared) -> anyhow::Result<Report> {
        let key = self.key(declared);
        let endpoint = declared.document.pointer("/spec/endpoint").and_then(Value::as_str);
        let mut report = Report {
            scope: declared.scope,
            name: key.name().to_owned(),
            namespace: key.namespace().map(ToOwned::to_owned),
            endpoint: endpoint.filter(|endpoint| !endpoint.contains('@')).unwrap_or_default().to_owned(),
            manifest: Manifest::NotAsked(String::new()),
            answer: Answer::Refused,
            notes: Vec::new(),
        };
        let subject = match self.subject(declared, &key)? {
            Ok(subject) => subject,
            Err(complaints) => {
                report.manifest = Manifest::Refused(complaints);
                return Ok(report);
            }
        };
        report.manifest = self.admission(declared, &key, &subject).await;
        if subject.spec.suspend {
            report
                .notes
                .push("spec.suspend is true: the operator does not validate it until it is false".to_owned());
        }
        if !matches!(report.manifest, Manifest::Refused(_)) {
            report.answer = self.answer(&subject, &mut report.notes).await?;
        }
        Ok(report)
    }

    fn key(&self, declared: &Declared) -> Key {
        let name: Arc<str> = declared.name().unwrap_or_default().into();
        match declared.scope {
            Scope::System => Key::System { name },
            Scope::Tenant => {
                let namespace = declared.namespace().unwrap_or(self.supply.namespace).into();
                Key::Tenant { namespace, name }
            }
        }
    }

    /// The registry in our types, or what is wrong with it that can be seen without a cluster.
    fn subject(&self, declared: &Declared, key: &Key) -> anyhow::Result<Result<Subject, Vec<String>>> {
        let mut complaints = Vec::new();
        if declared.api_version() != api_version() {
            complaints.push(format!("apiVersion must be {}", api_version()));
        }
        if declared.name().is_none() {
            complaints.push("metadata.name is required".to_owned());
        }
        if declared.scope == Scope::System && declared.namespace().is_some() {
            complaints
                .push("metadata.namespace must be omitted: a SystemRegistry is cluster-scoped".to_owned());
        }
        complaints.extend(schema::complaints(declared.scope, &declared.document)?);
        if !complaints.is_empty() {
            return Ok(Err(complaints));
        }
        let subject = match declared.scope {
            Scope::System => typed::<registry_api::spec::System>(declared),
            Scope::Tenant => typed::<registry_api::spec::Tenant>(declared),
        };
        let subject = subject.map(|subject| Subject { key: key.clone(), ..subject });
        let subject = subject.ok_or_else(|| vec![unreadable(declared).to_owned()]);
        Ok(subject.and_then(|subject| match self.checker.examine(&subject) {
            Ok(()) => Ok(subject),
            Err(error) => Err(vec![error.to_string()]),
        }))
    }

    async fn admission(&mut self, declared: &Declared, key: &Key, subject: &Subject) -> Manifest {
        let cluster = match &self.supply.cluster {
            Ok(cluster) => cluster,
            Err(why) => return Manifest::NotAsked(why.clone()),
        };
        let asking = admission::ask(cluster, key, &declared.document);
        match progress::shown(&format!("Asking the API server about {}", subject.key), asking).await {
            Admission::Accepted => Manifest::Accepted,
            Admission::Refused(reasons) => Manifest::Refused(reasons),
            Admission::NotAsked(why) => Manifest::NotAsked(why),
            Admission::Unreachable(why) => {
                self.supply.cluster = Err(why.clone());
                Manifest::NotAsked(why)
            }
        }
    }

    async fn answer(&mut self, subject: &Subject, notes: &mut Vec<String>) -> anyhow::Result<Answer> {
        let namespace = subject.key.references_namespace(self.system_namespace).to_owned();
        let nobodys = self.is_nobodys(subject, notes).await;
        let policy = self.supply.policy(subject, self.system_namespace).await;
        let contents = match self.supply.of(subject, &namespace).await {
            Ok(contents) => contents,
            Err(
                error
                @ (SupplyError::Missing { .. } | SupplyError::NothingToSignIn | SupplyError::NoUsername),
            ) => {
                return Ok(Answer::Unable(error.to_string()));
            }
            Err(SupplyError::Prompt(error)) => return Err(error.into()),
        };
        notes.append(&mut self.supply.notes);
        let surroundings =
            Surroundings { namespace: &namespace, nobodys, contents: &contents, policy: &policy };
        let what = format!("Checking {} at {}", subject.key, subject.spec.endpoint);
        let checked = progress::shown(&what, self.checker.check(subject, surroundings)).await?;
        Ok(Answer::Checked(Box::new(checked)))
    }

    /// Whether a TenantRegistry's namespace is known to be nobody's; where it is not known, it is taken for a tenant's.
    async fn is_nobodys(&self, subject: &Subject, notes: &mut Vec<String>) -> bool {
        let Some(namespace) = subject.key.namespace() else { return false };
        let mut declared = self.supply.manifests.namespaces.iter();
        if let Some(found) = declared.rfind(|found| found.name_any() == namespace) {
            return found.labels().get(TENANT_LABEL).is_none_or(String::is_empty);
        }
        let tenancy = match &self.supply.cluster {
            Ok(cluster) => cluster.tenancy(namespace).await,
            Err(why) => Tenancy::Unknown(why.clone()),
        };
        match tenancy {
            Tenancy::Of(_) => false,
            Tenancy::Nobody => true,
            Tenancy::Absent => {
                notes
                    .push(format!("Namespace {namespace} does not exist yet; assumed to belong to a tenant"));
                false
            }
            Tenancy::Unknown(why) => {
                notes.push(format!(
                    "Tenant of namespace {namespace} unknown ({why}); assumed to belong to a tenant"
                ));
                false
            }
        }
    }
}

fn typed<S: ApiScope>(declared: &Declared) -> Option<Subject>
where
    Registry<S>: serde::de::DeserializeOwned,
{
    // Never with serde's own words: they hold what stands in the file.
    serde_json::from_value::<Registry<S>>(declared.document.clone()).ok().map(Subject::of)
}

/// What can't be read of a document whose fields are all there and of their types.
fn unreadable(declared: &Declared) -> &'static str {
    let metadata = declared.document["metadata"].clone();
    match serde_json::from_value::<ObjectMeta>(metadata) {
        Ok(_) => "spec.validation.interval and spec.validation.timeout must be durations such as 10m",
        Err(_) => {
            "metadata must be valid object metadata; labels and annotations must be strings (quote numbers)"
        }
    }
}

/// The worst of all.
pub fn outcome(reports: &[Report]) -> Outcome {
    reports.iter().map(Report::outcome).max().unwrap_or(Outcome::Unclear)
}
