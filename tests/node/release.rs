//! The chart's release, by helm.

use std::process::Stdio;

use anyhow::{Result, ensure};
use registry_testbed::{node::Node, tools::Tool};
use serde_json::Value;
use tokio::process::Command;

pub const NAMESPACE: &str = "registry-system";
const NAME: &str = "registry-operator";

/// The release on this node.
pub struct Release<'a> {
    pub node: &'a Node,
}

impl Release<'_> {
    /// `helm install`, as the README has it, and waits until all is ready. The operator gets further variables, the chart further values.
    pub async fn install(&self, repository: &str, variables: &Value, more: &str) -> Result<()> {
        let (image, variables) = (format!("image.repository={repository}"), format!("extraEnv={variables}"));
        let values = ["--set", &image, "--set-json", &variables, "--set", more];
        self.helm(&[&["install", NAME, &chart(), "--wait", "--timeout=3m"][..], &values].concat()).await
    }

    /// `helm test`: the chart's own Pod asks the operator through its Service.
    pub async fn test(&self) -> Result<()> {
        self.helm(&["test", NAME, "--logs", "--timeout=2m"]).await
    }

    /// `helm upgrade` to another tag, with what was set before.
    pub async fn upgrade(&self, tag: &str) -> Result<()> {
        let tag = format!("image.tag={tag}");
        self.helm(&["upgrade", NAME, &chart(), "--wait", "--timeout=3m", "--reuse-values", "--set", &tag])
            .await
    }

    pub async fn roll_back(&self) -> Result<()> {
        self.helm(&["rollback", NAME, "--wait", "--timeout=3m"]).await
    }

    pub async fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", NAME, "--wait", "--timeout=2m"]).await
    }

    async fn helm(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(self.node.tool(Tool::Helm));
        command
            .args(args)
            .args(["--namespace", NAMESPACE])
            .env("KUBECONFIG", self.node.control_plane().admin_kubeconfig())
            // Neither reads nor leaves anything at home.
            .env("HOME", self.node.directory())
            .stdin(Stdio::null());
        let output = command.output().await?;
        let print_step = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "helm {}: {print_step}", args.join(" "));
        Ok(())
    }
}

fn chart() -> String {
    registry_testbed::tools::repository().join("charts/registry-operator").display().to_string()
}
