//! Real registries: distribution 3.1, built from its Go module, and Debian's docker-registry 2.8, if it can
//! be installed. Each anonymous, with passwords, with a token service, over TLS, with client certificates. And other projects' servers.
//!
//! Registries that can't be installed are reported, and their rows are counted as skipped.

mod debian;
pub mod keys;
pub mod registry;
mod rows;
pub mod servers;

use registry_testbed::tools::{self, Tool};

use crate::row::Row;

/// Rows of real registries, and the processes that they speak with.
pub struct Real {
    /// The rows.
    pub rows: Vec<Row>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    _running: Vec<registry::Running>,
    _servers: Option<servers::Servers>,
}

/// A registry program.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: &'static str,
    path: std::path::PathBuf,
    /// It knows keys by JSON Web Key Sets, and can name the token service at its own host.
    is_new: bool,
}

/// Starts what can be had.
pub async fn rows() -> Real {
    let mut real = Real { rows: Vec::new(), skipped: Vec::new(), _running: Vec::new(), _servers: None };
    let (programs, skipped) = programs().await;
    real.skipped.extend(skipped.map(|reason| format!("all rows of {reason}")));
    for program in programs {
        real.add(program).await;
    }
    let mut servers = servers::of_seconds().await;
    real.rows.append(&mut servers.rows);
    real.skipped.append(&mut servers.skipped);
    real._servers = Some(servers);
    real
}

/// The programs that can be had, and which one can't be, and why.
pub async fn programs() -> (Vec<Program>, Option<String>) {
    let paths = tools::ensure(&[Tool::Registry]).await.expect("distribution 3.1");
    let path = paths.get(Tool::Registry).to_path_buf();
    let mut programs = vec![Program { name: "distribution 3.1", path, is_new: true }];
    let skipped = match tokio::task::spawn_blocking(debian::docker_registry).await.unwrap() {
        Ok(path) => {
            programs.push(Program { name: "docker-registry 2.8", path, is_new: false });
            None
        }
        Err(reason) => Some(format!("Debian's docker-registry 2.8: {reason}")),
    };
    (programs, skipped)
}

impl Real {
    async fn add(&mut self, program: Program) {
        let (rows, running) = rows::of(&program).await;
        self.rows.extend(rows.into_iter().map(|row| row.under(program.name)));
        self._running.extend(running);
    }
}
