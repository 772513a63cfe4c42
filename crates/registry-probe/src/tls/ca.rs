//! Certification authorities that a user trusts, from PEM text.
//!
//! Parses bundles and rejects unusable ones: a bundle that silently trusts no CA is worse
//! than an error.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{
    critical_extension_unknown_to_clients, has_extension_twice, has_negative_serial, moment, printable,
    serves, signs,
};
use super::defect::Unusable;
use super::pem::{BrokenPem, certificates_in, position};

/// A bundle of at least one certification authority. Cheap to clone.
#[derive(Clone)]
pub struct CaBundle(Arc<[Authority]>);

/// One trusted certificate.
pub(super) struct Authority {
    pub(super) der: CertificateDer<'static>,
    pub(super) anchor: TrustAnchor<'static>,
    pub(super) subject: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    limits: AuthorityLimits,
}

/// The constraints in a trusted certificate. WebPKI ignores constraints of anchors; Go's and OpenSSL's clients enforce
/// them.
struct AuthorityLimits {
    /// Why clients reject it as an anchor.
    fault: Option<Unusable>,
    /// The path length constraint: how many CAs may be below it.
    path_length: Option<usize>,
}

/// Why a text is not a bundle of authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The text is empty.
    #[error("is empty; add a PEM certificate")]
    Empty,
    /// Larger than a ConfigMap can be.
    #[error("is larger than 1 MiB; remove certificates")]
    TooLarge,
    /// There is no `BEGIN CERTIFICATE` in it.
    #[error("contains no PEM certificate; it must start with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// It contains a private key, which must not be stored with public certificates.
    #[error("contains a private key; remove it and treat the key as disclosed")]
    PrivateKey,
    /// A certificate in PEM text that is truncated or not base64.
    #[error("contains invalid PEM: the certificate that starts on line {line} can't be decoded; correct it")]
    BrokenPem {
        /// The line on which it begins, from 1.
        line: usize,
    },
    /// A certificate that can't be parsed.
    #[error("contains an invalid certificate (number {0}); correct or remove it")]
    BrokenCertificate(usize),
}

const LARGEST_BUNDLE: usize = 1024 * 1024;

impl CaBundle {
    /// Parses PEM text with one or more certificates. Text between them is ignored, as OpenSSL writes some. Every certificate
    /// that begins in the text is trusted, or the bundle is rejected.
    pub fn parse(text: &[u8]) -> Result<Self, CaError> {
        if text.len() > LARGEST_BUNDLE {
            return Err(CaError::TooLarge);
        }
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if text.trim_ascii().is_empty() {
            return Err(CaError::Empty);
        }
        if holds_private_key(text) {
            return Err(CaError::PrivateKey);
        }
        let certificates = certificates_in(text).map_err(|BrokenPem { line }| CaError::BrokenPem { line })?;
        let authorities = certificates
            .into_iter()
            .enumerate()
            .map(|(index, der)| Authority::new(der, index + 1))
            .collect::<Result<Vec<_>, _>>()?;
        if authorities.is_empty() { Err(CaError::NoCertificate) } else { Ok(Self(authorities.into())) }
    }

    /// The certificates alone, as PEM text: for other libraries.
    pub fn to_pem(&self) -> String {
        let mut text = String::new();
        for authority in self.0.iter() {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(&authority.der);
            for line in encoded.as_bytes().chunks(64) {
                text.extend(line.iter().map(|byte| char::from(*byte)));
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    pub(super) fn authorities(&self) -> &[Authority] {
        &self.0
    }
}

/// Whether the text contains a private key of any kind (plain, encrypted, RSA, EC, OpenSSH), anywhere on a line.
fn holds_private_key(text: &[u8]) -> bool {
    let mut lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    lines.any(|line| line.ends_with(b"PRIVATE KEY-----") && position(line, b"-----BEGIN ").is_some())
}

impl Authority {
    fn new(der: CertificateDer<'static>, number: usize) -> Result<Self, CaError> {
        let broken = CaError::BrokenCertificate(number);
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| broken)?;
        if has_extension_twice(&parsed) {
            return Err(broken);
        }
        let (subject, validity) = (printable(&parsed.subject().to_string()), parsed.validity());
        let not_before = moment(validity.not_before.timestamp());
        let not_after = moment(validity.not_after.timestamp());
        let anchor = match webpki::anchor_from_trusted_cert(&der) {
            Ok(anchor) => anchor.to_owned(),
            Err(_) => anchor_of(&parsed).ok_or(broken)?,
        };
        let limits = AuthorityLimits::of(&parsed);
        Ok(Self { der, anchor, subject, not_before, not_after, limits })
    }

    /// Why clients reject it as the anchor of a chain with that many CAs below it.
    pub(super) fn fault(&self, below: usize) -> Option<Unusable> {
        let is_too_long = self.limits.path_length.is_some_and(|longest| below > longest);
        self.limits.fault.clone().or_else(|| is_too_long.then_some(Unusable::Constraints))
    }

    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

impl AuthorityLimits {
    fn of(parsed: &X509Certificate<'_>) -> Self {
        let critical = || critical_extension_unknown_to_clients(parsed).map(Unusable::CriticalExtension);
        let constraint = || (!signs(parsed) || !serves(parsed)).then_some(Unusable::Constraints);
        let serial = has_negative_serial(parsed).then_some(Unusable::NegativeSerialNumber);
        let path_length =
            parsed.basic_constraints().ok().flatten().and_then(|own| own.value.path_len_constraint);
        let path_length = path_length.and_then(|length| usize::try_from(length).ok());
        Self { fault: serial.or_else(critical).or_else(constraint), path_length }
    }
}

/// The anchor of a certificate that WebPKI does not read, such as one with a critical extension that it doesn't process: what
/// a trusted certificate says of others than itself is its name and key (RFC 5280, section 6.1.1). Not where it constrains names.
fn anchor_of(parsed: &X509Certificate<'_>) -> Option<TrustAnchor<'static>> {
    if parsed.name_constraints().ok()?.is_some() {
        return None;
    }
    let anchor = TrustAnchor {
        subject: contents(parsed.subject().as_raw())?.into(),
        subject_public_key_info: contents(parsed.public_key().raw)?.into(),
        name_constraints: None,
    };
    Some(anchor.to_owned())
}

/// The contents of a DER value, without its tag and length.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let first = usize::from(*der.get(1)?);
    let header = if first < 0x80 { 2 } else { 2 + (first & 0x7f) };
    der.get(header..)
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|authority| &authority.subject)).finish()
    }
}
