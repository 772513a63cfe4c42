//! Watches the pull Secrets of one namespace. Decides nothing.
//!
//! The watch only selects Secrets with the operator's labels, and receives them completely, because their content has
//! to be compared. Another request for each would cost more than their few hundred bytes. Only a fingerprint is kept.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::{sync::mpsc, time::Instant};

use super::secret::{FoundSecret, selector};
use crate::{
    kubernetes::watches::{WatchPool, WatchSource},
    tenancy::access::Access,
};

/// An event in a namespace.
#[derive(Debug)]
pub struct NamespaceEvent {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The event.
    pub event: SecretEvent,
}

/// An event about pull Secrets.
#[derive(Debug)]
pub enum SecretEvent {
    /// All of the operator's own Secrets, from a list that was requested at this time.
    Listed(HashMap<Arc<str>, FoundSecret>, Instant),
    /// A Secret exists, in this state.
    There(Arc<str>, FoundSecret),
    /// The Secret with this name and uid is gone, or isn't managed by the operator.
    Gone(Arc<str>, String),
    /// The request failed.
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
