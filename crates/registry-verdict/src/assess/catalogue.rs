//! Every message of conditions, made by the functions that make them, from one sample of each finding, for
//! docs/messages.md.
//!
//! A finding without a sample doesn't compile, so the page is complete.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use registry_api::{ConditionType, Reason};
use registry_probe::{
    ClientCertificateFault, ConnectionFailure, ContentPathFinding, CredentialsFinding, Distrust, DnsFailure,
    Endpoint, EndpointFinding, Evidence, Findings, HandshakeFault, HostPort, Inconclusive, LayerDurations,
    NotARegistry, PresentedCertificate, ProxyFailure, ProxyFault, RepositoryName, RequestCounts, Stage,
    TlsDefect, TlsFinding, Unavailable, Unprovable, Unusable, Withholding,
};

use super::{ConditionLine, Observation, aws_catalogue, layers, references_catalogue, sentences};
use crate::{
    ecr::{self, Api, AwsRefusal, Cause, EcrEndpointError},
    validate::SpecError,
};

/// A message of a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SampleMessage {
    /// The condition.
    pub condition: ConditionType,
    /// The condition's status.
    pub status: &'static str,
    /// The condition's reason.
    pub reason: Reason,
    /// The message, with the values of a sample.
    pub message: String,
}

/// A list of samples, with a `match` that doesn't compile if a variant has none.
macro_rules! samples {
    ($type:ty { $($pattern:pat => $samples:expr),* $(,)? }) => {{
        fn covers_every_variant(value: &$type) -> bool {
            match value { $($pattern => true),* }
        }
        let samples: Vec<$type> = [$($samples.to_vec()),*].concat();
        debug_assert!(samples.iter().all(covers_every_variant));
        samples
    }};
}
pub(super) use samples;

/// Why a name in the samples can't be parsed.
pub type SampleError = Box<dyn std::error::Error + Send + Sync>;

/// The names in the samples.
pub(super) struct SampleNames {
    pub(super) server: HostPort,
    service: HostPort,
    proxy: HostPort,
    repository: RepositoryName,
}

impl SampleNames {
    fn new() -> Result<Self, SampleError> {
        let server = |url: &str| Endpoint::parse(url).map(|endpoint| endpoint.server().clone());
        Ok(Self {
            server: server("https://packs.example.com:5000")?,
            service: server("https://auth.example.net")?,
            proxy: server("http://proxy.example.com:3128")?,
            repository: RepositoryName::parse("packs/hello")?,
        })
    }
}

/// An HTTP status that becomes a placeholder.
const STATUS: u16 = 599;

/// Returns every message of conditions, in the order of the layers.
pub fn messages() -> Result<Vec<SampleMessage>, SampleError> {
    let names = SampleNames::new()?;
    let mut messages = Vec::new();
    for (condition, seen) in seen(&names) {
        let lines = layers::lines(&seen);
        messages.extend(lines.into_iter().filter(|line| line.condition == condition).map(of_line));
    }
    messages.extend(ready());
    let mut known = Vec::new();
    messages.retain(|sample| {
        let is_new = !known.contains(sample);
        known.push(sample.clone());
        is_new
    });
    Ok(messages)
}

fn of_line(ConditionLine { condition, status, reason, message }: ConditionLine) -> SampleMessage {
    SampleMessage { condition, status: status.as_str(), reason, message }
}

/// Messages that only Ready has. Otherwise, it repeats a layer's message.
fn ready() -> Vec<SampleMessage> {
    let ready = |status, reason, message: String| SampleMessage {
        condition: ConditionType::Ready,
        status,
        reason,
        message,
    };
    let other = "…";
    let mut messages = vec![
        ready("True", Reason::Available, "Credentials validated".to_owned()),
        ready("True", Reason::Available, sentences::path_unchecked("Credentials validated")),
        ready("True", Reason::Available, sentences::below_threshold(other)),
        ready("True", Reason::Available, sentences::still_ready(other)),
    ];
    messages.push(ready("Unknown", Reason::Progressing, sentences::in_progress().to_owned()));
    messages.push(ready("Unknown", Reason::Progressing, sentences::no_verdict().to_owned()));
    messages
}

/// Everything that a validation may observe, with the condition that it is about.
fn seen(names: &SampleNames) -> Vec<(ConditionType, Observation)> {
    let mut seen = before_connecting(names);
    let probed = |findings| Observation::Probed(Box::new(findings));
    seen.push((ConditionType::ResolvedRefs, probed(usable())));
    let endpoints = endpoints(names).into_iter();
    seen.extend(
        endpoints
            .map(|endpoint| (ConditionType::EndpointReachable, probed(Findings { endpoint, ..usable() }))),
    );
    let found = tls(names).into_iter();
    seen.extend(found.map(|tls| (ConditionType::TLSVerified, probed(Findings { tls, ..usable() }))));
    let found = credentials(names).into_iter();
    seen.extend(found.map(|credentials| {
        (ConditionType::CredentialsValidated, probed(Findings { credentials, ..usable() }))
    }));
    seen.extend(refusals(&names.proxy));
    let found = content_paths(names).into_iter();
    seen.extend(found.map(|content_path| {
        (ConditionType::ContentPathAccessible, probed(Findings { content_path, ..usable() }))
    }));
    seen
}

fn before_connecting(names: &SampleNames) -> Vec<(ConditionType, Observation)> {
    let why: Arc<str> = "failed to get endpointslices".into();
    let seen = samples_of_seen(names, &why);
    let about = |seen: &Observation| match seen {
        Observation::AddressesUnknown(_)
        | Observation::Unfit(SpecError::Endpoint(_) | SpecError::Path { .. } | SpecError::SeveralMethods) => {
            ConditionType::EndpointReachable
        }
        Observation::Unfit(SpecError::EcrUnsupported | SpecError::Place(_))
        | Observation::NotATenant
        | Observation::BeyondQuota(_)
        | Observation::Unresolved(_)
        | Observation::Probed(_)
        | Observation::Ecr(_) => ConditionType::ResolvedRefs,
    };
    seen.into_iter().map(|seen| (about(&seen), seen)).collect()
}

fn samples_of_seen(names: &SampleNames, why: &Arc<str>) -> Vec<Observation> {
    let mut seen: Vec<Observation> =
        references_catalogue::problems(&names.server).into_iter().map(Observation::Unresolved).collect();
    seen.push(Observation::NotATenant);
    seen.push(Observation::BeyondQuota(1000));
    seen.push(Observation::AddressesUnknown(why.clone()));
    let errors = samples!(SpecError {
        SpecError::Endpoint(_) => references_catalogue::endpoint_errors().map(SpecError::Endpoint),
        SpecError::Path { .. } => [SpecError::Path { field: "spec.baseContentPath" }],
        SpecError::SeveralMethods => [SpecError::SeveralMethods],
        SpecError::EcrUnsupported => [SpecError::EcrUnsupported],
        SpecError::Place(_) => samples!(EcrEndpointError {
            EcrEndpointError::NoRegion => [EcrEndpointError::NoRegion],
            EcrEndpointError::NotARegion => [EcrEndpointError::NotARegion],
            EcrEndpointError::Public => [EcrEndpointError::Public],
        }).into_iter().map(SpecError::Place).collect::<Vec<_>>(),
    });
    seen.extend(errors.into_iter().map(Observation::Unfit));
    seen
}

/// A registry without problems.
pub(super) fn usable() -> Findings {
    Findings {
        endpoint: EndpointFinding::Reachable,
        tls: TlsFinding::Verified,
        credentials: CredentialsFinding::Validated(Evidence::RefusedWithout),
        content_path: ContentPathFinding::Inconclusive(Inconclusive::NoRepositoryNamed),
        certificate: None,
        retry_after: None,
        credentials_expire_at: None,
        requests: RequestCounts::default(),
        durations: LayerDurations::default(),
    }
}

fn dns_failures() -> Vec<DnsFailure> {
    samples!(DnsFailure {
        DnsFailure::NoSuchName => [DnsFailure::NoSuchName],
        DnsFailure::NoAddress => [DnsFailure::NoAddress],
        DnsFailure::ServerFailure => [DnsFailure::ServerFailure],
        DnsFailure::NoAnswer => [DnsFailure::NoAnswer],
        DnsFailure::OwnLimit => [DnsFailure::OwnLimit],
    })
}

fn connection_failures() -> Vec<ConnectionFailure> {
    samples!(ConnectionFailure {
        ConnectionFailure::Unreachable => [ConnectionFailure::Unreachable],
        ConnectionFailure::Closed => [ConnectionFailure::Closed],
        ConnectionFailure::OwnLimit => [ConnectionFailure::OwnLimit],
        ConnectionFailure::Other => [ConnectionFailure::Other],
    })
}

fn stages() -> Vec<Stage> {
    samples!(Stage {
        Stage::Resolve => [Stage::Resolve],
        Stage::Connect => [Stage::Connect],
        Stage::Tls => [Stage::Tls],
        Stage::Request => [Stage::Request],
    })
}

fn proxy_failures(names: &SampleNames) -> Vec<ProxyFailure> {
    let faults = samples!(ProxyFault {
        ProxyFault::Dns(_) => [ProxyFault::Dns(DnsFailure::NoSuchName)],
        ProxyFault::Refused => [ProxyFault::Refused],
        ProxyFault::Connection(_) => [ProxyFault::Connection(ConnectionFailure::Closed)],
        ProxyFault::Timeout(_) => stages().into_iter().map(ProxyFault::Timeout).collect::<Vec<_>>(),
        ProxyFault::Tls => [ProxyFault::Tls],
        ProxyFault::LoginRequired => [ProxyFault::LoginRequired],
        ProxyFault::LoginRejected => [ProxyFault::LoginRejected],
        ProxyFault::Forbidden(_) => [ProxyFault::Forbidden(403)],
        ProxyFault::Status(_) => [ProxyFault::Status(STATUS)],
        ProxyFault::NotHttp => [ProxyFault::NotHttp],
    });
    faults.into_iter().map(|fault| ProxyFailure { proxy: Box::new(names.proxy.clone()), fault }).collect()
}

fn endpoints(names: &SampleNames) -> Vec<EndpointFinding> {
    use EndpointFinding as F;
    let server = || names.server.clone();
    let host = || names.server.host.clone();
    samples!(F {
        F::NotAttempted => [F::NotAttempted],
        F::Reachable => [F::Reachable],
        F::DnsFailure { .. } => each(dns_failures(), |cause| F::DnsFailure { host: host(), cause }),
        F::ConnectionRefused { .. } => [F::ConnectionRefused { server: server() }],
        F::ConnectionFailed { .. } => {
            each(connection_failures(), |cause| F::ConnectionFailed { server: server(), cause })
        },
        F::Timeout { .. } => each(stages(), |during| F::Timeout { server: server(), during }),
        F::NotARegistry { .. } => each(not_registries(), |cause| F::NotARegistry { server: server(), cause }),
        F::RedirectRefused { .. } => [
            F::RedirectRefused { server: server(), to: Some("https://other.example.com".to_owned()) },
            F::RedirectRefused { server: server(), to: None },
        ],
        F::EgressDenied { .. } => [F::EgressDenied { server: server(), address: [10, 96, 0, 1].into() }],
        F::ProxyFailed { .. } => {
            each(proxy_failures(names), |failure| F::ProxyFailed { server: server(), failure })
        },
        F::ServerError { .. } => [F::ServerError { server: server(), status: STATUS }],
        F::Throttled { .. } => [F::Throttled { server: server() }],
    })
}

fn not_registries() -> Vec<NotARegistry> {
    samples!(NotARegistry {
        NotARegistry::Status(_) => [NotARegistry::Status(STATUS)],
        NotARegistry::NoSign => [NotARegistry::NoSign],
        NotARegistry::NotHttp => [NotARegistry::NotHttp],
        NotARegistry::WantsTls => [NotARegistry::WantsTls],
    })
}

fn each<A, B>(values: Vec<A>, make: impl Fn(A) -> B) -> Vec<B> {
    values.into_iter().map(make).collect()
}

fn tls(names: &SampleNames) -> Vec<TlsFinding> {
    let server = || names.server.clone();
    let skipped = |defect, ca_would_verify| TlsFinding::Skipped {
        server: server(),
        defect,
        also: Vec::new(),
        ca_would_verify,
    };
    let self_signed = || TlsDefect::UnknownIssuer { issuer: ISSUER.to_owned(), self_signed: true };
    samples!(TlsFinding {
        TlsFinding::NotAttempted => [TlsFinding::NotAttempted],
        TlsFinding::PlainHttp => [TlsFinding::PlainHttp],
        TlsFinding::Verified => [TlsFinding::Verified],
        TlsFinding::Skipped { .. } => [
            skipped(None, None),
            skipped(None, Some(true)),
            skipped(Some(self_signed()), None),
            skipped(Some(self_signed()), Some(true)),
            skipped(Some(self_signed()), Some(false)),
        ],
        TlsFinding::Failed { .. } => each(defects(), |defect| TlsFinding::Failed {
            server: server(),
            presented: is_of_certificate(&defect).then(|| Box::new(presented())),
            defect,
            also: Vec::new(),
        }),
    })
}

const ISSUER: &str = "CN=example CA";

fn is_of_certificate(defect: &TlsDefect) -> bool {
    !matches!(defect, TlsDefect::HandshakeFailed(_) | TlsDefect::ClientCertificateRequired(_))
}

pub(super) fn presented() -> PresentedCertificate {
    PresentedCertificate {
        version: None,
        subject: "CN=packs.example.com".to_owned(),
        issuer: ISSUER.to_owned(),
        not_before: Timestamp::UNIX_EPOCH,
        not_after: Timestamp::UNIX_EPOCH,
        sha256_fingerprint: "1a2b…".to_owned(),
        names: Vec::new(),
    }
}

fn defects() -> Vec<TlsDefect> {
    use TlsDefect as D;
    let time = Timestamp::UNIX_EPOCH;
    let issuer = || ISSUER.to_owned();
    let expected = || "packs.example.com".to_owned();
    samples!(D {
        D::HandshakeFailed(_) => each(handshake_faults(), D::HandshakeFailed),
        D::ClientCertificateRequired(_) => {
            each(client_certificate_faults(), D::ClientCertificateRequired)
        },
        D::Unusable(_) => each(unusable(), D::Unusable),
        D::UnknownIssuer { .. } => [
            D::UnknownIssuer { issuer: issuer(), self_signed: true },
            D::UnknownIssuer { issuer: issuer(), self_signed: false },
        ],
        D::Expired { .. } => [
            D::Expired { not_after: time, issuer: None },
            D::Expired { not_after: time, issuer: Some(issuer()) },
        ],
        D::NotYetValid { .. } => [
            D::NotYetValid { not_before: time, issuer: None },
            D::NotYetValid { not_before: time, issuer: Some(issuer()) },
        ],
        D::HostnameMismatch { .. } => [
            D::HostnameMismatch { expected: expected(), names: vec!["other.example.com".to_owned()] },
            D::HostnameMismatch { expected: expected(), names: Vec::new() },
        ],
    })
}

fn handshake_faults() -> Vec<HandshakeFault> {
    use HandshakeFault as F;
    samples!(F {
        F::NotTls => [F::NotTls],
        F::ProtocolVersion => [F::ProtocolVersion],
        F::NoCommonAlgorithm => [F::NoCommonAlgorithm],
        F::NoHttp1 => [F::NoHttp1],
        F::UnknownHost => [F::UnknownHost],
        F::Closed => [F::Closed],
        F::BadSignature => [F::BadSignature],
        F::Alert(_) => [F::Alert(80)],
        F::Other => [F::Other],
    })
}

fn client_certificate_faults() -> Vec<ClientCertificateFault> {
    use ClientCertificateFault as F;
    samples!(F {
        F::Missing => [F::Missing],
        F::Refused => [F::Refused],
        F::Expired => [F::Expired],
    })
}

fn unusable() -> Vec<Unusable> {
    samples!(Unusable {
        Unusable::Unreadable => [Unusable::Unreadable],
        Unusable::NegativeSerialNumber => [Unusable::NegativeSerialNumber],
        Unusable::LongChain => [Unusable::LongChain],
        Unusable::BeforeEpoch => [Unusable::BeforeEpoch],
        Unusable::CriticalExtension(_) => [Unusable::CriticalExtension("nameConstraints (2.5.29.30)".to_owned())],
        Unusable::Version(_) => [Unusable::Version(1)],
        Unusable::WeakKey(_) => [Unusable::WeakKey(1024)],
        Unusable::NotForServers => [Unusable::NotForServers],
        Unusable::AuthorityAsServer => [Unusable::AuthorityAsServer],
        Unusable::Algorithm => [Unusable::Algorithm],
        Unusable::Constraints => [Unusable::Constraints],
    })
}

fn unavailable(names: &SampleNames) -> Vec<Unavailable> {
    samples!(Unavailable {
        Unavailable::Dns(_) => each(dns_failures(), Unavailable::Dns),
        Unavailable::Refused => [Unavailable::Refused],
        Unavailable::Connection(_) => each(connection_failures(), Unavailable::Connection),
        Unavailable::Timeout(_) => each(stages(), Unavailable::Timeout),
        Unavailable::Status(_) => [Unavailable::Status(STATUS)],
        Unavailable::NoToken => [Unavailable::NoToken],
        Unavailable::Unreadable => [Unavailable::Unreadable],
        Unavailable::Proxy(_) => each(proxy_failures(names), Unavailable::Proxy),
    })
}

fn credentials(names: &SampleNames) -> Vec<CredentialsFinding> {
    use CredentialsFinding as F;
    let server = || names.server.clone();
    let service = || names.service.clone();
    let schemes = |schemes: &[&str]| F::UnsupportedScheme {
        schemes: schemes.iter().map(|scheme| (*scheme).to_owned()).collect(),
    };
    samples!(F {
        F::NotAttempted => [F::NotAttempted],
        F::Validated(_) => [F::Validated(Evidence::RefusedWithout)],
        F::AnonymousAccess => [F::AnonymousAccess],
        F::Rejected { .. } => [F::Rejected { by: server(), status: 401 }],
        F::Forbidden { .. } => [F::Forbidden { by: server() }],
        F::ForbiddenToAll { .. } => [F::ForbiddenToAll { by: server() }],
        F::Required => [F::Required],
        F::Expired => [F::Expired],
        F::UntrustedTokenService { .. } => {
            each(distrusts(), |cause| F::UntrustedTokenService { service: Some(service()), cause })
        },
        F::TokenRefused { .. } => [F::TokenRefused { issuer: service() }],
        F::UnsupportedScheme { .. } => [schemes(&["Digest", "Negotiate"]), schemes(&[])],
        F::Unprovable(_) => each(unprovable(), F::Unprovable),
        F::Throttled { .. } => [F::Throttled { by: server() }],
        F::Withheld { .. } => each(withholdings(), |why| F::Withheld { server: server(), why }),
        F::TemporarilyUnavailable { .. } => {
            each(unavailable(names), |cause| F::TemporarilyUnavailable { server: service(), cause })
        },
    })
}

fn distrusts() -> Vec<Distrust> {
    samples!(Distrust {
        Distrust::NoRealm => [Distrust::NoRealm],
        Distrust::PlainHttp => [Distrust::PlainHttp],
        Distrust::UserInfo => [Distrust::UserInfo],
        Distrust::OtherSite => [Distrust::OtherSite],
        Distrust::EgressDenied => [Distrust::EgressDenied],
        Distrust::Redirect => [Distrust::Redirect],
    })
}

fn unprovable() -> Vec<Unprovable> {
    use Unprovable as U;
    samples!(U {
        U::AnonymousServed => [U::AnonymousServed],
        U::AnonymousTokenServed => [U::AnonymousTokenServed],
        U::NothingAskedForToken => [U::NothingAskedForToken],
        U::TokenRequestRefused => [U::TokenRequestRefused],
    })
}

pub(super) fn withholdings() -> Vec<Withholding> {
    samples!(Withholding {
        Withholding::TriedTooOften => [Withholding::TriedTooOften],
        Withholding::TooManyRejected => [Withholding::TooManyRejected],
        Withholding::MemoryFull => [Withholding::MemoryFull],
        Withholding::UnderWay => [Withholding::UnderWay],
    })
}

/// Everything that AWS may refuse.
fn refusals(proxy: &HostPort) -> Vec<(ConditionType, Observation)> {
    let seen = |cause| {
        let is_ecr = matches!(cause, Cause::ActionDenied { .. } | Cause::NoEndpoint);
        let api = if is_ecr { Api::Ecr } else { Api::Sts };
        let refusal = AwsRefusal { cause, api, region: "eu-central-1".into(), retry_after: None };
        let seen =
            ecr::EcrObservation { findings: usable(), refusal: Some(refusal), renewal: None, used: None };
        (ConditionType::CredentialsValidated, Observation::Ecr(Box::new(seen)))
    };
    aws_catalogue::causes(proxy).into_iter().map(seen).collect()
}

fn content_paths(names: &SampleNames) -> Vec<ContentPathFinding> {
    use ContentPathFinding as F;
    let repository = || names.repository.clone();
    samples!(F {
        F::NotAttempted => [F::NotAttempted],
        F::Accessible { .. } => [F::Accessible { repository: repository() }],
        F::Denied { .. } => [F::Denied { repository: repository(), status: 403 }],
        F::NotFound { .. } => [F::NotFound { repository: repository() }],
        F::Inconclusive(_) => each(inconclusive(names), F::Inconclusive),
    })
}

fn inconclusive(names: &SampleNames) -> Vec<Inconclusive> {
    use Inconclusive as I;
    let repository = || names.repository.clone();
    samples!(I {
        I::NoRepositoryNamed => [I::NoRepositoryNamed],
        I::NoTags { .. } => [I::NoTags { repository: repository() }],
        I::NotListed { .. } => [I::NotListed { repository: repository(), status: 403 }],
        I::UnexpectedStatus { .. } => [I::UnexpectedStatus { repository: repository(), status: STATUS }],
        I::Unavailable { .. } => each(unavailable(names), |cause| I::Unavailable {
            repository: repository(),
            server: names.server.clone(),
            cause,
        }),
    })
}

#[cfg(test)]
mod tests {
    use registry_api::condition::LAYERS;

    use super::*;

    /// Removes commands, and what a certificate contains.
    fn without_details(message: &str) -> String {
        let sentence = message.split("kubectl ").next().unwrap_or_default();
        match (sentence.find(" (presented: "), sentence.find("); ")) {
            (Some(begin), Some(end)) => format!("{}{}", &sentence[..begin], &sentence[end + 1..]),
            _ => sentence.to_owned(),
        }
    }

    #[test]
    fn messages_are_short_and_one_sentence() {
        let messages = messages().unwrap();
        assert!(messages.len() > 150, "{}", messages.len());
        let mut wrong = Vec::new();
        for SampleMessage { message, reason, .. } in &messages {
            let short = without_details(message);
            let count = short.chars().count();
            // The content of a certificate, such as names and dates, may be long.
            let limit = if short.starts_with("Verification of ") { 190 } else { 160 };
            let ends_within = short
                .as_bytes()
                .windows(3)
                .any(|part| part[0].is_ascii_alphanumeric() && part[1] == b'.' && part[2] == b' ');
            if count > limit || ends_within || message.chars().any(char::is_control) {
                wrong.push(format!("{reason} ({count}): {message}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let brief = messages.iter().filter(|one| without_details(&one.message).chars().count() <= 120);
        assert!(brief.count() * 2 > messages.len(), "most are under 120 characters");
    }

    #[test]
    fn every_reason_has_a_message() {
        let messages = messages().unwrap();
        for layer in &LAYERS {
            for (status, reasons) in [("True", layer.good), ("False", layer.bad), ("Unknown", layer.unknown)]
            {
                for reason in reasons.iter().filter(|reason| {
                    (layer.condition, **reason) != (ConditionType::ResolvedRefs, Reason::NotAttempted)
                }) {
                    let has = |one: &SampleMessage| {
                        (one.condition, one.status, one.reason) == (layer.condition, status, *reason)
                    };
                    assert!(messages.iter().any(has), "{} {status} {reason}", layer.condition);
                }
            }
        }
    }
}
