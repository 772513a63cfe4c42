//! The environment of the bench: one control plane with an audit log, one registry (passwords over TLS with a private
//! CA), one Secret and one ConfigMap that all registries share, and the operator with the chart's permissions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use registry_api::SystemRegistry;
use registry_testbed::manifests::{self, Placeholders};
use registry_testbed::{
    AuditLog, ControlPlane, ControlPlaneOptions, LeafOptions, OperatorOptions, RegistryAuth, RegistryOptions,
    RegistryTls, TestCa, TestRegistry, process::Scratch, tools,
};

use crate::arguments::Arguments;
use crate::contender::{Contender, Kind};
use crate::floor::{Plan, Work};
use crate::names::{self, Names};
use crate::objects::{self, Endpoint};
use crate::observer::Observer;
use crate::wire::Address;

/// The operator's namespace.
const NAMESPACE: &str = "registry-system";
const ACCOUNT: &str = "registry-operator";
const USER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// How many validations the operator runs at the same time for one registry host: its queue lets one group (the system
/// scope is one) use half of `--concurrency` (64), and half of a host's 32 slots.
const WORKERS: usize = 32;
const EXCHANGES: usize = 16;

/// The servers, with clients for them.
pub struct Bed {
    /// A client with administrator permissions.
    pub client: Client,
    /// The registry.
    pub registry: TestRegistry,
    /// How long to count writes in the steady state.
    pub steady: Duration,
    control_plane: ControlPlane,
    operator: OperatorOptions,
    registry_address: Address,
    api_address: Address,
    status: String,
    ca: TestCa,
    /// The name servers, or why there are none.
    names: anyhow::Result<Names>,
    scratch: Scratch,
}

impl Bed {
    /// Starts all servers.
    pub async fn start(arguments: &Arguments) -> anyhow::Result<Self> {
        let options = ControlPlaneOptions {
            audit: true,
            // One log file, and a clean-up that doesn't take longer than the measurement.
            api_server_flags: ["--audit-log-maxsize=100000", "--delete-collection-workers=16"]
                .map(str::to_owned)
                .into(),
            ..ControlPlaneOptions::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        let client = control_plane.client().await?;
        let ca = TestCa::new("bench")?;
        let registry = start_registry(&ca).await?;
        install(&client, ca.certificate_pem()).await?;

        let kubeconfig = control_plane.kubeconfig_for_service_account(NAMESPACE, ACCOUNT).await?;
        let token = control_plane.service_account_token(NAMESPACE, ACCOUNT).await?;
        let scratch = Scratch::new("bench")?;
        let login = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let mut bed = Self {
            registry_address: Address {
                host_port: registry.host_port(),
                ca_pem: ca.certificate_pem().to_owned(),
                authorization: format!("Basic {login}"),
            },
            api_address: Address {
                host_port: control_plane.url().trim_start_matches("https://").to_owned(),
                ca_pem: control_plane.ca().certificate_pem().to_owned(),
                authorization: format!("Bearer {token}"),
            },
            operator: operator_options(arguments, &kubeconfig)?,
            steady: Duration::from_secs(arguments.steady),
            names: Names::start(&scratch).await,
            scratch,
            status: String::new(),
            control_plane,
            registry,
            client,
            ca,
        };
        bed.status = bed.status_of_one().await.context("a first registry, to see that all is well")?;
        Ok(bed)
    }

    /// Prints what runs here.
    pub fn describe(&self) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        println!(
            "Kubernetes API server and etcd (audit log on), and registry (htpasswd, bcrypt cost 4, TLS, private CA), on {cores} cores\n\
             that the operator, the floors and this bench share. Operator: {} {}\n\
             Floors: {EXCHANGES} exchanges at a time, as the operator at one host; floor 2 with {WORKERS} connections to the API\n\
             server, as the operator's workers for one tenant. The status that floor 2 writes has {} bytes.",
            self.operator.binary.display(),
            self.operator.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" "),
            self.status.len(),
        );
        if let Err(error) = &self.names {
            println!("Host names are left out, because they need root: {error:#}");
        }
    }

    /// Returns the audit log.
    pub fn audit(&self) -> anyhow::Result<AuditLog> {
        Ok(self.control_plane.audit()?)
    }

    /// Returns the name servers, if there are any.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref().ok()
    }

    /// Returns the registry's host name and port.
    pub fn registry_by_name(&self) -> String {
        let host_port = self.registry.host_port();
        let port = host_port.rsplit_once(':').map_or("", |(_, port)| port);
        format!("{}:{port}", names::REGISTRY)
    }

    /// Returns the authority that all registries trust.
    pub fn authority(&self) -> &TestCa {
        &self.ca
    }

    /// Returns the API server's port.
    pub fn api_port(&self) -> anyhow::Result<u16> {
        let (_, port) = self.api_address.host_port.rsplit_once(':').context("an address with a port")?;
        Ok(port.parse()?)
    }

    /// Returns the operator's user in the audit log.
    pub fn operator_user() -> String {
        format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
    }

    /// Returns the processes of the servers and this one.
    pub async fn processes(&self) -> Vec<(&'static str, u32)> {
        let servers = [
            ("apiserver", self.control_plane.api_server().id().await),
            ("etcd", self.control_plane.etcd().id().await),
            ("registry", self.registry.component().id().await),
            ("bench", Some(std::process::id())),
        ];
        servers.into_iter().filter_map(|(name, id)| Some((name, id?))).collect()
    }

    /// Starts a program without waiting for it.
    pub async fn start_contender(&self, kind: Kind) -> anyhow::Result<Contender> {
        let work = match kind {
            Kind::Operator => return Contender::operator(self.operator.clone()).await,
            Kind::Resolving(answers) => {
                let names = self.names().context("no name servers")?;
                return Contender::operator(names.applied_to(self.operator.clone(), answers)).await;
            }
            Kind::LeastOperator => {
                Work::Patches { api: self.api_address.clone(), workers: WORKERS, status: self.status.clone() }
            }
            Kind::Exchanges(count) => Work::Exchanges(count),
        };
        let plan = Plan { registry: self.registry_address.clone(), exchanges: EXCHANGES, work };
        let plan = self.scratch.write("plan.json", serde_json::to_vec(&plan)?)?;
        Contender::floor(&plan, self.scratch.path())
    }

    /// Returns the status that the operator writes for a registry here.
    async fn status_of_one(&self) -> anyhow::Result<String> {
        let mut observer = Observer::start(&self.client).await?;
        let operator = self.start_contender(Kind::Operator).await?;
        objects::create_all(&self.client, &Endpoint::Shared(self.registry.host_port()), 1).await?;
        operator.while_running(observer.all_ready(1, Duration::from_secs(30))).await?;
        let api: Api<SystemRegistry> = Api::all(self.client.clone());
        let status = api.get("bench-00000").await?.status;
        operator.stop().await?;
        objects::delete_all(&self.client).await?;
        Ok(serde_json::to_string(&status)?)
    }
}

async fn start_registry(ca: &TestCa) -> anyhow::Result<TestRegistry> {
    let names = [names::REGISTRY.to_owned(), format!("*.{}", names::REGISTRY)];
    let options = names.into_iter().fold(LeafOptions::server("registry"), LeafOptions::dns_name);
    let leaf = ca.issue(&options)?;
    let tls = RegistryTls::Server { leaf, ca_pem: ca.certificate_pem().to_owned(), client_ca_pem: None };
    Ok(TestRegistry::start(RegistryOptions { auth: RegistryAuth::htpasswd(USER, PASSWORD), tls }).await?)
}

/// Installs the chart without the workload, and the objects that the registries reference.
async fn install(client: &Client, ca_pem: &str) -> anyhow::Result<()> {
    let mut objects =
        manifests::read_file(&tools::repository().join("config/install.yaml"), &Placeholders::default())?;
    objects.retain(|object| manifests::kind(object) != "Deployment");
    manifests::apply(client, objects).await?;

    let ca = ConfigMap {
        metadata: named("bench-ca"),
        data: Some(text(&[("ca.crt", ca_pem)])),
        ..ConfigMap::default()
    };
    create(client, &login()).await?;
    create(client, &ca).await
}

/// Returns the Secret with the registry's password.
pub fn login() -> Secret {
    Secret {
        metadata: named("bench-login"),
        type_: Some("kubernetes.io/basic-auth".to_owned()),
        string_data: Some(text(&[("username", USER), ("password", PASSWORD)])),
        ..Secret::default()
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

async fn create<K>(client: &Client, object: &K) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let name = object.meta().name.clone().unwrap_or_default();
    api.create(&PostParams::default(), object).await.with_context(|| format!("creating {name}"))?;
    Ok(())
}

fn operator_options(arguments: &Arguments, kubeconfig: &Path) -> anyhow::Result<OperatorOptions> {
    let mut options = OperatorOptions::new(PathBuf::from(&arguments.operator), kubeconfig);
    options.args.push(format!("--system-namespace={NAMESPACE}").into());
    options.args.extend(arguments.operator_arg.iter().map(Into::into));
    for pair in &arguments.operator_env {
        let (name, value) = pair.split_once('=').context("--operator-env wants NAME=VALUE")?;
        options.env.push((name.into(), value.into()));
    }
    Ok(options)
}
