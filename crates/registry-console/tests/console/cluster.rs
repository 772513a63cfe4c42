//! The console in the cluster: who gets in with which token, what is refused, and what tenants can reach.

use anyhow::{Context as _, Result};
use http::{HeaderName, Method, header};
use registry_testbed::eventually;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};

use crate::{
    bed::{Cluster, DRAFT, PASSWORD, Page, Protected, USER},
    cluster_bed::{Account, COOKIE, Canary, ClusterConsole, Visitor, failed_start},
};

const BASIC: &str = "/system/add/basic";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn form<'a>(name: &'a str, endpoint: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("action", "validate"),
        ("content_type", "Pack"),
        ("draft", DRAFT),
        ("name", name),
        ("endpoint", endpoint),
        ("username", USER),
        ("password", PASSWORD),
        ("insecure_skip_verify", "on"),
    ]
}

fn set_cookie(page: &Page) -> &str {
    page.headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn is_sign_in_page(page: &Page) -> bool {
    page.status == 401
        && page.has("<h1>Sign in</h1>")
        && page.has("kubectl create token registry-console-user")
}

#[tokio::test]
async fn pasted_token_signs_in_and_leads_back() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (mut visitor, admin) = (console.visitor(), Account::administrator(&cluster).await?);

    let asked = visitor.get("/system/registries?filter=a").await?;
    assert!(is_sign_in_page(&asked), "{asked:#?}");
    assert_eq!(asked.value("to"), "/system/registries?filter=a");
    let entered = visitor.sign_in(&admin.token, asked.value("to")).await?;
    assert_eq!((entered.status, entered.location()), (303, "/system/registries?filter=a"));
    let set = set_cookie(&entered).to_owned();
    assert!(set.starts_with(COOKIE) && set.contains("; Path=/;"), "{set}");
    assert!(
        set.contains("; HttpOnly") && set.contains("; Secure") && set.contains("; SameSite=Lax"),
        "{set}"
    );
    assert!(set.len() > COOKIE.len() + 43, "256 bits: {set}");

    visitor.keep_cookie(&entered);
    let page = visitor.get("/system").await?;
    assert!(page.status == 200 && page.has(&format!("Signed in as <b>{}</b>", admin.user())), "{page:#?}");
    let left = visitor.post("/sign-out", &[]).await?;
    assert_eq!(left.status, 303);
    assert!(is_sign_in_page(&visitor.get("/system").await?), "the cookie is worth nothing any more");
    Ok(())
}

#[tokio::test]
async fn refused_token_is_said_on_the_page() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let visitor = console.visitor();
    for (token, words) in [
        ("not-a-token-of-this-cluster", "The API server refused the token (401)"),
        ("", "Enter a token"),
        ("two words", "This is not a token"),
    ] {
        let page = visitor.sign_in(token, "/tenants").await?;
        assert!(is_sign_in_page(&page) && page.has(words), "{token}: {page:#?}");
        assert!(set_cookie(&page).is_empty() && page.value("to") == "/tenants", "{token}: {page:#?}");
        assert!(token.is_empty() || !page.has(token), "{page:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn token_of_a_proxy_counts_for_each_request() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (ann, bob) = (Account::administrator(&cluster).await?, Account::nobody(&cluster, "bob").await?);
    let mut visitor = console.visitor();
    visitor.token.clone_from(&ann.token);
    let first = visitor.get("/system").await?;
    assert!(first.status == 200 && first.has(&ann.user()), "{first:#?}");
    visitor.keep_cookie(&first);
    let second = visitor.get(BASIC).await?;
    assert!(second.status == 200 && set_cookie(&second).is_empty(), "the session is kept: {second:#?}");

    visitor.token.clone_from(&bob.token);
    let other = visitor.get("/system").await?;
    assert!(other.has(&bob.user()) && !other.has(&ann.user()), "not the session's user: {other:#?}");
    assert!(set_cookie(&other).starts_with(COOKIE), "in a session of its own");

    "wrong".clone_into(&mut visitor.token);
    assert!(is_sign_in_page(&visitor.get("/system").await?), "a session is no replacement for a wrong token");
    Ok(())
}

#[tokio::test]
async fn session_id_of_another_client_is_never_used() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (mut visitor, admin) = (console.visitor(), Account::administrator(&cluster).await?);
    visitor.cookie = format!("{COOKIE}chosen-by-someone-else");
    let chosen = visitor.cookie.clone();
    let entered = visitor.sign_in(&admin.token, "/system").await?;
    assert!(set_cookie(&entered).starts_with(COOKIE) && !set_cookie(&entered).contains("chosen"));
    assert_eq!(visitor.get("/system").await?.status, 401);

    visitor.keep_cookie(&entered);
    let again = visitor.sign_in(&admin.token, "/system").await?;
    assert_eq!(visitor.get("/system").await?.status, 401, "signing in again ends the session before");
    visitor.keep_cookie(&again);
    assert_eq!(visitor.get("/system").await?.status, 200);
    let mut other = console.visitor();
    other.cookie = chosen.replace("__Host-", "");
    assert_eq!(other.get("/system").await?.status, 401);
    Ok(())
}

/// Every route that needs a user.
async fn statuses(visitor: &Visitor<'_>) -> Result<Vec<(String, u16, bool)>> {
    let mut found = Vec::new();
    for path in [
        "/",
        "/system",
        "/system/registries",
        "/system/changes?since=1",
        "/system/registries/packs",
        "/system/registries/packs/delete",
        BASIC,
        "/system/add/ecr",
        "/tenants",
        "/tenants/t/registries?namespace=n",
        "/tenants/t/registries/n/packs",
        "/tenants/t/add/basic?namespace=n",
    ] {
        let page = visitor.get(path).await?;
        found.push((path.to_owned(), page.status, page.has("<h1>Sign in</h1>")));
    }
    for path in ["/system/registries/packs/validate", "/system/registries/packs/delete", "/sign-out"] {
        let page = visitor.post(path, &[("name", "packs"), ("uid", "u")]).await?;
        found.push((format!("POST {path}"), page.status, page.has("<h1>Sign in</h1>")));
    }
    for action in ["validate", "confirm", "generate"] {
        let page =
            visitor.submit(BASIC, &[("action", action), ("name", "x"), ("endpoint", "https://r")]).await?;
        found.push((format!("POST {BASIC} {action}"), page.status, page.has("<h1>Sign in</h1>")));
    }
    Ok(found)
}

#[tokio::test]
async fn revoked_token_is_401_on_every_route() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let account = Account::administrator(&cluster).await?;
    let pasted = console.signed_in(&account.token).await?;
    let mut proxied = console.visitor();
    proxied.token.clone_from(&account.token);
    assert_eq!(pasted.get(BASIC).await?.status, 200);
    assert_eq!(proxied.get(BASIC).await?.status, 200);

    account.delete(&cluster).await?;
    // The API server itself remembers for some seconds that a token was valid.
    eventually("the token is refused", || async {
        let page = proxied.get(BASIC).await.map_err(|error| error.to_string())?;
        if page.status == 401 { Ok(()) } else { Err(format!("{page:?}")) }
    })
    .await?;
    for visitor in [&pasted, &proxied] {
        for (route, status, signs_in) in statuses(visitor).await? {
            assert!(status == 401 && signs_in, "{route}: {status}");
        }
    }
    let gone = pasted.get("/system").await?;
    assert!(gone.has("You are not signed in") || gone.has("<h1>Sign in</h1>"), "{gone:#?}");
    Ok(())
}

#[tokio::test]
async fn nothing_but_the_way_in_without_a_token() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    for (route, status, signs_in) in statuses(&console.visitor()).await? {
        assert!(status == 401 && signs_in, "{route}: {status}");
    }
    let page = console.visitor().get("/sign-in").await?;
    assert!(page.status == 200 && page.has("for=\"token\"") && page.value("to") == "/system", "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn way_back_leads_nowhere_else() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let admin = Account::administrator(&cluster).await?;
    for to in ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""] {
        let entered = console.visitor().sign_in(&admin.token, to).await?;
        assert_eq!((entered.status, entered.location()), (303, "/system"), "{to}");
        let query: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let page = console.visitor().get(&format!("/sign-in?to={query}")).await?;
        assert_eq!(page.value("to"), "/system", "{to}");
    }
    Ok(())
}

#[tokio::test]
async fn other_hosts_and_sites_are_refused_with_a_token() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let admin = Account::administrator(&cluster).await?;
    let mut visitor = console.signed_in(&admin.token).await?;
    visitor.token.clone_from(&admin.token);
    let (own, name) = (console.origin.clone(), Cluster::unique("kept"));
    cluster.apply(&format!(
        "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
         spec: {{endpoint: 'https://127.0.0.1:1'}}}}"
    )).await?;
    let delete = format!("/system/registries/{name}/delete");
    let foreign: [&[(HeaderName, &str)]; 5] = [
        &[],
        &[(header::ORIGIN, "https://evil.example")],
        &[(header::ORIGIN, "null")],
        &[(FETCH_SITE, "same-site")],
        &[(FETCH_SITE, "cross-site"), (header::ORIGIN, &own)],
    ];
    for headers in foreign {
        for path in [delete.as_str(), "/sign-in", "/sign-out", BASIC] {
            let page = visitor.send(Method::POST, path, headers).await?;
            assert_eq!(page.status, 403, "{path} {headers:?}");
        }
    }
    assert!(cluster.system().get_opt(&name).await?.is_some());
    // The same server by another name: as after DNS rebinding.
    let port = own.rsplit(':').next().unwrap_or_default();
    let rebound = http_client_at(&format!("https://localhost:{port}/system"), &console, &admin.token).await?;
    assert!(rebound.status == 403 && !rebound.has("Signed in"), "{rebound:#?}");
    let numbers = console.numbers("/metrics").await?;
    assert!(numbers.has("registry_console_refused_requests_total{cause=\"host\"} 1"), "{numbers:#?}");
    Ok(())
}

async fn http_client_at(url: &str, console: &ClusterConsole, token: &str) -> Result<Page> {
    let call = registry_testbed::http_client::Call::get(url).trust(console.ca.certificate_pem());
    Page::of(call.header(header::AUTHORIZATION, format!("Bearer {token}")).send().await?)
}

#[tokio::test]
async fn start_without_tls_is_refused() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let kubeconfig = || cluster.administrators_kubeconfig();
    let open = ["--listen", "0.0.0.0:0", "--public-url", "https://r.example"];
    let (code, errors) = failed_start(kubeconfig(), &open).await?;
    assert_eq!(code, Some(2), "{errors}");
    for flag in ["--listen", "--tls-cert", "--tls-key", "--behind-tls-proxy"] {
        assert!(errors.contains(flag), "{errors}");
    }
    let files = ["--tls-cert", "/nowhere/tls.crt", "--tls-key", "/nowhere/tls.key"];
    let (code, errors) = failed_start(kubeconfig(), &[&open[..], &files].concat()).await?;
    assert!(code == Some(2) && errors.contains("failed to read --tls-cert /nowhere/tls.crt"), "{errors}");
    Ok(())
}

/// The certificate that a handshake shows.
async fn presented(console: &ClusterConsole) -> Result<Vec<u8>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(console.ca.certificate_pem().as_bytes())?)?;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = console.origin.trim_start_matches("https://");
    let stream = tokio::net::TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(certificates[0].to_vec())
}

#[tokio::test]
async fn renewed_certificate_is_served_without_a_restart() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let before = presented(&console).await?;
    let renewed = CertificateDer::from_pem_slice(console.renew()?.as_bytes())?.to_vec();
    assert_ne!(before, renewed);
    eventually("the renewed certificate", || async {
        let now = presented(&console).await.map_err(|error| error.to_string())?;
        if now == renewed { Ok(()) } else { Err("the one before".to_owned()) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn login_is_validated_in_the_cluster() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, protected) = (Account::administrator(&cluster).await?, Protected::start().await?);
    let visitor = console.signed_in(&admin.token).await?;
    let (name, url) = (Cluster::unique("packs"), protected.registry.url());
    let page = visitor.submit(BASIC, &form(&name, &url)).await?;
    assert!(page.status == 200 && page.has("Credentials validated"), "{page:#?}");
    let numbers = console.numbers("/metrics").await?;
    assert!(numbers.has("registry_console_validations_total{result=\"usable\"} 1"), "{numbers:#?}");
    assert!(numbers.has("registry_console_sessions 1"), "{numbers:#?}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(console.numbers(path).await?.status, 200, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn twenty_first_validation_in_a_minute_is_refused() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, canary) = (Account::administrator(&cluster).await?, Canary::start()?);
    // The budget is the user's: a new session doesn't renew it.
    let sessions = [console.signed_in(&admin.token).await?, console.signed_in(&admin.token).await?];
    let mut refused = None;
    // On a slow machine, the first ones may be forgotten before the 21st; so many can't be.
    for number in 0..200 {
        let page = sessions[number % 2].submit(BASIC, &form("packs-x", "https://127.0.0.1:1")).await?;
        if page.status != 200 {
            refused = Some((number, page));
            break;
        }
    }
    let (number, page) = refused.context("none was refused")?;
    assert!(number >= 20 && page.status == 429, "{number}: {page:#?}");
    assert!(page.has("at most 20 a minute") && page.has("packs-x"), "{page:#?}");
    let page = sessions[0].submit(BASIC, &form("packs-x", &canary.url()?)).await?;
    assert!(page.status != 429 || !canary.was_reached(), "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn second_validation_of_a_session_waits_for_the_first() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let (admin, silent) = (Account::administrator(&cluster).await?, Canary::start()?);
    let (visitor, url) = (console.signed_in(&admin.token).await?, silent.url()?);
    let other = console.signed_in(&admin.token).await?;
    let fields = form("packs-x", &url);
    let second = async {
        eventually("the first validation", || async {
            if silent.was_reached() { Ok(()) } else { Err("nobody has connected") }
        })
        .await?;
        visitor.submit(BASIC, &form("packs-y", "https://127.0.0.1:1")).await
    };
    // The first one hangs at a server that says nothing.
    let page = tokio::select! {
        page = visitor.submit(BASIC, &fields) => anyhow::bail!("the server answered: {page:?}"),
        page = second => page?,
    };
    assert_eq!(page.status, 429, "{page:#?}");
    assert!(page.has("A validation of this session is running already"), "{page:#?}");
    let page = other.submit(BASIC, &form("packs-z", "https://127.0.0.1:1")).await?;
    assert_eq!(page.status, 200, "another session is not concerned: {page:#?}");
    Ok(())
}

/// What a tenant's Validate of a server says.
async fn as_tenant(cluster: &Cluster, console: &ClusterConsole, url: &str) -> Result<Page> {
    let tenant = Cluster::unique("team");
    let member = Account::member(cluster, &tenant, &tenant).await?;
    let path = format!("/tenants/{tenant}/add/basic?namespace={tenant}");
    let fields: Vec<_> =
        form("packs", url).into_iter().filter(|field| field.0 != "insecure_skip_verify").collect();
    console.signed_in(&member.token).await?.submit(&path, &fields).await
}

#[tokio::test]
async fn tenants_reach_no_private_address_from_the_pod() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    console.knows_addresses().await?;
    let canary = Canary::start()?;
    let page = as_tenant(&cluster, &console, &canary.url()?).await?;
    assert!(page.has("blocked by the egress policy") && !canary.was_reached(), "{page:#?}");
    // It is the policy that keeps them away: an administrator can open the address.
    let console = ClusterConsole::start(&cluster, &["--egress-allow", "127.0.0.0/8"]).await?;
    console.knows_addresses().await?;
    let protected = Protected::start().await?;
    let page = as_tenant(&cluster, &console, &protected.registry.url()).await?;
    assert!(page.has("TLSVerified is UnknownIssuer"), "{page:#?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_for_tenants_without_addresses() -> Result<()> {
    let cluster = Cluster::shared().await?;
    // Even where an administrator has opened the address.
    let console = ClusterConsole::without_rights(&cluster, &["--egress-allow", "127.0.0.0/8"]).await?;
    let (canary, why) = (Canary::start()?, "the console may not list servicecidrs.networking.k8s.io");
    let url = canary.url()?;
    // Until the API server has refused the console's account, the page says that the addresses were not read yet.
    eventually("the reason", || async {
        let page = as_tenant(&cluster, &console, &url).await.map_err(|error| error.to_string())?;
        if page.has(why) { Ok(()) } else { Err(format!("{page:?}")) }
    })
    .await?;
    assert!(!canary.was_reached());
    // The system scope is not concerned.
    let (admin, protected) = (Account::administrator(&cluster).await?, Protected::start().await?);
    let url = protected.registry.url();
    let page = console.signed_in(&admin.token).await?.submit(BASIC, &form("packs-x", &url)).await?;
    assert!(page.has("Credentials validated"), "{page:#?}");
    Ok(())
}
