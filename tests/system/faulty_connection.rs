//! A faulty connection between an operator and its API server: delayed requests and a cut connection. Has no
//! assertions of its own.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use registry_testbed::OperatorOptions;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    exclusive_cluster::ExclusiveCluster,
    harness::{Installation, SERVICE_ACCOUNT, SYSTEM_NAMESPACE},
};

/// A way to the API server. It ends with this value.
pub struct FaultyConnection {
    url: String,
    line: Arc<Line>,
    _server: JoinSet<()>,
}

struct Line {
    client: Client,
    cut: watch::Sender<bool>,
    held: Mutex<Vec<Held>>,
}

/// The next request to a path that contains this is held for so long.
struct Held {
    path: &'static str,
    time: Duration,
}

impl FaultyConnection {
    /// The way of the operator's own account.
    pub async fn start(installation: &Installation) -> Result<Self> {
        let control_plane = installation.control_plane();
        let client = control_plane.client_for_service_account(SYSTEM_NAMESPACE, SERVICE_ACCOUNT).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let line = Arc::new(Line { client, cut: watch::Sender::new(false), held: Mutex::default() });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, line.clone()));
        Ok(Self { url, line, _server: server })
    }

    /// How an operator is started that takes this way.
    pub async fn operator_options(&self, solo: &ExclusiveCluster) -> Result<OperatorOptions> {
        let control_plane = solo.installation.control_plane();
        let ca = control_plane.ca().certificate_pem();
        let mut options = solo.installation.operator_options().await?;
        options.kubeconfig = control_plane.kubeconfig_with_token(&self.url, ca, "of-nobody")?;
        Ok(options)
    }

    /// Holds the next request to a path that contains this. Others pass, over this connection's neighbours and new ones.
    pub fn hold_next(&self, path: &'static str, time: Duration) {
        self.line.held.lock().unwrap_or_else(PoisonError::into_inner).push(Held { path, time });
    }

    /// Whether nothing is left to be held.
    pub fn has_held(&self) -> bool {
        self.line.held.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Cuts the connection, or restores it. Cutting closes open and new connections.
    pub fn cut(&self, cut: bool) {
        self.line.cut.send_replace(cut);
    }
}

async fn serve(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let line = line.clone();
        connections.spawn(async move {
            let answer = service_fn(|request| pass_on(request, &line));
            let mut cut = line.cut.subscribe();
            let cut_off = async { cut.wait_for(|cut| *cut).await.is_ok() };
            tokio::select! {
                _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer) => {}
                _ = cut_off => {}
            }
        });
    }
}

async fn pass_on(request: Request<Incoming>, line: &Line) -> Result<Response<Body>, Infallible> {
    let time = line.time(request.uri().path());
    tokio::time::sleep(time).await;
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(http::header::HOST);
    parts.headers.remove(http::header::AUTHORIZATION);
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = line.client.send(Request::from_parts(parts, Body::from(body))).await;
    Ok(answer.unwrap_or_else(|error| {
        let mut answer = Response::new(Body::from(error.to_string().into_bytes()));
        *answer.status_mut() = http::StatusCode::BAD_GATEWAY;
        answer
    }))
}

impl Line {
    fn time(&self, path: &str) -> Duration {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().position(|held| path.contains(held.path));
        found.map_or(Duration::ZERO, |index| held.swap_remove(index).time)
    }
}
