//! The command line. Only this module reads flags and the environment.

use std::{fmt, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use registry_check::flags::CheckFlags;

use crate::from_console::ConsoleUrl;

/// Lists, describes and validates OCI registries that are declared as SystemRegistry and TenantRegistry.
#[derive(Debug, Parser)]
#[command(name = "kubectl-registry", bin_name = "kubectl registry", version, about)]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct PluginCli {
    /// The command.
    #[command(subcommand)]
    pub command: PluginCommand,
    /// The cluster and the namespace.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 success (validate: every registry is usable); 1 failure (validate: a registry is not \
                          usable; describe: registry not found); 2 wrong usage, or the check was not possible.";

/// The cluster and the namespace.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Path of the kubeconfig file; default: KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: the current context.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace; default: that of the context.
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// User to impersonate in requests to the cluster.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to impersonate, with --as (repeatable).
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate")]
    pub impersonate_groups: Vec<String>,
    /// Namespace of the operator, with the Secrets and ConfigMaps of SystemRegistries.
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "registry-system")]
    pub system_namespace: String,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the registries that are available to a namespace's tenant, of both scopes.
    List(ListArgs),
    /// Check the registries in a manifest from this machine, as the operator does, before you apply it.
    Validate(Box<ValidateArgs>),
    /// Show the conditions, certificate, users and newest events of a registry.
    Describe(DescribeArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page in roff, for `man -l -`.
    Man {
        /// Command to print the page of; default: the whole program.
        command: Option<String>,
    },
    /// Completions in the form that kubectl asks plugins for.
    #[command(hide = true, name = "__complete")]
    Complete {
        /// The words so far, the unfinished one last.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
}

/// The arguments of `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// List every registry of the cluster.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Output format.
    #[arg(long, short, value_enum)]
    pub output: Option<TableFormat>,
    /// Don't print the header line.
    #[arg(long)]
    pub no_headers: bool,
}

/// The arguments of `describe`.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// NAME, systemregistry/NAME or tenantregistry/NAME. NAME alone is looked up as a SystemRegistry, or with -n as a
    /// TenantRegistry, and then in the other scope.
    #[arg(value_name = "NAME")]
    pub registry: String,
    /// Output format.
    #[arg(long, short, value_enum)]
    pub output: Option<ObjectFormat>,
}

/// A user name. `Debug` doesn't show it.
#[derive(Clone, Eq, PartialEq)]
pub struct UserName(pub String);

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName([REDACTED])")
    }
}

impl From<String> for UserName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

/// The arguments of `validate`.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// File with manifests, or - for standard input (repeatable). References use the Secrets and ConfigMaps in it.
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Read the password (or the token, for spec.auth.token) from standard input instead of a Secret.
    #[arg(long)]
    pub password_stdin: bool,
    /// User name for --password-stdin, or for the password that you are prompted for.
    #[arg(long, value_name = "NAME")]
    pub username: Option<UserName>,
    /// Don't contact the cluster: use only the files, and don't check the rules of the schema.
    #[arg(long)]
    pub offline: bool,
    /// Check in the cluster, by the web console at this URL, with its settings for registries and AWS.
    #[arg(long, value_name = "URL", value_parser = ConsoleUrl::parse, conflicts_with_all = ["offline", "impersonate"])]
    pub from: Option<ConsoleUrl>,
    /// PEM file with the CA of the console's certificate; default: those of this machine.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "from")]
    pub from_ca_file: Option<PathBuf>,
    /// File with the token for the console; default: that of the kubeconfig.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "from")]
    pub token_file: Option<PathBuf>,
    /// How to reach registries and AWS.
    #[command(flatten)]
    pub check: CheckFlags,
    /// Output format: json and yaml contain the conditions; name lists the usable registries.
    #[arg(long, short, value_enum)]
    pub output: Option<ObjectFormat>,
}

/// The output format for several objects.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TableFormat {
    /// A table with more columns.
    Wide,
    /// A List in JSON.
    Json,
    /// A List in YAML.
    Yaml,
    /// One resource/name per line.
    Name,
}

/// The output format for an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ObjectFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// resource/name.
    Name,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(words: &[&str]) -> Result<PluginCli, clap::Error> {
        PluginCli::try_parse_from(std::iter::once(&"kubectl-registry").chain(words))
    }

    #[test]
    fn debug_output_holds_no_user_name() {
        let cli = parse(&["validate", "-f", "x", "--username", "HUSH"]).unwrap();
        assert!(!format!("{cli:?}").contains("HUSH"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        PluginCli::command().debug_assert();
    }

    #[test]
    fn accepts_cluster_flags_on_either_side() {
        for words in [["-n", "team-a", "list"], ["list", "-n", "team-a"]] {
            assert_eq!(parse(&words).unwrap().cluster.namespace.as_deref(), Some("team-a"));
        }
        let cli = parse(&["describe", "packs", "--context", "prod", "--kubeconfig", "k"]).unwrap();
        assert_eq!(
            (cli.cluster.context.as_deref(), cli.cluster.kubeconfig),
            (Some("prod"), Some("k".into()))
        );
    }

    #[test]
    fn rejects_conflicting_arguments() {
        let kind = |words: &[&str]| parse(words).map(drop).unwrap_err().kind();
        assert_eq!(kind(&["list", "-A", "-n", "team-a"]), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["validate"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["validate", "-f", "x", "-o", "wide"]), ErrorKind::InvalidValue);
        assert_eq!(kind(&["remove"]), ErrorKind::InvalidSubcommand);
        let from = ["validate", "-f", "x", "--from", "https://r.example"];
        assert_eq!(kind(&[&from[..], &["--offline"]].concat()), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&[&from[..], &["--as", "ann"]].concat()), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["validate", "-f", "x", "--token-file", "t"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["validate", "-f", "x", "--from", "http://r.example"]), ErrorKind::ValueValidation);
    }

    #[test]
    fn no_flag_takes_a_password() {
        let cli = PluginCli::command();
        let validate = cli.find_subcommand("validate").unwrap();
        let takes_text: Vec<&str> = validate
            .get_arguments()
            .filter(|argument| argument.get_action().takes_values())
            .map(|argument| argument.get_id().as_str())
            .collect();
        assert!(
            takes_text.iter().all(|name| !name.contains("password") && !name.ends_with("token")),
            "{takes_text:?}"
        );
    }
}
