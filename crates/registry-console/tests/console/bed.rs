//! What these tests stand on: a control plane with all that the chart installs, the program, and a browser that keeps a cookie. Owns
//! no expectation of any behaviour.

use std::{
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use http::{HeaderName, Method, Response, header};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use registry_api::{GROUP, RegistrySpec, SystemRegistry, TenantRegistry, crd};
use registry_testbed::{
    ControlPlane, ControlPlaneOptions, Leaf, LeafOptions, RegistryAuth, RegistryOptions, RegistryTls, TestCa,
    TestRegistry, eventually,
    http_client::Call,
    manifests::{self, Placeholders},
    tools,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::OnceCell,
};

/// The program, by the name by which kubectl finds it.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-registry-console");
/// Where a SystemRegistry's Secrets are.
pub const SYSTEM_NAMESPACE: &str = "registry-system";
/// The user of every protected registry.
pub const USER: &str = "demo";
/// Its password, which no page may ever hold.
pub const PASSWORD: &str = "never-to-be-seen-4f9a61c0";
const PATIENCE: Duration = Duration::from_mins(1);
const BOUNDARY: &str = "----boundary-of-these-tests";

/// A control plane with all that the chart installs; nobody validates on it.
pub struct Cluster {
    control_plane: &'static ControlPlane,
    /// Its administrator's client.
    pub client: Client,
}

impl Cluster {
    /// The one that all tests share. A client belongs to the test that it is made in.
    pub async fn shared() -> Result<Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let control_plane = SHARED.get_or_try_init(start).await?;
        Ok(Self { client: control_plane.client().await?, control_plane })
    }

    /// One of its own, without registries, that ends with the tests.
    pub async fn own() -> Result<Self> {
        let control_plane: &'static ControlPlane = Box::leak(Box::new(start().await?));
        Ok(Self { client: control_plane.client().await?, control_plane })
    }

    /// A name that no other test uses.
    pub fn unique(name: &str) -> String {
        static NAMES: AtomicUsize = AtomicUsize::new(1);
        format!("{name}-{}", NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// Applies every document of a YAML text.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        Ok(manifests::apply(&self.client, manifests::parse("the test's manifest", yaml)?).await?)
    }

    /// Makes a namespace of that tenant, and a user who administers the registries in it and nothing else.
    pub async fn tenant_member(&self, tenant: &str, namespace: &str, member: &str) -> Result<()> {
        self.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{registry.spectrocloud.com/tenant: {tenant}}}}}\n\
             ---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: m, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-tenant-admin}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {member}}}]\n"
        ))
        .await
    }

    /// Refuses those writes of the SystemRegistry of that name, but not their dry runs.
    pub async fn refuse_writes_of(&self, name: &str, operation: &str) -> Result<()> {
        self.apply(&format!(
            "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: {name}}}\nspec:\n  \
             matchConstraints:\n    resourceRules: [{{apiGroups: [registry.spectrocloud.com], apiVersions: ['*'], operations: [CREATE, \
             UPDATE], resources: [systemregistries]}}]\n  \
             validations:\n    - {{expression: \"object.metadata.name != '{name}' || request.operation != '{operation}' || \
             (has(request.dryRun) && request.dryRun)\", \
             message: refused when it is too late}}\n    - {{expression: \"object.metadata.name != '{name}-canary'\", message: in force}}\n---\n\
             apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: {name}}}\n\
             spec: {{policyName: {name}, validationActions: [Deny]}}\n"
        ))
        .await?;
        let canary = SystemRegistry::new(
            &format!("{name}-canary"),
            RegistrySpec { endpoint: "https://127.0.0.1:1".to_owned(), ..RegistrySpec::default() },
        );
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let look = || async {
            match self.system().create(&dry_run, &canary).await {
                Err(kube::Error::Api(status)) if status.message.contains("in force") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        eventually(PATIENCE, "the policy is in force", look).await?;
        Ok(())
    }

    /// The SystemRegistries.
    pub fn system(&self) -> Api<SystemRegistry> {
        Api::all(self.client.clone())
    }

    /// The console of the cluster's administrator, signed in.
    pub async fn administrator(&self) -> Result<Browser> {
        Browser::signed_in(&self.control_plane.admin_kubeconfig()).await
    }

    /// The console of another user, signed in.
    pub async fn user(&self, name: &str) -> Result<Browser> {
        Browser::signed_in(&self.control_plane.kubeconfig_for_user(name, &[])?).await
    }

    /// The console of a user, or of the administrator, to which nobody is signed in; it has these variables besides.
    pub async fn console(&self, user: Option<&str>, env: &[(&str, String)]) -> Result<Browser> {
        let kubeconfig = match user {
            Some(user) => self.control_plane.kubeconfig_for_user(user, &[])?,
            None => self.control_plane.admin_kubeconfig(),
        };
        Browser::with(&kubeconfig, env).await
    }

    /// The console of the administrator, to which nobody is signed in.
    pub async fn stranger(&self) -> Result<Browser> {
        Browser::at(&self.control_plane.admin_kubeconfig()).await
    }
}

async fn start() -> Result<ControlPlane> {
    let control_plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let client = control_plane.client().await?;
    for (name, yaml) in &crd::files()? {
        manifests::apply(&client, manifests::parse(name, yaml)?).await?;
    }
    for plural in ["systemregistries", "tenantregistries"] {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = format!("{plural}.{GROUP}");
        let served = await_condition(definitions, &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, served).await.with_context(|| format!("{name} is not served"))??;
    }
    let install = tools::repository().join("config/install.yaml");
    let mut install = manifests::read_file(&install, &Placeholders::default())?;
    install.retain(|object| !matches!(manifests::kind(object), "Deployment" | "CustomResourceDefinition"));
    manifests::apply(&client, install).await?;
    registry_testbed::policies_are_in_force(&client).await?;
    // Until the API server has its storage ready, it refuses to list them (429).
    let served = || async {
        Api::<SystemRegistry>::all(client.clone()).list(&ListParams::default()).await?;
        Api::<TenantRegistry>::all(client.clone()).list(&ListParams::default()).await.map(drop)
    };
    eventually(PATIENCE, "the registries are served", served).await?;
    Ok(control_plane)
}

/// A browser at a console of its own. It ends with it.
pub struct Browser {
    /// The URL that was printed.
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
    cookie: String,
    _console: Child,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its status code.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its text, with what is escaped as it is read.
    pub text: String,
}

impl Page {
    fn of(response: Response<bytes::Bytes>) -> Result<Self> {
        let (head, body) = response.into_parts();
        let text = String::from_utf8(body.to_vec())?
            .replace("&#34;", "\"")
            .replace("&#39;", "'")
            .replace("&#38;", "&");
        Ok(Self { status: head.status.as_u16(), headers: head.headers, text })
    }

    /// Whether the page has these words.
    pub fn has(&self, words: &str) -> bool {
        self.text.contains(words)
    }

    /// Where it leads on.
    pub fn location(&self) -> &str {
        self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of the field of that name.
    pub fn value(&self, name: &str) -> &str {
        let field = format!("name=\"{name}\" value=\"");
        self.text.split_once(&field).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
    }
}

impl Browser {
    /// Starts a console.
    pub async fn at(kubeconfig: &Path) -> Result<Self> {
        Self::with(kubeconfig, &[]).await
    }

    async fn with(kubeconfig: &Path, env: &[(&str, String)]) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.args(["--no-browser", "--kubeconfig"]).arg(kubeconfig).env_clear();
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let mut console =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting the console")?;
        let output = console.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line =
            tokio::time::timeout(PATIENCE, lines.next_line()).await.context("nothing was printed")??;
        let url = line.context("the console ended")?;
        let Some((origin, _)) = url.split_once("/?") else { bail!("{url}") };
        Ok(Self { origin: origin.to_owned(), cookie: String::new(), _console: console, url: url.clone() })
    }

    async fn signed_in(kubeconfig: &Path) -> Result<Self> {
        let mut browser = Self::at(kubeconfig).await?;
        let page = browser.visit(&browser.url.clone()).await?;
        browser.keep_cookie(&page);
        Ok(browser)
    }

    /// Keeps the cookie that a page sets.
    pub fn keep_cookie(&mut self, page: &Page) {
        let set = page.headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let pair = set.and_then(|set| set.split(';').next()).unwrap_or_default();
        pair.clone_into(&mut self.cookie);
    }

    fn call(&self, method: Method, url: String) -> Call<'static> {
        let call = Call::new(method, url);
        if self.cookie.is_empty() { call } else { call.header(header::COOKIE, &self.cookie) }
    }

    async fn visit(&self, url: &str) -> Result<Page> {
        Page::of(self.call(Method::GET, url.to_owned()).send().await?)
    }

    /// Opens a page.
    pub async fn get(&self, path: &str) -> Result<Page> {
        self.visit(&format!("{}{path}", self.origin)).await
    }

    /// Opens a page under another host's name, as after DNS rebinding.
    pub async fn as_host(&self, host: &str) -> Result<Page> {
        let address = self.origin.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).await?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let cookie = &self.cookie;
        let request = format!(
            "GET /system HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(Page { status, headers: http::HeaderMap::new(), text: answer })
    }

    /// Opens a page, and says more.
    pub async fn send(&self, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Result<Page> {
        let call = self.call(method, format!("{}{path}", self.origin));
        let call = headers.iter().fold(call, |call, (name, value)| call.header(name.clone(), *value));
        Page::of(call.send().await?)
    }

    /// Sends a small form.
    pub async fn post(&self, path: &str, body: &str) -> Result<Page> {
        let call =
            self.call(Method::POST, format!("{}{path}", self.origin)).header(header::ORIGIN, &self.origin);
        let call = call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        Page::of(call.body(body.to_owned()).send().await?)
    }

    /// Sends the form of a registry, and returns the connection that the answer comes on.
    pub async fn begin(&self, path: &str, fields: &[(&str, &str)]) -> Result<TcpStream> {
        let body = multipart(fields);
        let host = self.origin.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\nCookie: {}\r\nConnection: close\r\n\
             Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
            self.origin,
            self.cookie,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(stream)
    }

    /// Sends the form of a registry.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let call =
            self.call(Method::POST, format!("{}{path}", self.origin)).header(header::ORIGIN, &self.origin);
        let call = call.header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"));
        Page::of(call.body(multipart(fields)).send().await?)
    }
}

fn multipart(fields: &[(&str, &str)]) -> String {
    let part = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts: String = fields.iter().map(part).collect();
    format!("{parts}--{BOUNDARY}--\r\n")
}

/// That with other values.
pub fn with<'a>(fields: &[(&'a str, &'a str)], others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = fields.to_vec();
    for other in others {
        fields.retain(|(name, _)| *name != other.0);
        fields.push(*other);
    }
    fields
}

/// A registry over TLS with a password.
pub struct Protected {
    /// The registry.
    pub registry: TestRegistry,
    /// Who issued its certificate.
    pub ca: TestCa,
}

impl Protected {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let ca = TestCa::new("private authority")?;
        let leaf: Leaf = ca.issue(&LeafOptions::server("registry"))?;
        let ca_pem = ca.certificate_pem().to_owned();
        let tls = RegistryTls::Server { leaf, ca_pem, client_ca_pem: None };
        let auth = RegistryAuth::htpasswd(USER, PASSWORD);
        Ok(Self { registry: TestRegistry::start(RegistryOptions { auth, tls }).await?, ca })
    }
}
