//! Where the operator sends which Secrets, on a real API server: by type, by the annotation with their hosts, and by the
//! tenant policy; and how soon a change takes effect. All types and patterns are in tests/verdicts/table/purposes.rs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use registry_api::{HOSTS_ANNOTATION, TOKEN_SECRET_TYPE};
use registry_testbed::{ControlPlaneOptions, TestCa, eventually, manifests::FIELD_MANAGER};
use serde_json::{Value, json};

use crate::{
    fixtures::{
        Answer, PROMISED, ReceivedRequest, ScriptedServer, TestScope, VALIDATED, Verdict, answer,
        asks_for_password, attempts, protected, signed_in, spec, welcome,
    },
    harness::{self, Installation},
    moment::Moment,
};

const INVALID: Verdict = Verdict::unresolved("False/SecretInvalid");

fn hosts(patterns: impl Into<Value>) -> Value {
    json!({HOSTS_ANNOTATION: patterns.into()})
}

/// A token as Kubernetes itself makes them for service accounts.
async fn account_token(scene: &TestScope<'_>, cluster: &harness::Cluster) -> Result<(String, String)> {
    let name = scene.named("account-token");
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), scene.namespace());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}},
    });
    secrets.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&secret)).await?;
    let filled = || async {
        let token = secrets.get(&name).await?.data.and_then(|mut data| data.remove("token"));
        let token = token.ok_or_else(|| anyhow::anyhow!("it has no token"))?;
        anyhow::Ok(String::from_utf8(token.0)?)
    };
    let token = eventually("the account's Secret holds a token", filled).await?;
    Ok((name, token))
}

#[tokio::test]
async fn never_sends_service_account_token() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let stranger = ScriptedServer::promptly(|asked| match asked.authorization() {
        None => asks_for_password(),
        Some(_) => welcome(),
    })
    .await?;
    for scene in TestScope::both(&cluster).await? {
        let (secret, token) = account_token(&scene, &cluster).await?;
        let by = |method: &str| {
            let mut spec = json!({"endpoint": stranger.url(), "auth": {}});
            spec["auth"][method] = json!({"secretRef": {"name": secret}});
            spec
        };
        for method in ["token", "basic"] {
            let object = scene.declare(&format!("account-{method}"), by(method)).await?;
            let view = object.shows(&INVALID).await?;
            let message = view.message("ResolvedRefs");
            let kind = if method == "token" { TOKEN_SECRET_TYPE } else { "kubernetes.io/basic-auth" };
            let command =
                format!("kubectl create secret generic {secret} -n {} --type={kind}", scene.namespace());
            ensure!(message.contains(&command), "{message}");
            ensure!(!serde_json::to_string(&view.status)?.contains(&token));
        }
    }
    ensure!(stranger.requests().is_empty(), "asked: {:?}", stranger.requests());
    Ok(())
}

#[tokio::test]
async fn applies_changed_hosts_of_a_secret_at_once() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let server = registry.host_port();
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("hosts-login", "demo", "right").await?;
        let object = scene.declare("hosts", spec(&registry, &ca, &login)).await?;
        object.shows(&VALIDATED).await?;
        for (patterns, says) in [
            ("", "lists no hosts"),
            ("elsewhere.example.org", "does not list it"),
            ("https://127.0.0.1", "entry 1 is not HOST[:PORT]"),
        ] {
            let moment = Moment::on_shared().await?;
            scene.annotate(&login, hosts(patterns)).await?;
            let view = object.shows_within(PROMISED, &moment, &INVALID).await?;
            ensure!(view.message("ResolvedRefs").contains(says), "{}", view.message("ResolvedRefs"));
            let sent = attempts(&registry);
            object.request(&format!("for {patterns:?}")).await?;
            object.has_handled(&format!("for {patterns:?}")).await?;
            ensure!(attempts(&registry) == sent, "the password was sent all the same");

            let moment = Moment::on_shared().await?;
            scene.annotate(&login, hosts(format!("elsewhere.example.org, {server}"))).await?;
            object.shows_within(PROMISED, &moment, &VALIDATED).await?;
        }
        scene.annotate(&login, hosts(Value::Null)).await?;
        object.request("any host").await?;
        object.has_handled("any host").await?;
        object.shows(&VALIDATED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn policy_requires_hosts_in_tenant_secrets() -> Result<()> {
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let installation = Installation::start(options).await?;
    let _operator = installation.start_operator().await?;
    let cluster = installation.cluster().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "demo", "right").await?;
    let [system, tenant] = TestScope::both(&cluster).await?;
    let login = system.login("login", "demo", "right").await?;
    let systems = system.declare("packs", spec(&registry, &ca, &login)).await?;
    let login = tenant.login("login", "demo", "right").await?;
    let tenants = tenant.declare("packs", spec(&registry, &ca, &login)).await?;
    systems.shows(&VALIDATED).await?;
    tenants.shows(&VALIDATED).await?;

    let moment = Moment::on(&installation)?;
    cluster.change_tenant_policy(json!({"secretHosts": "Required"})).await?;
    let view = tenants.shows_within(PROMISED, &moment, &INVALID).await?;
    let command = format!(
        "kubectl annotate secret {login} -n {} {HOSTS_ANNOTATION}={}",
        tenant.namespace(),
        registry.host_port()
    );
    ensure!(view.message("ResolvedRefs").contains(&command), "{}", view.message("ResolvedRefs"));
    systems.request("still").await?;
    systems.has_handled("still").await?;
    systems.shows(&VALIDATED).await?;

    let moment = Moment::on(&installation)?;
    tenant.annotate(&login, hosts(registry.host_port())).await?;
    tenants.shows_within(PROMISED, &moment, &VALIDATED).await?;
    let moment = Moment::on(&installation)?;
    tenant.annotate(&login, hosts(Value::Null)).await?;
    tenants.shows_within(PROMISED, &moment, &INVALID).await?;
    let moment = Moment::on(&installation)?;
    cluster.change_tenant_policy(json!({"secretHosts": null})).await?;
    tenants.shows_within(PROMISED, &moment, &VALIDATED).await?;
    Ok(())
}

/// Where a registry sends its clients instead of answering them.
#[derive(Clone, Copy)]
enum Lure {
    /// A redirect, when it is asked without credentials.
    Redirect,
    /// A redirect, when it is asked with the password.
    RedirectOfPassword,
    /// A token service.
    Realm,
}

impl Lure {
    fn reply(self, asked: &ReceivedRequest, to: &str) -> Answer {
        let redirect = || answer(307, &[("Location", &format!("{to}/v2/"))], "");
        match (self, asked.authorization()) {
            (Self::Redirect, _) | (Self::RedirectOfPassword, Some(_)) => redirect(),
            (Self::RedirectOfPassword, None) => asks_for_password(),
            (Self::Realm, _) => {
                answer(401, &[("WWW-Authenticate", &format!("Bearer realm=\"{to}/token\""))], "")
            }
        }
    }

    fn verdict(self) -> &'static [&'static str] {
        match self {
            Self::Redirect | Self::RedirectOfPassword => &["Ready=False/RedirectRefused"],
            Self::Realm => &["Ready=False/UntrustedTokenService", "EndpointReachable=True/Reachable"],
        }
    }
}

/// Neither a password nor a token gets to where a registry sends its clients: to another port of its own host, to another host, or
/// to the metadata service. tests/verdicts/table/{endpoint,faults,realms,egress_policy}.rs have all other ways.
#[tokio::test]
async fn fault_24_redirect_or_realm_elsewhere() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let stranger = ScriptedServer::promptly(|_| welcome()).await?;
    let another_port = stranger.url();
    let another_host = another_port.replace("127.0.0.1", "localhost");
    let metadata = "http://169.254.169.254/latest".to_owned();
    let cases = [
        (Lure::Redirect, &another_port),
        (Lure::Redirect, &metadata),
        (Lure::RedirectOfPassword, &another_port),
        (Lure::RedirectOfPassword, &metadata),
        (Lure::Realm, &another_host),
        (Lure::Realm, &metadata),
    ];
    for scene in TestScope::both(&cluster).await? {
        let login = scene.login("lure-login", "demo", "right").await?;
        for (number, (lure, to)) in cases.iter().enumerate() {
            let is_honest = Arc::new(AtomicBool::new(false));
            let (lure, to, honest) = (*lure, (*to).clone(), is_honest.clone());
            let registry = ScriptedServer::promptly(move |asked| match honest.load(Ordering::Relaxed) {
                true if signed_in(asked, "demo", "right") => welcome(),
                true => asks_for_password(),
                false => lure.reply(asked, &to),
            })
            .await?;
            let auth = json!({"basic": {"secretRef": {"name": login}}});
            let spec = json!({"endpoint": registry.url(), "auth": auth});
            let object = scene.declare(&format!("lure-{number}"), spec).await?;
            object.becomes(lure.verdict()).await?;
            let sent = registry.requests().iter().any(|asked| asked.authorization().is_some());
            ensure!(sent == matches!(lure, Lure::RedirectOfPassword), "sent: {sent}, case {number}");
            // When it answers for itself, its credentials are validated.
            is_honest.store(true, Ordering::Relaxed);
            object.request("now").await?;
            object.shows(&VALIDATED.in_the_clear()).await?;
        }
    }
    ensure!(stranger.requests().is_empty(), "asked: {:?}", stranger.requests());
    Ok(())
}
