//! The web console in the cluster, as its users have it: reached by `kubectl port-forward`, over HTTPS, signed in by a token.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use http::{Method, Response, header};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::DeleteParams};
use registry_api::spec::SystemRegistry;
use registry_testbed::{
    LeafOptions, TestCa, eventually, http_client::Call, manifests, node::Node, ports::Port, tools::Tool,
};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{
    environment::{Environment, PASSWORD, USER},
    release::NAMESPACE,
};

const TENANT: &str = "team-a";
/// The registry that is added.
const REGISTRY: &str = "by-console";
const CERTIFICATE: &str = "registry-console-tls";
const BOUNDARY: &str = "----boundary-of-these-tests";

/// Two accounts: of a system administrator who may create, but not read, Secrets, and of a member of one tenant.
const ACCOUNTS: &str = r"
apiVersion: v1
kind: ServiceAccount
metadata: {name: console-admin, namespace: registry-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: console-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-system-admin}
subjects: [{kind: ServiceAccount, name: console-admin, namespace: registry-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: console-admin, namespace: registry-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: registry-system-credentials}
subjects: [{kind: ServiceAccount, name: console-admin, namespace: registry-system}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: console-member, namespace: team-a}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: console-member, namespace: team-a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-tenant-admin}
subjects: [{kind: ServiceAccount, name: console-member, namespace: team-a}]
";

/// The console's public URL: a port of this node that is forwarded to its Service.
pub struct ConsoleAccess {
    port: Port,
    ca_pem: String,
}

impl ConsoleAccess {
    /// Reserves the port, and creates the Secret with the certificate, which the Pod waits for.
    pub async fn prepare(client: &Client, ca: &TestCa) -> Result<Self> {
        let leaf = ca.issue(&LeafOptions::server("console"))?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": CERTIFICATE, "namespace": NAMESPACE},
            "stringData": {"tls.crt": leaf.certificate_pem(), "tls.key": leaf.key_pem()},
        });
        manifests::apply(client, vec![serde_json::from_value(secret)?]).await?;
        Ok(Self { port: Port::reserve()?, ca_pem: ca.certificate_pem().to_owned() })
    }

    fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// The chart's values, with the image in that repository.
    pub fn values(&self, repository: &str) -> String {
        let url = self.origin();
        format!(
            "console.enabled=true,console.publicURL={url},console.tls.secretName={CERTIFICATE},\
             console.image.repository={repository}"
        )
    }

    /// As docs/console.md has it. Ends when it is dropped.
    fn forward(&self, node: &Node) -> Result<Child> {
        let mut kubectl = Command::new(node.tool(Tool::Kubectl));
        let ports = format!("{}:443", self.port.number());
        kubectl.args(["--namespace", NAMESPACE, "port-forward", "service/registry-console", &ports]);
        kubectl.env("KUBECONFIG", node.control_plane().admin_kubeconfig()).env("HOME", node.directory());
        kubectl.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        kubectl.spawn().context("starting kubectl port-forward")
    }
}

/// A page of the console.
struct ConsolePage(Response<bytes::Bytes>);

impl ConsolePage {
    fn text(&self) -> String {
        String::from_utf8_lossy(self.0.body()).into_owned()
    }

    fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.0.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of the field of that name.
    fn value(&self, name: &str) -> String {
        let text = self.text();
        let field = format!("name=\"{name}\" value=\"");
        let value = text.split_once(&field).and_then(|(_, rest)| rest.split('"').next());
        value.unwrap_or_default().to_owned()
    }

    fn has(&self, words: &str) -> Result<()> {
        ensure!(self.text().contains(words), "{} without {words}: {}", self.status(), self.text());
        Ok(())
    }
}

/// A browser in which someone is signed in.
struct SignedInBrowser<'a> {
    access: &'a ConsoleAccess,
    cookie: String,
}

impl<'a> SignedInBrowser<'a> {
    /// By a pasted token of that account.
    async fn open(access: &'a ConsoleAccess, node: &Node, namespace: &str, name: &str) -> Result<Self> {
        let token = node.control_plane().service_account_token(namespace, name).await?;
        let mut browser = Self { access, cookie: String::new() };
        let page = browser.post("/sign-in", &format!("to=%2Fsystem&token={token}")).await?;
        ensure!(page.status() == 303, "{} {}", page.status(), page.text());
        let cookie = page.header(header::SET_COOKIE).split(';').next().unwrap_or_default();
        cookie.clone_into(&mut browser.cookie);
        browser.get("/system").await?.has(&format!("system:serviceaccount:{namespace}:{name}"))?;
        Ok(browser)
    }

    async fn send(&self, method: Method, path: &str, media_type: &str, body: String) -> Result<ConsolePage> {
        let call = Call::new(method, format!("{}{path}", self.access.origin())).trust(&self.access.ca_pem);
        let call = call.header(header::COOKIE, &self.cookie).header(header::ORIGIN, self.access.origin());
        Ok(ConsolePage(call.header(header::CONTENT_TYPE, media_type).body(body).send().await?))
    }

    async fn get(&self, path: &str) -> Result<ConsolePage> {
        self.send(Method::GET, path, "text/plain", String::new()).await
    }

    async fn post(&self, path: &str, body: &str) -> Result<ConsolePage> {
        self.send(Method::POST, path, "application/x-www-form-urlencoded", body.to_owned()).await
    }

    async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<ConsolePage> {
        let part = |(name, value): &(&str, &str)| {
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let parts: String = fields.iter().map(part).collect();
        let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
        self.send(Method::POST, path, &media_type, format!("{parts}--{BOUNDARY}--\r\n")).await
    }
}

/// From the first page to the last.
pub async fn registry_is_added_and_removed_in_the_browser(
    client: &Client,
    node: &Node,
    scene: &Environment,
    access: &ConsoleAccess,
) -> Result<()> {
    manifests::apply(client, manifests::parse("the accounts", ACCOUNTS)?).await?;
    let _forward = access.forward(node)?;
    let sign_in = Call::get(format!("{}/sign-in", access.origin()));
    let look = || async {
        let page = ConsolePage(sign_in.clone().trust(&access.ca_pem).send().await?);
        page.has("<h1>Sign in</h1>")
    };
    eventually("the console is reached", look).await?;
    let admin = SignedInBrowser::open(access, node, NAMESPACE, "console-admin").await?;
    is_validated_and_added(&admin, scene).await?;
    is_ready(client).await?;
    admin.get("/system/registries").await?.has(REGISTRY)?;

    let member = SignedInBrowser::open(access, node, TENANT, "console-member").await?;
    is_listed_and_not_removable(&member).await?;
    may_not_be_removed_by(node, client).await?;
    is_removed(&admin, client).await
}

async fn is_validated_and_added(admin: &SignedInBrowser<'_>, scene: &Environment) -> Result<()> {
    let path = "/system/add/basic";
    let host = scene.protected.host_port();
    let draft = admin.get(path).await?.value("draft");
    let mut fields = vec![
        ("action", "validate"),
        ("draft", &draft),
        ("content_type", "Pack"),
        ("name", REGISTRY),
        ("endpoint", &host),
        ("base_content_path", "team/packs"),
        ("repository", "hello"),
        ("username", USER),
        ("password", PASSWORD),
    ];
    // Without the CA, the page shows the certificate that the console's Pod was presented.
    admin.submit(path, &fields).await?.has("UnknownIssuer")?;
    fields.push(("ca_file", scene.ca.certificate_pem()));
    let valid = admin.submit(path, &fields).await?;
    valid.has("Credentials validated")?;
    ensure!(!valid.text().contains(PASSWORD), "the password is on the page");
    fields[0].1 = "confirm";
    let confirmed = admin.submit(path, &fields).await?;
    ensure!(confirmed.status() == 303, "{} {}", confirmed.status(), confirmed.text());
    admin.get(confirmed.header(header::LOCATION)).await?.has(REGISTRY)
}

/// By the operator.
async fn is_ready(client: &Client) -> Result<()> {
    let registries: Api<SystemRegistry> = Api::all(client.clone());
    let look = || async {
        let status = registries.get(REGISTRY).await?.status.unwrap_or_default();
        let conditions = serde_json::to_value(status.conditions)?;
        let is_true = |of: &str| {
            let all = conditions.as_array().into_iter().flatten();
            all.filter(|condition| condition["type"] == of).any(|condition| condition["status"] == "True")
        };
        ensure!(is_true("Ready") && is_true("CredentialsValidated"), "{conditions}");
        Ok(())
    };
    Ok(eventually(format!("{REGISTRY} is Ready"), look).await?)
}

async fn is_listed_and_not_removable(member: &SignedInBrowser<'_>) -> Result<()> {
    let list = member.get(&format!("/tenants/{TENANT}/registries?namespace={TENANT}")).await?;
    list.has(REGISTRY)?;
    list.has("can only be removed there")?;
    let control = format!("/{REGISTRY}/delete");
    ensure!(!list.text().contains(&control), "a control that doesn't work: {}", list.text());
    let url = format!("/system/registries{control}");
    let page = member.get(&url).await?;
    page.has("You may not delete SystemRegistries")?;
    let refused = member.post(&url, &format!("name={REGISTRY}&uid={}", page.value("uid"))).await?;
    ensure!(refused.status() >= 400, "{} {}", refused.status(), refused.text());
    Ok(())
}

/// The API server refuses the member itself, and keeps the registry.
async fn may_not_be_removed_by(node: &Node, client: &Client) -> Result<()> {
    let member = node.control_plane().client_for_service_account(TENANT, "console-member").await?;
    let registries: Api<SystemRegistry> = Api::all(member);
    let refused = registries.delete(REGISTRY, &DeleteParams::default()).await;
    ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");
    let registries: Api<SystemRegistry> = Api::all(client.clone());
    ensure!(registries.get(REGISTRY).await?.metadata.deletion_timestamp.is_none(), "it is being deleted");
    Ok(())
}

async fn is_removed(admin: &SignedInBrowser<'_>, client: &Client) -> Result<()> {
    let url = format!("/system/registries/{REGISTRY}/delete");
    let uid = admin.get(&url).await?.value("uid");
    let deleted = admin.post(&url, &format!("name={REGISTRY}&uid={uid}")).await?;
    ensure!(deleted.status() == 303, "{} {}", deleted.status(), deleted.text());
    let registries: Api<SystemRegistry> = Api::all(client.clone());
    let look = || async {
        ensure!(registries.get_opt(REGISTRY).await?.is_none(), "it is still there");
        Ok(())
    };
    eventually(format!("{REGISTRY} is gone"), look).await?;
    // Its Secret stays, as the page said.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.delete(&format!("{REGISTRY}-login"), &DeleteParams::default()).await?;
    Ok(())
}
