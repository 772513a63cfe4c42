//! The command line. The one place where flags and the environment are read.

use std::{fmt, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use registry_probe::TrustedService;
use registry_verdict::outbound::{AwsEndpoint, OutboundSettings, aws_endpoint};

/// Lists, describes and validates OCI registries that are declared as SystemRegistry and TenantRegistry.
#[derive(Debug, Parser)]
#[command(name = "kubectl-registry", bin_name = "kubectl registry", version, about)]
#[command(after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which cluster, and where in it.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

const EXIT_CODES: &str = "Exit codes: 0 done (validate: every registry is usable); 1 no (validate: a registry is not \
                          usable; describe: there is no such registry); 2 wrong usage, or it could not be checked.";

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// The kubeconfig file. Left out: KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Left out: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace. Left out: that of the context.
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Ask the cluster as this user; who may do so may see what others see.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Ask the cluster as a member of this group, with --as (repeatable).
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonate")]
    pub impersonate_groups: Vec<String>,
    /// The namespace in which the operator runs; a SystemRegistry's Secrets and ConfigMaps are there.
    #[arg(long, global = true, value_name = "NAMESPACE", default_value = "registry-system")]
    pub system_namespace: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the registries that a namespace's tenant has available, of both scopes.
    List(ListArgs),
    /// Check the registries of a manifest from here, as the operator would, before anything is applied.
    Validate(Box<ValidateArgs>),
    /// Show one registry: its layers, its certificate, who can use it, its newest events.
    Describe(DescribeArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page in roff, for `man -l -`.
    Man {
        /// Of this command; left out: of the whole.
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

/// What `list` takes.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Every registry of the cluster, whoever has it available.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// How the registries are printed.
    #[arg(long, short, value_enum)]
    pub output: Option<TableFormat>,
    /// Without the line of headers.
    #[arg(long)]
    pub no_headers: bool,
}

/// What `describe` takes.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// NAME, systemregistry/NAME or tenantregistry/NAME. A mere name is a SystemRegistry's, or with -n a
    /// TenantRegistry's; then the other scope is looked into.
    #[arg(value_name = "NAME")]
    pub registry: String,
    /// How the registry is printed.
    #[arg(long, short, value_enum)]
    pub output: Option<ObjectFormat>,
}

/// A user's name. Not shown by `Debug`.
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

/// What `validate` takes.
#[derive(Args, Debug)]
pub struct ValidateArgs {
    /// A file of manifests, or - for standard input (repeatable). Secrets and ConfigMaps in it are used for references.
    #[arg(long = "filename", short = 'f', required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Read the password (or the token, for spec.auth.token) from standard input, instead of from a Secret.
    #[arg(long)]
    pub password_stdin: bool,
    /// The user name that goes with --password-stdin, or with the password that is asked for.
    #[arg(long, value_name = "NAME")]
    pub username: Option<UserName>,
    /// Ask no cluster: only what is in the files is used, and the rules of the schema are not checked.
    #[arg(long)]
    pub offline: bool,
    /// A token service on another host that credentials may be sent to, as the operator's flag (repeatable or
    /// comma-separated).
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub trusted_token_service: Vec<TrustedService>,
    /// How registries are reached from here: the operator's flags.
    #[command(flatten)]
    pub outbound: OutboundSettings,
    /// Where AWS's ECR API is asked for tokens, if not where the registry's region says.
    #[arg(long, env = "AWS_ENDPOINT_URL_ECR", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_ecr: Option<AwsEndpoint>,
    /// The same for AWS's STS API.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_sts: Option<AwsEndpoint>,
    /// The AWS region in which your own AWS identity assumes roles.
    #[arg(long, env = "AWS_REGION", value_name = "REGION", hide_env_values = true)]
    pub aws_region: Option<String>,
    /// How the verdicts are printed: json and yaml have the conditions, name has the registries that are usable.
    #[arg(long, short, value_enum)]
    pub output: Option<ObjectFormat>,
}

/// How several objects are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TableFormat {
    /// A table with more columns.
    Wide,
    /// A List, as JSON.
    Json,
    /// A List, as YAML.
    Yaml,
    /// One resource/name a line.
    Name,
}

/// How an object is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ObjectFormat {
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
    /// As resource/name.
    Name,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"kubectl-registry").chain(words))
    }

    #[test]
    fn debug_output_holds_no_user_name() {
        let cli = parse(&["validate", "-f", "x", "--username", "HUSH"]).unwrap();
        assert!(!format!("{cli:?}").contains("HUSH"));
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_flags_of_the_cluster_stand_before_or_behind_the_command() {
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
    fn what_makes_no_sense_together_is_refused() {
        let kind = |words: &[&str]| parse(words).map(drop).unwrap_err().kind();
        assert_eq!(kind(&["list", "-A", "-n", "team-a"]), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["validate"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["validate", "-f", "x", "-o", "wide"]), ErrorKind::InvalidValue);
        assert_eq!(kind(&["remove"]), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn no_flag_takes_a_password() {
        let cli = Cli::command();
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
