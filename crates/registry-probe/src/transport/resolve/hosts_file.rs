//! The hosts file, read again when it has changed. What it says of a name is the answer, and no name server is asked,
//! not even for the other family of addresses: so do glibc and Go.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::host::Host;

/// How long what was read is taken as it is, without a look at the file.
const TRUSTED: Duration = Duration::from_secs(1);
const LARGEST_FILE: u64 = 1024 * 1024;

/// A hosts file, which may change, appear and disappear.
pub(super) struct HostsFile {
    path: PathBuf,
    state: Mutex<HostsFileState>,
}

#[derive(Default)]
struct HostsFileState {
    looked_at: Option<Instant>,
    version: Option<HostsFileVersion>,
    hosts: HostsTable,
}

/// What tells one version of a file from the next without reading it.
#[derive(PartialEq)]
struct HostsFileVersion {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

type HostsTable = HashMap<String, Vec<IpAddr>>;

impl HostsFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// The addresses of a name in lower case without a trailing dot, in the file's order; none if it is not there.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.looked_at.is_none_or(|before| now - before >= TRUSTED) {
            state.looked_at = Some(now);
            self.refresh(&mut state);
        }
        state.hosts.get(name).cloned()
    }

    fn refresh(&self, state: &mut HostsFileState) {
        let version = fs::metadata(&self.path).ok().as_ref().map(HostsFileVersion::of);
        if version == state.version {
            return;
        }
        state.hosts = self.read();
        state.version = version;
    }

    fn read(&self) -> HostsTable {
        let mut text = Vec::new();
        let read = fs::File::open(&self.path).and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut text));
        if let Err(error) = read {
            tracing::warn!(%error, path = %self.path.display(), "hosts file can't be read");
        }
        parse(&String::from_utf8_lossy(&text))
    }
}

impl HostsFileVersion {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() }
    }
}

/// hosts(5). A line that is not an address and names is skipped.
fn parse(text: &str) -> HostsTable {
    let mut hosts = HostsTable::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let Ok(Host::Name(name)) = name.parse::<Host>() else { continue };
            let addresses = hosts.entry(name).or_default();
            if !addresses.contains(&address.to_canonical()) {
                addresses.push(address.to_canonical());
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_hosts_files() {
        let hosts = parse(
            "\u{feff}# comment\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\n\
             10.0.0.1 Registry.Example.COM. registry # the old one\r\n10.0.0.2 registry.example.com\n\
             10.0.0.1 registry.example.com\nfe80::1%eth0 zoned\n::ffff:10.0.0.3 mapped\nnot-an-address x\n10.0.0.9\n",
        );
        let addresses = |name: &str| {
            let found = hosts.get(name).cloned().unwrap_or_default();
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(addresses("registry.example.com"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addresses("registry"), ["10.0.0.1"]);
        assert_eq!(addresses("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("mapped"), ["10.0.0.3"]);
        assert!(addresses("x").is_empty() && addresses("zoned").is_empty() && addresses("the").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn notices_changes_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let file = HostsFile::new(path.clone());
        let address = || file.addresses("registry").map(|found| found[0].to_string());
        assert_eq!(address(), None, "there is no file");
        for text in ["10.0.0.1 registry\n", "10.0.0.22 registry\n"] {
            fs::write(&path, text).unwrap();
            tokio::time::advance(TRUSTED).await;
            assert_eq!(address().as_deref(), text.split(' ').next());
        }
        fs::remove_file(&path).unwrap();
        tokio::time::advance(TRUSTED).await;
        assert_eq!(address(), None);
    }
}
