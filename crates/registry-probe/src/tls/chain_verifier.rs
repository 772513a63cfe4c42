//! Verifies a server's certificate and finds all of its defects, not only the first.
//!
//! Purpose, issuer, dates and name are checked separately, so that an expired certificate of an unknown
//! issuer has both defects. Pure: certificates, authorities and the time go in, defects come out.

use std::cell::RefCell;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{Authority, CaBundle};
use super::certificate::{
    LEAST_RSA_BITS, addresses_of, critical_extension_unknown_to_clients, has_extension_twice,
    has_negative_serial, has_unsupported_curve, moment, names_of, printable, rsa_bits, serves, signs,
    subject_of, unprocessed_critical_extension,
};
use super::defect::{TlsDefect, Unusable};
use super::policy::server_name;
use crate::host::Host;

/// The input of verification: trusted authorities, algorithms and the time.
pub(super) struct ChainVerifier<'a> {
    pub(super) public: &'a [TrustAnchor<'static>],
    pub(super) own: &'a [&'a Authority],
    pub(super) algorithms: &'a [&'a dyn SignatureVerificationAlgorithm],
    pub(super) now: Timestamp,
}

/// The certificates that a server presents, and the name that it was connected by.
pub(super) struct PeerChain<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) server: &'a ServerName<'a>,
}

impl CaBundle {
    /// Returns what a handshake with `host` at `now` would find wrong with the certificates of `chain`, the server's own first,
    /// if nothing but this bundle was trusted. Empty: they are verified.
    pub fn defects_of(&self, chain: &[CertificateDer<'_>], host: &Host, now: Timestamp) -> Vec<TlsDefect> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let own: Vec<&Authority> = self.authorities().iter().collect();
        let (Some((leaf, intermediates)), Some(server)) = (chain.split_first(), server_name(host)) else {
            return vec![TlsDefect::Unusable(Unusable::Unreadable)];
        };
        let algorithms = provider.signature_verification_algorithms.all;
        let verifier = ChainVerifier { public: &[], own: &own, algorithms, now };
        defects(&verifier, &PeerChain { leaf, intermediates, server: &server })
    }
}

/// All defects, the most fundamental first. Empty if the certificate is valid.
pub(super) fn defects(verifier: &ChainVerifier<'_>, peer: &PeerChain<'_>) -> Vec<TlsDefect> {
    let Some(case) = JudgedCertificate::open(verifier, peer) else {
        return vec![TlsDefect::Unusable(Unusable::Unreadable)];
    };
    let mut defects: Vec<_> =
        [case.peer(), case.purpose(), case.key(), case.issuer(), case.dates(), case.name()]
            .into_iter()
            .flatten()
            .collect();
    defects.dedup();
    defects
}

/// A certificate during its verification.
struct JudgedCertificate<'a> {
    verifier: &'a ChainVerifier<'a>,
    peer: &'a PeerChain<'a>,
    /// As WebPKI reads it, or why it doesn't: it is stricter than Go's and OpenSSL's clients.
    leaf: Result<EndEntityCert<'a>, Error>,
    parsed: X509Certificate<'a>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl<'a> JudgedCertificate<'a> {
    fn open(verifier: &'a ChainVerifier<'a>, peer: &'a PeerChain<'a>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(peer.leaf).ok()?;
        let validity = parsed.validity();
        let not_before = moment(validity.not_before.timestamp());
        let not_after = moment(validity.not_after.timestamp());
        let leaf = EndEntityCert::try_from(peer.leaf);
        Some(Self { verifier, peer, leaf, parsed, not_before, not_after })
    }

    /// What Go's clients can't read ends their handshake, whether the chain needs it or not.
    fn peer(&self) -> Option<TlsDefect> {
        let unusable = |der| match parsed(der) {
            None => Some(Unusable::Unreadable),
            Some(parsed) if has_extension_twice(&parsed) => Some(Unusable::Unreadable),
            Some(parsed) => has_negative_serial(&parsed).then_some(Unusable::NegativeSerialNumber),
        };
        let mut all = std::iter::once(self.peer.leaf).chain(self.peer.intermediates);
        all.find_map(unusable).map(TlsDefect::Unusable)
    }

    /// RFC 5280, section 4.2.1.12: without the extension, any purpose.
    fn purpose(&self) -> Option<TlsDefect> {
        (!serves(&self.parsed)).then_some(TlsDefect::Unusable(Unusable::NotForServers))
    }

    fn key(&self) -> Option<TlsDefect> {
        let bits = rsa_bits(&self.parsed).filter(|bits| *bits < LEAST_RSA_BITS)?;
        Some(TlsDefect::Unusable(Unusable::WeakKey(bits)))
    }

    fn dates(&self) -> Option<TlsDefect> {
        let (not_before, not_after, issuer) = (self.not_before, self.not_after, None);
        if self.verifier.now > not_after {
            return Some(TlsDefect::Expired { not_after, issuer });
        }
        (self.verifier.now < not_before).then_some(TlsDefect::NotYetValid { not_before, issuer })
    }

    fn name(&self) -> Option<TlsDefect> {
        if self.is_for_mapped_address() {
            return None;
        }
        match &self.leaf {
            Ok(leaf) => leaf.verify_is_valid_for_subject_name(self.peer.server).err()?,
            // Not to be told without WebPKI; that it doesn't read the certificate is a defect of its own.
            Err(_) if !names_of(&self.parsed).is_empty() => return None,
            Err(error) => error.clone(),
        };
        let expected = self.peer.server.to_str().into_owned();
        Some(TlsDefect::HostnameMismatch { expected, names: names_of(&self.parsed) })
    }

    /// Whether it names the server's IPv4 address in the form of an IPv6 address, which is the same one to Go's clients.
    fn is_for_mapped_address(&self) -> bool {
        let ServerName::IpAddress(address) = self.peer.server else { return false };
        let wanted = std::net::IpAddr::from(*address);
        addresses_of(&self.parsed).any(|address| address.to_canonical() == wanted)
    }

    /// What keeps the chain from ending at a trusted authority, the certificate's own dates aside.
    fn issuer(&self) -> Option<TlsDefect> {
        // A trusted certificate that is shown itself needs no issuer. WebPKI would refuse it, for it may say
        // that it is a CA.
        if self.verifier.own.iter().any(|authority| authority.der == *self.peer.leaf) {
            let unknown = critical_extension_unknown_to_clients(&self.parsed);
            return unknown.map(|name| TlsDefect::Unusable(Unusable::CriticalExtension(name)));
        }
        self.chain(CertificatePurpose::Any).or_else(|| self.chain(CertificatePurpose::Server))
    }

    fn chain(&self, purpose: CertificatePurpose) -> Option<TlsDefect> {
        if let Err(error) = &self.leaf {
            return Some(TlsDefect::Unusable(self.unusable(error)));
        }
        let may_sign = |path: &VerifiedPath<'_>| intermediates_sign(path);
        let public = self.path_to(self.verifier.public, purpose, &may_sign).err()?;
        let (current, ended): (Vec<&Authority>, Vec<&Authority>) =
            self.verifier.own.iter().copied().partition(|authority| authority.is_valid_at(self.verifier.now));
        let own = match self.path_to_one_of(&current, purpose) {
            Ok(()) => return None,
            Err(ChainRefusal::Fault(fault)) => return Some(TlsDefect::Unusable(fault)),
            Err(ChainRefusal::Path(error)) => error,
        };
        // WebPKI takes anchors as they are, dates and all; the clients that pull from the registry do not.
        let leads_to = |authority: &&Authority| {
            !matches!(self.path_to_one_of(&[*authority], purpose), Err(ChainRefusal::Path(_)))
        };
        if let Some(authority) = ended.into_iter().find(leads_to) {
            return Some(out_of_date(authority, self.verifier.now));
        }
        // Dates that end before they begin; [`Self::dates`] says so of the leaf's.
        if matches!(own, Error::InvalidCertValidity) && self.not_before > self.not_after {
            return None;
        }
        Some(self.named(if matches!(own, Error::UnknownIssuer) { &public } else { &own }))
    }

    fn path_to_one_of(
        &self,
        authorities: &[&Authority],
        purpose: CertificatePurpose,
    ) -> Result<(), ChainRefusal> {
        let anchors: Vec<_> = authorities.iter().map(|authority| authority.anchor.clone()).collect();
        let fault = RefCell::new(None);
        let is_allowed = |path: &VerifiedPath<'_>| {
            intermediates_sign(path)?;
            let below = path.intermediate_certificates().count();
            let ends = authorities.iter().filter(|authority| authority.anchor == *path.anchor());
            let faults: Option<Vec<_>> = ends.map(|authority| authority.fault(below)).collect();
            let Some(first) = faults.and_then(|faults| faults.into_iter().next()) else { return Ok(()) };
            fault.borrow_mut().get_or_insert(first);
            Err(Error::EndEntityUsedAsCa)
        };
        let found = self.path_to(&anchors, purpose, &is_allowed);
        found.map_err(|error| fault.take().map_or(ChainRefusal::Path(error), ChainRefusal::Fault))
    }

    fn path_to(
        &self,
        anchors: &[TrustAnchor<'_>],
        purpose: CertificatePurpose,
        is_allowed: &dyn Fn(&VerifiedPath<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Self { verifier, peer, .. } = self;
        let moment = unix(verifier.now.clamp(self.not_before, self.not_after.max(self.not_before)));
        let leaf = self.leaf.as_ref().map_err(Clone::clone)?;
        let (algorithms, intermediates) = (verifier.algorithms, peer.intermediates);
        let is_allowed = Some(is_allowed);
        leaf.verify_for_usage(algorithms, anchors, intermediates, moment, purpose, None, is_allowed)
            .map(|_| ())
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
    fn named(&self, error: &Error) -> TlsDefect {
        let self_signed = self.parsed.subject().as_raw() == self.parsed.issuer().as_raw();
        match error {
            Error::CertExpired { not_after, .. } => TlsDefect::Expired {
                not_after: timestamp(*not_after),
                issuer: self.out_of_date_intermediate(),
            },
            Error::CertNotValidYet { not_before, .. } => TlsDefect::NotYetValid {
                not_before: timestamp(*not_before),
                issuer: self.out_of_date_intermediate(),
            },
            Error::CaUsedAsEndEntity if !self_signed => TlsDefect::Unusable(Unusable::AuthorityAsServer),
            // The crypto provider can't verify a signature by so small a key, and says no more than that it is wrong.
            Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
                if self.weak_issuer().is_some() =>
            {
                TlsDefect::Unusable(Unusable::WeakKey(self.weak_issuer().unwrap_or_default()))
            }
            Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) if self.has_unsupported_curve() => {
                TlsDefect::Unusable(Unusable::Algorithm)
            }
            // A wrong signature, or one that this key can't have made, means another authority of the same name: often one that
            // was created again.
            Error::UnknownIssuer
            | Error::InvalidSignatureForPublicKey
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | Error::CaUsedAsEndEntity => {
                TlsDefect::UnknownIssuer { issuer: printable(&self.parsed.issuer().to_string()), self_signed }
            }
            other => TlsDefect::Unusable(self.unusable(other)),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
    fn unusable(&self, error: &Error) -> Unusable {
        match error {
            Error::UnsupportedCriticalExtension => self.critical_extension(),
            Error::UnsupportedCertVersion => self.version(),
            Error::BadDerTime if self.is_before_epoch() => Unusable::BeforeEpoch,
            error => unusable(error),
        }
    }

    fn critical_extension(&self) -> Unusable {
        let named = self.certificates().find_map(|parsed| unprocessed_critical_extension(&parsed));
        named.map_or(Unusable::Unreadable, Unusable::CriticalExtension)
    }

    fn version(&self) -> Unusable {
        let versions = self.certificates().map(|parsed| parsed.version().0 + 1);
        versions.filter(|version| *version != 3).min().map_or(Unusable::Unreadable, Unusable::Version)
    }

    fn is_before_epoch(&self) -> bool {
        self.certificates().any(|parsed| parsed.validity().not_before.timestamp() < 0)
    }

    /// The size of the first RSA key among the issuers that is too small.
    fn weak_issuer(&self) -> Option<usize> {
        self.issuers().filter_map(|issuer| rsa_bits(&issuer)).find(|bits| *bits < LEAST_RSA_BITS)
    }

    /// Whether the crypto provider lacks the curve of an issuer's key.
    fn has_unsupported_curve(&self) -> bool {
        self.issuers().any(|issuer| has_unsupported_curve(&issuer))
    }

    /// The certificates that may have signed others here.
    fn issuers(&self) -> impl Iterator<Item = X509Certificate<'_>> {
        let own = self.verifier.own.iter().filter_map(|authority| parsed(&authority.der));
        self.certificates().skip(1).chain(own)
    }

    /// The presented certificates that can be parsed.
    fn certificates(&self) -> impl Iterator<Item = X509Certificate<'_>> {
        std::iter::once(self.peer.leaf).chain(self.peer.intermediates).filter_map(|der| parsed(der))
    }

    fn out_of_date_intermediate(&self) -> Option<String> {
        let current = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der).is_ok_and(|(_, parsed)| {
                let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
                (from.timestamp()..=until.timestamp()).contains(&self.verifier.now.as_second())
            })
        };
        self.peer.intermediates.iter().find(|der| !current(der)).and_then(subject_of)
    }
}

/// Why no chain ends at one of some authorities.
enum ChainRefusal {
    /// One does, and clients do not let that authority begin it.
    Fault(Unusable),
    /// None does.
    Path(Error),
}

/// Purposes are judged apart from issuers, so that a wrong one does not hide an unknown issuer.
#[derive(Clone, Copy)]
enum CertificatePurpose {
    Any,
    Server,
}

/// serverAuth and anyExtendedKeyUsage (RFC 5280, section 4.2.1.12).
const PURPOSES: [KeyPurposeId<'static>; 2] = [
    KeyPurposeId::new(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01]),
    KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0x00]),
];

impl ExtendedKeyUsageValidator for CertificatePurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        match self {
            Self::Any => Ok(()),
            Self::Server => allows_servers(purposes),
        }
    }
}

/// As Go's clients read it: without the extension any purpose is allowed, and anyExtendedKeyUsage (RFC 5280, section 4.2.1.12)
/// allows servers too, which WebPKI does not know.
fn allows_servers(purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
    let mut present = Vec::new();
    for purpose in purposes {
        let purpose = purpose?;
        if PURPOSES.contains(&purpose) {
            return Ok(());
        }
        present.push(purpose.to_decoded_oid());
    }
    if present.is_empty() {
        return Ok(());
    }
    let required = KeyUsage::server_auth();
    Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
}

/// Checks the key usage of intermediates, which clients enforce and WebPKI doesn't.
fn intermediates_sign(path: &VerifiedPath<'_>) -> Result<(), Error> {
    let may_sign =
        path.intermediate_certificates().all(|one| parsed(&one.der()).is_some_and(|one| signs(&one)));
    if may_sign { Ok(()) } else { Err(Error::EndEntityUsedAsCa) }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn unusable(error: &Error) -> Unusable {
    match error {
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Unusable::Algorithm,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Unusable::NotForServers,
        Error::NameConstraintViolation | Error::PathLenConstraintViolated | Error::EndEntityUsedAsCa => {
            Unusable::Constraints
        }
        Error::MaximumPathDepthExceeded => Unusable::LongChain,
        _ => Unusable::Unreadable,
    }
}

fn out_of_date(authority: &Authority, now: Timestamp) -> TlsDefect {
    let issuer = Some(authority.subject.clone());
    if now > authority.not_after {
        TlsDefect::Expired { not_after: authority.not_after, issuer }
    } else {
        TlsDefect::NotYetValid { not_before: authority.not_before, issuer }
    }
}

fn unix(moment: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(moment.as_second()).unwrap_or(0)))
}

fn timestamp(end: UnixTime) -> Timestamp {
    moment(i64::try_from(end.as_secs()).unwrap_or(i64::MAX))
}
