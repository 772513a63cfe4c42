//! The rejections in a Secret of the system namespace, with the key of their digests, so that a restart or another leader
//! tries no rejected password before its time.
//!
//! The chart makes the Secret, empty; the operator may write to that one and create none. Where it is missing or can't be
//! written, the rejections are in memory only, which is logged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_lc_rs::{
    error::Unspecified,
    hmac::{self, HMAC_SHA256},
    rand::{SecureRandom, SystemRandom},
};
use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use registry_verdict::rejections::{Rejections, records::decode, table::Table};
use serde_json::json;
use tokio::time::{sleep, timeout};

/// The name of the Secret.
pub const NAME: &str = "registry-operator-rejections";
/// Its type, which no registry can refer to.
const TYPE: &str = "registry.spectrocloud.com/rejections";
const FIELD_MANAGER: &str = "registry-operator-rejections";
const KEY: &str = "key";
const RECORDS: &str = "rejections";
const KEY_LENGTH: usize = 32;
const ANSWER: Duration = Duration::from_secs(10);
/// Between two writes.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two tries to read or write.
const RETRY: Duration = Duration::from_secs(5);

/// Where the rejections are kept.
pub struct RejectionStore {
    api: Api<Secret>,
}

/// The rejections, and what is known of their Secret.
pub struct KeptRejections {
    /// The rejections.
    pub rejections: Arc<Rejections>,
    key: Vec<u8>,
    /// The revision that is stored.
    stored: AtomicU64,
}

/// A revision that isn't one: nothing is stored yet.
const NOTHING: u64 = u64::MAX;

impl RejectionStore {
    /// The Secret in that namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace) }
    }

    /// Reads what is stored. Waits for the API server; where it refuses, begins with nothing.
    pub async fn load(&self, clock: fn() -> Timestamp) -> Result<KeptRejections, Unspecified> {
        let stored = loop {
            match timeout(ANSWER, self.read_or_create()).await {
                Ok(Ok(secret)) => break secret.data.unwrap_or_default(),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404 | 409 | 422) => {
                    tracing::warn!(
                        secret = NAME,
                        error = status.message,
                        "failed to get Secret: refused, so rejected credentials are forgotten at a restart; \
                         reinstall the chart"
                    );
                    break BTreeMap::new();
                }
                Ok(Err(error)) => tracing::warn!(secret = NAME, %error, "failed to get Secret, retrying"),
                Err(_) => tracing::warn!(secret = NAME, "failed to get Secret: no answer, retrying"),
            }
            sleep(RETRY).await;
        };
        KeptRejections::of(stored, clock)
    }

    async fn read_or_create(&self) -> Result<Secret, kube::Error> {
        if let Some(secret) = self.api.get_opt(NAME).await? {
            return Ok(secret);
        }
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, type_: Some(TYPE.to_owned()), ..Secret::default() };
        self.api
            .create(
                &PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() },
                &secret,
            )
            .await
    }

    /// Stores the rejections whenever they have changed; the first change at once. Runs until dropped.
    pub async fn keep(&self, kept: &KeptRejections) {
        loop {
            let revision = kept.rejections.revision();
            if kept.stored.load(Relaxed) == revision {
                kept.rejections.changed().await;
                continue;
            }
            let pause = if self.write(&kept.data()).await {
                kept.stored.store(revision, Relaxed);
                PAUSE
            } else {
                RETRY
            };
            sleep(pause).await;
        }
    }

    /// Whether it was written, or can't be.
    async fn write(&self, data: &BTreeMap<String, ByteString>) -> bool {
        let patch = Patch::Merge(json!({"data": data}));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match timeout(ANSWER, self.api.patch(NAME, &params, &patch)).await {
            Ok(Ok(_)) => true,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404 | 422) => {
                tracing::warn!(
                    secret = NAME,
                    error = status.message,
                    "failed to patch Secret: refused, so rejected credentials are forgotten at a restart; \
                     reinstall the chart"
                );
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(secret = NAME, %error, "failed to patch Secret, retrying");
                false
            }
            Err(_) => {
                tracing::warn!(secret = NAME, "failed to patch Secret: no answer, retrying");
                false
            }
        }
    }
}

impl KeptRejections {
    /// Those of a Secret with this data. Without a key, begins with nothing and a new key.
    fn of(mut data: BTreeMap<String, ByteString>, clock: fn() -> Timestamp) -> Result<Self, Unspecified> {
        let mut table = Table::default();
        let known = data.remove(KEY).map(|key| key.0).filter(|key| key.len() == KEY_LENGTH);
        let stored = if known.is_some() { table.revision() } else { NOTHING };
        let key = if let Some(key) = known {
            table.resume(data.get(RECORDS).map_or_else(Vec::new, |records| decode(&records.0)));
            key
        } else {
            let mut key = vec![0; KEY_LENGTH];
            SystemRandom::new().fill(&mut key)?;
            key
        };
        let rejections = Rejections::new(table, hmac::Key::new(HMAC_SHA256, &key), clock);
        Ok(Self { rejections, key, stored: AtomicU64::new(stored) })
    }

    /// What the Secret holds: with the key, because someone may have replaced the Secret meanwhile.
    fn data(&self) -> BTreeMap<String, ByteString> {
        let of = |name: &str, bytes| (name.to_owned(), ByteString(bytes));
        BTreeMap::from([of(KEY, self.key.clone()), of(RECORDS, self.rejections.encoded())])
    }
}
