//! What comes by itself: the layers of a validation as they are known, and the changes of a tenant's registries.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use kube::api::{Patch, PatchParams};
use registry_testbed::eventually;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::bed::{Browser, Cluster, PASSWORD, Page, USER};

/// A registry that asks for a password, and says nothing to it until it is told to.
pub async fn stalling_registry(go_on: Arc<Semaphore>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let go_on = go_on.clone();
            tokio::spawn(async move { answer(connection, &go_on).await });
        }
    });
    Ok(url)
}

async fn answer(connection: TcpStream, go_on: &Semaphore) -> Result<()> {
    let mut connection = BufReader::new(connection);
    let mut has_login = false;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        has_login |= line.to_ascii_lowercase().starts_with("authorization:");
        if line.trim().is_empty() {
            break;
        }
    }
    let status = if has_login {
        go_on.acquire().await?.forget();
        "200 OK"
    } else {
        "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\""
    };
    let head = format!("HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n");
    let rest = "Content-Length: 2\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}";
    Ok(connection.write_all(format!("{head}{rest}").as_bytes()).await?)
}

/// Reads on until these words have come.
pub async fn read_until(answer: &mut TcpStream, text: &mut String, words: &str) -> Result<()> {
    while !text.contains(words) {
        let mut bytes = vec![0; 4096];
        let count = answer.read(&mut bytes).await?;
        anyhow::ensure!(count > 0, "it ended without {words}: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    Ok(())
}

#[tokio::test]
async fn layers_come_while_the_registry_hangs() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (browser, go_on) = (cluster.administrator().await?, Arc::new(Semaphore::new(0)));
    let endpoint = stalling_registry(go_on.clone()).await?;
    let fields = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("draft", "a-draft"),
        ("name", "stalls"),
        ("endpoint", &endpoint),
        ("username", USER),
        ("password", PASSWORD),
    ];
    let mut answer = browser.begin("/system/add/basic", &fields).await?;
    let mut text = String::new();
    read_until(&mut answer, &mut text, "<b>TLSVerified</b>").await?;
    assert!(text.contains("<b>ResolvedRefs</b>") && text.contains("<b>EndpointReachable</b>"), "{text}");
    assert!(text.contains("name=\"endpoint\" value=\"http://127.0.0.1"), "the form is there: {text}");
    assert!(!text.contains("<b>CredentialsValidated</b>") && !text.contains("class=\"conclusion"), "{text}");

    go_on.add_permits(100);
    read_until(&mut answer, &mut text, "</html>").await?;
    assert!(text.contains("class=\"conclusion good\"") && text.contains("Credentials validated"), "{text}");
    assert_eq!(text.matches("<b>EndpointReachable</b>").count(), 1, "{text}");
    Ok(())
}

/// The value of the first attribute of that name.
pub fn attribute<'a>(page: &'a Page, name: &str) -> Result<&'a str> {
    let start = format!("{name}=\"");
    page.text
        .split(&start)
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .with_context(|| format!("no {name}"))
}

async fn is_told(browser: &Browser, page: &Page, after: impl Future<Output = Result<()>>) -> Result<()> {
    let url = format!("{}since={}", attribute(page, "data-changes")?, attribute(page, "data-since")?);
    let (told, done) = tokio::join!(browser.get(&url), after);
    done?;
    assert_eq!(told?.status, 200, "{url}");
    Ok(())
}

/// In a control plane of its own: registries of the system scope that other tests create are in every tenant's table.
#[tokio::test]
async fn tenants_table_is_told_of_its_changes_alone() -> Result<()> {
    let cluster = Cluster::own().await?;
    let (tenant, namespace, member) =
        (Cluster::unique("live"), Cluster::unique("live-ns"), Cluster::unique("live-member"));
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    let browser = cluster.user(&member).await?;
    let url = format!("/tenants/{tenant}/registries?namespace={namespace}");
    let system = |name: &str, tenants: &str| {
        format!(
            "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
             spec: {{endpoint: 'https://127.0.0.1:1', availability: {{tenants: [{tenants}]}}}}}}"
        )
    };
    let own = format!(
        "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
         metadata: {{name: charts, namespace: {namespace}}}, spec: {{endpoint: 'https://127.0.0.1:1'}}}}"
    );
    let page = browser.get(&url).await?;
    is_told(&browser, &page, cluster.apply(&own)).await?;
    let page = browser.get(&url).await?;
    assert!(page.has("<bdi>charts</bdi>"), "{page:#?}");

    let other = Cluster::unique("of-others");
    cluster.apply(&system(&other, "another")).await?;
    let same = browser.get(&url).await?;
    assert_eq!(attribute(&same, "data-since")?, attribute(&page, "data-since")?, "not its business");

    let given = async {
        let patch = Patch::Merge(json!({"spec": {"availability": {"tenants": ["another", tenant]}}}));
        cluster.system().patch(&other, &PatchParams::default(), &patch).await?;
        Ok(())
    };
    is_told(&browser, &same, given).await?;
    assert!(browser.get(&url).await?.has(&format!("<bdi>{other}</bdi>")));

    let stranger = cluster.stranger().await?;
    let changes = format!("/tenants/{tenant}/changes?namespace={namespace}&since=x");
    assert_eq!(stranger.get(&changes).await?.status, 401);
    assert_eq!(cluster.administrator().await?.get(&changes.replace(&tenant, "another")).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn tenants_form_says_what_the_policy_forbids() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (tenant, namespace, member) =
        (Cluster::unique("limited"), Cluster::unique("limited-ns"), Cluster::unique("limited-member"));
    cluster.tenant_member(&tenant, &namespace, &member).await?;
    let browser = cluster.user(&member).await?;
    let url = format!("/tenants/{tenant}/add/basic?namespace={namespace}");
    let says = || async {
        let page = browser.get(&url).await.map_err(|error| error.to_string())?;
        let has_all = page.has("name=\"insecure_skip_verify\" disabled")
            && page.has("spec.tls.insecureSkipVerify is not allowed for tenants")
            && page.has("spec.endpoint with http:// is not allowed for tenants");
        if has_all { Ok(()) } else { Err(format!("{page:#?}")) }
    };
    eventually("the form says it", says).await?;
    let system = cluster.administrator().await?.get("/system/add/basic").await?;
    assert!(!system.has(" disabled") && !system.has("not allowed for tenants"), "{system:#?}");
    Ok(())
}
