//! The region that a request to AWS is sent to and signed for. Pure.
//!
//! ECR requests go to the registry's region. STS in any region of the partition can assume a role. The operator's own
//! region is preferred, because a private network may reach no other.

use super::{
    hosts::{EcrEndpoint, Partition, is_region},
    identity::RoleSource,
};

/// Custom endpoints of AWS's APIs and the operator's region, from the administrator's environment variables.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// `AWS_ENDPOINT_URL_ECR`.
    pub ecr: Option<String>,
    /// `AWS_ENDPOINT_URL_STS`.
    pub sts: Option<String>,
    /// `AWS_REGION`.
    pub region: Option<String>,
}

impl Endpoints {
    /// Returns the region for ECR requests: that of a custom endpoint, if its host contains one, otherwise the
    /// registry's. `AWS_REGION` doesn't matter, because an endpoint with another host name serves one region, and only
    /// registries of that region can use its tokens.
    pub fn ecr_region<'a>(&'a self, place: &'a EcrEndpoint) -> &'a str {
        self.ecr.as_deref().and_then(region_of).unwrap_or(&place.region)
    }

    /// Returns the region for STS requests: that of a custom endpoint, if its host contains one; otherwise
    /// `AWS_REGION`, if the endpoint is custom or the identity is the operator's; otherwise the registry's.
    pub fn sts_region<'a>(&'a self, place: &'a EcrEndpoint, source: &RoleSource) -> &'a str {
        if let Some(region) = self.sts.as_deref().and_then(region_of) {
            return region;
        }
        let here = self.region.as_deref().filter(|region| serves(region, place, self.sts.is_some()));
        let is_operators = self.sts.is_some() || matches!(source, RoleSource::Operator(_));
        here.filter(|_| is_operators).unwrap_or(&place.region)
    }
}

/// Returns whether STS in that region can assume a role for the registry: identities belong to one partition, and FIPS
/// endpoints don't exist in all regions.
fn serves(region: &str, place: &EcrEndpoint, endpoint_is_given: bool) -> bool {
    let has_fips = ["us-", "ca-"].iter().any(|prefix| region.starts_with(prefix));
    is_region(region)
        && Partition::of_region(region) == place.partition()
        && (!place.fips || endpoint_is_given || has_fips)
}

/// Domains of AWS's API endpoints.
const DOMAINS: [&str; 14] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "api.aws.hci.ic.gov",
];

/// Returns the region of an AWS endpoint, including private ones (`vpce-….sts.eu-west-1.vpce.amazonaws.com`).
fn region_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', ':', '?']).next()?.trim_end_matches('.');
    let labels = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))?;
    match labels {
        // The old global endpoint.
        "sts" => Some("us-east-1"),
        labels => labels.rsplit('.').find(|label| is_region(label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ecr::{Keys, OperatorIdentity},
        object::RegistryKey,
    };

    fn place(region: &str) -> EcrEndpoint {
        EcrEndpoint {
            account: None,
            region: region.into(),
            region_of_host: None,
            fips: false,
            dual_stack: false,
        }
    }

    fn operator() -> RoleSource {
        RoleSource::Operator(OperatorIdentity::of(&RegistryKey::System { name: "x".into() }).unwrap())
    }

    fn keys() -> RoleSource {
        let part = || Keys::part("x").unwrap();
        RoleSource::Keys(Keys { id: part(), secret: part(), session: None })
    }

    fn at(region: &str) -> Endpoints {
        Endpoints { region: Some(region.into()), ..Endpoints::default() }
    }

    #[test]
    fn operator_assumes_roles_in_its_own_region() {
        let registry = place("us-east-1");
        assert_eq!(at("eu-west-1").sts_region(&registry, &operator()), "eu-west-1");
        assert_eq!(at("eu-west-1").sts_region(&registry, &keys()), "us-east-1");
        assert_eq!(Endpoints::default().sts_region(&registry, &operator()), "us-east-1");
        assert_eq!(at("eu-west-1").ecr_region(&registry), "us-east-1");
    }

    #[test]
    fn assumes_roles_in_their_partition() {
        for (here, there) in [("eu-west-1", "cn-north-1"), ("us-gov-west-1", "us-east-1")] {
            assert_eq!(at(here).sts_region(&place(there), &operator()), there);
        }
        assert_eq!(at("nonsense").sts_region(&place("us-east-1"), &operator()), "us-east-1");
    }

    #[test]
    fn uses_fips_endpoint_where_available() {
        let registry = EcrEndpoint { fips: true, ..place("us-east-1") };
        assert_eq!(at("eu-west-1").sts_region(&registry, &operator()), "us-east-1");
        assert_eq!(at("us-west-2").sts_region(&registry, &operator()), "us-west-2");
    }

    #[test]
    fn signs_custom_sts_endpoint_for_its_region() {
        let registry = place("us-east-1");
        for (url, region) in [
            ("https://vpce-0123-abcd.sts.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
            ("https://vpce-0123-abcd-eu-west-1a.sts.eu-west-1.vpce.amazonaws.com:443/x", "eu-west-1"),
            ("https://sts.eu-west-3.amazonaws.com/", "eu-west-3"),
            ("https://sts-fips.us-west-2.amazonaws.com", "us-west-2"),
            ("https://sts.eu-south-2.api.aws", "eu-south-2"),
            ("https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("https://sts.amazonaws.com", "us-east-1"),
        ] {
            let endpoints = Endpoints { sts: Some(url.into()), ..at("ap-south-1") };
            for source in [operator(), keys()] {
                assert_eq!(endpoints.sts_region(&registry, &source), region, "{url}");
            }
        }
    }

    #[test]
    fn custom_endpoint_defaults_to_operator_region() {
        for url in ["http://127.0.0.1:5000", "https://sts.example.com", "https://eu-west-1.example.com"] {
            let endpoints = Endpoints { sts: Some(url.into()), ecr: Some(url.into()), ..at("eu-west-1") };
            assert_eq!(endpoints.sts_region(&place("us-east-1"), &keys()), "eu-west-1", "{url}");
            assert_eq!(endpoints.sts_region(&place("cn-north-1"), &keys()), "cn-north-1", "{url}");
            assert_eq!(endpoints.ecr_region(&place("us-east-1")), "us-east-1", "an ECR serves one region");
            let endpoints = Endpoints { region: None, ..endpoints };
            assert_eq!(endpoints.sts_region(&place("us-east-1"), &keys()), "us-east-1", "{url}");
        }
    }

    #[test]
    fn signs_custom_ecr_endpoint_for_its_region() {
        for (url, region) in [
            ("https://vpce-0123-abcd.api.ecr.eu-west-1.vpce.amazonaws.com", "eu-west-1"),
            ("https://api.ecr.eu-west-1.amazonaws.com", "eu-west-1"),
            ("https://ecr.eu-west-1.api.aws", "eu-west-1"),
        ] {
            let endpoints = Endpoints { ecr: Some(url.into()), ..at("ap-south-1") };
            assert_eq!(endpoints.ecr_region(&place("us-east-1")), region, "{url}");
        }
    }
}
