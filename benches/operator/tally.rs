//! Counts requests: to the API server from its audit log, to the registry from its access log.

use std::time::Duration;

use registry_testbed::{AuditEvent, AuditMark};

use crate::bed::Bed;

/// The operator's requests in some time, by purpose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes of a registry's status.
    pub status: usize,
    /// Writes of a registry itself, that is, of its finalizer.
    pub finalizer: usize,
    /// Writes of Events.
    pub events: usize,
    /// Renewals of the Lease, whose number depends on time and not on registries.
    pub leases: usize,
    /// All other writes.
    pub other: usize,
    /// Gets, lists and watches.
    pub reads: usize,
    /// Requests of all kinds with a response other than 2xx.
    pub refused: usize,
}

/// Returns a position at the end of the audit log, when it hasn't grown for a moment.
pub async fn mark(bed: &Bed) -> anyhow::Result<AuditMark> {
    let audit = bed.audit()?;
    loop {
        let mark = audit.mark();
        tokio::time::sleep(Duration::from_millis(20)).await;
        if audit.mark() == mark {
            return Ok(mark);
        }
    }
}

impl Tally {
    /// Counts the requests since that position of the audit log.
    pub fn since(bed: &Bed, mark: &AuditMark) -> anyhow::Result<Self> {
        let mut tally = Self::default();
        let user = Bed::operator_user();
        for event in bed.audit()?.since(mark)?.iter().filter(|event| event.user == user) {
            tally.add(event);
        }
        Ok(tally)
    }

    fn add(&mut self, event: &AuditEvent) {
        // A watch counts when it starts, because it may never complete.
        if event.stage != if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" } {
            return;
        }
        let counter = match (event.resource.as_str(), event.subresource.as_str()) {
            // A review is a read, although its verb is `create`.
            ("selfsubjectreviews", _) => &mut self.reads,
            _ if !event.is_write() => &mut self.reads,
            ("systemregistries", "status") => &mut self.status,
            ("systemregistries", _) => &mut self.finalizer,
            ("events", _) => &mut self.events,
            ("leases", _) => &mut self.leases,
            _ => &mut self.other,
        };
        *counter += 1;
        self.refused += usize::from(!event.succeeded());
    }

    /// Returns the number of writes, except of the Lease.
    pub fn writes(&self) -> usize {
        self.status + self.finalizer + self.events + self.other
    }

    /// Returns the number of requests, except for the Lease.
    pub fn requests(&self) -> usize {
        self.writes() + self.reads
    }
}

/// The operator's requests to the registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryTally {
    /// All requests.
    pub requests: usize,
    /// Requests with the response 200.
    pub granted: usize,
}

impl RegistryTally {
    /// Counts the requests since the registry started.
    pub fn so_far(bed: &Bed) -> Self {
        let requests = bed.registry.requests();
        let mine = || requests.iter().filter(|access| access.user_agent.starts_with("registry-operator/"));
        Self { requests: mine().count(), granted: mine().filter(|access| access.status == 200).count() }
    }

    /// Returns the requests since `before`.
    pub fn minus(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, granted: self.granted - before.granted }
    }
}
