//! Checks whether the API server enforces the chart's admission policies.
//!
//! There are three parts. A dry run that a policy must refuse shows that the API server evaluates policies, and this
//! one. Reading the policies and bindings shows which one is missing or only warns. A search for mutating webhooks and
//! policies shows what may change registries, which no policy can prevent.
//!
//! The leader checks when it becomes the leader and every ten minutes; a standby doesn't. A gap is reported after a
//! second check, because Helm installs policies last.

mod dry_run;
mod mutators;
mod policies;

pub use self::dry_run::CANARY;

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::time::Instant;

use self::mutators::Mutators;
use crate::{
    kubernetes::self_subject,
    observability::{metrics::Metrics, server::Health},
    settings::TenantAccess,
};

/// The time between checks while the policies are in force.
const INTERVAL: Duration = Duration::from_mins(10);
/// The time before the second check, which confirms a gap.
const CONFIRM: Duration = Duration::from_secs(5);
/// The time between checks while there is a gap or nothing is known, so that a fix shows soon.
const MENDING: Duration = Duration::from_secs(30);

/// The result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Finding {
    /// Every policy exists and denies, and the dry run was refused.
    InForce,
    /// What is missing, one sentence each.
    Gaps(Vec<String>),
    /// The check failed, for this reason.
    Unknown(String),
}

/// The checks of one replica.
pub struct Guard {
    client: Client,
    system_namespace: String,
    how: TenantAccess,
    metrics: Metrics,
    health: Arc<Health>,
}

impl Guard {
    /// `client` must not count its requests: its refusals are expected.
    pub fn new(
        client: Client,
        (system_namespace, how): (String, TenantAccess),
        metrics: Metrics,
        health: Arc<Health>,
    ) -> Self {
        Self { client, system_namespace, how, metrics, health }
    }

    /// Checks until dropped.
    pub async fn keep_checking(&self) {
        let (mut record, mut mutators) = (GuardRecord::default(), None);
        loop {
            let finding = self.inspect().await;
            let next = record.after(&finding, Instant::now());
            self.report(&finding, &next);
            self.look_for_mutators(&mut mutators).await;
            tokio::time::sleep(next.pause).await;
        }
    }

    /// Forgets the result, because a standby doesn't know it.
    pub fn forget(&self) {
        self.metrics.guard_in_force(None);
        self.health.guard(None);
    }

    async fn inspect(&self) -> Finding {
        let (user, installed) =
            futures::join!(self_subject::self_subject(&self.client), policies::gaps(&self.client, self.how));
        let user = user.ok().and_then(|user| user.username).unwrap_or_default();
        let tried = dry_run::gaps(&self.client, &user, &self.system_namespace).await;
        together([installed, tried])
    }

    fn report(&self, finding: &Finding, next: &GuardChange) {
        if let Some(told) = next.told {
            self.metrics.guard_in_force(Some(told));
            self.health.guard(Some(match finding {
                Finding::Gaps(gaps) => Err(gaps.join("; ")),
                Finding::InForce | Finding::Unknown(_) => Ok(()),
            }));
        }
        if !next.log {
            return;
        }
        match finding {
            Finding::InForce => tracing::info!("admission policies are in force"),
            Finding::Gaps(gaps) => tracing::error!(
                gaps = gaps.join("; "),
                "admission policies are not in force: registries and tenants are not protected; reinstall the \
                 chart"
            ),
            Finding::Unknown(why) => {
                tracing::warn!(why, "failed to check the admission policies, retrying");
            }
        }
    }

    async fn look_for_mutators(&self, known: &mut Option<Mutators>) {
        let found = match mutators::find(&self.client).await {
            Ok(found) => found,
            Err(error) => return tracing::warn!(%error, "failed to list mutating webhooks and policies"),
        };
        self.metrics.registry_mutators(found.len());
        if known.as_ref() != Some(&found) && !found.is_empty() {
            tracing::warn!(
                mutators = found.to_string(),
                "mutating admission can change registries before they are stored; make sure that only system \
                 administrators can change it"
            );
        }
        *known = Some(found);
    }
}

/// Combines two results: gaps first, then unknown, then in force.
fn together(findings: [Finding; 2]) -> Finding {
    let (mut gaps, mut unknown) = (Vec::new(), None);
    for finding in findings {
        match finding {
            Finding::InForce => {}
            Finding::Gaps(more) => gaps.extend(more),
            Finding::Unknown(why) => unknown = Some(why),
        }
    }
    match (gaps.is_empty(), unknown) {
        (false, _) => Finding::Gaps(gaps),
        (true, Some(why)) => Finding::Unknown(why),
        (true, None) => Finding::InForce,
    }
}

/// What was found and reported so far.
#[derive(Debug, Default)]
struct GuardRecord {
    last: Option<Finding>,
    logged: Option<Instant>,
}

/// What to report after a check.
#[derive(Debug, PartialEq)]
struct GuardChange {
    /// Whether the policies are in force, if that is to be reported.
    told: Option<bool>,
    log: bool,
    pause: Duration,
}

impl GuardRecord {
    fn after(&mut self, finding: &Finding, now: Instant) -> GuardChange {
        let before = self.last.replace(finding.clone());
        let was_open = matches!(before, Some(Finding::Gaps(_)));
        let (told, pause) = match finding {
            Finding::InForce => (Some(true), INTERVAL),
            Finding::Gaps(_) if was_open => (Some(false), MENDING),
            Finding::Gaps(_) => (None, CONFIRM),
            Finding::Unknown(_) => (None, MENDING),
        };
        let is_news = before.as_ref() != Some(finding) || self.logged.is_none();
        let is_long_ago = self.logged.is_none_or(|at| now.duration_since(at) >= INTERVAL);
        let log = match finding {
            Finding::InForce => is_news,
            Finding::Gaps(_) => told.is_some() && (is_news || is_long_ago),
            Finding::Unknown(_) => is_news || is_long_ago,
        };
        self.logged = match finding {
            Finding::Gaps(_) if told.is_none() => None,
            Finding::Gaps(_) | Finding::InForce | Finding::Unknown(_) if log => Some(now),
            Finding::Gaps(_) | Finding::InForce | Finding::Unknown(_) => self.logged,
        };
        GuardChange { told, log, pause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Finding {
        Finding::Gaps(vec!["a policy is missing".to_owned()])
    }

    #[tokio::test(start_paused = true)]
    async fn reports_gap_at_second_check() {
        let mut record = GuardRecord::default();
        let mut at = Instant::now();
        let first = record.after(&gap(), at);
        assert_eq!(first, GuardChange { told: None, log: false, pause: CONFIRM });
        let mut logs = Vec::new();
        for look in 0..41 {
            at += MENDING;
            let next = record.after(&gap(), at);
            assert_eq!((next.told, next.pause), (Some(false), MENDING));
            logs.extend(next.log.then_some(look));
        }
        assert_eq!(logs, [0, 20, 40]);
        assert_eq!(
            record.after(&Finding::InForce, at),
            GuardChange { told: Some(true), log: true, pause: INTERVAL }
        );
        assert_eq!(
            record.after(&Finding::InForce, at),
            GuardChange { told: Some(true), log: false, pause: INTERVAL }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_result_keeps_last_report() {
        let (mut record, at) = (GuardRecord::default(), Instant::now());
        let unknown = Finding::Unknown("no answer".to_owned());
        assert_eq!(record.after(&Finding::InForce, at).told, Some(true));
        assert_eq!(record.after(&unknown, at), GuardChange { told: None, log: true, pause: MENDING });
        assert!(!record.after(&unknown, at).log);
    }

    #[test]
    fn gap_outweighs_unknown_results() {
        let unknown = || Finding::Unknown("no answer".to_owned());
        assert_eq!(together([unknown(), gap()]), gap());
        assert_eq!(together([unknown(), Finding::InForce]), unknown());
        assert_eq!(together([Finding::InForce, Finding::InForce]), Finding::InForce);
    }
}
