//! The node's namespaces and cgroups, seen from outside: made, entered, and gone without a trace when the program in
//! them ends, however it or its starter ends.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::NodeError;
use crate::process::{Scratch, on_lifeline};

/// In the environment of PID 1: the directory that is the node's own.
pub(super) const DIRECTORY: &str = "TESTBED_NODE_DIRECTORY";

/// Moves itself into the cgroups before the namespaces are made, so that these show them as the root.
const ENTER: &str = r#"
printf '%s\n' "$1" | while read -r procs; do echo $$ >"$procs"; done
shift
exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child=KILL --mount-proc -- "$@"
"#;

/// Waits until its starter lets go of it or dies; the processes in the cgroups are dead or dying by then.
const JANITOR: &str = r#"
while read -r _; do :; done
for dir; do
    tries=0
    while [ -d "$dir" ] && [ "$tries" -lt 300 ]; do
        find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
        tries=$((tries + 1))
    done
    [ ! -d "$dir" ]
done
"#;

/// Runs a program as PID 1 of new namespaces, in which [`super::Node::start`] makes a node. Returns when it has ended, and with
/// it everything that it started.
pub fn enclose<A: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = A>,
) -> Result<ExitStatus, NodeError> {
    let scratch = Scratch::new("testbed-node").map_err(NodeError::Directory)?;
    // The directory's name is nobody else's.
    let cgroups = Cgroups::create(scratch.path().file_name().unwrap_or_default())?;
    let mut child = on_lifeline(Path::new("/bin/sh"))
        .args(["-eu", "-c", ENTER, "enter"])
        .arg(cgroups.procs())
        .arg(program)
        .args(args)
        .env(DIRECTORY, scratch.path())
        .env("TMPDIR", scratch.path())
        .spawn()
        .map_err(NodeError::Namespaces)?;
    // Not `wait`, which would close the lifeline first.
    let lifeline = child.stdin.take();
    let status = child.wait().map_err(NodeError::Namespaces)?;
    drop(lifeline);
    cgroups.remove()?;
    Ok(status)
}

/// One cgroup of the node's own in every hierarchy.
struct Cgroups {
    dirs: Vec<PathBuf>,
    janitor: Child,
}

impl Cgroups {
    fn create(name: &OsStr) -> Result<Self, NodeError> {
        let read = |path: &str| {
            std::fs::read_to_string(path).map_err(|source| NodeError::Cgroup { path: path.into(), source })
        };
        let parents = parents(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        let dirs: Vec<PathBuf> = parents.iter().map(|parent| parent.join(name)).collect();
        let janitor = Command::new("/bin/sh")
            .args(["-eu", "-c", JANITOR, "janitor"])
            .args(&dirs)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(NodeError::Namespaces)?;
        let cgroups = Self { dirs, janitor };
        for dir in &cgroups.dirs {
            prepare(dir).map_err(|source| NodeError::Cgroup { path: dir.clone(), source })?;
        }
        Ok(cgroups)
    }

    /// The files that take processes, one a line.
    fn procs(&self) -> String {
        let files = self.dirs.iter().map(|dir| dir.join("cgroup.procs").display().to_string());
        files.collect::<Vec<_>>().join("\n")
    }

    fn remove(mut self) -> Result<(), NodeError> {
        drop(self.janitor.stdin.take());
        let status = self.janitor.wait().map_err(NodeError::Namespaces)?;
        if status.success() { Ok(()) } else { Err(NodeError::CgroupsLeft(self.dirs)) }
    }
}

/// A cpuset of version 1 starts empty, and takes no process so.
fn prepare(dir: &Path) -> Result<(), std::io::Error> {
    std::fs::create_dir(dir)?;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (own, parent) = (dir.join(name), dir.join("..").join(name));
        if own.is_file() && parent.is_file() && !dir.join("cgroup.controllers").is_file() {
            std::fs::write(own, std::fs::read(parent)?)?;
        }
    }
    Ok(())
}

/// Where the node's cgroups go: below this program's own in each hierarchy of version 1; where there is only version 2, below
/// the root, for a cgroup with processes in it can't hand down controllers.
fn parents(own: &str, mountinfo: &str) -> Vec<PathBuf> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    let version_1: Vec<PathBuf> = own
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (hierarchy, path) = (fields.next()?, fields.next()?);
            let mount = mounts.iter().find(|mount| mount.is_hierarchy(hierarchy))?;
            Some(mount.directory(path))
        })
        .collect();
    if !version_1.is_empty() {
        return version_1;
    }
    mounts
        .iter()
        .filter(|mount| mount.filesystem == "cgroup2")
        .map(|mount| PathBuf::from(mount.point))
        .collect()
}

/// A line of mountinfo: `29 26 0:26 <root> <mount point> <options> - <filesystem> <source> <super options>`.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    filesystem: &'a str,
    super_options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
        let (root, point) = (left.next()?, left.next()?);
        let (filesystem, super_options) = (right.next()?, right.nth(1)?);
        Some(Self { root, point, filesystem, super_options })
    }

    /// Whether this is the version 1 hierarchy of these controllers, as /proc/self/cgroup names them.
    fn is_hierarchy(&self, controllers: &str) -> bool {
        let has = |controller| self.super_options.split(',').any(|option| option == controller);
        self.filesystem == "cgroup" && !controllers.is_empty() && controllers.split(',').all(has)
    }

    /// The directory of a cgroup of this hierarchy.
    fn directory(&self, cgroup: &str) -> PathBuf {
        let below = cgroup.strip_prefix(self.root).unwrap_or(cgroup);
        Path::new(self.point).join(below.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_own_cgroup_in_each_v1_hierarchy() {
        let own = "3:cpu,cpuacct:/session\n2:memory:/\n1:name=systemd:/session\n0::/\n";
        let mountinfo = "30 26 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                         31 26 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                         32 26 0:29 /session /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                         33 26 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = ["/sys/fs/cgroup/cpu/session", "/sys/fs/cgroup/memory/", "/sys/fs/cgroup/systemd/"]
            .map(PathBuf::from);
        assert_eq!(parents(own, mountinfo), expected);
    }

    #[test]
    fn uses_root_cgroup_with_v2_only() {
        let mountinfo = "30 26 0:27 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(parents("0::/user.slice/session-1.scope\n", mountinfo), [PathBuf::from("/sys/fs/cgroup")]);
    }
}
