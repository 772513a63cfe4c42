//! Scripted servers on loopback: they answer as a test says, and record every request that reaches them.

#![allow(dead_code, reason = "tests/verdicts uses a part")]

pub mod certificates;
pub mod dns;
pub mod proxy;
pub mod server;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use registry_probe::{
    Credentials, EgressPolicy, EgressScope, Endpoint, Findings, Material, Prober, ProberSettings,
    RepositoryName, Target,
};
use secrecy::SecretString;

#[allow(unused_imports, reason = "tests/verdicts uses a part")]
pub use certificates::Authority;
#[allow(unused_imports, reason = "tests/verdicts uses a part")]
pub use server::{Answer, ReceivedRequest, Server};

/// The password of every test: it must never be found where it does not belong.
pub const PASSWORD: &str = "correct-horse-battery";

/// When the tests take place. Certificates are made around it.
pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// What a validation may take here: less than what users have by default.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn prober() -> Prober {
    Prober::new(ProberSettings { version: "1.2.3".into(), ..ProberSettings::default() }).unwrap()
}

pub fn target(endpoint: &str) -> Target {
    Target {
        endpoint: Endpoint::parse(endpoint).unwrap(),
        base_path: None,
        repository: None,
        skip_verify: false,
        egress_policy: EgressPolicy::new(EgressScope::System, [], []),
        trusted_token_services: Arc::from([]),
        only_to_endpoint: false,
        deadline: DEADLINE,
    }
}

pub fn with_repository(endpoint: &str, repository: &str) -> Target {
    Target { repository: Some(RepositoryName::parse(repository).unwrap()), ..target(endpoint) }
}

pub fn alice() -> Material {
    let credentials = Credentials::basic("alice", SecretString::from(PASSWORD)).unwrap();
    Material { credentials: Some(credentials), ..Material::default() }
}

pub async fn probe(target: &Target, material: &Material) -> Findings {
    prober().probe(target, material, now()).await
}

/// `alice:<password>` as a header says it.
pub fn basic_alice() -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("alice:{PASSWORD}")))
}
