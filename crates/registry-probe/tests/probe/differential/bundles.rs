//! Bundles of authorities, made and read by Go.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry_probe::{CaBundle, CaError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Listed, SEED, expect_only_listed, go_readers};

const COUNT: usize = 1000;

/// A case of `go-readers bundles`.
#[derive(Deserialize)]
struct Made {
    what: Option<Vec<String>>,
    text: String,
    begun: usize,
    read: usize,
    taken: Option<Vec<String>>,
}

/// What each of us takes from one bundle: the subjects, in DER.
struct Reading {
    what: Vec<String>,
    text: String,
    begun: usize,
    read: usize,
    go: BTreeSet<Vec<u8>>,
    /// With how many there were, the same one counted as often as it stands there.
    ours: Result<(BTreeSet<Vec<u8>>, usize), CaError>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ours = self.ours.as_ref().map(|(_, count)| count);
        write!(f, "{:?}\n  begun {}, Go: {}, ours: {ours:?}", self.what, self.begun, self.read)?;
        write!(f, "\n{}", self.text)?;
        Ok(())
    }
}

impl Reading {
    fn of(made: Made) -> Self {
        let text = STANDARD.decode(made.text).unwrap();
        let go =
            made.taken.unwrap_or_default().iter().map(|subject| STANDARD.decode(subject).unwrap()).collect();
        let ours = CaBundle::parse(&text).map(|bundle| subjects(&bundle));
        let (what, text) = (made.what.unwrap_or_default(), String::from_utf8_lossy(&text).into_owned());
        Self { what, text, begun: made.begun, read: made.read, go, ours }
    }

    fn agrees(&self) -> bool {
        self.ours.as_ref().map_or(self.go.is_empty(), |(ours, _)| *ours == self.go)
    }

    fn is_refused_for_pem(&self) -> bool {
        matches!(self.ours, Err(CaError::BrokenPem { .. } | CaError::BrokenCertificate(_)))
    }

    /// Each certificate that begins is trusted, and with them all that Go trusts.
    fn is_whole(&self) -> bool {
        self.ours.as_ref().is_ok_and(|(ours, count)| *count == self.begun && ours.is_superset(&self.go))
    }

    fn has_label(&self, label: &str) -> bool {
        self.text.contains(&format!(" {label}-----"))
    }
}

fn subjects(bundle: &CaBundle) -> (BTreeSet<Vec<u8>>, usize) {
    let pem = bundle.to_pem();
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap);
    let subject =
        |der: CertificateDer<'_>| X509Certificate::from_der(&der).unwrap().1.subject().as_raw().to_vec();
    let subjects: Vec<_> = certificates.map(subject).collect();
    let count = subjects.len();
    (subjects.into_iter().collect(), count)
}

#[test]
#[ignore = "needs target/tools/bin/go-readers, which `make tools` builds"]
fn reads_bundles_as_go_does_or_rejects_them() {
    let made: Vec<Made> = go_readers(&["bundles", &SEED.to_string(), &COUNT.to_string()], Vec::new());
    assert_eq!(made.len(), COUNT);
    let all: Vec<Reading> = made.into_iter().map(Reading::of).collect();
    let disagreements: Vec<_> = all.into_iter().filter(|reading| !reading.agrees()).collect();
    expect_only_listed(&disagreements, COUNT, LISTED);
}

const LISTED: &[Listed<Reading>] = &[
    Listed {
        reason: "a private key among certificates, which many may read, is refused so that its owner learns of it",
        holds: |reading| reading.ours == Err(CaError::PrivateKey) && reading.has_label("PRIVATE KEY"),
    },
    Listed {
        reason: "a certificate that begins and that Go passes over in silence is refused, and the line is named",
        holds: |reading| reading.is_refused_for_pem() && reading.begun > reading.read,
    },
    Listed {
        reason: "OpenSSL's own labels for certificates, which Go passes over in silence, are refused",
        holds: |reading| {
            reading.is_refused_for_pem()
                && (reading.has_label("X509 CERTIFICATE") || reading.has_label("TRUSTED CERTIFICATE"))
        },
    },
    Listed {
        reason: "a label of certificates in lower case, which Go passes over in silence, is refused, and the line is named",
        holds: |reading| reading.is_refused_for_pem() && reading.has_label("certificate"),
    },
    Listed {
        reason: "a certificate that Go passes over for its surroundings (a byte order mark, spaces, line ends, padding) is read",
        holds: |reading| reading.is_whole() && reading.begun > reading.read,
    },
];
