//! The hosts of AWS ECR and the regions in them: the one list for the schema's rules and for the programs that parse hosts. Pure.

/// A region, such as `eu-central-1`, as a pattern: words of letters, then a number of one or two digits.
pub const REGION: &str = "[a-z]+(-[a-z]+)+-[0-9]{1,2}";

/// The public gallery, which needs no credentials.
pub const PUBLIC: [&str; 2] = ["public.ecr.aws", "ecr-public.aws.com"];

/// Hosts of one form: `ACCOUNT.SERVICE.REGION.DOMAIN`, or `ACCOUNT.SERVICE-fips.REGION.DOMAIN`.
#[derive(Debug)]
pub struct HostForm {
    /// The labels between account and region.
    pub service: &'static str,
    /// Whether they are reached by IPv6 too.
    pub dual_stack: bool,
    /// The domains, each with the partitions (as ARNs name them) whose regions it has.
    pub domains: &'static [(&'static str, &'static [&'static str])],
}

/// All forms of the hosts of accounts' registries.
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

/// What a service's name has behind it where AWS's FIPS endpoints are meant.
pub const FIPS: &str = "-fips";

/// The public gallery's hosts as a pattern.
pub fn public_pattern() -> String {
    alternatives(PUBLIC)
}

/// The hosts of accounts' registries as a pattern. It doesn't tell which domain has the regions of which partition.
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
