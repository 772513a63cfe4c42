//! The prober: what outlives a single validation, and the run of one from start to findings.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::exchange::{Case, Next, Request, Seen, Verdict, next};
use crate::findings::{CredentialsFinding, Findings, Withholding};
use crate::gate::{Admission, Gate, OpenGate};
use crate::host::HostPort;
use crate::realm::Trust;
use crate::summary::summarize;
use crate::target::{Material, Target};
use crate::tls::{TlsPolicy, TlsRoots};
use crate::transport::{Journal, Resolver, Sender};

/// How a prober is set up.
#[derive(Debug, Clone)]
pub struct ProberSettings {
    /// Says itself in `User-Agent`, as `registry-operator/<version>`.
    pub version: String,
    /// Name servers to ask; empty: those of the system, with its hosts file and search domains.
    pub name_servers: Vec<SocketAddr>,
}

impl Default for ProberSettings {
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), name_servers: Vec::new() }
    }
}

/// Why no prober can be set up.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// The resolver can't be set up.
    #[error("the resolver can't be set up: {0}")]
    Resolver(String),
    /// The version does not fit into a header.
    #[error("the version can't be sent in a User-Agent header")]
    Version,
    /// The crypto provider lacks what is needed.
    #[error("the crypto provider has no SHA-256")]
    Crypto,
}

/// Validates registries. Cheap to clone. Holds nothing that was authenticated: no token, connection or TLS
/// session outlives the validation that it was made for.
#[derive(Clone)]
pub struct Prober(Arc<Shared>);

struct Shared {
    resolver: Resolver,
    roots: Arc<TlsRoots>,
    user_agent: HeaderValue,
}

impl Prober {
    /// A prober; it connects to nothing yet.
    pub fn new(settings: ProberSettings) -> Result<Self, ProberError> {
        let ProberSettings { version, name_servers } = settings;
        let user_agent = HeaderValue::from_str(&format!("registry-operator/{version}"));
        let resolver = Resolver::new(&name_servers);
        Ok(Self(Arc::new(Shared {
            resolver: resolver.map_err(|error| ProberError::Resolver(error.to_string()))?,
            roots: Arc::new(TlsRoots::new().ok_or(ProberError::Crypto)?),
            user_agent: user_agent.map_err(|_| ProberError::Version)?,
        })))
    }

    /// Can this registry be used with these credentials? Never fails: every failure is a finding.
    ///
    /// Must run on a Tokio runtime with I/O and time. Safe to drop at any point. Begins at once: how many validations
    /// are under way, and at which hosts, is for the caller to decide.
    pub async fn probe(&self, target: &Target, material: &Material, now: Timestamp) -> Findings {
        self.probe_through(&OpenGate, target, material, now).await
    }

    /// The same, where `gate` decides to which servers the credentials may be sent. Whatever comes before them is asked
    /// all the same.
    pub async fn probe_through(
        &self,
        gate: &impl Gate,
        target: &Target,
        material: &Material,
        now: Timestamp,
    ) -> Findings {
        let (verdict, journal) = self.exchange(gate, target, material, now).await;
        summarize(target, material, verdict, &journal)
    }

    async fn exchange(
        &self,
        gate: &impl Gate,
        target: &Target,
        material: &Material,
        now: Timestamp,
    ) -> (Verdict, Journal) {
        let case = case(target, material, now);
        let mut seen = Seen::default();
        let mut sender = self.sender(target, material, now);
        let mut admitted = Vec::new();
        loop {
            let question = match next(&case, &seen) {
                Next::Done(verdict) => return (*verdict, sender.journal),
                Next::Ask(question) => *question,
            };
            let recipient = question.recipient(target.endpoint.server());
            if let Some(server) = recipient.as_ref().filter(|server| !admitted.contains(*server)) {
                match admission(gate, server, sender.deadline).await {
                    Admission::Granted => admitted.push(server.clone()),
                    Admission::Refused(finding) => return (Verdict::of_credentials(finding), sender.journal),
                }
            }
            let request = Request::of(&question, &case, &seen);
            let outcome = sender.send(&request).await;
            if let (Some(server), Ok(response)) = (&recipient, &outcome)
                && question.is_unscoped()
                && response.status == 403
            {
                gate.forbidden(server);
            }
            seen.note(question, outcome.as_ref().map_err(Clone::clone));
        }
    }

    fn sender<'a>(&'a self, target: &'a Target, material: &Material, now: Timestamp) -> Sender<'a> {
        let tls = TlsPolicy {
            roots: self.0.roots.clone(),
            ca: material.ca.clone(),
            skip_verify: target.skip_verify,
            client_certificate: material.client_certificate.clone(),
            now,
        };
        Sender {
            resolver: &self.0.resolver,
            user_agent: &self.0.user_agent,
            fence: &target.fence,
            tls: Arc::new(tls),
            deadline: Instant::now() + target.deadline,
            now,
            journal: Journal::default(),
            connections: Vec::new(),
            ran_out: None,
        }
    }
}

async fn admission(gate: &impl Gate, server: &HostPort, deadline: Instant) -> Admission {
    let withheld = CredentialsFinding::Withheld { server: server.clone(), why: Withholding::UnderWay };
    timeout_at(deadline, gate.admit(server)).await.unwrap_or(Admission::Refused(withheld))
}

fn case<'a>(target: &'a Target, material: &'a Material, now: Timestamp) -> Case<'a> {
    let base_path = target.base_path.as_ref();
    Case {
        endpoint: &target.endpoint,
        base_path,
        repository: target.repository.as_ref().map(|repository| repository.below(base_path)),
        credentials: material.credentials.as_ref(),
        trust: Trust {
            registry: target.endpoint.api(),
            listed: &target.trusted_token_services,
            only_registry: target.only_to_endpoint,
        },
        now,
    }
}
