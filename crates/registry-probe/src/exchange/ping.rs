//! The first answer: does a registry speak, and what does it ask for?

use super::decision::{Exchange, ExchangeStep, ExchangeStop};
use super::question::Pass;
use super::reply::{Failure, FailureCause, Refusal, Reply, ReplyKind};
use crate::challenge::Challenge;
use crate::findings::{EndpointFinding, NotARegistry};
use crate::host::HostPort;

/// How a registry greets an anonymous client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ping<'a> {
    /// It serves anonymous clients without a token.
    pub(super) served: bool,
    /// What it asks for; some ask even where they serve.
    pub(super) challenges: &'a [Challenge],
    /// It answered 403, which may have nothing to do with credentials (RFC 9110, section 15.5.4).
    pub(super) forbidden: bool,
}

impl Ping<'_> {
    /// Is there a challenge of that scheme?
    pub(super) fn asks_for(&self, scheme: &str) -> bool {
        self.challenges.iter().any(|challenge| challenge.is(scheme))
    }

    /// There are challenges, and none that can be answered.
    pub(super) fn is_foreign(&self) -> bool {
        !self.challenges.is_empty() && !self.asks_for("Basic") && !self.asks_for("Bearer")
    }

    /// It answered 403 and asks for nothing: a firewall, more often than not.
    pub(super) fn forbids_everybody(&self) -> bool {
        self.forbidden && self.challenges.is_empty()
    }

    /// The schemes that it asks for, fit to be shown.
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
    /// Pings the registry. Ends the validation where none answers.
    pub(super) fn opening(&self) -> ExchangeStep<Ping<'a>> {
        let server = self.server();
        let reply = match self.api(&Pass::Nothing)? {
            Ok(reply) => reply,
            Err(failure) => return Err(ExchangeStop::endpoint(unreached(failure))),
        };
        let challenges = reply.challenges.as_slice();
        let finding = match opening_of(reply, server) {
            Ok(served) => {
                return Ok(Ping { served, challenges, forbidden: reply.said == ReplyKind::Forbidden });
            }
            Err(finding) => finding,
        };
        match self.repository_of_unknown()? {
            Some(tags) => Ok(Ping { served: true, challenges: &tags.challenges, forbidden: false }),
            None => Err(ExchangeStop::endpoint(finding)),
        }
    }

    /// Where `/v2/` leaves it open and a repository is named, that repository's answer decides: a list of tags, or an error
    /// as registries give it. Asked without credentials. None where `/v2/` is a registry's, or the repository isn't.
    fn repository_of_unknown(&self) -> ExchangeStep<Option<&'a Reply>> {
        let Ok(ping) = self.api(&Pass::Nothing)? else { return Ok(None) };
        let is_unknown = matches!(opening_of(ping, self.server()), Err(EndpointFinding::NotARegistry { .. }));
        if !is_unknown || ping.said == ReplyKind::WantsTls || self.case.repository.is_none() {
            return Ok(None);
        }
        let is_of_registry = |tags: &&Reply| tags.is_tag_list() || (tags.speaks_oci && tags.said.is_denial());
        Ok(self.tags(&Pass::Nothing)?.ok().filter(is_of_registry))
    }

    /// Whether the registry is known by its repository alone: what it says at `/v2/` is then nothing to go by.
    pub(super) fn is_known_by_repository(&self) -> ExchangeStep<bool> {
        Ok(self.repository_of_unknown()?.is_some())
    }

    /// Whether `/v2/` says this to everybody, and so to whoever signs in, though its repository is a registry's.
    pub(super) fn is_said_to_everybody(&self, refusal: Refusal) -> ExchangeStep<bool> {
        let ping = self.api(&Pass::Nothing)?;
        Ok(self.is_known_by_repository()? && ping.is_ok_and(|ping| ping.said.refusal() == refusal))
    }
}

/// Whether an anonymous client is served, or why this is no registry to go on with.
fn opening_of(reply: &Reply, server: HostPort) -> Result<bool, EndpointFinding> {
    let not_a_registry = |server, cause| Err(EndpointFinding::NotARegistry { server, cause });
    match &reply.said {
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
        // It was reached; what is wrong with its certificate is the next layer's finding.
        FailureCause::Tls => EndpointFinding::Reachable,
    }
}
