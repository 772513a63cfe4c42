//! The command line and the environment. The one place where flags are read.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueHint};
use registry_check::flags::CheckFlags;
use registry_probe::IpNet;
use registry_verdict::outbound::{address, network, without_variables};

use crate::public_url::PublicUrl;

/// Serves the web console of registry-operator on this machine, with your own rights in the cluster; with --listen for everyone who
/// can sign in to the cluster.
#[derive(Debug, Parser)]
#[command(name = "kubectl-registry-console", bin_name = "kubectl registry console", version, about)]
pub struct ConsoleCli {
    /// Port on 127.0.0.1; default: any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Don't open the browser: only print the URL.
    #[arg(long)]
    pub no_browser: bool,
    /// Path of the kubeconfig file; default: KUBECONFIG, or ~/.kube/config. With --listen, it names the API server only; default: the
    /// Pod's.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: the current context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the operator, with the Secrets of SystemRegistries.
    #[arg(
        long,
        env = "REGISTRY_CONSOLE_SYSTEM_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "registry-system"
    )]
    pub system_namespace: String,
    /// How to reach registries and AWS.
    #[command(flatten)]
    pub check: CheckFlags,
    /// How to serve in a cluster.
    #[command(flatten)]
    pub serve: ServeFlags,
}

/// How to serve in a cluster. Without `--listen`, nothing else here is allowed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "In a cluster")]
pub struct ServeFlags {
    /// Address of the console for everyone who can sign in to the cluster; `:8443` means all addresses, including IPv6.
    #[arg(long, env = "REGISTRY_CONSOLE_LISTEN", value_name = "ADDRESS", value_parser = address, requires = "public_url")]
    pub listen: Option<SocketAddr>,
    /// URL in the browser's address bar, such as `https://registries.example.com`. Requests for other hosts are refused.
    #[arg(long, env = "REGISTRY_CONSOLE_PUBLIC_URL", value_name = "URL", value_parser = PublicUrl::parse, requires = "listen")]
    pub public_url: Option<PublicUrl>,
    /// PEM file with the certificate and its intermediates. Reloaded when it changes.
    #[arg(long, env = "REGISTRY_CONSOLE_TLS_CERT", value_name = "FILE", value_hint = ValueHint::FilePath, requires_all = ["listen", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key. Reloaded when it changes.
    #[arg(long, env = "REGISTRY_CONSOLE_TLS_KEY", value_name = "FILE", value_hint = ValueHint::FilePath, requires_all = ["listen", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
    /// A proxy in front of the console serves HTTPS, so the console itself serves HTTP.
    #[arg(
        long, env = "REGISTRY_CONSOLE_BEHIND_TLS_PROXY", default_value_t = false, action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", value_name = "BOOL"
    )]
    pub behind_tls_proxy: bool,
    /// Address of /metrics, /healthz and /readyz, over plain HTTP; default: they are not served.
    #[arg(long, env = "REGISTRY_CONSOLE_METRICS_ADDRESS", value_name = "ADDRESS", value_parser = address, requires = "listen")]
    pub metrics_address: Option<SocketAddr>,
    /// Addresses to connect to although the egress policy denies them, as for the operator (repeatable or comma-separated).
    #[arg(long, env = "REGISTRY_CONSOLE_EGRESS_ALLOW", value_name = "CIDR", value_delimiter = ',', value_parser = network, requires = "listen")]
    pub egress_allow: Vec<IpNet>,
    /// Addresses never to connect to, as for the operator (repeatable or comma-separated).
    #[arg(long, env = "REGISTRY_CONSOLE_EGRESS_DENY", value_name = "CIDR", value_delimiter = ',', value_parser = network, requires = "listen")]
    pub egress_deny: Vec<IpNet>,
    /// Address ranges of the cluster's Services, which tenants' registries can't reach, as for the operator (repeatable or
    /// comma-separated). Read from the API server since Kubernetes 1.33.
    #[arg(long, env = "REGISTRY_CONSOLE_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',', value_parser = network, requires = "listen")]
    pub service_cidr: Vec<IpNet>,
}

/// The variables of flags that other programs have too: the plugin has none for them, or the operator's.
const VARIABLES: [(&str, &str); 4] = [
    ("trusted_token_service", "REGISTRY_CONSOLE_TRUSTED_TOKEN_SERVICE"),
    ("proxy", "REGISTRY_CONSOLE_PROXY"),
    ("no_proxy", "REGISTRY_CONSOLE_NO_PROXY"),
    ("ca_file", "REGISTRY_CONSOLE_CA_FILE"),
];

impl ConsoleCli {
    /// Reads the command line and the environment, or says what is wrong. `program` is the name that the program was built under:
    /// kubectl's plugin reads the same variables for registries as the other plugin.
    pub fn read(program: &str, is_empty: impl Fn(&OsStr) -> bool) -> Result<Self, clap::Error> {
        let command = without_variables(Self::of(program), is_empty);
        Self::from_arg_matches(&command.try_get_matches()?)
    }

    fn of(program: &str) -> clap::Command {
        let command = Self::command();
        if program == command.get_name() {
            return command;
        }
        let command = command.name("registry-console").bin_name("registry-console");
        command.mut_args(|arg| {
            let own = VARIABLES.iter().find(|(id, _)| arg.get_id() == id);
            if let Some((_, variable)) = own { arg.env(variable) } else { arg }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<ConsoleCli, clap::Error> {
        ConsoleCli::try_parse_from(std::iter::once(&"registry-console").chain(words))
    }

    #[test]
    fn command_line_is_consistent() {
        for program in ["registry-console", "kubectl-registry-console"] {
            ConsoleCli::of(program).debug_assert();
        }
    }

    #[test]
    fn no_flag_takes_a_password() {
        let cli = ConsoleCli::command();
        assert!(cli.get_arguments().all(|argument| !argument.get_id().as_str().contains("password")));
    }

    #[test]
    fn serving_needs_a_public_url_and_a_whole_certificate() {
        let url = ["--public-url", "https://r.example"];
        let listen = [["--listen", ":8443"], url].concat();
        assert!(parse(&listen).is_ok() && parse(&["--port", "1"]).is_ok());
        for wrong in [
            vec!["--listen", ":8443"],
            url.to_vec(),
            [&listen[..], &["--tls-cert", "c"]].concat(),
            [&listen[..], &["--tls-key", "k"]].concat(),
            vec!["--egress-allow", "10.0.0.0/8"],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn in_a_cluster_every_setting_is_a_variable_too() {
        let command = ConsoleCli::of("registry-console");
        let laptops = ["port", "no_browser", "kubeconfig", "context"];
        for arg in command.get_arguments().filter(|arg| !laptops.contains(&arg.get_id().as_str())) {
            let variable = arg.get_env().and_then(OsStr::to_str).unwrap_or_default();
            let own = format!("REGISTRY_CONSOLE_{}", arg.get_id().as_str().to_uppercase());
            assert!(variable == own || variable.starts_with("AWS_"), "{}: {variable}", arg.get_id());
        }
        let plugin = ConsoleCli::of("kubectl-registry-console");
        let proxy = plugin.get_arguments().find(|arg| arg.get_id() == "proxy").unwrap();
        assert_eq!(proxy.get_env(), Some(OsStr::new("REGISTRY_OPERATOR_PROXY")));
    }
}
