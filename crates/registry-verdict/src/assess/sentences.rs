//! The sentence that each condition says to a person: what was seen, on what, and what to do. Never a secret, a
//! response's body, a request id, or anything that differs between two runs of the same failure.

use registry_probe::{
    ClientCertificateFault, ConnectionFailure, ContentPathFinding, CredentialsFinding, Distrust, DnsFailure,
    EndpointFinding, HostPort, Inconclusive, NotARegistry, PresentedCertificate, ProxyFailure, ProxyFault,
    Stage, TlsDefect, TlsFinding, Unavailable, Unprovable, Withholding,
};

use crate::{
    rejections::table,
    resolve::{Obstacle, Problem},
    text::listed,
};

/// The most characters of a message (docs/architecture.md#promises).
const LONGEST: usize = 1024;

/// `text` without control characters: what a server says must not move a terminal's cursor.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `message`, clean and within the bound.
pub(super) fn capped(message: String) -> String {
    let message = if message.chars().any(char::is_control) { clean(&message) } else { message };
    if message.chars().count() <= LONGEST {
        return message;
    }
    message.chars().take(LONGEST - 1).chain(['…']).collect()
}

pub(super) fn not_attempted() -> &'static str {
    "Not attempted, since an earlier layer failed or validation has yet to begin"
}

/// Of a registry that has failed too seldom yet.
pub(super) fn ready_until(message: &str) -> String {
    capped(format!("Ready until this has failed more often in a row: {message}"))
}

pub(super) fn addresses_unknown(why: &str) -> String {
    format!("Not connected: the cluster's own addresses, which tenants may not reach, are not known: {why}")
}

pub(super) fn resolved() -> &'static str {
    "Everything that the spec refers to was found"
}

pub(super) fn not_a_tenant() -> String {
    format!(
        "The namespace is not a tenant's: a cluster administrator makes it one by the label {}=<tenant>",
        registry_api::TENANT_LABEL
    )
}

pub(super) fn beyond_quota(most: usize) -> String {
    format!(
        "Not validated: the tenant has more than {most} TenantRegistries, and the oldest are validated; remove some, or ask a \
         cluster administrator (tenantPolicy.maxRegistries)"
    )
}

pub(super) fn problem(problem: &Problem) -> String {
    let what = format!("{problem}");
    match problem {
        Problem::NotFound(_) => format!("{what}: create it, or correct the reference"),
        Problem::AccessDenied { reference, obstacle: Some(Obstacle { kind, name }), .. } => format!(
            "{what}: RoleBinding registry-operator there refers to {kind} {name}, which can't be changed; its owner must delete it \
             (kubectl delete rolebinding registry-operator -n {}), then the operator makes its own",
            reference.shelf.namespace
        ),
        Problem::AccessDenied { reference, operator, obstacle: None } => format!(
            "{what}: give it access with kubectl create rolebinding registry-operator \
             --clusterrole=registry-operator-tenant {operator} -n {}",
            reference.shelf.namespace
        ),
        _ => sentence(&what),
    }
}

/// With a capital letter, unless it begins with the name of a field.
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
        F::Reachable => "The endpoint accepts connections".to_owned(),
        F::DnsFailure { host, cause } => dns(host, *cause),
        F::ConnectionRefused { server } => {
            format!(
                "{server} refuses connections: check the endpoint's host and port, and that the registry runs"
            )
        }
        F::ConnectionFailed { server, cause } => {
            format!("The connection to {server} failed: {}", connection(*cause))
        }
        F::Timeout { server, during } => {
            format!("{server} took longer than spec.validation.timeout: time ran out during {during}")
        }
        F::NotARegistry { server, cause } => not_a_registry(server, *cause),
        F::RedirectRefused { server, to } => format!(
            "{server} redirects to {}; redirects are not followed, so write the registry's own address into spec.endpoint",
            to.as_deref().unwrap_or("an address that can't be read")
        ),
        F::EgressDenied { server, address } => format!(
            "{server} is at {address}, an address that registries may not be reached at; an administrator can allow it \
             with --egress-allow"
        ),
        F::ProxyFailed { server, failure } => proxy(server, failure),
        F::ServerError { server, status } => {
            format!("{server} answered with HTTP status {status}, a fault of its own")
        }
        F::Throttled { server } => {
            format!("{server} answered that it gets too many requests (429); tried again later")
        }
    }
}

fn dns(host: &registry_probe::Host, cause: DnsFailure) -> String {
    match cause {
        DnsFailure::NoSuchName => format!("The host name {host} does not exist: check spec.endpoint"),
        DnsFailure::NoAddress => format!("The host name {host} has no address: check spec.endpoint"),
        DnsFailure::ServerFailure => format!("The name servers failed to look up {host}"),
        DnsFailure::NoAnswer => format!("The name servers did not answer for {host} in time"),
        DnsFailure::OwnLimit => {
            format!("Too many files are open here to look up {host}; raise the limit (ulimit -n)")
        }
    }
}

/// The proxy is named, and its login is not; the server is only named as what was asked for.
fn proxy(server: &HostPort, ProxyFailure { proxy, fault }: &ProxyFailure) -> String {
    let what = match fault {
        ProxyFault::Dns(_) => {
            format!("the proxy's host name {} has no address; check the operator's --proxy", proxy.host)
        }
        ProxyFault::Refused => format!("proxy {proxy} refuses connections; check the operator's --proxy"),
        ProxyFault::Connection(cause) => {
            format!("the connection to proxy {proxy} failed: {}", connection(*cause))
        }
        ProxyFault::Timeout(Stage::Request) => {
            format!("proxy {proxy} did not answer (spec.validation.timeout)")
        }
        ProxyFault::Timeout(_) => format!("timed out connecting to proxy {proxy} (spec.validation.timeout)"),
        ProxyFault::Tls => format!(
            "the certificate of proxy {proxy} can't be verified; put its CA into the operator's --ca-file"
        ),
        ProxyFault::LoginRequired => format!(
            "proxy {proxy} wants a login (407); put user name and password into the operator's --proxy"
        ),
        ProxyFault::LoginRejected => format!(
            "proxy {proxy} rejected the login (407); correct user name and password in the operator's --proxy"
        ),
        ProxyFault::Forbidden(status) => format!(
            "proxy {proxy} does not allow it ({status}); allow {} there, or list it in the operator's --no-proxy",
            server.host
        ),
        ProxyFault::Status(status) => format!("proxy {proxy} answered with HTTP status {status}"),
        ProxyFault::NotHttp => {
            format!("{proxy} does not speak HTTP as a proxy does; check the operator's --proxy")
        }
    };
    format!("{server} not reached: {what}")
}

fn connection(cause: ConnectionFailure) -> &'static str {
    match cause {
        ConnectionFailure::Unreachable => "there is no route to it",
        ConnectionFailure::Closed => "it was closed before there was an answer",
        ConnectionFailure::OwnLimit => "too many files are open here; raise the limit (ulimit -n)",
        ConnectionFailure::Other => "it broke",
    }
}

fn not_a_registry(server: &HostPort, cause: NotARegistry) -> String {
    let what = match cause {
        NotARegistry::Status(status) => format!("{server} answered /v2/ with HTTP status {status}"),
        NotARegistry::NoSign => {
            format!("{server} answered /v2/ with something that is not an OCI registry's")
        }
        NotARegistry::NotHttp => format!("{server} does not speak HTTP/1.1"),
        NotARegistry::WantsTls => return format!("{server} wants TLS: write https:// into spec.endpoint"),
    };
    format!("{what}: no OCI registry is there, so check spec.endpoint and its path")
}

pub(super) fn tls(finding: &TlsFinding) -> String {
    match finding {
        TlsFinding::NotAttempted => not_attempted().to_owned(),
        TlsFinding::PlainHttp => "The endpoint is http://, so nothing is encrypted or verified".to_owned(),
        TlsFinding::Verified => "The certificate was verified".to_owned(),
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
        let with = if ca == Some(true) { " with the given CA" } else { "" };
        return format!(
            "Verification is skipped, as asked for; {server} would pass it{with}, so spec.tls.insecureSkipVerify can be dropped"
        );
    };
    let what =
        format!("Verification is skipped, as asked for; {server} would fail it: {}", defects(defect, also));
    match ca {
        None => what,
        Some(true) => {
            format!("{what}; the given CA would verify it, so spec.tls.insecureSkipVerify can be dropped")
        }
        Some(false) => format!("{what}; the given CA would not verify it either"),
    }
}

fn failed(
    server: &HostPort,
    fault: &TlsDefect,
    also: &[TlsDefect],
    presented: Option<&PresentedCertificate>,
) -> String {
    let what = format!("{server}: {}", defects(fault, also));
    let shown =
        presented.map_or_else(String::new, |certificate| format!(" (presented: {})", describe(certificate)));
    let advice = match fault {
        TlsDefect::UnknownIssuer { .. } => {
            "; give its CA certificate in spec.tls.ca, or skip verification with spec.tls.insecureSkipVerify"
        }
        TlsDefect::Expired { .. } => {
            "; renew it on the registry, or skip verification with spec.tls.insecureSkipVerify"
        }
        TlsDefect::HostnameMismatch { .. } => {
            "; write a host that it is for into spec.endpoint, or skip verification with spec.tls.insecureSkipVerify"
        }
        TlsDefect::ClientCertificateRequired(ClientCertificateFault::Missing) => {
            "; name a Secret with one in spec.tls.clientCertificate.secretRef"
        }
        _ => "",
    };
    format!("{what}{shown}{advice}")
}

fn describe(certificate: &PresentedCertificate) -> String {
    format!(
        "subject {}, issuer {}, valid until {}, SHA-256 {}",
        certificate.subject, certificate.issuer, certificate.not_after, certificate.sha256_fingerprint
    )
}

fn defects(first: &TlsDefect, also: &[TlsDefect]) -> String {
    std::iter::once(first).chain(also).map(defect).collect::<Vec<_>>().join("; and ")
}

fn defect(defect: &TlsDefect) -> String {
    let whose = |issuer: &Option<String>| {
        issuer.as_ref().map_or_else(
            || "its certificate".to_owned(),
            |issuer| format!("the issuer's certificate {issuer}"),
        )
    };
    match defect {
        TlsDefect::HandshakeFailed(fault) => format!("the TLS handshake failed: {fault}"),
        TlsDefect::ClientCertificateRequired(fault) => client_certificate(*fault).to_owned(),
        TlsDefect::Unusable(unusable) => unusable.to_string(),
        TlsDefect::UnknownIssuer { self_signed: true, .. } => {
            "its certificate is self-signed, and not among those that are trusted".to_owned()
        }
        TlsDefect::UnknownIssuer { issuer, .. } => {
            format!("its certificate's issuer {issuer} is not trusted")
        }
        TlsDefect::Expired { not_after, issuer } => format!("{} expired at {not_after}", whose(issuer)),
        TlsDefect::NotYetValid { not_before, issuer } => {
            format!("{} is not valid before {not_before}", whose(issuer))
        }
        TlsDefect::HostnameMismatch { expected, names } if names.is_empty() => {
            format!("its certificate names no host, so not {expected}")
        }
        TlsDefect::HostnameMismatch { expected, names } => {
            let names = listed(names.iter().map(String::as_str), "and");
            format!("its certificate is not for {expected} but for {names}")
        }
    }
}

fn client_certificate(fault: ClientCertificateFault) -> &'static str {
    match fault {
        ClientCertificateFault::Missing => "it wants a certificate from its clients, and none was given",
        ClientCertificateFault::Refused => "it refused the client certificate",
        ClientCertificateFault::Expired => "it refused the client certificate, which has expired",
    }
}

pub(super) fn credentials(finding: &CredentialsFinding) -> String {
    use CredentialsFinding as F;
    match finding {
        F::NotAttempted => not_attempted().to_owned(),
        F::Validated(_) => "Credentials validated".to_owned(),
        F::AnonymousAccess => {
            "The registry serves anonymous clients; no credentials are given or needed".to_owned()
        }
        F::Rejected { by, status } => format!(
            "{by} rejected the credentials ({status}); update the Secret to retry immediately, otherwise retries back off"
        ),
        F::ForbiddenToAll { by } => format!(
            "{by} refuses access (403) and asks for no credentials: check its firewall and its network rules"
        ),
        F::Forbidden { by } => format!(
            "{by} forbids access with these credentials (403): the account lacks rights, or is locked"
        ),
        F::Required => "The registry wants credentials: name a Secret in spec.auth".to_owned(),
        F::Expired => "The credentials have expired: renew them in the Secret".to_owned(),
        F::UntrustedTokenService { service, cause } => untrusted(service.as_ref(), *cause),
        F::TokenRefused { issuer } => format!(
            "The token service {issuer} accepted the credentials, but the registry refused the token that it issued: the \
             registry and its token service disagree"
        ),
        F::UnsupportedScheme { schemes } => format!(
            "The registry asks for {} authentication, and spec.auth holds nothing that answers it",
            if schemes.is_empty() {
                "no known".to_owned()
            } else {
                listed(schemes.iter().map(String::as_str), "or")
            }
        ),
        F::Unprovable(why) => unprovable(*why),
        F::Throttled { by } => {
            format!("{by} answered that it gets too many requests (429); tried again later")
        }
        F::Withheld { server, why } => withheld(&server.to_string(), *why),
        F::TemporarilyUnavailable { server, cause } => {
            format!("The credentials could not be tried: {}", unavailable(server, cause))
        }
    }
}

/// Why credentials wait for their turn, with the bounds of [`table`].
pub(super) fn withheld(server: &str, why: Withholding) -> String {
    match why {
        Withholding::TriedTooOften => format!(
            "{server} rejected the credentials; update the Secret to retry immediately. The requested validation waits its turn: \
             at most {} tries of the same credentials are made in a minute, and {} in all",
            table::MOST_OF_THE_SAME,
            table::MOST_AT_A_HOST
        ),
        Withholding::TooManyRejected => format!(
            "Credentials not sent to {server}: it rejected {} attempts within a minute; retrying when it is their turn",
            table::MOST_AT_A_HOST
        ),
        Withholding::MemoryFull => format!(
            "Credentials not sent to {server}: {} other credentials were rejected; correct or remove the registries that are \
             Rejected, retrying later",
            table::MOST_REJECTED
        ),
        Withholding::UnderWay => format!(
            "Credentials not sent to {server}: another registry is trying the same ones, without an answer in time; retrying"
        ),
    }
}

fn untrusted(service: Option<&HostPort>, cause: Distrust) -> String {
    let service = service.map_or_else(|| "a place that can't be read".to_owned(), HostPort::to_string);
    let why = match cause {
        Distrust::NoRealm => "its challenge names no token service".to_owned(),
        Distrust::PlainHttp => "it is not encrypted, though the registry is".to_owned(),
        Distrust::UserInfo => "its URL holds a user name or password".to_owned(),
        Distrust::OtherSite => {
            "it is at another site; an administrator can trust it with --trusted-token-service".to_owned()
        }
        Distrust::EgressDenied => "its address is one that may not be reached".to_owned(),
        Distrust::Redirect => "it redirects to another place".to_owned(),
    };
    format!("The registry wants the credentials sent to {service}, which was not done: {why}")
}

fn unprovable(why: Unprovable) -> String {
    let why = match why {
        Unprovable::AnonymousServed => "the registry serves anonymous clients just the same".to_owned(),
        Unprovable::AnonymousTokenServed => {
            "its token service gives anonymous clients the same access".to_owned()
        }
        Unprovable::NothingAskedForToken => "the registry never asked for them".to_owned(),
        Unprovable::TokenRequestRefused => {
            "its token service gives no token without a repository (400)".to_owned()
        }
    };
    format!(
        "Nothing proves the credentials right or wrong: {why}; name a protected repository in spec.validation.repository"
    )
}

fn unavailable(server: &HostPort, cause: &Unavailable) -> String {
    match cause {
        Unavailable::Dns(cause) => dns(&server.host, *cause),
        Unavailable::Refused => format!("{server} refuses connections"),
        Unavailable::Connection(cause) => {
            format!("the connection to {server} failed: {}", connection(*cause))
        }
        Unavailable::Timeout(during) => format!("{server} took too long: time ran out during {during}"),
        Unavailable::Status(status) => format!("{server} answered with HTTP status {status}"),
        Unavailable::NoToken => format!("{server} answered without a token"),
        Unavailable::Unreadable => format!("the answer of {server} can't be read"),
        Unavailable::Proxy(failure) => proxy(server, failure),
    }
}

pub(super) fn content_path(finding: &ContentPathFinding) -> String {
    use ContentPathFinding as F;
    match finding {
        F::NotAttempted => not_attempted().to_owned(),
        F::Accessible { repository } => format!("The repository {repository} can be read"),
        F::Denied { repository, status } => format!(
            "The registry refuses to let {repository} be read ({status}): the account lacks the right to pull, or there is no \
             such repository"
        ),
        F::NotFound { repository } => {
            format!(
                "There is no repository {repository}: check spec.baseContentPath and spec.validation.repository"
            )
        }
        F::Inconclusive(why) => inconclusive(why),
    }
}

fn inconclusive(why: &Inconclusive) -> String {
    match why {
        Inconclusive::NoRepositoryNamed => {
            "No repository is named in spec.validation.repository, and registries say nothing of a path above repositories"
                .to_owned()
        }
        Inconclusive::NoTags { repository } => {
            format!("{repository} has no tags; some registries answer so for a repository that does not exist")
        }
        Inconclusive::NotListed { repository, status } => format!(
            "The registry refuses the list of tags of {repository} ({status}), and there is no tag latest to check: whether it can \
             be pulled from is not known"
        ),
        Inconclusive::UnexpectedStatus { repository, status } => {
            format!("The registry answered the request for {repository} with HTTP status {status}, which says nothing")
        }
        Inconclusive::Unavailable { repository, server, cause } => {
            format!("{repository} could not be read: {}", unavailable(server, cause))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_at_most_1024_characters_and_free_of_control_characters() {
        let message = capped(format!("\u{1b}[31m{}", "ä".repeat(2000)));
        assert_eq!(message.chars().count(), LONGEST);
        assert!(!message.chars().any(char::is_control));
    }
}
