//! The journal of a validation: handshakes, request counts, durations, `Retry-After`.

use std::time::Duration;

use crate::findings::{LayerDurations, RequestCounts, Stage};
use crate::host::HostPort;
use crate::tls::{PresentedCertificate, TlsDefect};

/// The record of one validation.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Whether any server accepted a connection.
    pub(crate) connected: bool,
    pub(crate) handshakes: Vec<HandshakeRecord>,
    pub(crate) requests: RequestCounts,
    pub(crate) durations: LayerDurations,
    pub(crate) retry_after: Option<Duration>,
}

/// One handshake.
#[derive(Debug, Clone)]
pub(crate) struct HandshakeRecord {
    pub(crate) server: HostPort,
    /// Whether the verdict depends on this server.
    pub(crate) decisive: bool,
    /// Why there is no connection; empty if there is one.
    pub(crate) failure: Vec<TlsDefect>,
    /// The certificate's defects, even if verification is skipped.
    pub(crate) certificate_defects: Vec<TlsDefect>,
    pub(crate) presented: Option<PresentedCertificate>,
}

impl Journal {
    pub(super) fn count(&mut self, status: Option<u16>) {
        let counts = &mut self.requests;
        let counter = match status {
            None => &mut counts.failed,
            Some(200..=299) => &mut counts.granted,
            Some(401 | 403) => &mut counts.refused,
            Some(429) => &mut counts.throttled,
            Some(500..=599) => &mut counts.server_error,
            Some(_) => &mut counts.other,
        };
        *counter += 1;
    }

    pub(super) fn took(&mut self, stage: Stage, time: Duration) {
        let layer = match stage {
            Stage::Resolve => &mut self.durations.resolve,
            Stage::Connect => &mut self.durations.connect,
            Stage::Tls => &mut self.durations.tls,
            Stage::Request => &mut self.durations.request,
        };
        *layer += time;
    }

    pub(super) fn wait(&mut self, time: Option<Duration>) {
        self.retry_after = self.retry_after.max(time);
    }
}
