//! The CA certificates of `--ca-file`, read at start and whenever the file changes.
//!
//! The file is usually a mounted ConfigMap, for example trust-manager's, which the kubelet swaps. An invalid new file
//! changes nothing, and is logged.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use registry_probe::{CaBundle, CaError};
use thiserror::Error;

/// How often to check the file. The kubelet itself takes about a minute.
const LOOK: Duration = Duration::from_secs(10);
/// One byte more than the maximum size of 1 MiB, to detect a larger file.
const LARGEST: u64 = 1024 * 1024 + 1;

/// Why the file can't be used.
#[derive(Debug, Error)]
pub enum CaFileError {
    /// The file can't be read.
    #[error("failed to read --ca-file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The file is not a valid bundle of certificates.
    #[error("--ca-file {} {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: CaError,
    },
}

/// The file, with its content when it was last read.
#[derive(Debug)]
pub struct CaFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl CaFile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<(Self, CaBundle), CaFileError> {
        let text = read(path)?;
        let bundle = parse(path, &text)?;
        Ok((Self { path: path.to_owned(), text }, bundle))
    }

    /// Calls `apply` with the certificates whenever the file has changed. Never returns.
    pub async fn follow(mut self, apply: impl Fn(CaBundle)) {
        let mut complained = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.changed() {
                Ok(None) => complained = false,
                Ok(Some(bundle)) => {
                    complained = false;
                    tracing::info!(path = %self.path.display(), "--ca-file changed; trusting its certificates");
                    apply(bundle);
                }
                // Logs once per problem, until someone fixes the file.
                Err(error) if !complained => {
                    complained = true;
                    tracing::error!("{error}; still trusting the previous certificates");
                }
                Err(_) => {}
            }
        }
    }

    fn changed(&mut self) -> Result<Option<CaBundle>, CaFileError> {
        let text = read(&self.path)?;
        if text == self.text {
            return Ok(None);
        }
        let bundle = parse(&self.path, &text)?;
        self.text = text;
        Ok(Some(bundle))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CaFileError> {
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text)) {
        Ok(_) => Ok(text),
        Err(error) => Err(CaFileError::Unreadable { path: path.to_owned(), error }),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<CaBundle, CaFileError> {
    CaBundle::parse(text).map_err(|error| CaFileError::Unusable { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    /// The kubelet mounts a ConfigMap as a link to a directory that it swaps.
    #[test]
    fn reloads_changed_file_and_ignores_broken_one() {
        let mount = tempfile::tempdir().unwrap();
        let (path, data) = (mount.path().join("..data/ca.crt"), mount.path().join("..data"));
        let swap = |version: &str, text: &str| {
            let next = mount.path().join(version);
            std::fs::create_dir(&next).unwrap();
            std::fs::write(next.join("ca.crt"), text).unwrap();
            let link = mount.path().join("..data_tmp");
            std::os::unix::fs::symlink(&next, &link).unwrap();
            std::fs::rename(link, &data).unwrap();
        };
        swap("one", &certificate("one"));
        let (mut file, first) = CaFile::read(&path).unwrap();
        assert!(file.changed().unwrap().is_none());
        swap("two", "not a certificate");
        assert!(file.changed().is_err());
        assert!(file.changed().is_err(), "it is looked at again");
        swap("three", &certificate("three"));
        let third = file.changed().unwrap().unwrap();
        assert!(third.to_pem() != first.to_pem());
        assert!(file.changed().unwrap().is_none());
        std::fs::remove_file(&data).unwrap();
        assert!(file.changed().is_err());
    }

    #[test]
    fn reports_unusable_file_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let message = || CaFile::read(&path).unwrap_err().to_string();
        assert!(
            message().starts_with(&format!("failed to read --ca-file {}: ", path.display())),
            "{}",
            message()
        );
        std::fs::write(&path, "nothing").unwrap();
        assert!(message().contains("contains no PEM certificate"), "{}", message());
    }
}
