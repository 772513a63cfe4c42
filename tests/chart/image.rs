//! Runs docs/image.md: the commands that publish, install and remove the images, in order, in a directory with image layouts
//! as `make image` leaves them. The layouts hold a placeholder for the program, which takes minutes to build; a registry on loopback
//! replaces registry.example.com. tests/node tests the real program on a node.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{
    RegistryAuth, RegistryOptions, TestRegistry,
    image::{self, Architecture, Effort, ImageDescription, ImageProgram, Written},
    in_repository,
    tools::{self, Tool},
};

use crate::programs::{TestCluster, finish, text_of};

const PAGE: &str = "docs/image.md";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const PASSWORD: &str = "right";

/// The commands of the page, block by block. Blocks that are not run here say why in their info string.
fn commands() -> Result<Vec<String>> {
    let page = text_of(PAGE)?;
    let blocks = page.split("\n```sh\n").skip(1).map(|rest| rest.split_once("\n```"));
    blocks.map(|block| Ok(block.context("a block without an end")?.0.to_owned())).collect()
}

fn stand_in(program: ImageProgram, layout: &Path) -> Result<Written> {
    let file = layout.join("../program");
    std::fs::create_dir_all(layout)?;
    std::fs::write(&file, format!("stands for {}", program.name()))?;
    let description = ImageDescription { version: VERSION.to_owned(), ..ImageDescription::default() };
    let images = [Architecture::Amd64, Architecture::Arm64]
        .map(|architecture| image::with_program(program, architecture, &file, &description));
    let images = images.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(image::write(layout, VERSION, &images, Effort::Least)?)
}

/// A user with the repository, the built image, and a registry.
struct Publisher {
    place: TestCluster,
    desk: tempfile::TempDir,
    registry: TestRegistry,
}

impl Publisher {
    async fn begins() -> Result<(Self, [Written; 2])> {
        let desk = tempfile::tempdir()?;
        std::os::unix::fs::symlink(in_repository("charts"), desk.path().join("charts"))?;
        let image = desk.path().join("target/image");
        let written = stand_in(ImageProgram::Operator, &image.join("oci"))?;
        let console = stand_in(ImageProgram::Console, &image.join("oci-console"))?;
        let auth = RegistryAuth::htpasswd("release", PASSWORD);
        let registry = TestRegistry::start(RegistryOptions { auth, ..Default::default() }).await?;
        Ok((Self { place: TestCluster::start().await?, desk, registry }, [written, console]))
    }

    async fn types(&self, text: &str) -> Result<String> {
        let text = text.replace("registry.example.com", &self.registry.host_port());
        let tools = tools::ensure(&[Tool::Crane, Tool::Helm, Tool::Kubectl]).await?;
        let programs = [Tool::Crane, Tool::Helm, Tool::Kubectl].map(|tool| tools.get(tool).parent());
        let here = [Some(Path::new("/usr/bin")), Some(Path::new("/bin"))];
        let path = std::env::join_paths(programs.into_iter().chain(here).flatten())?;
        let mut shell = Command::new("bash");
        shell.args(["-eu", "-o", "pipefail", "-c", &text]).current_dir(self.desk.path());
        shell.env_clear().env("PATH", path).env("PASSWORD", PASSWORD).env("HOME", self.desk.path());
        shell.env("KUBECONFIG", self.place.control_plane.admin_kubeconfig());
        finish(shell, text, String::new()).await?.ok()
    }

    async fn installed(&self, deployment: &str) -> Result<String> {
        let deployment = format!("deployment/{deployment}");
        self.place.field(&deployment, ".spec.template.spec.containers[0].image").await
    }
}

#[tokio::test]
async fn publishes_and_installs_image_by_digest() -> Result<()> {
    let (publisher, [written, console]) = Publisher::begins().await?;
    let commands = commands()?;
    let removal = commands.iter().position(|text| text.contains("helm uninstall"));
    let (publish_and_install, remove) = commands.split_at(removal.context("it says how to remove it")?);
    ensure!(publish_and_install.len() >= 2, "{publish_and_install:?}");
    let mut said = String::new();
    for text in publish_and_install {
        said += &publisher.types(text).await?;
    }
    let digests = [("registry-operator", &written.digest), ("registry-console", &console.digest)];
    for (deployment, digest) in digests {
        let image = publisher.installed(deployment).await?;
        let expected = format!("{}/{deployment}:{VERSION}@{digest}", publisher.registry.host_port());
        ensure!(said.contains(digest) && image == expected, "{image}, not {expected}: {said}");
    }

    for text in remove {
        publisher.types(text).await?;
    }
    let left = publisher.types("kubectl get deployments,customresourcedefinitions -A --output name").await?;
    ensure!(!left.contains("deployment"), "{left}");
    ensure!(left.contains("systemregistries.registry.spectrocloud.com"), "kept with the registries: {left}");
    Ok(())
}
