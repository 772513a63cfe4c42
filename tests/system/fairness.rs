//! Fairness between hosts and tenants: the verdict on a healthy registry is as quick beside a crowd of failing
//! ones as alone. Measured as a ratio within one run, by the same registry, API server and machine. Ignored by default, because
//! nothing else may run at the same time: `cargo test --test system -- --ignored fairness`.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::wait::await_condition,
};
use registry_api::spec::{Registry as Object, Scope};
use registry_testbed::{Operator, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};

use crate::{
    exclusive_cluster,
    fixtures::{
        Answer, Declared, ReceivedRequest, ScriptedServer, TestScope, asks_for_password, signed_in, tell,
        welcome,
    },
    harness::{Cluster, RegistryHandle},
    objects::DOWN,
};

/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
/// How often one registry is validated for a median.
const ROUNDS: usize = 15;
/// How often it is measured, where the machine may have been busy with something else.
const RUNS: usize = 5;
/// How many times as long it may take beside others.
const MOST: f64 = 2.0;

/// A host that takes connections and never says a word.
struct SilentHost {
    endpoint: String,
    _listener: TcpListener,
}

impl SilentHost {
    /// The kernel takes the connections.
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { endpoint: format!("http://{}", listener.local_addr()?), _listener: listener })
    }
}

fn healthy(asked: &ReceivedRequest) -> Answer {
    if signed_in(asked, "demo", "right") { welcome() } else { asks_for_password() }
}

/// The spec of a registry that is usable.
async fn usable(scene: &TestScope<'_>, registry: &ScriptedServer) -> Result<Value> {
    let login = scene.login("login", "demo", "right").await?;
    Ok(json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": login}}}}))
}

/// Medians of times.
#[derive(Clone, Copy)]
struct Delays {
    /// From each request for a validation of a registry that is Ready until it has been answered.
    validation: Duration,
    /// The time from an unrelated write until a watch observes it: a measure of how busy the machine is.
    write: Duration,
}

impl Delays {
    async fn measure(object: &Declared, yardstick: &UnrelatedObject, run: &str) -> Result<Self> {
        let (mut validations, mut writes) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let value = format!("{run}-{round}");
            validations.push(delay(object, &value).await?);
            writes.push(yardstick.delay(&value).await?);
        }
        Ok(Self { validation: median(validations), write: median(writes) })
    }

    /// The least of some runs, or the first that is as short as it should be: what the crowd takes, it takes of every run; what
    /// the machine does besides, it may do during one.
    async fn beside(self, object: &Declared, yardstick: &UnrelatedObject) -> Result<Self> {
        let mut least = Self::measure(object, yardstick, "beside-0").await?;
        for run in 1..RUNS {
            if self.grown(&least) < MOST {
                break;
            }
            let next = Self::measure(object, yardstick, &format!("beside-{run}")).await?;
            if self.grown(&next) < self.grown(&least) {
                least = next;
            }
        }
        Ok(least)
    }

    /// How many times as long a validation takes beside others, on a machine that is as busy.
    fn grown(&self, beside: &Self) -> f64 {
        let busier = beside.write.as_secs_f64() / self.write.as_secs_f64();
        beside.validation.as_secs_f64() / self.validation.as_secs_f64() / busier.max(1.0)
    }
}

/// A delay that is longer isn't measured.
const LONGEST: Duration = Duration::from_secs(20);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn delay(object: &Declared, value: &str) -> Result<Duration> {
    let start = Instant::now();
    let handled = async {
        match object {
            Declared::System(subject) => handles(subject, value).await,
            Declared::Tenant(subject) => handles(subject, value).await,
        }
    };
    let (handled, requested) = tokio::join!(tokio::time::timeout(LONGEST, handled), object.request(value));
    requested?;
    handled.with_context(|| format!("no answer to the request {value} for a validation"))??;
    Ok(start.elapsed())
}

/// Waits, by a watch, until a request for a validation has been answered.
async fn handles<S: Scope>(subject: &RegistryHandle<S>, value: &str) -> Result<()> {
    let api: Api<Object<S>> = subject.api().clone();
    let handled = |object: Option<&Object<S>>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.and_then(|status| status.last_handled_reconcile_at.as_deref()) == Some(value)
    };
    await_condition(api, subject.name(), handled).await?;
    Ok(())
}

/// An object that the operator has nothing to do with.
struct UnrelatedObject {
    api: Api<ConfigMap>,
    name: String,
}

impl UnrelatedObject {
    async fn of(cluster: &Cluster) -> Result<Self> {
        let name = TestScope::inside(cluster, "default".to_owned()).config_map("yardstick", &[]).await?;
        Ok(Self { api: Api::namespaced(cluster.client(), "default"), name })
    }

    async fn delay(&self, value: &str) -> Result<Duration> {
        let start = Instant::now();
        let written = |map: Option<&ConfigMap>| {
            let data = map.and_then(|map| map.data.as_ref());
            data.and_then(|data| data.get("value")).is_some_and(|found| found == value)
        };
        let seen = tokio::time::timeout(LONGEST, await_condition(self.api.clone(), &self.name, written));
        let patch = Patch::Merge(json!({"data": {"value": value}}));
        let params = PatchParams::default();
        let (seen, patched) = tokio::join!(seen, self.api.patch(&self.name, &params, &patch));
        patched?;
        seen.with_context(|| format!("the write {value} is not seen"))??;
        Ok(start.elapsed())
    }
}

/// Declares that many registries, some at the same time.
async fn crowd(scene: &TestScope<'_>, size: usize, spec: impl Fn(usize) -> Value) -> Result<()> {
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
    Ok(eventually(format!("{waiting:?} registries wait for their turn"), look).await?)
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
fn compare(what: &str, alone: Delays, beside: Delays) -> Result<()> {
    let ratio = alone.grown(&beside);
    let message = format!(
        "{what}: alone {:.1?}, beside {:.1?}; a write alone {:.1?}, beside {:.1?}; {ratio:.2} times as long",
        alone.validation, beside.validation, alone.write, beside.write
    );
    tell(&message);
    ensure!(ratio < MOST, "{message}");
    Ok(())
}

#[tokio::test]
#[ignore = "measures times, so nothing else may run: `make test` runs it after the others"]
async fn hanging_host_does_not_delay_other_hosts() -> Result<()> {
    let _alone = ALONE.lock().await;
    let solo = exclusive_cluster::enter().await?;
    let operator = Operator::start(solo.alone().await?.arg("--concurrency=4")).await?;
    let (registry, mute) = (ScriptedServer::promptly(healthy).await?, SilentHost::start().await?);
    let (yardstick, mut waiting) = (UnrelatedObject::of(&solo.cluster).await?, 0);
    for scene in TestScope::both(&solo.cluster).await? {
        let object = scene.declare("healthy", usable(&scene, &registry).await?).await?;
        object.becomes(&["Ready=True/Available"]).await?;
        let alone = Delays::measure(&object, &yardstick, "alone").await?;
        crowd(&scene, 50, |_| json!({"endpoint": mute.endpoint, "validation": {"timeout": "5m"}})).await?;
        waiting += 49;
        is_crowded(&operator, waiting - 4..=waiting).await?;
        let beside = alone.beside(&object, &yardstick).await?;
        compare("a healthy host beside one that hangs", alone, beside)?;

        let newcomer = scene.declare("newcomer", usable(&scene, &registry).await?).await?;
        newcomer.becomes(&["Ready=True/Available"]).await?;
        let leaving = scene.object("crowd-49");
        leaving.change(json!({"spec": {"endpoint": registry.url()}})).await?;
        leaving.becomes(&["CredentialsValidated=False/Required"]).await?;
        waiting -= 1;
        is_crowded(&operator, waiting - 4..=waiting).await?;
    }
    Ok(())
}

/// A namespace of a tenant.
async fn scene<'a>(cluster: &'a Cluster, tenant: &str) -> Result<TestScope<'a>> {
    Ok(TestScope::inside(cluster, cluster.tenant_namespace(tenant, tenant).await?))
}

#[tokio::test]
#[ignore = "measures times, so nothing else may run: `make test` runs it after the others"]
async fn failing_tenant_delays_others_less_than_twice() -> Result<()> {
    let _alone = ALONE.lock().await;
    let solo = exclusive_cluster::enter().await?;
    let operator = Operator::start(solo.alone().await?).await?;
    let (registry, guarded) =
        (ScriptedServer::promptly(healthy).await?, ScriptedServer::promptly(|_| asks_for_password()).await?);
    let mutes = [SilentHost::start().await?, SilentHost::start().await?, SilentHost::start().await?];
    let (many, one) = (scene(&solo.cluster, "many").await?, scene(&solo.cluster, "one").await?);
    let yardstick = UnrelatedObject::of(&solo.cluster).await?;
    let object = one.declare("healthy", usable(&one, &registry).await?).await?;
    object.becomes(&["Ready=True/Available"]).await?;
    let alone = Delays::measure(&object, &yardstick, "alone").await?;

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
    let beside = alone.beside(&object, &yardstick).await?;
    is_crowded(&operator, 50..=250).await?;
    compare("beside a tenant with 1,000 failing registries", alone, beside)
}
