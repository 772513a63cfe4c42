//! `testbed image`, which is `make image`: the images of the operator and of the console as OCI layouts, without a container engine.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use registry_testbed::debian;
use registry_testbed::image::program::{self, Profile, ProgramError};
use registry_testbed::image::{self, Architecture, Image, ImageDescription, ImageError, ImageProgram};
use registry_testbed::tools::repository;

use crate::print_line;

/// Bytes that are pulled for a released image, at most.
const LARGEST_IMAGE: u64 = 20 * 1024 * 1024;

/// Builds static programs and writes an image of each as an OCI layout, without a container engine.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageArguments {
    /// Of which programs; both when none is named.
    #[arg(long, value_name = "PROGRAM")]
    program: Vec<ImageProgram>,
    /// For which architectures; both when none is named.
    #[arg(long, value_name = "ARCHITECTURE")]
    architecture: Vec<Architecture>,
    /// How the program is optimised.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// The image's tag in the layout.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// Directory of the layouts `oci` and `oci-console`, which are written in place of what is there.
    #[arg(long, default_value_os_t = repository().join("target/image"))]
    output: PathBuf,
    /// Write the files of the image there too, as a tree: for the Dockerfile. Needs a single program and architecture.
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
    let both = [ImageProgram::Operator, ImageProgram::Console];
    let programs = if arguments.program.is_empty() { &both } else { &arguments.program[..] };
    for program in programs {
        make(*program, arguments)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make(program: ImageProgram, arguments: &ImageArguments) -> Result<(), MakeError> {
    let both = [Architecture::Amd64, Architecture::Arm64];
    let architectures = if arguments.architecture.is_empty() { &both } else { &arguments.architecture[..] };
    let description = describe();
    let mut images = Vec::new();
    for architecture in architectures {
        images.push(build(program, *architecture, arguments.profile, &description)?);
    }
    let layout = arguments.output.join(layout(program));
    let written = image::write(&layout, &arguments.tag, &images, image::Effort::Most)?;
    if let (Some(root), Some(image)) = (&arguments.root, images.first()) {
        image.write_root(root)?;
    }
    for (architecture, size) in &written.sizes {
        print_line(&format!("image of {} for {}: {size} bytes", program.name(), architecture.name()));
        within("the image", *architecture, *size, LARGEST_IMAGE, arguments.profile)?;
    }
    print_line(&format!("{}: {} {}", layout.display(), arguments.tag, written.digest));
    Ok(())
}

fn layout(program: ImageProgram) -> &'static str {
    match program {
        ImageProgram::Operator => "oci",
        ImageProgram::Console => "oci-console",
    }
}

fn build(
    program: ImageProgram,
    architecture: Architecture,
    profile: Profile,
    description: &ImageDescription,
) -> Result<Image, MakeError> {
    let file = program::build(program, architecture, profile)?;
    let size = std::fs::metadata(&file)?.len();
    print_line(&format!("{} for {}: {size} bytes", program.name(), architecture.name()));
    within(program.name(), architecture, size, program.largest(), profile)?;
    Ok(image::with_program(program, architecture, &file, description)?)
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
