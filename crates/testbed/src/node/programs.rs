//! The programs of a node that are not built from Go modules: this machine's own, else Debian's, and the C compiler's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::NodeError;
use crate::debian;
use crate::image::{Architecture, Image, ImageLayer, LayerEntry};
use crate::tools::repository;

/// runc and nft, with the libraries that they need and few machines have.
const PACKAGES: [&str; 4] = ["runc", "nftables", "libnftables1", "libnftnl11"];

/// Where runc and nft are.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) runc: PathBuf,
    /// For kube-proxy: `PATH` and `LD_LIBRARY_PATH`.
    pub(super) nft_env: Vec<(OsString, OsString)>,
}

impl Programs {
    /// Finds them, downloading Debian's if they are not installed.
    pub(super) fn find() -> Result<Self, NodeError> {
        if let (Some(runc), Some(_)) = (debian::on_path("runc"), debian::on_path("nft")) {
            return Ok(Self { runc, nft_env: Vec::new() });
        }
        let root = debian::unpacked("node", &PACKAGES).map_err(NodeError::Packages)?;
        let library = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", root.join("usr/sbin").display());
        Ok(Self {
            runc: root.join("usr/sbin/runc"),
            nft_env: vec![("PATH".into(), path.into()), ("LD_LIBRARY_PATH".into(), library.into())],
        })
    }
}

/// The image of what holds a Pod's namespaces: upstream's `pause.c`, from the Kubernetes module, compiled.
pub fn pause_image() -> Result<Image, NodeError> {
    let program = pause()?;
    let program = std::fs::read(&program).map_err(NodeError::Directory)?;
    let architecture = Architecture::of_this_machine()
        .ok_or_else(|| NodeError::Pause(format!("there are no images for {}", std::env::consts::ARCH)))?;
    let layer = ImageLayer {
        created_by: String::from("pause.c"),
        entries: vec![LayerEntry::program("pause", program)],
    };
    Ok(Image {
        architecture,
        layers: vec![layer],
        user: String::from("65535:65535"),
        entrypoint: vec![String::from("/pause")],
        ports: Vec::new(),
        labels: std::collections::BTreeMap::default(),
        created: None,
    })
}

fn pause() -> Result<PathBuf, NodeError> {
    let module = debian::run(
        Command::new("go")
            .args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])
            .env("GOWORK", "off")
            .current_dir(repository().join("tests/tools/kube-node")),
    );
    let module = module.map_err(NodeError::Pause)?;
    let module = Path::new(module.trim());
    let version = module.file_name().unwrap_or_default().to_string_lossy().replace('@', "-");
    let program = repository().join("target/tools").join(format!("pause-{version}"));
    if !program.is_file() {
        let fresh = program.with_file_name(format!(".pause-{}.new", std::process::id()));
        let source = module.join("build/pause/linux/pause.c");
        debian::run(
            Command::new("cc").args(["-Os", "-static", "-DVERSION=testbed", "-o"]).arg(&fresh).arg(source),
        )
        .map_err(NodeError::Pause)?;
        std::fs::rename(&fresh, &program).map_err(NodeError::Directory)?;
    }
    Ok(program)
}
