//! Container images as OCI image layouts, written without a container engine: the same input gives the same digest.
//!
//! [`program`] builds what is in them.

mod content;
mod layer;
mod layout;
pub mod program;

pub use self::content::{ImageDescription, with_program};
pub use self::layer::{Effort, ImageLayer, LayerEntry};
pub use self::layout::{Image, Written, write};
pub use self::program::ImageProgram;

/// What an image is for, as OCI and Go name it. The operating system is always Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// aarch64.
    Arm64,
}

impl Architecture {
    /// As OCI spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// That of this machine, if images can be made for it.
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// Why an image is not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}", path = path.display())]
pub struct ImageError {
    what: &'static str,
    path: std::path::PathBuf,
    source: std::io::Error,
}

impl ImageError {
    /// An error handler for what is done to a file.
    fn at(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self { what, path, source }
    }
}
