//! Checks whether a registry can be used with the given credentials.
//!
//! [`Prober::probe`] takes a [`Target`] (what to check) and [`Material`] (what its references
//! resolved to), and returns [`Findings`]: one finding per layer, in the order in which a connection
//! reaches them. This crate doesn't know Kubernetes: the crate registry-verdict decides what the findings mean for conditions,
//! reasons and messages.

// So that a new finding, reply, reason or cause doesn't compile until each match handles it.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod backoff;
mod challenge;
mod credentials;
mod dockerconfig;
mod egress_policy;
mod endpoint;
mod exchange;
mod findings;
mod gate;
mod host;
mod host_pattern;
mod prober;
mod proxy;
mod realm;
mod repository;
mod summary;
mod target;
mod tls;
mod token;
mod transport;

pub use backoff::Backoff;
pub use credentials::{Credentials, CredentialsError, Field};
pub use dockerconfig::DockerConfigError;
pub use egress_policy::{EgressPolicy, EgressScope, IpNet};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use findings::{
    ConnectionFailure, ContentPathFinding, CredentialsFinding, Distrust, DnsFailure, EndpointFinding,
    Evidence, Findings, Inconclusive, LayerDurations, NotARegistry, ProxyFailure, ProxyFault, RequestCounts,
    Stage, TlsFinding, Unavailable, Unprovable, Withholding,
};
pub use gate::{Admission, Gate, OpenGate};
pub use host::{Host, HostError, HostPort, TrustedService};
pub use host_pattern::{HostPattern, HostPatternsError, NotAPattern};
pub use prober::{Prober, ProberError, ProberSettings};
pub use proxy::{NoProxy, NoProxyError, Proxy, ProxyLogin, ProxyUrlError};
pub use repository::{RepositoryName, RepositoryNameError};
pub use target::{Material, Target};
pub use tls::{
    CaBundle, CaError, ClientCertificateError, ClientCertificateFault, ClientIdentity, HandshakeFault,
    PresentedCertificate, TlsDefect, TlsVersion, Unusable,
};
pub use transport::{ByteStream, Network};

/// The time limit of tests with a mebibyte of input. They take seconds; quadratic algorithms take hours.
#[cfg(test)]
const BOUNDED: std::time::Duration = std::time::Duration::from_mins(10);
