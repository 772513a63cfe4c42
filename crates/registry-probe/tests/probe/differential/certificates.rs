//! Chains of certificates, made and judged by Go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use registry_probe::{CaBundle, CaError, Host, TlsDefect, Unusable};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use super::{Listed, SEED, expect_only_listed, go_readers};

const COUNT: usize = 1000;

/// A case of `go-readers certificates`.
#[derive(Deserialize)]
struct Made {
    what: Option<Vec<String>>,
    chain: Vec<String>,
    roots: String,
    host: String,
    time: i64,
    verified: bool,
    kind: String,
    error: String,
}

/// What each of us says of one chain.
struct Verdicts {
    made: Made,
    ours: Result<Vec<TlsDefect>, CaError>,
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Made { what, verified, kind, error, .. } = &self.made;
        write!(f, "{what:?}\n  Go: {verified} {kind} {error}\n  ours: {:?}", self.ours)?;
        write!(f, "\n  {}", self.made.roots)?;
        for der in &self.made.chain {
            write!(f, "\n  -----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----")?;
        }
        Ok(())
    }
}

impl Verdicts {
    fn of(made: Made) -> Self {
        let chain: Vec<CertificateDer<'static>> =
            made.chain.iter().map(|der| STANDARD.decode(der).unwrap().into()).collect();
        let host = made.host.parse().map_or_else(|_| made.host.parse::<Host>().unwrap(), Host::Address);
        let now = Timestamp::from_second(made.time).unwrap();
        let ours = CaBundle::parse(made.roots.as_bytes()).map(|bundle| bundle.defects_of(&chain, &host, now));
        Self { made, ours }
    }

    fn is_verified_by_us(&self) -> bool {
        self.ours.as_ref().is_ok_and(Vec::is_empty)
    }

    /// Whether we refuse for that alone what Go verifies.
    fn ours_is(&self, is: impl Fn(&Unusable) -> bool) -> bool {
        let ours = self.ours.as_deref().unwrap_or_default();
        self.made.verified && matches!(ours, [TlsDefect::Unusable(unusable)] if is(unusable))
    }

    /// Whether what Go names, which is one thing, is among what we name, where both refuse.
    fn names_the_same(&self) -> bool {
        let Ok(ours) = &self.ours else { return false };
        let (kind, error) = (&*self.made.kind, &self.made.error);
        ours.iter().any(|defect| match defect {
            TlsDefect::HostnameMismatch { .. } => kind == "name",
            TlsDefect::UnknownIssuer { .. } => kind == "issuer",
            TlsDefect::Expired { .. } | TlsDefect::NotYetValid { .. } => {
                kind == word(defect) || kind == "issuer" && error.contains("has expired or is not yet valid")
            }
            TlsDefect::Unusable(Unusable::NotForServers) => kind == "usage",
            TlsDefect::Unusable(Unusable::Constraints) => {
                matches!(kind, "constraints" | "usage") || error.contains("parent certificate cannot sign")
            }
            TlsDefect::Unusable(Unusable::CriticalExtension(_)) => {
                kind == "critical" || error.contains("marked critical") || error.contains("invalid policies")
            }
            TlsDefect::Unusable(Unusable::NegativeSerialNumber | Unusable::Unreadable) => {
                kind == "unreadable"
            }
            TlsDefect::Unusable(Unusable::Algorithm) => error.contains("insecure algorithm"),
            TlsDefect::Unusable(Unusable::Version(_)) => error.contains("not authorized to sign other"),
            _ => false,
        })
    }

    /// Whether we name this, and Go something else.
    fn ours_has(&self, is: impl Fn(&Unusable) -> bool) -> bool {
        let ours = self.ours.as_deref().unwrap_or_default();
        ours.iter().any(|defect| matches!(defect, TlsDefect::Unusable(unusable) if is(unusable)))
    }

    fn is(&self, what: &str) -> bool {
        self.made.what.iter().flatten().any(|one| one == what)
    }
}

#[test]
#[ignore = "needs target/tools/bin/go-readers, which `make tools` builds"]
fn judges_certificates_as_go_does() {
    let seed = SEED.to_string();
    let made: Vec<Made> = go_readers(&["certificates", &seed, &COUNT.to_string()], Vec::new());
    assert_eq!(made.len(), COUNT);
    let all: Vec<Verdicts> = made.into_iter().map(Verdicts::of).collect();
    let (alike, different): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|case| case.made.verified == case.is_verified_by_us());
    let other: Vec<_> =
        alike.into_iter().filter(|case| !case.made.verified && !case.names_the_same()).collect();
    expect_only_listed(&different, COUNT, LISTED);
    expect_only_listed(&other, COUNT, NAMED_OTHERWISE);
}

/// Where one of us verifies and the other does not.
const LISTED: &[Listed<Verdicts>] = &[
    Listed {
        reason: "rustls-webpki evaluates no policies: critical ones are refused by name (RFC 5280, section 4.2)",
        holds: |case| {
            case.ours_is(|it| matches!(it, Unusable::CriticalExtension(name) if is_of_policies(name)))
        },
    },
    Listed {
        reason: "the crypto provider verifies nothing by RSA keys of less than 2,048 bits: refused, with the size",
        holds: |case| case.ours_is(|it| matches!(it, Unusable::WeakKey(1024))),
    },
    Listed {
        reason: "the crypto provider does not have P-224",
        holds: |case| {
            case.ours_is(|it| *it == Unusable::Algorithm)
                && (case.is("authority with P-224") || case.is("leaf with P-224"))
        },
    },
    Listed {
        reason: "rustls-webpki takes no authority's certificate as a server's, unless the bundle holds that very certificate",
        holds: |case| {
            case.ours_is(|it| *it == Unusable::AuthorityAsServer)
                && case.is("leaf that says it is an authority")
        },
    },
    Listed {
        reason: "rustls-webpki has no dates before 1970",
        holds: |case| {
            case.ours_is(|it| *it == Unusable::BeforeEpoch)
                && (case.is("since 1950") || case.is("since 1969"))
        },
    },
    Listed {
        reason: "rustls-webpki goes along 6 intermediates",
        holds: |case| case.ours_is(|it| *it == Unusable::LongChain) && case.made.chain.len() > 7,
    },
    Listed {
        reason: "dates without seconds, which RFC 5280, section 4.1.2.5, does not allow, can't be read by x509-parser",
        holds: |case| case.ours_is(|it| *it == Unusable::Unreadable) && case.is("dates without seconds"),
    },
    Listed {
        reason: "rustls-webpki refuses an extended key usage that holds none, which RFC 5280, section 4.2.1.12, does not allow",
        holds: |case| {
            case.ours_is(|it| *it == Unusable::NotForServers) && case.is("empty extended key usage")
        },
    },
    Listed {
        reason: "rustls-webpki evaluates no policies: one required by an extension that is not critical, as RFC 5280, section \
                 4.2.1.11, wants it, is passed over",
        holds: |case| case.is_verified_by_us() && case.made.error.contains("invalid policies"),
    },
];

/// Where both refuse, and we don't name what Go names.
const NAMED_OTHERWISE: &[Listed<Verdicts>] = &[
    Listed {
        reason: "an authority that Go can't read is dropped by Go in silence; we name it, or refuse the bundle",
        holds: |case| {
            let is_named = |it: &Unusable| match it {
                Unusable::NegativeSerialNumber => true,
                Unusable::CriticalExtension(name) => name.starts_with("subjectKeyIdentifier "),
                _ => false,
            };
            case.made.kind == "issuer"
                && (case.ours_has(is_named) || matches!(case.ours, Err(CaError::BrokenCertificate(1))))
        },
    },
    Listed {
        reason: "of dates that end before they begin, we name the end where Go names the beginning",
        holds: |case| case.is("ends before it begins") && case.made.kind == "not yet valid",
    },
    Listed {
        reason: "one of the limits above is met before what Go names",
        holds: |case| {
            let is_limit = |it: &Unusable| match it {
                Unusable::CriticalExtension(name) => is_of_policies(name),
                Unusable::WeakKey(1024) | Unusable::LongChain | Unusable::BeforeEpoch => true,
                Unusable::AuthorityAsServer => case.is("leaf that says it is an authority"),
                Unusable::NotForServers => case.is("empty extended key usage"),
                Unusable::Algorithm => case.is("authority with P-224"),
                _ => false,
            };
            case.ours_has(is_limit)
        },
    },
];

/// Go's word for a certificate whose time is over or yet to come.
fn word(defect: &TlsDefect) -> &'static str {
    if matches!(defect, TlsDefect::Expired { .. }) { "expired" } else { "not yet valid" }
}

fn is_of_policies(name: &str) -> bool {
    ["certificatePolicies ", "policyConstraints ", "inhibitAnyPolicy "]
        .iter()
        .any(|policy| name.starts_with(policy))
}
