//! One namespace's pull Secrets, as the API server tells of them. Decides nothing.
//!
//! Only the operator's own Secrets are asked for, and whole: what they say has to be compared, and a second request for
//! each would cost more than their few hundred bytes. Nothing but a fingerprint of them is kept.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::{sync::mpsc, time::Instant};

use super::secret::{FoundSecret, selector};
use crate::{
    kubernetes::watches::{WatchPool, WatchSource},
    tenancy::access::Access,
};

/// Something that was seen.
#[derive(Debug)]
pub struct NamespaceEvent {
    /// Where.
    pub namespace: Arc<str>,
    /// What.
    pub what: SecretEvent,
}

/// What was seen.
#[derive(Debug)]
pub enum SecretEvent {
    /// These are all of the operator's own Secrets, as asked for at that time.
    Listed(HashMap<Arc<str>, FoundSecret>, Instant),
    /// A Secret is there, in this state.
    There(Arc<str>, FoundSecret),
    /// The Secret with that name, of that uid, is gone, or is not the operator's own: no longer, or it never was.
    Gone(Arc<str>, String),
    /// Nothing: it could not be looked.
    Failed,
}

/// Watches until dropped.
pub async fn follow(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    namespace: Arc<str>,
    sights: mpsc::Sender<NamespaceEvent>,
) {
    let mut watch = watches.watch(WatchSource::secrets(&access, &namespace).labels(selector()));
    let mut listing = SecretListing::begin();
    loop {
        let what = match watch.next().await {
            Ok(event) => event_for(event, &mut listing),
            Err(_) => Some(SecretEvent::Failed),
        };
        let Some(what) = what else { continue };
        if sights.send(NamespaceEvent { namespace: namespace.clone(), what }).await.is_err() {
            return;
        }
    }
}

/// A list that is coming in.
struct SecretListing {
    began: Instant,
    own: HashMap<Arc<str>, FoundSecret>,
}

impl SecretListing {
    fn begin() -> Self {
        Self { began: Instant::now(), own: HashMap::new() }
    }
}

fn event_for(event: Event<Secret>, listing: &mut SecretListing) -> Option<SecretEvent> {
    match event {
        Event::Init => *listing = SecretListing::begin(),
        Event::InitApply(secret) => {
            listing.own.extend(FoundSecret::of(&secret).map(|found| (secret.name_any().into(), found)));
        }
        Event::InitDone => return Some(SecretEvent::Listed(std::mem::take(&mut listing.own), listing.began)),
        Event::Apply(secret) => {
            let name = secret.name_any().into();
            return Some(match FoundSecret::of(&secret) {
                Some(found) => SecretEvent::There(name, found),
                None => SecretEvent::Gone(name, secret.uid().unwrap_or_default()),
            });
        }
        Event::Delete(secret) => {
            return Some(SecretEvent::Gone(secret.name_any().into(), secret.uid().unwrap_or_default()));
        }
    }
    None
}
