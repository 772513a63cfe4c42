//! The prober: the state that outlives a single validation, and the run of one from start to findings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::exchange::{ExchangeCase, ExchangeFindings, Next, Question, RecordedAnswers, Request, next};
use crate::findings::{CredentialsFinding, Findings, Withholding};
use crate::gate::{Admission, Gate, OpenGate};
use crate::host::HostPort;
use crate::proxy::Proxy;
use crate::realm::Trust;
use crate::summary::summarize;
use crate::target::{Material, Target};
use crate::tls::{CaBundle, TlsPolicy, TlsRoots};
use crate::transport::{
    Journal, LateResponse, Network, ProxyRoute, Resolver, ResolverSources, Sender, SystemNetwork,
};

/// The settings of a prober.
#[derive(Debug, Clone)]
pub struct ProberSettings {
    /// The version in `User-Agent`: `registry-operator/<version>`.
    pub version: String,
    /// The DNS servers. If empty, those of `resolv_conf`.
    pub name_servers: Vec<SocketAddr>,
    /// The file with search domains and resolver options (resolv.conf(5)). `None`: the system's
    /// `/etc/resolv.conf`, or nowhere if there are `name_servers`.
    pub resolv_conf: Option<PathBuf>,
    /// The hosts file (hosts(5)). It is reloaded when it changes.
    pub hosts_file: PathBuf,
    /// The proxy that registries and token services are reached through.
    pub proxy: Option<Proxy>,
    /// Certification authorities that are trusted for every server, in addition to the public ones.
    pub ca: Option<CaBundle>,
}

impl Default for ProberSettings {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name_servers: Vec::new(),
            resolv_conf: None,
            hosts_file: PathBuf::from("/etc/hosts"),
            proxy: None,
            ca: None,
        }
    }
}

/// Why a prober can't be created.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// The resolver can't be set up.
    #[error("failed to set up the DNS resolver: {0}")]
    Resolver(String),
    /// The version does not fit into a header.
    #[error("the version is not valid in a User-Agent header")]
    Version,
    /// The crypto provider lacks a required algorithm.
    #[error("the crypto provider has no SHA-256")]
    Crypto,
}

/// Validates registries. Cheap to clone. Holds nothing that was authenticated: no token, connection or TLS
/// session outlives the validation that it was made for. What it keeps are addresses of names, which the egress policy judges again
/// at each connection.
#[derive(Clone)]
pub struct Prober(Arc<ProberState>);

struct ProberState {
    network: Arc<dyn Network>,
    roots: Arc<TlsRoots>,
    extra: RwLock<Option<CaBundle>>,
    proxy: Option<ProxyRoute>,
    user_agent: HeaderValue,
}

impl Prober {
    /// A prober; it connects to nothing yet.
    pub fn new(settings: ProberSettings) -> Result<Self, ProberError> {
        let resolver = Resolver::new(ResolverSources {
            name_servers: &settings.name_servers,
            resolv_conf: settings.resolv_conf.as_deref(),
            hosts_file: settings.hosts_file.clone(),
        });
        let resolver = resolver.map_err(|error| ProberError::Resolver(error.to_string()))?;
        Self::with_network(Arc::new(SystemNetwork(resolver)), settings)
    }

    /// The same, over another network than this machine's, which looks up the names instead of what `settings` say.
    pub fn with_network(network: Arc<dyn Network>, settings: ProberSettings) -> Result<Self, ProberError> {
        let ProberSettings { version, proxy, ca, .. } = settings;
        let user_agent = HeaderValue::from_str(&format!("registry-operator/{version}"));
        Ok(Self(Arc::new(ProberState {
            network,
            roots: Arc::new(TlsRoots::new().ok_or(ProberError::Crypto)?),
            extra: RwLock::new(ca),
            proxy: proxy.map(ProxyRoute::new),
            user_agent: user_agent.map_err(|_| ProberError::Version)?,
        })))
    }

    /// Replaces the authorities in [`ProberSettings::ca`]. Validations in progress continue with
    /// those that they started with.
    pub fn trust(&self, ca: Option<CaBundle>) {
        *self.0.extra.write().unwrap_or_else(PoisonError::into_inner) = ca;
    }

    /// Checks whether a registry can be used with the given credentials. Never fails: every failure is a finding.
    ///
    /// Must run on a Tokio runtime with I/O and time. Safe to drop at any point. Begins at once: how many validations
    /// are under way, and at which hosts, is for the caller to decide.
    pub async fn probe(&self, target: &Target, material: &Material, now: Timestamp) -> Findings {
        self.probe_through(&OpenGate, target, material, now).await
    }

    /// Like [`Self::probe`], but `gate` decides to which servers the credentials may be sent. Requests before them are sent
    /// in any case.
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
    ) -> (ExchangeFindings, Journal) {
        let case = case(target, material, now);
        let mut answers = RecordedAnswers::default();
        let mut sender = self.sender(target, material, now);
        let mut admitted = Vec::new();
        loop {
            let question = match next(&case, &answers) {
                Next::Done(verdict) => return (*verdict, sender.journal),
                Next::Ask(question) => *question,
            };
            if !question.is_first() {
                let known = || ExchangeFindings::of_credentials(CredentialsFinding::NotAttempted);
                gate.reached(|| summarize(target, material, known(), &sender.journal));
            }
            let recipient = question.recipient(target.endpoint.server());
            if let Some(server) = recipient.as_ref().filter(|server| !admitted.contains(*server)) {
                match admission(gate, server, sender.deadline).await {
                    Admission::Granted => admitted.push(server.clone()),
                    Admission::Refused(finding) => {
                        return (ExchangeFindings::of_credentials(finding), sender.journal);
                    }
                }
            }
            let request = Request::of(&question, &case, &answers);
            let outcome = sender.send(&request).await;
            if let (Some(server), Some(response)) = (&recipient, sender.unanswered.take()) {
                let so_far = (answers.clone(), question.clone());
                let late = late_finding(target.clone(), material.clone(), now, so_far, response);
                gate.unanswered(server, Box::pin(late));
            }
            if let (Some(server), Ok(response)) = (&recipient, &outcome)
                && question.is_unscoped()
                && response.status == 403
            {
                gate.forbidden(server);
            }
            answers.note(question, outcome.as_ref().map_err(Clone::clone));
        }
    }

    fn sender<'a>(&'a self, target: &'a Target, material: &Material, now: Timestamp) -> Sender<'a> {
        let tls = TlsPolicy {
            roots: self.0.roots.clone(),
            extra: self.0.extra.read().unwrap_or_else(PoisonError::into_inner).clone(),
            ca: material.ca.clone(),
            skip_verify: target.skip_verify,
            client_certificate: material.client_certificate.clone(),
            now,
        };
        Sender {
            network: &*self.0.network,
            user_agent: &self.0.user_agent,
            egress_policy: &target.egress_policy,
            proxy: self.0.proxy.as_ref(),
            tls: Arc::new(tls),
            deadline: Instant::now() + target.deadline,
            now,
            journal: Journal::default(),
            connections: Vec::new(),
            ran_out: None,
            unanswered: None,
        }
    }
}

/// Awaits the response that didn't come before the deadline. Returns what it decides about the credentials; `None` if there is
/// none, or if it takes further requests.
async fn late_finding(
    target: Target,
    material: Material,
    now: Timestamp,
    (mut answers, question): (RecordedAnswers, Question),
    response: LateResponse,
) -> Option<CredentialsFinding> {
    let response = response.await?;
    // A repository may be forbidden to an account that is right.
    if response.status == 403 && !question.is_unscoped() {
        return None;
    }
    answers.note(question, Ok(&response));
    match next(&case(&target, &material, now), &answers) {
        Next::Done(verdict) => Some(verdict.credentials),
        Next::Ask(_) => None,
    }
}

async fn admission(gate: &impl Gate, server: &HostPort, deadline: Instant) -> Admission {
    let withheld = CredentialsFinding::Withheld { server: server.clone(), why: Withholding::UnderWay };
    timeout_at(deadline, gate.admit(server)).await.unwrap_or(Admission::Refused(withheld))
}

fn case<'a>(target: &'a Target, material: &'a Material, now: Timestamp) -> ExchangeCase<'a> {
    let base_path = target.base_path.as_ref();
    ExchangeCase {
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
