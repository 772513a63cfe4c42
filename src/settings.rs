//! The operator's command line. Every flag is also an environment variable `REGISTRY_OPERATOR_…`; this is the only
//! place where either is read.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use registry_probe::{IpNet, TrustedService};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Validates OCI registries that are declared as SystemRegistry and TenantRegistry, and says truly whether they can
/// be used.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// Another thing to do than to run the controller.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How the controller runs.
    #[command(flatten)]
    pub settings: Settings,
}

/// Another thing to do than to run the controller.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Ask until URL is answered 200, at most 30 s: for `helm test`, whose Pod has this image and no shell.
    #[command(hide = true)]
    Ready {
        /// An http:// URL, such as that of the Service's /readyz.
        url: http::Uri,
    },
}

/// How the controller runs.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The namespace in which the operator runs; a SystemRegistry's Secrets and ConfigMaps are read from there only.
    #[arg(long, env = "REGISTRY_OPERATOR_SYSTEM_NAMESPACE", default_value = "registry-system", value_parser = namespace)]
    pub system_namespace: String,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "REGISTRY_OPERATOR_METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: SocketAddr,

    /// Whether only the holder of the Lease `registry-operator` works while other replicas stand by.
    #[arg(
        long, env = "REGISTRY_OPERATOR_LEADER_ELECTION", default_value_t = true,
        action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub leader_election: bool,

    /// How the operator gets to read in tenants' namespaces.
    #[arg(long, env = "REGISTRY_OPERATOR_TENANT_ACCESS", value_enum, default_value_t = TenantAccess::Bound)]
    pub tenant_access: TenantAccess,

    /// Addresses to which registries may be reached although the fence denies them (repeatable or comma-separated),
    /// such as 127.0.0.0/8 in development.
    #[arg(long, env = "REGISTRY_OPERATOR_EGRESS_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub egress_allow: Vec<IpNet>,

    /// Addresses to which no registry may be reached (repeatable or comma-separated).
    #[arg(long, env = "REGISTRY_OPERATOR_EGRESS_DENY", value_name = "CIDR", value_delimiter = ',')]
    pub egress_deny: Vec<IpNet>,

    /// Token services on other hosts that credentials may be sent to (repeatable or comma-separated).
    #[arg(
        long,
        env = "REGISTRY_OPERATOR_TRUSTED_TOKEN_SERVICE",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub trusted_token_service: Vec<TrustedService>,

    /// Where AWS's ECR API is asked for tokens, if not where the registry's region says: a private endpoint or an emulator.
    #[arg(long, env = "AWS_ENDPOINT_URL_ECR", value_name = "URL", value_parser = aws_endpoint)]
    pub aws_endpoint_url_ecr: Option<AwsEndpoint>,

    /// The same for AWS's STS API, which lets roles be assumed.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL", value_parser = aws_endpoint)]
    pub aws_endpoint_url_sts: Option<AwsEndpoint>,

    /// How many validations run at the same time. No tenant gets more than an equal share of what is free.
    #[arg(long, env = "REGISTRY_OPERATOR_CONCURRENCY", default_value = "64", value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub concurrency: u16,

    /// How log lines are written.
    #[arg(long, env = "REGISTRY_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or a tracing filter such as registry_operator=debug,kube=info.
    #[arg(long, env = "REGISTRY_OPERATOR_LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: String,
}

/// A name that a namespace can have (RFC 1123 label).
fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&text.len()) && text.chars().all(inner);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a namespace's name has 1 to 63 lower-case letters, digits and -, and neither begins nor ends with -"
        .to_owned())
}

/// A level, or directives. A single word that is no level would be taken for a target, and nothing would be logged.
fn log_filter(text: &str) -> Result<String, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && text.parse::<LevelFilter>().is_err() {
        return Err("the levels are off, error, warn, info, debug and trace".to_owned());
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// An endpoint of AWS; none where the variable is there but empty, as AWS's own tools have it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AwsEndpoint(pub Option<String>);

/// Reads an endpoint of AWS from its variable.
pub fn aws_endpoint(text: &str) -> Result<AwsEndpoint, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(AwsEndpoint(None));
    }
    let uri: http::Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(AwsEndpoint(Some(text.to_owned()))),
        _ => Err("not a URL that starts with https:// or http://".to_owned()),
    }
}

/// How the operator gets to read in tenants' namespaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TenantAccess {
    /// It binds itself there to the ClusterRole registry-operator-tenant.
    Bound,
    /// An administrator binds it; it has no right on role bindings.
    Manual,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn an_endpoint_of_aws_is_a_url_or_nothing() {
        assert_eq!(aws_endpoint(""), Ok(AwsEndpoint(None)));
        assert_eq!(
            aws_endpoint("http://127.0.0.1:5000"),
            Ok(AwsEndpoint(Some("http://127.0.0.1:5000".into())))
        );
        for wrong in ["127.0.0.1:5000", "ftp://aws.example", "not a url"] {
            assert!(aws_endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn leader_election_can_be_switched_off_in_either_spelling() {
        for arguments in
            [["operator", "--leader-election=false"].as_slice(), &["operator", "--leader-election", "false"]]
        {
            assert!(!Cli::parse_from(arguments).settings.leader_election);
        }
        assert!(Cli::parse_from(["operator", "--leader-election"]).settings.leader_election);
        assert!(Cli::parse_from(["operator"]).settings.leader_election);
    }

    #[test]
    fn a_word_that_is_no_level_and_a_name_that_no_namespace_has_are_refused() {
        for arguments in
            [["operator", "--log-level", "loud"], ["operator", "--system-namespace", "Not_A_Namespace"]]
        {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
        assert!(
            Cli::try_parse_from(["operator", "--log-level", "registry_operator=debug,kube=info"]).is_ok()
        );
    }

    #[test]
    fn a_concurrency_of_zero_is_refused() {
        assert!(Cli::try_parse_from(["operator", "--concurrency", "0"]).is_err());
    }
}
