//! Who gets in, and what is refused before anything else is looked at.

use anyhow::Result;
use http::{HeaderName, Method, header};
use kube::Api;
use registry_api::SystemRegistry;

use crate::bed::Cluster;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[tokio::test]
async fn code_signs_in_once_and_says_who() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut browser = cluster.stranger().await?;
    assert!(
        browser.url.starts_with("http://127.0.0.1:") && browser.url.contains("/?code="),
        "{}",
        browser.url
    );
    let path = browser.url[browser.origin.len()..].to_owned();

    let entered = browser.get(&path).await?;
    assert_eq!((entered.status, entered.location()), (303, "/system"));
    let cookie = entered.headers[header::SET_COOKIE].to_str()?.to_owned();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax"), "{cookie}");

    let again = browser.get(&path).await?;
    assert_eq!(again.status, 401);
    assert!(again.has("it works once") && !again.headers.contains_key(header::SET_COOKIE), "{again:#?}");

    browser.keep_cookie(&entered);
    let page = browser.get("/system").await?;
    assert_eq!(page.status, 200);
    assert!(page.has("Signed in as <b>admin</b>") && page.has("aria-label=\"Main Menu\""), "{page:#?}");
    assert!(page.has(">Administration</a>"));

    let left = browser.post("/sign-out", "").await?;
    assert_eq!(left.status, 303);
    assert_eq!(browser.get("/system").await?.status, 401, "the cookie is worth nothing any more");
    Ok(())
}

#[tokio::test]
async fn ignores_session_id_chosen_by_another_client() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let fixed = cluster.stranger().await?;
    let port = fixed.origin.rsplit(':').next().unwrap_or_default().to_owned();
    let chosen = format!("registry-console-{port}=chosen");
    let path = fixed.url[fixed.origin.len()..].to_owned();
    let entered = fixed.send(Method::GET, &path, &[(header::COOKIE, &chosen)]).await?;
    let set = entered.headers[header::SET_COOKIE].to_str()?;
    assert!(!set.contains("chosen"), "{set}");
    let page = fixed.send(Method::GET, "/system", &[(header::COOKIE, &chosen)]).await?;
    assert_eq!(page.status, 401);
    Ok(())
}

#[tokio::test]
async fn nothing_is_shown_without_a_session() -> Result<()> {
    let stranger = Cluster::shared().await?.stranger().await?;
    for path in
        ["/", "/system", "/system/registries", "/system/registries/packs", "/system/add/basic", "/tenants"]
    {
        let page = stranger.get(path).await?;
        assert_eq!(page.status, 401, "{path}");
        assert!(page.has("kubectl registry console"), "{path}: {page:#?}");
    }
    assert_eq!(stranger.get("/?code=guessed").await?.status, 401);
    assert_eq!(stranger.submit("/system/add/basic", &[("name", "x")]).await?.status, 401);
    Ok(())
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let browser = cluster.administrator().await?;
    let name = Cluster::unique("kept");
    cluster
        .apply(&format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
             spec: {{endpoint: 'https://127.0.0.1:1'}}}}"
        ))
        .await?;
    let delete = format!("/system/registries/{name}/delete");
    let origin = browser.origin.clone();
    let foreign: [&[(HeaderName, &str)]; 5] = [
        &[],
        &[(header::ORIGIN, "http://evil.example")],
        &[(header::ORIGIN, "null")],
        &[(FETCH_SITE, "same-site")],
        &[(FETCH_SITE, "cross-site"), (header::ORIGIN, &origin)],
    ];
    for headers in foreign {
        let page = browser.send(Method::POST, &delete, headers).await?;
        assert_eq!(page.status, 403, "{headers:?}");
    }
    assert!(Api::<SystemRegistry>::all(cluster.client.clone()).get_opt(&name).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn rebound_name_is_refused_with_a_session_too() -> Result<()> {
    let browser = Cluster::shared().await?.administrator().await?;
    let page = browser.as_host("evil.example", "/system").await?;
    assert_eq!(page.status, 403);
    assert!(!page.has("Signed in"), "{page:#?}");
    Ok(())
}
