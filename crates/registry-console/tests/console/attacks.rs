//! What attackers try: on every page that the router has, and on every answer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use http::{HeaderName, Method, header};
use kube::api::{Patch, PatchParams};
use registry_testbed::eventually;
use serde_json::json;

use crate::{
    bed::{Cluster, PASSWORD, Page, Protected, USER},
    cluster_bed::{Account, ClusterConsole},
    site::{answers, paths},
};

const VALUES: [(&str, &str); 4] =
    [("tenant", "team"), ("namespace", "default"), ("name", "packs"), ("tab", "basic")];
/// Turns the text after it around.
const OVERRIDE: char = '\u{202e}';

fn says<'a>(page: &'a Page, name: &str) -> &'a str {
    page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Can't be framed, guessed, kept or scripted.
fn is_guarded(page: &Page) -> bool {
    let policy = says(page, "content-security-policy");
    let has = |part| policy.contains(part);
    has("default-src 'none'")
        && has("frame-ancestors 'none'")
        && has("form-action 'self'")
        && has("require-trusted-types-for 'script'")
        && !has("unsafe")
        && says(page, "x-frame-options") == "DENY"
        && says(page, "x-content-type-options") == "nosniff"
        && says(page, "cache-control") == "no-store"
        && says(page, "cross-origin-opener-policy") == "same-origin"
}

/// No answer shows anything, and at least one says that nobody is signed in.
fn nobody_is_signed_in(answers: &[(String, Page)]) -> Result<()> {
    for (what, page) in answers {
        ensure!((400..500).contains(&page.status), "{what}: {page:#?}");
        ensure!(!page.has("Signed in as"), "{what}: {page:#?}");
    }
    ensure!(answers.iter().any(|(_, page)| page.status == 401), "{answers:#?}");
    Ok(())
}

#[tokio::test]
async fn every_page_needs_a_session() -> Result<()> {
    let stranger = Cluster::shared().await?.stranger().await?;
    let paths = paths(&VALUES);
    ensure!(
        paths.len() > 10
            && paths.iter().any(|path| path.starts_with("/tenants/team/registries/default/packs/delete?"))
    );
    for path in paths {
        nobody_is_signed_in(
            &answers(|method, path| stranger.request(method, path), &path, &stranger.origin).await?,
        )?;
    }
    Ok(())
}

#[tokio::test]
async fn every_page_refuses_other_origins_and_hosts() -> Result<()> {
    let browser = Cluster::shared().await?.administrator().await?;
    for path in paths(&VALUES) {
        for origin in ["", "null", "http://evil.example", "https://127.0.0.1"] {
            for (what, page) in answers(|method, path| browser.request(method, path), &path, origin).await? {
                let is_changed = !what.starts_with("GET");
                ensure!(!is_changed || page.status == 403, "{origin}: {what}: {page:#?}");
            }
        }
        let rebound = browser.as_host("evil.example", &path).await?;
        ensure!(rebound.status == 403 && !rebound.has("Signed in"), "{path}: {rebound:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_is_guarded_errors_too() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, stranger) = (cluster.administrator().await?, cluster.stranger().await?);
    let mut seen = BTreeSet::new();
    let mut look = |what: &str, page: &Page| {
        seen.insert(page.status);
        ensure!(is_guarded(page), "{what}: {page:#?}");
        anyhow::Ok(())
    };
    for path in paths(&VALUES).iter().filter(|path| !path.starts_with("/sign-out")) {
        for (browser, origin) in
            [(&browser, browser.origin.as_str()), (&browser, ""), (&stranger, &stranger.origin)]
        {
            for (what, page) in answers(|method, path| browser.request(method, path), path, origin).await? {
                look(&what, &page)?;
            }
        }
    }
    look("unknown page", &browser.get("/nowhere").await?)?;
    look("unknown asset", &browser.get("/assets/nothing").await?)?;
    let long = "x".repeat(300 * 1024);
    look("long form", &browser.submit("/system/add/basic", &[("ca", &long)]).await?)?;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let own = [(header::ORIGIN, browser.origin.as_str())];
        look(method.as_str(), &browser.send(method.clone(), "/system/registries", &own).await?)?;
    }
    for status in [200, 303, 401, 403, 404, 405, 413] {
        ensure!(seen.contains(&status), "{status} was not among {seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_page_leads_elsewhere() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, stranger) = (cluster.administrator().await?, cluster.stranger().await?);
    let places = [
        "//evil.example",
        "https://evil.example",
        "%2F%2Fevil.example",
        "%5Cevil.example",
        "%0d%0aLocation:evil",
    ];
    let names = [
        "next",
        "url",
        "redirect",
        "return",
        "tenant",
        "namespace",
        "added",
        "deleted",
        "filter",
        "since",
        "code",
    ];
    let paths = paths(&VALUES);
    for path in
        paths.iter().filter(|path| !path.starts_with("/system/changes") && !path.starts_with("/sign-out"))
    {
        for place in places {
            let query: Vec<String> = names.iter().map(|name| format!("{name}={place}")).collect();
            let path = format!("{path}&{}", query.join("&"));
            for browser in [&browser, &stranger] {
                let page = browser.get(&path).await?;
                let location = page.location();
                let stays =
                    location.starts_with('/') && !location.starts_with("//") && !location.contains('\\');
                ensure!(location.is_empty() || (stays && !location.contains("evil")), "{path}: {location}");
                ensure!(!page.has("href=\"//evil") && !page.has("href=\"https://evil"), "{path}: {page:#?}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn hostile_texts_are_shown_as_text() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let name = Cluster::unique("hostile");
    let hostile = format!("<img src=x onerror=alert(1)>{OVERRIDE}\"'><script>alert(2)</script>");
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, \
             metadata: {{name: {name}, annotations: {{example.com/note: {}}}}}, spec: {{endpoint: 'https://registry.example'}}}}",
            json!(hostile)
        ))
        .await?;
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "Rejected", "message": hostile,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"status": {"observedGeneration": 1, "conditions": [condition]}});
    cluster.system().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    let browser = cluster.administrator().await?;
    let protected = Protected::with(USER, PASSWORD, &hostile).await?;
    let url = protected.registry.url();
    let typed = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("name", "hostile"),
        ("endpoint", &url),
        ("username", &hostile),
        ("draft", &hostile),
        ("ca", &hostile),
    ];
    let pages = [
        browser.get("/system/registries").await?,
        browser.get(&format!("/system/registries/{name}")).await?,
        browser.get("/system/registries?filter=%3Cscript%3Ealert(2)%3C/script%3E%E2%80%AE").await?,
        browser.get("/system/add/basic?name=%3Cscript%3Ealert(2)%3C/script%3E%E2%80%AE").await?,
        browser.submit("/system/add/basic", &typed[..4]).await?,
        browser.submit("/system/add/basic", &typed).await?,
    ];
    for page in &pages {
        ensure!(!page.has("<img src=x") && !page.has("<script>alert"), "{page:#?}");
        ensure!(!page.has(&OVERRIDE.to_string()), "{page:#?}");
        ensure!(page.has("alert("), "the text is there: {page:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn revoked_token_is_refused_on_every_page() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (account, paths) = (Account::administrator(&cluster).await?, paths(&VALUES));
    let mut sessions = Vec::new();
    for _ in &paths {
        sessions.push(console.signed_in(&account.token).await?);
    }
    let mut by_header = console.visitor();
    by_header.token.clone_from(&account.token);
    ensure!(by_header.get("/system/add/basic").await?.status == 200);
    account.delete(&cluster).await?;
    let look = || async {
        let page = by_header.get("/system/add/basic").await?;
        ensure!(page.status == 401, "{page:#?}");
        anyhow::Ok(())
    };
    eventually("the API server refuses the token", look).await?;
    for (path, session) in paths.iter().zip(&sessions) {
        // The session ends with the first answer, so each page has its own.
        for visitor in [session, &by_header] {
            let begin = |method, path: &str| visitor.call(method, path);
            nobody_is_signed_in(&answers(begin, path, &console.origin).await?)?;
        }
    }
    let begin = |method, path: &str| by_header.call(method, path);
    nobody_is_signed_in(&answers(begin, "/api/v1alpha1/validate", &console.origin).await?)
}

#[tokio::test]
async fn ended_session_is_refused_on_every_page() -> Result<()> {
    let browser = Cluster::shared().await?.administrator().await?;
    ensure!(browser.post("/sign-out", "").await?.status == 303);
    for path in paths(&VALUES) {
        nobody_is_signed_in(
            &answers(|method, path| browser.request(method, path), &path, &browser.origin).await?,
        )?;
    }
    let same_site = [(HeaderName::from_static("sec-fetch-site"), "same-site")];
    ensure!(browser.send(Method::POST, "/sign-out", &same_site).await?.status == 403);
    Ok(())
}
