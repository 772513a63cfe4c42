//! Free loopback ports that stay free while their server is down.
//!
//! A port found by binding `:0` is lost to the next outgoing connection as soon as it is released. These come from
//! below the range of ephemeral ports, and a lock file keeps each from every other testbed on this machine until the
//! holder drops it or dies.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Why no port could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The directory of lock files cannot be used.
    #[error("cannot keep port reservations in {path}: {source}", path = path.display())]
    Reservations {
        /// The directory or file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Every port is taken.
    #[error("no free port between {FIRST} and {last} on 127.0.0.1", last = FIRST + COUNT)]
    Exhausted,
}

/// A loopback port that is this program's until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked for as long as it is open.
    _reservation: File,
}

impl Port {
    /// Finds and reserves a free port.
    pub fn reserve() -> Result<Self, PortError> {
        let dir =
            std::env::temp_dir().join(format!("registry-testbed-{}", rustix::process::getuid().as_raw()));
        std::fs::create_dir_all(&dir)
            .map_err(|source| PortError::Reservations { path: dir.clone(), source })?;
        let start = random_offset();
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            if let Some(port) = Self::try_reserve(&dir, number)? {
                return Ok(port);
            }
        }
        Err(PortError::Exhausted)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn try_reserve(dir: &std::path::Path, number: u16) -> Result<Option<Self>, PortError> {
        let path = dir.join(format!("port-{number}"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| PortError::Reservations { path, source })?;
        let free = file.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(free.then_some(Self { number, _reservation: file }))
    }
}

/// The standard library's only source of randomness is enough to keep testbeds from starting at the same port.
fn random_offset() -> u16 {
    let offset = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
    u16::try_from(offset).unwrap_or_default()
}
