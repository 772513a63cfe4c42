//! Nothing is stored, and no power of its own: one user's afternoon at the console, read afterwards in etcd, in the audit log with
//! its contents, in what the console printed, and in every page and header.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use registry_testbed::{AuditEvent, AuditLog, ControlPlane, eventually, http_client::Call};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    bed::{self, Browser, Cluster, DRAFT, Page, Protected, SYSTEM_NAMESPACE, USER},
    cluster_bed::{Account, ClusterConsole},
};

const BASIC: &str = "/system/add/basic";
/// The password that is typed.
const CANARY: &str = "canary-7d1e93b04c6a58f2";
/// One that is typed and never accepted.
const WRONG_CANARY: &str = "canary-wrong-0c55a1e7d9";
/// Who administers the system scope and its Secrets.
const ADMINISTRATOR: &str = "ann";
/// Who may do nothing.
const READER: &str = "ben";

/// What the afternoon left behind.
struct Traces {
    /// The keys of etcd that hold a canary, before and after Confirm.
    keys: [Vec<String>; 2],
    /// Everything that was shown: pages, headers, output.
    shown: Vec<String>,
    /// The audit log with its contents.
    audit: String,
    /// The requests to the API server.
    requests: Vec<AuditEvent>,
    /// The requests while a console in the cluster served one user, and that user.
    in_cluster: (Vec<AuditEvent>, String),
    /// The Secret that Confirm made.
    secret: String,
}

/// The forms in which a password travels.
fn canaries() -> Vec<String> {
    let forms = |password: &str| {
        [
            password.to_owned(),
            BASE64_STANDARD.encode(password),
            BASE64_STANDARD.encode(format!("{USER}:{password}")),
        ]
    };
    [CANARY, WRONG_CANARY].iter().flat_map(|password| forms(password)).collect()
}

fn holds_canary(bytes: &[u8]) -> bool {
    canaries().iter().any(|canary| bytes.windows(canary.len()).any(|window| window == canary.as_bytes()))
}

/// The keys of etcd whose values hold a canary, read from etcd itself.
async fn keys_with_canary(control_plane: &ControlPlane) -> Result<Vec<String>> {
    // From the zero byte to the zero byte: every key.
    let everything = json!({"key": "AA==", "range_end": "AA=="}).to_string();
    let url = format!("{}/v3/kv/range", control_plane.etcd_url());
    let answer = Call::new(Method::POST, url).body(everything).send().await?;
    let answer: Value = serde_json::from_slice(answer.body())?;
    let pairs = answer["kvs"].as_array().context("no keys in etcd")?;
    ensure!(pairs.len() > 100, "{} keys are not all of a cluster", pairs.len());
    let bytes = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
    let mut found = Vec::new();
    for pair in pairs {
        if holds_canary(&bytes(&pair["value"])?) {
            found.push(String::from_utf8_lossy(&bytes(&pair["key"])?).into_owned());
        }
    }
    Ok(found)
}

async fn allow_administrator(cluster: &Cluster) -> Result<()> {
    let subject =
        format!("subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {ADMINISTRATOR}}}]");
    cluster
        .apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {ADMINISTRATOR}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: registry-system-admin}}\n{subject}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: logins, namespace: {SYSTEM_NAMESPACE}}}\n\
             rules: [{{apiGroups: [''], resources: [secrets], verbs: [create, delete]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: logins, namespace: {SYSTEM_NAMESPACE}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: logins}}\n{subject}\n"
        ))
        .await
}

/// What was shown so far.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    async fn submit(
        &mut self,
        browser: &Browser,
        typed: &[(&str, &str)],
        more: &[(&str, &str)],
    ) -> Result<Page> {
        let mut fields = typed.to_vec();
        fields.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        fields.extend(more);
        let page = browser.submit(BASIC, &fields).await?;
        self.0.push(format!("{page:?}"));
        Ok(page)
    }
}

async fn afternoon() -> Result<Traces> {
    static AUDITED: OnceCell<ControlPlane> = OnceCell::const_new();
    let control_plane = AUDITED.get_or_try_init(bed::start_audited).await?;
    let cluster = Cluster::of(control_plane).await?;
    allow_administrator(&cluster).await?;
    cluster.refuse_writes_of("late", "CREATE").await?;
    let protected = Protected::with(USER, CANARY, "private authority").await?;
    let (ann, ben) = (cluster.user(ADMINISTRATOR).await?, cluster.user(READER).await?);
    let may = || async {
        let page = ann.get("/system/registries").await?;
        ensure!(page.has("href=\"/system/add/basic\""), "{page:#?}");
        anyhow::Ok(())
    };
    eventually("the roles are in force", may).await?;
    let (log, url, ca) =
        (control_plane.audit()?, protected.registry.url(), protected.ca.certificate_pem().to_owned());
    let (mark, mut shown) = (log.mark(), Shown::default());
    let typed = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("draft", DRAFT),
        ("name", "packs"),
        ("endpoint", &url),
        ("username", USER),
        ("password", CANARY),
        ("ca", &ca),
    ];
    let refused = shown.submit(&ben, &typed, &[]).await?;
    ensure!(refused.status == 422, "{refused:#?}");
    for more in [
        [("base_content_path", "/No/"), ("username", USER)],
        [("username", ""), ("ca", "no certificate")],
        [("endpoint", "https://demo:canary-7d1e93b04c6a58f2@127.0.0.1:1"), ("username", USER)],
    ] {
        let refused = shown.submit(&ann, &typed, &more).await?;
        ensure!(refused.status == 422, "{refused:#?}");
    }
    let wrong = shown.submit(&ann, &typed, &[("password", WRONG_CANARY)]).await?;
    ensure!(wrong.has("Rejected"), "{wrong:#?}");
    let valid = shown.submit(&ann, &typed, &[]).await?;
    ensure!(valid.has("Credentials validated"), "{valid:#?}");
    let asked = shown.submit(&ann, &typed, &[("action", "confirm"), ("password", WRONG_CANARY)]).await?;
    ensure!(asked.has("Add anyway?"), "{asked:#?}");
    let in_part = shown.submit(&ann, &typed, &[("action", "confirm-anyway"), ("name", "late")]).await?;
    ensure!(in_part.status == 422 && in_part.has("refused when it is too late"), "{in_part:#?}");
    let before = keys_with_canary(control_plane).await?;
    shown.submit(&ann, &typed, &[]).await?;
    let confirmed = shown.submit(&ann, &typed, &[("action", "confirm")]).await?;
    ensure!(confirmed.status == 303, "{confirmed:#?}");
    for path in [confirmed.location(), "/system/registries", "/system/add/basic", "/system"] {
        shown.0.push(format!("{:?}", ann.get(path).await?));
    }
    let done = || async {
        let requests = log.since(&mark)?;
        let is_last =
            |event: &&AuditEvent| event.user == ADMINISTRATOR && event.verb == "get" && event.name == "packs";
        ensure!(requests.iter().any(|event| is_last(&event)), "the detail page is not in the log");
        Ok(requests)
    };
    let requests = eventually("the audit log is written", done).await?;
    shown.0.extend([ann.output(), ben.output(), control_plane.api_server().log()]);
    let in_cluster = in_cluster(&cluster, &log).await?;
    Ok(Traces {
        in_cluster,
        keys: [before, keys_with_canary(control_plane).await?],
        shown: shown.0,
        audit: log.text()?,
        requests,
        secret: format!("/registry/secrets/{SYSTEM_NAMESPACE}/packs-login"),
    })
}

/// A user looks at a table and a form of a console in the cluster.
async fn in_cluster(cluster: &Cluster, log: &AuditLog) -> Result<(Vec<AuditEvent>, String)> {
    let mark = log.mark();
    let console = ClusterConsole::start(cluster, &[]).await?;
    console.knows_addresses().await?;
    let account = Account::administrator(cluster).await?;
    let visitor = console.signed_in(&account.token).await?;
    for path in ["/system/registries", BASIC, "/system/registries/packs"] {
        let page = visitor.get(path).await?;
        ensure!(page.status == 200, "{page:#?}");
    }
    let user = account.user();
    let done = || async {
        let requests = log.since(&mark)?;
        let is_last = |event: &AuditEvent| event.user == user && event.verb == "get" && event.name == "packs";
        ensure!(requests.iter().any(is_last), "the detail page is not in the log");
        Ok(requests)
    };
    let requests = eventually("the audit log is written", done).await?;
    Ok((requests, user))
}

async fn traces() -> Result<&'static Traces> {
    static TRACES: OnceCell<Traces> = OnceCell::const_new();
    TRACES.get_or_try_init(|| Box::pin(afternoon())).await
}

#[tokio::test]
async fn typed_password_stands_in_the_secret_only() -> Result<()> {
    let traces = traces().await?;
    ensure!(traces.keys[0].is_empty(), "before Confirm: {:?}", traces.keys[0]);
    ensure!(traces.keys[1] == [traces.secret.as_str()], "after it: {:?}", traces.keys[1]);
    for text in &traces.shown {
        ensure!(!holds_canary(text.as_bytes()), "{text}");
    }
    let audited = &traces.audit;
    ensure!(
        audited.contains("\"requestObject\"") && audited.contains("\"endpoint\":\"https://127.0.0.1:"),
        "no contents"
    );
    let lines = audited.lines().filter(|line| holds_canary(line.as_bytes()));
    ensure!(lines.clone().count() == 0, "{:?}", lines.collect::<Vec<_>>());
    Ok(())
}

/// The API server's own, and the testbed's look at its readiness.
fn is_servers(event: &AuditEvent) -> bool {
    event.user == "system:apiserver" || (event.user == "system:anonymous" && event.request_uri == "/readyz")
}

fn users(requests: &[AuditEvent]) -> BTreeSet<&str> {
    requests.iter().filter(|event| !is_servers(event)).map(|event| event.user.as_str()).collect()
}

#[tokio::test]
async fn own_account_reads_the_cluster_addresses_only() -> Result<()> {
    let (requests, user) = &traces().await?.in_cluster;
    let own = format!("system:serviceaccount:{SYSTEM_NAMESPACE}:console-account");
    // "admin" is the test, which makes the accounts.
    ensure!(users(requests) == BTreeSet::from(["admin", user, &own]), "{:?}", users(requests));
    let asked: BTreeSet<(&str, &str)> = requests
        .iter()
        .filter(|event| event.user == own)
        .map(|event| (event.verb.as_str(), event.resource.as_str()))
        .collect();
    ensure!(asked == BTreeSet::from([("get", "endpointslices"), ("list", "servicecidrs")]), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn audit_log_shows_the_users_only() -> Result<()> {
    let traces = traces().await?;
    let users = users(&traces.requests);
    ensure!(users == BTreeSet::from([ADMINISTRATOR, READER]), "{users:?}");
    ensure!(!traces.audit.contains("\"impersonatedUser\""), "a user is impersonated");
    let did = |user: &str, verb: &str, resource: &str, is_dry: bool| {
        traces.requests.iter().any(|event| {
            (event.user.as_str(), event.verb.as_str(), event.resource.as_str()) == (user, verb, resource)
                && event.request_uri.contains("dryRun=All") == is_dry
        })
    };
    for (user, verb, resource, is_dry) in [
        (READER, "create", "systemregistries", true),
        (ADMINISTRATOR, "create", "systemregistries", true),
        (ADMINISTRATOR, "create", "secrets", false),
        (ADMINISTRATOR, "delete", "secrets", false),
        (ADMINISTRATOR, "create", "systemregistries", false),
    ] {
        ensure!(did(user, verb, resource, is_dry), "{user} {verb} {resource}: {:#?}", traces.requests);
    }
    let read = traces.requests.iter().find(|event| event.resource == "secrets" && !event.is_write());
    ensure!(read.is_none(), "the console reads no Secret: {read:?}");
    Ok(())
}
