//! The hosts of AWS ECR and the regions in them, for the schema's rules and for the parser. Pure.

/// A pattern for a region such as `eu-central-1`: words of letters, then a number of one or two digits.
pub const REGION: &str = "[a-z]+(-[a-z]+)+-[0-9]{1,2}";

/// The hosts of ECR Public, which needs no credentials.
pub const PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// Hosts of one form: `ACCOUNT.SERVICE.REGION.DOMAIN`, or `ACCOUNT.SERVICE-fips.REGION.DOMAIN`.
#[derive(Debug)]
pub struct HostForm {
    /// The labels between account and region.
    pub service: &'static str,
    /// Whether they have IPv6 too.
    pub dual_stack: bool,
    /// The domains, each with the partitions of its regions, as in ARNs.
    pub domains: &'static [(&'static str, &'static [&'static str])],
}

/// The forms of hosts of an account's registry.
pub const FORMS: [HostForm; 2] = [
    HostForm {
        service: "dkr.ecr",
        dual_stack: false,
        domains: &[
            ("amazonaws.com", &["aws", "aws-us-gov"]),
            ("amazonaws.com.cn", &["aws-cn"]),
            ("amazonaws.eu", &["aws-eusc"]),
            ("c2s.ic.gov", &["aws-iso"]),
            ("sc2s.sgov.gov", &["aws-iso-b"]),
            ("cloud.adc-e.uk", &["aws-iso-e"]),
            ("csp.hci.ic.gov", &["aws-iso-f"]),
        ],
    },
    HostForm {
        service: "dkr-ecr",
        dual_stack: true,
        domains: &[("on.aws", &["aws", "aws-us-gov"]), ("on.amazonwebservices.com.cn", &["aws-cn"])],
    },
];

/// The suffix of the service for AWS's FIPS endpoints.
pub const FIPS: &str = "-fips";

/// Returns a pattern for the hosts of ECR Public.
pub fn public_pattern() -> String {
    alternatives(PUBLIC)
}

/// Returns a pattern for the hosts of an account's registry. It doesn't check that the domain has the region.
pub fn private_pattern() -> String {
    let form = |form: &HostForm| {
        let domains = alternatives(form.domains.iter().map(|(domain, _)| *domain));
        format!("{}({FIPS})?[.]{REGION}[.]({domains})", literal(form.service))
    };
    format!("[0-9]{{12}}[.]({})", FORMS.each_ref().map(form).join("|"))
}

fn alternatives<'a>(hosts: impl IntoIterator<Item = &'a str>) -> String {
    hosts.into_iter().map(literal).collect::<Vec<_>>().join("|")
}

fn literal(host: &str) -> String {
    host.replace('.', "[.]")
}
