//! The first request: whether a registry answers, and which authentication it asks for.

use super::decision::{Exchange, ExchangeStep, ExchangeStop};
use super::question::AuthAttempt;
use super::reply::{Failure, FailureCause, Refusal, Reply, ReplyKind};
use crate::challenge::Challenge;
use crate::findings::{EndpointFinding, NotARegistry};
use crate::host::HostPort;

/// How a registry answers an anonymous client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ping<'a> {
    /// It serves anonymous clients without a token.
    pub(super) served: bool,
    /// Its challenges; some registries send them with successful responses too.
    pub(super) challenges: &'a [Challenge],
    /// It answered 403, which may have nothing to do with credentials (RFC 9110, section 15.5.4).
    pub(super) forbidden: bool,
}

impl Ping<'_> {
    /// Whether there is a challenge of that scheme.
    pub(super) fn asks_for(&self, scheme: &str) -> bool {
        self.challenges.iter().any(|challenge| challenge.is(scheme))
    }

    /// Whether there are challenges, and only of unsupported schemes.
    pub(super) fn has_only_unsupported_schemes(&self) -> bool {
        !self.challenges.is_empty() && !self.asks_for("Basic") && !self.asks_for("Bearer")
    }

    /// Whether it answered 403 without a challenge, which most often comes from a firewall.
    pub(super) fn forbids_all(&self) -> bool {
        self.forbidden && self.challenges.is_empty()
    }

    /// The schemes that it asks for, shortened for messages.
    pub(super) fn schemes(&self) -> Vec<String> {
        let mut schemes: Vec<String> = Vec::new();
        for challenge in self.challenges {
            let scheme: String = challenge.scheme().chars().take(32).collect();
            if schemes.len() < 5 && !schemes.contains(&scheme) {
                schemes.push(scheme);
            }
        }
        schemes
    }
}

impl<'a> Exchange<'a> {
    /// Pings the registry. Stops the validation if no registry answers.
    pub(super) fn ping(&self) -> ExchangeStep<Ping<'a>> {
        let server = self.server();
        let reply = match self.api(&AuthAttempt::Nothing)? {
            Ok(reply) => reply,
            Err(failure) => return Err(ExchangeStop::endpoint(unreached(failure))),
        };
        let challenges = reply.challenges.as_slice();
        let finding = match served_anonymously(reply, server) {
            Ok(served) => {
                return Ok(Ping { served, challenges, forbidden: reply.kind == ReplyKind::Forbidden });
            }
            Err(finding) => finding,
        };
        match self.repository_of_unknown()? {
            Some(tags) => Ok(Ping { served: true, challenges: &tags.challenges, forbidden: false }),
            None => Err(ExchangeStop::endpoint(finding)),
        }
    }

    /// If the response at `/v2/` is ambiguous and a repository is named, that repository's answer decides: a list of tags, or an error
    /// in the format of registries. Sent without credentials. `None` if `/v2/` is clearly a registry's, or the repository's answer isn't.
    fn repository_of_unknown(&self) -> ExchangeStep<Option<&'a Reply>> {
        let Ok(ping) = self.api(&AuthAttempt::Nothing)? else { return Ok(None) };
        let is_unknown =
            matches!(served_anonymously(ping, self.server()), Err(EndpointFinding::NotARegistry { .. }));
        if !is_unknown || ping.kind == ReplyKind::WantsTls || self.case.repository.is_none() {
            return Ok(None);
        }
        let is_of_registry = |tags: &&Reply| tags.is_tag_list() || (tags.speaks_oci && tags.kind.is_denial());
        Ok(self.tags(&AuthAttempt::Nothing)?.ok().filter(is_of_registry))
    }

    /// Whether the registry is recognized by its repository alone. Its response at `/v2/` then has no meaning.
    pub(super) fn is_known_by_repository(&self) -> ExchangeStep<bool> {
        Ok(self.repository_of_unknown()?.is_some())
    }

    /// Whether `/v2/` gives this answer to all clients, although the repository's answer is a registry's.
    pub(super) fn is_status_for_all(&self, refusal: Refusal) -> ExchangeStep<bool> {
        let ping = self.api(&AuthAttempt::Nothing)?;
        Ok(self.is_known_by_repository()? && ping.is_ok_and(|ping| ping.kind.refusal() == refusal))
    }
}

/// Whether an anonymous client is served, or why the validation stops here.
fn served_anonymously(reply: &Reply, server: HostPort) -> Result<bool, EndpointFinding> {
    let not_a_registry = |server, cause| Err(EndpointFinding::NotARegistry { server, cause });
    match &reply.kind {
        ReplyKind::Granted(_) if reply.has_sign => Ok(true),
        ReplyKind::Unauthorized | ReplyKind::Forbidden if reply.has_sign => Ok(false),
        ReplyKind::Throttled => Err(EndpointFinding::Throttled { server }),
        ReplyKind::Fault(status) => Err(EndpointFinding::ServerError { server, status: *status }),
        ReplyKind::Redirect { to, .. } => Err(EndpointFinding::RedirectRefused { server, to: to.clone() }),
        ReplyKind::Granted(_) | ReplyKind::Page => not_a_registry(server, NotARegistry::NoSign),
        ReplyKind::WantsTls => not_a_registry(server, NotARegistry::WantsTls),
        ReplyKind::Unauthorized => not_a_registry(server, NotARegistry::Status(401)),
        ReplyKind::Forbidden => not_a_registry(server, NotARegistry::Status(403)),
        ReplyKind::NotFound => not_a_registry(server, NotARegistry::Status(404)),
        ReplyKind::Other(status) => not_a_registry(server, NotARegistry::Status(*status)),
    }
}

fn unreached(failure: &Failure) -> EndpointFinding {
    let server = failure.server.clone();
    match failure.cause.clone() {
        FailureCause::Dns(cause) => EndpointFinding::DnsFailure { host: server.host, cause },
        FailureCause::EgressDenied(address) => EndpointFinding::EgressDenied { server, address },
        FailureCause::Refused => EndpointFinding::ConnectionRefused { server },
        FailureCause::Connection(cause) => EndpointFinding::ConnectionFailed { server, cause },
        FailureCause::Timeout(during) => EndpointFinding::Timeout { server, during },
        FailureCause::NotHttp => EndpointFinding::NotARegistry { server, cause: NotARegistry::NotHttp },
        FailureCause::Proxy(failure) => EndpointFinding::ProxyFailed { server, failure },
        // The server was reached; the TLS layer reports the certificate's defect.
        FailureCause::Tls => EndpointFinding::Reachable,
    }
}
