//! The Role registry-system-credentials, which comes with the console: its users can create credentials of registries in the system
//! namespace, and no other Secrets. Nobody else's Secrets are affected.

use anyhow::{Result, ensure};
use registry_testbed::{Kubernetes, eventually, manifests, policies_are_in_force};
use serde_json::{Value, json};

use crate::{
    call::{Call, User, a_namespace},
    helm::Helm,
    stage::{SYSTEM_NAMESPACE, Stage},
};

const NOT_CREDENTIALS: &str = "Users who can only create Secrets in registry-system may create only credentials of registries there; use \
                               type kubernetes.io/basic-auth, kubernetes.io/dockerconfigjson or registry.spectrocloud.com/token \
                               with its own keys, or Opaque with AWS keys";
const NOT_PLAIN: &str = "Users who can only create Secrets in registry-system may not set finalizers, owners, labels or annotations of \
                         other programs, or a name that begins with sh.helm.";

#[tokio::test]
async fn credentials_role_creates_credentials_only_on_newest() -> Result<()> {
    credentials_role_creates_credentials_only(Kubernetes::Newest).await
}

#[tokio::test]
async fn credentials_role_creates_credentials_only_on_oldest() -> Result<()> {
    credentials_role_creates_credentials_only(Kubernetes::Oldest).await
}

async fn credentials_role_creates_credentials_only(kubernetes: Kubernetes) -> Result<()> {
    let stage = with_console(kubernetes).await?;
    let root = User::new("root", stage.control_plane().client().await?);
    root.may(&binding(SYSTEM_NAMESPACE, "registry-system-credentials", "limited")).await?;
    let limited = stage.user("limited").await?;
    let first = secret("first", "kubernetes.io/basic-auth", &["username", "password"]);
    eventually("the right arrives", || limited.may(&first)).await?;
    creates_credentials(&limited).await?;
    creates_nothing_else(&limited).await?;
    neither_reads_nor_changes(&limited).await?;
    has_other_roles_elsewhere(&stage, &root, &limited).await?;
    others_are_not_affected(&stage, &root).await?;
    type_checks(&root).await
}

/// A control plane with what the chart installs if the console is enabled.
async fn with_console(kubernetes: Kubernetes) -> Result<Stage> {
    let stage = Stage::bare(kubernetes).await?;
    let client = stage.control_plane().client().await?;
    let values = [
        "--set=console.enabled=true",
        "--set=console.publicURL=https://console.example.com",
        "--set=console.behindTLSProxy=true",
    ];
    let rendered = Helm::of(&stage).await?.template(&values).await?;
    let mut objects = manifests::parse("the chart", &rendered)?;
    objects.insert(0, serde_json::from_value(a_namespace(SYSTEM_NAMESPACE, None))?);
    manifests::apply(&client, objects).await?;
    policies_are_in_force(&client).await?;
    Ok(stage)
}

fn rights(namespace: &str, of: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/{of}")
}

fn binding(namespace: &str, role: &str, user: &str) -> Call {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("{role}-{user}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    Call::create(&rights(namespace, "rolebindings"), binding)
}

/// Gives a user these verbs on the Secrets of a namespace.
async fn grant(root: &User, namespace: &str, user: &str, verbs: &[&str]) -> Result<()> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": user},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}],
    });
    root.may(&Call::create(&rights(namespace, "roles"), role)).await?;
    root.may(&binding(namespace, user, user)).await.map(drop)
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn object(name: &str, of_type: &str, keys: &[&str]) -> Value {
    let value = |key: &&str| {
        let value = if *key == ".dockerconfigjson" { "{\"auths\": {}}" } else { "x" };
        ((*key).to_owned(), json!(value))
    };
    let data: serde_json::Map<String, Value> = keys.iter().map(value).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "type": of_type, "metadata": {"name": name}, "stringData": data})
}

fn secret(name: &str, of_type: &str, keys: &[&str]) -> Call {
    Call::create(&secrets(SYSTEM_NAMESPACE), object(name, of_type, keys))
}

/// The same, with metadata besides the name.
fn with_metadata(name: &str, field: &str, value: Value) -> Call {
    let mut object = object(name, "kubernetes.io/basic-auth", &["username", "password"]);
    object["metadata"][field] = value;
    Call::create(&secrets(SYSTEM_NAMESPACE), object)
}

async fn creates_credentials(limited: &User) -> Result<()> {
    // As the console does.
    let hosts = json!({registry_api::HOSTS_ANNOTATION: "registry.example.com:443"});
    limited.may(&with_metadata("packs-login", "annotations", hosts)).await?;
    limited.may(&with_metadata("labelled", "labels", json!({"app.kubernetes.io/part-of": "packs"}))).await?;
    for (name, of_type, keys) in [
        ("docker", "kubernetes.io/dockerconfigjson", &[".dockerconfigjson"][..]),
        ("token", registry_api::TOKEN_SECRET_TYPE, &["token"]),
        ("refresh", registry_api::TOKEN_SECRET_TYPE, &["identityToken"]),
        ("keys", "Opaque", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]),
    ] {
        limited.may(&secret(name, of_type, keys)).await?;
    }
    Ok(())
}

async fn creates_nothing_else(limited: &User) -> Result<()> {
    for (of_type, keys) in [
        ("Opaque", &["password"][..]),
        ("Opaque", &["AWS_ACCESS_KEY_ID", "tls.key"]),
        // A volume of that name would mount them.
        ("kubernetes.io/basic-auth", &["username", "password", "tls.crt", "tls.key"]),
        ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
        ("helm.sh/release.v1", &["release"]),
        ("bootstrap.kubernetes.io/token", &["token-id", "token-secret"]),
        ("registry.spectrocloud.com/rejections", &[]),
    ] {
        limited.may_not(&secret("other", of_type, keys), NOT_CREDENTIALS).await?;
        limited.may_not(&secret("other", of_type, keys).dry(), NOT_CREDENTIALS).await?;
    }
    // The API server would put a token of the operator into it.
    let mut token = object("other", "kubernetes.io/service-account-token", &[]);
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "registry-operator"});
    let (code, refusal) = limited.refusal(&Call::create(&secrets(SYSTEM_NAMESPACE), token)).await?;
    ensure!(code == 403 && refusal.contains("denied request"), "{code} {refusal}");
    let owner = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "1"}]);
    for (field, value) in [
        ("finalizers", json!(["example.com/never"])),
        ("ownerReferences", owner),
        ("labels", json!({"argocd.argoproj.io/secret-type": "repository"})),
        ("annotations", json!({"replicator.v1.mittwald.de/replicate-to": "*"})),
        ("name", json!("sh.helm.release.v1.registry-operator.v2")),
    ] {
        limited.may_not(&with_metadata("other", field, value), NOT_PLAIN).await?;
    }
    Ok(())
}

async fn neither_reads_nor_changes(limited: &User) -> Result<()> {
    let path = format!("{}/packs-login", secrets(SYSTEM_NAMESPACE));
    let changed = object("packs-login", "kubernetes.io/basic-auth", &["username", "password"]);
    for call in [
        Call::get(&path),
        Call::get(&secrets(SYSTEM_NAMESPACE)),
        Call::merge(&path, json!({"stringData": {"password": "y"}})),
        Call::replace(&path, changed.clone()),
        Call::apply(&path, changed),
        Call::delete(&path),
        Call::delete(&secrets(SYSTEM_NAMESPACE)),
        Call::create(&secrets("default"), object("other", "Opaque", &["x"])),
    ] {
        limited.has_no_right_to(&call).await?;
    }
    Ok(())
}

/// The policy is about the system namespace only.
async fn has_other_roles_elsewhere(stage: &Stage, root: &User, limited: &User) -> Result<()> {
    grant(root, "default", "limited", &["create"]).await?;
    let tls = Call::create(&secrets("default"), object("tls", "kubernetes.io/tls", &["tls.crt", "tls.key"]));
    eventually("the right arrives", || limited.may(&tls)).await?;
    let elsewhere = stage.user("limited").await?;
    elsewhere.may_not(&secret("other", "kubernetes.io/tls", &["tls.crt", "tls.key"]), NOT_CREDENTIALS).await
}

/// Those who can also read or change Secrets there: Helm, cert-manager, External Secrets, GitOps tools, administrators.
async fn others_are_not_affected(stage: &Stage, root: &User) -> Result<()> {
    for verb in ["get", "list", "watch", "update", "patch"] {
        let name = format!("with-{verb}");
        grant(root, SYSTEM_NAMESPACE, &name, &["create", verb]).await?;
        let user = stage.user(&name).await?;
        let release = format!("sh.helm.release.v1.{name}.v1");
        let release = secret(&release, "helm.sh/release.v1", &["release"]);
        eventually("the rights arrive", || user.may(&release)).await?;
        user.may(&secret(&name, "Opaque", &["anything"])).await?;
    }
    // A right to delete doesn't show what is in a Secret, and can't put anything else into it.
    grant(root, SYSTEM_NAMESPACE, "with-delete", &["create", "delete"]).await?;
    let user = stage.user("with-delete").await?;
    let login = secret("deleted", "kubernetes.io/basic-auth", &["username"]);
    eventually("the rights arrive", || user.may(&login)).await?;
    user.may_not(&secret("other", "Opaque", &["anything"]), NOT_CREDENTIALS).await?;
    root.may(&secret("by-root", "kubernetes.io/tls", &["tls.crt", "tls.key"])).await.map(drop)
}

async fn type_checks(root: &User) -> Result<()> {
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let get = Call::get(&format!("{policies}/system-credentials.registry.spectrocloud.com"));
    let look = || async {
        let policy = root.may(&get).await?;
        ensure!(!policy["status"]["observedGeneration"].is_null(), "it is not checked yet");
        Ok(policy["status"]["typeChecking"]["expressionWarnings"].clone())
    };
    let warnings = eventually("the policy is checked", look).await?;
    ensure!(warnings.is_null(), "{warnings}");
    Ok(())
}
