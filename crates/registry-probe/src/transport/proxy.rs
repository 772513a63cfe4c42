//! Connections through the proxy: authentication and tunnels (`CONNECT`, RFC 9110, section 9.3.6).
//!
//! Owns what is said to the proxy and what its answers mean. A server behind `http://` is asked for by its whole URL
//! instead of through a tunnel, as Go's clients and curl do: proxies commonly let tunnels through to port 443 alone.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout};

use super::connect::connection_failure;
use super::network::ByteStream;
use crate::backoff::Backoff;
use crate::findings::{ProxyFailure, ProxyFault};
use crate::host::HostPort;
use crate::proxy::Proxy;

/// The size limit of a response head, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// The proxy, and the state of its credentials.
pub(crate) struct ProxyRoute {
    pub(crate) proxy: Proxy,
    authorization: Option<HeaderValue>,
    login: LoginGate,
}

/// What a proxy answers to `CONNECT`.
pub(super) struct TunnelAnswer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
}

impl ProxyRoute {
    pub(crate) fn new(proxy: Proxy) -> Self {
        let authorization = proxy.authorization();
        Self { proxy, authorization, login: LoginGate::default() }
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(super) fn failure(&self, fault: ProxyFault) -> ProxyFailure {
        ProxyFailure { proxy: Box::new(self.proxy.server().clone()), fault }
    }

    /// Checks whether the proxy credentials may be sent, or were rejected and must wait. A response to a request for an absolute URL
    /// doesn't count: a 407 may be the registry's own, and a tenant's registry must not delay all others.
    pub(super) fn check_login(&self) -> Result<(), ProxyFault> {
        self.login.is_accepted().map(|_| ())
    }

    /// Runs one exchange that shows the login to the proxy, and learns from the status of its answer. Nothing is sent
    /// while a rejected login waits; as long as a login is not accepted yet, exchanges come one after the other, so
    /// that a wrong password is not tried by all validations at once.
    pub(super) async fn with_login<T, E>(
        &self,
        exchange: impl Future<Output = Result<T, E>>,
        status: impl Fn(&T) -> u16,
    ) -> Result<Result<T, E>, ProxyFault> {
        if self.authorization.is_none() {
            return Ok(exchange.await);
        }
        let turn = self.login.enter().await?;
        let mut exchange = pin!(exchange);
        // A server behind the proxy that is slow to answer must not hold up the others.
        let early = match &turn {
            Some(_) => timeout(LONGEST_TURN, &mut exchange).await.ok(),
            None => None,
        };
        let outcome = if let Some(outcome) = early {
            outcome
        } else {
            drop(turn);
            exchange.await
        };
        if let Ok(answer) = &outcome {
            self.login.note(status(answer) != 407);
        }
        Ok(outcome)
    }

    /// The fault for an unsuccessful status of the proxy.
    pub(super) fn fault_of(&self, status: u16) -> ProxyFault {
        match status {
            407 if self.authorization.is_none() => ProxyFault::LoginRequired,
            407 => ProxyFault::LoginRejected,
            403 | 451 => ProxyFault::Forbidden(status),
            status => ProxyFault::Status(status),
        }
    }

    /// Asks for a tunnel to `server`; after a status of success the stream is the server's.
    pub(super) async fn ask_for_tunnel<S: ByteStream>(
        &self,
        stream: &mut S,
        server: &HostPort,
        user_agent: &HeaderValue,
    ) -> Result<TunnelAnswer, ProxyFault> {
        let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: ").into_bytes();
        request.extend_from_slice(user_agent.as_bytes());
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"\r\nProxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
        }
        request.extend_from_slice(b"\r\n\r\n");
        let broken = |error: std::io::Error| ProxyFault::Connection(connection_failure(&error));
        stream.write_all(&request).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        loop {
            let head = read_head(stream).await?;
            let answer = parse_head(&head).ok_or(ProxyFault::NotHttp)?;
            if !(100..200).contains(&answer.status) {
                return Ok(answer);
            }
        }
    }
}

/// Reads up to the empty line that ends the head, and not one byte more: what follows is the server's.
async fn read_head<S: ByteStream>(stream: &mut S) -> Result<Vec<u8>, ProxyFault> {
    let mut head = Vec::new();
    while !(head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n")) {
        if head.len() == LARGEST_HEAD {
            return Err(ProxyFault::NotHttp);
        }
        let byte = stream.read_u8().await;
        head.push(byte.map_err(|error| ProxyFault::Connection(connection_failure(&error)))?);
        // What is no HTTP may never send an empty line.
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Err(ProxyFault::NotHttp);
        }
    }
    Ok(head)
}

/// A status line and headers; a header that can't be read is skipped.
fn parse_head(head: &[u8]) -> Option<TunnelAnswer> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value.trim()).ok()?))
    });
    (100..1000).contains(&status).then(|| TunnelAnswer { status, headers: headers.collect() })
}

/// The state of the proxy credentials, so that rejected ones are not retried too often: proxies lock accounts.
#[derive(Default)]
struct LoginGate {
    state: Mutex<LoginState>,
    turns: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum LoginState {
    #[default]
    Unproven,
    Accepted,
    Rejected {
        until: Instant,
        failures: u32,
    },
}

const LONGEST_TURN: Duration = Duration::from_secs(2);

impl LoginGate {
    async fn enter(&self) -> Result<Option<MutexGuard<'_, ()>>, ProxyFault> {
        if self.is_accepted()? {
            return Ok(None);
        }
        let turn = self.turns.lock().await;
        Ok(if self.is_accepted()? { None } else { Some(turn) })
    }

    fn is_accepted(&self) -> Result<bool, ProxyFault> {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            LoginState::Rejected { until, .. } if Instant::now() < until => Err(ProxyFault::LoginRejected),
            LoginState::Accepted => Ok(true),
            LoginState::Rejected { .. } | LoginState::Unproven => Ok(false),
        }
    }

    fn note(&self, accepted: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let failures = match *state {
            _ if accepted => {
                *state = LoginState::Accepted;
                return;
            }
            // Of several that were under way at the same time, one counts.
            LoginState::Rejected { until, .. } if now < until => return,
            LoginState::Rejected { failures, .. } => failures.saturating_add(1),
            LoginState::Unproven | LoginState::Accepted => 1,
        };
        *state = LoginState::Rejected { until: now + Backoff::PROXY_LOGIN.after(failures), failures };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use secrecy::SecretString;

    use super::*;
    use crate::proxy::NoProxy;

    fn route(url: &str) -> ProxyRoute {
        ProxyRoute::new(Proxy::parse(&SecretString::from(url), NoProxy::default()).unwrap())
    }

    /// How often the proxy is asked by `waits`, of which each comes so many seconds after the one before.
    async fn asked(route: &ProxyRoute, status: u16, waits: &[u64]) -> usize {
        let count = AtomicUsize::new(0);
        for wait in waits {
            tokio::time::advance(Duration::from_secs(*wait)).await;
            let exchange = async {
                count.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>(status)
            };
            let _ = route.with_login(exchange, |status| *status).await;
        }
        count.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn backs_off_after_rejected_proxy_credentials() {
        let route = route("http://alice:wrong@proxy");
        assert_eq!(asked(&route, 407, &[0, 0, 59]).await, 1);
        assert_eq!(asked(&route, 407, &[1, 119]).await, 1, "two minutes");
        assert_eq!(asked(&route, 407, &[1, 239]).await, 1, "four minutes");
        assert_eq!(asked(&route, 200, &[1, 0, 0]).await, 3, "accepted again");
        assert_eq!(asked(&route, 407, &[0, 59, 1]).await, 2, "and the pause begins anew");
        assert_eq!(asked(&self::route("http://proxy"), 407, &[0, 0]).await, 2, "nobody signs in");
    }

    #[tokio::test(start_paused = true)]
    async fn tries_unproven_credentials_one_at_a_time() {
        let (route, count) = (Arc::new(route("http://alice:wrong@proxy")), Arc::new(AtomicUsize::new(0)));
        let tries = (0..64).map(|_| {
            let (route, count) = (route.clone(), count.clone());
            async move {
                let exchange = async {
                    count.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, ()>(407)
                };
                matches!(route.with_login(exchange, |status| *status).await, Err(ProxyFault::LoginRejected))
            }
        });
        let held_back = futures::future::join_all(tries).await;
        assert_eq!(held_back.iter().filter(|held| **held).count(), 63);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn reads_response_head_in_pieces() {
        let status = |head: &str| parse_head(head.as_bytes()).map(|answer| answer.status);
        assert_eq!(status("HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status("HTTP/1.0 407\r\nbroken\r\n: x\r\n\r\n"), Some(407));
        for head in ["", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 20\r\n\r\n"] {
            assert_eq!(status(head), None, "{head:?}");
        }
        let answer = parse_head(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n").unwrap();
        assert_eq!(answer.headers.get("retry-after").unwrap(), "7");
    }
}
