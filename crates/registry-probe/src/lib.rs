//! One question: can this registry be used with these credentials?
//!
//! [`Prober::probe`] takes a [`Target`] (what is to be checked) and [`Material`] (what its references
//! resolved to), and answers with [`Findings`]: one finding per layer, in the order in which a connection
//! meets them. There is no Kubernetes in here: what the findings mean for conditions, reasons and messages is
//! the operator's part.

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

/// What a test of a mebibyte may take: seconds where nothing else runs. What grows with its square takes hours.
#[cfg(test)]
const BOUNDED: std::time::Duration = std::time::Duration::from_mins(10);
