//! Requests to responses, within one validation: connections are made when needed and kept until it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::connect::connect;
use super::connection::{Broken, Connection, Received};
use super::journal::{HandshakeRecord, Journal};
use super::network::{ByteStream, Network};
use super::proxy::ProxyRoute;
use super::retry_after::retry_after;
use crate::egress_policy::EgressPolicy;
use crate::endpoint::Scheme;
use crate::exchange::{Failure, FailureCause, Request, Response};
use crate::findings::{ConnectionFailure, DnsFailure, ProxyFault, Stage};
use crate::host::{Host, HostPort};
use crate::tls::{ClientRequest, TlsDefect, TlsPolicy};

/// Sends the requests of one validation.
pub(crate) struct Sender<'a> {
    pub(crate) network: &'a dyn Network,
    pub(crate) user_agent: &'a HeaderValue,
    pub(crate) egress_policy: &'a EgressPolicy,
    pub(crate) proxy: Option<&'a ProxyRoute>,
    pub(crate) tls: Arc<TlsPolicy>,
    pub(crate) deadline: Instant,
    pub(crate) now: Timestamp,
    pub(crate) journal: Journal,
    pub(crate) connections: Vec<OpenConnection>,
    /// The step that could not be completed before the deadline.
    pub(crate) ran_out: Option<FailureCause>,
    /// The rest of the request that was sent and not answered before the deadline.
    pub(crate) unanswered: Option<LateResponse>,
}

/// The server's response after the deadline; `None` if there is none.
pub(crate) type LateResponse = BoxFuture<'static, Option<Response>>;

/// How long a name is looked up that the proxy will look up for itself.
const PROXIED_LOOK_UP: Duration = Duration::from_secs(2);

/// A connection, and what it may be used for again.
pub(crate) struct OpenConnection {
    server: HostPort,
    secure: bool,
    trusted: bool,
    client: ClientRequest,
    /// It leads to the proxy, which is asked for whole URLs.
    forwarded: bool,
    connection: Connection,
}

impl Sender<'_> {
    /// Sends a request.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        let Some(server) = HostPort::of(&request.url) else {
            let server = HostPort { host: crate::host::Host::Name(String::new()), port: 0 };
            return Err(Failure { server, cause: FailureCause::NotHttp });
        };
        // Time ran out during an earlier request: that failure is reported, and nothing more is sent.
        if let Some(cause) = self.ran_out.clone() {
            return Err(Failure { server, cause });
        }
        let outcome = self.send_to(&server, request).await;
        if let Err(cause) = &outcome
            && is_timeout(cause)
        {
            self.ran_out = (Instant::now() >= self.deadline).then(|| cause.clone());
        }
        self.journal.count(outcome.as_ref().ok().map(|received| received.status));
        let received = outcome.map_err(|cause| Failure { server, cause })?;
        tracing::debug!(method = %request.method, host = ?request.url.host_str(), path = request.url.path(),
            status = received.status, "asked");
        if matches!(received.status, 429 | 500..=599) {
            self.journal.wait(self.asked_pause(&received.headers));
        }
        Ok(response(request.url.clone(), received))
    }

    /// Boxed, so that what a connection does is compiled in this crate only. An async function is compiled into each program that
    /// awaits it.
    fn send_to<'s>(
        &'s mut self,
        server: &'s HostPort,
        request: &'s Request,
    ) -> BoxFuture<'s, Result<Received, FailureCause>> {
        Box::pin(async move {
            let open = self.open(server, request).await?;
            let (again, forwarded) = (open.connection.used && request.method.is_safe(), open.forwarded);
            let mut sent = self.send_over(open, request).await;
            // The server had closed it meanwhile, as it may between two requests.
            if again && matches!(sent, Err(Broken::Dropped(_))) {
                let open = self.open(server, request).await?;
                sent = self.send_over(open, request).await;
            }
            let (open, received) = sent.map_err(|broken| self.cause(server, forwarded, broken))?;
            self.keep(open, received)
        })
    }

    /// Returns the connection too, if it can be used again.
    async fn send_over(
        &mut self,
        mut open: OpenConnection,
        request: &Request,
    ) -> Result<(OpenConnection, Received), Broken> {
        let route = self.proxy.filter(|_| open.forwarded);
        let message = self.message(request, route).ok_or(Broken::Other(FailureCause::NotHttp))?;
        let started = Instant::now();
        if let Some(route) = route {
            let paused = |fault| Broken::Other(FailureCause::Proxy(route.failure(fault)));
            route.check_login().map_err(paused)?;
        }
        let mut sending = Box::pin(async move {
            let received = open.connection.send(message).await?;
            Ok((open, received))
        });
        let outcome = timeout_at(self.deadline, &mut sending).await;
        self.journal.took(Stage::Request, started.elapsed());
        outcome.unwrap_or_else(|_| {
            let url = request.url.clone();
            self.unanswered = Some(Box::pin(async move {
                let (open, received) = sending.await.ok()?;
                open.is_answered_by_server(&received).then(|| response(url, received))
            }));
            Err(Broken::Other(FailureCause::Timeout(Stage::Request)))
        })
    }

    fn cause(&mut self, server: &HostPort, forwarded: bool, broken: Broken) -> FailureCause {
        let cause = match broken {
            Broken::Tls(defect) => self.reject_handshake(server, defect),
            Broken::Dropped(failure) => FailureCause::Connection(failure),
            Broken::Other(cause) => cause,
        };
        match self.proxy {
            Some(route) if forwarded => of_proxy(route, cause),
            _ => cause,
        }
    }

    /// Keeps the connection for the next request, unless the response is nginx's error for a missing client
    /// certificate.
    fn keep(&mut self, mut open: OpenConnection, received: Received) -> Result<Received, FailureCause> {
        if let Some(defect) = open.missing_certificate(&received) {
            return Err(self.reject_handshake(&open.server, defect));
        }
        if let Some(route) = self.proxy.filter(|_| open.is_answered_by_proxy(&received)) {
            self.journal.wait(self.asked_pause(&received.headers));
            return Err(FailureCause::Proxy(route.failure(route.fault_of(received.status))));
        }
        self.journal.connected = true;
        if open.connection.is_open() {
            self.connections.push(open);
        }
        Ok(received)
    }

    fn asked_pause(&self, headers: &HeaderMap) -> Option<Duration> {
        headers.get(RETRY_AFTER).and_then(|value| retry_after(value, self.now))
    }

    /// Records that the server rejected the handshake after it had seemed to succeed.
    fn reject_handshake(&mut self, server: &HostPort, defect: TlsDefect) -> FailureCause {
        if let Some(record) = self.journal.handshakes.iter_mut().rfind(|record| record.server == *server) {
            record.failure = vec![defect];
        }
        FailureCause::Tls
    }

    fn message(&self, request: &Request, route: Option<&ProxyRoute>) -> Option<http::Request<Full<Bytes>>> {
        let body = request.form.as_ref().map(|form| Bytes::copy_from_slice(form.expose_secret().as_bytes()));
        let mut message = http::Request::builder()
            .method(request.method.clone())
            .uri(if route.is_some() {
                absolute_form(&request.url)
            } else {
                path_and_query(&request.url).to_owned()
            })
            .header(HOST, host_header(&request.url)?)
            .header(USER_AGENT, self.user_agent)
            .header(ACCEPT, request.accept)
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = &request.authorization {
            message = message.header(AUTHORIZATION, authorization);
        }
        if let Some(authorization) = route.and_then(ProxyRoute::authorization) {
            message = message.header(PROXY_AUTHORIZATION, authorization);
        }
        if body.is_some() {
            message = message.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        message.body(Full::new(body.unwrap_or_default())).ok()
    }

    /// A connection to `server`: one that is open already, or a new one.
    async fn open(&mut self, server: &HostPort, request: &Request) -> Result<OpenConnection, FailureCause> {
        let secure = request.url.scheme() == "https";
        let fits = |open: &OpenConnection| {
            open.server == *server && open.secure == secure && open.trusted == request.trusted
        };
        while let Some(index) = self.connections.iter().position(fits) {
            let mut open = self.connections.swap_remove(index);
            if open.connection.is_open() {
                return Ok(open);
            }
        }
        let (stream, forwarded) = match self.proxy.filter(|route| route.proxy.serves(server)) {
            None => (self.connect(server, request).await?, false),
            Some(route) => {
                self.admit(server, request).await?;
                (self.connect_through(route, server, secure).await?, !secure)
            }
        };
        let (stream, client) = if secure {
            self.encrypt(server, request, stream).await?
        } else {
            (stream, ClientRequest::NotAsked)
        };
        let connection = Connection::over(stream, client).await;
        let connection = connection.map_err(|_| FailureCause::Connection(ConnectionFailure::Other))?;
        Ok(OpenConnection {
            server: server.clone(),
            secure,
            trusted: request.trusted,
            client,
            forwarded,
            connection,
        })
    }

    /// Connects to the first address that the egress policy allows and that answers.
    async fn connect(
        &mut self,
        server: &HostPort,
        request: &Request,
    ) -> Result<Box<dyn ByteStream>, FailureCause> {
        let addresses = self.resolve(&server.host, is_absolute(&request.url)).await?;
        let (open, fenced): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().partition(|address| self.egress_policy.allows(**address));
        if let Some(address) = fenced.first().filter(|_| open.is_empty()) {
            return Err(FailureCause::EgressDenied(*address));
        }
        let stream = self.connect_to(&open, server.port).await?;
        self.journal.connected = true;
        Ok(stream)
    }

    /// Allows a server behind the proxy, unless the egress policy denies an address that it resolves to here: one is
    /// enough, because the proxy chooses among them. Names that can't be resolved here are left to the proxy.
    async fn admit(&mut self, server: &HostPort, request: &Request) -> Result<(), FailureCause> {
        let look_up = self.resolve(&server.host, is_absolute(&request.url));
        let Ok(Ok(addresses)) = timeout(PROXIED_LOOK_UP, look_up).await else { return Ok(()) };
        match addresses.iter().find(|address| !self.egress_policy.allows(**address)) {
            Some(address) => Err(FailureCause::EgressDenied(*address)),
            None => Ok(()),
        }
    }

    /// A connection to the proxy, with a tunnel to `server` if TLS is to be spoken with it.
    async fn connect_through(
        &mut self,
        route: &ProxyRoute,
        server: &HostPort,
        secure: bool,
    ) -> Result<Box<dyn ByteStream>, FailureCause> {
        let proxy = route.proxy.server();
        let addresses = self.resolve(&proxy.host, false).await.map_err(|cause| of_proxy(route, cause))?;
        let tcp = self.connect_to(&addresses, proxy.port).await.map_err(|cause| of_proxy(route, cause))?;
        let mut stream = match route.proxy.scheme() {
            Scheme::Http => tcp,
            Scheme::Https => self.encrypt_to_proxy(route, tcp).await?,
        };
        if secure {
            self.open_tunnel(route, server, &mut stream).await?;
            self.journal.connected = true;
        }
        Ok(stream)
    }

    async fn open_tunnel(
        &mut self,
        route: &ProxyRoute,
        server: &HostPort,
        stream: &mut Box<dyn ByteStream>,
    ) -> Result<(), FailureCause> {
        let started = Instant::now();
        let asking = route.ask_for_tunnel(stream, server, self.user_agent);
        let answer = timeout_at(self.deadline, route.with_login(asking, |answer| answer.status)).await;
        self.journal.took(Stage::Connect, started.elapsed());
        let fault = match answer {
            Err(_) => ProxyFault::Timeout(Stage::Request),
            Ok(Err(fault) | Ok(Err(fault))) => fault,
            Ok(Ok(Ok(answer))) if (200..300).contains(&answer.status) => return Ok(()),
            Ok(Ok(Ok(answer))) => {
                self.journal.wait(self.asked_pause(&answer.headers));
                route.fault_of(answer.status)
            }
        };
        Err(FailureCause::Proxy(route.failure(fault)))
    }

    /// The proxy is verified by the public authorities and the administrator's, whatever the registry's spec says.
    async fn encrypt_to_proxy(
        &mut self,
        route: &ProxyRoute,
        tcp: Box<dyn ByteStream>,
    ) -> Result<Box<dyn ByteStream>, FailureCause> {
        let failed = |fault| FailureCause::Proxy(route.failure(fault));
        let started = Instant::now();
        let policy = Arc::new(self.tls.without_target());
        let host = &route.proxy.server().host;
        let handshake = timeout_at(self.deadline, policy.handshake(host, false, tcp)).await;
        self.journal.took(Stage::Connect, started.elapsed());
        let handshake = handshake.map_err(|_| failed(ProxyFault::Timeout(Stage::Tls)))?;
        Ok(handshake.stream.map_err(|_| failed(ProxyFault::Tls))?)
    }

    async fn connect_to(
        &mut self,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<Box<dyn ByteStream>, FailureCause> {
        let started = Instant::now();
        let stream = connect(self.network, addresses, port, self.deadline).await;
        self.journal.took(Stage::Connect, started.elapsed());
        stream
    }

    async fn resolve(&mut self, host: &Host, absolute: bool) -> Result<Arc<[IpAddr]>, FailureCause> {
        let started = Instant::now();
        let addresses = timeout_at(self.deadline, self.network.addresses(host, absolute)).await;
        self.journal.took(Stage::Resolve, started.elapsed());
        // Who joins a look-up that began earlier is told sooner that nobody answers; it says what it would have seen alone.
        let is_short = self.deadline.saturating_duration_since(started) < self.network.longest_lookup();
        match addresses {
            Ok(Err(DnsFailure::NoAnswer)) if !is_short => Err(FailureCause::Dns(DnsFailure::NoAnswer)),
            Err(_) | Ok(Err(DnsFailure::NoAnswer)) => Err(FailureCause::Timeout(Stage::Resolve)),
            Ok(answer) => answer.map_err(FailureCause::Dns),
        }
    }

    async fn encrypt(
        &mut self,
        server: &HostPort,
        request: &Request,
        stream: Box<dyn ByteStream>,
    ) -> Result<(Box<dyn ByteStream>, ClientRequest), FailureCause> {
        let started = Instant::now();
        let handshake =
            timeout_at(self.deadline, self.tls.handshake(&server.host, request.trusted, stream)).await;
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

impl OpenConnection {
    /// The defect if the response is nginx's error for a missing client certificate.
    fn missing_certificate(&self, received: &Received) -> Option<TlsDefect> {
        let ClientRequest::Asked(fault) = self.client else { return None };
        let is_missing = received.status == 400 && is_about_certificates(&received.body);
        is_missing.then_some(TlsDefect::ClientCertificateRequired(fault))
    }

    fn is_answered_by_proxy(&self, received: &Received) -> bool {
        self.forwarded && is_by_proxy(received)
    }

    /// Whether the response says something about the request, and not about the connection.
    fn is_answered_by_server(&self, received: &Received) -> bool {
        self.missing_certificate(received).is_none() && !self.is_answered_by_proxy(received)
    }
}

fn response(url: Url, received: Received) -> Response {
    let Received { status, headers, body, is_broken } = received;
    Response { url, status, headers, body, is_broken }
}

fn is_timeout(cause: &FailureCause) -> bool {
    match cause {
        FailureCause::Timeout(_) => true,
        FailureCause::Proxy(failure) => matches!(failure.fault, ProxyFault::Timeout(_)),
        FailureCause::Dns(_)
        | FailureCause::EgressDenied(_)
        | FailureCause::Refused
        | FailureCause::Connection(_)
        | FailureCause::Tls
        | FailureCause::NotHttp => false,
    }
}

/// A failure of the connection to the proxy, which is not the server's.
fn of_proxy(route: &ProxyRoute, cause: FailureCause) -> FailureCause {
    let fault = match cause {
        FailureCause::Dns(cause) => ProxyFault::Dns(cause),
        FailureCause::Refused => ProxyFault::Refused,
        FailureCause::Connection(cause) => ProxyFault::Connection(cause),
        FailureCause::Timeout(stage) => ProxyFault::Timeout(stage),
        FailureCause::NotHttp => ProxyFault::NotHttp,
        cause @ (FailureCause::EgressDenied(_) | FailureCause::Tls | FailureCause::Proxy(_)) => return cause,
    };
    FailureCause::Proxy(route.failure(fault))
}

/// Whether a response to a request for an absolute URL comes from the proxy. A server error or refusal is assumed to, unless it
/// looks like a registry's: the registry must not be blamed for the proxy's response.
fn is_by_proxy(received: &Received) -> bool {
    let is_registrys = received.headers.contains_key("docker-distribution-api-version")
        || received.body.trim_ascii_start().starts_with(b"{");
    received.status == 407 || (matches!(received.status, 403 | 451 | 502..=504) && !is_registrys)
}

/// Whether the host has a trailing dot.
fn is_absolute(url: &Url) -> bool {
    url.host_str().is_some_and(|host| host.ends_with('.'))
}

/// The URL in absolute form (RFC 9112, section 3.2.2).
fn absolute_form(url: &Url) -> String {
    url[..url::Position::AfterQuery].to_owned()
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
