//! Add New Pack Registry: validated as it stands on the page, gated by the user's own rights, and written whole or not at all.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::bed::{Cluster, DRAFT, PASSWORD, Page, Protected, SYSTEM_NAMESPACE, USER, with};

const BASIC: &str = "/system/add/basic";

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE)
}

fn login<'a>(name: &'a str, endpoint: &'a str) -> Vec<(&'a str, &'a str)> {
    let action = [("action", "validate"), ("content_type", "Pack"), ("draft", DRAFT)];
    with(&action, &[("name", name), ("endpoint", endpoint), ("username", USER), ("password", PASSWORD)])
}

fn concludes(page: &Page, tone: &str, words: &str) -> bool {
    let last = page.text.split(&format!("class=\"conclusion {tone}\"")).nth(1).unwrap_or_default();
    last.split("</p>").next().unwrap_or_default().contains(words)
}

#[tokio::test]
async fn login_is_validated_confirmed_and_never_shown() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, protected) = (cluster.administrator().await?, Protected::start().await?);
    let (name, host) = (Cluster::unique("packs"), protected.registry.host_port());
    let empty = browser.get(BASIC).await?;
    let draft = empty.value("draft").to_owned();
    assert!(draft.len() > 40, "{empty:#?}");
    let typed = with(&login(&name, &host), &[("draft", &draft)]);

    let unknown = browser.submit(BASIC, &typed).await?;
    assert!(concludes(&unknown, "bad", "TLSVerified is UnknownIssuer"), "{unknown:#?}");
    assert!(unknown.has("https:// was added") && unknown.has("CN=private authority"), "{unknown:#?}");

    let ca = [("ca_file", protected.ca.certificate_pem()), ("password", "")];
    let valid = browser.submit(BASIC, &with(&typed, &ca)).await?;
    assert!(concludes(&valid, "good", "Credentials validated"), "{valid:#?}");
    assert!(valid.has("Kept for this form") && valid.has("-----BEGIN CERTIFICATE-----"), "{valid:#?}");
    let found = secrets(&cluster).list(&ListParams::default()).await?;
    assert!(!found.items.iter().any(|secret| secret.name_any().starts_with(&name)), "nothing is stored");
    assert!(cluster.system().get_opt(&name).await?.is_none());

    let confirmed = browser.submit(BASIC, &with(&with(&typed, &ca), &[("action", "confirm")])).await?;
    assert_eq!(
        (confirmed.status, confirmed.location()),
        (303, format!("/system/registries/{name}?added").as_str())
    );
    let registry = cluster.system().get(&name).await?;
    assert_eq!(registry.spec.endpoint, format!("https://{host}"));
    let secret = secrets(&cluster).get(&format!("{name}-login")).await?;
    assert_eq!(secret.annotations()[registry_api::HOSTS_ANNOTATION], host);
    assert_eq!(secret.data.unwrap_or_default()["password"].0, PASSWORD.as_bytes());

    let detail = browser.get(confirmed.location()).await?;
    assert!(detail.has(&format!("{name} added")), "{detail:#?}");
    for page in [&empty, &unknown, &valid, &confirmed, &detail] {
        assert!(!page.has(PASSWORD) && !format!("{:?}", page.headers).contains(PASSWORD));
    }
    Ok(())
}

#[tokio::test]
async fn changed_field_voids_the_green_check() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, protected) = (cluster.administrator().await?, Protected::start().await?);
    let (name, url) = (Cluster::unique("changed"), protected.registry.url());
    let typed = with(&login(&name, &url), &[("insecure_skip_verify", "on")]);
    let valid = browser.submit(BASIC, &typed).await?;
    assert!(concludes(&valid, "good", "Credentials validated"), "{valid:#?}");
    let changed = with(&typed, &[("action", "confirm"), ("base_content_path", "team"), ("password", "")]);
    let page = browser.submit(BASIC, &changed).await?;
    assert!(page.status == 200 && page.has("Add anyway?"), "{page:#?}");
    assert!(cluster.system().get_opt(&name).await?.is_none());
    let anyway = browser.submit(BASIC, &with(&changed, &[("action", "confirm-anyway")])).await?;
    assert_eq!(anyway.status, 303, "{anyway:#?}");
    assert!(cluster.system().get_opt(&name).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn wrong_password_and_anonymous_registry_are_no_green_check() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, protected) = (cluster.administrator().await?, Protected::start().await?);
    let url = protected.registry.url();
    let wrong = with(&login("packs-x", &url), &[("insecure_skip_verify", "on"), ("password", "wrong")]);
    let page = browser.submit(BASIC, &wrong).await?;
    assert!(concludes(&page, "bad", "CredentialsValidated is Rejected"), "{page:#?}");
    let open = registry_testbed::TestRegistry::start(registry_testbed::RegistryOptions::default()).await?;
    let open_url = open.url();
    let page = browser.submit(BASIC, &login("packs-x", &open_url)).await?;
    assert!(concludes(&page, "doubt", "could not be verified"), "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn secret_that_exists_is_named_and_not_read() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, protected) = (cluster.administrator().await?, Protected::start().await?);
    let (name, url) = (Cluster::unique("by-name"), protected.registry.url());
    let others =
        [("username", ""), ("password", ""), ("existing_secret", "shared"), ("insecure_skip_verify", "on")];
    let page = browser.submit(BASIC, &with(&login(&name, &url), &others)).await?;
    assert!(concludes(&page, "doubt", "the console does not read Secrets"), "{page:#?}");
    assert!(page.has("VerificationSkipped"), "the certificate was looked at: {page:#?}");
    let fields = with(&login(&name, &url), &others);
    let added = browser.submit(BASIC, &with(&fields, &[("action", "confirm-anyway")])).await?;
    assert_eq!(added.status, 303, "{added:#?}");
    let auth = cluster.system().get(&name).await?.spec.auth.unwrap_or_default();
    assert_eq!(auth.basic.map(|basic| basic.secret_ref.name).as_deref(), Some("shared"));
    Ok(())
}

#[tokio::test]
async fn nothing_leaves_for_the_endpoint_before_the_gate() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let protected = Protected::start().await?;
    let (name, url) = (Cluster::unique("gated"), protected.registry.url());
    let typed = with(&login(&name, &url), &[("insecure_skip_verify", "on")]);
    let reader = cluster.user("reader").await?.submit(BASIC, &typed).await?;
    assert!(reader.status == 422 && reader.has("you may not create or change it"), "{reader:#?}");
    let administrator = cluster.administrator().await?;
    let path = administrator.submit(BASIC, &with(&typed, &[("base_content_path", "/Team/")])).await?;
    assert!(
        path.status == 422 && path.has("id=\"base_content_path-wrong\">spec.baseContentPath"),
        "{path:#?}"
    );
    let half = administrator.submit(BASIC, &with(&typed, &[("username", "")])).await?;
    assert!(half.status == 422 && half.has("Username is required with a Password"), "{half:#?}");
    let verified: Vec<(&str, &str)> =
        typed.iter().filter(|(name, _)| *name != "insecure_skip_verify").copied().collect();
    let tenant = administrator.submit("/tenants/nobody/add/basic?namespace=default", &verified).await?;
    assert!(tenant.status == 404 && tenant.has("does not belong to tenant nobody"), "{tenant:#?}");
    let unreadable = administrator.submit(BASIC, &with(&typed, &[("ca", "no certificate")])).await?;
    assert!(unreadable.status == 422 && unreadable.has("contains no PEM certificate"), "{unreadable:#?}");
    assert!(protected.registry.requests().is_empty(), "{:?}", protected.registry.requests());
    Ok(())
}

#[tokio::test]
async fn taken_name_is_refused_at_the_field() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("taken");
    let open = [
        ("action", "confirm-anyway"),
        ("content_type", "Pack"),
        ("name", &*name),
        ("endpoint", "https://127.0.0.1:1"),
    ];
    let browser = cluster.administrator().await?;
    assert_eq!(browser.submit(BASIC, &open).await?.status, 303);
    let again = browser.submit(BASIC, &open).await?;
    assert!(again.status == 422 && again.has("id=\"name-wrong\">SystemRegistry"), "{again:#?}");
    assert!(again.has("already exists; choose another name"), "{again:#?}");
    Ok(())
}

#[tokio::test]
async fn secret_is_taken_back_when_the_registry_is_refused() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("refused-late");
    cluster.refuse_writes_of(&name, "CREATE").await?;
    let browser = cluster.administrator().await?;
    let typed = with(&login(&name, "https://127.0.0.1:1"), &[("action", "confirm-anyway")]);
    let page = browser.submit(BASIC, &typed).await?;
    assert!(page.status == 422 && page.has("refused when it is too late"), "{page:#?}");
    assert!(
        secrets(&cluster).get_opt(&format!("{name}-login")).await?.is_none(),
        "the Secret was taken back"
    );
    assert!(!page.has("is left"), "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn twenty_first_validation_in_a_minute_is_refused() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let browser = cluster.administrator().await?;
    let name = Cluster::unique("often");
    let typed = login(&name, "https://127.0.0.1:1");
    for number in 1..=20 {
        let page = browser.submit(BASIC, &typed).await?;
        assert_eq!(page.status, 200, "{number}");
    }
    let page = browser.submit(BASIC, &typed).await?;
    assert!(page.status == 429 && page.has("at most 20 a minute"), "{page:#?}");
    assert_eq!(page.value("name"), name, "the form comes back");
    Ok(())
}

#[tokio::test]
async fn ecr_form_adds_a_role_with_its_external_id() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, name) = (cluster.administrator().await?, Cluster::unique("ecr"));
    let typed = [
        ("content_type", "Helm"),
        ("name", &*name),
        ("endpoint", "123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
        ("protected", "on"),
        ("method", "sts"),
        ("role_arn", "arn:aws:iam::123456789012:role/registry"),
    ];
    let page = browser.submit("/system/add/ecr", &with(&typed, &[("action", "generate")])).await?;
    let id = page.value("external_id").to_owned();
    assert!(id.len() > 40 && page.has(&format!("\"sts:ExternalId\": \"{id}\"")), "{page:#?}");
    let fields = with(&typed, &[("external_id", &id), ("action", "confirm-anyway")]);
    assert_eq!(browser.submit("/system/add/ecr", &fields).await?.status, 303);
    let sts = cluster.system().get(&name).await?.spec.auth.unwrap_or_default().ecr.unwrap_or_default().sts;
    assert_eq!(sts.unwrap_or_default().external_id.as_deref(), Some(id.as_str()));
    let wrong = browser
        .submit("/system/add/ecr", &with(&fields, &[("name", "other"), ("role_arn", "nonsense")]))
        .await?;
    assert!(
        wrong.status == 422 && wrong.has("id=\"role_arn-wrong\">spec.auth.ecr.sts.roleARN"),
        "{wrong:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn aws_keys_are_not_sent_where_the_policy_is_unknown() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (tenant, namespace, member) =
        (Cluster::unique("aws"), Cluster::unique("aws-ns"), Cluster::unique("aws-member"));
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    let protected = Protected::start().await?;
    let (browser, url) = (cluster.user(&member).await?, protected.registry.url());
    let typed = [
        ("content_type", "Helm"),
        ("draft", DRAFT),
        ("name", "mirror"),
        ("endpoint", &url),
        ("protected", "on"),
        ("region", "eu-central-1"),
        ("access_key", "AKIAIOSFODNN7EXAMPLE"),
        ("password", PASSWORD),
        ("ca", protected.ca.certificate_pem()),
    ];
    let path = format!("/tenants/{tenant}/add/ecr?namespace={namespace}");
    let page = browser.submit(&path, &with(&typed, &[("action", "validate")])).await?;
    assert!(concludes(&page, "doubt", "whether tenantPolicy.allowedEndpoints lists this host"), "{page:#?}");
    let confirmed = browser.submit(&path, &with(&typed, &[("action", "confirm")])).await?;
    assert!(confirmed.has("Add anyway?"), "it doesn't count as validated: {confirmed:#?}");
    Ok(())
}
