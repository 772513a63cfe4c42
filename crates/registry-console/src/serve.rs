//! Starts the console on this machine: for the user of the kubeconfig, on loopback, until Ctrl-C.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::Context as _;
use registry_probe::{CaBundle, Prober, ProberSettings, Proxy};
use registry_verdict::{
    ca_file::CaFile, cluster_addresses::ClusterAddresses, ecr::EcrTokens, validate::AdminPolicy,
};
use tokio::net::TcpListener;

use crate::{
    browser,
    cli::ConsoleCli,
    console::{CheckKit, Console},
    edge::Edge,
    routes,
    session::Door,
    user::SignIn,
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
    let console = Console::new(port, &cli.system_namespace, edge, kit(cli, edge)?, Door::new(code, sign_in));
    let console = Arc::new(console);
    let app = routes::router(console.clone());
    print(&url).context("failed to print the URL that signs in")?;
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.context("failed to serve")?,
        stopped = stop() => stopped.context("failed to wait for a signal")?,
        () = opened(&url, cli.no_browser) => {}
        () = swept(&console) => {}
    }
    // Between its two writes, a Confirm would leave a Secret without a registry.
    console.confirms_end(LONGEST_CONFIRM).await;
    Ok(())
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

fn kit(cli: &ConsoleCli, edge: Edge) -> anyhow::Result<CheckKit> {
    let (proxy, ca) = outbound(cli)?;
    let settings = ProberSettings {
        version: concat!(env!("CARGO_PKG_VERSION"), " (registry-console)").to_owned(),
        proxy,
        ca,
        ..ProberSettings::default()
    };
    let admin_policy = AdminPolicy {
        egress_allow: Arc::new([]),
        egress_deny: Arc::new([]),
        cluster_addresses: ClusterAddresses::new([]),
        trusted_token_services: cli.trusted_token_service.clone().into(),
    };
    let prober = Prober::new(settings).context("failed to set up the prober")?;
    Ok(CheckKit { prober, tokens: tokens(cli, edge)?, admin_policy })
}

fn outbound(cli: &ConsoleCli) -> anyhow::Result<(Option<Proxy>, Option<CaBundle>)> {
    let ca = cli.outbound.ca_file.as_deref().map(CaFile::read).transpose()?;
    Ok((cli.outbound.proxy()?, ca.map(|(_, bundle)| bundle)))
}

#[cfg(feature = "ecr")]
fn tokens(cli: &ConsoleCli, edge: Edge) -> anyhow::Result<Option<Arc<EcrTokens>>> {
    use registry_verdict::{
        ecr::{
            api::{Aws, Endpoints},
            http::AwsHttp,
        },
        outbound::AwsEndpoint,
    };
    let url = |endpoint: &Option<AwsEndpoint>| endpoint.as_ref().and_then(|AwsEndpoint(url)| url.clone());
    let endpoints =
        Endpoints { ecr: url(&cli.aws_endpoint_url_ecr), sts: url(&cli.aws_endpoint_url_sts), region: None };
    let (proxy, ca) = outbound(cli)?;
    let aws = Aws::new(endpoints, AwsHttp::new(proxy, ca.as_ref()), Arc::new(|_, _| ()), edge.now);
    let tokens = EcrTokens::new(Arc::new(aws), edge.now, fastrand::f64);
    Ok(Some(Arc::new(tokens.context("failed to create the key of the token cache")?)))
}

#[cfg(not(feature = "ecr"))]
#[expect(clippy::unnecessary_wraps, reason = "as with the feature")]
fn tokens(_: &ConsoleCli, _: Edge) -> anyhow::Result<Option<Arc<EcrTokens>>> {
    Ok(None)
}
