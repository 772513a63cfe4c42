//! Common parts of all system tests: a control plane with the installed chart, the operator started as its users
//! start it, and names that no other test uses.
//!
//! Most tests share one control plane and one operator; a test that breaks either, or counts what they do, starts its
//! own [`Installation`]. Has no assertions of its own.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
    runtime::wait::{await_condition, conditions},
};
use registry_api::{
    GROUP, RegistryStatus, TENANT_LABEL, TENANT_POLICY, crd,
    spec::{Registry, Scope, System, Tenant, VERSION},
};
use registry_testbed::{
    AuditEvent, ControlPlane, ControlPlaneOptions, Operator, OperatorOptions, eventually, in_repository,
    manifests::{self, FIELD_MANAGER, Placeholders},
    policies_are_in_force,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::moment::{Moment, shows};

/// Where the chart puts the operator.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
/// The account that the chart makes for the operator.
pub const SERVICE_ACCOUNT: &str = "registry-operator";
/// The operator, as the audit log names it.
pub const OPERATOR_USER: &str = "system:serviceaccount:registry-system:registry-operator";

/// The operator, as this build made it.
pub const OPERATOR: &str = env!("CARGO_BIN_EXE_operator-in-tests");
/// How long a test waits for the API server to take up a definition.
const ESTABLISHED: Duration = Duration::from_mins(1);

/// A control plane with all that the chart installs, save for the operator itself: that is started by the tests.
pub struct Installation {
    control_plane: ControlPlane,
}

impl Installation {
    /// The control plane that most tests share: with a controller manager and an audit log.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Installation> = OnceCell::const_new();
        let options = ControlPlaneOptions { controller_manager: true, audit: true, ..Default::default() };
        SHARED.get_or_try_init(|| Self::start(options)).await
    }

    /// A control plane of one's own.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self> {
        let control_plane = ControlPlane::start(options).await?;
        let client = control_plane.client().await?;
        install(&client).await.context("installing the chart's render and the definitions")?;
        Ok(Self { control_plane })
    }

    /// The servers, for their clients, their audit log, and to break them.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// This test's way in, as cluster administrator.
    pub async fn cluster(&self) -> Result<Cluster> {
        static TESTS: AtomicUsize = AtomicUsize::new(1);
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        Ok(Cluster { client: self.control_plane.client().await?, number })
    }

    /// How the operator is started: with the rights of the chart's service account and no others.
    pub async fn operator_options(&self) -> Result<OperatorOptions> {
        let kubeconfig =
            self.control_plane.kubeconfig_for_service_account(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(OperatorOptions::new(OPERATOR, kubeconfig))
    }

    /// An operator of one's own, ready.
    pub async fn start_operator(&self) -> Result<Operator> {
        Ok(Operator::start(self.operator_options().await?).await?)
    }
}

/// The shared control plane, for tests of what the API server does by itself.
pub async fn cluster() -> Result<Cluster> {
    Installation::shared().await?.cluster().await
}

/// The shared control plane, on which the shared operator works.
pub async fn cluster_with_operator() -> Result<Cluster> {
    shared_operator().await?;
    cluster().await
}

/// The operator that most tests share: with the chart's defaults and registries on loopback allowed. Don't stop it.
pub async fn shared_operator() -> Result<&'static Operator> {
    static SHARED: OnceCell<Operator> = OnceCell::const_new();
    let start = || async { Installation::shared().await?.start_operator().await };
    SHARED.get_or_try_init(start).await
}

async fn install(client: &Client) -> Result<()> {
    let mut render = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
    render.retain(|object| !matches!(manifests::kind(object), "Deployment" | "CustomResourceDefinition"));
    render.iter_mut().filter(|object| object.name_any() == TENANT_POLICY).for_each(permit_everything);
    manifests::apply(client, definitions()?).await?;
    manifests::apply(client, render).await?;
    established::<System>(client).await?;
    established::<Tenant>(client).await?;
    is_served(client).await?;
    // What the API server does until then is no test's expectation.
    Ok(policies_are_in_force(client).await?)
}

/// The API server says what it serves some moments after the definitions are established.
async fn is_served(client: &Client) -> Result<()> {
    let get = |path: String| async {
        let request = http::Request::get(path).body(Vec::new())?;
        anyhow::Ok(client.request_text(request).await?)
    };
    let look = || async {
        let discovery = get(format!("/apis/{GROUP}/{VERSION}")).await?;
        let schemas = get(format!("/openapi/v3/apis/{GROUP}/{VERSION}")).await?;
        for (plural, kind) in [(System::PLURAL, System::KIND), (Tenant::PLURAL, Tenant::KIND)] {
            ensure!(discovery.contains(&format!("\"{plural}\"")), "{plural} are not");
            ensure!(schemas.contains(&format!("\"kind\":\"{kind}\"")), "{kind} is not described");
        }
        Ok(())
    };
    Ok(eventually("the kinds are served", look).await?)
}

/// Most registries of these tests have no certificate, or a bad one, in both scopes, and AWS's tokens go to loopback. What a
/// tenant may not have by default is the subject of tests/tenancy and of `secret_destinations`.
fn permit_everything(tenant_policy: &mut DynamicObject) {
    tenant_policy.data["data"] =
        json!({"insecureSkipVerify": "true", "plainHTTP": "true", "allowedEndpoints": "*\n127.0.0.1"});
}

/// From the types, not from `crds/`: that the two are the same is a test of its own.
fn definitions() -> Result<Vec<DynamicObject>> {
    let files = crd::files()?;
    let parsed = files.iter().map(|(name, yaml)| Ok(manifests::parse(name, yaml)?));
    Ok(parsed.collect::<Result<Vec<_>>>()?.concat())
}

async fn established<S: Scope>(client: &Client) -> Result<()> {
    let name = format!("{}.{GROUP}", S::PLURAL);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let established = await_condition(definitions, &name, conditions::is_crd_established());
    let waited = tokio::time::timeout(ESTABLISHED, established).await;
    waited.with_context(|| format!("{name} is not established after {ESTABLISHED:?}"))??;
    Ok(())
}

/// One test's way to a cluster: a client of the test's own runtime, and names that no other test uses.
pub struct Cluster {
    client: Client,
    number: usize,
}

impl Cluster {
    /// A cluster administrator's client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A name that no other test uses.
    pub fn unique(&self, name: &str) -> String {
        format!("{name}-{}", self.number)
    }

    /// A namespace of a tenant; both get unique names, the same in every call with the same words.
    pub async fn tenant_namespace(&self, tenant: &str, namespace: &str) -> Result<String> {
        let name = self.unique(namespace);
        self.write_namespace(&name, json!({TENANT_LABEL: self.unique(tenant)})).await?;
        Ok(name)
    }

    /// A namespace without a tenant.
    pub async fn plain_namespace(&self, namespace: &str) -> Result<String> {
        let name = self.unique(namespace);
        self.write_namespace(&name, json!({})).await?;
        Ok(name)
    }

    async fn write_namespace(&self, name: &str, labels: Value) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let params = PatchParams::apply(FIELD_MANAGER).force();
        namespaces.patch(name, &params, &Patch::Apply(&namespace)).await?;
        Ok(())
    }

    /// Applies every document of a YAML text, as `kubectl apply --server-side` does.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<()> {
        Ok(manifests::apply(&self.client, manifests::parse("the test's manifest", yaml)?).await?)
    }

    /// Changes what tenants may ask for; keys that are null go.
    pub async fn change_tenant_policy(&self, data: Value) -> Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.client(), SYSTEM_NAMESPACE);
        api.patch(TENANT_POLICY, &PatchParams::default(), &Patch::Merge(json!({"data": data}))).await?;
        Ok(())
    }

    /// The SystemRegistry of that name.
    pub fn system(&self, name: &str) -> RegistryHandle<System> {
        RegistryHandle { api: Api::all(self.client()), name: name.to_owned() }
    }

    /// The TenantRegistry of that name.
    pub fn tenant(&self, namespace: &str, name: &str) -> RegistryHandle<Tenant> {
        RegistryHandle { api: Api::namespaced(self.client(), namespace), name: name.to_owned() }
    }
}

/// A registry object that a test looks at.
pub struct RegistryHandle<S: Scope> {
    api: Api<Registry<S>>,
    name: String,
}

impl<S: Scope> RegistryHandle<S> {
    /// Its API, for what is not offered here.
    pub fn api(&self) -> &Api<Registry<S>> {
        &self.api
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object as it is now.
    pub async fn get(&self) -> Result<Registry<S>> {
        Ok(self.api.get(&self.name).await?)
    }

    /// What the operator says of it now.
    pub async fn status(&self) -> Result<RegistryStatus> {
        Ok(self.get().await?.status.unwrap_or_default())
    }

    /// Changes it by a merge patch, as a user would.
    pub async fn change(&self, patch: Value) -> Result<Registry<S>> {
        Ok(self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// Waits until all of these hold at the object's present generation, each written `Ready=False/Rejected`; a type alone,
    /// written `!Stalled`, must be absent.
    pub async fn becomes(&self, expected: &[&str]) -> Result<Registry<S>> {
        let what = format!("{} {} is {}", S::KIND, self.name, expected.join(", "));
        Ok(eventually(what, || async { is(self.get().await?, expected) }).await?)
    }

    /// Waits until all of these hold, and checks that the operator wrote them within `promise` since that moment.
    pub async fn becomes_within(
        &self,
        promise: Duration,
        since: &Moment,
        expected: &[&str],
    ) -> Result<Registry<S>> {
        let registry = self.becomes(expected).await?;
        let what = format!("{} {} is {}", S::KIND, self.name, expected.join(", "));
        let is_verdict =
            |event: &AuditEvent| self.is_write(event, "/status") && shows(&event.content, expected);
        since.keeps(promise, &what, is_verdict).await?;
        Ok(registry)
    }

    /// Waits until it is gone, and checks that the operator took off its finalizer within `promise` since that moment. Until then,
    /// the operator must not have had another reason to write to it.
    pub async fn is_gone_within(&self, promise: Duration, since: &Moment) -> Result<()> {
        self.is_gone().await?;
        let what = format!("{} {} is gone", S::KIND, self.name);
        since.keeps(promise, &what, |event| self.is_write(event, "")).await.map(drop)
    }

    /// Whether the request is a write of this object, or of a subresource such as `/status`.
    fn is_write(&self, event: &AuditEvent, subresource: &str) -> bool {
        let path = format!("{}/{}{subresource}", self.api.resource_url(), self.name);
        event.is_write() && event.request_uri.split('?').next() == Some(&*path)
    }

    /// Waits until it is gone.
    pub async fn is_gone(&self) -> Result<()> {
        let what = format!("{} {} is gone", S::KIND, self.name);
        let look = || async {
            match self.api.get_opt(&self.name).await? {
                Some(found) => bail!("still there, with finalizers {:?}", found.meta().finalizers),
                None => Ok(()),
            }
        };
        Ok(eventually(what, look).await?)
    }
}

fn is<S: Scope>(registry: Registry<S>, expected: &[&str]) -> Result<Registry<S>> {
    let conditions = registry.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let seen: Vec<String> = conditions.iter().map(|condition| written(condition, &registry)).collect();
    let holds = |expected: &&str| match expected.strip_prefix('!') {
        Some(kind) => !conditions.iter().any(|condition| condition.type_ == kind),
        None => seen.iter().any(|seen| seen == expected),
    };
    if expected.iter().all(holds) { Ok(registry) } else { bail!("[{}]", seen.join(", ")) }
}

/// The condition as `Ready=True/Available`; one of an older generation is marked, so that it never matches.
fn written<S: Scope>(condition: &Condition, registry: &Registry<S>) -> String {
    let stale = if condition.observed_generation == registry.metadata.generation {
        ""
    } else {
        " of an older generation"
    };
    format!("{}={}/{}{stale}", condition.type_, condition.status, condition.reason)
}
