//! Requests to responses, within one validation: connections are made when needed and kept until it ends.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::connect::connect;
use super::connection::{Broken, Connection, Received, Stream};
use super::journal::{HandshakeRecord, Journal};
use super::resolve::Resolver;
use super::retry_after::retry_after;
use crate::exchange::{Failure, FailureCause, Request, Response};
use crate::fence::Fence;
use crate::findings::{ConnectionFailure, Stage};
use crate::host::HostPort;
use crate::tls::{ClientRequest, TlsDefect, TlsPolicy};

/// Sends the requests of one validation.
pub(crate) struct Sender<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) user_agent: &'a HeaderValue,
    pub(crate) fence: &'a Fence,
    pub(crate) tls: Arc<TlsPolicy>,
    pub(crate) deadline: Instant,
    pub(crate) now: Timestamp,
    pub(crate) journal: Journal,
    pub(crate) connections: Vec<Open>,
    /// What was being done when the deadline came.
    pub(crate) ran_out: Option<Stage>,
}

/// A connection, and what it may be used for again.
pub(crate) struct Open {
    server: HostPort,
    secure: bool,
    trusted: bool,
    client: ClientRequest,
    connection: Connection,
}

impl Sender<'_> {
    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        let Some(server) = HostPort::of(&request.url) else {
            let server = HostPort { host: crate::host::Host::Name(String::new()), port: 0 };
            return Err(Failure { server, cause: FailureCause::NotHttp });
        };
        // Time ran out during an earlier request: that is what is to be said, and nothing more is sent.
        if let Some(stage) = self.ran_out {
            return Err(Failure { server, cause: FailureCause::Timeout(stage) });
        }
        let outcome = self.send_to(&server, request).await;
        if let Err(FailureCause::Timeout(stage)) = outcome {
            self.ran_out = (Instant::now() >= self.deadline).then_some(stage);
        }
        self.journal.count(outcome.as_ref().ok().map(|received| received.status));
        let received = outcome.map_err(|cause| Failure { server, cause })?;
        tracing::debug!(method = %request.method, host = ?request.url.host_str(), path = request.url.path(),
            status = received.status, "asked");
        if matches!(received.status, 429 | 500..=599) {
            let asked = received.headers.get(RETRY_AFTER).and_then(|value| retry_after(value, self.now));
            self.journal.wait(asked);
        }
        let Received { status, headers, body } = received;
        Ok(Response { url: request.url.clone(), status, headers, body })
    }

    async fn send_to(&mut self, server: &HostPort, request: &Request) -> Result<Received, FailureCause> {
        let mut open = self.open(server, request).await?;
        let again = open.connection.used && request.method.is_safe();
        match self.send_over(&mut open, request).await {
            Ok(received) => self.keep(open, received),
            // The server had closed it meanwhile, as it may between two requests.
            Err(Broken::Dropped(_)) if again => {
                let mut open = self.open(server, request).await?;
                let outcome = self.send_over(&mut open, request).await;
                let received = outcome.map_err(|broken| self.cause(&open, broken))?;
                self.keep(open, received)
            }
            Err(broken) => Err(self.cause(&open, broken)),
        }
    }

    async fn send_over(&mut self, open: &mut Open, request: &Request) -> Result<Received, Broken> {
        let message = self.message(request).ok_or(Broken::Other(FailureCause::NotHttp))?;
        let started = Instant::now();
        let outcome = timeout_at(self.deadline, open.connection.send(message)).await;
        self.journal.took(Stage::Request, started.elapsed());
        outcome.unwrap_or(Err(Broken::Other(FailureCause::Timeout(Stage::Request))))
    }

    fn cause(&mut self, open: &Open, broken: Broken) -> FailureCause {
        match broken {
            Broken::Tls(defect) => self.turned_away(&open.server, defect),
            Broken::Dropped(failure) => FailureCause::Connection(failure),
            Broken::Other(cause) => cause,
        }
    }

    /// Keeps the connection for the next request, unless nginx says in its way that it misses a client
    /// certificate.
    fn keep(&mut self, mut open: Open, received: Received) -> Result<Received, FailureCause> {
        if let ClientRequest::Asked(fault) = open.client
            && received.status == 400
            && is_about_certificates(&received.body)
        {
            return Err(self.turned_away(&open.server, TlsDefect::ClientCertificateRequired(fault)));
        }
        if open.connection.is_open() {
            self.connections.push(open);
        }
        Ok(received)
    }

    /// The handshake had succeeded, and now turns out not to have.
    fn turned_away(&mut self, server: &HostPort, defect: TlsDefect) -> FailureCause {
        if let Some(record) = self.journal.handshakes.iter_mut().rfind(|record| record.server == *server) {
            record.failure = vec![defect];
        }
        FailureCause::Tls
    }

    fn message(&self, request: &Request) -> Option<http::Request<Full<Bytes>>> {
        let body = request.form.as_ref().map(|form| Bytes::copy_from_slice(form.expose_secret().as_bytes()));
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(path_and_query(&request.url))
            .header(HOST, host_header(&request.url)?)
            .header(USER_AGENT, self.user_agent)
            .header(ACCEPT, request.accept)
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = &request.authorization {
            message = message.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            message = message.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        message.body(Full::new(body.unwrap_or_default())).ok()
    }

    /// A connection to `server`: one that is open already, or a new one.
    async fn open(&mut self, server: &HostPort, request: &Request) -> Result<Open, FailureCause> {
        let secure = request.url.scheme() == "https";
        let fits =
            |open: &Open| open.server == *server && open.secure == secure && open.trusted == request.trusted;
        while let Some(index) = self.connections.iter().position(fits) {
            let mut open = self.connections.swap_remove(index);
            if open.connection.is_open() {
                return Ok(open);
            }
        }
        let tcp = self.connect(server).await?;
        let (stream, client): (Box<dyn Stream>, _) = if secure {
            self.encrypt(server, request, tcp).await?
        } else {
            (Box::new(tcp), ClientRequest::NotAsked)
        };
        let connection = Connection::over(stream, client).await;
        let connection = connection.map_err(|_| FailureCause::Connection(ConnectionFailure::Other))?;
        Ok(Open { server: server.clone(), secure, trusted: request.trusted, client, connection })
    }

    async fn connect(&mut self, server: &HostPort) -> Result<TcpStream, FailureCause> {
        let addresses = self.resolve(server).await?;
        let started = Instant::now();
        let stream = connect(&addresses, server.port, self.fence, self.deadline).await;
        self.journal.took(Stage::Connect, started.elapsed());
        self.journal.connected |= stream.is_ok();
        stream
    }

    async fn resolve(&mut self, server: &HostPort) -> Result<Vec<IpAddr>, FailureCause> {
        let started = Instant::now();
        let addresses = timeout_at(self.deadline, self.resolver.addresses(&server.host)).await;
        self.journal.took(Stage::Resolve, started.elapsed());
        addresses.map_err(|_| FailureCause::Timeout(Stage::Resolve))?.map_err(FailureCause::Dns)
    }

    async fn encrypt(
        &mut self,
        server: &HostPort,
        request: &Request,
        tcp: TcpStream,
    ) -> Result<(Box<dyn Stream>, ClientRequest), FailureCause> {
        let started = Instant::now();
        let handshake = timeout_at(self.deadline, self.tls.shake(&server.host, request.trusted, tcp)).await;
        self.journal.took(Stage::Tls, started.elapsed());
        let handshake = handshake.map_err(|_| FailureCause::Timeout(Stage::Tls))?;
        self.journal.handshakes.push(HandshakeRecord {
            server: server.clone(),
            decisive: request.decisive,
            failure: handshake.stream.as_ref().err().cloned().unwrap_or_default(),
            certificate_defects: handshake.certificate_defects,
            presented: handshake.presented,
        });
        let stream = handshake.stream.map_err(|_| FailureCause::Tls)?;
        Ok((stream, handshake.client))
    }
}

fn path_and_query(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn host_header(url: &Url) -> Option<HeaderValue> {
    HeaderValue::from_str(&url[url::Position::BeforeHost..url::Position::AfterPort]).ok()
}

fn is_about_certificates(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("SSL certificate")
}
