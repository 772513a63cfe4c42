//! The watch of the pull Secrets in one namespace. Decides nothing.
//!
//! Only the operator's own Secrets are watched, with their contents, which have to be compared: a second request for each would cost
//! more than their few hundred bytes. Only a fingerprint of each is kept.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::{sync::mpsc, time::Instant};

use super::secret::{FoundSecret, selector};
use crate::{
    kubernetes::watches::{WatchPool, WatchSource},
    tenancy::access::Access,
};

/// What the watch of a namespace observed.
#[derive(Debug)]
pub struct NamespaceEvent {
    /// The namespace.
    pub namespace: Arc<str>,
    /// What it observed there.
    pub event: SecretEvent,
}

/// What a watch observed.
#[derive(Debug)]
pub enum SecretEvent {
    /// The list of the operator's Secrets, requested at that time.
    Listed(HashMap<Arc<str>, FoundSecret>, Instant),
    /// A Secret exists, in this state.
    There(Arc<str>, FoundSecret),
    /// The Secret with that name and uid is gone, or is not managed by the operator.
    Gone(Arc<str>, String),
    /// The watch failed.
    Failed,
}

/// Watches a namespace until dropped.
pub async fn follow(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    namespace: Arc<str>,
    events: mpsc::Sender<NamespaceEvent>,
) {
    let mut watch = watches.watch(WatchSource::secrets(&access, &namespace).labels(selector()));
    let mut listing = SecretListing::begin();
    loop {
        let event = match watch.next().await {
            Ok(event) => event_for(event, &mut listing),
            Err(_) => Some(SecretEvent::Failed),
        };
        let Some(event) = event else { continue };
        if events.send(NamespaceEvent { namespace: namespace.clone(), event }).await.is_err() {
            return;
        }
    }
}

/// A list that is being received.
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
