//! What these tests stand on: a control plane with all that the chart installs, the program, and a browser that keeps a cookie. Owns
//! no expectation of any behaviour.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
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
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
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
/// The name of a form's draft, as the console makes them: 43 characters.
pub const DRAFT: &str = "a-draft-of-the-tests_0123456789-0123456789_";
/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How long a console goes on when it is told to end. Below the 5 seconds that it waits for a Confirm.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Logs each request with its content, except for that of Secrets, which hold passwords by right.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse}
";
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
        Self::of(SHARED.get_or_try_init(|| start(ControlPlaneOptions::default())).await?).await
    }

    /// A client of that control plane.
    pub async fn of(control_plane: &'static ControlPlane) -> Result<Self> {
        Ok(Self { client: control_plane.client().await?, control_plane })
    }

    /// One of its own, without registries, that ends with the tests.
    pub async fn own() -> Result<Self> {
        let control_plane: &'static ControlPlane =
            Box::leak(Box::new(start(ControlPlaneOptions::default()).await?));
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
        eventually("the policy is in force", look).await?;
        Ok(())
    }

    /// The SystemRegistries.
    pub fn system(&self) -> Api<SystemRegistry> {
        Api::all(self.client.clone())
    }

    /// The administrator's kubeconfig.
    pub fn administrators_kubeconfig(&self) -> PathBuf {
        self.control_plane.admin_kubeconfig()
    }

    /// A token of a service account in the operator's namespace.
    pub async fn account_token(&self, name: &str) -> Result<String> {
        Ok(self.control_plane.service_account_token(SYSTEM_NAMESPACE, name).await?)
    }

    /// A kubeconfig with a token.
    pub fn token_kubeconfig(&self, token: &str) -> Result<PathBuf> {
        let (url, ca) = (self.control_plane.url(), self.control_plane.ca().certificate_pem());
        Ok(self.control_plane.kubeconfig_with_token(&url, ca, token)?)
    }

    /// A kubeconfig of such an account.
    pub async fn account_kubeconfig(&self, name: &str) -> Result<PathBuf> {
        Ok(self.control_plane.kubeconfig_for_service_account(SYSTEM_NAMESPACE, name).await?)
    }

    /// The console of the cluster's administrator, signed in.
    pub async fn administrator(&self) -> Result<Browser> {
        Browser::signed_in(&self.control_plane.admin_kubeconfig(), &[]).await
    }

    /// The servers.
    pub fn control_plane(&self) -> &'static ControlPlane {
        self.control_plane
    }

    /// The console of another user, signed in.
    pub async fn user(&self, name: &str) -> Result<Browser> {
        Browser::signed_in(&self.control_plane.kubeconfig_for_user(name, &[])?, &[]).await
    }

    /// The console of a user, or of the administrator, to which nobody is signed in; it has these variables besides.
    pub async fn console(&self, user: Option<&str>, env: &[(&str, String)]) -> Result<Browser> {
        let kubeconfig = match user {
            Some(user) => self.control_plane.kubeconfig_for_user(user, &[])?,
            None => self.control_plane.admin_kubeconfig(),
        };
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Browser::at(&kubeconfig, &env).await
    }

    /// The console of the administrator, to which nobody is signed in.
    pub async fn stranger(&self) -> Result<Browser> {
        Browser::at(&self.control_plane.admin_kubeconfig(), &[]).await
    }
}

/// Starts one that keeps an audit log with the content of requests and answers.
pub async fn start_audited() -> Result<ControlPlane> {
    let policy = tempfile::NamedTempFile::new()?;
    std::fs::write(&policy, AUDIT_POLICY)?;
    let api_server_flags = vec![format!("--audit-policy-file={}", policy.path().display())];
    start(ControlPlaneOptions { audit: true, api_server_flags, ..ControlPlaneOptions::default() }).await
}

/// Starts one with all that the chart installs.
pub async fn start(options: ControlPlaneOptions) -> Result<ControlPlane> {
    let control_plane = ControlPlane::start(options).await?;
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
    eventually("the registries are served", served).await?;
    Ok(control_plane)
}

/// A browser at a console of its own. It ends with it.
pub struct Browser {
    /// The URL that was printed.
    pub url: String,
    /// Scheme, host and port.
    pub origin: String,
    cookie: String,
    output: Arc<Mutex<String>>,
    console: Child,
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
    /// Of an answer.
    pub fn of(response: Response<bytes::Bytes>) -> Result<Self> {
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
    /// Starts a console with that environment.
    pub async fn at(kubeconfig: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(environment.iter().copied());
        Self::of(command, kubeconfig).await
    }

    /// Starts a console of another build.
    pub async fn of(mut command: Command, kubeconfig: &Path) -> Result<Self> {
        command.args(["--no-browser", "--kubeconfig"]).arg(kubeconfig);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut console = command.kill_on_drop(true).spawn().context("starting the console")?;
        let stdout = console.stdout.take().context("no standard output")?;
        let stderr = console.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(stdout).lines();
        let line =
            tokio::time::timeout(PATIENCE, lines.next_line()).await.context("nothing was printed")??;
        let url = line.context("the console ended")?;
        let Some((origin, _)) = url.split_once("/?") else { bail!("{url}") };
        let origin = origin.to_owned();
        let output = Arc::new(Mutex::new(format!("{url}\n")));
        tokio::spawn(keep(lines, output.clone()));
        tokio::spawn(keep(BufReader::new(stderr).lines(), output.clone()));
        Ok(Self { url, origin, cookie: String::new(), output, console })
    }

    /// Starts a console with that environment, and signs in.
    pub async fn signed_in(kubeconfig: &Path, environment: &[(&str, &str)]) -> Result<Self> {
        let mut browser = Self::at(kubeconfig, environment).await?;
        browser.sign_in().await?;
        Ok(browser)
    }

    /// Signs in with the code.
    pub async fn sign_in(&mut self) -> Result<()> {
        let page = self.visit(&self.url.clone()).await?;
        self.keep_cookie(&page);
        Ok(())
    }

    /// What the console has printed.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the console a signal, and returns how it ends, which it has to do at once.
    pub async fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let process = self.process().and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(process.context("it has ended before")?, signal)?;
        let ended = tokio::time::timeout(AT_ONCE, self.console.wait()).await;
        Ok(ended.with_context(|| format!("it goes on after {signal:?}"))??)
    }

    /// The console's process.
    pub fn process(&self) -> Option<u32> {
        self.console.id()
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

    /// A request with the cookie.
    pub fn request(&self, method: Method, path: &str) -> Call<'static> {
        self.call(method, format!("{}{path}", self.origin))
    }

    async fn visit(&self, url: &str) -> Result<Page> {
        Page::of(self.call(Method::GET, url.to_owned()).send().await?)
    }

    /// Opens a page.
    pub async fn get(&self, path: &str) -> Result<Page> {
        self.visit(&format!("{}{path}", self.origin)).await
    }

    /// Opens a page under another host's name, as after DNS rebinding.
    pub async fn as_host(&self, host: &str, path: &str) -> Result<Page> {
        let address = self.origin.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).await?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let cookie = &self.cookie;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(Page { status, headers: http::HeaderMap::new(), text: answer })
    }

    /// Opens a page, and says more.
    pub async fn send(&self, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Result<Page> {
        self.send_with(method, path, headers, "").await
    }

    /// Sends a request with exactly these headers, the cookie, and that body.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: &str,
    ) -> Result<Page> {
        let call = self.call(method, format!("{}{path}", self.origin)).body(body.to_owned());
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
        let (media_type, body) = form_of(fields);
        let host = self.origin.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {}\r\nCookie: {}\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.origin,
            self.cookie,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        Ok(stream)
    }

    /// Sends the form of a registry.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let (media_type, body) = form_of(fields);
        let headers = [(header::ORIGIN, self.origin.as_str()), (header::CONTENT_TYPE, &media_type)];
        self.send_with(Method::POST, path, &headers, &body).await
    }
}

/// The media type and the body of a form with those fields.
pub fn form_of(fields: &[(&str, &str)]) -> (String, String) {
    let part = |(name, value): &(&str, &str)| {
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts: String = fields.iter().map(part).collect();
    (format!("multipart/form-data; boundary={BOUNDARY}"), format!("{parts}--{BOUNDARY}--\r\n"))
}

async fn keep(mut lines: Lines<BufReader<impl AsyncRead + Unpin>>, output: Arc<Mutex<String>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(&line);
        output.push('\n');
    }
}

/// Another program of this build, next to the console.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = Path::new(PROGRAM).with_file_name(name);
    ensure!(path.is_file(), "there is no {}: cargo build --package {name} makes it", path.display());
    Ok(path)
}

/// Those fields with other values.
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
        Self::with(USER, PASSWORD, "private authority").await
    }

    /// Starts one with another login, and with a CA of that name.
    pub async fn with(user: &str, password: &str, authority: &str) -> Result<Self> {
        let ca = TestCa::new(authority)?;
        let leaf: Leaf = ca.issue(&LeafOptions::server("registry"))?;
        let ca_pem = ca.certificate_pem().to_owned();
        let tls = RegistryTls::Server { leaf, ca_pem, client_ca_pem: None };
        let auth = RegistryAuth::htpasswd(user, password);
        Ok(Self { registry: TestRegistry::start(RegistryOptions { auth, tls }).await?, ca })
    }
}
