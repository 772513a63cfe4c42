//! A minimal HTTP/1.1 client over TLS with one private CA, for the baselines.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server, its CA, and credentials.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Address {
    /// `127.0.0.1:port`.
    pub host_port: String,
    /// The PEM text of its CA.
    pub ca_pem: String,
    /// The value of the header `Authorization`.
    pub authorization: String,
}

/// A server that can be connected to.
pub struct Server {
    address: Address,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// One connection.
pub struct Connection<'a> {
    address: &'a Address,
    sender: SendRequest<Full<Bytes>>,
}

impl Server {
    /// Creates a client without a connection. It doesn't resume TLS sessions, like the operator.
    pub fn new(address: Address) -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(address.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let host = address.host_port.rsplit_once(':').map_or("", |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Self { name, tls: TlsConnector::from(Arc::new(config)), address })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> anyhow::Result<Connection<'_>> {
        let stream = TcpStream::connect(&self.address.host_port).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { address: &self.address, sender })
    }
}

/// A request.
#[derive(Debug, Default)]
pub struct Ask {
    /// The method; the default is GET.
    pub method: Method,
    /// The path and query.
    pub path: String,
    /// Whether to send the credentials.
    pub authorized: bool,
    /// The type and content of the body.
    pub body: Option<(&'static str, String)>,
}

impl Connection<'_> {
    /// Sends a request, and returns when the header of the response arrives.
    pub async fn send(&mut self, ask: Ask) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header(header::HOST, &self.address.host_port)
            .header(header::USER_AGENT, "registry-operator-bench-floor");
        if ask.authorized {
            request = request.header(header::AUTHORIZATION, &self.address.authorization);
        }
        let mut body = Bytes::new();
        if let Some((kind, bytes)) = ask.body {
            request = request.header(header::CONTENT_TYPE, kind);
            body = bytes.into();
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends a request, and returns the body of the response, which must have this status.
    pub async fn expect(&mut self, status: u16, ask: Ask) -> anyhow::Result<Bytes> {
        let what = format!("{} {}", ask.method, ask.path);
        let answer = self.send(ask).await.with_context(|| what.clone())?;
        let found = answer.status();
        let body = answer.into_body().collect().await.with_context(|| what.clone())?.to_bytes();
        ensure!(found == status, "{what} is answered {found}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
