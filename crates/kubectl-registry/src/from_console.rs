//! `kubectl registry validate --from`: the web console in the cluster makes the check.
//!
//! Owns the request to the console: what is sent, with which token, and to whom. The token is sent to the console's URL only: kube's
//! client follows no redirect.

use std::{fmt, net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use http::{Request, StatusCode, Uri, header};
use kube::{Client, Config, client::Body, config::AuthInfo};
use registry_check::{
    cluster::{NO_CREDENTIALS, is_credentials_failure, words},
    manifest::Declared,
    report::{CheckReport, of_objects},
    supply::Contents,
};
use serde_json::{Value, json};

/// Where the console takes manifests.
const VALIDATE: &str = "/api/v1alpha1/validate";
const CONNECT: Duration = Duration::from_secs(15);
/// Longer than 20 validations take with the longest common timeout.
const ANSWER: Duration = Duration::from_mins(15);

/// The URL of a console.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsoleUrl(Uri);

impl fmt::Display for ConsoleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `https://HOST` is parsed to `https://HOST/`.
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl ConsoleUrl {
    /// Parses `https://HOST[:PORT]`; `http://` for this machine only.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "not a URL, such as https://registries.example.com")?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let has_login = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        match uri.scheme_str() {
            _ if has_login || !matches!(uri.path(), "" | "/") || uri.query().is_some() => {
                Err("must be https://HOST[:PORT], without a path, a query or credentials")
            }
            Some("https") => Ok(Self(uri)),
            Some("http") if is_local => Ok(Self(uri)),
            _ => Err("must start with https://: without TLS, the token could be read on the way"),
        }
    }
}

/// Makes the client for the console: with the user's token, and nothing else of the kubeconfig.
pub fn client(url: &ConsoleUrl, ca_file: Option<&Path>, auth: AuthInfo) -> anyhow::Result<Client> {
    let mut config = Config::new(url.0.clone());
    config.auth_info = auth;
    config.root_cert_file = ca_file.map(ToOwned::to_owned);
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    config.default_retry = false;
    // The error of an exec plugin can contain a token.
    Client::try_from(config).map_err(|error| anyhow!("{}", words(&error)))
}

/// Returns what kubectl would get a token by: the token itself, a file, or a plugin.
pub fn token_of(kubeconfigs: &AuthInfo) -> anyhow::Result<AuthInfo> {
    if kubeconfigs.impersonate.is_some() {
        bail!(
            "the user of the kubeconfig impersonates another one (as), which --from can't; pass that one's token with --token-file"
        );
    }
    let mut auth = AuthInfo::default();
    auth.token.clone_from(&kubeconfigs.token);
    auth.token_file.clone_from(&kubeconfigs.token_file);
    auth.exec.clone_from(&kubeconfigs.exec);
    auth.auth_provider.clone_from(&kubeconfigs.auth_provider);
    let has_token = auth.token.is_some() || auth.token_file.is_some();
    if !has_token && auth.exec.is_none() && auth.auth_provider.is_none() {
        bail!("the user of the kubeconfig has no token, which --from needs; pass one with --token-file");
    }
    Ok(auth)
}

/// Reads the token of `--token-file`.
pub fn token_in(file: &Path) -> anyhow::Result<AuthInfo> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read --token-file {}", file.display()))?;
    if text.trim().is_empty() {
        bail!("--token-file {} is empty", file.display());
    }
    Ok(AuthInfo { token: Some(text.trim().into()), ..AuthInfo::default() })
}

/// What the console is asked to check.
#[derive(Default)]
pub struct ConsoleRequest<'a> {
    registries: Vec<RequestedCheck<'a>>,
    contents: Contents,
}

/// A registry that the console is asked to check.
struct RequestedCheck<'a> {
    declared: &'a Declared,
    /// What is sent for it.
    document: Value,
    /// Where its references came from.
    notes: Vec<String>,
}

impl<'a> ConsoleRequest<'a> {
    /// Adds a registry, the document to send for it, and what it refers to: several registries may refer to the same.
    pub fn add(&mut self, declared: &'a Declared, document: Value, contents: Contents, notes: Vec<String>) {
        self.registries.push(RequestedCheck { declared, document, notes });
        self.contents.extend(contents);
    }

    fn body(&self) -> String {
        let references = self.contents.iter().map(|(reference, content)| content.manifest(reference));
        let documents = self.registries.iter().map(|registry| registry.document.clone());
        let items: Vec<Value> = documents.chain(references).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}

/// Lets the console check the registries, and returns its reports. Without registries, nothing is sent.
pub async fn ask(
    client: &Client,
    url: &ConsoleUrl,
    asked: ConsoleRequest<'_>,
) -> anyhow::Result<Vec<CheckReport>> {
    if asked.registries.is_empty() {
        return Ok(Vec::new());
    }
    let request = Request::post(VALIDATE)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .body(Body::from(asked.body().into_bytes()))?;
    let answer = client.send(request).await.map_err(|error| anyhow!("{}", unreachable(url, &error)))?;
    let (status, body) = (answer.status(), answer.into_body().collect_bytes().await);
    let body = body.with_context(|| format!("{url} sent an incomplete answer"))?;
    let mut reports = read(url, status, &body)?;
    let count = asked.registries.len();
    if reports.len() != count {
        bail!("{url} answered about {} registries instead of {count}", reports.len());
    }
    for (report, RequestedCheck { declared, notes, .. }) in reports.iter_mut().zip(asked.registries) {
        let endpoint = declared.document.pointer("/spec/endpoint").and_then(Value::as_str);
        report.endpoint = endpoint.filter(|endpoint| !endpoint.contains('@')).unwrap_or_default().to_owned();
        report.notes.extend(notes);
        report.notes.push(format!("Checked from the cluster, by {url}"));
    }
    Ok(reports)
}

/// Names the console instead of the API server.
fn unreachable(url: &ConsoleUrl, error: &kube::Error) -> String {
    if is_credentials_failure(error) {
        return NO_CREDENTIALS.to_owned();
    }
    format!("failed to reach {url}: {error}; with a private CA, pass --from-ca-file")
}

fn read(url: &ConsoleUrl, status: StatusCode, body: &[u8]) -> anyhow::Result<Vec<CheckReport>> {
    let object: Option<Value> = serde_json::from_slice(body).ok();
    if status == StatusCode::OK {
        let reports = object.as_ref().and_then(of_objects);
        return reports.ok_or_else(|| anyhow!("{url} is no web console of this version"));
    }
    if status.is_redirection() {
        bail!(
            "{url} redirects (HTTP {}), and the token is sent to no other URL; pass the console's own URL",
            status.as_u16()
        );
    }
    let message = object.as_ref().and_then(|object| object["message"].as_str());
    match message {
        Some(message) => bail!("{url} refused the request (HTTP {}): {message}", status.as_u16()),
        None => bail!("{url} refused the request (HTTP {}); is it the console's URL?", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> ConsoleUrl {
        ConsoleUrl::parse("https://r.example").unwrap()
    }

    #[test]
    fn token_is_not_sent_without_tls() {
        for own in [
            "https://r.example",
            "https://r.example:8443/",
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert!(ConsoleUrl::parse(own).is_ok(), "{own}");
        }
        for wrong in [
            "http://r.example",
            "http://10.0.0.1",
            "http://127.0.0.1.r.example",
            "http://localhost.r.example",
            "r.example",
            "ftp://r.example",
            "https://ann@r.example",
            "https://r.example/console",
            "https://r.example/?a",
            "",
        ] {
            assert!(ConsoleUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_token_is_taken_from_the_kubeconfig() {
        let mut all = AuthInfo {
            token: Some("t".into()),
            client_key_data: Some("KEY".into()),
            password: Some("PASSWORD".into()),
            ..AuthInfo::default()
        };
        let taken = token_of(&all).unwrap();
        assert!(taken.token.is_some() && taken.client_key_data.is_none());
        assert!(taken.password.is_none());
        let impersonating = AuthInfo { impersonate: Some("ann".to_owned()), ..all.clone() };
        assert!(token_of(&impersonating).unwrap_err().to_string().contains("impersonates"));
        all.token = None;
        assert!(token_of(&all).unwrap_err().to_string().contains("--token-file"));
    }

    #[test]
    fn other_answers_are_explained() {
        let says = |code: u16, body: &str| {
            read(&url(), StatusCode::from_u16(code).unwrap(), body.as_bytes()).unwrap_err().to_string()
        };
        assert!(says(302, "").contains("redirects (HTTP 302)"));
        assert!(says(200, "<html>").contains("no web console"));
        assert!(says(401, "{\"message\":\"expired\"}").contains("(HTTP 401): expired"));
        assert!(says(502, "<html>").contains("is it the console's URL?"));
    }
}
