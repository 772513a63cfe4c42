//! Servers that fail, each in another way.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Empty;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use registry_testbed::{LeafOptions, TestCa};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// How long slow servers wait with their answer.
const SLOW: Duration = Duration::from_secs(3);
const SLOW_SERVERS: usize = 3;

/// One server each that refuses connections, has an internal error, and rejects credentials, and a few that are slow.
pub struct FailingServers {
    refusing: SocketAddr,
    internal_error: Server,
    unauthorized: Server,
    slow: Vec<Server>,
    /// A socket that doesn't listen, so that the port stays its own.
    _refusing: TcpSocket,
}

struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Copy)]
struct Reply {
    status: StatusCode,
    after: Duration,
}

impl FailingServers {
    /// Starts all servers, with certificates of this authority.
    pub fn start(ca: &TestCa) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let tls = acceptor(ca)?;
        let server = |status, after| Server::start(tls.clone(), Reply { status, after });
        Ok(Self {
            refusing: socket.local_addr()?,
            internal_error: server(StatusCode::INTERNAL_SERVER_ERROR, Duration::ZERO)?,
            unauthorized: server(StatusCode::UNAUTHORIZED, Duration::ZERO)?,
            slow: (0..SLOW_SERVERS)
                .map(|_| server(StatusCode::INTERNAL_SERVER_ERROR, SLOW))
                .collect::<Result<_, _>>()?,
            _refusing: socket,
        })
    }

    /// Returns the host and port for a registry: a quarter of all for each way of failing.
    pub fn host_port(&self, number: usize) -> String {
        let address = match number % 4 {
            0 => self.refusing,
            1 => self.internal_error.address,
            2 => self.unauthorized.address,
            _ => self.slow[number / 4 % SLOW_SERVERS].address,
        };
        address.to_string()
    }
}

impl Server {
    fn start(tls: TlsAcceptor, reply: Reply) -> anyhow::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept_all(TcpListener::from_std(listener)?, tls, reply)).abort_handle();
        Ok(Self { address, task })
    }
}

async fn accept_all(listener: TcpListener, tls: TlsAcceptor, reply: Reply) {
    while let Ok((stream, _)) = listener.accept().await {
        // The client may close the connection at any time.
        tokio::spawn(serve(stream, tls.clone(), reply));
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, reply: Reply) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(tls.accept(stream).await?);
    let service = service_fn(move |_| async move {
        tokio::time::sleep(reply.after).await;
        Ok::<_, Infallible>(response(reply.status))
    });
    Ok(http1::Builder::new().serve_connection(stream, service).await?)
}

fn response(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    if status == StatusCode::UNAUTHORIZED {
        let challenge = header::HeaderValue::from_static("Basic realm=\"bench\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn acceptor(ca: &TestCa) -> anyhow::Result<TlsAcceptor> {
    let leaf = ca.issue(&LeafOptions::server("failing"))?;
    let chain =
        CertificateDer::pem_slice_iter(leaf.certificate_pem().as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
