//! RBAC: who may do what, and who may give rights.

use anyhow::Result;
use serde_json::{Value, json};

use super::{custom, namespace, path, registry, secret};
use crate::{call::Call, side::Side};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ACCOUNT: &str = "system:serviceaccount:access:robot";
const OPERATOR: &str = "system:serviceaccount:bindings:robot";

fn role(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
    })
}

fn binding(name: &str, role: &str, subject: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    })
}

fn cluster_binding(name: &str, role: &str, subject: &Value) -> Value {
    let mut binding = binding(name, role, subject);
    binding["kind"] = json!("ClusterRoleBinding");
    binding
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

fn account(namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": "robot", "namespace": namespace})
}

async fn set_up(side: &mut Side, name: &str) -> Result<()> {
    namespace(side, name).await?;
    let robot = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    side.ask(&Call::create(path(name, "serviceaccounts"), &robot)).await?;
    Ok(())
}

pub async fn rbac(side: &mut Side) -> Result<()> {
    set_up(side, "access").await?;
    let secrets = path("access", "secrets");
    side.ask(&Call::create(&secrets, &secret("one", json!({})))).await?;
    side.ask(&Call::create(custom("access"), &registry("packs", json!({})))).await?;
    refused(side, &secrets).await?;
    granted(side, &secrets).await?;
    reviews(side).await
}

async fn refused(side: &mut Side, secrets: &str) -> Result<()> {
    let one = format!("{secrets}/one");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let packs = format!("{}/packs", custom("access"));
    for call in [
        Call::get(&one),
        Call::get(secrets),
        Call::get(format!("{secrets}?fieldSelector=metadata.name%3Done")),
        Call::get("/api/v1/secrets"),
        Call::create(secrets, &secret("two", json!({}))),
        Call::replace(&one, &secret("one", json!({}))),
        Call::merge(&one, &label),
        Call::delete(&one),
        Call::delete(secrets),
        Call::merge(format!("{packs}/status"), &json!({"status": {"observedGeneration": 1}})),
        Call::get("/apis/registry.spectrocloud.com/v1alpha1/systemregistries"),
        Call::get(format!("{RBAC}/clusterroles/view")).metadata(),
        Call::get(path("missing", "secrets")),
    ] {
        side.send(call.by("jane")).await?;
    }
    Ok(())
}

async fn granted(side: &mut Side, secrets: &str) -> Result<()> {
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"], "resourceNames": ["one"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["patch"]},
        {"apiGroups": ["registry.spectrocloud.com"], "resources": ["*/status"], "verbs": ["patch"]},
        {"apiGroups": ["registry.spectrocloud.com"], "resources": ["*"], "verbs": ["get"]},
    ]);
    side.ask(&Call::create(format!("{RBAC}/clusterroles"), &role("access-some", &rules))).await?;
    let bindings = format!("{RBAC}/namespaces/access/rolebindings");
    side.send(Call::create(&bindings, &binding("jane", "access-some", &user("jane")))).await?;
    side.send_until(200, Call::get(format!("{secrets}/one")).by("jane")).await?;
    let packs = format!("{}/packs", custom("access"));
    for call in [
        Call::get(format!("{secrets}/two")),
        Call::get(secrets),
        Call::get(format!("{secrets}?fieldSelector=metadata.name%3Done")),
        Call::merge(format!("{secrets}/one"), &json!({"metadata": {"labels": {"a": "b"}}})),
        Call::apply(format!("{secrets}/new?fieldManager=jane"), &secret("new", json!({}))),
        Call::merge(format!("{packs}/status"), &json!({"status": {"observedGeneration": 1}})),
        Call::get(&packs),
        Call::merge(&packs, &json!({"spec": {"suspend": true}})),
        Call::get(path("default", "secrets")),
    ] {
        side.send(call.by("jane")).await?;
    }
    side.ask(&Call::delete(format!("{bindings}/jane"))).await?;
    side.send_until(403, Call::get(format!("{secrets}/one")).by("jane")).await?;
    Ok(())
}

async fn reviews(side: &mut Side) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    for user in ["jane", ACCOUNT] {
        let answer = side.ask(&Call::create(path, &review).by(user)).await?;
        side.note(
            &format!("who {user} is"),
            answer.code,
            &json!({
                "kind": answer.body["kind"], "user": answer.body["status"]["userInfo"]["username"],
                "groups": answer.body["status"]["userInfo"]["groups"],
                "has a uid": !answer.text("/status/userInfo/uid").is_empty(),
            }),
        );
    }
    let rules = json!([{"apiGroups": ["registry.spectrocloud.com"], "resources": ["systemregistries"], "verbs": ["administer"]}]);
    side.ask(&Call::create(format!("{RBAC}/clusterroles"), &role("access-administer", &rules))).await?;
    let bound = cluster_binding("access-administer", "access-administer", &account("access"));
    side.ask(&Call::create(format!("{RBAC}/clusterrolebindings"), &bound)).await?;
    let mut may = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "group": "registry.spectrocloud.com", "resource": "systemregistries", "verb": "administer",
        }},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    side.ask_until(Call::create(path, &may).by(ACCOUNT), |answer| answer.body["status"]["allowed"] == true)
        .await?;
    for (user, verb) in
        [(ACCOUNT, "administer"), (ACCOUNT, "delete"), ("jane", "administer"), ("admin", "administer")]
    {
        may["spec"]["resourceAttributes"]["verb"] = json!(verb);
        let answer = side.ask(&Call::create(path, &may).by(user)).await?;
        side.note(&format!("{user} may {verb}"), answer.code, &json!(answer.body["status"]["allowed"]));
    }
    Ok(())
}

/// The operator binds itself in a tenant's namespace.
pub async fn bindings(side: &mut Side) -> Result<()> {
    set_up(side, "bindings").await?;
    namespace(side, "bindings-team").await?;
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]);
    let group = "rbac.authorization.k8s.io";
    let own = json!([
        {"apiGroups": [group], "resources": ["rolebindings"], "verbs": ["get", "create", "patch", "delete", "list"]},
        {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["bindings-tenant"]},
        {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["get"], "resourceNames": ["bindings-tenant"]},
    ]);
    let roles = format!("{RBAC}/clusterroles");
    let tenant = side.ask(&Call::create(&roles, &role("bindings-tenant", &secrets))).await?;
    side.ask(&Call::create(&roles, &role("bindings-other", &secrets))).await?;
    side.ask(&Call::create(&roles, &role("bindings-robot", &own))).await?;
    let bound = cluster_binding("bindings-robot", "bindings-robot", &account("bindings"));
    side.ask(&Call::create(format!("{RBAC}/clusterrolebindings"), &bound)).await?;
    let read_role = Call::get(format!("{roles}/bindings-tenant")).metadata();
    side.send_until(200, read_role.by(OPERATOR)).await?;
    side.send(Call::get(path("bindings-team", "secrets")).by(OPERATOR)).await?;
    let all = format!("{RBAC}/namespaces/bindings-team/rolebindings");
    let one = format!("{all}/robot?fieldManager=access&force=true");
    let mut whole = binding("robot", "bindings-tenant", &account("bindings"));
    whole["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "bindings-tenant", "uid": tenant.uid(),
    }]);
    side.send(Call::apply(&one, &whole).by(OPERATOR)).await?;
    side.send(Call::apply(&one, &whole).by(OPERATOR)).await?;
    side.send_until(200, Call::get(path("bindings-team", "secrets")).by(OPERATOR)).await?;
    let other = binding("robot", "bindings-other", &account("bindings"));
    side.send(Call::apply(&one, &other).by(OPERATOR).code_only()).await?;
    side.send(Call::apply(&one, &other)).await?;
    let more = binding("more", "bindings-other", &account("bindings"));
    side.send(Call::create(&all, &more)).await?;
    let refused = binding("yet-more", "bindings-robot", &account("bindings"));
    side.send(Call::apply(format!("{all}/yet-more?fieldManager=access"), &refused).by(OPERATOR).code_only())
        .await?;
    whole["subjects"] = json!([account("bindings"), {"kind": "User", "name": "jane"}]);
    side.send(Call::apply(&one, &whole).by(OPERATOR)).await?;
    side.send(Call::get(format!("{all}?fieldSelector=metadata.name%3Drobot")).by(OPERATOR)).await?;
    let uid = side.ask(&Call::get(format!("{all}/robot"))).await?.uid();
    side.send(
        Call::delete_with(format!("{all}/robot"), &json!({"preconditions": {"uid": uid}})).by(OPERATOR),
    )
    .await?;
    Ok(())
}
