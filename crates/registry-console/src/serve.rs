//! Starts the console, until Ctrl-C or SIGTERM: on loopback for the user of the kubeconfig, or for everyone with a token of the cluster.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use kube::{Config, config::KubeConfigOptions, config::Kubeconfig};
use registry_check::{
    check::{CheckNetwork, Checker},
    flags::CheckClients,
};
use registry_verdict::{api_server, cluster_addresses::ClusterAddresses, validate::AdminPolicy};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    browser,
    cli::ConsoleCli,
    connections,
    console::Console,
    console_metrics,
    edge::Edge,
    own_account::OwnAccount,
    public_url::PublicUrl,
    routes,
    serving_certificate::ServingCertificate,
    session::Door,
    transport::{Transport, transport},
    user::{ApiServerAddress, SignIn},
};

/// How long the end of the program waits for Confirms that are being carried out.
const LONGEST_CONFIRM: Duration = Duration::from_secs(5);
/// How often ended sessions are forgotten.
const SWEEP: Duration = Duration::from_mins(1);

/// Serves until Ctrl-C or SIGTERM. `print` gets one line: the URL that signs in.
pub async fn laptop(cli: &ConsoleCli, edge: Edge, print: fn(&str) -> io::Result<()>) -> anyhow::Result<()> {
    let sign_in = SignIn::by_kubeconfig(cli.kubeconfig.as_deref(), cli.context.as_deref()).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, cli.port)).await;
    let listener = listener.with_context(|| format!("failed to listen on 127.0.0.1:{}", cli.port))?;
    let port = listener.local_addr()?.port();
    let code = edge.unguessable().context("failed to make a sign-in code: no random numbers")?;
    let url = format!("http://127.0.0.1:{port}/?code={code}");
    let checker = cli.check.checker("registry-console", edge.now, fastrand::f64)?;
    let console = Console::on_loopback(port, &cli.system_namespace, edge, checker, Door::new(code, sign_in));
    let console = Arc::new(console);
    let app = routes::router(console.clone());
    print(&url).context("failed to print the URL that signs in")?;
    // Open tables would be waited for. A Confirm goes on without its connection.
    let served = connections::serve(listener, None, app, stop(), Duration::ZERO);
    tokio::select! {
        served = served => served.context("failed to serve")?,
        () = opened(&url, cli.no_browser) => {}
        () = swept(&console) => {}
    }
    // Between its two writes, a Confirm would leave a Secret without a registry.
    console.confirms_end(LONGEST_CONFIRM).await;
    Ok(())
}

/// The cluster that the console runs in: the API server, and what is learnt of it.
struct HomeCluster {
    api_server: ApiServerAddress,
    account: OwnAccount,
    addresses: ClusterAddresses,
}

impl HomeCluster {
    /// By the kubeconfig or the Pod's account. `service_host` is the address of the Service `kubernetes` in a Pod.
    async fn find(cli: &ConsoleCli, service_host: Option<&str>) -> anyhow::Result<Self> {
        let config = match &cli.kubeconfig {
            Some(file) => {
                let options =
                    KubeConfigOptions { context: cli.context.clone(), ..KubeConfigOptions::default() };
                // The parser's message can contain the file's tokens.
                let kubeconfig = Kubeconfig::read_from(file).map_err(|_| {
                    anyhow!("invalid kubeconfig {}; correct it, or name another", file.display())
                })?;
                api_server::from_kubeconfig(kubeconfig, &options).await
            }
            None => api_server::infer().await,
        };
        // The text of kube's errors includes their causes, so a source would repeat it.
        let config: Config = config.map_err(|error| anyhow!("{error}"))?;
        let addresses =
            ClusterAddresses::told_by(&config, service_host).with_service_ranges(&cli.serve.service_cidr);
        Ok(Self {
            api_server: ApiServerAddress::of(&config)
                .context("failed to create the client for the API server")?,
            account: OwnAccount::new(config)
                .context("failed to create the client of the console's account")?,
            addresses,
        })
    }
}

/// Serves in a cluster until Ctrl-C or SIGTERM. `print` gets one line: where it listens.
pub async fn cluster(
    cli: &ConsoleCli,
    (listen, url): (SocketAddr, &PublicUrl),
    edge: Edge,
    service_host: Option<&str>,
    print: fn(&str) -> io::Result<()>,
) -> anyhow::Result<()> {
    let (certificate, tls) = tls(&transport(&cli.serve, listen, url)?)?;
    let home = HomeCluster::find(cli, service_host).await?;
    let clients = cli.check.clients("registry-console", edge.now, fastrand::f64)?;
    let checker = clusters(cli, &clients, &home.addresses);
    let console = Console::in_cluster(url, &cli.system_namespace, edge, checker, home.api_server.clone());
    let console = Arc::new(console);
    let metrics = optional_listener("--metrics-address", cli.serve.metrics_address).await?;
    let pages = listener("--listen", listen).await?;
    print(&format!("listening on {} for {url}", pages.local_addr()?))?;
    tracing::info!(address = %pages.local_addr()?, %url, "serving");
    let served = connections::serve(pages, tls, routes::router(console.clone()), stop(), LONGEST_CONFIRM);
    tokio::select! {
        served = served => served.context("failed to serve")?,
        served = numbers(metrics, &console) => served.context("failed to serve --metrics-address")?,
        () = home.account.keep_learning(&home.addresses) => {}
        () = clients.follow_ca_file() => {}
        () = followed(certificate) => {}
        () = swept(&console) => {}
    }
    console.confirms_end(LONGEST_CONFIRM).await;
    Ok(())
}

/// The certificate to follow, and what connections are accepted with.
fn tls(transport: &Transport) -> anyhow::Result<(Option<ServingCertificate>, Option<TlsAcceptor>)> {
    let Transport::Tls { cert, key } = transport else { return Ok((None, None)) };
    let certificate = ServingCertificate::read(cert, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()?));
    Ok((Some(certificate), Some(acceptor)))
}

/// Checks from a Pod: with the operator's egress policy.
fn clusters(cli: &ConsoleCli, clients: &CheckClients, addresses: &ClusterAddresses) -> Checker {
    let admin_policy = AdminPolicy {
        egress_allow: cli.serve.egress_allow.clone().into(),
        egress_deny: cli.serve.egress_deny.clone().into(),
        cluster_addresses: addresses.clone(),
        ..clients.checker.admin_policy.clone()
    };
    Checker { admin_policy, network: CheckNetwork::Clusters, ..clients.checker.clone() }
}

/// Listens on an address. `[::]` means all IPv4 addresses too; without IPv6, these alone.
async fn listener(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        listener => listener,
    };
    listener.with_context(|| format!("failed to listen on {flag} {address}"))
}

async fn optional_listener(flag: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => Ok(Some(listener(flag, address).await?)),
        None => Ok(None),
    }
}

/// Serves what `--metrics-address` promises. Never returns, unless it fails.
async fn numbers(listener: Option<TcpListener>, console: &Arc<Console>) -> io::Result<()> {
    let Some(listener) = listener else { return std::future::pending().await };
    let app = console_metrics::router(console.clone());
    connections::serve(listener, None, app, std::future::pending(), Duration::ZERO).await
}

/// Never returns.
async fn followed(certificate: Option<ServingCertificate>) {
    match certificate {
        Some(certificate) => certificate.follow().await,
        None => std::future::pending().await,
    }
}

/// Forgets ended sessions, again and again. Never ends.
async fn swept(console: &Console) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        console.sessions().sweep((console.edge.now)());
    }
}

/// Never ends.
async fn opened(url: &str, no_browser: bool) {
    if !no_browser {
        browser::open(url).await;
    }
    std::future::pending::<()>().await;
}

async fn stop() -> std::io::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}
