//! Scenarios of docs/reliability.md whose point is a real part: a connection that falls silent, an API server without etcd, a registry
//! that throttles. Each test checks, after the fault, that the operator reaches the state that it would have reached without it,
//! and stays there. The other scenarios are where their subject is.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Operator, eventually, http_client::Call};
use serde_json::{Value, json};

use crate::{
    availability::secrets::{absent, config_for, delivered},
    exclusive_cluster::{self, ExclusiveCluster},
    fixtures::{
        Declared, PROMISED, ScriptedServer, TestScope, VALIDATED, Verdict, answer, asks_for_password,
        signed_in, welcome,
    },
    harness::{self, OPERATOR_USER, RegistryHandle},
    moment::{Moment, shows},
    network_faults::SilencingProxy,
    objects::{
        DOWN, Protected, apply, delete, is_guarded, login, tenant_registry, validate_now, write_lines,
        writes_since,
    },
};

/// From the end of a fault until the desired state is reached (docs/reliability.md#what-is-promised).
const RECOVERED: Duration = Duration::from_mins(1);
/// How long nothing may be written afterwards.
const QUIET: Duration = Duration::from_secs(3);
const READY: &[&str] = &["Ready=True/Available"];

/// What users do during a fault, and what comes of it. All registries are in one tenant's namespace.
struct Workload<'a> {
    solo: &'a ExclusiveCluster,
    protected: Protected,
    namespace: String,
}

impl<'a> Workload<'a> {
    /// The state before the fault.
    async fn start(solo: &'a ExclusiveCluster) -> Result<Self> {
        let namespace = solo.cluster.tenant_namespace("team", "team").await?;
        let workload = Self { solo, protected: Protected::start().await?, namespace };
        for (secret, password) in [("right", "right"), ("corrected", "wrong")] {
            workload.write(&login(&workload.namespace, secret, password)).await?;
        }
        workload.declare("kept", workload.delivering("kept-pull")).await?;
        workload.declare("removed", workload.delivering("removed-pull")).await?;
        workload.declare("corrected", workload.protected.spec("corrected")).await?;
        workload.declare("recreated", json!({"endpoint": DOWN})).await?;
        for (name, reason) in [
            ("kept", "True/Available"),
            ("removed", "True/Available"),
            ("corrected", "False/Rejected"),
            ("recreated", "False/ConnectionRefused"),
        ] {
            workload.registry(name).becomes(&[&format!("Ready={reason}")]).await?;
        }
        is_guarded(&workload.registry("removed")).await?;
        for secret in ["kept-pull", "removed-pull"] {
            workload.has_pull_secret(secret).await?;
        }
        Ok(workload)
    }

    fn registry(&self, name: &str) -> RegistryHandle<registry_api::spec::Tenant> {
        self.solo.cluster.tenant(&self.namespace, name)
    }

    fn delivering(&self, pull_secret: &str) -> Value {
        let mut spec = self.protected.spec("right");
        spec["availability"] = json!({"pullSecret": {"name": pull_secret}});
        spec
    }

    async fn write(&self, object: &Value) -> Result<()> {
        apply(&self.solo.cluster, object).await
    }

    async fn declare(&self, name: &str, spec: Value) -> Result<()> {
        self.write(&tenant_registry(&self.namespace, name, spec)).await
    }

    async fn has_pull_secret(&self, name: &str) -> Result<()> {
        let says = config_for(&self.protected.registry.host_port(), "right");
        delivered(&self.solo.cluster, &self.namespace, name, &says).await.map(drop)
    }

    /// What users do while the operator doesn't see it: they correct a password, delete a registry, create one, and replace one by
    /// another of the same name. Returns the moment before the last.
    async fn change(&self) -> Result<Moment> {
        self.write(&login(&self.namespace, "corrected", "right")).await?;
        self.declare("created", self.protected.spec("right")).await?;
        delete(&self.registry("removed")).await?;
        delete(&self.registry("recreated")).await?;
        self.registry("recreated").is_gone().await?;
        let replaced = Moment::on(self.solo.installation)?;
        self.declare("recreated", self.protected.spec("right")).await?;
        Ok(replaced)
    }

    /// Waits for the state that all this leads to without a fault, and checks that it is reached in time since `end`, the end of
    /// the fault, and stays.
    async fn ends(&self, end: &Moment, replaced: &Moment) -> Result<()> {
        for name in ["corrected", "recreated", "created"] {
            self.registry(name).becomes_within(RECOVERED, end, READY).await?;
        }
        self.registry("removed").is_gone_within(RECOVERED, end).await?;
        absent(&self.solo.cluster, &self.namespace, "removed-pull").await?;
        self.registry("kept").becomes(READY).await?;
        self.has_pull_secret("kept-pull").await?;
        // The successor got no verdict of its predecessor's.
        let writes = replaced.writes()?;
        let is_late = |write: &&registry_testbed::AuditEvent| {
            write.name == "recreated" && shows(&write.content, &["Ready=False/ConnectionRefused"])
        };
        ensure!(!writes.iter().any(|write| is_late(&write)), "{:#?}", write_lines(&writes));
        comes_to_rest(self.solo).await?;
        let rest = end.last_write()?;
        ensure!(rest <= RECOVERED, "the last write came {rest:?} after the end of the fault");
        validate_now(&self.registry("kept"), "after the fault").await
    }

    /// How often the wrong password was sent.
    fn wrong_passwords(&self) -> usize {
        self.protected.registry.authentications().iter().filter(|login| !login.accepted).count()
    }
}

/// Waits until the operator has nothing more to write.
async fn comes_to_rest(solo: &ExclusiveCluster) -> Result<()> {
    let look = || async {
        let mark = solo.mark()?;
        tokio::time::sleep(QUIET).await; // the silence is the condition
        let writes = writes_since(solo.installation, &mark, OPERATOR_USER)?;
        ensure!(writes.is_empty(), "{:#?}", write_lines(&writes));
        Ok(())
    };
    Ok(eventually("the operator has nothing more to write", look).await?)
}

// ---- The way to the API server

/// A ping is sent after 20 s, and waits 10 s for its answer; then the watch is opened again.
const NOTICED: Duration = Duration::from_secs(35);

#[tokio::test]
async fn fault_12_watch_silent_without_close() -> Result<()> {
    for leader_election in [true, false] {
        let run = is_noticed(leader_election).await;
        run.with_context(|| format!("--leader-election={leader_election}"))?;
    }
    Ok(())
}

async fn is_noticed(leader_election: bool) -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let proxy = SilencingProxy::start(&solo).await?;
    let options = proxy.operator_options(&solo).await?;
    let operator = Operator::start(options.arg(format!("--leader-election={leader_election}"))).await?;
    let workload = Workload::start(&solo).await?;
    let process = operator.id().await;

    // Only the connections are lost: the fault ends as it begins.
    let moment = Moment::on(solo.installation)?;
    proxy.silence();
    let replaced = workload.change().await?;
    workload.ends(&moment, &replaced).await.with_context(|| operator.log())?;
    let is_watch = |event: &registry_testbed::AuditEvent| {
        event.verb == "watch" && event.resource == "secrets" && event.namespace == workload.namespace
    };
    moment.keeps(NOTICED, "the Secrets are watched again", is_watch).await?;
    ensure!(operator.id().await == process && operator.exited().await?.is_none(), "{}", operator.log());
    Ok(())
}

// ---- etcd

/// The pauses between calls to the API server are the longest, 30 s, after 61 s of failures. From then on, an outage changes
/// nothing more; the simulation has longer ones.
const OUTAGE: Duration = Duration::from_secs(70);
/// Wrong passwords are sent again after one minute, and after two more.
const WRONG_PASSWORDS: usize = 3;

#[tokio::test]
async fn fault_16_etcd_down_until_pauses_are_longest() -> Result<()> {
    let solo = exclusive_cluster::enter().await?;
    let operator = Operator::start(solo.installation.operator_options().await?).await?;
    let workload = Workload::start(&solo).await?;
    let (process, etcd) = (operator.id().await, solo.installation.control_plane().etcd());

    etcd.stop().await?;
    for _ in 0..OUTAGE.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await; // the outage is the test
        let alive = Call::get(format!("{}/healthz", operator.url())).send().await?.status();
        ensure!(alive == 200, "/healthz says {alive} during the outage");
    }
    etcd.start().await?;
    let probe = || workload.declare("probe", json!({"endpoint": DOWN}));
    eventually("the API server writes again", probe).await?;
    let moment = Moment::on(solo.installation)?;
    let replaced = workload.change().await?;
    workload.ends(&moment, &replaced).await.with_context(|| operator.log())?;
    let wrong = workload.wrong_passwords();
    ensure!(wrong <= WRONG_PASSWORDS, "the wrong password was sent {wrong} times");
    ensure!(operator.id().await == process && operator.exited().await?.is_none(), "{}", operator.log());
    Ok(())
}

// ---- References

/// The spec of a registry with a password in that Secret.
fn with(registry: &ScriptedServer, secret: &str) -> Value {
    json!({"endpoint": registry.url(), "auth": {"basic": {"secretRef": {"name": secret}}}})
}

#[tokio::test]
async fn fault_20_secret_ref_removed_then_another() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = ScriptedServer::promptly(|asked| {
        let is_known = ["first", "second"].iter().any(|user| signed_in(asked, user, "right"));
        if is_known { welcome() } else { asks_for_password() }
    })
    .await?;
    let sent = |user: &str, from: usize| {
        let requests = registry.requests();
        requests[from..].iter().filter(|asked| signed_in(asked, user, "right")).count()
    };
    for scene in TestScope::both(&cluster).await? {
        let first = scene.login("first", "first", "right").await?;
        let second = scene.login("second", "second", "right").await?;
        let object = scene.declare("packs", scene.for_unknown_tenant(with(&registry, &first))).await?;
        object.shows(&VALIDATED.in_the_clear()).await?;

        let (moment, asked) = (Moment::on_shared().await?, registry.requests().len());
        object.change(json!({"spec": {"auth": null}})).await?;
        let required = Verdict::refused("False/Required").in_the_clear();
        object.shows_within(PROMISED, &moment, &required).await?;
        let moment = Moment::on_shared().await?;
        object.change(json!({"spec": {"auth": {"basic": {"secretRef": {"name": second}}}}})).await?;
        object.shows_within(PROMISED, &moment, &VALIDATED.in_the_clear()).await?;
        ensure!(sent("first", asked) == 0, "the password of the removed reference was sent");
        ensure!(sent("second", asked) > 0, "the other password was not sent");

        // Both at once: only the last reference counts.
        object.change(json!({"spec": {"auth": null}})).await?;
        object.change(json!({"spec": {"auth": {"basic": {"secretRef": {"name": first}}}}})).await?;
        object.shows(&VALIDATED.in_the_clear()).await?;
        let asked = registry.requests().len();
        scene.login("second", "second", "wrong").await?;
        object.request("now").await?;
        object.has_handled("now").await?;
        object.shows(&VALIDATED.in_the_clear()).await?;
        ensure!(sent("first", asked) == 1, "{} times for one request", sent("first", asked));
    }
    Ok(())
}

// ---- Registries that throttle

/// What a busy machine may add to a pause.
const GRACE: Duration = Duration::from_secs(10);

/// An open registry that answers with an error while it is busy, and records when it is asked.
struct BusyRegistry {
    server: ScriptedServer,
    state: Arc<BusyState>,
}

#[derive(Default)]
struct BusyState {
    is_busy: AtomicBool,
    asked: Mutex<Vec<Instant>>,
}

impl BusyRegistry {
    async fn start(status: u16, headers: &'static [(&'static str, &'static str)]) -> Result<Self> {
        let state = Arc::<BusyState>::default();
        let seen = state.clone();
        let server = ScriptedServer::promptly(move |_| {
            if !seen.is_busy.load(Ordering::Relaxed) {
                return welcome();
            }
            seen.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            answer(status, headers, "")
        })
        .await?;
        Ok(Self { server, state })
    }

    fn is_busy(&self, is_busy: bool) {
        self.state.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// The pauses between requests that were answered with the error.
    fn pauses(&self) -> Vec<Duration> {
        let asked = self.state.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Seconds between the first validations, without and with a `Retry-After` of 12 s.
const BY_ITSELF: [u64; 2] = [5, 10];
const AS_ASKED: [u64; 2] = [12, 12];

fn are_as_planned(pauses: &[Duration], planned: [u64; 2]) -> Result<()> {
    for (pause, planned) in pauses.iter().zip(planned.map(Duration::from_secs)) {
        let latest = planned.mul_f64(1.1) + GRACE;
        ensure!(*pause >= planned && *pause <= latest, "{pauses:?}; planned {planned:?}");
    }
    Ok(())
}

#[tokio::test]
async fn fault_26_busy_registry_is_asked_on_schedule() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let scene = TestScope::tenant(&cluster).await?;
    let asks = &[("Retry-After", "12")];
    let cases = [
        ("throttles", BusyRegistry::start(429, &[]).await?, BY_ITSELF),
        ("fails", BusyRegistry::start(503, &[]).await?, BY_ITSELF),
        ("throttles-for-a-time", BusyRegistry::start(429, asks).await?, AS_ASKED),
        ("fails-for-a-time", BusyRegistry::start(503, asks).await?, AS_ASKED),
    ];
    let one = async |name: &str, registry: &BusyRegistry, planned| {
        let object = scene.declare(name, json!({"endpoint": registry.server.url()})).await?;
        object.becomes(READY).await?;
        registry.is_busy(true);
        object.request("while it is busy").await?;
        is_unready_after_three(&object, registry).await?;
        are_as_planned(&registry.pauses(), planned)?;
        let moment = Moment::on_shared().await?;
        registry.is_busy(false);
        // By itself: the next pause is the last one twice, and at most a tenth longer.
        object.becomes_within(RECOVERED, &moment, READY).await?;
        anyhow::Ok(())
    };
    let runs = cases.iter().map(|(name, registry, planned)| async {
        one(name, registry, *planned).await.with_context(|| (*name).to_owned())
    });
    futures::future::try_join_all(runs).await.map(drop)
}

/// Waits for the third failure in a row, and checks that the registry is ready until then.
async fn is_unready_after_three(object: &Declared, registry: &BusyRegistry) -> Result<()> {
    let look = || async {
        let view = object.view().await?;
        // Read afterwards: the status can't know of more.
        let failures = registry.pauses().len() + 1;
        let is_ready = view.condition("Ready").status == "True";
        if failures < 3 && !is_ready {
            return Ok(Err(anyhow::anyhow!("unready after {failures} failures")));
        }
        ensure!(!is_ready, "{failures} failures");
        anyhow::Ok(Ok(()))
    };
    eventually("the registry is unready", look).await?
}
