//! One namespace's pull Secrets, as the API server tells of them. Decides nothing.
//!
//! Only the operator's own Secrets are asked for, and whole: what they say has to be compared, and a second request for
//! each would cost more than their few hundred bytes. Nothing but a fingerprint of them is kept.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{sync::mpsc, time::Instant};

use super::secret::{Found, selector};
use crate::{access::Access, streams::Streams, watch::is_answer};

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

/// There may be a thousand of these watches: they are renewed as seldom as the client takes.
const RENEWAL_SECONDS: u32 = 290;
/// Pauses after failures in a row, up to the last.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];
/// A role binding that is just being written is no reason to complain.
const QUIET: usize = 3;

/// Watches until dropped.
pub async fn follow(
    streams: Arc<Streams>,
    access: Arc<Access>,
    namespace: Arc<str>,
    sights: mpsc::Sender<Sight>,
) {
    let stream = streams.take();
    let (mut events, mut listing) = (watch(stream.client.clone(), &namespace), Listing::begin());
    let (mut failures, mut answered) = (0, false);
    while let Some(event) = events.next().await {
        let what = match event {
            Ok(event) => {
                if is_answer(&event) {
                    (failures, answered) = (0, true);
                }
                seen(event, &mut listing)
            }
            Err(error) => {
                complain(&namespace, &error, failures);
                answered |= answer(&error).is_some();
                if failures == QUIET && !answered {
                    events = watch(streams.plain(), &namespace); // perhaps what lies between takes no HTTP/2
                }
                if answer(&error) == Some(403) && access.is_ours_to_grant(&namespace) {
                    access.grant(&namespace).await;
                }
                tokio::time::sleep(PAUSES[failures.min(PAUSES.len() - 1)]).await;
                failures += 1;
                Some(Seen::Failed)
            }
        };
        let Some(what) = what else { continue };
        if sights.send(Sight { namespace: namespace.clone(), what }).await.is_err() {
            return;
        }
    }
}

fn watch(client: Client, namespace: &str) -> BoxStream<'static, watcher::Result<Event<Secret>>> {
    let config = watcher::Config::default().timeout(RENEWAL_SECONDS).labels(&selector());
    watcher(Api::namespaced(client, namespace), config).boxed()
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

fn complain(namespace: &str, error: &watcher::Error, failures: usize) {
    if failures == QUIET {
        tracing::warn!(namespace, %error, "the pull Secrets of a namespace can't be watched; it is tried again");
    } else {
        tracing::debug!(namespace, %error, "the pull Secrets of a namespace can't be watched");
    }
}

/// The API server's own answer, if the error is one.
fn answer(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
