//! Asks a running operator, through its Service, whether it is ready and whether the policies are in force, for `helm
//! test`. The image contains no shell and no HTTP client, so the operator's program sends the requests.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long to retry. A Service whose endpoints have just changed may refuse connections, and a replica may not be
/// ready yet.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(5);
/// The maximum part of a response in an error, in bytes.
const SHOWN: usize = 16 * 1024;

/// Waits until each of `urls`, in order, returns 200. An error contains the responses.
pub fn wait(urls: &[Uri]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for url in urls {
            until_ready(url, PATIENCE).await?;
        }
        Ok(())
    })
}

async fn until_ready(url: &Uri, patience: Duration) -> anyhow::Result<()> {
    // The responses may come from several replicas.
    let mut answers = BTreeSet::new();
    let asked = timeout(patience, async {
        while let Err(error) = ask(url).await {
            answers.insert(format!("{error:#}"));
            sleep(PAUSE).await;
        }
    });
    if asked.await.is_err() {
        let answers = answers.into_iter().collect::<Vec<_>>().join("; ");
        bail!("{url} is not ready after {patience:?}: {answers}");
    }
    Ok(())
}

async fn ask(url: &Uri) -> anyhow::Result<()> {
    ensure!(url.scheme_str() == Some("http"), "only http:// URLs can be asked");
    let (host, port) = (url.host().context("the URL has no host")?, url.port_u16().unwrap_or(80));
    let exchange = async {
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let path = url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, SHOWN).collect().await.map(Collected::to_bytes).unwrap_or_default();
        anyhow::Ok((head.status, body))
    };
    match timeout(ANSWER, exchange).await.context("no answer")?? {
        (StatusCode::OK, _) => Ok(()),
        (status, why) => bail!("HTTP status {status}: {}", String::from_utf8_lossy(&why).trim()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        observability::metrics::Metrics,
        observability::server::{Health, serve},
    };

    async fn operator() -> (std::sync::Arc<Health>, Uri) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap()).parse().unwrap();
        let health = Health::new();
        tokio::spawn(serve(listener, health.clone(), Metrics::new()));
        (health, url)
    }

    #[tokio::test]
    async fn error_names_missing_policies() {
        let (health, url) = operator().await;
        let guardz: Uri = url.to_string().replace("readyz", "guardz").parse().unwrap();
        health.guard(None);
        assert!(until_ready(&guardz, Duration::from_millis(50)).await.is_err(), "nothing is known");
        health.guard(Some(Err("policy p is missing".to_owned())));
        let error = until_ready(&guardz, Duration::from_millis(50)).await.unwrap_err();
        assert!(format!("{error:#}").contains("policy p is missing"), "{error:#}");
        health.guard(Some(Ok(())));
        until_ready(&guardz, Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn waits_until_ready() {
        let (health, url) = operator().await;
        let waiting = tokio::spawn({
            let url = url.clone();
            async move { until_ready(&url, PATIENCE).await }
        });
        assert!(ask(&url).await.unwrap_err().to_string().contains("503"));
        health.answered();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn timeout_reports_last_response() {
        let (_health, url) = operator().await;
        // Enough time for a request and a response on any machine.
        let error = until_ready(&url, 5 * PAUSE).await.unwrap_err();
        assert!(format!("{error:#}").contains("503"), "{error:#}");
        let nobody = "http://127.0.0.1:1/readyz".parse().unwrap();
        let error = until_ready(&nobody, Duration::from_millis(50)).await.unwrap_err();
        assert!(format!("{error:#}").contains("is not ready after"), "{error:#}");
    }
}
