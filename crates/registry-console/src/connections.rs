//! Accepts connections, with limits for clients that anyone in the network can be: their number, and the time for a handshake and
//! for a request's header.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;

/// How many connections are open at once.
const MOST_CONNECTIONS: usize = 1_000;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Also how long a connection may be idle.
const HEADER: Duration = Duration::from_secs(30);
/// How many requests of an HTTP/2 connection are answered at once.
const MOST_STREAMS: u32 = 32;
/// A browser that is gone without a word is noticed after that time.
const PING: Duration = Duration::from_secs(30);
/// The delay after a connection could not be accepted, for example because of too many open files.
const REFUSED: Duration = Duration::from_millis(100);

/// What every connection needs.
#[derive(Clone)]
struct ConnectionSetup {
    tls: Option<TlsAcceptor>,
    app: Router,
    http: auto::Builder<TokioExecutor>,
}

/// Serves until `stopped` resolves; then ends connections after their requests, at most within `end`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    stopped: impl Future<Output = io::Result<()>>,
    end: Duration,
) -> io::Result<()> {
    let setup = ConnectionSetup { tls, app, http: http() };
    let (places, graceful) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), GracefulShutdown::new());
    tokio::select! {
        () = accept(&listener, &setup, &places, &graceful) => {}
        stopped = stopped => stopped?,
    }
    drop(listener);
    // Connections that don't end in time end with the program.
    let _ = tokio::time::timeout(end, graceful.shutdown()).await;
    Ok(())
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(64 * 1024);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(PING)
        .keep_alive_timeout(HANDSHAKE);
    http
}

/// Never returns.
async fn accept(
    listener: &TcpListener,
    setup: &ConnectionSetup,
    places: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
) {
    let mut is_logged = false;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                is_logged = false;
                tokio::spawn(serve_one(stream, setup.clone(), place, graceful.watcher()));
            }
            Err(error) => {
                if !std::mem::replace(&mut is_logged, true) {
                    tracing::warn!(%error, "failed to accept a connection, retrying");
                }
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    setup: ConnectionSetup,
    place: OwnedSemaphorePermit,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Without it, small answers would wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    match &setup.tls {
        None => requests(stream, &setup, watcher).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                requests(stream, &setup, watcher).await;
            }
        }
    }
    drop(place);
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    setup: &ConnectionSetup,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = TowerToHyperService::new(setup.app.clone());
    let connection = setup.http.serve_connection(TokioIo::new(stream), service).into_owned();
    // How a connection ends, is the client's business.
    let _ = watcher.watch(connection).await;
}
