//! Memory and time of the programs that `make build` makes. `make bench` measures them, one after the other. The size of what is
//! released is checked by `make image`.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams, PostParams};
use registry_api::{RegistrySpec, SystemRegistry};
use registry_testbed::tools;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    bed::{Browser, Cluster, DRAFT, PASSWORD, PATIENCE, Protected, USER},
    cluster_bed::{Account, ClusterConsole},
};

const MEBIBYTE: u64 = 1024 * 1024;
const MOST_IDLE: u64 = 12 * MEBIBYTE;
const MOST_IN_USE: u64 = 24 * MEBIBYTE;
const MOST_REGISTRIES: usize = 1_000;
const MOST_SESSIONS: usize = 100;
/// How much longer Validate may take than the plugin.
const LONGER: Duration = Duration::from_millis(100);
const NEWS: Duration = Duration::from_secs(1);
const TIMES: usize = 9;
const WRITERS: usize = 16;

fn release(program: &str) -> Result<PathBuf> {
    let path = tools::repository().join("target/release").join(program);
    ensure!(path.is_file(), "there is no {}: make build makes it", path.display());
    Ok(path)
}

/// Prints what was measured.
#[expect(clippy::print_stdout, reason = "this is what a bench is for")]
fn tell(text: &str) {
    println!("{text}");
}

/// The resident memory of a process, in bytes.
fn resident(process: Option<u32>) -> Result<u64> {
    let id = process.context("the console ended")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().next().context("no figure")?.parse()?;
    Ok(kibibytes * 1024)
}

async fn console(cluster: &Cluster) -> Result<Browser> {
    let mut command = Command::new(release("kubectl-registry-console")?);
    command.env_clear();
    Browser::of(command, &cluster.control_plane().admin_kubeconfig()).await
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A validated registry, as the operator leaves it.
async fn add_registry(cluster: &Cluster, number: usize) -> Result<()> {
    let name = format!("many-{number:04}");
    let spec = RegistrySpec {
        endpoint: format!("https://registry-{number}.example.com"),
        ..RegistrySpec::default()
    };
    cluster.system().create(&PostParams::default(), &SystemRegistry::new(&name, spec)).await?;
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Available", "message": "The registry accepted the credentials",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    let kinds = [
        "ResolvedRefs",
        "EndpointReachable",
        "TLSVerified",
        "CredentialsValidated",
        "ContentPathAccessible",
        "Ready",
    ];
    let status = json!({"status": {
        "observedGeneration": 1, "lastValidationTime": "2026-01-01T00:00:00Z", "conditions": kinds.map(condition),
    }});
    cluster.system().patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "measures what make build made: make bench"]
async fn memory_stays_small_with_100_sessions() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let laptop = console(&cluster).await?;
    let server = ClusterConsole::of_program(&release("registry-console")?, &cluster).await?;
    server.knows_addresses().await?;
    let idle = resident(laptop.process())?.max(resident(server.process())?);
    let writes = (0..MOST_REGISTRIES).map(|number| add_registry(&cluster, number));
    stream::iter(writes).buffer_unordered(WRITERS).try_collect::<Vec<()>>().await?;
    let account = Account::administrator(&cluster).await?;
    let mut visitors = Vec::new();
    for _ in 0..MOST_SESSIONS {
        let visitor = server.signed_in(&account.token).await?;
        let page = visitor.get("/system/registries").await?;
        ensure!(page.status == 200 && page.has("many-0999"), "{}", page.status);
        visitors.push(visitor);
    }
    let in_use = resident(server.process())?;
    tell(&format!(
        "RSS: {} KiB idle, {} KiB after {MOST_SESSIONS} sessions have looked at {MOST_REGISTRIES} registries",
        idle / 1024,
        in_use / 1024
    ));
    ensure!(idle <= MOST_IDLE && in_use <= MOST_IN_USE, "{idle} and {in_use} bytes");
    Ok(())
}

/// Runs the plugin once, as a user would.
async fn plugin(cluster: &Cluster, documents: &Value) -> Result<()> {
    let mut command = Command::new(release("kubectl-registry")?);
    command.args(["validate", "-f", "-", "-o", "json"]).env_clear().kill_on_drop(true);
    command.env("KUBECONFIG", cluster.control_plane().admin_kubeconfig());
    let mut plugin = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = plugin.stdin.take().context("no standard input")?;
    input.write_all(documents.to_string().as_bytes()).await?;
    drop(input);
    let output = tokio::time::timeout(PATIENCE, plugin.wait_with_output()).await??;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["conclusion"] == "Credentials validated", "{report:#}");
    Ok(())
}

#[tokio::test]
#[ignore = "measures what make build made: make bench"]
async fn validate_takes_hardly_longer_than_the_plugin() -> Result<()> {
    let (cluster, protected) = (Cluster::shared().await?, Protected::start().await?);
    let mut browser = console(&cluster).await?;
    browser.sign_in().await?;
    let (url, ca) = (protected.registry.url(), protected.ca.certificate_pem());
    let typed = [
        ("action", "validate"),
        ("content_type", "Pack"),
        ("draft", DRAFT),
        ("name", "timed"),
        ("endpoint", &url),
        ("username", USER),
        ("password", PASSWORD),
        ("ca", ca),
    ];
    let registry = json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry", "metadata": {"name": "timed"},
        "spec": {"endpoint": url, "auth": {"basic": {"secretRef": {"name": "timed-login"}}}, "tls": {"ca": {"inline": ca}}},
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth", "metadata": {"name": "timed-login"},
        "stringData": {"username": USER, "password": PASSWORD},
    });
    let documents = json!({"apiVersion": "v1", "kind": "List", "items": [registry, secret]});
    let (mut consoles, mut plugins) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let begin = Instant::now();
        let page = browser.submit("/system/add/basic", &typed).await?;
        consoles.push(begin.elapsed());
        ensure!(page.has("Credentials validated"), "{page:#?}");
        let begin = Instant::now();
        plugin(&cluster, &documents).await?;
        plugins.push(begin.elapsed());
    }
    let (console, plugin) = (median(consoles), median(plugins));
    tell(&format!("Validate: {console:?} in the console, {plugin:?} with the plugin (medians of {TIMES})"));
    ensure!(console <= plugin + LONGER, "{console:?}, and {plugin:?} with the plugin");
    Ok(())
}

#[tokio::test]
#[ignore = "measures what make build made: make bench"]
async fn change_is_told_within_a_second() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut browser = console(&cluster).await?;
    browser.sign_in().await?;
    let mut times = Vec::new();
    for number in 0..TIMES {
        let page = browser.get("/system/registries").await?;
        let since = page.text.split("data-since=\"").nth(1).and_then(|rest| rest.split('"').next());
        let waiting = format!("/system/changes?since={}", since.context("no version")?);
        let (told, created) = tokio::join!(async { (browser.get(&waiting).await, Instant::now()) }, async {
            (add_registry(&cluster, 10_000 + number).await, Instant::now())
        },);
        ensure!(told.0?.status == 200, "no change was told");
        created.0?;
        times.push(told.1.saturating_duration_since(created.1));
    }
    let longest = times.iter().max().copied().unwrap_or_default();
    tell(&format!("A change is told {:?} after it was made (longest: {longest:?})", median(times)));
    ensure!(longest <= NEWS, "{longest:?}");
    Ok(())
}
