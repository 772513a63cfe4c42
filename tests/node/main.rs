//! The product as it is installed, on a real node: kubelet, containerd and runc, the images, the chart, two replicas, the console.
//!
//! Where no node can run (it needs root on Linux, and namespaces) the test says so and passes; no other test depends on it.

mod cluster;
mod console;
mod environment;
mod leftovers;
mod pulls;
mod release;
mod scenario;

use std::{fmt::Display, io::Write as _};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{
    Moto,
    image::{
        Architecture, ImageProgram,
        program::{self, ProgramError},
    },
    node::{self, NodeError},
};

/// Started twice: by the test harness, and by itself as PID 1 of the node's namespaces, where it tells the story.
#[test]
fn chart_works_on_a_real_node() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if node::is_inside() {
        return runtime.block_on(scenario::tell());
    }
    if let Some(obstacle) = node::obstacle() {
        skip(&obstacle);
        return Ok(());
    }
    match runtime.block_on(node::prepare()) {
        Err(missing @ NodeError::Packages(_)) => {
            skip(&missing);
            return Ok(());
        }
        prepared => prepared?,
    }
    if let Err(missing) = Moto::install() {
        say(&format!("AWS can't be emulated in there: {missing}"));
    }
    for program in [ImageProgram::Operator, ImageProgram::Console] {
        if scenario::given_program(program).is_some() {
            continue;
        }
        let architecture = Architecture::of_this_machine().context("images are for amd64 and arm64")?;
        match program::build(program, architecture, scenario::PROFILE) {
            Err(missing @ ProgramError::Zig(_)) => {
                skip(&missing);
                return Ok(());
            }
            built => built?,
        };
    }
    let own_name = std::thread::current().name().context("the harness names its threads")?.to_owned();
    let status =
        node::enclose(&std::env::current_exe()?, ["--exact", &own_name, "--nocapture", "--test-threads=1"])?;
    ensure!(status.success(), "what happened inside is above ({status})");
    Ok(())
}

fn skip(why: &dyn Display) {
    say(&format!("skipped: no node can run on this machine: {why}"));
}

/// Straight to the stream: the times are worth seeing when all is well, and a skipped test too.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
