//! The command lines and configuration files of the node's servers.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::names::DOMAIN;
use super::programs::Programs;
use super::{ADDRESS, NAME, NodeError, PAUSE};
use crate::component::{Component, Readiness};
use crate::control_plane::ControlPlane;
use crate::process::ProcessSpec;
use crate::registry::TestRegistry;
use crate::tools::{Tool, ToolPaths};

const READY: Duration = Duration::from_secs(90);
const GRACE: Duration = Duration::from_secs(10);
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Where the Pods' addresses are from.
const PODS: &str = "10.244.0.0/24";

/// What the servers' command lines are made of.
pub(super) struct NodePlan<'a> {
    pub(super) tools: &'a ToolPaths,
    pub(super) programs: &'a Programs,
    pub(super) directory: &'a Path,
    pub(super) images: &'a TestRegistry,
}

impl NodePlan<'_> {
    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) -> Result<(), std::io::Error> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(self.directory))?;
        std::fs::write(path, content)
    }

    fn spec(&self, tool: Tool) -> ProcessSpec {
        ProcessSpec::new(tool.name(), self.tools.get(tool), self.file(&format!("{}.log", tool.name())))
    }

    pub(super) fn write_files(&self, control_plane: &ControlPlane) -> Result<(), std::io::Error> {
        self.write("ca.crt", control_plane.ca().certificate_pem())?;
        // Who answers there knows Services; no other name is found, and none leaves the node.
        self.write("resolv.conf", &format!("nameserver {ADDRESS}\n"))?;
        self.write("containerd.toml", &self.containerd_configuration())?;
        let mirror = format!("[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", self.images.url());
        self.write("registries/_default/hosts.toml", &mirror)?;
        self.write("cni/10-bridge.conflist", &self.network().to_string())?;
        self.write("kubelet.yaml", &self.kubelet_configuration().to_string())?;
        let kubeconfig = |user, group: &[&str]| {
            control_plane.kubeconfig_for_user(user, group).map_err(std::io::Error::other)
        };
        let proxy = kubeconfig("system:kube-proxy", &[])?;
        self.write("kube-proxy.yaml", &proxy_configuration(&proxy).to_string())
    }

    /// The settings that are not the default's have each a reason; see docs/decisions on the node.
    fn containerd_configuration(&self) -> String {
        let bin = self.tools.get(Tool::Bridge).parent().unwrap_or(self.directory).display();
        format!(
            r#"version = 3
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{CONTAINERD}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.example/{PAUSE}"

[plugins."io.containerd.cri.v1.images".registry]
  # Every name of a registry is served by the node's own.
  config_path = "{registries}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without the capability CAP_SYS_RESOURCE it can't be lowered, and no Pod would start.
  restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{bin}"]
  conf_dir = "{cni}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  SystemdCgroup = false
"#,
            root = self.file("containerd"),
            opt = self.file("opt"),
            registries = self.file("registries"),
            cni = self.file("cni"),
            runc = self.programs.runc.display(),
        )
    }

    fn network(&self) -> Value {
        let ipam = json!({
            "type": "host-local",
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": self.file("addresses"),
        });
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "ipam": ipam,
        });
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]})
    }

    fn kubelet_configuration(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": self.file("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
            "cgroupDriver": "cgroupfs",
            // Version 1 is all that some machines have.
            "failCgroupV1": false,
            "failSwapOn": false,
            "resolvConf": self.file("resolv.conf"),
            "clusterDNS": [ADDRESS],
            "clusterDomain": DOMAIN,
            "podLogsDir": self.file("pods"),
            "volumePluginDir": self.file("volume-plugins"),
            // A disk that others fill must not evict Pods.
            "evictionHard": {
                "memory.available": "10Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
            },
            "imageGCHighThresholdPercent": 100,
        })
    }

    pub(super) fn containerd(&self) -> Component {
        let bin = self.tools.get(Tool::Containerd).parent().unwrap_or(self.directory).display();
        let spec = self
            .spec(Tool::Containerd)
            .arg(format!("--config={}", self.file("containerd.toml")))
            // Where it looks for its shim, and the shim for itself.
            .env("PATH", format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
        Component::new(spec, Readiness::socket(CONTAINERD, READY), GRACE)
    }

    pub(super) fn kubelet(&self, control_plane: &ControlPlane) -> Result<Component, NodeError> {
        let kubeconfig =
            control_plane.kubeconfig_for_user(&format!("system:node:{NAME}"), &["system:nodes"])?;
        let spec = self.spec(Tool::Kubelet).args([
            format!("--config={}", self.file("kubelet.yaml")),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--root-dir={}", self.file("kubelet")),
            format!("--cert-dir={}", self.file("kubelet-certificates")),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={ADDRESS}"),
        ]);
        Ok(Component::new(spec, Readiness::http("http://127.0.0.1:10248/healthz".into(), READY), GRACE))
    }

    pub(super) fn scheduler(&self, control_plane: &ControlPlane) -> Result<Component, NodeError> {
        let kubeconfig =
            control_plane.kubeconfig_for_user("system:kube-scheduler", &[])?.display().to_string();
        let spec = self.spec(Tool::KubeScheduler).args([
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--cert-dir={}", self.file("scheduler-certificates")),
            String::from("--leader-elect=false"),
            String::from("--bind-address=127.0.0.1"),
        ]);
        Ok(Component::new(spec, Readiness::tcp(10259, READY), GRACE))
    }

    pub(super) fn proxy(&self) -> Component {
        let mut spec = self.spec(Tool::KubeProxy).args([
            format!("--config={}", self.file("kube-proxy.yaml")),
            format!("--hostname-override={NAME}"),
        ]);
        for (name, value) in &self.programs.nft_env {
            spec = spec.env(name, value);
        }
        Component::new(spec, Readiness::tcp(10249, READY), GRACE)
    }
}

fn proxy_configuration(kubeconfig: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": PODS,
        "clientConnection": {"kubeconfig": kubeconfig},
        "metricsBindAddress": "127.0.0.1:10249",
        // Not to be written from a network namespace of one's own.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
