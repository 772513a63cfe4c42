//! No host, and no tenant, takes another's time: the verdict on a healthy registry comes as quickly beside a crowd of failing
//! ones as alone. Measured as a ratio within one run, by the same registry, API server and machine.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{Api, runtime::wait::await_condition};
use registry_api::spec::{Registry as Object, Scope};
use registry_testbed::{Operator, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};

use crate::{
    harness::{Cluster, Subject},
    objects::DOWN,
    solo,
    stage::{Answer, Asked, Declared, Played, SOON, Scene, asks_for_password, signed_in, tell, welcome},
};

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
/// How often one registry is validated for a median.
const ROUNDS: usize = 15;
/// How long a crowd may take to be there.
const CROWDED: Duration = Duration::from_mins(3);

/// A host that takes connections and never says a word.
struct Mute {
    endpoint: String,
    _listener: TcpListener,
}

impl Mute {
    /// The kernel takes the connections.
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { endpoint: format!("http://{}", listener.local_addr()?), _listener: listener })
    }
}

fn healthy(asked: &Asked) -> Answer {
    if signed_in(asked, "demo", "right") { welcome() } else { asks_for_password() }
}

/// The spec of a registry that is usable.
async fn usable(scene: &Scene<'_>, registry: &Played) -> Result<Value> {
    let login = scene.login("login", "demo", "right").await?;
    Ok(json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": login}}}}))
}

/// Validates a registry that is Ready some times, and returns the median of the times from each request for a validation
/// until it has been answered.
async fn median_delay(object: &Declared, run: &str) -> Result<Duration> {
    let mut delays = Vec::new();
    for round in 0..ROUNDS {
        delays.push(delay(object, &format!("{run}-{round}")).await?);
    }
    delays.sort();
    Ok(delays[ROUNDS / 2])
}

async fn delay(object: &Declared, value: &str) -> Result<Duration> {
    let start = Instant::now();
    let handled = async {
        match object {
            Declared::System(subject) => handles(subject, value).await,
            Declared::Tenant(subject) => handles(subject, value).await,
        }
    };
    let (handled, requested) = tokio::join!(tokio::time::timeout(SOON, handled), object.request(value));
    requested?;
    handled.with_context(|| format!("no answer to the request {value} for a validation"))??;
    Ok(start.elapsed())
}

/// Waits, by a watch, until a request for a validation has been answered.
async fn handles<S: Scope>(subject: &Subject<S>, value: &str) -> Result<()> {
    let api: Api<Object<S>> = subject.api().clone();
    let handled = |object: Option<&Object<S>>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.and_then(|status| status.last_handled_reconcile_at.as_deref()) == Some(value)
    };
    await_condition(api, subject.name(), handled).await?;
    Ok(())
}

/// Declares that many registries, some at the same time.
async fn crowd(scene: &Scene<'_>, size: usize, spec: impl Fn(usize) -> Value) -> Result<()> {
    let declared = stream::iter(0..size).map(|index| {
        let spec = spec(index);
        async move { scene.declare(&format!("crowd-{index}"), spec).await.map(drop) }
    });
    declared.buffer_unordered(16).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Waits until so many registries are due, and there is no place for them.
async fn is_crowded(operator: &Operator, waiting: RangeInclusive<u32>) -> Result<()> {
    let look = || async {
        let depth = depth(operator).await?;
        ensure!(waiting.contains(&depth), "{depth} wait for their turn");
        anyhow::Ok(())
    };
    Ok(eventually(CROWDED, format!("{waiting:?} registries wait for their turn"), look).await?)
}

async fn depth(operator: &Operator) -> Result<u32> {
    let metrics = operator.metrics().await?;
    let Some(line) = metrics.lines().find(|line| line.contains("queue_depth") && !line.starts_with('#'))
    else {
        bail!("no depth of the queue among the metrics");
    };
    Ok(line.split_whitespace().next_back().unwrap_or_default().parse()?)
}

/// Says what was measured, and that the second is less than twice the first.
fn compare(what: &str, alone: Duration, beside: Duration) -> Result<()> {
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    tell(&format!("{what}: alone {alone:.1?}, beside {beside:.1?}, {ratio:.2} times as long"));
    ensure!(ratio < 2.0, "{what}: alone {alone:?}, beside {beside:?}");
    Ok(())
}

#[tokio::test]
async fn registries_on_a_host_that_hangs_do_not_delay_those_on_the_next() -> Result<()> {
    let _alone = ALONE.lock().await;
    let solo = solo::enter().await?;
    let operator = Operator::start(solo.alone().await?.arg("--concurrency=4")).await?;
    let (registry, mute) = (Played::promptly(healthy).await?, Mute::start().await?);
    let mut waiting = 0;
    for scene in Scene::both(&solo.cluster).await? {
        let object = scene.declare("healthy", usable(&scene, &registry).await?).await?;
        object.becomes(SOON, &["Ready=True/Available"]).await?;
        let alone = median_delay(&object, "alone").await?;
        crowd(&scene, 50, |_| json!({"endpoint": mute.endpoint, "validation": {"timeout": "5m"}})).await?;
        waiting += 49;
        is_crowded(&operator, waiting - 4..=waiting).await?;
        let beside = median_delay(&object, "beside").await?;
        compare("a healthy host beside one that hangs", alone, beside)?;

        let newcomer = scene.declare("newcomer", usable(&scene, &registry).await?).await?;
        newcomer.becomes(SOON, &["Ready=True/Available"]).await?;
        let leaving = scene.object("crowd-49");
        leaving.change(json!({"spec": {"endpoint": registry.url()}})).await?;
        leaving.becomes(SOON, &["CredentialsValidated=False/Required"]).await?;
        waiting -= 1;
        is_crowded(&operator, waiting - 4..=waiting).await?;
    }
    Ok(())
}

/// A namespace of a tenant.
async fn scene<'a>(cluster: &'a Cluster, tenant: &str) -> Result<Scene<'a>> {
    Ok(Scene::inside(cluster, cluster.tenant_namespace(tenant, tenant).await?))
}

#[tokio::test]
async fn a_tenant_with_a_thousand_failing_registries_delays_anothers_verdict_by_less_than_twice() -> Result<()>
{
    let _alone = ALONE.lock().await;
    let solo = solo::enter().await?;
    let operator = Operator::start(solo.alone().await?).await?;
    let (registry, guarded) =
        (Played::promptly(healthy).await?, Played::promptly(|_| asks_for_password()).await?);
    let mutes = [Mute::start().await?, Mute::start().await?, Mute::start().await?];
    let (many, one) = (scene(&solo.cluster, "many").await?, scene(&solo.cluster, "one").await?);
    let object = one.declare("healthy", usable(&one, &registry).await?).await?;
    object.becomes(SOON, &["Ready=True/Available"]).await?;
    let alone = median_delay(&object, "alone").await?;

    operator.stop().await?;
    let login = many.login("login", "demo", "wrong").await?;
    let auth = json!({"basic": {"secretRef": {"name": login}}});
    crowd(&many, 1000, |index| match index % 4 {
        0 => json!({"endpoint": DOWN}),
        1 => json!({"endpoint": guarded.url(), "auth": auth}),
        // At the very host that the other's is at, too: its share there is not one tenant's.
        2 => json!({"endpoint": registry.url(), "auth": auth}),
        _ => json!({"endpoint": mutes[index / 4 % mutes.len()].endpoint, "validation": {"timeout": "10s"}}),
    })
    .await?;
    operator.restart().await?;
    // All others have had their first verdict and come back again and again; those on hosts that hang are left.
    is_crowded(&operator, 1..=250).await?;
    let beside = median_delay(&object, "beside").await?;
    is_crowded(&operator, 50..=250).await?;
    compare("beside a tenant with 1,000 failing registries", alone, beside)
}
