//! One layer: files and directories owned by root, without a time, so that only their content matters.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file or directory of a layer.
#[derive(Debug, Clone)]
pub struct LayerEntry {
    path: String,
    mode: u32,
    /// None: a directory.
    content: Option<Vec<u8>>,
}

impl LayerEntry {
    /// A directory, `0755`. The path is relative to the root.
    pub fn directory(path: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o755, content: None }
    }

    /// A file, `0644`.
    pub fn file(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, content: Some(content.into()) }
    }

    /// A program, `0755`.
    pub fn program(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self { mode: 0o755, ..Self::file(path, content) }
    }

    fn header(&self) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(if self.content.is_some() { EntryType::Regular } else { EntryType::Directory });
        header.set_mode(self.mode);
        header.set_size(self.content.as_ref().map_or(0, |content| content.len() as u64));
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }
}

/// The entries of a layer, parents before children, and what the history says of it.
#[derive(Debug, Clone)]
pub struct ImageLayer {
    /// For the image's history.
    pub created_by: String,
    /// What it holds.
    pub entries: Vec<LayerEntry>,
}

impl ImageLayer {
    /// The layer as a tar archive.
    pub(super) fn tar(&self) -> Result<Vec<u8>, std::io::Error> {
        let mut archive = Builder::new(Vec::new());
        for entry in &self.entries {
            let content = entry.content.as_deref().unwrap_or_default();
            archive.append_data(&mut entry.header(), &entry.path, content)?;
        }
        archive.into_inner()
    }
}

/// The compression level of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For images that stay on this machine.
    Least,
    /// For images that are published.
    Most,
}

/// Compressed, without name and time.
pub(super) fn gzip(content: &[u8], effort: Effort) -> Result<Vec<u8>, std::io::Error> {
    let level = match effort {
        Effort::Least => Compression::fast(),
        Effort::Most => Compression::best(),
    };
    let mut encoder = GzBuilder::new().write(Vec::new(), level);
    encoder.write_all(content)?;
    encoder.finish()
}
