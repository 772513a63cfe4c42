//! One namespace's pull Secrets, as the API server tells of them. Decides nothing.
//!
//! Only the operator's own Secrets are asked for, and whole: what they say has to be compared, and a second request for
//! each would cost more than their few hundred bytes. Nothing but a fingerprint of them is kept.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::{sync::mpsc, time::Instant};

use super::secret::{Found, selector};
use crate::{
    kubernetes::watches::{Source, WatchPool},
    tenancy::access::Access,
};

/// Something that was seen.
#[derive(Debug)]
pub struct Sight {
    /// Where.
    pub namespace: Arc<str>,
    /// What.
    pub what: Seen,
}

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// These are all of the operator's own Secrets, as asked for at that time.
    Listed(HashMap<Arc<str>, Found>, Instant),
    /// A Secret is there, in this state.
    There(Arc<str>, Found),
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
    sights: mpsc::Sender<Sight>,
) {
    let mut watch = watches.watch(Source::secrets(&access, &namespace).labels(selector()));
    let mut listing = Listing::begin();
    loop {
        let what = match watch.next().await {
            Ok(event) => seen(event, &mut listing),
            Err(_) => Some(Seen::Failed),
        };
        let Some(what) = what else { continue };
        if sights.send(Sight { namespace: namespace.clone(), what }).await.is_err() {
            return;
        }
    }
}

/// A list that is coming in.
struct Listing {
    began: Instant,
    own: HashMap<Arc<str>, Found>,
}

impl Listing {
    fn begin() -> Self {
        Self { began: Instant::now(), own: HashMap::new() }
    }
}

fn seen(event: Event<Secret>, listing: &mut Listing) -> Option<Seen> {
    match event {
        Event::Init => *listing = Listing::begin(),
        Event::InitApply(secret) => {
            listing.own.extend(Found::of(&secret).map(|found| (secret.name_any().into(), found)));
        }
        Event::InitDone => return Some(Seen::Listed(std::mem::take(&mut listing.own), listing.began)),
        Event::Apply(secret) => {
            let name = secret.name_any().into();
            return Some(match Found::of(&secret) {
                Some(found) => Seen::There(name, found),
                None => Seen::Gone(name, secret.uid().unwrap_or_default()),
            });
        }
        Event::Delete(secret) => {
            return Some(Seen::Gone(secret.name_any().into(), secret.uid().unwrap_or_default()));
        }
    }
    None
}
