//! Plain HTTP/1.1 requests to servers on loopback, one connection each.
//!
//! Deliberately not the operator's own client: tests must not depend on the code that they test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The `User-Agent` of these requests, so that logs can be filtered.
pub const USER_AGENT: &str = "registry-testbed";

const DEADLINE: Duration = Duration::from_secs(30);

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is invalid.
    #[error("{url} is not a URL of a server: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection.
    #[error("cannot connect to {url}: {source}")]
    Connect {
        /// The URL.
        url: String,
        /// What the operating system or TLS says.
        source: std::io::Error,
    },
    /// The certificate authority's PEM text, or what is made of it, is refused.
    #[error("cannot set up TLS for {url}: {reason}")]
    Tls {
        /// The URL.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The exchange broke.
    #[error("no answer from {url}: {source}")]
    Exchange {
        /// The URL.
        url: String,
        /// What hyper says.
        source: hyper::Error,
    },
    /// The request is malformed.
    #[error("cannot build a request to {url}: {source}")]
    Request {
        /// The URL.
        url: String,
        /// What is wrong.
        source: http::Error,
    },
    /// It took too long.
    #[error("no answer from {url} within {DEADLINE:?}")]
    Timeout {
        /// The URL.
        url: String,
    },
}

/// The value of the header `Authorization` that sends this user and password.
pub(crate) fn basic_authorization(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// A request builder.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    method: Method,
    url: String,
    headers: Vec<(header::HeaderName, String)>,
    body: Bytes,
    ca_pem: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// A request without headers or body.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Bytes::new(), ca_pem: None }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds Basic credentials.
    #[must_use]
    pub fn basic(self, user: &str, password: &str) -> Self {
        self.header(header::AUTHORIZATION, basic_authorization(user, password))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Trusts this certificate authority (PEM), and no other.
    #[must_use]
    pub fn trust(mut self, ca_pem: &'a str) -> Self {
        self.ca_pem = Some(ca_pem);
        self
    }

    /// Sends the request and reads the whole answer.
    pub async fn send(self) -> Result<Response<Bytes>, HttpError> {
        let url = self.url.clone();
        tokio::time::timeout(DEADLINE, self.exchange()).await.unwrap_or(Err(HttpError::Timeout { url }))
    }

    async fn exchange(self) -> Result<Response<Bytes>, HttpError> {
        let uri: Uri = self.url.parse().map_err(|error| self.bad_url(error))?;
        let Some(authority) = uri.authority().cloned() else {
            return Err(self.bad_url("no host"));
        };
        let tls = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream =
            TcpStream::connect((authority.host(), port)).await.map_err(|source| self.connect(source))?;
        // A small body in a packet of its own would wait for the acknowledgement of the head.
        stream.set_nodelay(true).map_err(|source| self.connect(source))?;
        if tls {
            let stream = self.handshake(authority.host(), stream).await?;
            self.converse(&uri, stream).await
        } else {
            self.converse(&uri, stream).await
        }
    }

    async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, HttpError> {
        let refuse = |reason: String| HttpError::Tls { url: self.url.clone(), reason };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca_pem.unwrap_or_default().as_bytes()) {
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| refuse(error.to_string()))?;
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|source| self.connect(source))
    }

    async fn converse<S>(self, uri: &Uri, stream: S) -> Result<Response<Bytes>, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let url = self.url.clone();
        let request = self.request(uri)?;
        let broken = |source| HttpError::Exchange { url: url.clone(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        connection.abort();
        Ok(Response::from_parts(head, body))
    }

    fn request(self, uri: &Uri) -> Result<Request<Full<Bytes>>, HttpError> {
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let host = uri.authority().map_or("", http::uri::Authority::as_str);
        let mut request = Request::builder().method(self.method).uri(path).header(header::HOST, host);
        if !self.headers.iter().any(|(name, _)| name == header::USER_AGENT) {
            request = request.header(header::USER_AGENT, USER_AGENT);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(self.body)).map_err(|source| HttpError::Request { url: self.url, source })
    }

    fn bad_url(&self, reason: impl std::fmt::Display) -> HttpError {
        HttpError::Url { url: self.url.clone(), reason: reason.to_string() }
    }

    fn connect(&self, source: std::io::Error) -> HttpError {
        HttpError::Connect { url: self.url.clone(), source }
    }
}
