//! `validate` without a cluster: real registries, and Secrets in the file.

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    bed::{Desk, Run},
    registries::{Aws, PASSWORD, Protected, USER, anonymous, login, system, tenant},
};

fn ends(run: &Run, code: i32, last_line: &str) {
    assert_eq!((run.code, run.last_line()), (code, last_line), "{run:#?}");
}

fn shows(run: &Run, mark: &str, layer: &str, reason: &str) {
    let words: Vec<&str> = run.line(&format!(" {layer} ")).split_whitespace().take(3).collect();
    assert_eq!(words, [mark, layer, reason], "{run:#?}");
}

#[tokio::test]
async fn validates_password_from_every_secret_type() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let docker = json!({"auths": {protected.registry.host_port(): {"username": USER, "password": PASSWORD}}});
    let docker = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "login", "namespace": "registry-system"},
        "data": {".dockerconfigjson": BASE64_STANDARD.encode(docker.to_string())},
    });
    for secret in [login("login", Some("registry-system"), PASSWORD), docker.to_string()] {
        let run = desk.validate(&format!("{}{secret}", system("packs", &protected.spec()))).await?;
        ends(&run, 0, "✓ Credentials validated");
        shows(&run, "?", "Manifest", "NotAsked");
        shows(&run, "✓", "ResolvedRefs", "Resolved");
        shows(&run, "✓", "EndpointReachable", "Reachable");
        shows(&run, "✓", "TLSVerified", "Verified");
        shows(&run, "✓", "CredentialsValidated", "Validated");
        shows(&run, "?", "ContentPathAccessible", "Inconclusive");
        assert!(run.stdout.starts_with("SystemRegistry packs  https://127.0.0.1:"), "{run:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn rejects_wrong_password_with_advice() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let manifests = system("packs", &protected.spec()) + &login("login", None, "wrong");
    let run = desk.validate(&manifests).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✗", "CredentialsValidated", "Rejected");
    assert!(
        run.last_line().starts_with("✗ Not usable: CredentialsValidated is Rejected. Correct"),
        "{run:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn explains_unknown_ca_with_certificate() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut spec = protected.spec();
    spec["tls"] = Value::Null;
    let run = desk.validate(&(system("packs", &spec) + &login("login", None, PASSWORD))).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✗", "TLSVerified", "UnknownIssuer");
    shows(&run, "?", "CredentialsValidated", "NotAttempted");
    assert!(run.field("subject").ends_with("CN=registry"), "{run:#?}");
    assert!(run.field("issuer").ends_with("CN=private authority"), "{run:#?}");
    assert!(run.field("valid").contains(" from 2") && run.field("valid").contains(" until 2"), "{run:#?}");
    let pem: String =
        protected.leaf.certificate_pem().lines().filter(|line| !line.starts_with("--")).collect();
    let sha256 = Sha256::digest(BASE64_STANDARD.decode(pem)?);
    let sha256 = sha256.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    assert!(run.field("sha256").ends_with(&sha256), "{run:#?}");
    let last = run.last_line();
    assert!(
        last.contains("Add the CA to spec.tls.ca") && last.contains("spec.tls.insecureSkipVerify: true"),
        "{last}"
    );
    Ok(())
}

#[tokio::test]
async fn reports_skipped_verification() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut spec = protected.spec();
    spec["tls"] = json!({"insecureSkipVerify": true});
    let run = desk.validate(&(system("packs", &spec) + &login("login", None, PASSWORD))).await?;
    ends(&run, 0, "✓ Credentials validated");
    shows(&run, "✗", "TLSVerified", "VerificationSkipped");
    assert!(run.stdout.contains("CN=private authority"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn open_registry_is_usable_without_credentials() -> Result<()> {
    let (desk, registry) = (Desk::new()?, anonymous().await?);
    let run = desk.validate(&system("open", &json!({"endpoint": registry.url()}))).await?;
    ends(&run, 0, "✓ Usable: the registry allows anonymous access, and no credentials are given");
    shows(&run, "✗", "TLSVerified", "PlainHTTP");
    shows(&run, "✓", "CredentialsValidated", "AnonymousAccess");

    let spec = json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": "login"}}}});
    let run = desk.validate(&(system("open", &spec) + &login("login", None, PASSWORD))).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    shows(&run, "?", "CredentialsValidated", "Unprovable");
    assert!(run.last_line().starts_with("? Usable, but the credentials could not be verified"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reports_missing_credentials_and_unknown_host() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut spec = protected.spec();
    spec["auth"] = Value::Null;
    let run = desk.validate(&system("packs", &spec)).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✗", "CredentialsValidated", "Required");

    let run =
        desk.validate(&system("packs", &json!({"endpoint": "https://no-such-registry.invalid"}))).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✗", "EndpointReachable", "DNSFailure");
    Ok(())
}

#[tokio::test]
async fn blocks_metadata_addresses_but_not_loopback() -> Result<()> {
    let (desk, registry) = (Desk::new()?, anonymous().await?);
    for address in ["169.254.169.254", "100.100.100.200"] {
        let run = desk.validate(&system("evil", &json!({"endpoint": format!("http://{address}")}))).await?;
        assert_eq!(run.code, 1, "{run:#?}");
        shows(&run, "✗", "EndpointReachable", "EgressDenied");
    }
    // The operator denies a tenant's endpoint on loopback, but the plugin runs for the user.
    let run = desk.validate(&tenant("team-a", "mine", &json!({"endpoint": registry.url()}))).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("Tenant of namespace team-a unknown"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn ignores_proxy_environment_variables() -> Result<()> {
    let registry = anonymous().await?;
    let proxy = "http://127.0.0.1:1";
    let desk = Desk::new()?.with("HTTP_PROXY", proxy).with("HTTPS_PROXY", proxy).with("ALL_PROXY", proxy);
    let run = desk.validate(&system("open", &json!({"endpoint": registry.url()}))).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reads_password_from_stdin() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let file = desk.file("packs.yaml", &system("packs", &protected.spec()))?;
    let arguments = ["validate", "--offline", "-f", &file, "--username", USER, "--password-stdin"];
    let run = desk.run_with(&arguments, &format!("{PASSWORD}\n")).await?;
    ends(&run, 0, "✓ Credentials validated");
    assert!(run.stdout.contains("read from standard input"), "{run:#?}");
    let run = desk.run_with(&arguments, "wrong\n").await?;
    assert_eq!(run.code, 1, "{run:#?}");

    let none = desk.file("none.yaml", &system("none", &json!({"endpoint": protected.registry.url()})))?;
    let run = desk.run_with(&["validate", "--offline", "-f", &none, "--password-stdin"], PASSWORD).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn rejects_username_without_password() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let file = desk.file("packs.yaml", &system("packs", &protected.spec()))?;
    let run = desk.run_with(&["validate", "--offline", "-f", &file, "--password-stdin"], PASSWORD).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.everything().contains("--username"), "{run:#?}");
    let arguments = ["validate", "--offline", "-f", &file, "--username", USER, "--password-stdin"];
    let run = desk.run_with(&arguments, "\n").await?;
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(protected.registry.requests().is_empty(), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn reads_manifests_from_stdin() -> Result<()> {
    let (desk, registry) = (Desk::new()?, anonymous().await?);
    let manifest = system("open", &json!({"endpoint": registry.url()}));
    let run = desk.run_with(&["validate", "--offline", "-f", "-"], &manifest).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    let run = desk.run_with(&["validate", "--offline", "-f", "-", "--password-stdin"], &manifest).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.stderr.contains("standard input can't be both"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn exit_code_is_that_of_the_worst_registry() -> Result<()> {
    let (desk, protected, open) = (Desk::new()?, Protected::start().await?, anonymous().await?);
    let manifests = system("open", &json!({"endpoint": open.url()}))
        + &system("packs", &protected.spec())
        + &login("login", None, "wrong");
    let run = desk.validate(&manifests).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.stdout.contains("SystemRegistry open") && run.stdout.contains("SystemRegistry packs"));

    let file = desk.file("both.yaml", &manifests)?;
    let run = desk.run(&["validate", "--offline", "-f", &file, "-o", "name"]).await?;
    assert_eq!((run.code, run.stdout.as_str()), (1, "systemregistry.registry.spectrocloud.com/open\n"));
    for format in ["json", "yaml"] {
        let run = desk.run(&["validate", "--offline", "-f", &file, "-o", format]).await?;
        let list: Value = serde_saphyr::from_str(&run.stdout)?;
        assert_eq!((run.code, &list["kind"]), (1, &json!("List")));
        assert_eq!(list["items"][0]["usable"], json!(true));
        let conditions = list["items"][1]["status"]["conditions"].as_array().expect("conditions");
        let rejected = conditions.iter().find(|one| one["type"] == "CredentialsValidated");
        assert_eq!(rejected.map(|one| &one["reason"]), Some(&json!("Rejected")));
    }
    Ok(())
}

#[tokio::test]
async fn exits_with_two_if_check_is_impossible() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let run = desk.validate(&system("packs", &protected.spec())).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    assert!(run.last_line().starts_with("? Not checked: Secret registry-system/login"), "{run:#?}");
    assert!(run.last_line().contains("--password-stdin"), "{run:#?}");
    assert!(protected.registry.requests().is_empty(), "nothing is to be sent without what the spec names");

    assert_eq!(desk.validate("kind: [").await?.code, 2);
    assert_eq!(desk.validate("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n").await?.code, 2);
    let elsewhere = [
        ["validate", "-f", "/nonexistent"].as_slice(),
        &["validate"],
        &["list", "--no-such-flag"],
        &["list"],
        &["list", "--kubeconfig", "/nonexistent"],
        &["describe", "pod/x"],
        &[],
    ];
    for arguments in elsewhere {
        let run = desk.run(arguments).await?;
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run:#?}");
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
    Ok(())
}

#[tokio::test]
async fn rejects_invalid_manifest_before_sending() -> Result<()> {
    let (desk, registry) = (Desk::new()?, anonymous().await?);
    let wrong =
        json!({"endpoint": registry.url(), "auth": PASSWORD, "contentType": "Pack", "extra": PASSWORD});
    let run = desk.validate(&system("packs", &wrong)).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.stdout.contains("spec.auth must be a mapping"), "{run:#?}");
    assert!(run.stdout.contains("spec.extra: unknown field"), "{run:#?}");
    assert!(!run.everything().contains(PASSWORD), "{run:#?}");
    assert!(registry.requests().is_empty());

    for (endpoint, why) in [
        (
            format!("https://{USER}:{PASSWORD}@registry.example.com"),
            "spec.endpoint must not contain credentials",
        ),
        ("oci://registry.example.com".into(), "a registry without TLS), not oci://"),
    ] {
        let spec = json!({"endpoint": endpoint, "validation": {"interval": "1s"}});
        let run = desk.validate(&system("packs", &spec)).await?;
        assert_eq!(run.code, 1, "{run:#?}");
        shows(&run, "✗", "Manifest", "Refused");
        assert!(run.stdout.contains(why), "{run:#?}");
        assert!(run.stdout.contains("spec.validation.interval must be from 1m to 24h"), "{run:#?}");
        assert!(!run.everything().contains(PASSWORD), "{run:#?}");
    }
    let older = system("packs", &json!({"endpoint": registry.url()})).replace("v1alpha1", "v1");
    assert!(
        desk.validate(&older).await?.stdout.contains("apiVersion must be registry.spectrocloud.com/v1alpha1")
    );
    Ok(())
}

#[tokio::test]
async fn never_prints_a_secret() -> Result<()> {
    let (desk, protected, open) = (Desk::new()?, Protected::start().await?, anonymous().await?);
    let mut unknown_ca = protected.spec();
    unknown_ca["tls"] = Value::Null;
    let mut plain = protected.spec();
    plain["endpoint"] = json!(open.url());
    plain["tls"] = Value::Null;
    let broken = format!("{PASSWORD}\u{7}");
    let mut cases = Vec::new();
    for password in [PASSWORD, &broken] {
        for spec in [&protected.spec(), &unknown_ca, &plain] {
            cases.push(system("packs", spec) + &login("login", None, password));
        }
    }
    let encoded = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    for manifests in cases {
        let file = desk.file("packs.yaml", &manifests)?;
        for format in [None, Some("json"), Some("yaml"), Some("name")] {
            let mut arguments = vec!["validate", "--offline", "-f", &file];
            arguments.extend(format.iter().flat_map(|format| ["-o", format]));
            let said = desk.run(&arguments).await?.everything();
            for secret in [PASSWORD, &BASE64_STANDARD.encode(PASSWORD), &encoded] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn ignores_secret_of_another_namespace() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let run = desk
        .validate(&(system("packs", &protected.spec()) + &login("login", Some("team-a"), PASSWORD)))
        .await?;
    assert_eq!(run.code, 2, "{run:#?}");
    let run = desk.validate(&(system("packs", &protected.spec()) + &login("login", None, PASSWORD))).await?;
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("apply it with kubectl apply -n registry-system"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn validates_ecr_with_keys_from_secret() -> Result<()> {
    let (protected, aws) = (Protected::of_aws().await?, Aws::start(PASSWORD).await?);
    let desk =
        Desk::new()?.with("AWS_ENDPOINT_URL_ECR", &aws.url).with("AWS_ACCESS_KEY_ID", "OF-THE-ENVIRONMENT");
    let mut spec = protected.open_spec();
    let keys = json!({"credentials": {"secretRef": {"name": "keys"}}, "region": "eu-central-1"});
    spec["auth"] = json!({"ecr": keys});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"AWS_ACCESS_KEY_ID": "AKIAOFTHESECRET", "AWS_SECRET_ACCESS_KEY": PASSWORD},
    });
    let run = desk.validate(&format!("{}{secret}", system("packs", &spec))).await?;
    ends(&run, 0, "✓ Credentials validated");
    assert!(!run.everything().contains(PASSWORD), "{run:#?}");
    let asked = aws.asked.lock().expect("no panic meanwhile").clone();
    assert!(
        asked.contains("Credential=AKIAOFTHESECRET/") && !asked.contains("OF-THE-ENVIRONMENT"),
        "{asked}"
    );
    Ok(())
}

#[tokio::test]
async fn reads_ca_from_config_maps_and_secrets() -> Result<()> {
    let (desk, open, strangers) = (Desk::new()?, Protected::open().await?, Protected::open().await?);
    let object = |kind: &str, pem: &str| {
        let text = if kind == "Secret" { "stringData" } else { "data" };
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "authority"}, text: {"ca.crt": pem}})
    };
    for (kind, field) in [("ConfigMap", "configMapRef"), ("Secret", "secretRef")] {
        let spec = json!({"endpoint": open.registry.url(), "tls": {"ca": {field: {"name": "authority"}}}});
        for (pem, code, reason) in [
            (open.ca.certificate_pem(), 0, "Verified"),
            (strangers.ca.certificate_pem(), 1, "UnknownIssuer"),
            ("no certificate", 1, "NotAttempted"),
        ] {
            let run = desk.validate(&format!("{}{}", system("open", &spec), object(kind, pem))).await?;
            assert_eq!(run.code, code, "{run:#?}");
            assert!(run.line(" TLSVerified ").contains(reason), "{run:#?}");
        }
        let run = desk.validate(&system("open", &spec)).await?;
        assert_eq!(run.code, 2, "{run:#?}");
        assert!(run.last_line().contains(&format!("{kind} registry-system/authority")), "{run:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn reads_token_but_not_aws_keys_from_stdin() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut spec = protected.spec();
    spec["auth"] = json!({"token": {"secretRef": {"name": "token"}}});
    let file = desk.file("token.yaml", &system("packs", &spec))?;
    let run = desk.run_with(&["validate", "--offline", "-f", &file, "--password-stdin"], PASSWORD).await?;
    // This registry only accepts passwords.
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✓", "ResolvedRefs", "Resolved");
    assert!(!run.everything().contains(PASSWORD), "{run:#?}");

    spec["auth"] = json!({"ecr": {"region": "eu-central-1", "credentials": {"secretRef": {"name": "keys"}}}});
    let file = desk.file("keys.yaml", &system("packs", &spec))?;
    let run = desk.run_with(&["validate", "--offline", "-f", &file, "--password-stdin"], PASSWORD).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn does_not_check_operator_aws_identity() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut spec = protected.spec();
    spec["auth"] = json!({"ecr": {
        "region": "eu-central-1", "sts": {"roleARN": "arn:aws:iam::123456789012:role/registry"},
    }});
    let run = desk.validate(&system("packs", &spec)).await?;
    assert_eq!(run.code, 2, "{run:#?}");
    shows(&run, "✓", "TLSVerified", "Verified");
    shows(&run, "?", "CredentialsValidated", "NotAttempted");
    assert!(run.last_line().starts_with("? Not known: Not checked: the operator's AWS identity"), "{run:#?}");
    Ok(())
}

#[tokio::test]
async fn rejects_secret_that_the_operator_rejects() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let mut by_token = protected.spec();
    by_token["auth"] = json!({"token": {"secretRef": {"name": "token"}}});
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "namespace": "registry-system"}, "stringData": {"token": PASSWORD},
    });
    let run = desk.validate(&format!("{}{token}", system("packs", &by_token))).await?;
    assert_eq!(run.code, 1, "{run:#?}");
    shows(&run, "✗", "ResolvedRefs", "SecretInvalid");
    let command =
        "kubectl create secret generic token -n registry-system --type=registry.spectrocloud.com/token";
    assert!(run.everything().contains(command), "{run:#?}");

    let annotated = |namespace: &str, hosts: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": {
                "name": "login", "namespace": namespace,
                "annotations": {"registry.spectrocloud.com/hosts": hosts},
            },
            "stringData": {"username": USER, "password": PASSWORD},
        })
    };
    let packs = system("packs", &protected.spec());
    let run =
        desk.validate(&format!("{packs}{}", annotated("registry-system", "elsewhere.example.org"))).await?;
    shows(&run, "✗", "ResolvedRefs", "SecretInvalid");
    let run = desk.validate(&format!("{packs}{}", annotated("registry-system", "127.0.0.1"))).await?;
    ends(&run, 0, "✓ Credentials validated");

    let policy = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"secretHosts": "Required"},
        "metadata": {"name": "registry-operator-tenant-policy", "namespace": "registry-system"},
    });
    let team = tenant("team-a", "packs", &protected.spec());
    let bare = login("login", Some("team-a"), PASSWORD);
    let run = desk.validate(&format!("{team}{bare}{policy}")).await?;
    shows(&run, "✗", "ResolvedRefs", "SecretInvalid");
    assert!(run.everything().contains("kubectl annotate secret login -n team-a"), "{run:#?}");
    let run = desk.validate(&format!("{team}{}\n---\n{policy}", annotated("team-a", "127.0.0.1"))).await?;
    ends(&run, 0, "✓ Credentials validated");
    let run = desk.validate(&format!("{team}{bare}")).await?;
    ends(&run, 0, "✓ Credentials validated");
    Ok(())
}
