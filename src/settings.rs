//! The operator's command line. Every flag is also an environment variable `REGISTRY_OPERATOR_…`; this is the only
//! place where either is read.

use std::{ffi::OsStr, net::SocketAddr};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, error::ErrorKind};
use registry_probe::{IpNet, TrustedService};
use registry_verdict::outbound::{
    AwsEndpoint, OutboundSettings, address, aws_endpoint, network, without_variables,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Validates OCI registries that are declared as SystemRegistry and TenantRegistry, and reports whether they can be
/// used.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct OperatorCli {
    /// A command other than running the controller.
    #[command(subcommand)]
    pub command: Option<OperatorCommand>,
    /// The settings of the controller.
    #[command(flatten)]
    pub settings: Settings,
}

impl OperatorCli {
    /// Reads the command line and the environment. Exits with a message if they are invalid.
    pub fn read() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "clap reads the variables; this looks for the empty ones"
        )]
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        let matches = without_variables(Self::command(), is_empty).get_matches();
        let read = Self::from_arg_matches(&matches).and_then(Self::checked);
        read.unwrap_or_else(|error| error.exit())
    }

    /// Checks the proxy's URL. The error doesn't contain the URL, because it may have a password.
    fn checked(self) -> Result<Self, clap::Error> {
        let unusable = |error| Self::command().error(ErrorKind::ValueValidation, error);
        self.settings.outbound.proxy().map_err(unusable)?;
        Ok(self)
    }
}

/// A command other than running the controller.
#[derive(Clone, Debug, Subcommand)]
pub enum OperatorCommand {
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Request each URL until it returns 200, for at most 30 s: used by `helm test`.
    #[command(hide = true)]
    Ready {
        /// http:// URLs, such as those of the Service's /readyz and /guardz.
        #[arg(required = true, value_name = "URL")]
        urls: Vec<http::Uri>,
    },
}

/// The settings of the controller.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespace of the operator. Secrets and ConfigMaps of SystemRegistries are read only from it.
    #[arg(long, env = "REGISTRY_OPERATOR_SYSTEM_NAMESPACE", default_value = "registry-system", value_parser = namespace)]
    pub system_namespace: String,

    /// Address of /metrics, /healthz and /readyz; `:8080` means all addresses, including IPv6. If set twice, the last
    /// one is used.
    #[arg(long, env = "REGISTRY_OPERATOR_METRICS_ADDRESS", default_value = "0.0.0.0:8080", value_parser = address, overrides_with = "metrics_address")]
    pub metrics_address: SocketAddr,

    /// Elect a leader with the Lease `registry-operator`, so that only one replica works.
    #[arg(
        long, env = "REGISTRY_OPERATOR_LEADER_ELECTION", default_value_t = true,
        action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub leader_election: bool,

    /// How the operator gets access to tenant namespaces.
    #[arg(long, env = "REGISTRY_OPERATOR_TENANT_ACCESS", value_enum, default_value_t = TenantAccess::Bound)]
    pub tenant_access: TenantAccess,

    /// Addresses to connect to although the egress policy denies them, such as 127.0.0.0/8 in development (repeatable
    /// or comma-separated).
    #[arg(long, env = "REGISTRY_OPERATOR_EGRESS_ALLOW", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub egress_allow: Vec<IpNet>,

    /// Addresses never to connect to (repeatable or comma-separated).
    #[arg(long, env = "REGISTRY_OPERATOR_EGRESS_DENY", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub egress_deny: Vec<IpNet>,

    /// Address ranges of the cluster's Services, which tenants' registries can't reach (repeatable or
    /// comma-separated). Read from the API server since Kubernetes 1.33.
    #[arg(long, env = "REGISTRY_OPERATOR_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',', value_parser = network)]
    pub service_cidr: Vec<IpNet>,

    /// Token services on other hosts that credentials may be sent to (repeatable or comma-separated).
    #[arg(
        long,
        env = "REGISTRY_OPERATOR_TRUSTED_TOKEN_SERVICE",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub trusted_token_service: Vec<TrustedService>,

    /// How registries, token services and AWS are reached.
    #[command(flatten)]
    pub outbound: OutboundSettings,

    /// Endpoint of the AWS ECR API, such as a private endpoint or an emulator; default: that of the registry's
    /// region.
    #[arg(long, env = "AWS_ENDPOINT_URL_ECR", value_name = "URL", value_parser = aws_endpoint)]
    pub aws_endpoint_url_ecr: Option<AwsEndpoint>,

    /// Endpoint of the AWS STS API, used to assume roles; default: that of the registry's region.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL", value_parser = aws_endpoint)]
    pub aws_endpoint_url_sts: Option<AwsEndpoint>,

    /// AWS region of the operator, in which its own identity assumes roles. EKS sets the variable.
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub aws_region: Option<String>,

    /// Maximum number of concurrent validations. No tenant gets more than an equal share of those that are free.
    #[arg(long, env = "REGISTRY_OPERATOR_CONCURRENCY", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: u16,

    /// Maximum number of TenantRegistries validated per tenant; newer ones get the reason NotPermitted.
    #[arg(long, env = "REGISTRY_OPERATOR_TENANT_MAX_REGISTRIES", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub tenant_max_registries: u32,

    /// Log format.
    #[arg(long, env = "REGISTRY_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Log level: error, warn, info, debug, trace, or a tracing filter such as registry_operator=debug,kube=info.
    #[arg(long, env = "REGISTRY_OPERATOR_LOG_LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: String,
}

/// Checks that the name is a valid namespace (RFC 1123 label).
fn namespace(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=63).contains(&text.len()) && text.chars().all(inner);
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a namespace's name has 1 to 63 lower-case letters, digits and -, and neither begins nor ends with -"
        .to_owned())
}

/// Checks a log level or tracing directives. A single unknown word is refused, because tracing would take it for a
/// target and log nothing.
fn log_filter(text: &str) -> Result<String, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
    if is_word && text.parse::<LevelFilter>().is_err() {
        return Err("the levels are off, error, warn, info, debug and trace".to_owned());
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How the operator gets access to tenants' namespaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TenantAccess {
    /// The operator binds itself there to the ClusterRole registry-operator-tenant.
    Bound,
    /// An administrator creates the bindings; the operator has no permission on role bindings.
    Manual,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <OperatorCli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn accepts_both_spellings_of_no_leader_election() {
        for arguments in
            [["operator", "--leader-election=false"].as_slice(), &["operator", "--leader-election", "false"]]
        {
            assert!(!OperatorCli::parse_from(arguments).settings.leader_election);
        }
        assert!(OperatorCli::parse_from(["operator", "--leader-election"]).settings.leader_election);
        assert!(OperatorCli::parse_from(["operator"]).settings.leader_election);
    }

    #[test]
    fn rejects_invalid_log_level_and_namespace() {
        for arguments in
            [["operator", "--log-level", "loud"], ["operator", "--system-namespace", "Not_A_Namespace"]]
        {
            assert!(OperatorCli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
        assert!(
            OperatorCli::try_parse_from(["operator", "--log-level", "registry_operator=debug,kube=info"])
                .is_ok()
        );
    }

    #[test]
    fn ignores_empty_variable() {
        let command =
            without_variables(OperatorCli::command(), |name| name == "REGISTRY_OPERATOR_CONCURRENCY");
        let variable = |id| command.get_arguments().find(|arg| arg.get_id() == id).unwrap().get_env();
        assert_eq!(variable("concurrency"), None);
        assert_eq!(variable("log_level"), Some(OsStr::new("REGISTRY_OPERATOR_LOG_LEVEL")));
    }

    #[test]
    fn last_address_flag_wins() {
        let arguments = ["operator", "--metrics-address=:8080", "--metrics-address=127.0.0.1:9090"];
        let cli = OperatorCli::try_parse_from(arguments).unwrap();
        assert_eq!(cli.settings.metrics_address, "127.0.0.1:9090".parse().unwrap());
    }

    #[test]
    fn never_shows_proxy_credentials() {
        let proxied = |url: &str| OperatorCli::try_parse_from(["operator", "--proxy", url]).unwrap().settings;
        let settings = proxied("http://alice:s3cr3t@proxy.example.com:3128");
        assert!(!format!("{settings:?}").contains("s3cr3t"));
        assert_eq!(
            settings.outbound.proxy().unwrap().unwrap().server().to_string(),
            "proxy.example.com:3128"
        );
        let error = proxied("socks5://alice:s3cr3t@proxy").outbound.proxy().unwrap_err().to_string();
        assert_eq!(error, "--proxy must start with http:// or https://");
        let command = OperatorCli::command();
        let proxy = command.get_arguments().find(|argument| argument.get_id() == "proxy").unwrap();
        assert!(proxy.is_hide_env_values_set(), "--help would show the variable");
    }

    #[test]
    fn rejects_no_proxy_entry_without_effect() {
        assert!(
            OperatorCli::try_parse_from(["operator", "--no-proxy", ".svc,10.0.0.0/8,registry:5000"]).is_ok()
        );
        let error = OperatorCli::try_parse_from(["operator", "--no-proxy", ".svc,10.0.0.0/33"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"10.0.0.0/33\" is not a host"), "{error}");
    }

    #[test]
    fn concurrency_is_at_least_one() {
        assert!(OperatorCli::try_parse_from(["operator", "--concurrency", "1"]).is_ok());
        assert!(OperatorCli::try_parse_from(["operator", "--concurrency", "0"]).is_err());
    }
}
