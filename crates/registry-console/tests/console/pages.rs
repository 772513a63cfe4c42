//! The pages: what they show to whom, and what every one of them says to the browser.

use anyhow::{Context as _, Result};
use http::header;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bed::{Browser, Cluster};

fn registry(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
         spec: {{endpoint: 'https://registry.example:5000', baseContentPath: team/packs{more}}}}}"
    )
}

/// As the operator would.
async fn validated(cluster: &Cluster, name: &str, status: &str, reason: &str, message: &str) -> Result<()> {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = json!({
        "observedGeneration": 1, "lastValidationTime": "2026-01-01T00:00:00Z",
        "conditions": [condition("EndpointReachable"), condition("Ready")],
    });
    let patch = Patch::Merge(json!({"status": status}));
    cluster.system().patch_status(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The row of the table with that name.
fn row<'a>(page: &'a str, name: &str) -> &'a str {
    let mut rows = page.split("<tr role=\"row\">");
    rows.find(|row| row.contains(&format!("<bdi>{name}</bdi>"))).unwrap_or_default()
}

#[tokio::test]
async fn table_shows_each_registry_with_its_reason() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (good, bad) = (Cluster::unique("good"), Cluster::unique("bad"));
    for name in [&good, &bad] {
        cluster.apply(&registry(name, ", contentType: Helm, auth: {basic: {secretRef: {name: s}}}")).await?;
    }
    validated(&cluster, &good, "True", "Available", "Credentials validated").await?;
    validated(
        &cluster,
        &bad,
        "False",
        "ConnectionRefused",
        "refused the connection <script>alert(1)</script>",
    )
    .await?;
    let browser = cluster.administrator().await?;
    let page = browser.get("/system/registries").await?;
    assert_eq!(page.status, 200);
    for column in
        ["Name", "Scope", "Type", "Authentication", "Endpoint / content path", "Available", "Last validated"]
    {
        assert!(page.has(&format!("scope=\"col\">{column}</th>")), "{column}");
    }
    let good = row(&page.text, &good);
    for words in
        [">System<", ">Helm<", ">Basic<", "https://registry.example:5000", "team/packs", ">✓<", "Available"]
    {
        assert!(good.contains(words), "{words}: {good}");
    }
    let bad = row(&page.text, &bad);
    assert!(
        bad.contains(">✗<") && bad.contains("ConnectionRefused") && bad.contains("refused the connection"),
        "{bad}"
    );
    assert!(!page.text.contains("<script>alert"), "a message is text");
    Ok(())
}

#[tokio::test]
async fn filter_leaves_what_matches() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (one, other) = (Cluster::unique("needle"), Cluster::unique("straw"));
    for name in [&one, &other] {
        cluster.apply(&registry(name, "")).await?;
    }
    let browser = cluster.administrator().await?;
    let page = browser.get("/system/registries?filter=NEEDLE").await?;
    assert!(!row(&page.text, &one).is_empty() && row(&page.text, &other).is_empty());
    let nothing = browser.get("/system/registries?filter=%3Cscript%3E").await?;
    assert!(nothing.has("No registry matches") && !nothing.has("<script>\u{201d}"), "{nothing:#?}");
    Ok(())
}

#[tokio::test]
async fn without_the_right_the_button_is_disabled_with_the_reason() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let page = cluster.administrator().await?.get("/system/registries").await?;
    assert!(page.has("href=\"/system/add/basic\">Add New Pack Registry</a>"), "{page:#?}");
    let page = cluster.user("reader").await?.get("/system/registries").await?;
    assert_eq!(page.status, 200);
    assert!(page.has("disabled aria-describedby=\"cannot-add\">Add New Pack Registry</button>"), "{page:#?}");
    assert!(page.has("You may not create SystemRegistries; ask a cluster administrator"), "{page:#?}");
    assert!(!page.has("/delete\">"), "no control that doesn't work");
    Ok(())
}

#[tokio::test]
async fn member_of_one_namespace_sees_what_its_tenant_has() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (tenant, namespace) = (Cluster::unique("team"), Cluster::unique("team-ns"));
    let (all, others, member) =
        (Cluster::unique("all"), Cluster::unique("others"), Cluster::unique("member"));
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    cluster.apply(&registry(&all, "")).await?;
    cluster.apply(&registry(&others, ", availability: {tenants: [another]}")).await?;
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
             metadata: {{name: charts, namespace: {namespace}}}, spec: {{endpoint: 'https://registry.example'}}}}"
        ))
        .await?;
    let browser = cluster.user(&member).await?;
    let whole = browser.get(&format!("/tenants/{tenant}/registries")).await?;
    assert!(whole.has("can't be listed") && whole.has("name one below"), "{whole:#?}");

    let page = browser.get(&format!("/tenants/{tenant}/registries?namespace={namespace}")).await?;
    assert!(row(&page.text, "charts").contains(">Tenant<"), "{page:#?}");
    let system = row(&page.text, &all);
    assert!(system.contains("can only be removed there") && !system.contains("/delete\""), "{system}");
    assert!(row(&page.text, &others).is_empty(), "registries of other tenants aren't shown");
    assert!(
        page.has(&format!("/tenants/{tenant}/add/basic?namespace={namespace}\">Add New Pack Registry")),
        "{page:#?}"
    );

    let detail = browser.get(&format!("/tenants/{tenant}/registries/{namespace}/charts")).await?;
    assert!(detail.status == 200 && detail.has("https://registry.example"), "{detail:#?}");
    Ok(())
}

#[tokio::test]
async fn namespace_of_another_tenant_is_not_found() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (tenant, namespace) = (Cluster::unique("owner"), Cluster::unique("owner-ns"));
    cluster
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{registry.spectrocloud.com/tenant: {tenant}}}}}}}"
        ))
        .await?;
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
             metadata: {{name: charts, namespace: {namespace}}}, spec: {{endpoint: 'https://registry.example'}}}}"
        ))
        .await?;
    let browser = cluster.administrator().await?;
    let stranger = cluster.user("reader").await?;
    let paths = |tenant: &str| {
        let registry = format!("/tenants/{tenant}/registries/{namespace}/charts");
        [
            format!("/tenants/{tenant}/registries?namespace={namespace}"),
            format!("/tenants/{tenant}/add/basic?namespace={namespace}"),
            format!("{registry}/delete"),
            registry,
        ]
    };
    for path in paths(&tenant) {
        assert_eq!(browser.get(&path).await?.status, 200, "{path}");
    }
    for path in paths("another") {
        let page = browser.get(&path).await?;
        assert!(page.status == 404 && page.has("does not belong to tenant another"), "{path}: {page:#?}");
    }
    let registry = format!("/tenants/another/registries/{namespace}/charts");
    assert_eq!(browser.post(&format!("{registry}/validate"), "").await?.status, 404);
    assert_eq!(browser.post(&format!("{registry}/delete"), "name=charts&uid=u").await?.status, 404);
    let unknown = stranger.get(&format!("/tenants/another/add/basic?namespace={namespace}")).await?;
    assert!(unknown.status == 200 && unknown.has("belongs to tenant another is not known"), "{unknown:#?}");
    Ok(())
}

#[tokio::test]
async fn deletion_needs_the_name_and_no_protection() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (name, kept) = (Cluster::unique("gone"), Cluster::unique("protected"));
    cluster.apply(&registry(&name, ", auth: {basic: {secretRef: {name: login}}}")).await?;
    cluster.apply(&registry(&kept, ", deletionProtection: true")).await?;
    let browser = cluster.administrator().await?;
    let url = format!("/system/registries/{name}/delete");
    let page = browser.get(&url).await?;
    assert!(page.has("Secret registry-system/login") && page.has("All tenants"), "{page:#?}");
    let uid = page.value("uid").to_owned();
    let wrong = browser.post(&url, &format!("name=other&uid={uid}")).await?;
    assert!(wrong.status == 422 && wrong.has(&format!("Type {name} to delete it")), "{wrong:#?}");
    assert!(cluster.system().get_opt(&name).await?.is_some());
    for (body, words) in
        [("", "Confirm the deletion on this page"), ("&uid=other", "was replaced since this page was shown")]
    {
        let unseen = browser.post(&url, &format!("name={name}{body}")).await?;
        assert!(unseen.status == 422 && unseen.has(words), "{unseen:#?}");
    }
    assert!(cluster.system().get_opt(&name).await?.is_some());
    let done = browser.post(&url, &format!("name={name}&uid={uid}")).await?;
    assert_eq!((done.status, done.location()), (303, format!("/system/registries?deleted={name}").as_str()));
    assert!(cluster.system().get_opt(&name).await?.is_none());

    let url = format!("/system/registries/{kept}/delete");
    let page = browser.get(&url).await?;
    assert!(
        page.has("Deletion protection is on") && !page.has("type=\"submit\">Delete</button>"),
        "{page:#?}"
    );
    let uid = cluster.system().get(&kept).await?.metadata.uid.unwrap_or_default();
    assert_eq!(browser.post(&url, &format!("name={kept}&uid={uid}")).await?.status, 422);
    assert!(cluster.system().get_opt(&kept).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn users_of_other_levels_cannot_delete() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("kept");
    cluster.apply(&registry(&name, "")).await?;
    let reader = cluster.user("reader").await?;
    let url = format!("/system/registries/{name}/delete");
    let page = reader.get(&url).await?;
    assert!(
        page.has("You may not delete SystemRegistries") && !page.has("type=\"submit\">Delete</button>"),
        "{page:#?}"
    );
    assert_eq!(reader.post(&url, &format!("name={name}")).await?.status, 422);
    assert!(cluster.system().get_opt(&name).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn open_table_is_told_of_a_change() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let browser = cluster.user("reader").await?;
    let page = browser.get("/system/registries").await?;
    let since = page
        .text
        .split("data-since=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .context("no version")?;
    let waiting = format!("/system/changes?since={since}");
    let name = Cluster::unique("news");
    let news = registry(&name, "");
    let (told, applied) = tokio::join!(browser.get(&waiting), cluster.apply(&news));
    applied?;
    assert_eq!(told?.status, 200);
    assert!(!row(&browser.get("/system/registries").await?.text, &name).is_empty());
    let stranger = cluster.stranger().await?;
    assert_eq!(stranger.get(&waiting).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn validate_now_asks_the_operator() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("again");
    cluster.apply(&registry(&name, "")).await?;
    let browser = cluster.administrator().await?;
    let asked = browser.post(&format!("/system/registries/{name}/validate"), "").await?;
    assert_eq!(asked.location(), format!("/system/registries/{name}"));
    let annotations = cluster.system().get(&name).await?.metadata.annotations.context("no annotation")?;
    assert!(annotations.contains_key(registry_api::REQUESTED_AT), "{annotations:?}");
    let page = browser.get(asked.location()).await?;
    assert!(page.has("The operator is validating it now") && page.headers.contains_key(header::REFRESH));
    Ok(())
}

#[tokio::test]
async fn every_answer_is_guarded_and_none_is_kept() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let browser = cluster.administrator().await?;
    let paths =
        ["/system", "/system/registries", "/system/add/basic", "/system/add/ecr", "/tenants", "/nowhere"];
    for path in paths {
        let page = browser.get(path).await?;
        let says =
            |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let policy = says("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'")
                && policy.contains("require-trusted-types-for 'script'")
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(says("cache-control"), "no-store", "{path}");
        assert_eq!((says("x-content-type-options"), says("x-frame-options")), ("nosniff", "DENY"));
        for inline in [" style=", " onclick=", "<style", "javascript:", "<script>"] {
            assert!(!page.has(inline), "{path}: {inline}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn first_visit_is_small_and_assets_are_kept() -> Result<()> {
    let browser: Browser = Cluster::shared().await?.administrator().await?;
    // Without the registries of other tests.
    let page = browser.get("/system/registries?filter=nothing-has-this-name").await?;
    let mut assets: Vec<&str> = page.text.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assets.sort_unstable();
    assets.dedup();
    assert!(assets.len() <= 3, "{assets:?}");
    let mut size = page.text.len();
    for path in assets {
        let asset = browser.get(path).await?;
        assert_eq!(asset.status, 200, "{path}");
        assert!(asset.headers[header::CACHE_CONTROL].to_str()?.contains("immutable"), "{path}");
        size += asset.text.len();
    }
    // Uncompressed.
    assert!(size <= 60 * 1024, "{size}");
    Ok(())
}
