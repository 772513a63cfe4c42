//! One verdict: what the console says of a registry before it is added, what the plugin says of the same manifest, and what the operator
//! writes into the status, are the same to the word.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, api::ObjectMeta};
use registry_api::{SystemRegistry, condition::LAYERS};
use registry_testbed::{
    ControlPlane, ControlPlaneOptions, Moto, Operator, OperatorOptions, RegistryAuth, RegistryOptions,
    TestCa, TestRegistry, eventually, moto::AccessKey,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command, sync::OnceCell, task::AbortHandle};

use crate::bed::{self, Browser, Cluster, PASSWORD, PATIENCE, Page, Protected, SYSTEM_NAMESPACE, USER};

const ACCOUNT: &str = "registry-operator";
const AWS_ACCOUNT: &str = "123456789012";
const AWS_ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["ecr:*", "sts:*"], "Resource": "*"}}"#;

/// A control plane with the operator, and AWS as moto emulates it.
struct Installation {
    control_plane: ControlPlane,
    aws: Moto,
    key: AccessKey,
    _operator: Operator,
}

impl Installation {
    async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Installation> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn start() -> Result<Self> {
        let control_plane = bed::start(ControlPlaneOptions::default()).await?;
        let aws = Moto::start().await?;
        let key = aws.user("registries", AWS_ALL).await?;
        aws.checks_credentials().await?;
        let kubeconfig = control_plane.kubeconfig_for_service_account(SYSTEM_NAMESPACE, ACCOUNT).await?;
        let options = OperatorOptions::new(bed::program("registry-operator")?, kubeconfig);
        let operator = Operator::start(options.env("AWS_ENDPOINT_URL_ECR", aws.url())).await?;
        Ok(Self { control_plane, aws, key, _operator: operator })
    }

    async fn console(&self) -> Result<Browser> {
        let environment = [("AWS_ENDPOINT_URL_ECR", self.aws.url())];
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Browser::signed_in(&self.control_plane.admin_kubeconfig(), &environment).await
    }

    /// The plugin's report about these manifests, as an object.
    async fn plugin(&self, documents: &Value) -> Result<Value> {
        let mut command = Command::new(bed::program("kubectl-registry")?);
        command.args(["validate", "-f", "-", "-o", "json"]).env_clear();
        command.env("KUBECONFIG", self.control_plane.admin_kubeconfig());
        command.env("AWS_ENDPOINT_URL_ECR", self.aws.url()).kill_on_drop(true);
        let mut plugin = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = plugin.stdin.take().context("no standard input")?;
        input.write_all(documents.to_string().as_bytes()).await?;
        drop(input);
        let output = tokio::time::timeout(PATIENCE, plugin.wait_with_output()).await??;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| text.into_owned())
    }
}

/// A client of the control plane with the operator.
pub async fn cluster() -> Result<Cluster> {
    Cluster::of(&Installation::shared().await?.control_plane).await
}

/// A layer: its name, its status, its reason and its message.
type Layer = [String; 4];

fn layer(condition: &Condition) -> Layer {
    [&condition.type_, &condition.status, &condition.reason, &condition.message].map(Clone::clone)
}

fn layers(conditions: &[Condition]) -> Vec<Layer> {
    let find = |name: &str| conditions.iter().find(|condition| condition.type_ == name).map(layer);
    LAYERS.iter().filter_map(|layer| find(layer.condition.as_str())).collect()
}

/// What is written in a piece of a page, tag by tag.
fn texts(html: &str) -> Vec<String> {
    let texts =
        html.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim().to_owned());
    texts.filter(|text| !text.is_empty()).collect()
}

/// The layers as a reader sees them: icon, name, the icon's word, reason and message.
fn shown_layers(page: &Page) -> Result<Vec<Layer>> {
    let list =
        page.text.split("<ol class=\"layers\">").nth(1).with_context(|| format!("no layers: {page:#?}"))?;
    let list = list.split("</ol>").next().unwrap_or_default();
    list.split("<li").skip(1).map(shown_layer).collect()
}

fn shown_layer(line: &str) -> Result<Layer> {
    let texts = texts(line);
    let [mark, name, spoken, reason, message] = texts.as_slice() else { anyhow::bail!("{texts:?}") };
    let status = match (mark.as_str(), spoken.as_str()) {
        ("✓", "Yes:") => "True",
        ("✗", "No:") => "False",
        ("?", "Unknown:") => "Unknown",
        _ => anyhow::bail!("{texts:?}"),
    };
    Ok([name.clone(), status.to_owned(), reason.clone(), message.clone()])
}

fn shown_conclusion(page: &Page) -> Result<String> {
    let last = page.text.split("class=\"conclusion ").nth(1).and_then(|rest| rest.split("</p>").next());
    let texts = texts(last.with_context(|| format!("no conclusion: {page:#?}"))?);
    texts.get(1).cloned().with_context(|| format!("{texts:?}"))
}

/// A registry as it is typed into the form, and the reason that at least one of its layers has.
struct Case<'a> {
    name: &'a str,
    tab: &'a str,
    fields: &'a [(&'a str, &'a str)],
    reason: &'a str,
}

impl Case<'_> {
    fn path(&self) -> String {
        format!("/system/add/{}", self.tab)
    }

    fn typed<'b>(&'b self, action: &'b str) -> Vec<(&'b str, &'b str)> {
        let common = [("action", action), ("name", self.name), ("content_type", "Helm")];
        [&common, self.fields].concat()
    }

    /// Asks all three.
    async fn is_one_verdict(
        &self,
        installation: &Installation,
        cluster: &Cluster,
        console: &Browser,
    ) -> Result<()> {
        let page = console.submit(&self.path(), &self.typed("validate")).await?;
        let shown = shown_layers(&page)?;
        ensure!(
            shown.len() == LAYERS.len() && shown.iter().any(|layer| layer[2] == self.reason),
            "{shown:#?}"
        );
        let confirmed = console.submit(&self.path(), &self.typed("confirm-anyway")).await?;
        ensure!(confirmed.status == 303, "{confirmed:#?}");
        let report = installation.plugin(&self.manifests(cluster).await?).await?;
        let conditions: Vec<Condition> = serde_json::from_value(report["status"]["conditions"].clone())?;
        ensure!(layers(&conditions) == shown, "plugin: {:#?}\nconsole: {shown:#?}", layers(&conditions));
        ensure!(report["conclusion"] == shown_conclusion(&page)?, "{report:#}\n{page:#?}");
        let operators = || async {
            let written = cluster.system().get(self.name).await?.status.unwrap_or_default().conditions;
            ensure!(layers(&written) == shown, "operator: {:#?}\nconsole: {shown:#?}", layers(&written));
            anyhow::Ok(())
        };
        eventually(format!("{}: the operator says the same", self.name), operators).await?;
        Ok(())
    }

    /// What Confirm wrote, as a user would write it into a file, under another name.
    async fn manifests(&self, cluster: &Cluster) -> Result<Value> {
        let registry = cluster.system().get(self.name).await?;
        let again = SystemRegistry::new(&format!("{}-again", self.name), registry.spec);
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
        let mut items = vec![json!(again)];
        if let Some(secret) = secrets.get_opt(&format!("{}-login", self.name)).await? {
            let ObjectMeta { name, namespace, annotations, .. } = secret.metadata;
            let metadata = ObjectMeta { name, namespace, annotations, ..ObjectMeta::default() };
            items.push(json!(Secret { metadata, ..secret }));
        }
        Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
    }
}

/// A web server that is no registry.
async fn web_server() -> Result<(String, AbortHandle)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let body = "<html><body>It works!</body></html>";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let serving = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut request).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    Ok((url, serving.abort_handle()))
}

#[tokio::test]
async fn console_plugin_and_operator_say_the_same() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, console) = (cluster().await?, installation.console().await?);
    let (protected, other) = (Protected::start().await?, TestCa::new("another authority")?);
    let open = TestRegistry::start(RegistryOptions::default()).await?;
    let (web, serving) = web_server().await?;
    let (url, open, ca) = (protected.registry.url(), open.url(), protected.ca.certificate_pem());
    let login = [("endpoint", url.as_str()), ("username", USER), ("password", PASSWORD)];
    let case = |name, fields, reason| Case { name, tab: "basic", fields, reason };
    let with = |more: &[(&'static str, &'static str)]| more.to_vec();
    let [right, wrong_ca, unknown, skipped, no_path, web, refused, open] = [
        [&login[..], &[("ca", ca)]].concat(),
        [&login[..], &[("ca", other.certificate_pem())]].concat(),
        login.to_vec(),
        [&login[..], &with(&[("insecure_skip_verify", "on")])].concat(),
        [&login[..], &[("ca", ca), ("base_content_path", "team"), ("repository", "nothing")]].concat(),
        vec![("endpoint", web.as_str())],
        vec![("endpoint", "https://127.0.0.1:1"), ("username", USER), ("password", PASSWORD)],
        vec![("endpoint", open.as_str()), ("username", USER), ("password", PASSWORD)],
    ];
    let wrong_password = [&login[..2], &[("password", "wrong"), ("ca", ca)]].concat();
    let anonymous = [&login[..1], &[("ca", ca)]].concat();
    for case in [
        case("right", &right, "Validated"),
        case("wrong-password", &wrong_password, "Rejected"),
        case("no-password", &anonymous, "Required"),
        case("wrong-ca", &wrong_ca, "UnknownIssuer"),
        case("no-ca", &unknown, "UnknownIssuer"),
        case("skipped", &skipped, "VerificationSkipped"),
        case("no-such-path", &no_path, "NotFound"),
        case("unreachable", &refused, "ConnectionRefused"),
        case("no-registry", &web, "NotARegistry"),
        case("unprovable", &open, "Unprovable"),
    ] {
        case.is_one_verdict(installation, &cluster, &console).await.with_context(|| case.name.to_owned())?;
    }
    serving.abort();
    Ok(())
}

#[tokio::test]
async fn all_three_say_the_same_of_ecr() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, console) = (cluster().await?, installation.console().await?);
    let auth = RegistryAuth::htpasswd("AWS", format!("{AWS_ACCOUNT}-auth-token"));
    let registry = TestRegistry::start(RegistryOptions { auth, ..RegistryOptions::default() }).await?;
    let url = registry.url();
    let key = &installation.key;
    let fields = |secret| {
        vec![
            ("endpoint", url.as_str()),
            ("protected", "on"),
            ("method", "credentials"),
            ("region", "eu-central-1"),
            ("access_key", key.id.as_str()),
            ("password", secret),
        ]
    };
    let (right, wrong) = (fields(key.secret.as_str()), fields("guess"));
    for (name, fields, reason) in [("ecr", &right, "Validated"), ("ecr-wrong", &wrong, "Rejected")] {
        let case = Case { name, tab: "ecr", fields, reason };
        case.is_one_verdict(installation, &cluster, &console).await.with_context(|| name.to_owned())?;
    }
    Ok(())
}
