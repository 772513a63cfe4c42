//! A real one-node cluster without a container engine: the control plane of this crate, and with it scheduler, kubelet,
//! kube-proxy, containerd and runc, in namespaces of their own.
//!
//! From outside, [`enclose`] runs a program as PID 1 of new mount, network, PID, UTS, IPC and cgroup namespaces; in there,
//! [`Node::start`] makes the node. The machine's own network, `/var`, `/run` and sysctls are not touched, nothing can
//! leave the namespace's network, and everything ends with PID 1. Needs root on Linux, `ip`, `unshare` and a C compiler.
//!
//! Its DNS knows Services only; there is no storage and no enforcement of network policies: what the operator and the chart do
//! not need.

mod enclosure;
mod guard;
mod names;
mod plan;
mod programs;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::core::v1::Node as Object;
use kube::api::Api;

pub use self::enclosure::enclose;
use self::guard::OverlayGuard;
use self::plan::NodePlan;
use self::programs::Programs;
pub use self::programs::pause_image;
use crate::component::{Component, ComponentError};
use crate::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
use crate::debian;
use crate::eventually::{NotYet, eventually};
use crate::image::{self, ImageError};
use crate::name_server::NameServer;
use crate::registry::{RegistryError, RegistryOptions, TestRegistry};
use crate::tools::{self, Tool, ToolPaths, ToolsError};

/// The node's name.
pub const NAME: &str = "node0";
/// The node's address, which the API server has too.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// A second address of the node, for what is not to be taken for the API server.
pub const SECOND_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

const SETUP: &str = include_str!("node/setup.sh");
const PAUSE: &str = "testbed/pause:1";

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A node cannot run on this machine.
    #[error("a node can't run here: {0}")]
    Impossible(String),
    /// Not within [`enclose`].
    #[error("a node is started by PID 1 of namespaces of its own; run this within `enclose`")]
    Outside,
    /// The namespaces can't be made.
    #[error("cannot make the node's namespaces: {0}")]
    Namespaces(std::io::Error),
    /// A cgroup can't be made.
    #[error("cannot make the node's cgroup {path}: {source}", path = path.display())]
    Cgroup {
        /// The cgroup's directory.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Cgroups are still there after the node has ended.
    #[error("the node has ended, and cgroups of it are left: {0:?}")]
    CgroupsLeft(Vec<PathBuf>),
    /// The node's directory can't be used.
    #[error("cannot use the node's directory: {0}")]
    Directory(std::io::Error),
    /// There can be no name server.
    #[error("cannot serve the names of Services: {0}")]
    Names(std::io::Error),
    /// runc or nft is missing.
    #[error("runc and nft are not installed, and Debian's packages can't be had: {0}")]
    Packages(String),
    /// pause can't be compiled.
    #[error("cannot make the image of `pause`: {0}")]
    Pause(String),
    /// Namespaces can't be furnished.
    #[error("cannot set up the node's namespaces: {0}")]
    Setup(String),
    /// An image can't be pushed.
    #[error("cannot push {image}: {reason}")]
    Push {
        /// The image.
        image: String,
        /// What crane says.
        reason: String,
    },
    /// An image can't be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// The control plane does not come up.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// A server of the node does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The registry with the node's images does not come up.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The node does not become Ready.
    #[error("{source}. The end of kubelet's log:\n{log}")]
    NotReady {
        /// What was waited for.
        source: NotYet,
        /// The end of kubelet's log.
        log: String,
    },
}

/// Why no node can run on this machine, if so. Does not look for the programs that can be built or downloaded.
pub fn obstacle() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some(String::from("it needs root"));
    }
    let missing: Vec<&str> = ["unshare", "ip", "mount", "cc", "go"]
        .into_iter()
        .filter(|name| debian::on_path(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Some(format!("not on PATH: {}", missing.join(", ")));
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.ends_with("\toverlay")) {
        return Some(String::from("the kernel has no overlay filesystem"));
    }
    let namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--mount-proc"];
    let veth = ["ip", "link", "add", "node0", "type", "veth", "peer", "name", "uplink"];
    debian::run(Command::new("unshare").args(namespaces).arg("--").args(veth)).err()
}

/// Builds and downloads what a node needs. To be called outside: in there is no network.
pub async fn prepare() -> Result<(), NodeError> {
    if let Some(obstacle) = obstacle() {
        return Err(NodeError::Impossible(obstacle));
    }
    tools::ensure(&Tool::ALL).await?;
    tools::ensure(&Tool::NODE).await?;
    Programs::find()?;
    pause_image()?;
    Ok(())
}

/// Whether this is PID 1 of a node's namespaces, and so may start it.
pub fn is_inside() -> bool {
    std::process::id() == 1 && directory().is_some()
}

#[expect(clippy::disallowed_methods, reason = "how the outside tells the inside where it is")]
fn directory() -> Option<PathBuf> {
    std::env::var_os(enclosure::DIRECTORY).map(PathBuf::from)
}

/// A running cluster of one node. It ends with this program.
#[derive(Debug)]
pub struct Node {
    // In the order in which they can go.
    kubelet: Component,
    proxy: Component,
    scheduler: Component,
    containerd: Component,
    images: TestRegistry,
    _names: NameServer,
    control_plane: ControlPlane,
    tools: ToolPaths,
    directory: PathBuf,
}

impl Node {
    /// Starts the cluster and waits until its node is Ready.
    pub async fn start() -> Result<Self, NodeError> {
        let directory = directory().filter(|_| is_inside()).ok_or(NodeError::Outside)?;
        let setup = ["-c", SETUP, "setup"];
        debian::run(Command::new("/bin/sh").args(setup).arg(directory.join("var")))
            .map_err(NodeError::Setup)?;
        let tools = tools::ensure(&[&Tool::ALL[..], &Tool::NODE[..]].concat()).await?;
        let options = ControlPlaneOptions {
            controller_manager: true,
            node_address: Some(ADDRESS),
            ..ControlPlaneOptions::default()
        };
        let control_plane = ControlPlane::start(options).await?;
        let names = names::serve(ADDRESS, control_plane.client().await?).await.map_err(NodeError::Names)?;
        let images = TestRegistry::start(RegistryOptions::default()).await?;
        let plan =
            NodePlan { tools: &tools, programs: &Programs::find()?, directory: &directory, images: &images };
        plan.write_files(&control_plane).map_err(NodeError::Directory)?;
        let node = Self {
            kubelet: plan.kubelet(&control_plane)?,
            proxy: plan.proxy(),
            scheduler: plan.scheduler(&control_plane)?,
            containerd: plan.containerd(),
            images,
            _names: names,
            control_plane,
            tools,
            directory,
        };
        node.launch().await?;
        Ok(node)
    }

    async fn launch(&self) -> Result<(), NodeError> {
        let pause = self.directory.join("pause");
        image::write(&pause, "1", &[pause_image()?], image::Effort::Least)?;
        self.push(&pause, PAUSE)?;
        self.containerd.start().await?;
        self.scheduler.start().await?;
        // kubelet sets some sysctls that are the whole machine's.
        let guard = OverlayGuard::set(&self.directory).map_err(NodeError::Setup)?;
        self.kubelet.start().await?;
        let ready = self.wait_ready().await;
        guard.lift().map_err(NodeError::Setup)?;
        ready?;
        // It waits for the node's object for half a minute, and then goes on without.
        self.proxy.start().await?;
        Ok(())
    }

    async fn wait_ready(&self) -> Result<(), NodeError> {
        let nodes: Api<Object> = Api::all(self.client().await?);
        let ready = eventually("the node is Ready", || async {
            let node = nodes.get(NAME).await.map_err(|error| error.to_string())?;
            readiness(&node)
        });
        ready.await.map_err(|source| NodeError::NotReady { source, log: tail(&self.kubelet.log()) })
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// A cluster administrator's client. It belongs to the async runtime that it is made in.
    pub async fn client(&self) -> Result<kube::Client, NodeError> {
        Ok(self.control_plane.client().await?)
    }

    /// A built program of the control plane or the node.
    pub fn tool(&self, tool: Tool) -> &Path {
        self.tools.get(tool)
    }

    /// The node's directory; it goes with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Pushes an image layout to the registry that the node pulls every image from, whatever registry its name says:
    /// `name` is the repository and the tag.
    pub fn push(&self, layout: &Path, name: &str) -> Result<(), NodeError> {
        let reference = format!("{}/{name}", self.images.host_port());
        let push = debian::run(Command::new(self.tool(Tool::Crane)).arg("push").arg(layout).arg(reference));
        push.map(drop).map_err(|reason| NodeError::Push { image: name.to_owned(), reason })
    }

    /// From now on, images whose names begin with this `host:port` are pulled from there, over TLS by this authority, with what the Pod
    /// has to show; not from the node's own registry.
    pub fn pull_from(&self, registry: &str, ca_pem: &str) -> Result<(), NodeError> {
        let directory = self.directory.join("registries").join(registry);
        let ca = directory.join("ca.crt");
        let hosts = format!("server = \"https://{registry}\"\nca = \"{}\"\n", ca.display());
        // Read again for every pull.
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&ca, ca_pem))
            .and_then(|()| std::fs::write(directory.join("hosts.toml"), hosts))
            .map_err(NodeError::Directory)
    }

    /// The host and port of the registry that every image is pulled from.
    pub fn images(&self) -> String {
        self.images.host_port()
    }

    /// Ends kubelet, containerd and the others. What is left goes with the program.
    pub async fn stop(&self) -> Result<(), NodeError> {
        for component in [&self.kubelet, &self.proxy, &self.scheduler, &self.containerd] {
            component.stop().await?;
        }
        Ok(())
    }
}

fn readiness(node: &Object) -> Result<(), String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => Err(condition.message.clone().unwrap_or_default()),
        None => Err(String::from("it says nothing of itself")),
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
