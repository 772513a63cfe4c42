//! Combines the verdict of the exchange and the journal of the transport into the findings.

use crate::credentials::Credentials;
use crate::endpoint::Scheme;
use crate::exchange::ExchangeFindings;
use crate::findings::{Findings, TlsFinding};
use crate::target::{Material, Target};
use crate::token::expiry_of;
use crate::transport::{HandshakeRecord, Journal};

pub(crate) fn summarize(
    target: &Target,
    material: &Material,
    verdict: ExchangeFindings,
    journal: &Journal,
) -> Findings {
    let server = target.endpoint.server();
    let ExchangeFindings { endpoint, credentials, content_path } = verdict;
    let own = journal.handshakes.iter().rfind(|record| record.server == *server);
    Findings {
        tls: tls_finding(target, material, journal),
        certificate: own.and_then(|record| record.presented.clone()),
        endpoint,
        credentials,
        content_path,
        retry_after: journal.retry_after,
        credentials_expire_at: match &material.credentials {
            Some(Credentials::RegistryToken(token)) => expiry_of(token),
            Some(Credentials::Basic { .. } | Credentials::IdentityToken { .. }) | None => None,
        },
        requests: journal.requests,
        durations: journal.durations,
    }
}

/// The weakest result among the servers that the verdict depends on.
fn tls_finding(target: &Target, material: &Material, journal: &Journal) -> TlsFinding {
    let links: Vec<_> = journal.handshakes.iter().filter(|record| record.decisive).collect();
    if let Some(failed) = links.iter().find_map(|record| failed(record)) {
        return failed;
    }
    if target.endpoint.scheme() == Scheme::Http && journal.connected {
        return TlsFinding::PlainHttp;
    }
    let Some(first) = links.first() else { return TlsFinding::NotAttempted };
    if !target.skip_verify {
        return TlsFinding::Verified;
    }
    let weakest = links.iter().find(|record| !record.certificate_defects.is_empty()).unwrap_or(first);
    skipped(weakest, material.ca.is_some())
}

fn failed(record: &HandshakeRecord) -> Option<TlsFinding> {
    let (defect, also) = record.failure.split_first()?;
    Some(TlsFinding::Failed {
        server: record.server.clone(),
        defect: defect.clone(),
        also: also.to_vec(),
        presented: record.presented.clone().map(Box::new),
    })
}

fn skipped(record: &HandshakeRecord, ca_given: bool) -> TlsFinding {
    let defects = &record.certificate_defects;
    TlsFinding::Skipped {
        server: record.server.clone(),
        defect: defects.first().cloned(),
        also: defects.iter().skip(1).cloned().collect(),
        ca_would_verify: ca_given.then_some(defects.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        egress_policy::{EgressPolicy, EgressScope},
        endpoint::Endpoint,
        tls::TlsDefect,
    };

    fn target() -> Target {
        Target {
            endpoint: Endpoint::parse("https://registry.example.com").unwrap(),
            base_path: None,
            repository: None,
            skip_verify: false,
            egress_policy: EgressPolicy::new(EgressScope::System, [], []),
            trusted_token_services: Arc::from([]),
            only_to_endpoint: false,
            deadline: Duration::from_secs(30),
        }
    }

    fn unknown_issuer() -> TlsDefect {
        TlsDefect::UnknownIssuer { issuer: "CN=x".into(), self_signed: false }
    }

    fn handshake(decisive: bool, failure: Vec<TlsDefect>, defects: Vec<TlsDefect>) -> HandshakeRecord {
        let server = target().endpoint.server().clone();
        HandshakeRecord { server, decisive, failure, certificate_defects: defects, presented: None }
    }

    fn finding(handshakes: Vec<HandshakeRecord>) -> TlsFinding {
        let journal = Journal { connected: true, handshakes, ..Journal::default() };
        tls_finding(&target(), &Material::default(), &journal)
    }

    #[test]
    fn ignores_tls_failure_of_indecisive_server() {
        let good = || handshake(true, Vec::new(), Vec::new());
        let failed = |decisive| handshake(decisive, vec![unknown_issuer()], vec![unknown_issuer()]);
        assert_eq!(finding(vec![good(), failed(false)]), TlsFinding::Verified);
        assert!(matches!(finding(vec![good(), failed(true)]), TlsFinding::Failed { .. }));
    }
}
