//! Promises about time, checked exactly: a [`Moment`] just before a change, and how long the operator took from then on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use registry_testbed::{AuditEvent, AuditLog, AuditMark};
use serde_json::Value;

use crate::{
    fixtures::tell,
    harness::{Installation, OPERATOR_USER},
};

/// A moment just before a change, from which a promise about time counts. When the operator wrote what it promised is read from
/// the API server's audit log, so the bound is exact: a test that looks late doesn't make the operator late.
pub struct Moment {
    time: Timestamp,
    waited: Duration,
    mark: AuditMark,
    audit: AuditLog,
    user: &'static str,
}

impl Moment {
    /// Now, on the control plane that most tests share.
    pub async fn on_shared() -> Result<Self> {
        Self::on(Installation::shared().await?)
    }

    /// Now, on a control plane with an audit log.
    pub fn on(installation: &Installation) -> Result<Self> {
        let audit = installation.control_plane().audit()?;
        Ok(Self {
            mark: audit.mark(),
            time: now(),
            waited: waited_for_processors(),
            audit,
            user: OPERATOR_USER,
        })
    }

    /// The same, for an operator with another account.
    pub fn of_user(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    /// What the operator has written since, as far as it is in the audit log.
    pub fn writes(&self) -> Result<Vec<AuditEvent>> {
        Ok(self.audit.writes_since(&self.mark, self.user)?)
    }

    /// The time from this moment until the operator's last write was answered, as far as it is in the audit log. Renewals of the Lease
    /// and questions that are sent as writes don't count.
    pub fn last_write(&self) -> Result<Duration> {
        let mut last = Duration::ZERO;
        for write in self.writes()?.iter().filter(|write| is_lasting(write)) {
            last = last.max(self.elapsed_at(write)?.unwrap_or_default());
        }
        Ok(last)
    }

    /// Waits until the audit log has a successful request of the operator's that is meant, and checks that it was answered within
    /// `promise` since this moment. Returns the time that it took.
    pub async fn keeps(
        &self,
        promise: Duration,
        what: &str,
        is_meant: impl Fn(&AuditEvent) -> bool,
    ) -> Result<Duration> {
        let took = self.until(what, is_meant).await?;
        let waited = waited_for_processors().saturating_sub(self.waited);
        tell(&format!("{what}: after {took:?}"));
        ensure!(
            took <= promise,
            "{what}: took {took:?}; promised within {promise:?} (meanwhile, something waited for a processor for {waited:?})"
        );
        Ok(took)
    }

    /// Waits until the audit log has a successful request of the operator's that is meant. Returns the time from this moment until
    /// the first such request was answered, or, if it is a watch, until it began.
    pub async fn until(&self, what: &str, is_meant: impl Fn(&AuditEvent) -> bool) -> Result<Duration> {
        let is_meant = |event: &AuditEvent| {
            event.user == self.user
                && event.succeeded()
                && is_meant(event)
                && matches!(self.elapsed_at(event), Ok(Some(_)))
        };
        let is_there = |meant: &[AuditEvent]| match meant {
            [] => Err("the audit log has no such request".to_owned()),
            [..] => Ok(()),
        };
        let meant = self.audit.until(what, &self.mark, is_meant, is_there).await?;
        self.elapsed_at(&meant[0])?.context("is_meant")
    }

    /// The time from this moment until a request was answered. None for an older one: the log is written after the answers.
    fn elapsed_at(&self, event: &AuditEvent) -> Result<Option<Duration>> {
        let answered: Timestamp = event.completed.parse()?;
        Ok(Duration::try_from(answered.duration_since(self.time)).ok())
    }
}

/// The time since this machine's start in which something that could run waited for a processor: the pressure of Linux
/// (docs.kernel.org/accounting/psi.html). Zero where the kernel doesn't measure it.
fn waited_for_processors() -> Duration {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = pressure.lines().find(|line| line.starts_with("some "));
    let total = some.and_then(|line| line.split_once("total=")?.1.trim().parse().ok());
    Duration::from_micros(total.unwrap_or_default())
}

/// The time by the clock that the API server has too.
#[expect(clippy::disallowed_methods, reason = "the audit log has the time of day")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Whether a write changes an object, other than the Lease.
pub fn is_lasting(write: &AuditEvent) -> bool {
    !matches!(write.resource.as_str(), "leases" | "selfsubjectreviews")
}

/// Whether a status that was written has all of these conditions, as [`RegistryHandle::becomes`] takes them.
pub fn shows(content: &Value, expected: &[&str]) -> bool {
    let conditions: Vec<Condition> =
        serde_json::from_value(content["status"]["conditions"].clone()).unwrap_or_default();
    let has = |line: &str| {
        conditions.iter().any(|each| line == format!("{}={}/{}", each.type_, each.status, each.reason))
    };
    !conditions.is_empty()
        && expected.iter().all(|line| match line.strip_prefix('!') {
            Some(kind) => !conditions.iter().any(|each| each.type_ == kind),
            None => has(line),
        })
}
