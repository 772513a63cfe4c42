//! Detects that the API server's store was set back, for example because etcd was restored from a backup while the
//! operator runs.
//!
//! Resource versions are revisions of the store. If a watch resumes at a version that the store no longer has, it is
//! silent until the store reaches that version again, and everything known is outdated. So the operator compares
//! revisions with earlier ones, and starts again if one is older: the leader that of the Lease, which only the leader
//! writes; each watch that broke off that of its kind, while it resumes; and regularly that of a list.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::ListParams, core::PartialObjectMeta};
use tokio::sync::Notify;

use super::{call::call, watches::WatchPool};

/// How often to read a revision.
const PERIOD: Duration = Duration::from_secs(30);
/// How often to retry while the API server doesn't answer, because it may start with another store.
const RETRY: Duration = Duration::from_secs(1);

/// The newest revision so far.
#[derive(Debug, Default)]
pub struct Revision {
    newest: Option<u64>,
}

impl Revision {
    /// Records a revision, and returns whether it is older than the newest one, that is, whether the store was set
    /// back. A version that isn't a number is ignored (KEP-5504: all are numbers).
    pub fn is_set_back(&mut self, version: &str) -> bool {
        let Ok(revision) = version.parse::<u64>() else { return false };
        let before = self.newest.replace(revision);
        before.is_some_and(|before| revision < before)
    }
}

/// Returns when the store was set back: when a watch finds it while it resumes, or when a list has an older revision.
pub async fn set_back(client: &Client, watches: &WatchPool) {
    tokio::select! {
        biased;
        () = watches.set_back().notified() => {}
        () = is_older_than_before(client, watches.broken()) => {}
    }
    tracing::warn!("etcd was restored to an older revision; listing everything again");
}

/// Returns when a list has an older revision than an earlier list. `broken` is notified when a watch breaks off, as all
/// do when an API server stops.
async fn is_older_than_before(client: &Client, broken: &Notify) {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let mut revision = Revision::default();
    loop {
        // A list request without a resource version returns the newest state.
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
