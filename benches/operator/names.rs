//! The name servers, and the operator's own `/etc/resolv.conf` that names one of them.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use registry_testbed::{NameServer, NameServerOptions, OperatorOptions, process::Scratch};

/// The registry's name. All names below it are the same address.
pub const REGISTRY: &str = "registry.bench.test";
const DELAY: Duration = Duration::from_millis(2);

/// As in a Pod, where every name has fewer dots than `ndots`.
const OPTIONS: &str =
    "search registry-system.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";

/// Replaces `/etc/resolv.conf` for a program and nobody else. Each step becomes the next one, so the process ID stays the same.
const ENTER: &str = r#"exec unshare --mount -- /bin/sh -ec '
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
' names "$@""#;

/// How a name server answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// All questions, after [`DELAY`].
    Prompt,
    /// The same, but no question for an IPv6 address.
    WithoutIpv6,
}

/// A name server for each kind of answers.
pub struct Names {
    servers: [(Answers, NameServer, PathBuf); 2],
}

impl Names {
    /// Starts the name servers. They and the private file need root.
    pub async fn start(scratch: &Scratch) -> anyhow::Result<Self> {
        let names = Self {
            servers: [server(Answers::Prompt, scratch).await?, server(Answers::WithoutIpv6, scratch).await?],
        };
        names.check().await.context("replacing /etc/resolv.conf for one program")?;
        Ok(names)
    }

    /// Returns the options for an operator that asks this name server.
    pub fn applied_to(&self, mut options: OperatorOptions, answers: Answers) -> OperatorOptions {
        let program = std::mem::replace(&mut options.binary, "/bin/sh".into());
        let before = ["-c".into(), ENTER.into(), "names".into(), self.resolv_conf(answers), program.into()];
        options.args.splice(0..0, before);
        options
    }

    fn resolv_conf(&self, answers: Answers) -> std::ffi::OsString {
        let found = self.servers.iter().find(|(own, ..)| *own == answers);
        found.map(|(.., path)| path.into()).unwrap_or_default()
    }

    async fn check(&self) -> anyhow::Result<()> {
        let path = self.resolv_conf(Answers::Prompt);
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", ENTER, "names"]).arg(&path).args(["cat", "/etc/resolv.conf"]);
        let output = command.output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        ensure!(output.stdout == std::fs::read(&path)?, "it isn't replaced");
        Ok(())
    }
}

async fn server(answers: Answers, scratch: &Scratch) -> anyhow::Result<(Answers, NameServer, PathBuf)> {
    let options = NameServerOptions { delay: DELAY, silent_about_ipv6: answers == Answers::WithoutIpv6 };
    let (address, server) = at_a_free_address(options).await?;
    let path =
        scratch.write(&format!("resolv.conf.{answers:?}"), format!("nameserver {address}\n{OPTIONS}"))?;
    Ok((answers, server, path))
}

/// Port 53 is the only one that `resolv.conf` can name, so each server gets a loopback address of its own.
async fn at_a_free_address(options: NameServerOptions) -> anyhow::Result<(Ipv4Addr, NameServer)> {
    for last in 1..=254 {
        let address = Ipv4Addr::new(127, 53, 53, last);
        let lookup = async |name: String| is_registry(&name).then_some(Ipv4Addr::LOCALHOST);
        match NameServer::serve(address, options, lookup).await {
            Ok(server) => return Ok((address, server)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).with_context(|| format!("a name server at {address}")),
        }
    }
    bail!("no loopback address has a free port 53")
}

fn is_registry(name: &str) -> bool {
    let Some(below) = name.strip_suffix('.').and_then(|name| name.strip_suffix(REGISTRY)) else {
        return false;
    };
    below.is_empty() || below.ends_with('.')
}
