//! The message of each condition: what failed, why, and what to do. Never contains a secret, a response's body, a
//! request id, or anything that differs between two runs with the same failure.

use registry_probe::{
    ClientCertificateFault, ConnectionFailure, ContentPathFinding, CredentialsFinding, Distrust, DnsFailure,
    EndpointFinding, HandshakeFault, HostPort, Inconclusive, NotARegistry, PresentedCertificate,
    ProxyFailure, ProxyFault, Stage, TlsDefect, TlsFinding, Unavailable, Unprovable, Withholding,
};

use crate::{
    rejections::table,
    resolve::{Obstacle, Problem},
    text::listed,
};

/// The maximum length of a message, in characters (docs/architecture.md#promises).
const LONGEST: usize = 1024;

/// Replaces control characters, because a server's text must not control a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Removes control characters, and limits the length.
pub(super) fn capped(message: String) -> String {
    let message = if message.chars().any(char::is_control) { clean(&message) } else { message };
    if message.chars().count() <= LONGEST {
        return message;
    }
    message.chars().take(LONGEST - 1).chain(['…']).collect()
}

pub(super) fn not_attempted() -> &'static str {
    "Not attempted: an earlier check failed or validation has not started"
}

/// For a registry with fewer transient failures in a row than its threshold.
pub(super) fn below_threshold(message: &str) -> String {
    format!("Still ready (spec.validation.failureThreshold not reached): {message}")
}

/// For a Ready registry about which this validation found out nothing.
pub(super) fn still_ready(message: &str) -> String {
    format!("Still ready: {message}")
}

/// In addition to another message of Ready.
pub(super) fn path_unchecked(message: &str) -> String {
    format!("{message}; spec.baseContentPath not checked: set spec.validation.repository")
}

pub(super) fn in_progress() -> &'static str {
    "Validation in progress"
}

pub(super) fn no_verdict() -> &'static str {
    "Validation ended without a result; retrying"
}

pub(super) fn addresses_unknown(why: &str) -> String {
    format!("Not attempted: the cluster's own addresses, which tenants may not reach, are unknown: {why}")
}

pub(super) fn resolved() -> &'static str {
    "All references resolved"
}

pub(super) fn not_a_tenant() -> String {
    format!(
        "Namespace belongs to no tenant; an administrator can label it {}=<tenant>",
        registry_api::TENANT_LABEL
    )
}

pub(super) fn beyond_quota(most: usize) -> String {
    format!(
        "Not validated: the tenant has more than {most} TenantRegistries (the oldest are validated); delete some or raise \
         tenantPolicy.maxRegistries"
    )
}

pub(super) fn problem(problem: &Problem) -> String {
    let what = sentence(&problem.to_string());
    match problem {
        Problem::AccessDenied { reference, obstacle: Some(Obstacle { kind, name }), .. } => format!(
            "{what}: RoleBinding registry-operator refers to {kind} {name}; its owner can run kubectl delete rolebinding \
             registry-operator -n {}",
            reference.scope.namespace
        ),
        Problem::AccessDenied { reference, operator, obstacle: None } => format!(
            "{what}: forbidden; run kubectl create rolebinding registry-operator \
             --clusterrole=registry-operator-tenant {operator} -n {}",
            reference.scope.namespace
        ),
        Problem::NotFound { .. }
        | Problem::PolicyDenied(_)
        | Problem::NoKey { .. }
        | Problem::WrongType(_)
        | Problem::Hosts { .. }
        | Problem::OtherHosts { .. }
        | Problem::NoHosts { .. }
        | Problem::AwsTokenElsewhere { .. }
        | Problem::NotText { .. }
        | Problem::Credentials { .. }
        | Problem::DockerConfig { .. }
        | Problem::ClientCertificate { .. }
        | Problem::Ca { .. }
        | Problem::AwsKey { .. }
        | Problem::OperatorIdentity
        | Problem::NoCaKey { .. } => what,
    }
}

/// Capitalizes the first letter, except in the name of a field.
fn sentence(text: &str) -> String {
    if text.starts_with("spec.") {
        return text.to_owned();
    }
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

pub(super) fn endpoint(finding: &EndpointFinding) -> String {
    use EndpointFinding as F;
    match finding {
        F::NotAttempted => not_attempted().to_owned(),
        F::Reachable => "The registry answers".to_owned(),
        F::DnsFailure { host, cause } => format!("{}{}", sentence(&dns(host, *cause)), dns_advice(*cause)),
        F::ConnectionRefused { server } => {
            format!("{server} refused the connection; check spec.endpoint and that the registry is running")
        }
        F::ConnectionFailed { server, cause } => {
            format!("Connection to {server} failed: {}{}", connection(*cause), connection_advice(*cause))
        }
        F::Timeout { server, during } => {
            format!("{} (spec.validation.timeout)", sentence(&timed_out(server, *during)))
        }
        F::NotARegistry { server, cause } => not_a_registry(server, *cause),
        F::RedirectRefused { server, to } => format!(
            "{server} redirects to {}, and redirects are not followed; set spec.endpoint to the registry's own address",
            to.as_deref().unwrap_or("an unreadable address")
        ),
        F::EgressDenied { server, address } => format!(
            "Connection to {server} ({address}) blocked by the egress policy; an administrator can allow it with \
             --egress-allow"
        ),
        F::ProxyFailed { server, failure } => proxy(server, failure),
        F::ServerError { server, status } => {
            format!("{server} returned HTTP status {status}; check the registry")
        }
        F::Throttled { server } => throttled(server),
    }
}

fn throttled(server: &HostPort) -> String {
    format!("{server} is rate limiting requests (429); retrying later")
}

/// For any host: the registry's or its token service's.
fn dns(host: &registry_probe::Host, cause: DnsFailure) -> String {
    let why = match cause {
        DnsFailure::NoSuchName => "the host name does not exist",
        DnsFailure::NoAddress => "the host name has no address",
        DnsFailure::ServerFailure => "the DNS server returned an error or is unreachable",
        DnsFailure::NoAnswer => "the DNS server did not answer in time",
        DnsFailure::OwnLimit => TOO_MANY_FILES,
    };
    format!("DNS lookup of {host} failed: {why}")
}

/// What to do if the host is the endpoint's.
fn dns_advice(cause: DnsFailure) -> &'static str {
    match cause {
        DnsFailure::NoSuchName | DnsFailure::NoAddress => "; check spec.endpoint",
        DnsFailure::ServerFailure | DnsFailure::NoAnswer => "; check the cluster's DNS",
        DnsFailure::OwnLimit => "",
    }
}

const TOO_MANY_FILES: &str = "too many open files; raise the limit on open files (ulimit -n)";

fn timed_out(server: &HostPort, during: Stage) -> String {
    match during {
        Stage::Resolve => format!("timed out resolving {}", server.host),
        Stage::Connect => format!("timed out connecting to {server}"),
        Stage::Tls => format!("timed out in the TLS handshake with {server}"),
        Stage::Request => format!("timed out waiting for an answer from {server}"),
    }
}

/// Names the proxy without its login, and the server that was not reached.
fn proxy(server: &HostPort, ProxyFailure { proxy, fault }: &ProxyFailure) -> String {
    let what = match fault {
        ProxyFault::Dns(_) => {
            format!("the proxy's host name {} has no address; check the operator's --proxy", proxy.host)
        }
        ProxyFault::Refused => format!("proxy {proxy} refused the connection; check the operator's --proxy"),
        ProxyFault::Connection(cause) => {
            format!("connection to proxy {proxy} failed: {}", connection(*cause))
        }
        ProxyFault::Timeout(Stage::Request) => {
            format!("proxy {proxy} did not answer (spec.validation.timeout)")
        }
        ProxyFault::Timeout(Stage::Resolve | Stage::Connect | Stage::Tls) => {
            format!("timed out connecting to proxy {proxy} (spec.validation.timeout)")
        }
        ProxyFault::Tls => {
            format!("the certificate of proxy {proxy} can't be verified; add its CA to --ca-file")
        }
        ProxyFault::LoginRequired => {
            format!("proxy {proxy} requires a login (407); add it to the operator's --proxy")
        }
        ProxyFault::LoginRejected => {
            format!("proxy {proxy} rejected the login (407); correct it in the operator's --proxy")
        }
        ProxyFault::Forbidden(status) => {
            format!("proxy {proxy} denied it ({status}); allow the host there or add it to --no-proxy")
        }
        ProxyFault::Status(status) => format!("proxy {proxy} returned HTTP status {status}"),
        ProxyFault::NotHttp => {
            format!("{proxy} is not an HTTP proxy; check the operator's --proxy")
        }
    };
    format!("{server} not reached: {what}")
}

fn connection(cause: ConnectionFailure) -> &'static str {
    match cause {
        ConnectionFailure::Unreachable => "no route to the host",
        ConnectionFailure::Closed => "closed without an answer",
        ConnectionFailure::OwnLimit => TOO_MANY_FILES,
        ConnectionFailure::Other => "network error",
    }
}

/// What to do if the server is the endpoint's.
fn connection_advice(cause: ConnectionFailure) -> &'static str {
    match cause {
        ConnectionFailure::Unreachable | ConnectionFailure::Closed | ConnectionFailure::Other => {
            "; check spec.endpoint and the network path to it"
        }
        ConnectionFailure::OwnLimit => "",
    }
}

fn not_a_registry(server: &HostPort, cause: NotARegistry) -> String {
    let why = match cause {
        NotARegistry::Status(status) => format!("/v2/ returned HTTP status {status}"),
        NotARegistry::NoSign => "unexpected response to /v2/".to_owned(),
        NotARegistry::NotHttp => "it does not speak HTTP/1.1".to_owned(),
        NotARegistry::WantsTls => return format!("{server} requires TLS; use https:// in spec.endpoint"),
    };
    format!("{server} is not an OCI registry: {why}; check spec.endpoint and its path")
}

pub(super) fn tls(finding: &TlsFinding) -> String {
    match finding {
        TlsFinding::NotAttempted => not_attempted().to_owned(),
        TlsFinding::PlainHttp => {
            "Connection not encrypted: spec.endpoint uses http://; use https:// if the registry supports it"
                .to_owned()
        }
        TlsFinding::Verified => "Certificate verified".to_owned(),
        TlsFinding::Skipped { server, defect, also, ca_would_verify } => {
            skipped(server, defect.as_ref(), also, *ca_would_verify)
        }
        TlsFinding::Failed { server, defect, also, presented } => {
            failed(server, defect, also, presented.as_deref())
        }
    }
}

fn skipped(server: &HostPort, defect: Option<&TlsDefect>, also: &[TlsDefect], ca: Option<bool>) -> String {
    let Some(defect) = defect else {
        let with = if ca == Some(true) { " with spec.tls.ca" } else { "" };
        return format!(
            "Verification skipped; the certificate is valid{with}, so spec.tls.insecureSkipVerify can be removed"
        );
    };
    let what = format!("Verification of {server} skipped: {}", defects(defect, also));
    match ca {
        None => what,
        Some(true) => {
            format!("{what}; valid with spec.tls.ca, so spec.tls.insecureSkipVerify can be removed")
        }
        Some(false) => format!("{what}; spec.tls.ca would not verify it either"),
    }
}

fn failed(
    server: &HostPort,
    fault: &TlsDefect,
    also: &[TlsDefect],
    presented: Option<&PresentedCertificate>,
) -> String {
    let what = match fault {
        TlsDefect::HandshakeFailed(_) | TlsDefect::ClientCertificateRequired(_) => {
            format!("TLS handshake with {server} failed: {}", defects(fault, also))
        }
        TlsDefect::Unusable(_)
        | TlsDefect::UnknownIssuer { .. }
        | TlsDefect::Expired { .. }
        | TlsDefect::NotYetValid { .. }
        | TlsDefect::HostnameMismatch { .. } => {
            format!("Verification of {server} failed: {}", defects(fault, also))
        }
    };
    let shown =
        presented.map_or_else(String::new, |certificate| format!(" (presented: {})", describe(certificate)));
    format!("{what}{shown}{}", tls_advice(fault))
}

fn tls_advice(fault: &TlsDefect) -> &'static str {
    match fault {
        TlsDefect::HandshakeFailed(HandshakeFault::NotTls) => {
            "; check the port, or use http:// in spec.endpoint"
        }
        TlsDefect::HandshakeFailed(
            HandshakeFault::ProtocolVersion
            | HandshakeFault::NoCommonAlgorithm
            | HandshakeFault::NoHttp1
            | HandshakeFault::BadSignature
            | HandshakeFault::Alert(_)
            | HandshakeFault::Closed
            | HandshakeFault::Other,
        ) => "; check the server's TLS settings",
        TlsDefect::HandshakeFailed(HandshakeFault::UnknownHost) => "; check the host in spec.endpoint",
        TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing) => {
            "; set spec.tls.clientCertificate.secretRef"
        }
        TlsDefect::ClientCertificateRequired(ClientCertificateFault::Refused) => {
            "; replace it in the Secret of spec.tls.clientCertificate"
        }
        TlsDefect::ClientCertificateRequired(ClientCertificateFault::Expired) => {
            "; renew it in the Secret of spec.tls.clientCertificate"
        }
        TlsDefect::Unusable(_) => "; replace it or set spec.tls.insecureSkipVerify",
        TlsDefect::HostnameMismatch { names, .. } if names.is_empty() => {
            "; replace it or set spec.tls.insecureSkipVerify"
        }
        TlsDefect::UnknownIssuer { .. } => "; add its CA to spec.tls.ca or set spec.tls.insecureSkipVerify",
        TlsDefect::Expired { .. } => "; renew it or set spec.tls.insecureSkipVerify",
        TlsDefect::NotYetValid { .. } => "; check the clocks or set spec.tls.insecureSkipVerify",
        TlsDefect::HostnameMismatch { .. } => "; correct spec.endpoint or set spec.tls.insecureSkipVerify",
    }
}

fn describe(certificate: &PresentedCertificate) -> String {
    format!(
        "subject {}, issuer {}, valid until {}, SHA-256 {}",
        certificate.subject, certificate.issuer, certificate.not_after, certificate.sha256_fingerprint
    )
}

fn defects(first: &TlsDefect, also: &[TlsDefect]) -> String {
    std::iter::once(first).chain(also).map(defect).collect::<Vec<_>>().join(", and ")
}

fn defect(defect: &TlsDefect) -> String {
    let whose = |issuer: &Option<String>| {
        issuer.as_ref().map_or_else(
            || "the certificate".to_owned(),
            |issuer| format!("the issuer's certificate {issuer}"),
        )
    };
    match defect {
        TlsDefect::HandshakeFailed(fault) => fault.to_string(),
        TlsDefect::ClientCertificateRequired(fault) => client_certificate(*fault).to_owned(),
        TlsDefect::Unusable(unusable) => unusable.to_string(),
        TlsDefect::UnknownIssuer { self_signed: true, .. } => {
            "the certificate is self-signed and not trusted".to_owned()
        }
        TlsDefect::UnknownIssuer { issuer, .. } => {
            format!("the certificate's issuer {issuer} is not trusted")
        }
        TlsDefect::Expired { not_after, issuer } => format!("{} expired at {not_after}", whose(issuer)),
        TlsDefect::NotYetValid { not_before, issuer } => {
            format!("{} is not valid before {not_before}", whose(issuer))
        }
        TlsDefect::HostnameMismatch { expected, names } if names.is_empty() => {
            format!("the certificate is not for {expected}: it contains no host names")
        }
        TlsDefect::HostnameMismatch { expected, names } => {
            let names = listed(names.iter().map(String::as_str), "and");
            format!("the certificate is for {names}, not for {expected}")
        }
    }
}

fn client_certificate(fault: ClientCertificateFault) -> &'static str {
    match fault {
        ClientCertificateFault::Missing => "the server requires a client certificate",
        ClientCertificateFault::Refused => "the server rejected the client certificate",
        ClientCertificateFault::Expired => "the server rejected the expired client certificate",
    }
}

pub(super) fn credentials(finding: &CredentialsFinding) -> String {
    use CredentialsFinding as F;
    match finding {
        F::NotAttempted => not_attempted().to_owned(),
        F::Validated(_) => "Credentials validated".to_owned(),
        F::AnonymousAccess => {
            "The registry allows anonymous access; no credentials are given or needed".to_owned()
        }
        F::Rejected { by, status } => format!(
            "{by} rejected the credentials ({status}); update the Secret to retry immediately, otherwise retries back off"
        ),
        F::ForbiddenToAll { by } => format!(
            "{by} forbids access (403) without asking for credentials; check its firewall and network rules"
        ),
        F::Forbidden { by } => format!(
            "{by} forbids access with these credentials (403); check the account's permissions and that it is not locked"
        ),
        F::Required => "The registry requires credentials; set spec.auth".to_owned(),
        F::Expired => "The credentials have expired; renew them in the Secret".to_owned(),
        F::UntrustedTokenService { service, cause } => untrusted(service.as_ref(), *cause),
        F::TokenRefused { issuer } => format!(
            "The registry rejected the token that token service {issuer} issued; ask the registry's administrator to check \
             both"
        ),
        F::UnsupportedScheme { schemes } => unsupported(schemes),
        F::Unprovable(why) => unprovable(*why),
        F::Throttled { by } => throttled(by),
        F::Withheld { server, why } => withheld(&server.to_string(), *why),
        F::TemporarilyUnavailable { server, cause } => {
            format!("Credentials not checked: {}", unavailable(server, cause))
        }
    }
}

fn unsupported(schemes: &[String]) -> String {
    if schemes.is_empty() {
        return "The registry offers no known authentication scheme; check spec.endpoint".to_owned();
    }
    format!(
        "The registry requires {} authentication, which is not supported; use an address with Basic or Bearer",
        listed(schemes.iter().map(String::as_str), "or")
    )
}

/// Why credentials were not sent, with the limits of [`table`].
pub(super) fn withheld(server: &str, why: Withholding) -> String {
    match why {
        Withholding::TriedTooOften => format!(
            "{server} rejected the credentials; update the Secret to retry immediately (limit: {} attempts a minute with the \
             same credentials, {} in all)",
            table::MOST_OF_THE_SAME,
            table::MOST_AT_A_HOST
        ),
        Withholding::TooManyRejected => format!(
            "Credentials not sent to {server}: it rejected {} attempts within a minute; retrying later",
            table::MOST_AT_A_HOST
        ),
        Withholding::MemoryFull => format!(
            "Credentials not sent to {server}: {} others were rejected already; correct or delete the registries that are \
             Rejected",
            table::MOST_REJECTED
        ),
        Withholding::UnderWay => {
            format!("Credentials not sent to {server}: another registry is trying the same ones; retrying")
        }
    }
}

fn untrusted(service: Option<&HostPort>, cause: Distrust) -> String {
    let service = service.map_or_else(|| "with an unreadable address".to_owned(), HostPort::to_string);
    let why = match cause {
        Distrust::NoRealm => {
            return "Credentials not sent: the registry names no valid token service; ask its administrator to correct the \
                    challenge"
                .to_owned();
        }
        Distrust::PlainHttp => {
            "uses http://, but the registry uses https://; ask the registry's administrator to correct its URL"
        }
        Distrust::UserInfo => {
            "has a user name or password in its URL; ask the registry's administrator to correct it"
        }
        Distrust::OtherSite => {
            "is on a different site; an administrator can allow it with --trusted-token-service"
        }
        Distrust::EgressDenied => {
            "is blocked by the egress policy; an administrator can allow it with --egress-allow"
        }
        Distrust::Redirect => {
            "redirects to another address; ask the registry's administrator to correct its URL"
        }
    };
    format!("Credentials not sent: token service {service} {why}")
}

fn unprovable(why: Unprovable) -> String {
    let why = match why {
        Unprovable::AnonymousServed => "the registry allows anonymous access",
        Unprovable::AnonymousTokenServed => "anonymous tokens give the same access",
        Unprovable::NothingAskedForToken => "the registry never asked for them",
        Unprovable::TokenRequestRefused => "the token service requires a repository (400)",
    };
    format!(
        "Credentials could not be verified: {why}; set spec.validation.repository to a private repository"
    )
}

fn unavailable(server: &HostPort, cause: &Unavailable) -> String {
    match cause {
        Unavailable::Dns(cause) => dns(&server.host, *cause),
        Unavailable::Refused => format!("{server} refused the connection"),
        Unavailable::Connection(cause) => {
            format!("connection to {server} failed: {}", connection(*cause))
        }
        Unavailable::Timeout(during) => timed_out(server, *during),
        Unavailable::Status(status) => format!("{server} returned HTTP status {status}"),
        Unavailable::NoToken => format!("token service {server} returned no token"),
        Unavailable::Unreadable => format!("{server} sent an unreadable answer"),
        Unavailable::Proxy(failure) => proxy(server, failure),
    }
}

pub(super) fn content_path(finding: &ContentPathFinding) -> String {
    use ContentPathFinding as F;
    match finding {
        F::NotAttempted => not_attempted().to_owned(),
        F::Accessible { repository } => format!("Repository {repository} is readable"),
        F::Denied { repository, status } => format!(
            "Reading {repository} denied ({status}); check that the repository exists and the account may pull from it"
        ),
        F::NotFound { repository } => {
            format!(
                "Repository {repository} not found; check spec.baseContentPath and spec.validation.repository"
            )
        }
        F::Inconclusive(why) => inconclusive(why),
    }
}

fn inconclusive(why: &Inconclusive) -> String {
    match why {
        Inconclusive::NoRepositoryNamed => {
            "Content path not checked: set spec.validation.repository".to_owned()
        }
        Inconclusive::NoTags { repository } => {
            format!(
                "Repository {repository} has no tags, or does not exist; push a tag or check spec.validation.repository"
            )
        }
        Inconclusive::NotListed { repository, status } => format!(
            "Listing tags of {repository} denied ({status}), and it has no tag latest; allow the account to list tags"
        ),
        Inconclusive::UnexpectedStatus { repository, status } => {
            format!(
                "Reading {repository} failed: the registry returned HTTP status {status}; check the registry"
            )
        }
        Inconclusive::Unavailable { repository, server, cause } => {
            format!("Reading {repository} failed: {}", unavailable(server, cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_messages_and_strips_controls() {
        let message = capped(format!("\u{1b}[31m{}", "ä".repeat(2000)));
        assert_eq!(message.chars().count(), LONGEST);
        assert!(!message.chars().any(char::is_control));
    }
}
