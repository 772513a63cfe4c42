//! Common parts of the tests of verdicts: registries that a test starts itself, objects of either scope that
//! refer to them, and the notation of a verdict. Has no assertions of its own.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    serde::de::DeserializeOwned,
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use registry_api::{
    GROUP, REQUESTED_AT, RegistryStatus, TENANT_LABEL,
    spec::{Registry as Object, Scope, System, Tenant, VERSION},
};
use registry_testbed::{
    LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa, TestRegistry, eventually,
    manifests::FIELD_MANAGER,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

use crate::{
    harness::{Cluster, RegistryHandle, SYSTEM_NAMESPACE},
    moment::Moment,
};

/// What a user corrects shows within this time (docs/architecture.md#promises).
pub const PROMISED: Duration = Duration::from_secs(2);

/// One of the two scopes, for one test.
pub struct TestScope<'a> {
    cluster: &'a Cluster,
    namespace: Option<String>,
}

impl<'a> TestScope<'a> {
    /// The system scope.
    pub fn system(cluster: &'a Cluster) -> Self {
        Self { cluster, namespace: None }
    }

    /// A tenant's namespace.
    pub async fn tenant(cluster: &'a Cluster) -> Result<Self> {
        let namespace = cluster.tenant_namespace("team", "team-a").await?;
        Ok(Self { cluster, namespace: Some(namespace) })
    }

    /// A namespace, whatever it is.
    pub fn inside(cluster: &'a Cluster, namespace: String) -> Self {
        Self { cluster, namespace: Some(namespace) }
    }

    /// Both scopes.
    pub async fn both(cluster: &'a Cluster) -> Result<[Self; 2]> {
        Ok([Self::system(cluster), Self::tenant(cluster).await?])
    }

    /// The namespace that references are read from.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(SYSTEM_NAMESPACE)
    }

    /// A name that no other test uses, and that is the same in both scopes of this one.
    pub fn named(&self, name: &str) -> String {
        self.cluster.unique(name)
    }

    /// Writes a Secret of that type; returns its name.
    pub async fn secret(&self, name: &str, kind: &str, entries: &[(&str, &str)]) -> Result<String> {
        let data: BTreeMap<&str, String> =
            entries.iter().map(|(key, value)| (*key, BASE64_STANDARD.encode(value))).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data});
        self.write::<Secret>(name, secret).await
    }

    /// Writes a Secret of type kubernetes.io/basic-auth; returns its name.
    pub async fn login(&self, name: &str, user: &str, password: &str) -> Result<String> {
        self.secret(name, "kubernetes.io/basic-auth", &[("username", user), ("password", password)]).await
    }

    /// Sets the annotations of a Secret; those that are null go.
    pub async fn annotate(&self, secret: &str, annotations: Value) -> Result<()> {
        let api: Api<Secret> = Api::namespaced(self.cluster.client(), self.namespace());
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        api.patch(secret, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Writes a ConfigMap; returns its name.
    pub async fn config_map(&self, name: &str, entries: &[(&str, &str)]) -> Result<String> {
        let data: BTreeMap<&str, &str> = entries.iter().copied().collect();
        self.write::<ConfigMap>(name, json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data})).await
    }

    async fn write<K>(&self, name: &str, mut object: Value) -> Result<String>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned,
        K: std::fmt::Debug,
    {
        let name = self.named(name);
        object["metadata"] = json!({"name": name});
        let api: Api<K> = Api::namespaced(self.cluster.client(), self.namespace());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&object)).await?;
        Ok(name)
    }

    /// The same spec; a SystemRegistry is for an unknown tenant. The status counts tenants, so
    /// that a registry for all tenants would be written whenever another test creates a tenant.
    pub fn for_unknown_tenant(&self, mut spec: Value) -> Value {
        if self.namespace.is_none() {
            spec["availability"]["tenants"] = json!([self.cluster.unique("nobody")]);
        }
        spec
    }

    /// The registry object of that name, which need not be there.
    pub fn object(&self, name: &str) -> Declared {
        let name = self.named(name);
        match &self.namespace {
            None => Declared::System(self.cluster.system(&name)),
            Some(namespace) => Declared::Tenant(self.cluster.tenant(namespace, &name)),
        }
    }

    /// Applies a registry object with that spec.
    pub async fn declare(&self, name: &str, spec: Value) -> Result<Declared> {
        let object = self.object(name);
        object.apply(&spec).await?;
        Ok(object)
    }
}

/// Assigns a namespace to a tenant.
pub async fn label_as_tenant(cluster: &Cluster, namespace: &str) -> Result<()> {
    label(cluster, namespace, json!(cluster.unique("team"))).await
}

/// Removes a namespace from its tenant.
pub async fn unlabel(cluster: &Cluster, namespace: &str) -> Result<()> {
    label(cluster, namespace, Value::Null).await
}

/// Sets the tenant label of a namespace, or takes it off.
pub async fn label(cluster: &Cluster, namespace: &str, tenant: Value) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({"metadata": {"labels": {TENANT_LABEL: tenant}}}));
    namespaces.patch(namespace, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A registry object of either scope.
pub enum Declared {
    /// A SystemRegistry.
    System(RegistryHandle<System>),
    /// A TenantRegistry.
    Tenant(RegistryHandle<Tenant>),
}

/// A registry object as it was at one moment, whatever its scope.
#[derive(Clone, Debug)]
pub struct View {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The status.
    pub status: RegistryStatus,
}

impl<S: Scope> From<Object<S>> for View {
    fn from(object: Object<S>) -> Self {
        Self { metadata: object.metadata, status: object.status.unwrap_or_default() }
    }
}

impl View {
    /// The condition of that type, which must be there.
    #[expect(clippy::panic, reason = "a test that asks for what is not there has failed")]
    pub fn condition(&self, kind: &str) -> &Condition {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == kind);
        found.unwrap_or_else(|| panic!("no condition {kind} in {:?}", self.status))
    }

    /// The message of the condition of that type.
    pub fn message(&self, kind: &str) -> &str {
        &self.condition(kind).message
    }

    /// The generation of the spec.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// The version of the object.
    pub fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

impl Declared {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::System(subject) => subject.name(),
            Self::Tenant(subject) => subject.name(),
        }
    }

    /// Its resource and name, as kubectl takes them.
    pub fn for_kubectl(&self) -> String {
        match self {
            Self::System(subject) => format!("{}/{}", System::PLURAL, subject.name()),
            Self::Tenant(subject) => format!("{}/{}", Tenant::PLURAL, subject.name()),
        }
    }

    /// As a manifest with that spec, without its namespace.
    pub fn manifest(&self, spec: &Value) -> Value {
        let kind = match self {
            Self::System(_) => System::KIND,
            Self::Tenant(_) => Tenant::KIND,
        };
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": self.name()}, "spec": spec,
        })
    }

    /// The object as it is now.
    pub async fn view(&self) -> Result<View> {
        Ok(match self {
            Self::System(subject) => subject.get().await?.into(),
            Self::Tenant(subject) => subject.get().await?.into(),
        })
    }

    /// Sends a patch.
    pub async fn patch(&self, params: &PatchParams, patch: &Patch<Value>) -> Result<View> {
        Ok(match self {
            Self::System(subject) => subject.api().patch(self.name(), params, patch).await?.into(),
            Self::Tenant(subject) => subject.api().patch(self.name(), params, patch).await?.into(),
        })
    }

    /// Applies it with that spec, as `kubectl apply --server-side` does.
    pub async fn apply(&self, spec: &Value) -> Result<View> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.patch(&params, &Patch::Apply(self.manifest(spec))).await
    }

    /// Changes it by a merge patch.
    pub async fn change(&self, patch: Value) -> Result<View> {
        self.patch(&PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Asks for a validation now.
    pub async fn request(&self, value: &str) -> Result<View> {
        self.change(json!({"metadata": {"annotations": {REQUESTED_AT: value}}})).await
    }

    /// Waits until the request for a validation with that value has been acted on.
    pub async fn has_handled(&self, value: &str) -> Result<View> {
        let look = || async {
            let view = self.view().await?;
            match view.status.last_handled_reconcile_at.as_deref() {
                Some(handled) if handled == value => Ok(view),
                other => bail!("{other:?}"),
            }
        };
        Ok(eventually(format!("{} echoes requestedAt {value}", self.name()), look).await?)
    }

    /// Waits until these hold at the present generation, as [`RegistryHandle::becomes`] does.
    pub async fn becomes(&self, expected: &[&str]) -> Result<View> {
        Ok(match self {
            Self::System(subject) => subject.becomes(expected).await?.into(),
            Self::Tenant(subject) => subject.becomes(expected).await?.into(),
        })
    }

    /// Waits until these hold, and checks that the operator wrote them within `promise` since that moment.
    pub async fn becomes_within(&self, promise: Duration, since: &Moment, expected: &[&str]) -> Result<View> {
        Ok(match self {
            Self::System(subject) => subject.becomes_within(promise, since, expected).await?.into(),
            Self::Tenant(subject) => subject.becomes_within(promise, since, expected).await?.into(),
        })
    }

    /// Waits until the status says exactly this, and checks that the operator wrote it within `promise` since that moment.
    pub async fn shows_within(&self, promise: Duration, since: &Moment, verdict: &Verdict) -> Result<View> {
        let expected = verdict.lines();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let view = self.becomes_within(promise, since, &expected).await?;
        well_formed(&view)?;
        Ok(view)
    }

    /// Waits until the status says exactly this, in the form that every status has.
    pub async fn shows(&self, verdict: &Verdict) -> Result<View> {
        let expected = verdict.lines();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let view = self.becomes(&expected).await?;
        well_formed(&view)?;
        Ok(view)
    }
}

/// The content of a status: each layer, the summary, and the conditions for kstatus; each as `True/Reason`.
#[derive(Clone, Copy)]
pub struct Verdict {
    /// `ResolvedRefs`.
    pub refs: &'static str,
    /// `EndpointReachable`.
    pub endpoint: &'static str,
    /// `TLSVerified`.
    pub tls: &'static str,
    /// `CredentialsValidated`.
    pub credentials: &'static str,
    /// `ContentPathAccessible`.
    pub path: &'static str,
    /// `Ready`.
    pub ready: &'static str,
    /// Which of kstatus's two is there.
    pub marker: Marker,
}

/// Which of kstatus's two conditions is there.
#[derive(Clone, Copy)]
pub enum Marker {
    /// None: the registry is Current.
    None,
    /// `Reconciling`: the operator will try again.
    Reconciling,
    /// `Stalled`, for the reason of `Ready`: someone must act.
    Stalled,
}

/// What a layer that was not reached shows.
pub const NOT_ATTEMPTED: &str = "Unknown/NotAttempted";

/// Credentials that are proven over a verified connection, where no repository is named.
pub const VALIDATED: Verdict = Verdict {
    refs: "True/Resolved",
    endpoint: "True/Reachable",
    tls: "True/Verified",
    credentials: "True/Validated",
    path: "Unknown/Inconclusive",
    ready: "True/Available",
    marker: Marker::None,
};

impl Verdict {
    /// Stopped by a reference, for that reason.
    pub const fn unresolved(refs: &'static str) -> Self {
        let stopped = Self::unreachable(NOT_ATTEMPTED);
        Self { refs, ready: refs, ..stopped }
    }

    /// Stopped at the endpoint, for a reason that someone must act on.
    pub const fn unreachable(endpoint: &'static str) -> Self {
        Self { endpoint, ready: endpoint, ..Self::untrusted(NOT_ATTEMPTED) }
    }

    /// Stopped by the certificate.
    pub const fn untrusted(tls: &'static str) -> Self {
        Self { tls, ready: tls, ..Self::refused(NOT_ATTEMPTED) }
    }

    /// Stopped by the credentials.
    pub const fn refused(credentials: &'static str) -> Self {
        Self { credentials, path: NOT_ATTEMPTED, ready: credentials, marker: Marker::Stalled, ..VALIDATED }
    }

    /// The same, but the operator will try again.
    #[must_use]
    pub const fn retried(self) -> Self {
        Self { marker: Marker::Reconciling, ..self }
    }

    /// The same over `http://`.
    #[must_use]
    pub const fn in_the_clear(self) -> Self {
        Self { tls: "False/PlainHTTP", ..self }
    }

    fn lines(&self) -> Vec<String> {
        let reason = self.ready.split('/').next_back().unwrap_or_default();
        let markers = match self.marker {
            Marker::None => ["!Reconciling".to_owned(), "!Stalled".to_owned()],
            Marker::Reconciling => ["Reconciling=True/Progressing".to_owned(), "!Stalled".to_owned()],
            Marker::Stalled => ["!Reconciling".to_owned(), format!("Stalled=True/{reason}")],
        };
        let layers = [
            ("ResolvedRefs", self.refs),
            ("EndpointReachable", self.endpoint),
            ("TLSVerified", self.tls),
            ("CredentialsValidated", self.credentials),
            ("ContentPathAccessible", self.path),
            ("Ready", self.ready),
        ];
        layers.iter().map(|(kind, line)| format!("{kind}={line}")).chain(markers).collect()
    }
}

/// Invariants of every status.
fn well_formed(view: &View) -> Result<()> {
    let (status, generation) = (&view.status, view.metadata.generation);
    ensure!(status.observed_generation == generation, "observedGeneration: {status:?}");
    ensure!(status.last_validation_time.is_some(), "no lastValidationTime: {status:?}");
    let kinds: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let order =
        ["ResolvedRefs", "EndpointReachable", "TLSVerified", "CredentialsValidated", "ContentPathAccessible"];
    ensure!(kinds[..5] == order && kinds[5] == "Ready" && kinds.len() <= 7, "conditions: {kinds:?}");
    for condition in &status.conditions {
        ensure!(condition.observed_generation == generation, "observedGeneration: {condition:?}");
        let length = condition.message.chars().count();
        ensure!((1..=1024).contains(&length), "a message of {length} characters: {condition:?}");
        ensure!(!condition.message.chars().any(char::is_control), "control characters: {condition:?}");
    }
    Ok(())
}

/// A registry with a password over TLS, its certificate signed by `ca`.
pub async fn protected(ca: &TestCa, user: &str, password: &str) -> Result<TestRegistry> {
    with_certificate(ca, RegistryAuth::htpasswd(user, password), &LeafOptions::server("registry")).await
}

/// A registry over TLS with that certificate, signed by `ca`.
pub async fn with_certificate(ca: &TestCa, auth: RegistryAuth, leaf: &LeafOptions) -> Result<TestRegistry> {
    let tls = RegistryTls::Server {
        leaf: ca.issue(leaf)?,
        ca_pem: ca.certificate_pem().to_owned(),
        client_ca_pem: None,
    };
    Ok(TestRegistry::start(RegistryOptions { auth, tls }).await?)
}

/// An anonymous registry over plain HTTP.
pub async fn anonymous() -> Result<TestRegistry> {
    Ok(TestRegistry::start(RegistryOptions::default()).await?)
}

/// A spec with a password Secret and an inline authority.
pub fn spec(registry: &TestRegistry, ca: &TestCa, secret: &str) -> Value {
    json!({
        "endpoint": registry.url(),
        "auth": {"basic": {"secretRef": {"name": secret}}},
        "tls": {"ca": {"inline": ca.certificate_pem()}},
    })
}

/// Prints a line that `--nocapture` shows.
#[expect(clippy::print_stdout, reason = "what was measured is to be seen")]
pub fn tell(what: &str) {
    println!("{what}");
}

/// What a server that the test plays answers.
pub type Answer = Response<Full<Bytes>>;

/// An answer with that status, headers and body; a mistake in them is a fault of the server.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let begun = Response::builder().status(status);
    let answer = headers.iter().fold(begun, |answer, (name, value)| answer.header(*name, *value));
    answer.body(Full::new(body.into())).unwrap_or_else(|error| {
        let mut fault = Response::new(Full::new(error.to_string().into()));
        *fault.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        fault
    })
}

/// What a registry answers `/v2/` with when it lets in.
pub fn welcome() -> Answer {
    answer(200, &[("Docker-Distribution-Api-Version", "registry/2.0")], "{}")
}

/// What a registry answers when it wants a password.
pub fn asks_for_password() -> Answer {
    let headers =
        [("Docker-Distribution-Api-Version", "registry/2.0"), ("WWW-Authenticate", "Basic realm=\"played\"")];
    answer(401, &headers, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
}

/// Whether a request comes with that user and password.
pub fn signed_in(request: &ReceivedRequest, user: &str, password: &str) -> bool {
    let expected = BASE64_STANDARD.encode(format!("{user}:{password}"));
    request.authorization() == Some(&format!("Basic {expected}"))
}

/// A request that a played server got.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// Which of the server's connections it came over.
    pub connection: usize,
}

impl ReceivedRequest {
    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.header(header::AUTHORIZATION)
    }

    /// A header, if it is there and is text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server on loopback that the test itself plays, over plain HTTP. Ends with its drop.
pub struct ScriptedServer {
    address: String,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    task: AbortHandle,
}

impl ScriptedServer {
    /// Answers every request by `play`, after the pause that it says.
    pub async fn start(
        play: impl Fn(&ReceivedRequest) -> (Duration, Answer) + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let asked = Arc::<Mutex<Vec<ReceivedRequest>>>::default();
        let task = tokio::spawn(accept(listener, asked.clone(), Arc::new(play))).abort_handle();
        Ok(Self { address, asked, task })
    }

    /// Answers every request by `play`, at once.
    pub async fn promptly(play: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Result<Self> {
        Self::start(move |asked| (Duration::ZERO, play(asked))).await
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:<port>`.
    pub fn host_port(&self) -> &str {
        &self.address
    }

    /// The requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<P>(listener: TcpListener, asked: Arc<Mutex<Vec<ReceivedRequest>>>, play: Arc<P>)
where
    P: Fn(&ReceivedRequest) -> (Duration, Answer) + Send + Sync + 'static,
{
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (asked, play) = (asked.clone(), play.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let request = ReceivedRequest {
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                headers: request.headers().clone(),
                connection,
            };
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            let (pause, answer) = play(&request);
            async move {
                tokio::time::sleep(pause).await;
                Ok::<_, Infallible>(answer)
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

/// The number of times that the registry looked at a password.
pub fn attempts(registry: &TestRegistry) -> usize {
    registry.authentications().len()
}
