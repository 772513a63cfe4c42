//! Parses ECR hosts: account, region, partition, and kind of endpoint. Pure.
//!
//! Matches are anchored, so a host that only looks like ECR's doesn't match. Only a valid region name is derived from a
//! host, so the address of an AWS endpoint never contains text from a tenant.

use std::fmt;

use registry_api::{
    ecr_hosts::{self, HostForm},
    spec::EcrAuth,
};
use registry_probe::{Endpoint, Host, HostPort};
use thiserror::Error;

/// A partition of AWS, which has its own identities.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Partition {
    /// The commercial regions.
    Commercial,
    /// China.
    China,
    /// GovCloud (US).
    GovCloud,
    /// The European Sovereign Cloud.
    EuropeanSovereign,
    /// ISO (C2S).
    Iso,
    /// ISO-B (SC2S).
    IsoB,
    /// ISO-E.
    IsoE,
    /// ISO-F.
    IsoF,
}

impl Partition {
    /// Returns the partition of a region.
    pub fn of_region(region: &str) -> Self {
        let prefixes = [
            ("cn-", Self::China),
            ("us-gov-", Self::GovCloud),
            ("eusc-", Self::EuropeanSovereign),
            ("us-isob-", Self::IsoB),
            ("us-isof-", Self::IsoF),
            ("us-iso-", Self::Iso),
            ("eu-isoe-", Self::IsoE),
        ];
        let found = prefixes.into_iter().find(|(prefix, _)| region.starts_with(prefix));
        found.map_or(Self::Commercial, |(_, partition)| partition)
    }

    /// Returns the name in ARNs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commercial => "aws",
            Self::China => "aws-cn",
            Self::GovCloud => "aws-us-gov",
            Self::EuropeanSovereign => "aws-eusc",
            Self::Iso => "aws-iso",
            Self::IsoB => "aws-iso-b",
            Self::IsoE => "aws-iso-e",
            Self::IsoF => "aws-iso-f",
        }
    }
}

/// Where AWS issues tokens for a registry.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct EcrEndpoint {
    /// The account of the registry, if the host contains it.
    pub account: Option<String>,
    /// The region of the API.
    pub region: String,
    /// The region in the host, if it differs.
    pub region_of_host: Option<String>,
    /// Whether to use AWS's FIPS endpoints.
    pub fips: bool,
    /// Whether to use AWS's dual-stack endpoints.
    pub dual_stack: bool,
}

/// Doesn't show the account.
impl fmt::Debug for EcrEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account: _, region, region_of_host, fips, dual_stack } = self;
        let mut debug = f.debug_struct("Place");
        debug.field("region", region).field("region_of_host", region_of_host);
        debug.field("fips", fips).field("dual_stack", dual_stack).finish_non_exhaustive()
    }
}

/// Why the endpoint for tokens can't be determined.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EcrEndpointError {
    /// The host is not an ECR host with a region, and the spec has no region.
    #[error("spec.auth.ecr.region is required: the host in spec.endpoint does not contain the region")]
    NoRegion,
    /// The region is malformed.
    #[error("spec.auth.ecr.region must be an AWS region such as eu-central-1")]
    NotARegion,
    /// The registry is public, and needs no login.
    #[error("ECR Public needs no credentials; remove credentials and sts from spec.auth.ecr")]
    Public,
}

impl EcrEndpoint {
    /// Determines where AWS issues tokens for the registry at `endpoint`.
    pub fn of(endpoint: &Endpoint, ecr: &EcrAuth) -> Result<Self, EcrEndpointError> {
        let host = match &endpoint.server().host {
            Host::Name(name) => EcrHost::parse(name),
            Host::Address(_) => None,
        };
        let region = ecr.region.as_deref();
        if region.is_some_and(|region| !is_region(region)) {
            return Err(EcrEndpointError::NotARegion);
        }
        match (host, region) {
            (Some(EcrHost::Public), _) => Err(EcrEndpointError::Public),
            (Some(EcrHost::Private(place)), Some(region)) => Ok(place.with_region(region)),
            (Some(EcrHost::Private(place)), None) => Ok(place),
            (None, Some(region)) => Ok(Self::hidden(region)),
            (None, None) => Err(EcrEndpointError::NoRegion),
        }
    }

    /// Returns the partition of the region.
    pub fn partition(&self) -> Partition {
        Partition::of_region(&self.region)
    }

    /// A registry behind an alias, a private endpoint or an emulator.
    fn hidden(region: &str) -> Self {
        Self {
            account: None,
            region: region.to_owned(),
            region_of_host: None,
            fips: false,
            dual_stack: false,
        }
    }

    fn with_region(self, region: &str) -> Self {
        let region_of_host = (self.region != region).then_some(self.region);
        Self { region: region.to_owned(), region_of_host, ..self }
    }
}

/// A host of ECR.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EcrHost {
    /// The registry of an account.
    Private(EcrEndpoint),
    /// The public gallery.
    Public,
}

/// Returns whether a server is an ECR registry. A token that is sent there only reaches AWS.
pub fn is_ecr(server: &HostPort) -> bool {
    match &server.host {
        Host::Name(name) => EcrHost::parse(name).is_some(),
        Host::Address(_) => false,
    }
}

impl EcrHost {
    /// Parses a host name in lower case, without a trailing dot.
    pub fn parse(host: &str) -> Option<Self> {
        if ecr_hosts::PUBLIC.contains(&host) {
            return Some(Self::Public);
        }
        let (account, rest) = host.split_once('.')?;
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        ecr_hosts::FORMS.iter().find_map(|form| private(form, account, rest)).map(Self::Private)
    }
}

/// Parses the rest of the host of an account's registry, if it has that form.
fn private(form: &HostForm, account: &str, rest: &str) -> Option<EcrEndpoint> {
    let rest = rest.strip_prefix(form.service)?;
    let (fips, rest) = rest.strip_prefix(ecr_hosts::FIPS).map_or((false, rest), |rest| (true, rest));
    let (region, domain) = rest.strip_prefix('.')?.split_once('.')?;
    let (_, partitions) = form.domains.iter().find(|(known, _)| *known == domain)?;
    if !is_region(region) || !partitions.contains(&Partition::of_region(region).as_str()) {
        return None;
    }
    Some(EcrEndpoint {
        account: Some(account.to_owned()),
        region: region.to_owned(),
        region_of_host: None,
        fips,
        dual_stack: form.dual_stack,
    })
}

/// Returns whether it is a region name such as `eu-central-1`: [`ecr_hosts::REGION`], with at most as many characters as in
/// the schema.
pub(super) fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.len() <= 32
        && words.contains('-')
        && words.split('-').all(is_word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(host: &str) -> Option<(String, bool, bool, &'static str)> {
        match EcrHost::parse(host)? {
            EcrHost::Private(place) => {
                let partition = place.partition().as_str();
                Some((place.region, place.fips, place.dual_stack, partition))
            }
            EcrHost::Public => None,
        }
    }

    #[test]
    fn recognizes_hosts_of_all_partitions() {
        for (host, region, fips, dual_stack, partition) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1", false, false, "aws"),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "us-gov-west-1",
                true,
                false,
                "aws-us-gov",
            ),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", false, false, "aws-cn"),
            ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", false, false, "aws-eusc"),
            ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", false, false, "aws-iso"),
            (
                "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
                "us-isob-east-1",
                false,
                false,
                "aws-iso-b",
            ),
            (
                "123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
                "eu-isoe-west-1",
                false,
                false,
                "aws-iso-e",
            ),
            (
                "123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
                "us-isof-south-1",
                false,
                false,
                "aws-iso-f",
            ),
            ("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2", false, true, "aws"),
            ("123456789012.dkr-ecr-fips.us-east-1.on.aws", "us-east-1", true, true, "aws"),
            (
                "123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn",
                "cn-northwest-1",
                false,
                true,
                "aws-cn",
            ),
        ] {
            assert_eq!(parsed(host), Some((region.to_owned(), fips, dual_stack, partition)), "{host}");
        }
    }

    #[test]
    fn rejects_hosts_that_resemble_ecr() {
        for host in [
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example",
            "evil.123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.org",
            "123456789012.dkr.ecr.eu-central.amazonaws.com",
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.eu-central-1.on.aws",
            "123456789012.dkr-ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012xdkr.ecr.eu-central-1.amazonaws.com",
            "public.ecr.aws.evil.example",
            "registry.example.com",
        ] {
            assert_eq!(EcrHost::parse(host), None, "{host}");
        }
    }

    fn place(endpoint: &str, region: Option<&str>) -> Result<EcrEndpoint, EcrEndpointError> {
        let ecr = EcrAuth { region: region.map(ToOwned::to_owned), ..EcrAuth::default() };
        EcrEndpoint::of(&Endpoint::parse(endpoint).unwrap(), &ecr)
    }

    #[test]
    fn region_field_overrides_the_host() {
        let alias = place("https://registry.example.com", Some("eu-west-1")).unwrap();
        assert_eq!((alias.account, alias.region.as_str()), (None, "eu-west-1"));
        let other =
            place("https://123456789012.dkr.ecr.eu-west-1.amazonaws.com.:443", Some("eu-west-2")).unwrap();
        assert_eq!(
            (other.region.as_str(), other.region_of_host.as_deref()),
            ("eu-west-2", Some("eu-west-1"))
        );
        assert_eq!(place("https://registry.example.com", None), Err(EcrEndpointError::NoRegion));
        assert_eq!(place("https://public.ecr.aws", Some("us-east-1")), Err(EcrEndpointError::Public));
    }

    #[test]
    fn region_cannot_change_the_host() {
        for region in [
            "evil.example/",
            "eu-central-1.evil",
            "eu-central-1@x",
            "EU-central-1",
            "eu-1",
            "",
            "eu-central-123",
        ] {
            assert_eq!(
                place("https://registry.example.com", Some(region)),
                Err(EcrEndpointError::NotARegion),
                "{region}"
            );
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&format!("^({pattern})$")).unwrap().is_match(text)
    }

    fn one_of(texts: &[&'static str]) -> impl Strategy<Value = String> + use<> {
        prop::sample::select(texts.to_vec()).prop_map(ToOwned::to_owned)
    }

    /// Account, service, region and domain, right or nearly so.
    fn parts() -> impl Strategy<Value = [String; 4]> {
        let domains = ecr_hosts::FORMS.iter().flat_map(|form| form.domains.iter().map(|(domain, _)| *domain));
        let domains: Vec<&str> = domains.chain(["amazonaws.org", "aws"]).collect();
        let services = ["dkr.ecr", "dkr.ecr-fips", "dkr-ecr", "dkr-ecr-fips", "dkr.ecr-", "dkrxecr"];
        let regions =
            ["eu-central-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1", "eu-1", "", "eu-west-123"];
        let region = prop_oneof![one_of(&regions), "[a-z]{1,3}(-[a-z0-9]{0,4}){0,4}"];
        ("[0-9]{11,13}", one_of(&services), region, one_of(&domains)).prop_map(Into::into)
    }

    #[test]
    fn schema_and_parser_accept_public_hosts() {
        for host in ecr_hosts::PUBLIC {
            assert_eq!(EcrHost::parse(host), Some(EcrHost::Public));
            assert!(matches(&ecr_hosts::public_pattern(), host), "{host}");
        }
    }

    proptest! {
        /// Except for the partition of the region, which only the parser checks.
        #[test]
        fn schema_and_parser_accept_same_hosts(parts in parts()) {
            let (host, [account, service, region, domain]) = (parts.join("."), &parts);
            let forms = ecr_hosts::FORMS.iter();
            let mut forms = forms.filter(|form| service.strip_suffix(ecr_hosts::FIPS).unwrap_or(service) == form.service);
            let fits = account.len() == 12 && is_region(region);
            let known = forms.find_map(|form| form.domains.iter().find(|(known, _)| known == domain));
            let partitions = known.filter(|_| fits).map(|(_, partitions)| partitions);
            prop_assert_eq!(matches(&ecr_hosts::private_pattern(), &host), partitions.is_some(), "{}", host);
            let of_region = Partition::of_region(region).as_str();
            let parses = partitions.is_some_and(|partitions| partitions.contains(&of_region));
            prop_assert_eq!(EcrHost::parse(&host).is_some(), parses, "{}", host);
        }

        #[test]
        fn schema_and_parser_accept_same_regions(region in "[a-z]{1,3}(-[a-z0-9]{0,3}){0,4}") {
            prop_assert_eq!(is_region(&region), matches(ecr_hosts::REGION, &region), "{}", region);
        }

        #[test]
        fn no_host_panics_or_yields_invalid_region(host in "\\PC{0,80}") {
            if let Some(EcrHost::Private(place)) = EcrHost::parse(&host) {
                prop_assert!(is_region(&place.region));
            }
        }
    }
}
