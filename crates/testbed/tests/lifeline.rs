//! Child processes end with the program that started them.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use registry_testbed::process::{Process, ProcessSpec};
use registry_testbed::{ControlPlane, ControlPlaneOptions, RegistryOptions, TestRegistry, eventually};

type Outcome = Result<(), Box<dyn Error>>;

/// Generous, for a busy machine. A process that isn't killed stays forever.
const SOON: Duration = Duration::from_secs(30);

/// Whether the process is gone, or a zombie.
fn is_gone(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim().starts_with('Z'))
}

async fn assert_gone(id: u32) -> Outcome {
    eventually(format!("process {id} is gone"), || async move {
        if is_gone(id) { Ok(()) } else { Err("still there") }
    })
    .await?;
    Ok(())
}

/// Not a test of its own: the program that the next one kills.
#[tokio::test]
#[ignore = "started, and killed, by the test below"]
async fn victim() -> Outcome {
    let control_plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    let mut out = std::io::stdout();
    writeln!(out, "directory {}", control_plane.directory().display())?;
    for server in [control_plane.etcd(), control_plane.api_server(), registry.component()] {
        writeln!(out, "process {}", server.id().await.unwrap_or_default())?;
    }
    writeln!(out, "all")?;
    std::future::pending().await
}

#[tokio::test]
async fn servers_stop_when_their_program_is_killed() -> Outcome {
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "victim", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = BufReader::new(victim.stdout.take().ok_or("no output")?).lines();
    let (mut servers, mut directory) = (Vec::new(), String::new());
    for line in lines {
        let line = line?;
        match line.split_once(' ') {
            Some(("process", id)) => servers.push(id.parse::<u32>()?),
            Some(("directory", path)) => directory = path.to_owned(),
            _ if line == "all" => break,
            _ => {}
        }
    }
    assert_eq!(servers.len(), 3);
    assert!(servers.iter().all(|id| !is_gone(*id)));

    victim.kill()?;
    victim.wait()?;
    for id in servers {
        assert_gone(id).await?;
    }
    eventually("the data are gone", || async {
        if Path::new(&directory).exists() { Err("still there") } else { Ok(()) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn dropping_a_process_kills_its_children() -> Outcome {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let spec = ProcessSpec::new("parent", "/bin/sh", &log).args(["-c", "sleep 1000 & echo $!; wait"]);
    let parent = Process::spawn(&spec)?;
    let child = eventually("the child's id", || async {
        std::fs::read_to_string(&log).unwrap_or_default().trim().parse::<u32>()
    })
    .await?;
    assert!(!is_gone(child));
    drop(parent);
    assert_gone(child).await
}

#[tokio::test]
async fn process_outlives_the_thread_that_started_it() -> Outcome {
    let dir = tempfile::tempdir()?;
    let spec = ProcessSpec::new("sleeper", "/bin/sleep", dir.path().join("log")).arg("1000");
    let spawned = std::thread::spawn(move || Process::spawn(&spec)).join();
    let mut sleeper = spawned.map_err(|_| "the thread panicked")??;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sleeper.exit_status()?.is_none());
    // It ends when it is asked to; what does not is an error.
    sleeper.stop(SOON).await?;
    Ok(())
}
