//! Accepts connections, with limits for clients that anyone in the network can be: their number, the time for a handshake and for a
//! request's header, and how long a connection without new requests stays open.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// How many connections are open at once.
const MOST_CONNECTIONS: usize = 1_000;
/// The longest header of a request, in bytes.
const LONGEST_HEADER: usize = 64 * 1024;
/// The delay after a connection could not be accepted, for example because of too many open files.
const REFUSED: Duration = Duration::from_millis(100);

const LIMITS: ConnectionLimits = ConnectionLimits {
    handshake: Duration::from_secs(10),
    header: Duration::from_secs(30),
    idle: Duration::from_mins(2),
    end: Duration::from_mins(5),
};

/// How long clients may keep a connection.
#[derive(Clone, Copy)]
struct ConnectionLimits {
    /// For the TLS handshake.
    handshake: Duration,
    /// For the first request, and for the header of each; also how long a connection may be idle.
    header: Duration,
    /// Without a new request. Longer than an open table waits for changes, so that it keeps its connection.
    idle: Duration,
    /// For the answers that are still being sent when the connection is to end.
    end: Duration,
}

/// What every connection needs.
#[derive(Clone)]
struct ConnectionSetup {
    tls: Option<TlsAcceptor>,
    app: Router,
    http: http1::Builder,
    limits: ConnectionLimits,
    /// Whether the server is stopping.
    stopping: watch::Receiver<bool>,
}

impl ConnectionSetup {
    fn new(
        tls: Option<TlsAcceptor>,
        app: Router,
        limits: ConnectionLimits,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(LONGEST_HEADER);
        Self { tls, app, http, limits, stopping }
    }
}

/// Serves until `stopped` resolves; then ends connections after their requests, at most within `end`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    stopped: impl Future<Output = io::Result<()>>,
    end: Duration,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(false);
    let setup = ConnectionSetup::new(tls, app, LIMITS, stopping);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    tokio::select! {
        () = accept(&listener, &setup, &places) => {}
        stopped = stopped => stopped?,
    }
    drop((listener, setup));
    stop.send_replace(true);
    // Connections that don't end in time end with the program.
    let _ = timeout(end, stop.closed()).await;
    Ok(())
}

/// Never returns.
async fn accept(listener: &TcpListener, setup: &ConnectionSetup, places: &Arc<Semaphore>) {
    let mut is_logged = false;
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                is_logged = false;
                tokio::spawn(serve_one(stream, setup.clone(), place));
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

async fn serve_one(stream: TcpStream, setup: ConnectionSetup, place: OwnedSemaphorePermit) {
    // Without it, small answers would wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    match &setup.tls {
        None => requests(stream, &setup).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(setup.limits.handshake, tls.accept(stream)).await {
                requests(stream, &setup).await;
            }
        }
    }
    drop(place);
}

/// Answers the requests of a connection, until one side ends it.
async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, setup: &ConnectionSetup) {
    let (begun, requests) = watch::channel(());
    let app = setup.app.clone().map_request(move |request| {
        begun.send_replace(());
        request
    });
    let service = TowerToHyperService::new(app);
    let mut connection = pin!(setup.http.serve_connection(TokioIo::new(stream), service));
    let mut stopping = setup.stopping.clone();
    tokio::select! {
        // How a connection ends, is the client's business.
        _ = connection.as_mut() => return,
        () = idle(requests, setup.limits) => {}
        _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(setup.limits.end, connection).await;
}

/// Returns when no request has begun for too long.
async fn idle(mut requests: watch::Receiver<()>, limits: ConnectionLimits) {
    let mut longest = limits.header;
    while let Ok(Ok(())) = timeout(longest, requests.changed()).await {
        longest = limits.idle;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{body::Body, routing::get};
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const SHORT: ConnectionLimits = ConnectionLimits {
        handshake: Duration::from_millis(20),
        header: Duration::from_millis(20),
        idle: Duration::from_millis(50),
        end: Duration::from_millis(50),
    };
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// An answer whose body never ends.
    async fn endless() -> Body {
        Body::from_stream(futures::stream::pending::<Result<String, Infallible>>())
    }

    fn setup() -> (watch::Sender<bool>, ConnectionSetup) {
        let (stop, stopping) = watch::channel(false);
        let app = Router::new().route("/", get(|| async { "ok" })).route("/endless", get(endless));
        (stop, ConnectionSetup::new(None, app, SHORT, stopping))
    }

    /// What a client gets that sends `sent` and nothing more, until the server ends the connection.
    async fn answered(mut client: impl AsyncRead + AsyncWrite + Unpin, sent: &[u8]) -> Vec<u8> {
        client.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        // A connection that is reset has ended too.
        let ended = timeout(Duration::from_secs(20), client.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "the connection of a silent client stays open");
        received
    }

    #[tokio::test]
    async fn connection_of_a_silent_client_ends() {
        let (_stop, setup) = setup();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = Arc::new(Semaphore::new(1));
        tokio::spawn(async move { accept(&listener, &setup, &places).await });
        // There is one place: each is served only because the one before has ended.
        for sent in [&b""[..], b"PRI * HT", b"GET / HTTP/1.1\r\nHost", PREFACE, REQUEST] {
            let received = answered(TcpStream::connect(address).await.unwrap(), sent).await;
            assert_eq!(received.starts_with(b"HTTP/1.1 200"), sent == REQUEST, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn endless_answer_is_cut_off() {
        let (_stop, setup) = setup();
        let (client, server) = tokio::io::duplex(64 * 1024);
        let request = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
        let server = async move { requests(server, &setup).await };
        assert!(tokio::join!(answered(client, request), server).0.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn new_requests_keep_a_connection_open() {
        let long = Duration::from_hours(1);
        let after_a_request = |idle_limit| {
            let (begun, requests) = watch::channel(());
            begun.send_replace(());
            let limits = ConnectionLimits { header: Duration::ZERO, idle: idle_limit, ..SHORT };
            async move {
                let _begun = begun;
                idle(requests, limits).await;
            }
        };
        assert!(after_a_request(long).now_or_never().is_none());
        after_a_request(SHORT.idle).await;
        let (_begun, requests) = watch::channel(());
        idle(requests, ConnectionLimits { idle: long, ..SHORT }).await;
    }
}
