//! All that the demonstration runs, and what it says of it.

use registry_testbed::ConsoleProcess;
use registry_testbed::operator::Operator;
use registry_testbed::samples::{PASSWORD, USER};

use super::RunError;
use super::cluster::RunCluster;
use super::registries::RunRegistries;

/// The running programs.
pub(crate) struct Demo {
    /// The operator.
    pub(crate) operator: Operator,
    /// The web console.
    pub(crate) console: ConsoleProcess,
    /// The cluster.
    pub(crate) cluster: RunCluster,
    /// The registries.
    pub(crate) registries: RunRegistries,
}

impl Demo {
    /// Fails if the operator or the console has ended by itself.
    pub(crate) async fn is_running(&self) -> Result<(), RunError> {
        if let Some(status) = self.operator.exited().await? {
            return Err(RunError::OperatorEnded { status, log: self.operator.log() });
        }
        match self.console.exited().await? {
            Some(status) => Err(RunError::ConsoleEnded { status, log: self.console.log() }),
            None => Ok(()),
        }
    }

    /// Signs in to the console, and looks for these registries in its table; returns what to say of it.
    pub(crate) async fn check_console(&self, names: &[String]) -> Result<String, RunError> {
        let page = self.console.table().await?;
        match lacking(&page, names).as_slice() {
            [] => Ok(format!(
                "The web console answers: signed in by its link, all {} system registries are in its table.",
                names.len()
            )),
            lacking => Err(RunError::Table(lacking.join(", "))),
        }
    }

    /// What to do next.
    pub(crate) fn how_to_go_on(&self) -> String {
        format!(
            "\nOpen the web console in a browser. The link works once:\n\n  {console}\n\n\
             Choose Administration, Add New Pack Registry: Endpoint {endpoint}, Username {USER}, Password {PASSWORD}.\n\
             Choose Validate: the page says why the certificate isn't trusted. Upload {ca}, and validate again.\n\
             \nOr go on in another terminal:\n\n  \
               export KUBECONFIG={kubeconfig}\n  \
               kubectl get registries -A\n  \
               kubectl describe systemregistry packs\n  \
               kubectl patch secret -n team-b wrong-password-login -p '{{\"stringData\":{{\"password\":\"demo-password\"}}}}'\n\n\
             The operator's log: {log}; its metrics: {url}/metrics.\n\
             Changed verdicts are shown here. Ctrl-C ends everything.\n",
            console = self.console.url(),
            endpoint = self.registries.protected_host_port(),
            ca = self.registries.ca_file().display(),
            kubeconfig = self.cluster.kubeconfig().display(),
            log = self.operator.log_path().display(),
            url = self.operator.url(),
        )
    }
}

/// The names that aren't the text of any element.
fn lacking(page: &str, names: &[String]) -> Vec<String> {
    names.iter().filter(|name| !page.contains(&format!(">{name}<"))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_within_another_does_not_count() {
        let page = "<bdi>public-packages</bdi><bdi>packs</bdi>";
        let names = ["packs", "packages"].map(str::to_owned);
        assert_eq!(lacking(page, &names), ["packages"]);
    }
}
