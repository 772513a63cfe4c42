//! What was asked: of the API server, from its audit log; of the registry, from its access log.

use std::time::Duration;

use registry_testbed::{AuditEvent, AuditMark};

use crate::bed::Bed;

/// The operator's requests in some time, by what they are for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Writes of a registry's status.
    pub status: usize,
    /// Writes of a registry itself: of its finalizer.
    pub finalizer: usize,
    /// Events.
    pub events: usize,
    /// Renewals of the leader's lease, which depend on time and not on registries.
    pub leases: usize,
    /// Writes of anything else.
    pub other: usize,
    /// Gets, lists and watches.
    pub reads: usize,
    /// Of all these, how many were not answered 2xx.
    pub refused: usize,
}

/// A place in the audit log that lies between two lines: one that has not moved for a moment.
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
    /// Since that place in the audit log.
    pub fn since(bed: &Bed, mark: &AuditMark) -> anyhow::Result<Self> {
        let mut tally = Self::default();
        let user = Bed::operator_user();
        for event in bed.audit()?.since(mark)?.iter().filter(|event| event.user == user) {
            tally.add(event);
        }
        Ok(tally)
    }

    fn add(&mut self, event: &AuditEvent) {
        // A watch is counted when it starts; it may never be complete.
        if event.stage != if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" } {
            return;
        }
        let counter = match (event.resource.as_str(), event.subresource.as_str()) {
            // A review asks a question, although its verb is `create`.
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

    /// Everything written but the lease.
    pub fn writes(&self) -> usize {
        self.status + self.finalizer + self.events + self.other
    }

    /// Everything asked but the lease.
    pub fn requests(&self) -> usize {
        self.writes() + self.reads
    }
}

/// The operator's requests to the registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryTally {
    /// All of them.
    pub requests: usize,
    /// Of these, how many were answered 200.
    pub granted: usize,
}

impl RegistryTally {
    /// Since the registry's start.
    pub fn so_far(bed: &Bed) -> Self {
        let requests = bed.registry.requests();
        let mine = || requests.iter().filter(|access| access.user_agent.starts_with("registry-operator/"));
        Self { requests: mine().count(), granted: mine().filter(|access| access.status == 200).count() }
    }

    /// What came after those before.
    pub fn minus(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, granted: self.granted - before.granted }
    }
}
