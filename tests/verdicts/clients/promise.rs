//! What a verdict promises to clients with the same credentials, and known exceptions of clients.

use std::fmt;

use registry_api::RegistryStatus;

use super::Cell;
use super::pull::{Client, Outcome};
use crate::row::Line;
use crate::runner::line;

/// A verdict, by the conditions that promise something.
pub struct Promise {
    reachable: Line,
    tls: Line,
    credentials: Line,
    content: Line,
}

/// No client pulls.
const NOTHING: &[Outcome] = &[Outcome::Unauthorized, Outcome::Denied, Outcome::NotFound];
const REFUSED: &[Outcome] = &[Outcome::Unauthorized, Outcome::Denied];

impl Promise {
    pub fn of(status: &RegistryStatus) -> Self {
        Self {
            reachable: line(status, "EndpointReachable"),
            tls: line(status, "TLSVerified"),
            credentials: line(status, "CredentialsValidated"),
            content: line(status, "ContentPathAccessible"),
        }
    }

    /// The reasons of its conditions.
    pub fn verdicts(&self) -> impl Iterator<Item = &str> {
        [&self.reachable, &self.tls, &self.credentials, &self.content]
            .into_iter()
            .map(|line| line.reason.as_str())
    }

    /// Whether this is a verdict on credentials or content with that reason.
    pub fn message_contains(&self, reason: &str) -> bool {
        self.verdicts().any(|given| given == reason)
    }

    /// What clients may get, by the first condition that says something definite.
    fn outcomes(&self) -> &'static [Outcome] {
        match (self.tls.reason.as_str(), self.reachable.reason.as_str()) {
            ("UnknownIssuer" | "Expired" | "NotYetValid" | "HostnameMismatch" | "HandshakeFailed", _) => {
                return &[Outcome::TlsFailure];
            }
            (_, "ConnectionRefused") => return &[Outcome::NoConnection],
            _ => {}
        }
        match (self.credentials.reason.as_str(), self.content.reason.as_str()) {
            ("Rejected", _) => REFUSED,
            ("Required", _) => NOTHING,
            (_, "Accessible") => &[Outcome::Pulled],
            (_, "NotFound" | "Denied") => NOTHING,
            // Every real registry of the tests is one whose repositories can be judged.
            _ => &[],
        }
    }

    /// Whether a client that gets this agrees.
    pub fn allows(&self, outcome: &Outcome) -> bool {
        self.outcomes().contains(outcome)
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts: Vec<&str> = self.verdicts().collect();
        f.write_str(&verdicts.join(" "))
    }
}

/// A disagreement that is the client's, and why.
pub struct Exception {
    client: Client,
    outcome: Outcome,
    verdict: &'static str,
    /// A part of the registry's name.
    pub registry: &'static str,
    pub reason: &'static str,
}

impl Exception {
    /// Whether this disagreement is the known one.
    pub fn covers(&self, cell: &Cell<'_>, client: Client, outcome: &Outcome, promise: &Promise) -> bool {
        self.client == client
            && self.outcome == *outcome
            && promise.message_contains(self.verdict)
            && cell.registry.name.contains(self.registry)
    }
}

/// All that are known.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        client: Client::Crane,
        outcome: Outcome::RealmRefused,
        verdict: "Reachable",
        registry: "token service",
        reason: "crane goes to no token service at an address of loopback, unless it is the registry's own host and port",
    },
    Exception {
        client: Client::Oci,
        outcome: Outcome::Unauthorized,
        verdict: "Accessible",
        registry: "docker-registry 2.8, tokens",
        reason: "oci-client gets 401 for its manifest request from docker-registry 2.8 with a token over TLS (in the clear, and from 3.1, it pulls), where crane and helm pull the same; the cause was not found",
    },
];
