//! The command lines of the control plane's servers, and the files that they name.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{ControlPlaneError, ControlPlaneOptions};
use crate::audit;
use crate::component::{Component, Readiness};
use crate::kubeconfig::{self, Proof};
use crate::pki::{self, Leaf, LeafOptions, TestCa};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};
use crate::tools::{Tool, ToolPaths};

/// How long a server may take to be ready, on a machine that is busy with other tests.
const READY: Duration = Duration::from_mins(5);
/// How long a server may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// By how many percent a server's heap may grow until Go collects garbage; 100 without this.
const GARBAGE: &str = "400";

/// The controllers that every cluster needs, without those for Pods.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
     serviceaccount-token-controller,root-ca-certificate-publisher-controller,clusterrole-aggregation-controller,\
     validatingadmissionpolicy-status-controller";

/// The Service `kubernetes`, where there are nodes.
const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The servers' ports, theirs while the control plane lives.
#[derive(Debug)]
pub(super) struct Ports {
    etcd: Port,
    etcd_peer: Port,
    pub(super) api_servers: Vec<Port>,
    controller_manager: Port,
}

impl Ports {
    pub(super) fn reserve(api_servers: usize) -> Result<Self, PortError> {
        Ok(Self {
            etcd: Port::reserve()?,
            etcd_peer: Port::reserve()?,
            api_servers: (0..api_servers).map(|_| Port::reserve()).collect::<Result<_, _>>()?,
            controller_manager: Port::reserve()?,
        })
    }

    pub(super) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd.number())
    }

    pub(super) fn api_server_url(&self, index: usize) -> String {
        format!("https://127.0.0.1:{}", self.api_servers[index].number())
    }
}

/// Where an API server writes its audit log.
pub(super) fn audit_file(scratch: &Scratch, index: usize) -> PathBuf {
    scratch.path().join(format!("audit-{index}.log"))
}

/// What the servers' command lines are made of.
pub(super) struct ControlPlanePlan<'a> {
    pub(super) options: &'a ControlPlaneOptions,
    pub(super) tools: &'a ToolPaths,
    pub(super) scratch: &'a Scratch,
    pub(super) ca: &'a TestCa,
    pub(super) ports: &'a Ports,
}

impl ControlPlanePlan<'_> {
    pub(super) fn write_shared_files(&self) -> Result<(), ControlPlaneError> {
        self.scratch.write("ca.crt", self.ca.certificate_pem())?;
        let (private, public) = pki::token_key()?;
        self.scratch.write("tokens.key", private)?;
        self.scratch.write("tokens.pub", public)?;
        self.scratch.write("audit-policy.yaml", audit::POLICY)?;
        let mut names = LeafOptions::server("kube-apiserver")
            .dns_name("kubernetes")
            .dns_name("kubernetes.default")
            .dns_name("kubernetes.default.svc");
        if let Some(address) = self.options.node_address {
            names.ips.extend([IpAddr::from(address), IpAddr::from(KUBERNETES)]);
            let kubelets = LeafOptions::client("kube-apiserver-kubelet-client", ["system:masters"]);
            self.write_leaf("kubelet-client", &self.ca.issue(&kubelets)?)?;
        }
        self.write_leaf("server", &self.ca.issue(&names)?)
    }

    fn write_leaf(&self, name: &str, leaf: &Leaf) -> Result<(), ControlPlaneError> {
        self.scratch.write(&format!("{name}.crt"), leaf.certificate_pem())?;
        self.scratch.write(&format!("{name}.key"), leaf.key_pem())?;
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn spec(&self, name: &str, tool: Tool) -> ProcessSpec {
        ProcessSpec::new(name, self.tools.get(tool), self.file(&format!("{name}.log")))
            .env("HOME", self.scratch.path().as_os_str())
            // Tests start many servers, each for a short time: less work for the garbage collector is worth the memory.
            .env("GOGC", GARBAGE)
    }

    pub(super) fn etcd(&self) -> Component {
        let url = self.ports.etcd_url();
        let peer_url = format!("http://127.0.0.1:{}", self.ports.etcd_peer.number());
        let spec = self.spec("etcd", Tool::Etcd).args([
            format!("--data-dir={}", self.file("etcd")),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            String::from("--unsafe-no-fsync"),
            String::from("--log-level=warn"),
        ]);
        Component::new(spec, Readiness::http(format!("{url}/health"), READY), GRACE)
    }

    pub(super) fn api_server(&self, index: usize) -> Component {
        let name =
            if index == 0 { String::from("kube-apiserver") } else { format!("kube-apiserver-{index}") };
        let mut spec = self.spec(&name, self.options.kubernetes.api_server()).args([
            format!("--etcd-servers={}", self.ports.etcd_url()),
            String::from("--bind-address=127.0.0.1"),
            String::from("--advertise-address=127.0.0.1"),
            // Loopback can't be an endpoint of the Service `kubernetes`, which is not used here.
            String::from("--endpoint-reconciler-type=none"),
            format!("--secure-port={}", self.ports.api_servers[index].number()),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            format!("--client-ca-file={}", self.file("ca.crt")),
            String::from("--authorization-mode=RBAC"),
            String::from("--service-account-issuer=https://kubernetes.default.svc"),
            format!("--service-account-key-file={}", self.file("tokens.pub")),
            format!("--service-account-signing-key-file={}", self.file("tokens.key")),
            String::from("--service-cluster-ip-range=10.0.0.0/24"),
        ]);
        if self.options.audit {
            spec = spec.args([
                format!("--audit-policy-file={}", self.file("audit-policy.yaml")),
                format!("--audit-log-path={}", audit_file(self.scratch, index).display()),
                // One file, however long the test.
                String::from("--audit-log-maxsize=100000"),
            ]);
        }
        if let Some(address) = self.options.node_address {
            spec = spec.args(self.for_a_node(address));
        }
        let spec = spec.args(self.options.api_server_flags.iter().cloned());
        let url = format!("{}/readyz", self.ports.api_server_url(index));
        Component::new(spec, Readiness::https(url, self.ca.certificate_pem(), READY), GRACE)
    }

    /// Of flags that are given twice, the API server takes the last, save for lists, which grow.
    fn for_a_node(&self, address: Ipv4Addr) -> [String; 9] {
        [
            String::from("--bind-address=0.0.0.0"),
            // Pods reach the Service `kubernetes`, which is this address.
            format!("--advertise-address={address}"),
            String::from("--endpoint-reconciler-type=lease"),
            String::from("--service-cluster-ip-range=10.96.0.0/16"),
            String::from("--authorization-mode=Node"),
            String::from("--enable-admission-plugins=NodeRestriction"),
            // For logs. The node's name can't be resolved.
            String::from("--kubelet-preferred-address-types=InternalIP"),
            format!("--kubelet-client-certificate={}", self.file("kubelet-client.crt")),
            format!("--kubelet-client-key={}", self.file("kubelet-client.key")),
        ]
    }

    pub(super) fn controller_manager(&self) -> Result<Component, ControlPlaneError> {
        let user = "system:kube-controller-manager";
        let leaf = self.ca.issue(&LeafOptions::client(user, Vec::<String>::new()))?;
        let server = self.ports.api_server_url(0);
        let config = kubeconfig::render(&server, self.ca.certificate_pem(), user, Proof::Certificate(&leaf));
        self.scratch.write("controller-manager.kubeconfig", config)?;
        let port = self.ports.controller_manager.number();
        let controllers = if self.options.node_address.is_some() { "*" } else { CONTROLLERS };
        let spec = self.spec("kube-controller-manager", Tool::KubeControllerManager).args([
            format!("--kubeconfig={}", self.file("controller-manager.kubeconfig")),
            format!("--service-account-private-key-file={}", self.file("tokens.key")),
            format!("--root-ca-file={}", self.file("ca.crt")),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            String::from("--use-service-account-credentials=true"),
            String::from("--leader-elect=false"),
            String::from("--bind-address=127.0.0.1"),
            format!("--secure-port={port}"),
            format!("--controllers={controllers}"),
        ]);
        let url = format!("https://127.0.0.1:{port}/healthz");
        Ok(Component::new(spec, Readiness::https(url, self.ca.certificate_pem(), READY), GRACE))
    }
}
