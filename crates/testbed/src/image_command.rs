//! `testbed image`, which is `make image`: the operator's image as an OCI layout, without a container engine.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use registry_testbed::debian;
use registry_testbed::image::program::{self, Profile, ProgramError};
use registry_testbed::image::{self, Architecture, Image, ImageDescription, ImageError};
use registry_testbed::tools::repository;

use crate::print_line;

const MEBIBYTE: u64 = 1024 * 1024;
/// What the program is to have at most when it is released, and what is pulled.
const LARGEST_PROGRAM: u64 = 15 * MEBIBYTE;
const LARGEST_IMAGE: u64 = 20 * MEBIBYTE;

/// Builds the operator's static program and writes its image as an OCI layout, without a container engine.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArguments {
    /// For which architectures; both when none is named.
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Vec<Architecture>,
    /// How the program is optimised.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// The image's tag in the layout.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Where the layout is written, in place of what is there.
    #[arg(long, default_value_os_t = repository().join("target/image/oci"))]
    output: PathBuf,
    /// Write the files of the image there too, as a tree: for the Dockerfile. Needs a single architecture.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// The program is not built.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The image is not written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// It is too large.
    #[error("{what} for {architecture} has {size} bytes, more than the {limit} that it is to have at most")]
    TooLarge { what: &'static str, architecture: &'static str, size: u64, limit: u64 },
    /// The program can't be looked at.
    #[error("cannot read the size of the program: {0}")]
    Size(#[from] std::io::Error),
}

pub(crate) fn run(arguments: &ImageArguments) -> Result<ExitCode, MakeError> {
    let both = [Architecture::Amd64, Architecture::Arm64];
    let architectures = if arguments.architecture.is_empty() { &both } else { &arguments.architecture[..] };
    let description = describe();
    let mut images = Vec::new();
    for architecture in architectures {
        images.push(build(*architecture, arguments.profile, &description)?);
    }
    let written = image::write(&arguments.output, &arguments.tag, &images, image::Effort::Most)?;
    if let (Some(root), Some(image)) = (&arguments.root, images.first()) {
        image.write_root(root)?;
    }
    for (architecture, size) in &written.sizes {
        print_line(&format!("image for {}: {size} bytes", architecture.name()));
        within("the image", *architecture, *size, LARGEST_IMAGE, arguments.profile)?;
    }
    print_line(&format!("{}: {} {}", arguments.output.display(), arguments.tag, written.digest));
    Ok(ExitCode::SUCCESS)
}

fn build(
    architecture: Architecture,
    profile: Profile,
    description: &ImageDescription,
) -> Result<Image, MakeError> {
    let program = program::build(architecture, profile)?;
    let size = std::fs::metadata(&program)?.len();
    print_line(&format!("program for {}: {size} bytes", architecture.name()));
    within("the program", architecture, size, LARGEST_PROGRAM, profile)?;
    Ok(image::operator(architecture, &program, description)?)
}

fn within(
    what: &'static str,
    architecture: Architecture,
    size: u64,
    limit: u64,
    profile: Profile,
) -> Result<(), MakeError> {
    if profile == Profile::Release && size > limit {
        return Err(MakeError::TooLarge { what, architecture: architecture.name(), size, limit });
    }
    Ok(())
}

/// Version, commit and the commit's time: the same sources make the same image. Outside of a Git repository the version is
/// all that is known.
fn describe() -> ImageDescription {
    let git = |args: &[&str]| {
        debian::run(Command::new("git").args(args).env("TZ", "UTC").current_dir(repository())).ok()
    };
    let said = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    ImageDescription {
        version: String::from(env!("CARGO_PKG_VERSION")),
        revision: git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).and_then(said),
        created: git(&["log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"]).and_then(said),
    }
}
