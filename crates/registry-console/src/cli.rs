//! The command line. The one place where flags are read.

use std::path::PathBuf;

use clap::{Parser, ValueHint};
use registry_probe::TrustedService;
use registry_verdict::outbound::{AwsEndpoint, OutboundSettings, aws_endpoint};

/// Serves the web console of registry-operator on this machine, with your own rights in the cluster.
#[derive(Debug, Parser)]
#[command(name = "kubectl-registry-console", bin_name = "kubectl registry console", version, about)]
pub struct ConsoleCli {
    /// Port on 127.0.0.1; default: any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Don't open the browser: only print the URL.
    #[arg(long)]
    pub no_browser: bool,
    /// Path of the kubeconfig file; default: KUBECONFIG, or ~/.kube/config.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: the current context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the operator, with the Secrets of SystemRegistries.
    #[arg(long, value_name = "NAMESPACE", default_value = "registry-system")]
    pub system_namespace: String,
    /// Token service on another host that credentials may be sent to, as for the operator (repeatable or comma-separated).
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub trusted_token_service: Vec<TrustedService>,
    /// How registries are reached from here: the operator's flags.
    #[command(flatten)]
    pub outbound: OutboundSettings,
    /// Endpoint of the AWS ECR API; default: that of the registry's region.
    #[arg(long, env = "AWS_ENDPOINT_URL_ECR", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_ecr: Option<AwsEndpoint>,
    /// Endpoint of the AWS STS API; default: that of the registry's region.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_sts: Option<AwsEndpoint>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        ConsoleCli::command().debug_assert();
    }

    #[test]
    fn no_flag_takes_a_password() {
        let cli = ConsoleCli::command();
        assert!(cli.get_arguments().all(|argument| !argument.get_id().as_str().contains("password")));
    }
}
