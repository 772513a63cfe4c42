//! A node's namespaces isolate its program, and nothing is left after it.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use registry_testbed::{eventually, node};

type Outcome = Result<(), Box<dyn Error>>;

/// Says where its directory is, and what it sees of the machine.
const LOOK_AROUND: &str = r#"
echo "$TESTBED_NODE_DIRECTORY"
echo "process $$"
ip -o link | cut -d: -f2
cut -d: -f3 /proc/self/cgroup | sort -u
"#;

#[expect(clippy::print_stderr, reason = "a test that is skipped should say so")]
fn is_possible() -> bool {
    let obstacle = node::obstacle();
    if let Some(obstacle) = &obstacle {
        eprintln!("skipped: no node can run on this machine: {obstacle}");
    }
    obstacle.is_none()
}

/// The cgroups of the node with this directory.
fn cgroups_of(directory: &str) -> Vec<PathBuf> {
    let name = Path::new(directory).file_name().unwrap_or_default();
    let find = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name"]).arg(name).output();
    let found = find.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    found.lines().map(PathBuf::from).collect()
}

#[test]
fn program_is_pid_1_in_its_own_namespaces() -> Outcome {
    if !is_possible() {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let seen = scratch.path().join("seen");
    let script = format!("({LOOK_AROUND}) >{}", seen.display());
    let status = node::enclose(Path::new("/bin/sh"), ["-c", &script])?;
    assert!(status.success(), "{status}");
    let seen = std::fs::read_to_string(seen)?;
    let seen: Vec<&str> = seen.lines().map(str::trim).collect();
    assert_eq!(seen[1..], ["process 1", "lo", "/"], "{seen:?}");
    assert!(!Path::new(seen[0]).exists(), "{} is left", seen[0]);
    assert_eq!(cgroups_of(seen[0]), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn reports_exit_status_of_the_program() -> Outcome {
    if !is_possible() {
        return Ok(());
    }
    let status = node::enclose(Path::new("/bin/sh"), ["-c", "exit 7"])?;
    assert_eq!(status.code(), Some(7));
    Ok(())
}

/// Not a test of its own: the program that the next one kills.
#[test]
#[ignore = "started, and killed, by the test below"]
fn victim() -> Outcome {
    node::enclose(Path::new("/bin/sh"), ["-c", "echo \"$TESTBED_NODE_DIRECTORY\"; exec sleep 1000"])?;
    Ok(())
}

#[tokio::test]
async fn cleans_up_when_the_starter_is_killed() -> Outcome {
    if !is_possible() {
        return Ok(());
    }
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(victim.stdout.take().ok_or("no output")?).lines();
    let directory = said.map_while(Result::ok).find(|line| line.contains("/testbed-node-"));
    let directory = directory.ok_or("it ended before it was inside")?;
    let directory = directory.split_whitespace().last().unwrap_or_default();
    assert!(Path::new(directory).is_dir(), "{directory}");
    assert!(!cgroups_of(directory).is_empty());

    victim.kill()?;
    victim.wait()?;
    eventually("directory and cgroups are gone", || async {
        let cgroups = cgroups_of(directory);
        let gone = cgroups.is_empty() && !Path::new(directory).exists();
        if gone { Ok(()) } else { Err(format!("{directory} {cgroups:?}")) }
    })
    .await?;
    Ok(())
}
