//! The description of a server's certificate, for comparison by an administrator.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls::crypto::hash::Hash;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

/// A certificate that a server presented, trusted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// The TLS version; `None` if the handshake ended before it was negotiated.
    pub version: Option<TlsVersion>,
    /// The subject's distinguished name, as text.
    pub subject: String,
    /// The issuer's distinguished name, as text.
    pub issuer: String,
    /// The start of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-256 over its DER form, in lower-case hex.
    pub sha256_fingerprint: String,
    /// The hosts that it is for, at most ten.
    pub names: Vec<String>,
}

/// The negotiated version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The longest text from a certificate in a message, in characters.
const LONGEST_TEXT: usize = 256;
const MOST_NAMES: usize = 10;

impl PresentedCertificate {
    pub(super) fn describe(
        der: &CertificateDer<'_>,
        parsed: &X509Certificate<'_>,
        sha256: &dyn Hash,
    ) -> Self {
        let validity = parsed.validity();
        Self {
            version: None,
            subject: printable(&parsed.subject().to_string()),
            issuer: printable(&parsed.issuer().to_string()),
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            sha256_fingerprint: hex(sha256.hash(der).as_ref()),
            names: names_of(parsed),
        }
    }
}

/// The moment of a date in a certificate, cut to what a [`Timestamp`] can hold. RFC 5280, section 4.1.2.5 gives the date
/// 99991231235959Z to certificates without an end: it becomes the last moment that there is, a day earlier.
pub(super) fn moment(second: i64) -> Timestamp {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second.clamp(first, last)).unwrap_or_default()
}

/// The size of an RSA key, in bits; none for keys of another kind.
pub(super) fn rsa_bits(parsed: &X509Certificate<'_>) -> Option<usize> {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(bits(key.modulus)),
        _ => None,
    }
}

fn bits(number: &[u8]) -> usize {
    let significant =
        number.iter().position(|byte| *byte != 0).map_or(&[][..], |at| number.get(at..).unwrap_or_default());
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// P-256, P-384 and P-521: the curves of the crypto provider (RFC 5480, section 2.1.1.1).
const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// Whether it has an ECDSA key on a curve that the crypto provider does not have, such as P-224.
pub(super) fn has_unsupported_curve(parsed: &X509Certificate<'_>) -> bool {
    let algorithm = &parsed.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    matches!(parsed.public_key().parsed(), Ok(PublicKey::EC(_)))
        && !curve.is_some_and(|curve| CURVES.contains(&curve.to_id_string().as_str()))
}

/// The smallest secure RSA key, in bits. The crypto provider rejects smaller ones.
pub(super) const LEAST_RSA_BITS: usize = 2048;

/// Extensions that `rustls-webpki` processes, or whose criticality it lets pass.
const PROCESSED: [&str; 5] = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.37"];

/// The first critical extension that stands in the way of `rustls-webpki` (RFC 5280, section 4.2: who can't process one
/// must refuse the certificate), by name where it has a common one.
pub(super) fn unprocessed_critical_extension(parsed: &X509Certificate<'_>) -> Option<String> {
    first_critical_but(parsed, &PROCESSED)
}

fn first_critical_but(parsed: &X509Certificate<'_>, processed: &[&str]) -> Option<String> {
    let extension = parsed.extensions().iter().find(|extension| {
        extension.critical && !processed.contains(&extension.oid.to_id_string().as_str())
    })?;
    let oid = extension.oid.to_id_string();
    let name = match oid.as_str() {
        "2.5.29.14" => "subjectKeyIdentifier",
        "2.5.29.18" => "issuerAltName",
        "2.5.29.31" => "cRLDistributionPoints",
        "2.5.29.32" => "certificatePolicies",
        "2.5.29.33" => "policyMappings",
        "2.5.29.35" => "authorityKeyIdentifier",
        "2.5.29.36" => "policyConstraints",
        "2.5.29.54" => "inhibitAnyPolicy",
        _ => return Some(printable(&oid)),
    };
    Some(format!("{name} ({oid})"))
}

/// Critical extensions that Go's clients process, or let pass (`crypto/x509`, `processExtensions`).
const PROCESSED_BY_CLIENTS: [&str; 10] = [
    "2.5.29.15",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.31",
    "2.5.29.32",
    "2.5.29.33",
    "2.5.29.36",
    "2.5.29.37",
    "2.5.29.54",
];

/// The first critical extension because of which clients refuse a certificate wherever it stands in a chain, by name where it
/// has a common one.
pub(super) fn critical_extension_unknown_to_clients(parsed: &X509Certificate<'_>) -> Option<String> {
    first_critical_but(parsed, &PROCESSED_BY_CLIENTS)
}

/// Whether the serial number is negative: Go's clients can't read such a certificate (since Go 1.23).
pub(super) fn has_negative_serial(parsed: &X509Certificate<'_>) -> bool {
    parsed.raw_serial().first().is_some_and(|byte| byte & 0x80 != 0)
}

/// RFC 5280, section 4.2, forbids it, and Go's clients can't read such a certificate.
pub(super) fn has_extension_twice(parsed: &X509Certificate<'_>) -> bool {
    parsed.extensions_map().is_err()
}

/// Whether it may sign certificates: RFC 5280, sections 4.2.1.3 and 4.2.1.9. Versions before 3 have no place to say it.
pub(super) fn signs(parsed: &X509Certificate<'_>) -> bool {
    let is_authority = match parsed.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        _ => parsed.version() != X509Version::V3,
    };
    let is_for_certificates = match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        _ => true,
    };
    is_authority && is_for_certificates
}

/// Whether it may stand in the chain of a server: RFC 5280, section 4.2.1.12, as clients apply it to authorities too.
pub(super) fn serves(parsed: &X509Certificate<'_>) -> bool {
    match parsed.extended_key_usage() {
        Ok(Some(extension)) => extension.value.server_auth || extension.value.any,
        _ => true,
    }
}

/// The subject of a certificate that is not the server's own, as text.
pub(super) fn subject_of(der: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(printable(&parsed.subject().to_string()))
}

/// Untrusted text, truncated and cleaned for a message of one line.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(LONGEST_TEXT).collect()
}

/// Whether a character is invisible: it changes the text direction, has no width or breaks the line.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

pub(super) fn names_of(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name_of).take(MOST_NAMES).collect()
}

/// The addresses that it is for.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
pub(super) fn addresses_of<'a>(parsed: &'a X509Certificate<'_>) -> impl Iterator<Item = IpAddr> + 'a {
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    names.iter().filter_map(|name| match name {
        GeneralName::IPAddress(bytes) => address_of(bytes),
        _ => None,
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => address_of(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_control_characters_from_names() {
        let name = "CN=a\nb\u{1b}[31m\u{202e}gpj.exe\u{2066}\u{200b}\u{2028}\u{feff}, O=Übung अक्षर";
        assert_eq!(printable(name), "CN=ab[31mgpj.exe, O=Übung अक्षर");
        assert_eq!(printable(&"ä".repeat(2 * LONGEST_TEXT)).chars().count(), LONGEST_TEXT);
    }
}
