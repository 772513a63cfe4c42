//! Starts the console on this machine: for the user of the kubeconfig, on loopback, until Ctrl-C.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::{browser, cli::ConsoleCli, console::Console, edge::Edge, routes, session::Door, user::SignIn};

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
    let console = Console::new(port, &cli.system_namespace, edge, checker, Door::new(code, sign_in));
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
