//! The HTTP clients for the AWS SDK: direct or through the proxy, with the administrator's CAs in addition to the
//! system's.
//!
//! Owns the choice between the two, by the same list as for registries. Requests to the node's metadata service, and to
//! the agents that provide the operator's own identity, never use the proxy.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use registry_probe::{CaBundle, HostPort, Proxy, Scheme};
use secrecy::ExposeSecret;

use super::causes::ProxyTrouble;

/// The clients. Cheap to clone.
#[derive(Clone)]
pub struct AwsHttp(Arc<AwsConnections>);

struct AwsConnections {
    proxy: Option<Proxy>,
    clients: RwLock<HttpClients>,
}

/// Each client has its own connections.
#[derive(Clone)]
struct HttpClients {
    direct: SharedHttpClient,
    proxied: Option<SharedHttpClient>,
}

/// Less than the deadline of a whole operation, so that the error names the proxy.
const PROXY_ANSWER: Duration = Duration::from_secs(9);

impl AwsHttp {
    /// Creates clients without connections.
    pub fn new(proxy: Option<Proxy>, ca: Option<&CaBundle>) -> Self {
        let clients = RwLock::new(HttpClients::new(proxy.as_ref(), ca));
        Self(Arc::new(AwsConnections { proxy, clients }))
    }

    /// Replaces the CAs. Open connections stay.
    pub fn trust(&self, ca: Option<&CaBundle>) {
        let clients = HttpClients::new(self.0.proxy.as_ref(), ca);
        *self.0.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
    }

    fn clients(&self) -> HttpClients {
        self.0.clients.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpClients {
    fn new(proxy: Option<&Proxy>, ca: Option<&CaBundle>) -> Self {
        let tls = tls(ca);
        let direct = Builder::new()
            .tls_provider(Provider::rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone())
            .build_https();
        let proxied = proxy.and_then(proxy_config).map(|proxy| {
            Builder::new().build_with_connector_fn(move |settings, components| {
                let mut builder = Connector::builder().proxy_config(proxy.clone());
                builder.set_connector_settings(settings.cloned());
                builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
                builder.tls_provider(Provider::rustls(CryptoMode::AwsLc)).tls_context(tls.clone()).build()
            })
        });
        Self { direct, proxied }
    }
}

fn tls(ca: Option<&CaBundle>) -> TlsContext {
    let store =
        ca.map_or_else(TrustStore::default, |ca| TrustStore::default().with_pem_certificate(ca.to_pem()));
    TlsContext::builder().with_trust_store(store).build().unwrap_or_default()
}

fn proxy_config(proxy: &Proxy) -> Option<ProxyConfig> {
    let scheme = match proxy.scheme() {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let config = ProxyConfig::all(format!("{scheme}://{}", proxy.server())).ok()?;
    Some(match proxy.login() {
        Some(login) => config.with_basic_auth(login.username.as_str(), login.password.expose_secret()),
        None => config,
    })
}

impl HttpClient for AwsHttp {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let HttpClients { direct, proxied } = self.clients();
        let direct = direct.http_connector(settings, components);
        let proxied = proxied.map(|client| client.http_connector(settings, components));
        let Some((proxied, proxy)) = proxied.zip(self.0.proxy.clone()) else { return direct };
        SharedHttpConnector::new(Routed { direct, proxied, proxy })
    }
}

impl fmt::Debug for AwsHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AwsHttp").field(&self.0.proxy).finish()
    }
}

/// Chooses the client by the request's host.
#[derive(Debug)]
struct Routed {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
    proxy: Proxy,
}

impl HttpConnector for Routed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_local(request.uri()) || !self.proxy.serves_url(request.uri()) {
            return self.direct.call(request);
        }
        let (answer, proxy) = (self.proxied.call(request), self.proxy.server().clone());
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(PROXY_ANSWER, answer).await {
                Ok(answer) => answer.map_err(|error| through(proxy, error)),
                Err(_) => Err(ConnectorError::timeout(Box::new(ProxyError {
                    proxy,
                    trouble: ProxyTrouble::Timeout,
                    cause: None,
                }))),
            }
        })
    }
}

/// Returns whether it is a metadata service or an agent of AWS on the node.
fn is_local(uri: &str) -> bool {
    let host = uri.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(ToOwned::to_owned));
    let Some(host) = host else { return false };
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.segments().starts_with(&[0xfd00, 0x0ec2]),
        Err(_) => false,
    }
}

/// A failure to reach AWS through the proxy.
#[derive(Debug)]
pub(super) struct ProxyError {
    pub(super) proxy: HostPort,
    pub(super) trouble: ProxyTrouble,
    cause: Option<ConnectorError>,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}: {:?}", self.proxy, self.trouble)
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// The SDK's client describes a proxy's failure only as text.
fn through(proxy: HostPort, error: ConnectorError) -> ConnectorError {
    let mut chain =
        std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |error| error.source());
    let said = chain.find_map(|error| {
        let text = error.to_string();
        text.strip_prefix("tunnel error: ").map(ToOwned::to_owned)
    });
    let trouble = match said.as_deref() {
        Some("proxy authorization required") => ProxyTrouble::LoginRejected,
        Some("unsuccessful") => ProxyTrouble::NoTunnel,
        _ if error.is_timeout() => ProxyTrouble::Timeout,
        _ => ProxyTrouble::Unreachable,
    };
    let (is_timeout, is_io) = (error.is_timeout(), error.is_io());
    let error = Box::new(ProxyError { proxy, trouble, cause: Some(error) });
    match (is_timeout, is_io) {
        (true, _) => ConnectorError::timeout(error),
        (_, true) => ConnectorError::io(error),
        _ => ConnectorError::other(error, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_node_metadata_without_proxy() {
        for uri in [
            "http://169.254.169.254/latest/",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/",
        ] {
            assert!(is_local(uri), "{uri}");
        }
        for uri in ["https://sts.eu-central-1.amazonaws.com/", "http://10.0.0.1/", "http://[fd00::1]/", "x"] {
            assert!(!is_local(uri), "{uri}");
        }
    }

    #[test]
    fn debug_output_holds_no_proxy_credentials() {
        let proxy = Proxy::parse(&"http://alice:s3cr3t@proxy:3128".into(), "".parse().unwrap()).unwrap();
        let shown = format!("{:?}", AwsHttp::new(Some(proxy), None));
        assert!(
            shown.contains("proxy:3128") && !shown.contains("s3cr3t") && !shown.contains("alice"),
            "{shown}"
        );
    }
}
