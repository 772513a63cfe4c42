//! The console in the cluster, for tests: the program over TLS, with an account of its own, and visitors with tokens. Owns no
//! expectation of any behaviour.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::{HeaderName, Method, header};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, api::DeleteParams};
use registry_testbed::{LeafOptions, TestCa, http_client::Call, ports::Port};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::bed::{Cluster, Page, SYSTEM_NAMESPACE};

/// The program, by the name that the image has.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_registry-console");
/// What the cookie of a session begins with.
pub const COOKIE: &str = "__Host-registry-console=";
const PATIENCE: Duration = Duration::from_mins(1);
const BOUNDARY: &str = "----boundary-of-these-tests";

/// What the chart gives the console's account, and nothing else.
const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: console-account}
rules: [{apiGroups: [networking.k8s.io], resources: [servicecidrs], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: console-account}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: console-account}
subjects: [{kind: ServiceAccount, name: console-account, namespace: registry-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: console-account, namespace: default}
rules: [{apiGroups: [discovery.k8s.io], resources: [endpointslices], resourceNames: [kubernetes], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: console-account, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: console-account}
subjects: [{kind: ServiceAccount, name: console-account, namespace: registry-system}]
";

/// A console in the cluster. It ends with it.
pub struct ClusterConsole {
    /// Scheme, host and port.
    pub origin: String,
    /// Where its certificate and key are.
    pub files: tempfile::TempDir,
    /// Who issues its certificates.
    pub ca: TestCa,
    /// The port of its metrics.
    pub metrics: Port,
    _port: Port,
    program: Child,
}

impl ClusterConsole {
    /// Starts one whose account has its rights.
    pub async fn start(cluster: &Cluster, more: &[&str]) -> Result<Self> {
        Self::allow_account(cluster).await?;
        Self::with_account(cluster, "console-account", more).await
    }

    /// Starts one whose account has no rights.
    pub async fn without_rights(cluster: &Cluster, more: &[&str]) -> Result<Self> {
        cluster.apply(&account("console-powerless")).await?;
        Self::with_account(cluster, "console-powerless", more).await
    }

    async fn allow_account(cluster: &Cluster) -> Result<()> {
        cluster.apply(&account("console-account")).await?;
        cluster.apply(RIGHTS).await
    }

    /// The program's process.
    pub fn process(&self) -> Option<u32> {
        self.program.id()
    }

    /// Starts one of another build.
    pub async fn of_program(program: &Path, cluster: &Cluster) -> Result<Self> {
        Self::allow_account(cluster).await?;
        Self::with(program, cluster, "console-account", &[]).await
    }

    async fn with_account(cluster: &Cluster, account: &str, more: &[&str]) -> Result<Self> {
        Self::with(Path::new(PROGRAM), cluster, account, more).await
    }

    /// Starts one that reaches the API server by another URL.
    pub async fn by_way_of(cluster: &Cluster, url: &str) -> Result<Self> {
        Self::allow_account(cluster).await?;
        let (ca, token) = (cluster.control_plane().ca(), cluster.account_token("console-account").await?);
        let kubeconfig = cluster.control_plane().kubeconfig_with_token(url, ca.certificate_pem(), &token)?;
        Self::of_kubeconfig(Path::new(PROGRAM), &kubeconfig, &[]).await
    }

    async fn with(program: &Path, cluster: &Cluster, account: &str, more: &[&str]) -> Result<Self> {
        Self::of_kubeconfig(program, &cluster.account_kubeconfig(account).await?, more).await
    }

    async fn of_kubeconfig(program: &Path, kubeconfig: &Path, more: &[&str]) -> Result<Self> {
        let (port, metrics, ca) = (Port::reserve()?, Port::reserve()?, TestCa::new("console's authority")?);
        let files = tempfile::tempdir()?;
        let origin = format!("https://127.0.0.1:{}", port.number());
        let listen = format!("127.0.0.1:{}", port.number());
        let numbers = format!("127.0.0.1:{}", metrics.number());
        write_certificate(&files, &ca)?;
        let mut command = Command::new(program);
        command.env_clear().args([
            "--listen",
            &listen,
            "--public-url",
            &origin,
            "--metrics-address",
            &numbers,
        ]);
        command.arg("--tls-cert").arg(files.path().join("tls.crt"));
        command.arg("--tls-key").arg(files.path().join("tls.key"));
        command.arg("--kubeconfig").arg(kubeconfig).args(more);
        let mut program =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().context("starting the console")?;
        let output = program.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line =
            tokio::time::timeout(PATIENCE, lines.next_line()).await.context("nothing was printed")??;
        line.context("the console ended")?;
        Ok(Self { origin, files, ca, metrics, _port: port, program })
    }

    /// Serves another certificate of the same issuer from now on; returns it.
    pub fn renew(&self) -> Result<String> {
        write_certificate(&self.files, &self.ca)
    }

    /// Someone who is not signed in.
    pub fn visitor(&self) -> Visitor<'_> {
        Visitor { console: self, cookie: String::new(), token: String::new() }
    }

    /// Someone who has pasted a token.
    pub async fn signed_in(&self, token: &str) -> Result<Visitor<'_>> {
        let mut visitor = self.visitor();
        let page = visitor.sign_in(token, "/system").await?;
        anyhow::ensure!(page.status == 303, "{page:#?}");
        visitor.keep_cookie(&page);
        Ok(visitor)
    }

    /// The metrics.
    pub async fn numbers(&self, path: &str) -> Result<Page> {
        Page::of(Call::get(format!("http://127.0.0.1:{}{path}", self.metrics.number())).send().await?)
    }

    /// Waits until the console knows the cluster's addresses.
    pub async fn knows_addresses(&self) -> Result<()> {
        registry_testbed::eventually("the cluster's addresses", || async {
            let page = self.numbers("/metrics").await.map_err(|error| error.to_string())?;
            if page.has("registry_console_cluster_addresses_known 1") { Ok(()) } else { Err(page.text) }
        })
        .await?;
        Ok(())
    }
}

fn account(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {SYSTEM_NAMESPACE}}}}}"
    )
}

fn write_certificate(files: &tempfile::TempDir, ca: &TestCa) -> Result<String> {
    let leaf = ca.issue(&LeafOptions::server("console"))?;
    for (name, text) in [("tls.crt", leaf.certificate_pem()), ("tls.key", leaf.key_pem())] {
        let new = files.path().join(format!("{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(new, files.path().join(name))?;
    }
    Ok(leaf.certificate_pem().to_owned())
}

/// A browser, or a program, at a console.
pub struct Visitor<'a> {
    console: &'a ClusterConsole,
    /// The session's cookie.
    pub cookie: String,
    /// The token that a proxy in front sets.
    pub token: String,
}

impl Visitor<'_> {
    /// A request with what the visitor has, and nothing of a browser.
    pub fn call(&self, method: Method, path: &str) -> Call<'_> {
        let call = Call::new(method, format!("{}{path}", self.console.origin));
        let call = call.trust(self.console.ca.certificate_pem());
        let call = if self.cookie.is_empty() { call } else { call.header(header::COOKIE, &self.cookie) };
        if self.token.is_empty() {
            return call;
        }
        call.header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }

    /// Opens a page.
    pub async fn get(&self, path: &str) -> Result<Page> {
        Page::of(self.call(Method::GET, path).send().await?)
    }

    /// Sends something, with these headers.
    pub async fn send(&self, method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Result<Page> {
        let call = self.call(method, path);
        let call = headers.iter().fold(call, |call, (name, value)| call.header(name.clone(), *value));
        Page::of(call.send().await?)
    }

    /// Sends a small form of the console's own page.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let body = fields.iter().fold(
            url::form_urlencoded::Serializer::new(String::new()),
            |mut body, (name, value)| {
                body.append_pair(name, value);
                body
            },
        );
        let call = self.call(Method::POST, path).header(header::ORIGIN, &self.console.origin);
        let call = call.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        Page::of(call.body({ body }.finish()).send().await?)
    }

    /// Sends the form of a registry.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let part = |(name, value): &(&str, &str)| {
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body: String = fields.iter().map(part).collect();
        let call = self.call(Method::POST, path).header(header::ORIGIN, &self.console.origin);
        let call = call.header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"));
        Page::of(call.body(format!("{body}--{BOUNDARY}--\r\n")).send().await?)
    }

    /// Pastes a token.
    pub async fn sign_in(&self, token: &str, to: &str) -> Result<Page> {
        self.post("/sign-in", &[("token", token), ("to", to)]).await
    }

    /// Keeps the cookie that a page sets.
    pub fn keep_cookie(&mut self, page: &Page) {
        let set = page.headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let pair = set.and_then(|set| set.split(';').next()).unwrap_or_default();
        pair.clone_into(&mut self.cookie);
    }
}

/// An account of the cluster, to sign in with.
pub struct Account {
    /// Its name.
    pub name: String,
    /// A token of it.
    pub token: String,
}

impl Account {
    /// The name by which the API server calls it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", self.name)
    }

    /// An administrator of the system scope.
    pub async fn administrator(cluster: &Cluster) -> Result<Self> {
        let account = Self::nobody(cluster, "admin").await?;
        cluster.apply(&account.binding("ClusterRoleBinding", "", "registry-system-admin")).await?;
        Ok(account)
    }

    /// Someone with these rights in a namespace of a tenant.
    pub async fn member(cluster: &Cluster, namespace: &str, tenant: &str) -> Result<Self> {
        let label = format!("labels: {{registry.spectrocloud.com/tenant: {tenant}}}");
        let home = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, {label}}}}}");
        let account = Self::nobody(cluster, "member").await?;
        cluster.apply(&home).await?;
        let inside = format!(", namespace: {namespace}");
        cluster.apply(&account.binding("RoleBinding", &inside, "registry-tenant-admin")).await?;
        Ok(account)
    }

    /// Someone without any right.
    pub async fn nobody(cluster: &Cluster, what: &str) -> Result<Self> {
        let name = Cluster::unique(what);
        cluster.apply(&account(&name)).await?;
        Ok(Self { token: cluster.account_token(&name).await?, name })
    }

    /// Revokes all its tokens.
    pub async fn delete(&self, cluster: &Cluster) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
        accounts.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    fn binding(&self, kind: &str, inside: &str, role: &str) -> String {
        let name = &self.name;
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: {kind}, metadata: {{name: {name}{inside}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}, \
             subjects: [{{kind: ServiceAccount, name: {name}, namespace: {SYSTEM_NAMESPACE}}}]}}"
        )
    }
}

/// A server that accepts connections, and says nothing: one that nobody may connect to, or that nobody gets an answer from.
pub struct Canary {
    listener: TcpListener,
    accepted: Mutex<Vec<TcpStream>>,
}

impl Canary {
    /// On a port of this machine.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, accepted: Mutex::default() })
    }

    /// Where it is.
    pub fn url(&self) -> Result<String> {
        Ok(format!("https://{}", self.listener.local_addr()?))
    }

    /// Whether someone has connected. The kernel makes connections by itself, so nothing has to be waited for.
    pub fn was_reached(&self) -> bool {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.extend(self.listener.accept().map(|(stream, _)| stream));
        !accepted.is_empty()
    }
}

/// The exit code and the errors of a start that fails.
pub async fn failed_start(kubeconfig: PathBuf, flags: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(PROGRAM);
    command.env_clear().arg("--kubeconfig").arg(kubeconfig).args(flags);
    let mut program = command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut errors = String::new();
    let mut output = program.stderr.take().context("no standard error")?;
    let ended = async {
        output.read_to_string(&mut errors).await?;
        program.wait().await
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.context("the console did not end")??;
    Ok((status.code(), errors))
}
