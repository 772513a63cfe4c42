//! Keeps kubelet from changing sysctls that are not the namespace's but the whole machine's: files that say already what it
//! wants lie over them while it starts. Left there, they would keep Pods with user namespaces from mounting /proc.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian::run;

/// The values that kubelet sets.
const WANTED: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The files that lie over others.
pub(super) struct OverlayGuard(Vec<PathBuf>);

impl OverlayGuard {
    pub(super) fn set(directory: &Path) -> Result<Self, String> {
        let mut covered = Vec::new();
        for (name, value) in WANTED {
            let cover = directory.join(name.replace('/', "."));
            let sysctl = Path::new("/proc/sys").join(name);
            if !sysctl.is_file() {
                continue;
            }
            std::fs::write(&cover, format!("{value}\n")).map_err(|error| error.to_string())?;
            run(Command::new("mount").arg("--bind").arg(&cover).arg(&sysctl))?;
            covered.push(sysctl);
        }
        Ok(Self(covered))
    }

    pub(super) fn lift(self) -> Result<(), String> {
        self.0.iter().try_for_each(|sysctl| run(Command::new("umount").arg(sysctl)).map(drop))
    }
}
