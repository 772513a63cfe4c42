//! With a cluster: list, describe, and validate with a dry run.

use anyhow::{Result, bail};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use registry_testbed::eventually;
use serde_json::{Value, json};

use crate::{
    bed::{Cluster, Desk, Installation, Run, SYSTEM_NAMESPACE},
    registries::{PASSWORD, Protected, anonymous, login, system, tenant},
};

/// Returns the words of the row with this scope and name.
pub fn row<'a>(table: &'a str, scope: &str, name: &str) -> Option<Vec<&'a str>> {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    rows.find(|row| row.first() == Some(&scope) && row[1..3].contains(&name))
}

/// A user with only the permissions that every user has.
fn nobody(installation: &Installation) -> Result<Desk> {
    Desk::at(installation.control_plane().kubeconfig_for_user("nobody-in-particular", &[])?)
}

#[tokio::test]
async fn tenant_sees_its_registries_of_both_scopes() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let open = Protected::open().await?;
    let namespace = cluster.tenant_namespace("team-a", "team-a-prod").await?;
    let sibling = cluster.tenant_namespace("team-a", "team-a-dev").await?;
    let other = cluster.tenant_namespace("team-b", "team-b").await?;
    let (all, mine, others) = (cluster.unique("all"), cluster.unique("mine"), cluster.unique("others"));
    let spec = |tenant: Option<&str>| {
        let tenants = tenant.map(|tenant| json!({"tenants": [cluster.unique(tenant)]}));
        let mut spec = open.open_spec();
        spec["availability"] = tenants.unwrap_or_else(|| json!({}));
        spec
    };
    for (name, tenant) in [(&all, None), (&mine, Some("team-a")), (&others, Some("team-b"))] {
        cluster.apply(&system(name, &spec(tenant))).await?;
    }
    for (inside, name) in [(&namespace, "charts"), (&sibling, "images"), (&other, "foreign")] {
        cluster.apply(&tenant(inside, name, &open.open_spec())).await?;
        cluster.becomes(&cluster.tenant(inside), name, "Ready=True/Available").await?;
    }
    cluster.becomes(&cluster.system(), &all, "Ready=True/Available").await?;

    let run = desk.run(&["list", "-n", &namespace]).await?;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:#?}");
    let header: Vec<&str> = run.stdout.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["SCOPE", "NAMESPACE", "NAME", "ENDPOINT", "READY", "CREDENTIALS", "REASON", "AGE"]);
    let url = open.registry.url();
    let found = row(&run.stdout, "system", &all).expect("the registry for all");
    assert_eq!(found[..6], ["system", &all, &url, "True", "True", "Available"]);
    assert!(row(&run.stdout, "system", &mine).is_some(), "{run:#?}");
    assert!(row(&run.stdout, "system", &others).is_none(), "{run:#?}");
    let found = row(&run.stdout, "tenant", "charts").expect("its own");
    assert_eq!(found[..7], ["tenant", &namespace, "charts", &url, "True", "True", "Available"]);
    assert_eq!(row(&run.stdout, "tenant", "images").map(|row| row[1]), Some(sibling.as_str()));
    assert!(row(&run.stdout, "tenant", "foreign").is_none(), "{run:#?}");

    let run = desk.run(&["list", "-A"]).await?;
    assert!(row(&run.stdout, "tenant", "foreign").is_some() && row(&run.stdout, "system", &others).is_some());

    let run = desk.run(&["list", "-n", &namespace, "-o", "wide", "--no-headers"]).await?;
    let wide = run.line(" charts ");
    assert!(wide.contains(" Pack ") && wide.ends_with("no credentials are given or needed"), "{run:#?}");
    assert!(!run.stdout.contains("SCOPE"), "{run:#?}");

    let run = desk.run(&["list", "-n", &namespace, "-o", "name"]).await?;
    assert!(
        run.stdout.lines().any(|line| line == format!("systemregistry.registry.spectrocloud.com/{mine}"))
    );
    assert!(run.stdout.lines().any(|line| line == "tenantregistry.registry.spectrocloud.com/charts"));
    for format in ["json", "yaml"] {
        let run = desk.run(&["list", "-n", &namespace, "-o", format]).await?;
        let list: Value = serde_saphyr::from_str(&run.stdout)?;
        let items = list["items"].as_array().expect("items");
        let charts = items.iter().find(|one| one["metadata"]["name"] == "charts").expect("charts");
        assert_eq!(charts["kind"], "TenantRegistry");
        assert_eq!(charts["apiVersion"], "registry.spectrocloud.com/v1alpha1");
        assert!(charts["status"]["conditions"].is_array());
    }
    Ok(())
}

#[tokio::test]
async fn says_what_is_omitted_without_namespace_access() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, open) = (installation.cluster().await?, anonymous().await?);
    let namespace = cluster.tenant_namespace("team", "team").await?;
    let (all, named) = (cluster.unique("all"), cluster.unique("named"));
    cluster.apply(&system(&all, &json!({"endpoint": open.url()}))).await?;
    let spec = json!({"endpoint": open.url(), "availability": {"tenants": [cluster.unique("team")]}});
    cluster.apply(&system(&named, &spec)).await?;

    let run = nobody(installation)?.run(&["list", "-n", &namespace]).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("Tenant of namespace") && run.stderr.contains("cannot get"), "{run:#?}");
    assert!(run.stderr.contains(&format!("TenantRegistries in {namespace} not shown")), "{run:#?}");
    assert!(run.stderr.contains("for named tenants only"), "{run:#?}");
    assert!(row(&run.stdout, "system", &all).is_some(), "{run:#?}");
    assert!(row(&run.stdout, "system", &named).is_none(), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn namespace_member_sees_its_own_registries() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, open) = (installation.cluster().await?, Protected::open().await?);
    let namespace = cluster.tenant_namespace("team", "team").await?;
    let sibling = cluster.tenant_namespace("team", "team-dev").await?;
    let member = cluster.unique("member");
    for inside in [&namespace, &sibling] {
        cluster.apply(&tenant(inside, "charts", &open.open_spec())).await?;
    }
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "member", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": member}],
    });
    let reader = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "member", "namespace": namespace},
        "rules": [{
            "apiGroups": ["registry.spectrocloud.com"], "resources": ["tenantregistries"],
            "verbs": ["get", "list"],
        }],
    });
    let mut read = role.clone();
    read["metadata"]["name"] = json!("reader");
    read["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "member"});
    cluster.apply(&format!("{role}\n---\n{reader}\n---\n{read}")).await?;
    let desk = Desk::at(installation.control_plane().kubeconfig_for_user(&member, &[])?)?;
    // A RoleBinding takes effect when the authorizer has seen it.
    let look = || async {
        let run = desk.run(&["list", "-n", &namespace]).await?;
        if row(&run.stdout, "tenant", "charts").is_some() { Ok(run) } else { bail!("{run:#?}") }
    };
    let run = eventually("the member's own registry is listed", look).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(!run.stdout.contains(&sibling), "{run:#?}");
    assert!(run.stderr.contains(&format!("TenantRegistries of {namespace} alone are shown")), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reports_namespace_without_tenant_or_missing() -> Result<()> {
    // The plugin doesn't use a proxy from the environment for the API server either.
    let desk = Installation::shared().await?.desk()?.with("HTTPS_PROXY", "http://127.0.0.1:1");
    let run = desk.run(&["list", "-n", "default"]).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stderr.contains("Namespace default belongs to no tenant"), "{run:#?}");
    let run = desk.run(&["list", "-n", "no-such-namespace"]).await?;
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn describe_shows_conditions_and_events() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let protected = Protected::start().await?;
    let namespace = cluster.tenant_namespace("team", "team").await?;
    let (name, secret) = (cluster.unique("packs"), cluster.unique("login"));
    let mut spec = protected.spec();
    spec["auth"]["basic"]["secretRef"]["name"] = json!(secret);
    spec["availability"] = json!({"tenants": [cluster.unique("team")]});
    cluster.apply(&(login(&secret, Some(SYSTEM_NAMESPACE), "wrong") + &system(&name, &spec))).await?;
    cluster.becomes(&cluster.system(), &name, "Ready=False/Rejected").await?;
    told(&cluster, "default", &name, "Rejected").await?;

    let run = desk.run(&["describe", &name]).await?;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:#?}");
    assert!(
        run.line("TLSVerified").contains("✓") && run.line("CredentialsValidated").contains("✗"),
        "{run:#?}"
    );
    assert!(run.line("subject").ends_with("CN=registry"), "{run:#?}");
    assert!(run.line("valid until").contains("(in 3"), "{run:#?}");
    assert!(run.line("Tenants").ends_with(&cluster.unique("team")), "{run:#?}");
    assert!(run.line("Namespaces").ends_with(&format!("1: {namespace}")), "{run:#?}");
    assert!(run.line("Credentials:").contains(&secret), "{run:#?}");
    let event = run.stdout.lines().rfind(|line| line.contains("Warning")).unwrap_or_default();
    assert!(event.contains("Rejected") && event.contains(" ago"), "{run:#?}");

    let run = desk.run(&["describe", &format!("sysreg/{name}"), "-o", "json"]).await?;
    let object: Value = serde_json::from_str(&run.stdout)?;
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("SystemRegistry"), &json!(name)));
    Ok(())
}

/// Waits until there is an Event with that name and reason. It is written after the status.
pub async fn told(cluster: &Cluster, namespace: &str, name: &str, reason: &str) -> Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), namespace);
    let about = ListParams::default().fields(&format!("regarding.name={name}"));
    let look = || async {
        let found = events.list(&about).await?.items;
        if found.iter().any(|event| event.reason.as_deref() == Some(reason)) { Ok(()) } else { bail!("none") }
    };
    Ok(eventually(format!("an event {reason} of {name}"), look).await?)
}

#[tokio::test]
async fn resolves_name_that_exists_in_both_scopes() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let open = Protected::open().await?;
    let namespace = cluster.tenant_namespace("team", "team").await?;
    let name = cluster.unique("both");
    let spec = open.open_spec();
    cluster.apply(&(system(&name, &spec) + &tenant(&namespace, &name, &spec))).await?;

    let run = desk.run(&["describe", &name]).await?;
    assert!(run.line("Kind:").ends_with("SystemRegistry") && run.stderr.is_empty(), "{run:#?}");
    let run = desk.run(&["describe", &name, "-n", &namespace]).await?;
    assert!(run.line("Kind:").ends_with("TenantRegistry"), "{run:#?}");
    assert!(run.stderr.contains("A SystemRegistry has the same name"), "{run:#?}");
    let run = desk.run(&["describe", &format!("systemregistry/{name}"), "-n", &namespace]).await?;
    assert!(run.line("Kind:").ends_with("SystemRegistry") && run.stderr.is_empty(), "{run:#?}");

    // Users who can only read SystemRegistries get one.
    let run = nobody(installation)?.run(&["describe", &name, "-n", &namespace]).await?;
    assert!(run.code == 0 && run.line("Kind:").ends_with("SystemRegistry"), "{run:#?}");
    let run = nobody(installation)?.run(&["describe", "tenreg/x", "-n", &namespace]).await?;
    assert!(run.code == 2 && run.stderr.contains("cannot get"), "{run:#?}");

    let run = desk.run(&["describe", "no-such-registry"]).await?;
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:#?}");
    assert!(run.stderr.contains("Registry no-such-registry not found"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn escapes_control_characters_of_the_cluster() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk, open) = (installation.cluster().await?, installation.desk()?, anonymous().await?);
    let name = cluster.unique("evil");
    // Suspended, so that the operator doesn't overwrite this status.
    cluster.apply(&system(&name, &json!({"endpoint": open.url(), "suspend": true}))).await?;
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Rejected",
        "message": "\u{1b}[2J\u{9b}31m\u{202e}evil\r", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"status": {"conditions": [condition], "tls": {"subject": "\u{1b}]0;title\u{7}"}}});
    cluster.system().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let describe = ["describe", &name];
    for arguments in [
        describe.to_vec(),
        ["list", "-A", "-o", "wide"].to_vec(),
        [describe.as_slice(), &["-o", "json"]].concat(),
        [describe.as_slice(), &["-o", "yaml"]].concat(),
    ] {
        let run = desk.run(&arguments).await?;
        assert!(run.code == 0 && run.stdout.contains("evil"), "{run:#?}");
        let text = run.everything();
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r', '\u{7}']), "{arguments:?}: {text:?}");
    }
    Ok(())
}

// ---- validate

#[tokio::test]
async fn validates_schema_by_dry_run() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk, open) = (installation.cluster().await?, installation.desk()?, anonymous().await?);
    let name = cluster.unique("packs");
    let wrong =
        json!({"endpoint": open.url(), "baseContentPath": "packs", "validation": {"interval": "10s"}});
    let file = desk.file("wrong.yaml", &system(&name, &wrong))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.line("Manifest").ends_with("spec.validation.interval must be from 1m to 24h"), "{run:#?}");

    let file = desk.file("right.yaml", &system(&name, &json!({"endpoint": open.url()})))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert!(run.code == 0 && run.line("Manifest").contains("✓  Manifest"), "{run:#?}");
    assert!(cluster.system().get_opt(&name).await?.is_none());

    // It exists, and the operator is working on it.
    let other = json!({"endpoint": open.url(), "baseContentPath": "other"});
    cluster.apply(&system(&name, &other)).await?;
    for round in 0..5 {
        let asked = json!({"metadata": {"annotations": {"registry.spectrocloud.com/requestedAt": round.to_string()}}});
        cluster.system().patch(&name, &PatchParams::default(), &Patch::Merge(asked)).await?;
        let run = desk.run(&["validate", "-f", &file]).await?;
        assert!(run.code == 0 && run.line("Manifest").contains("✓  Manifest"), "{run:#?}");
    }
    assert_eq!(cluster.system().get(&name).await?.spec.base_content_path.as_deref(), Some("other"));

    let run = nobody(installation)?.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.line("Manifest").contains("you may not create or change it in this cluster"), "{run:#?}");
    Ok(())
}

/// Returns the notes about missing permissions, except for the number of omitted `SystemRegistries`, because other
/// tests create and delete some at the same time.
fn refusals(run: &Run) -> Vec<&str> {
    run.stderr.lines().filter(|line| line.contains("forbidden")).collect()
}

#[tokio::test]
async fn supports_impersonation() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let namespace = cluster.tenant_namespace("impersonated", "impersonated").await?;
    let own = nobody(installation)?.run(&["list", "-n", &namespace]).await?;
    let list = ["list", "-n", &namespace, "--as", "nobody-in-particular"];
    let run = desk.run(&list).await?;
    assert_eq!((run.code, refusals(&run)), (own.code, refusals(&own)), "{run:#?}");
    assert_eq!(refusals(&run).len(), 2, "the namespace and what is in it: {run:#?}");

    let run =
        desk.run(&[list.as_slice(), &["--as-group", "system:masters", "--as-group", "any"]].concat()).await?;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:#?}");
    let run = desk.run(&["list", "--as-group", "system:masters"]).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reads_secrets_from_cluster_if_not_in_file() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let protected = Protected::start().await?;
    let (name, secret) = (cluster.unique("packs"), cluster.unique("login"));
    let mut spec = protected.spec();
    spec["auth"]["basic"]["secretRef"]["name"] = json!(secret);
    let file = desk.file("packs.yaml", &system(&name, &spec))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.line("ResolvedRefs").contains("SecretNotFound"), "{run:#?}");

    cluster.apply(&login(&secret, Some(SYSTEM_NAMESPACE), PASSWORD)).await?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!((run.code, run.last_line()), (0, "✓ Credentials validated"), "{run:#?}");
    assert!(run.stdout.contains("read from the cluster") && !run.everything().contains(PASSWORD), "{run:#?}");

    let run = nobody(installation)?.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.last_line().contains("you may not read it in the cluster"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn checks_tenant_registry_in_its_namespace() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk) = (installation.cluster().await?, installation.desk()?);
    let open = Protected::open().await?;
    let spec = open.open_spec();
    let namespace = cluster.tenant_namespace("team", "team").await?;
    let file = desk.file("mine.yaml", &tenant(&namespace, "mine", &spec))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 0, "{run:#?}");

    let file = desk.file("nobodys.yaml", &tenant("default", "mine", &spec))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 1, "{run:#?}");

    let new = cluster.unique("new");
    let declared = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": new, "labels": {"registry.spectrocloud.com/tenant": "new"}},
    });
    let file = desk.file("new.yaml", &format!("{declared}\n---\n{}", tenant(&new, "mine", &spec)))?;
    let run = desk.run(&["validate", "-f", &file]).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.line("Manifest").contains(&format!("namespace {new} does not exist yet")), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn checks_without_reachable_cluster() -> Result<()> {
    let (desk, open) = (Desk::new()?, anonymous().await?);
    let kubeconfig = desk.file("kubeconfig", DEAD)?;
    let file = desk.file("open.yaml", &system("open", &json!({"endpoint": open.url()})))?;
    let run = desk.run(&["validate", "-f", &file, "--kubeconfig", &kubeconfig]).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.line("Manifest").contains("?  Manifest"), "{run:#?}");
    assert!(run.line("Manifest").contains("failed to reach the API server"), "{run:#?}");
    let run = desk.run(&["list", "--kubeconfig", &kubeconfig]).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    let run = desk.run(&["list", "--kubeconfig", &kubeconfig, "--context", "none"]).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reports_broken_kubeconfig_without_content() -> Result<()> {
    let (desk, open) = (Desk::new()?, anonymous().await?);
    let manifest = desk.file("open.yaml", &system("open", &json!({"endpoint": open.url()})))?;
    let broken = [
        format!("apiVersion: v1\nusers:\n- {{name: x, user: {{token: {PASSWORD}\n"),
        format!("users: {PASSWORD}\n"),
        format!("users: [{{name: x, user: {{token: [{PASSWORD}]}}}}]\n"),
    ];
    for text in broken {
        let kubeconfig = desk.file("kubeconfig", &text)?;
        for arguments in [["list"].as_slice(), &["validate", "-f", &manifest], &["describe", "packs"]] {
            let run = desk.run(&[arguments, &["--kubeconfig", &kubeconfig]].concat()).await?;
            assert!(run.code == 2 && run.stderr.contains("kubeconfig"), "{run:#?}");
            assert!(!run.everything().contains(PASSWORD), "{run:#?}");
        }
    }
    Ok(())
}

/// A cluster at a port where nothing listens.
const DEAD: &str = "
apiVersion: v1
kind: Config
current-context: dead
clusters: [{name: dead, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: dead, context: {cluster: dead, user: dead}}]
users: [{name: dead, user: {}}]
";

#[tokio::test]
async fn plugin_and_operator_give_the_same_verdict() -> Result<()> {
    let installation = Installation::shared().await?;
    let (cluster, desk, open) = (installation.cluster().await?, installation.desk()?, anonymous().await?);
    let protected = Protected::start().await?;
    let (right, wrong) = (cluster.unique("right"), cluster.unique("wrong"));
    let secrets =
        login(&right, Some(SYSTEM_NAMESPACE), PASSWORD) + &login(&wrong, Some(SYSTEM_NAMESPACE), "wrong");
    cluster.apply(&secrets).await?;
    let with = |secret: &str, tls: Option<Value>| {
        let mut spec = protected.spec();
        spec["auth"]["basic"]["secretRef"]["name"] = json!(secret);
        if let Some(tls) = tls {
            spec["tls"] = tls;
        }
        spec
    };
    let unprovable = json!({"endpoint": open.url(), "auth": {"basic": {"secretRef": {"name": right}}}});
    let cases = [
        ("good", with(&right, None), "Ready=True/Available"),
        ("bad", with(&wrong, None), "Ready=False/Rejected"),
        ("missing", with("no-such-secret", None), "Ready=False/SecretNotFound"),
        ("unknown", with(&right, Some(json!({"insecureSkipVerify": false}))), "Ready=False/UnknownIssuer"),
        ("skipped", with(&right, Some(json!({"insecureSkipVerify": true}))), "Ready=True/Available"),
        ("open", json!({"endpoint": open.url()}), "Ready=True/Available"),
        ("unprovable", unprovable, "Ready=True/CredentialsUnprovable"),
        ("path", json!({"endpoint": open.url(), "baseContentPath": "no/such"}), "Ready=True/Available"),
        ("gone", json!({"endpoint": "http://127.0.0.1:1"}), "Ready=False/ConnectionRefused"),
        ("nowhere", json!({"endpoint": "https://no-such-registry.invalid"}), "Ready=False/DNSFailure"),
    ];
    for (name, spec, ready) in cases {
        let name = cluster.unique(name);
        let manifest = system(&name, &spec);
        let file = desk.file("one.yaml", &manifest)?;
        let run = desk.run(&["validate", "-f", &file, "-o", "json"]).await?;
        cluster.apply(&manifest).await?;
        let object = cluster.becomes(&cluster.system(), &name, ready).await?;
        let said: Value = serde_json::from_str(&run.stdout)?;
        let here = words(said["status"]["conditions"].as_array());
        let there = json!(object.status.unwrap_or_default().conditions);
        assert_eq!(here, words(there.as_array()), "{name}");
    }
    Ok(())
}

fn words(conditions: Option<&Vec<Value>>) -> Vec<String> {
    let conditions = conditions.into_iter().flatten();
    conditions
        .map(|one| format!("{}={}/{}: {}", one["type"], one["status"], one["reason"], one["message"]))
        .collect()
}
