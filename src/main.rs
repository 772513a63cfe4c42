//! The edge: reads the command line, the clock, the environment and random numbers, starts everything, and stops it.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use k8s_openapi::jiff::Timestamp;
use registry_operator::{
    kubernetes::{account, client, lease::Candidate, term::LeadershipTerm},
    observability::{
        metrics::Metrics,
        ready,
        server::{self, Health},
    },
    replica::Replica,
    settings::{LogFormat, OperatorCli, OperatorCommand, Settings},
};
use registry_probe::{CaBundle, Prober, ProberSettings};
use registry_verdict::{api_server, ca_file::CaFile, cluster_addresses::ClusterAddresses, ecr::EcrTokens};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// In the image: musl's own allocator keeps twice the memory (decision 0090).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = OperatorCli::read();
    let result = match cli.command {
        Some(OperatorCommand::Crds) => print_crds(),
        Some(OperatorCommand::Ready { urls }) => ready::wait(&urls),
        None => start(cli.settings),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last word of a program that can't go on")]
fn log_error(error: &anyhow::Error) {
    eprintln!("registry-operator: {error:#}");
}

fn print_crds() -> anyhow::Result<()> {
    let documents = registry_api::crd::files()?.into_iter().flat_map(|(_, yaml)| ["---\n".into(), yaml]);
    match std::io::stdout().write_all(documents.collect::<String>().as_bytes()) {
        // The reader closed the pipe, as `head` does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write to standard output"),
    }
}

/// Number of worker threads. The operator mostly waits for registries and the API server. Each further thread costs
/// memory (an allocator's arena), and increases the speed only beyond hundreds of TLS handshakes a second (decision
/// 0017).
const WORKERS: usize = 2;

fn start(settings: Settings) -> anyhow::Result<()> {
    log(&settings)?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(run(settings));
    // A blocking name look-up in progress must not delay the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Raises the soft limit of open files to the hard limit. Many systems start a process with 1,024 and allow a million:
/// the low soft limit is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "failed to raise the limit on open files");
    }
}

fn log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level).with_context(|| {
        format!("invalid --log-level {:?}: it must be a level or a tracing filter", settings.log_level)
    })?;
    // Below `warn`, the AWS SDK logs what it signs and receives, including tokens, so the filter never enables that.
    let discreet =
        filter_fn(|metadata| !metadata.target().starts_with("aws_") || *metadata.level() <= Level::WARN);
    let registry = tracing_subscriber::registry().with(filter).with(discreet);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).init();
        }
        LogFormat::Json => {
            registry.with(lines.json().flatten_event(true)).init();
        }
    }
    Ok(())
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    cancel_on_signal(stop.clone())?;

    let outbound = Outbound::read(&settings)?;
    let (metrics, health) = (Metrics::new(), Health::new());
    let listener = server::listen(settings.metrics_address)
        .await
        .with_context(|| format!("failed to listen on --metrics-address {}", settings.metrics_address))?;
    tokio::spawn(server::serve(listener, health.clone(), metrics.clone()));
    let turning = health.clone();
    tokio::spawn(async move { turning.turn().await });

    // The text of kube's errors includes their causes, so a source would repeat it.
    let config = api_server::infer().await.map_err(|error| anyhow!("{error}"))?;
    let (leader_election, system_namespace) = (settings.leader_election, settings.system_namespace.clone());
    let term = if leader_election { LeadershipTerm::new() } else { LeadershipTerm::for_ever() };
    let cluster_addresses = ClusterAddresses::told_by(&config, service_host().as_deref())
        .with_service_ranges(&settings.service_cidr);
    let clients = client::clients(config, &metrics, term.clone(), fastrand::f64)
        .context("failed to create the Kubernetes client")?;
    let replica = Replica {
        tokens: outbound.tokens(&settings, &metrics)?,
        cluster_addresses,
        client: clients.bound,
        uncounted: clients.uncounted.clone(),
        watches: clients.watches,
        prober: outbound.prober.clone(),
        identity: identity(),
        settings,
        metrics,
        health,
        clock: now,
        jitter: fastrand::f64,
    };
    outbound.follow_ca_file();
    let leads = {
        let term = term.clone();
        move || term.holds()
    };
    let wrong_account = account::wrong(&clients.uncounted, &system_namespace, leads);
    let work = async {
        if leader_election {
            let candidate =
                Candidate::new(clients.unbound, &system_namespace, replica.identity.clone(), term, now)
                    .context("failed to create the Kubernetes client")?;
            replica.stand_and_lead(candidate, stop).await;
        } else {
            stop.run_until_cancelled(Box::pin(replica.work_on())).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        wrong = wrong_account => Err(wrong.into()),
        worked = work => worked,
    }
}

fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("received a signal, stopping");
        stop.cancel();
    });
    Ok(())
}

/// The clients for registries and AWS, with the proxy and the CAs of `--ca-file`.
struct Outbound {
    prober: Prober,
    #[cfg(feature = "ecr")]
    aws: registry_verdict::ecr::http::AwsHttp,
    ca_file: Option<CaFile>,
}

impl Outbound {
    fn read(settings: &Settings) -> anyhow::Result<Self> {
        let proxy = settings.outbound.proxy()?;
        let read = settings.outbound.ca_file.as_deref().map(CaFile::read).transpose()?;
        let (ca_file, ca) = read.unzip();
        if let Some(proxy) = &proxy {
            tracing::info!(proxy = %proxy.server(), "using a proxy for registries and AWS");
        }
        Ok(Self {
            #[cfg(feature = "ecr")]
            aws: registry_verdict::ecr::http::AwsHttp::new(proxy.clone(), ca.as_ref()),
            prober: Prober::new(ProberSettings {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                proxy,
                ca,
                ..ProberSettings::default()
            })
            .context("failed to set up the prober")?,
            ca_file,
        })
    }

    /// Reads the CA file again whenever it changes. Never returns.
    fn follow_ca_file(self) {
        let Some(file) = self.ca_file else { return };
        tokio::spawn(file.follow(move |bundle: CaBundle| {
            #[cfg(feature = "ecr")]
            self.aws.trust(Some(&bundle));
            self.prober.trust(Some(bundle));
        }));
    }

    /// The cache of AWS tokens. It stays valid when the leader changes.
    #[cfg(feature = "ecr")]
    fn tokens(&self, settings: &Settings, metrics: &Metrics) -> anyhow::Result<Option<Arc<EcrTokens>>> {
        use registry_verdict::{
            ecr::api::{Aws, Endpoints, RequestObserver},
            outbound::AwsEndpoint,
        };
        let url = |endpoint: &Option<AwsEndpoint>| endpoint.as_ref().and_then(|AwsEndpoint(url)| url.clone());
        let endpoints = Endpoints {
            ecr: url(&settings.aws_endpoint_url_ecr),
            sts: url(&settings.aws_endpoint_url_sts),
            region: settings.aws_region.clone(),
        };
        let metrics = metrics.clone();
        let observe: RequestObserver =
            Arc::new(move |api, outcome| metrics.aws_request(api.label(), outcome.label()));
        let aws = Aws::new(endpoints, self.aws.clone(), observe, now);
        let tokens = EcrTokens::new(Arc::new(aws), now, fastrand::f64).context(
            "failed to create the key of the token \
                cache",
        )?;
        Ok(Some(Arc::new(tokens)))
    }

    #[cfg(not(feature = "ecr"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with the feature")]
    fn tokens(&self, _: &Settings, _: &Metrics) -> anyhow::Result<Option<Arc<EcrTokens>>> {
        Ok(None)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The address of the Service `kubernetes`, from the environment that the kubelet sets in every Pod.
#[expect(clippy::disallowed_methods, reason = "this is the edge")]
fn service_host() -> Option<String> {
    std::env::var("KUBERNETES_SERVICE_HOST").ok()
}

/// Returns the identity for the Lease: the Pod's name and a random part, so that it is unique among all replicas.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), fastrand::u64(..))
}
