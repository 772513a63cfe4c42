//! A process of the operator: the real one, from its clients upwards, over connections that can fail.

use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::Poll,
};

use bytes::Bytes;
use clap::Parser as _;
use http::{Request, Response};
use kube::{Client, Config, client::Body};
use registry_operator::{
    kubernetes::{
        http2::Http2ClientPool,
        lease::{Candidate, Connect},
        term::LeadershipTerm,
        watches::WatchPool,
        write_gate::WriteGate,
    },
    observability::{health::Health, metrics::Metrics},
    replica::Replica,
    settings::{OperatorCli, Settings},
};
use registry_probe::{Prober, ProberSettings};
use registry_simulated_replica::stand_and_lead;
use registry_verdict::cluster_addresses::ClusterAddresses;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer as _, Service};

use crate::{
    cast::SYSTEM_NAMESPACE,
    chance, clock,
    registries::Registries,
    wire::{ApiLink, connection::LinkConnection},
};

/// A process of the operator.
#[derive(Debug)]
pub struct OperatorProcess {
    /// Its connections to the API server.
    pub link: Arc<ApiLink>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), WithoutPause>>,
}

/// How a process came to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProcessEnd {
    /// It was killed, or asked to end.
    Wanted,
    /// It ended or panicked by itself, which says why.
    Unwanted(String),
}

/// Why a process can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The command line is invalid.
    #[error("invalid settings: {0}")]
    Settings(#[from] clap::Error),
    /// The client can't be created.
    #[error("failed to create the client: {0}")]
    Client(#[from] kube::Error),
    /// The prober can't be created.
    #[error(transparent)]
    Prober(#[from] registry_probe::ProberError),
    /// The address of the API server, which is never connected to, is invalid.
    #[error("invalid address of the API server: {0}")]
    Address(#[from] http::uri::InvalidUri),
}

impl OperatorProcess {
    /// Starts a process over `link` to the API server.
    pub fn start<S, B>(link: Arc<ApiLink>, server: S, registries: &Registries) -> Result<Self, StartError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError> + Send,
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let connection = LinkConnection::new(server, link.clone());
        let (metrics, term, stop) = (Metrics::new(), LeadershipTerm::new(), CancellationToken::new());
        let gated = |term| WriteGate::new(metrics.clone(), term).layer(connection.clone());
        let bound = Client::new(gated(Some(term.clone())), "default");
        let free = gated(None);
        let connect: Connect = Box::new(move || Ok(Client::new(free.clone(), "default")));
        let identity = format!("replica-{}_{}", link.replica, link.incarnation);
        let candidate =
            Candidate::new(connect, SYSTEM_NAMESPACE, identity.clone(), term, clock::operator_clock)?;
        // Not https, so the pool connects nowhere and uses the client for its watches.
        let config = Config::new("http://api-server.invalid".parse()?);
        let pool = Http2ClientPool::new(config, metrics.clone(), bound.clone());
        let replica = Replica {
            uncounted: Client::new(connection, "default"),
            client: bound,
            watches: Arc::new(WatchPool::new(pool, chance::jitter)),
            prober: Prober::with_network(Arc::new(registries.clone()), ProberSettings::default())?,
            tokens: None,
            identity,
            cluster_addresses: ClusterAddresses::new([]),
            settings: settings()?,
            metrics,
            health: Health::new(),
            clock: clock::operator_clock,
            jitter: chance::jitter,
        };
        let stopped = stop.clone();
        let task = tokio::spawn(while_it_pauses(stand_and_lead(replica, candidate, stopped)));
        Ok(Self { link, stop, task })
    }

    /// Returns what asks the process to end, as SIGTERM does.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns when the process has ended or was killed at a write.
    pub async fn ended(&mut self) -> ProcessEnd {
        let end = tokio::select! {
            biased;
            () = self.link.killed() => {
                self.task.abort();
                ProcessEnd::Wanted
            }
            ended = &mut self.task => match ended {
                Ok(Err(error)) => ProcessEnd::Unwanted(error.to_string()),
                Ok(Ok(())) if self.stop.is_cancelled() => ProcessEnd::Wanted,
                Ok(Ok(())) => ProcessEnd::Unwanted("it ended by itself".to_owned()),
                Err(error) => ProcessEnd::Unwanted(error.to_string()),
            },
        };
        // What it left behind, such as requests of its tasks, is of no effect any more.
        self.link.kill();
        end
    }
}

/// How often the process may be woken in one moment of the paused time. A process that works as it should stays below 200.
const MOST_POLLS: u32 = 2000;

/// The process works without a pause: the paused time stands still meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it was woken {MOST_POLLS} times in one moment: something works without a pause")]
struct WithoutPause;

/// Awaits a process as long as it doesn't work without a pause.
async fn while_it_pauses(process: impl Future<Output = ()>) -> Result<(), WithoutPause> {
    let mut process = Box::pin(process);
    let (mut moment, mut polls) = (Instant::now(), 0);
    poll_fn(move |context| {
        let now = Instant::now();
        polls = if now == moment { polls + 1 } else { 0 };
        moment = now;
        if polls > MOST_POLLS {
            return Poll::Ready(Err(WithoutPause));
        }
        process.as_mut().poll(context).map(Ok)
    })
    .await
}

fn settings() -> Result<Settings, clap::Error> {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    if let Some(settings) = SETTINGS.get() {
        return Ok(settings.clone());
    }
    let cli = OperatorCli::try_parse_from(["registry-operator", "--system-namespace", SYSTEM_NAMESPACE])?;
    Ok(SETTINGS.get_or_init(|| cli.settings).clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn sees_work_without_a_pause() {
        let busy = |pause: Option<Duration>| async move {
            for _ in 0..=MOST_POLLS {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        assert_eq!(while_it_pauses(busy(Some(Duration::from_millis(1)))).await, Ok(()));
        assert_eq!(while_it_pauses(busy(None)).await, Err(WithoutPause));
    }
}
