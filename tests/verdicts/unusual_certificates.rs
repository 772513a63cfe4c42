//! Certificates that Go's and OpenSSL's clients accept, and libraries have limits for: dates, critical extensions, versions, key
//! sizes, serial numbers, purposes, and chains that are not in order.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

use crate::secrets::{PASSWORD, USER};
use crate::support::Authority;
use crate::support::certificates::{Leaf, ca_params};

/// What is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Odd {
    /// Below an authority that ends at 99991231235959Z.
    BelowEndless,
    /// The same, the authority given behind another one.
    BelowEndlessInBundle,
    /// It ends at 99991231235959Z itself.
    Endless,
    /// Critical certificatePolicies.
    Policies,
    /// Below an intermediate with critical certificatePolicies.
    BelowPolicies,
    /// Below an intermediate with critical policyConstraints.
    BelowNoMapping,
    /// Below an intermediate with critical inhibitAnyPolicy.
    BelowNoAnyPolicy,
    /// Below an authority with critical policyConstraints, which is given.
    BelowCriticalRoot,
    /// A critical extension that nobody knows.
    PrivateExtension,
    /// X.509 version 1, self-signed.
    Version1,
    /// Below an authority of X.509 version 1.
    BelowVersion1,
    /// Below an authority with an RSA key of 1,024 bits.
    BelowRsa1024,
    /// For any purpose, by its extended key usage.
    AnyPurpose,
    /// Without an extended key usage.
    NoPurpose,
    /// A serial number of 20 bytes whose first bit is set, and so of 21 in DER.
    LongSerial,
    /// Serial number 0.
    ZeroSerial,
    /// For a mail address and a URL beside its hosts.
    OtherNames,
    /// Shown behind issuers in no order: a stranger's, the root, its own.
    DisorderlyChain,
    /// Shown with an ended namesake of its issuer before the good one.
    EndedNamesakeInChain,
}

/// The authorities of odd certificates.
pub struct OddPki {
    endless: Authority,
    policies: Authority,
    no_mapping: Authority,
    no_any_policy: Authority,
    critical_root: Authority,
    department: Authority,
    ended_namesake: Authority,
    stranger: Authority,
}

fn critical(oid: &[u64], der: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
    extension.set_criticality(true);
    extension
}

/// `certificatePolicies=critical,2.5.29.32.0`.
fn any_policy() -> CustomExtension {
    critical(&[2, 5, 29, 32], &[0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x20, 0x00])
}

/// `policyConstraints=critical,inhibitPolicyMapping:0`.
fn no_mapping() -> CustomExtension {
    critical(&[2, 5, 29, 36], &[0x30, 0x03, 0x81, 0x01, 0x00])
}

fn with_extension(name: &str, extension: CustomExtension) -> CertificateParams {
    let mut params = ca_params(name);
    params.custom_extensions = vec![extension];
    params
}

/// 99991231235959Z, which RFC 5280, section 4.1.2.5, gives to certificates without an end.
fn without_end(mut params: CertificateParams) -> CertificateParams {
    let day = date_time_ymd(9999, 12, 31);
    let end = day.replace_hour(23).unwrap().replace_minute(59).unwrap().replace_second(59).unwrap();
    params.not_after = end;
    params
}

const DIRECTORY: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/registry-probe/tests/probe/certificates");

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{DIRECTORY}/{name}")).unwrap()
}

/// Self-signed, and of X.509 version 1.
pub fn version_1() -> Leaf {
    Leaf::from_pem(&file("version-1.pem"), &file("version-1.key"))
}

/// Self-signed, with an RSA key of 1,024 bits. Its text alone is used: rustls does not load the key.
pub fn rsa_1024() -> Leaf {
    Leaf { pem: file("rsa-1024.pem"), key_pem: file("rsa-1024.key"), ..version_1() }
}

impl OddPki {
    pub fn new(company: &Authority) -> Self {
        let mut ended = ca_params("odd department");
        ended.not_after = date_time_ymd(2026, 3, 1);
        Self {
            endless: Authority::of(without_end(ca_params("endless"))),
            policies: company.intermediate(with_extension("policies", any_policy())),
            no_mapping: company.intermediate(with_extension("no mapping", no_mapping())),
            no_any_policy: company.intermediate(with_extension(
                "no any policy",
                critical(&[2, 5, 29, 54], &[0x02, 0x01, 0x00]),
            )),
            critical_root: Authority::of(with_extension("critical root", no_mapping())),
            department: company.intermediate(ca_params("odd department")),
            ended_namesake: Authority::of(ended),
            stranger: Authority::new("odd stranger"),
        }
    }

    /// The certificate, for what `params` says otherwise.
    pub fn leaf(&self, odd: Odd, company: &Authority, params: &CertificateParams) -> Leaf {
        let changed = |change: &dyn Fn(&mut CertificateParams)| {
            let mut params = params.clone();
            change(&mut params);
            company.sign(&params)
        };
        let below = |authority: &Authority| authority.sign(params).with(authority);
        match odd {
            Odd::BelowEndless | Odd::BelowEndlessInBundle => self.endless.sign(params),
            Odd::Endless => company.sign(&without_end(params.clone())),
            Odd::Policies => changed(&|params| params.custom_extensions = vec![any_policy()]),
            Odd::BelowPolicies => below(&self.policies),
            Odd::BelowNoMapping => below(&self.no_mapping),
            Odd::BelowNoAnyPolicy => below(&self.no_any_policy),
            Odd::BelowCriticalRoot => self.critical_root.sign(params),
            Odd::PrivateExtension => changed(&|params| {
                params.custom_extensions = vec![critical(&[1, 3, 6, 1, 4, 1, 99_999, 1], &[0x05, 0x00])];
            }),
            Odd::Version1 => version_1(),
            Odd::BelowVersion1 => Leaf::from_pem(&file("below-version-1.pem"), &file("below.key")),
            Odd::BelowRsa1024 => Leaf::from_pem(&file("below-rsa-1024.pem"), &file("below.key")),
            Odd::AnyPurpose => {
                changed(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])
            }
            Odd::NoPurpose => changed(&|params| params.extended_key_usages = Vec::new()),
            Odd::LongSerial => {
                changed(&|params| params.serial_number = Some(SerialNumber::from_slice(&[0xff; 20])))
            }
            Odd::ZeroSerial => changed(&|params| params.serial_number = Some(SerialNumber::from_slice(&[0]))),
            Odd::OtherNames => changed(&|params| {
                params.subject_alt_names.push(SanType::Rfc822Name("a@example.com".try_into().unwrap()));
                params.subject_alt_names.push(SanType::URI("https://example.com/x".try_into().unwrap()));
            }),
            Odd::DisorderlyChain => {
                self.department.sign(params).with(&self.stranger).with(company).with(&self.department)
            }
            Odd::EndedNamesakeInChain => {
                self.department.sign(params).with(&self.ended_namesake).with(&self.department)
            }
        }
    }

    /// What is given as the CA.
    pub fn ca_pem(&self, odd: Odd, company: &Authority, unrelated: &Authority) -> String {
        match odd {
            Odd::BelowEndless => self.endless.pem(),
            Odd::BelowEndlessInBundle => format!("{}{}", self.endless.pem(), unrelated.pem()),
            Odd::BelowCriticalRoot => self.critical_root.pem(),
            Odd::Version1 => file("version-1.pem"),
            Odd::BelowVersion1 => file("version-1-ca.pem"),
            Odd::BelowRsa1024 => file("rsa-1024-ca.pem"),
            _ => company.pem(),
        }
    }
}

/// A registry in Python, whose OpenSSL serves with an RSA key of 1,024 bits, which rustls refuses to load. Its port.
pub fn small_key_port() -> u16 {
    SMALL_KEY_REGISTRY.1
}

/// Its standard input stays open as long as this process lives.
static SMALL_KEY_REGISTRY: LazyLock<(Child, u16)> = LazyLock::new(|| {
    let mut process = Command::new("python3")
        .args([
            format!("{DIRECTORY}/small_key_registry.py"),
            format!("{DIRECTORY}/rsa-1024.pem"),
            format!("{DIRECTORY}/rsa-1024.key"),
        ])
        .arg(format!("{USER}:{PASSWORD}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().parse().unwrap();
    (process, port)
});
