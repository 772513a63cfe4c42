//! The clients for the API server: their user agent, timeouts, and whether they may write.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, header::USER_AGENT};
use kube::{Client, Config, client::ClientBuilder};

use crate::{
    kubernetes::{
        http2::{self, Http2ClientPool},
        lease::Connect,
        term::LeadershipTerm,
        watches::WatchPool,
        write_gate::WriteGate,
    },
    observability::metrics::Metrics,
};

const AGENT: &str = concat!("registry-operator/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The clients of one replica.
pub struct ApiClients {
    /// Creates clients that can write at any time, for the Lease.
    pub unbound: Connect,
    /// Can only write during the leadership term. For everything else.
    pub bound: Client,
    /// For dry runs whose refusal is expected and must not count as a failure.
    pub uncounted: Client,
    /// The pool of watches.
    pub watches: Arc<WatchPool>,
}

/// Creates the clients, which count their requests. They don't retry, because the caller knows what a failure means.
/// `jitter` returns random numbers from 0 to 1.
pub fn clients(
    mut config: Config,
    metrics: &Metrics,
    term: Arc<LeadershipTerm>,
    jitter: fn() -> f64,
) -> kube::Result<ApiClients> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    let layer = |term| WriteGate::new(metrics.clone(), term);
    let bound = http2::for_calls(&config, &layer(Some(term)))?;
    let uncounted = ClientBuilder::try_from(config.clone())?.build();
    let http2 = Http2ClientPool::new(config.clone(), metrics.clone(), bound.clone());
    let watches = Arc::new(WatchPool::new(http2, jitter));
    let guard = layer(None);
    let unbound: Connect =
        Box::new(move || Ok(ClientBuilder::try_from(config.clone())?.with_layer(&guard).build()));
    Ok(ApiClients { unbound, bound, uncounted, watches })
}
