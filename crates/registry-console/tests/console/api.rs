//! `POST /api/v1alpha1/validate`, and `kubectl registry validate --from`, which posts to it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderName, Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

use crate::{
    bed::{Cluster, PASSWORD, Page, Protected, USER},
    cluster_bed::{Account, COOKIE, Canary, ClusterConsole, PROGRAM, Visitor},
    relay::Relay,
};

const VALIDATE: &str = "/api/v1alpha1/validate";
const PATIENCE: Duration = Duration::from_mins(2);

/// A SystemRegistry, and its Secret.
fn packs(endpoint: &str, password: &str) -> [Value; 2] {
    let spec = json!({
        "endpoint": endpoint, "auth": {"basic": {"secretRef": {"name": "login"}}}, "tls": {"insecureSkipVerify": true},
    });
    [
        json!({"apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry",
            "metadata": {"name": "packs-by-api"}, "spec": spec}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "registry-system"},
            "type": "kubernetes.io/basic-auth", "stringData": {"username": USER, "password": password}}),
    ]
}

fn file(documents: &[Value]) -> String {
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

async fn post(visitor: &Visitor<'_>, body: String) -> Result<(u16, Value)> {
    let page = Page::of(visitor.call(Method::POST, VALIDATE).body(body).send().await?)?;
    Ok((page.status, serde_json::from_str(&page.text).with_context(|| format!("{page:?}"))?))
}

fn program<'a>(console: &'a ClusterConsole, token: &str) -> Visitor<'a> {
    let mut visitor = console.visitor();
    token.clone_into(&mut visitor.token);
    visitor
}

#[tokio::test]
async fn api_checks_manifests_of_a_token() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, protected) = (Account::administrator(&cluster).await?, Protected::start().await?);
    let (program, url) = (program(&console, &admin.token), protected.registry.url());

    let (status, report) = post(&program, file(&packs(&url, PASSWORD))).await?;
    assert_eq!(status, 200, "{report:#}");
    assert_eq!(
        (&report["kind"], &report["metadata"]["name"]),
        (&json!("SystemRegistry"), &json!("packs-by-api"))
    );
    assert_eq!(report["manifest"]["result"], "Accepted");
    assert_eq!((&report["usable"], &report["conclusion"]), (&json!(true), &json!("Credentials validated")));
    assert!(report["status"]["conditions"].as_array().is_some_and(|all| all.len() > 4), "{report:#}");
    assert!(!report.to_string().contains(PASSWORD));
    assert!(cluster.system().get_opt("packs-by-api").await?.is_none(), "nothing is stored");

    let both = [packs(&url, "wrong"), packs("https://127.0.0.1:1", PASSWORD)].concat();
    let (status, list) = post(&program, file(&both)).await?;
    assert_eq!((status, &list["kind"]), (200, &json!("List")));
    // Of two Secrets of one name, the last one counts.
    assert_eq!(list["items"][0]["usable"], true);
    assert!(
        list["items"][1]["conclusion"].as_str().is_some_and(|text| text.contains("EndpointReachable")),
        "{list:#}"
    );

    let [registry, _] = packs(&url, PASSWORD);
    let (_, report) = post(&program, registry.to_string()).await?;
    let conclusion = report["conclusion"].as_str().unwrap_or_default();
    let why = "Not checked: Secret registry-system/login is not in the request, and not read from the cluster for others; \
               add it to the request";
    assert_eq!(conclusion, why, "{report:#}");
    let (status, refusal) = post(&program, "{}".to_owned()).await?;
    assert_eq!((status, &refusal["kind"]), (400, &json!("Status")), "{refusal:#}");
    Ok(())
}

#[tokio::test]
async fn api_takes_a_token_and_no_cookie() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, canary) = (Account::administrator(&cluster).await?, Canary::start()?);
    let body = file(&packs(&canary.url()?, PASSWORD));
    let with_cookie = console.signed_in(&admin.token).await?;
    assert!(with_cookie.cookie.starts_with(COOKIE));
    for visitor in [console.visitor(), with_cookie, program(&console, "wrong")] {
        let (status, refusal) = post(&visitor, body.clone()).await?;
        assert_eq!((status, &refusal["code"]), (401, &json!(401)), "{refusal:#}");
    }
    let program = program(&console, &admin.token);
    let foreign: [(HeaderName, &str); 3] = [
        (header::ORIGIN, "https://evil.example"),
        (header::ORIGIN, "null"),
        (HeaderName::from_static("sec-fetch-site"), "cross-site"),
    ];
    for header in foreign {
        let page = program.send(Method::POST, VALIDATE, std::slice::from_ref(&header)).await?;
        assert_eq!(page.status, 403, "{header:?}");
    }
    assert_eq!(program.get(VALIDATE).await?.status, 405);
    assert!(!canary.was_reached());
    Ok(())
}

#[tokio::test]
async fn api_has_the_gate_of_the_pages() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &["--egress-allow", "127.0.0.0/8"]).await?;
    console.knows_addresses().await?;
    let canary = Canary::start()?;
    let nobody = Account::nobody(&cluster, "nobody").await?;
    let (status, report) =
        post(&program(&console, &nobody.token), file(&packs(&canary.url()?, PASSWORD))).await?;
    assert_eq!((status, &report["manifest"]["result"]), (200, &json!("NotAsked")), "{report:#}");
    assert!(
        report["conclusion"].as_str().is_some_and(|text| text.contains("you may not create")),
        "{report:#}"
    );

    // A tenant's registry in the namespace of nobody, with a request that says otherwise; and one that the policy refuses.
    let member = Account::member(&cluster, &Cluster::unique("team"), "team").await?;
    let program = program(&console, &member.token);
    let registry = |namespace: &str, endpoint: String| {
        json!({"apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
            "metadata": {"name": "packs", "namespace": namespace}, "spec": {"endpoint": endpoint}})
    };
    let claim = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "default", "labels": {"registry.spectrocloud.com/tenant": "team"}}});
    let (status, report) = post(&program, file(&[claim, registry("default", canary.url()?)])).await?;
    assert_eq!((status, &report["usable"]), (200, &json!(false)), "{report:#}");
    assert!(!canary.was_reached());
    Ok(())
}

/// The plugin of this build, next to this test program: `cargo test --workspace` and `cargo build` build it.
fn plugin() -> Result<PathBuf> {
    let path = Path::new(PROGRAM).with_file_name("kubectl-registry");
    ensure!(
        path.is_file(),
        "there is no {}: cargo build --package kubectl-registry makes it",
        path.display()
    );
    Ok(path)
}

/// Exit code, standard output and standard error.
type PluginRun = (Option<i32>, String, String);

/// Runs the plugin's `validate` with a kubeconfig.
async fn validate(kubeconfig: &Path, manifests: &str, more: &[&str]) -> Result<PluginRun> {
    let mut command = Command::new(plugin()?);
    command.env_clear().env("KUBECONFIG", kubeconfig).args(["validate", "-f", "-"]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().context("no standard input")?;
    input.write_all(manifests.as_bytes()).await?;
    drop(input);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    Ok((output.status.code(), String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

/// A kubeconfig whose user has a plugin instead of a token, as those of clouds.
fn with_plugin(cluster: &Cluster, directory: &Path, token: &str) -> Result<PathBuf> {
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": token}});
    let (answer, kubeconfig) = (directory.join("credential.json"), directory.join("kubeconfig"));
    std::fs::write(&answer, credential.to_string())?;
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: /bin/cat, args: ['{}'], interactiveMode: Never}}",
        answer.display()
    );
    let text = std::fs::read_to_string(cluster.token_kubeconfig("PLACEHOLDER")?)?;
    std::fs::write(&kubeconfig, text.replace("token: PLACEHOLDER", &exec))?;
    Ok(kubeconfig)
}

#[tokio::test]
async fn plugin_validates_from_the_cluster() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, protected) = (Account::administrator(&cluster).await?, Protected::start().await?);
    let directory = tempfile::tempdir()?;
    let kubeconfig = with_plugin(&cluster, directory.path(), &admin.token)?;
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, console.ca.certificate_pem())?;
    let (url, ca) = (protected.registry.url(), ca.display().to_string());
    let from = ["--from", &console.origin, "--from-ca-file", &ca];

    let (code, output, errors) = validate(&kubeconfig, &file(&packs(&url, PASSWORD)), &from).await?;
    assert_eq!(code, Some(0), "{output}{errors}");
    assert!(output.contains(&format!("Checked from the cluster, by {}", console.origin)), "{output}");
    assert!(output.trim_end().ends_with("✓ Credentials validated") && output.contains(&url), "{output}");
    assert!(!format!("{output}{errors}").contains(PASSWORD));

    let wrong = file(&packs(&url, "wrong"));
    let (code, output, errors) = validate(&kubeconfig, &wrong, &from).await?;
    assert!(code == Some(1) && output.contains("Rejected"), "{output}{errors}");
    let json = [&from[..], &["-o", "json"]].concat();
    let (code, output, _) = validate(&kubeconfig, &wrong, &json).await?;
    let report: Value = serde_json::from_str(&output)?;
    assert_eq!((code, &report["usable"]), (Some(1), &json!(false)), "{report:#}");
    let numbers = console.numbers("/metrics").await?;
    assert!(numbers.has("registry_console_validations_total{result=\"unusable\"} 2"), "{numbers:#?}");

    // Without the CA, the token isn't sent.
    let (code, _, errors) = validate(&kubeconfig, &wrong, &from[..2]).await?;
    assert!(code == Some(2) && errors.contains("--from-ca-file"), "{errors}");
    Ok(())
}

/// A registry whose login is in that Secret.
fn with_login(name: &str, endpoint: &str, secret: &str) -> Value {
    let [mut registry, _] = packs(endpoint, PASSWORD);
    registry["metadata"]["name"] = json!(name);
    registry["spec"]["auth"]["basic"]["secretRef"]["name"] = json!(secret);
    registry
}

#[tokio::test]
async fn plugin_says_which_secret_is_missing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, protected, canary) =
        (Account::administrator(&cluster).await?, Protected::start().await?, Canary::start()?);
    let (directory, url) = (tempfile::tempdir()?, protected.registry.url());
    let (ca, token) = (directory.path().join("ca.crt"), directory.path().join("token"));
    std::fs::write(&ca, console.ca.certificate_pem())?;
    std::fs::write(&token, &admin.token)?;
    let (ca, token) = (ca.display().to_string(), token.display().to_string());
    let from = ["--from", &console.origin, "--from-ca-file", &ca, "--token-file", &token];
    let [registry, login] = packs(&url, PASSWORD);
    let missing = with_login("needs-more", &canary.url()?, "there-is-none");
    let manifests = file(&[missing.clone(), registry, login]);
    let kubeconfig = cluster.administrators_kubeconfig();

    let (code, output, errors) = validate(&kubeconfig, &manifests, &from).await?;
    let (first, second) = output.split_once("SystemRegistry packs-by-api").context("no second registry")?;
    ensure!(code == Some(1), "{output}{errors}");
    ensure!(
        first.contains("SecretNotFound") && first.contains("Secret registry-system/there-is-none"),
        "{first}"
    );
    ensure!(first.contains(&format!("Not sent to {}", console.origin)) && !canary.was_reached(), "{first}");
    ensure!(
        second.contains("✓ Credentials validated") && second.contains("Checked from the cluster"),
        "{second}"
    );
    // The verdict is that of a check without the console, to the word.
    let (code, alone, _) = validate(&kubeconfig, &missing.to_string(), &[]).await?;
    let last = |text: &str| text.trim_end().lines().last().unwrap_or_default().to_owned();
    ensure!(code == Some(1) && last(&alone) == last(first), "{alone}{first}");
    Ok(())
}

#[tokio::test]
async fn plugin_says_which_secret_it_may_not_read() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (member, directory) = (Account::nobody(&cluster, "reader").await?, tempfile::tempdir()?);
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, console.ca.certificate_pem())?;
    let ca = ca.display().to_string();
    let from = ["--from", &console.origin, "--from-ca-file", &ca];
    let kubeconfig = cluster.token_kubeconfig(&member.token)?;
    let manifest = with_login("unread", "https://127.0.0.1:1", "unread").to_string();
    let (code, output, errors) = validate(&kubeconfig, &manifest, &from).await?;
    ensure!(code == Some(2), "{output}{errors}");
    ensure!(output.contains("Not checked: Secret registry-system/unread"), "{output}{errors}");
    ensure!(output.contains("you may not read it in the cluster"), "{output}{errors}");
    Ok(())
}

#[tokio::test]
async fn plugin_reads_a_shared_secret_once() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (relay, protected) = (Relay::start(&cluster).await?, Protected::start().await?);
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, directory) = (Account::administrator(&cluster).await?, tempfile::tempdir()?);
    let name = Cluster::unique("shared-login");
    let [_, mut login] = packs("", PASSWORD);
    login["metadata"]["name"] = json!(name);
    cluster.apply(&login.to_string()).await?;
    cluster.apply(&may_read(&name, &admin.user())).await?;
    let ca = directory.path().join("ca.crt");
    std::fs::write(&ca, console.ca.certificate_pem())?;
    let ca = ca.display().to_string();
    let server_ca = cluster.control_plane().ca().certificate_pem();
    let kubeconfig = cluster.control_plane().kubeconfig_with_token(&relay.url, server_ca, &admin.token)?;
    let url = protected.registry.url();
    let manifests = file(&["one", "two", "three"].map(|registry| with_login(registry, &url, &name)));
    let read = format!("/api/v1/namespaces/registry-system/secrets/{name}");
    let from = ["--from", &console.origin, "--from-ca-file", &ca];
    for (run, more) in [&from[..], &[]].into_iter().enumerate() {
        let (code, output, errors) = validate(&kubeconfig, &manifests, more).await?;
        ensure!(code == Some(0), "{output}{errors}");
        let note = format!("Secret registry-system/{name} read from the cluster");
        ensure!(output.matches(&note).count() == 3, "each says where its password is from: {output}");
        let requests = relay.requests()?.into_iter().flatten();
        let reads = requests.filter(|(_, path)| path.starts_with(&read)).count();
        ensure!(reads == run + 1, "{reads} reads in {} runs", run + 1);
    }
    Ok(())
}

/// Lets a user read a Secret of the operator's namespace.
fn may_read(secret: &str, user: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {secret}, namespace: registry-system}}\n\
         rules: [{{apiGroups: [''], resources: [secrets], resourceNames: [{secret}], verbs: [get]}}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {secret}, namespace: registry-system}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {secret}}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: '{user}'}}]\n"
    )
}

#[tokio::test]
async fn plugin_needs_a_token_for_the_console() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, protected) = (Account::administrator(&cluster).await?, Protected::start().await?);
    let directory = tempfile::tempdir()?;
    let (ca, token) = (directory.path().join("ca.crt"), directory.path().join("token"));
    std::fs::write(&ca, console.ca.certificate_pem())?;
    std::fs::write(&token, format!("{}\n", admin.token))?;
    let (ca, token) = (ca.display().to_string(), token.display().to_string());
    let from = ["--from", &console.origin, "--from-ca-file", &ca];
    let manifests = file(&packs(&protected.registry.url(), PASSWORD));
    let kubeconfig = cluster.administrators_kubeconfig();

    let (code, _, errors) = validate(&kubeconfig, &manifests, &from).await?;
    assert!(code == Some(2) && errors.contains("--token-file"), "{errors}");
    let with_token = [&from[..], &["--token-file", &token]].concat();
    let (code, output, errors) = validate(&kubeconfig, &manifests, &with_token).await?;
    assert_eq!(code, Some(0), "{output}{errors}");
    std::fs::write(&token, "wrong")?;
    let (code, _, errors) = validate(&kubeconfig, &manifests, &with_token).await?;
    assert!(code == Some(2) && errors.contains("The API server refused the token (401)"), "{errors}");
    Ok(())
}

#[tokio::test]
async fn plugin_follows_no_redirect_with_the_token() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (admin, canary) = (Account::administrator(&cluster).await?, Canary::start()?);
    let kubeconfig = cluster.token_kubeconfig(&admin.token)?;
    let (redirecting, elsewhere) = (TcpListener::bind("127.0.0.1:0").await?, canary.url()?);
    let url = format!("http://{}", redirecting.local_addr()?);
    let answer = async {
        let (mut stream, _) = redirecting.accept().await?;
        let mut request = vec![0; 64 * 1024];
        let length = stream.read(&mut request).await?;
        let redirect = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(redirect.as_bytes()).await?;
        anyhow::Ok(String::from_utf8_lossy(&request[..length]).into_owned())
    };
    let manifests = file(&packs("https://127.0.0.1:1", PASSWORD));
    let from = ["--from", url.as_str()];
    let run = validate(&kubeconfig, &manifests, &from);
    let (request, run) = tokio::try_join!(answer, run)?;
    assert!(request.contains("/api/v1alpha1/validate") && request.contains(&admin.token), "{request}");
    assert!(run.0 == Some(2) && run.2.contains("redirects (HTTP 307)"), "{run:?}");
    assert!(!canary.was_reached());
    Ok(())
}
