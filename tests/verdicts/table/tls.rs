//! Layer 3, TLS: certificates with one or several defects, skipped verification, CAs from every source, client
//! certificates. A server without a valid certificate gets no request.

use crate::hosts::{Host, PortBehaviour, Versions, host};
use crate::pki::{CertificateKind, Client, Clients, GivenCa};
use crate::row::{BOTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{TO_AUTH, htpasswd, issues, strict, takes_tokens, token};
use crate::secrets::USER;
use crate::spec::{Spec, right, spec};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [good(), bad(), skipped(), versions(), token_services(), clients()].concat()
}

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const SKIPPED: &str = "+Resolved +Reachable -VerificationSkipped +Validated ?Inconclusive = +Available";
const UNKNOWN_ISSUER: &str = "+Resolved +Reachable -UnknownIssuer . . = -UnknownIssuer stalled";
const EXPIRED: &str = "+Resolved +Reachable -Expired . . = -Expired stalled";
const NOT_YET_VALID: &str = "+Resolved +Reachable -NotYetValid . . = -NotYetValid stalled";
const OTHER_HOST: &str = "+Resolved +Reachable -HostnameMismatch . . = -HostnameMismatch stalled";
const UNUSABLE: &str = "+Resolved +Reachable -HandshakeFailed . . = -HandshakeFailed stalled";
const NO_CLIENT: &str =
    "+Resolved +Reachable -ClientCertificateRequired . . = -ClientCertificateRequired stalled";

fn showing(shows: CertificateKind) -> Vec<Host> {
    vec![host("registry", htpasswd).shows(shows)]
}

fn good() -> Vec<Row> {
    let verified = |name, shows, spec: Spec| row(name, showing(shows), spec, REGISTRY, VALIDATED);
    vec![
        verified("a private authority", CertificateKind::Company, right()),
        verified(
            "a private authority among others in a bundle",
            CertificateKind::Company,
            right().trusts(GivenCa::Bundle),
        ),
        verified("an intermediate that is shown", CertificateKind::Department, right()),
        verified(
            "an intermediate that is given instead of its root",
            CertificateKind::DepartmentBare,
            right().trusts(GivenCa::Department),
        ),
        verified(
            "a self-signed certificate given as the authority",
            CertificateKind::SelfSigned,
            right().trusts(GivenCa::SelfSigned),
        ),
        verified(
            "a self-signed certificate that calls itself an authority, given as one",
            CertificateKind::SelfSignedAuthority,
            right().trusts(GivenCa::SelfSignedAuthority),
        ),
        verified("a wildcard", CertificateKind::Wildcard, right()),
    ]
}

fn bad() -> Vec<Row> {
    let fails =
        |name, shows, spec: Spec, expected| row(name, showing(shows), spec, NOWHERE, expected).costs(0);
    vec![
        fails(
            "of no public authority, and none given",
            CertificateKind::Stranger,
            right().public_roots(),
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "CN=stranger")
        .presents("nothing | CN=registry | CN=stranger | 2027-01-01T00:00:00Z"),
        fails("of another authority than the given one", CertificateKind::Stranger, right(), UNKNOWN_ISSUER)
            .message_contains("TLSVerified", "{registry.host}:{registry.port}"),
        fails(
            "of an authority made anew under the same name",
            CertificateKind::Namesake,
            right(),
            UNKNOWN_ISSUER,
        ),
        fails(
            "self-signed, and not given",
            CertificateKind::SelfSigned,
            right().public_roots(),
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "self-signed"),
        fails(
            "self-signed as an authority, and not given",
            CertificateKind::SelfSignedAuthority,
            right().public_roots(),
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "self-signed"),
        fails(
            "another self-signed certificate than the given one",
            CertificateKind::SelfSignedAuthority,
            right().trusts(GivenCa::SelfSigned),
            UNKNOWN_ISSUER,
        ),
        fails("an intermediate that is missing", CertificateKind::DepartmentBare, right(), UNKNOWN_ISSUER)
            .message_contains("TLSVerified", "CN=department"),
        fails(
            "another leaf of the authority, given as if it were one",
            CertificateKind::Company,
            right().trusts(GivenCa::CompanysLeaf),
            UNKNOWN_ISSUER,
        ),
        fails(
            "an authority that has nothing to do with it",
            CertificateKind::Company,
            right().trusts(GivenCa::Unrelated),
            UNKNOWN_ISSUER,
        ),
        fails("expired", CertificateKind::Expired, right(), EXPIRED)
            .message_contains("TLSVerified", "2026-02-01"),
        fails("not yet valid", CertificateKind::NotYetValid, right(), NOT_YET_VALID)
            .message_contains("TLSVerified", "2026-07-01"),
        fails("for another host", CertificateKind::OtherHost, right(), OTHER_HOST)
            .message_contains("TLSVerified", "wrong.example.com"),
        fails("for its host by the subject only", CertificateKind::SubjectOnly, right(), OTHER_HOST),
        fails("for a wildcard one level above", CertificateKind::WildcardAbove, right(), OTHER_HOST),
        fails(
            "self-signed and given, but for another host",
            CertificateKind::SelfSignedElsewhere,
            right().trusts(GivenCa::SelfSignedElsewhere),
            OTHER_HOST,
        ),
        fails(
            "an address that the certificate does not name",
            CertificateKind::OtherHost,
            right().endpoint("https://{registry.address}:{registry.port}"),
            OTHER_HOST,
        ),
        fails("an intermediate that has ended", CertificateKind::EndedDepartment, right(), EXPIRED)
            .message_contains("TLSVerified", "CN=ended department"),
        fails(
            "a given authority that has ended",
            CertificateKind::EndedCompany,
            right().trusts(GivenCa::EndedCompany),
            EXPIRED,
        )
        .message_contains("TLSVerified", "CN=ended company"),
        fails("for clients only", CertificateKind::ForClients, right(), UNUSABLE)
            .message_contains("TLSVerified", "extended key usage"),
        fails(
            "of an authority that may not sign for this domain",
            CertificateKind::ConstrainedDepartment,
            right(),
            UNUSABLE,
        ),
        fails(
            "an authority's, used as a server's",
            CertificateKind::AuthorityItself,
            right().trusts(GivenCa::Stranger),
            UNUSABLE,
        ),
        fails(
            "of a stranger, expired and for another host",
            CertificateKind::StrangerExpiredOtherHost,
            right(),
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "expired at 2026-02-01")
        .message_contains("TLSVerified", "wrong.example.com"),
        fails("expired and for another host", CertificateKind::ExpiredOtherHost, right(), EXPIRED)
            .message_contains("TLSVerified", "wrong.example.com"),
        fails("all wrong at once", CertificateKind::AllWrong, right(), UNUSABLE)
            .message_contains("TLSVerified", "CN=stranger")
            .message_contains("TLSVerified", "2026-07-01")
            .message_contains("TLSVerified", "wrong.example.com"),
        fails("a stranger's, without credentials", CertificateKind::Stranger, spec(), UNKNOWN_ISSUER),
    ]
}

fn skipped() -> Vec<Row> {
    let passes = |name, shows, spec: Spec| row(name, showing(shows), spec.skip(), REGISTRY, SKIPPED);
    let message_contains =
        |name, shows, spec: Spec, words| passes(name, shows, spec).message_contains("TLSVerified", words);
    vec![
        message_contains(
            "skipped, of a stranger",
            CertificateKind::Stranger,
            right().public_roots(),
            "CN=stranger",
        ),
        message_contains(
            "skipped, self-signed",
            CertificateKind::SelfSigned,
            right().public_roots(),
            "self-signed",
        ),
        message_contains("skipped, expired", CertificateKind::Expired, right(), "expired at 2026-02-01")
            .presents("TLSv1.3 | CN=registry | CN=company | 2026-02-01T00:00:00Z"),
        message_contains("skipped, not yet valid", CertificateKind::NotYetValid, right(), "2026-07-01"),
        message_contains(
            "skipped, for another host",
            CertificateKind::OtherHost,
            right(),
            "wrong.example.com",
        ),
        message_contains(
            "skipped, for clients only",
            CertificateKind::ForClients,
            right(),
            "extended key usage",
        ),
        message_contains(
            "skipped, all wrong",
            CertificateKind::AllWrong,
            right().public_roots(),
            "CN=stranger",
        ),
        message_contains(
            "skipped, though the given authority would verify it",
            CertificateKind::Company,
            right(),
            "can be removed",
        ),
        message_contains(
            "skipped, and the given authority would not verify it",
            CertificateKind::Stranger,
            right(),
            "spec.tls.ca would not",
        ),
        message_contains(
            "skipped, and the self-signed certificate is given",
            CertificateKind::SelfSigned,
            right().trusts(GivenCa::SelfSigned),
            "can be removed",
        ),
        row(
            "skipped, with a wrong password",
            showing(CertificateKind::Stranger),
            crate::spec::wrong().skip(),
            REGISTRY,
            "+Resolved +Reachable -VerificationSkipped -Rejected . = -Rejected stalled",
        ),
        row(
            "skipped, without credentials",
            showing(CertificateKind::Stranger),
            spec().skip(),
            NOWHERE,
            "+Resolved +Reachable -VerificationSkipped -Required . = -Required stalled",
        ),
        row(
            "skipped for a TenantRegistry, where it was let through",
            showing(CertificateKind::Stranger),
            right().skip().of_tenant().allowed("127.0.0.0/8"),
            REGISTRY,
            SKIPPED,
        ),
    ]
}

fn versions() -> Vec<Row> {
    let speaking = |name, versions, presented| {
        let door = PortBehaviour::Tls(CertificateKind::Company, Clients::NotAsked, versions);
        let hosts = vec![host("registry", htpasswd).behind(door)];
        row(name, hosts, right(), REGISTRY, VALIDATED).presents(presented)
    };
    vec![
        speaking(
            "TLS 1.2 only",
            Versions::Only12,
            "TLSv1.2 | CN=registry | CN=company | 2027-01-01T00:00:00Z",
        ),
        speaking(
            "TLS 1.3 only",
            Versions::Only13,
            "TLSv1.3 | CN=registry | CN=company | 2027-01-01T00:00:00Z",
        ),
    ]
}

fn token_services() -> Vec<Row> {
    let service =
        |shows| vec![host("registry", takes_tokens(TO_AUTH)), host("auth", issues(strict)).shows(shows)];
    let fails = |name, shows, expected| {
        row(name, service(shows), right(), NOWHERE, expected)
            .message_contains("TLSVerified", "{auth.host}:{auth.port}")
    };
    vec![
        fails("a token service of a stranger's", CertificateKind::Stranger, UNKNOWN_ISSUER),
        fails("a token service that has expired", CertificateKind::Expired, EXPIRED),
        fails("a token service that is not yet valid", CertificateKind::NotYetValid, NOT_YET_VALID),
        fails("a token service for another host", CertificateKind::OtherHost, OTHER_HOST),
        row(
            "a token service of a stranger's, asked anonymously",
            service(CertificateKind::Stranger),
            spec(),
            NOWHERE,
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "{auth.host}:{auth.port}"),
        row(
            "a token service at another site, of a stranger's, asked anonymously",
            vec![
                host("registry", takes_tokens("Bearer realm=\"{tokens}/token\"")),
                host("tokens", issues(|_| token().opening("api").issued())).shows(CertificateKind::Stranger),
            ],
            spec(),
            NOWHERE,
            UNKNOWN_ISSUER,
        )
        .message_contains("TLSVerified", "{tokens.host}:{tokens.port}"),
        row("a skipped token service", service(CertificateKind::Stranger), right().skip(), BOTH, SKIPPED)
            .message_contains("TLSVerified", "{auth.host}:{auth.port}"),
        row(
            "a token service over TLS that fails, of a registry in the clear",
            vec![
                host("registry", takes_tokens(TO_AUTH)).clear(),
                host("auth", issues(strict)).shows(CertificateKind::Expired),
            ],
            right(),
            NOWHERE,
            EXPIRED,
        ),
        row(
            "a token service that speaks no TLS",
            vec![
                host("registry", takes_tokens("Bearer realm=\"https://{auth.host}:{auth.port}/token\"")),
                host("auth", issues(strict)).clear(),
            ],
            right(),
            NOWHERE,
            UNUSABLE,
        ),
    ]
}

fn wants_certificates(versions: Versions) -> Vec<Host> {
    vec![host("registry", htpasswd).behind(PortBehaviour::Tls(
        CertificateKind::Company,
        Clients::Required,
        versions,
    ))]
}

/// A registry that accepts a client certificate without a password.
fn certificate_is_enough(asked: &ReceivedRequest) -> Answer {
    crate::scripts::content(asked)
}

fn clients() -> Vec<Row> {
    let mut rows = Vec::new();
    for versions in [Versions::Only12, Versions::Only13] {
        let name = |twelve, thirteen| if versions == Versions::Only12 { twelve } else { thirteen };
        let met = |name, spec: Spec, permits, expected| {
            row(name, wants_certificates(versions), spec, permits, expected)
        };
        rows.extend([
            met(
                name("no client certificate, TLS 1.2", "no client certificate, TLS 1.3"),
                right(),
                NOWHERE,
                NO_CLIENT,
            ),
            met(
                name("the right client certificate, TLS 1.2", "the right client certificate, TLS 1.3"),
                right().client(Client::Right),
                REGISTRY,
                VALIDATED,
            ),
            met(
                name("a stranger's client certificate, TLS 1.2", "a stranger's client certificate, TLS 1.3"),
                right().client(Client::OfStrangers),
                NOWHERE,
                NO_CLIENT,
            ),
            met(
                name("an expired client certificate, TLS 1.2", "an expired client certificate, TLS 1.3"),
                right().client(Client::Expired),
                NOWHERE,
                NO_CLIENT,
            )
            .message_contains("TLSVerified", "expired"),
        ]);
    }
    let optional = |script: fn(&ReceivedRequest) -> Answer| {
        vec![host("registry", script).behind(PortBehaviour::Tls(
            CertificateKind::Company,
            Clients::Welcome,
            Versions::Both,
        ))]
    };
    let nginx = |_: &ReceivedRequest| {
        Answer::status(400).body("<html>400 Bad Request<br>No required SSL certificate was sent</html>")
    };
    rows.extend([
        row("nginx misses a client certificate", optional(nginx), right(), NOWHERE, NO_CLIENT),
        row(
            "a client certificate that nobody asks for",
            showing(CertificateKind::Company),
            right().client(Client::Right),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "a client certificate that is welcome",
            optional(htpasswd),
            right().client(Client::Right),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "a welcome for client certificates, and none given",
            optional(htpasswd),
            right(),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "both a wrong certificate and a missing client certificate",
            wants_stranger(),
            right(),
            NOWHERE,
            UNKNOWN_ISSUER,
        ),
        row(
            "a client certificate instead of a password",
            vec![host("registry", certificate_is_enough).behind(PortBehaviour::Tls(
                CertificateKind::Company,
                Clients::Required,
                Versions::Both,
            ))],
            spec().client(Client::Right),
            NOWHERE,
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        ),
        row(
            "a client certificate is shown to the token service that may have the password",
            vec![
                host("registry", takes_tokens(TO_AUTH)),
                host("auth", issues(strict)).behind(PortBehaviour::Tls(
                    CertificateKind::Company,
                    Clients::Required,
                    Versions::Both,
                )),
            ],
            right().client(Client::Right),
            crate::row::AUTH,
            VALIDATED,
        ),
        row(
            "a client certificate is not shown to a token service at another site",
            vec![
                host("registry", takes_tokens("Bearer realm=\"{tokens}/token\"")),
                host("tokens", issues(|_| token().naming(USER).opening("api").issued()))
                    .behind(PortBehaviour::Tls(CertificateKind::Company, Clients::Welcome, Versions::Both)),
            ],
            spec().client(Client::Right),
            NOWHERE,
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        ),
    ]);
    rows
}

fn wants_stranger() -> Vec<Host> {
    vec![host("registry", htpasswd).behind(PortBehaviour::Tls(
        CertificateKind::Stranger,
        Clients::Required,
        Versions::Both,
    ))]
}
