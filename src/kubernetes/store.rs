//! Whether the API server's store was set back, as when etcd is restored from a backup while the operator runs.
//!
//! Resource versions are revisions of the store. A watch that is resumed at one that the store does not have any more is
//! silent until the store gets there again, and what is known then holds no longer. So the operator reads a revision now and
//! then, and begins anew when one is older than one before: its leader's that of the Lease, which it writes anyway and
//! nobody else does; each watch that broke off that of its kind, before it resumes; and that of a list, now and then.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::ListParams, core::PartialObjectMeta};
use tokio::sync::Notify;

use super::{call::call, watches::WatchPool};

/// How often a revision is read.
const PERIOD: Duration = Duration::from_secs(30);
/// How often while the API server doesn't answer: it may be started with another store.
const RETRY: Duration = Duration::from_secs(1);

/// The newest revision that was read.
#[derive(Debug, Default)]
pub struct Revision {
    newest: Option<u64>,
}

impl Revision {
    /// Takes in what was read now; returns whether the store was set back since the last time. What is not a number
    /// (KEP-5504 says that all are) tells nothing.
    pub fn is_set_back(&mut self, version: &str) -> bool {
        let Ok(revision) = version.parse::<u64>() else { return false };
        let before = self.newest.replace(revision);
        before.is_some_and(|before| revision < before)
    }
}

/// Returns when the store was set back: by what the watches find before they resume, or by a list.
pub async fn set_back(client: &Client, watches: &WatchPool) {
    tokio::select! {
        () = watches.set_back().notified() => {}
        () = is_older_than_before(client, watches.broken()) => {}
    }
    tracing::warn!("etcd was restored to an older revision; listing everything again");
}

/// Returns when a list came from an older revision than one before. `broken` is notified when a watch broke off, as all do when
/// an API server ends.
async fn is_older_than_before(client: &Client, broken: &Notify) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut revision = Revision::default();
    loop {
        // A list without a resource version is as new as the store.
        let pause = match call(namespaces.list(&ListParams::default().limit(1))).await {
            Ok(list) => {
                if revision.is_set_back(&list.metadata.resource_version.unwrap_or_default()) {
                    return;
                }
                PERIOD
            }
            Err(error) => {
                tracing::debug!(%error, "failed to read the revision of etcd, retrying");
                RETRY
            }
        };
        let _ = tokio::time::timeout(pause, broken.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_older_revision_once() {
        let mut revision = Revision::default();
        let seen = ["7", "7", "9", "8", "8", "10"].map(|version| revision.is_set_back(version));
        assert_eq!(seen, [false, false, false, true, false, false]);
    }

    #[test]
    fn ignores_invalid_revision() {
        let mut revision = Revision::default();
        let seen = ["7", "", "x", "6"].map(|version| revision.is_set_back(version));
        assert_eq!(seen, [false, false, false, true]);
    }
}
