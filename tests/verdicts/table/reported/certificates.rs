//! G. A certificate that Go's and OpenSSL's clients accept is not refused by a limit of our own library; what we can't verify is
//! named as what it is. H. No certificate of a bundle is dropped silently.

use serde_json::json;

use super::{READ, SECRET_INVALID, VALIDATED};
use crate::hosts::{Host, PortBehaviour, Versions, host};
use crate::pki::{CertificateKind, Client, Clients, GivenCa, PKI};
use crate::row::{NOWHERE, REGISTRY, Row, row};
use crate::scripts::{alone, htpasswd};
use crate::spec::{Spec, right};
use crate::unusual_certificates::{Odd, small_key_port};

pub fn rows() -> Vec<Row> {
    [accepted(), named(), small_keys(), clients(), bundles()].concat()
}

const SKIPPED: &str = "+Resolved +Reachable -VerificationSkipped +Validated ?Inconclusive = +Available";
const UNUSABLE: &str = "+Resolved +Reachable -HandshakeFailed . . = -HandshakeFailed stalled";
const OTHER_HOST: &str = "+Resolved +Reachable -HostnameMismatch . . = -HostnameMismatch stalled";
const UNKNOWN_ISSUER: &str = "+Resolved +Reachable -UnknownIssuer . . = -UnknownIssuer stalled";
const CA_INVALID: &str = "-CABundleInvalid . . . . = -CABundleInvalid stalled";

fn showing(odd: Odd) -> Vec<Host> {
    vec![host("registry", htpasswd).shows(CertificateKind::Odd(odd))]
}

fn trusting(odd: Odd) -> Spec {
    right().trusts(GivenCa::Odd(odd))
}

fn accepted() -> Vec<Row> {
    let verified = |name, odd| row(name, showing(odd), trusting(odd), REGISTRY, VALIDATED);
    vec![
        verified("G1 an authority without end", Odd::BelowEndless),
        verified("G1 an authority without end before another", Odd::BelowEndlessInBundle),
        row(
            "G1 an authority without end before the right one",
            vec![host("registry", htpasswd)],
            right().ca(json!({"inline": format!(
                "{}{}", PKI.ca_pem(GivenCa::Odd(Odd::BelowEndless)), PKI.ca_pem(GivenCa::Company)
            )})),
            REGISTRY,
            VALIDATED,
        ),
        verified("G a certificate without end", Odd::Endless)
            .presents("TLSv1.3 | CN=registry | CN=company | 9999-12-30T22:00:00Z"),
        verified("G an authority with a critical extension", Odd::BelowCriticalRoot),
        verified("G for any purpose", Odd::AnyPurpose),
        verified("G for no purpose in particular", Odd::NoPurpose),
        verified("G a serial number of 20 bytes that looks negative", Odd::LongSerial),
        verified("G serial number 0", Odd::ZeroSerial),
        verified("G mail addresses and URLs beside hosts", Odd::OtherNames),
        verified("G issuers in no order", Odd::DisorderlyChain),
        verified("G an ended namesake of the issuer", Odd::EndedNamesakeInChain),
        verified("G below an authority of version 1", Odd::BelowVersion1),
    ]
}

/// What is refused, by its name; and let pass where verification is skipped.
fn named() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, odd, words) in [
        ("G2 critical policies", Odd::Policies, "certificatePolicies (2.5.29.32)"),
        ("G2 an intermediate with critical policies", Odd::BelowPolicies, "certificatePolicies (2.5.29.32)"),
        ("G2 an intermediate without mapping", Odd::BelowNoMapping, "policyConstraints (2.5.29.36)"),
        ("G an intermediate without any policy", Odd::BelowNoAnyPolicy, "inhibitAnyPolicy (2.5.29.54)"),
        ("G a critical extension that nobody knows", Odd::PrivateExtension, "1.3.6.1.4.1.99999.1"),
        ("G below an authority with a small key", Odd::BelowRsa1024, "1024 bits"),
    ] {
        rows.push(
            row(what, showing(odd), trusting(odd), NOWHERE, UNUSABLE)
                .costs(0)
                .message_contains("TLSVerified", words),
        );
        rows.push(
            row(format!("{what}, skipped"), showing(odd), trusting(odd).skip(), REGISTRY, SKIPPED)
                .message_contains("TLSVerified", words),
        );
    }
    let version_1 =
        |name, spec: Spec, permits, expected| row(name, showing(Odd::Version1), spec, permits, expected);
    rows.extend([
        version_1("G4 version 1, skipped", right().skip(), REGISTRY, SKIPPED)
            .message_contains("TLSVerified", "version 1"),
        version_1("G4 version 1, given and skipped", trusting(Odd::Version1).skip(), REGISTRY, SKIPPED),
        version_1("G4 version 1, given", trusting(Odd::Version1), NOWHERE, OTHER_HOST)
            .message_contains("TLSVerified", "contains no host names"),
        version_1("G4 version 1, not given", right(), NOWHERE, UNUSABLE)
            .message_contains("TLSVerified", "version 1"),
    ]);
    for version in [Versions::Only12, Versions::Only13] {
        for odd in [Odd::Policies, Odd::Version1] {
            let door = PortBehaviour::Tls(CertificateKind::Odd(odd), Clients::NotAsked, version);
            let name = format!("G {odd:?} skipped, TLS {version:?}");
            rows.push(row(
                name,
                vec![host("registry", htpasswd).behind(door)],
                right().skip(),
                REGISTRY,
                SKIPPED,
            ));
        }
    }
    rows
}

fn small_keys() -> Vec<Row> {
    let small = |name, spec: Spec, permits, expected| {
        let door = PortBehaviour::Process { port: small_key_port(), secure: true };
        row(name, vec![host("registry", htpasswd).behind(door)], spec, permits, expected)
            .message_contains("TLSVerified", "1024 bits")
    };
    let given = || right().ca(json!({"inline": crate::unusual_certificates::rsa_1024().pem}));
    vec![
        small("G3 a small key, skipped", right().skip(), REGISTRY, SKIPPED),
        small("G3 a small key, given and skipped", given().skip(), REGISTRY, SKIPPED),
        small("G3 a small key, given", given(), NOWHERE, UNUSABLE),
        small("G3 a small key", right(), NOWHERE, UNUSABLE),
    ]
}

fn clients() -> Vec<Row> {
    let asked = |clients| {
        vec![host("registry", htpasswd).behind(PortBehaviour::Tls(
            CertificateKind::Company,
            clients,
            Versions::Both,
        ))]
    };
    vec![
        row(
            "H a client's chain joined without a line break",
            asked(Clients::Required),
            right().client(Client::Joined),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "G a client certificate of version 1",
            asked(Clients::NotAsked),
            right().client(Client::Version1),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "G a client certificate with a small key",
            asked(Clients::NotAsked),
            right().client(Client::Rsa1024),
            NOWHERE,
            SECRET_INVALID,
        )
        .message_contains("ResolvedRefs", "1024 bits")
        .never_at(REGISTRY),
    ]
}

/// Someone else's authority, then the registry's, however they are put together: both are read, or the bundle is invalid.
fn bundles() -> Vec<Row> {
    let (other, own) = (PKI.ca_pem(GivenCa::Unrelated), PKI.ca_pem(GivenCa::Company));
    let joined = format!("{}{own}", other.trim_end());
    let given = |bundle: &str| {
        let leaked: &'static str = Box::leak(bundle.to_owned().into_boxed_str());
        [
            ("inline", right().ca(json!({"inline": bundle}))),
            (
                "in a ConfigMap",
                right().ca(json!({"configMapRef": {"name": "ca"}})).config_map("ca", &[("ca.crt", leaked)]),
            ),
            (
                "in a Secret",
                right().ca(json!({"secretRef": {"name": "ca"}})).secret(
                    "ca",
                    "Opaque",
                    &[("ca.crt", bundle.as_bytes())],
                ),
            ),
        ]
    };
    let mut rows = Vec::new();
    for (where_, spec) in given(&joined) {
        let name = format!("H1 two files joined without a line break, {where_}");
        rows.push(row(name, alone(htpasswd), spec, REGISTRY, VALIDATED));
    }
    let indented = own.lines().fold(String::new(), |text, line| text + "    " + line + "\n");
    for (what, bundle) in [
        ("H lines that end in CRLF", format!("{other}{own}").replace('\n', "\r\n")),
        ("H lines that end in CR", format!("{other}{own}").replace('\n', "\r")),
        ("H blank lines and comments between", format!("# one\n{other}\n\n# two: ours\n{own}\n")),
        ("H an indented certificate", format!("{other}{indented}")),
        (
            "H a text between, as openssl x509 -text writes it",
            format!("{other}Certificate:\n    Data:\n        Version: 3 (0x2)\n{own}"),
        ),
        ("H a byte order mark before it", format!("\u{feff}{own}{other}")),
        ("H three joined without line breaks", format!("{}{}{own}", other.trim_end(), other.trim_end())),
        ("H the same certificate twice", format!("{own}{own}")),
        (
            "H a revocation list between",
            format!("{other}-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n{own}"),
        ),
    ] {
        rows.push(row(what, alone(htpasswd), right().ca(json!({"inline": bundle})), REGISTRY, VALIDATED));
    }
    let second_line = format!("line {}", other.lines().count() + 1);
    let line: &'static str = Box::leak(second_line.into_boxed_str());
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    for (what, second) in [
        ("H a certificate without its end", own.replace(end, "")),
        ("H a certificate whose end lacks a dash", own.replace(end, "----END CERTIFICATE-----")),
        ("H a beginning that lacks a dash before", own.replace(begin, "----BEGIN CERTIFICATE-----")),
        ("H a beginning that lacks a dash behind", own.replace(begin, "-----BEGIN CERTIFICATE----")),
        ("H a beginning without dashes behind", own.replace(begin, "-----BEGIN CERTIFICATE")),
        (
            "H a beginning with dashes of a word processor",
            own.replace(begin, "\u{2014}\u{2013}BEGIN CERTIFICATE\u{2014}\u{2013}"),
        ),
        ("H a beginning without dashes", own.replace(begin, "BEGIN CERTIFICATE")),
        ("H a beginning with two blanks", own.replace("BEGIN ", "BEGIN  ")),
        ("H a beginning in lower case", own.replace("BEGIN CERTIFICATE", "begin certificate")),
        ("H a certificate in OpenSSL's own form", own.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
        (
            "H a certificate that is commented out",
            own.lines().fold(String::new(), |text, line| text + "# " + line + "\n"),
        ),
        (
            "H a certificate that is quoted",
            own.lines().fold(String::new(), |text, line| text + "> " + line + "\n"),
        ),
        ("H line breaks written as \\n", own.trim_end().replace('\n', "\\n")),
        ("H a certificate that is cut", own[..own.len() / 2].to_owned()),
    ] {
        rows.push(
            row(
                what,
                alone(htpasswd),
                right().ca(json!({"inline": format!("{other}{second}")})),
                NOWHERE,
                CA_INVALID,
            )
            .message_contains("ResolvedRefs", line)
            .never_at(REGISTRY),
        );
    }
    rows.push(
        row(
            "H a certificate that lacks a letter",
            alone(htpasswd),
            right().ca(json!({"inline": format!("{other}{}", own.replacen("MII", "MI", 1))})),
            NOWHERE,
            CA_INVALID,
        )
        .never_at(REGISTRY),
    );
    let with_key = format!("{}{}", own.trim_end(), PKI.client(Client::Right).key_pem);
    rows.push(
        row(
            "H a private key joined without a line break",
            alone(htpasswd),
            right().ca(json!({"inline": with_key})),
            NOWHERE,
            CA_INVALID,
        )
        .message_contains("ResolvedRefs", "contains a private key")
        .never_at(REGISTRY),
    );
    rows.push(row(
        "H the words of a beginning in a comment",
        alone(htpasswd),
        right().ca(json!({"inline": format!("# all from BEGIN CERTIFICATE on\n{other}{own}")})),
        REGISTRY,
        VALIDATED,
    ));
    rows.push(
        row(
            "H a bundle of two others",
            alone(htpasswd),
            right().ca(json!({"inline": format!("{}{other}", PKI.ca_pem(GivenCa::Stranger).trim_end())})),
            NOWHERE,
            UNKNOWN_ISSUER,
        )
        .costs(0),
    );
    rows.push(row(
        "H a bundle joined, and a repository",
        alone(htpasswd),
        right().ca(json!({"inline": joined})).repository("hello"),
        REGISTRY,
        READ,
    ));
    rows
}
