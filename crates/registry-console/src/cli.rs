//! The command line. The one place where flags are read.

use std::path::PathBuf;

use clap::{Parser, ValueHint};
use registry_check::flags::CheckFlags;

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
    /// How to reach registries and AWS.
    #[command(flatten)]
    pub check: CheckFlags,
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
