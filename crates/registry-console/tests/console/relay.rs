//! Between a program and the API server: shows which requests each connection carries. Owns no expectation of any behaviour.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use crate::bed::Cluster;

/// What the client has sent on each of its connections.
type Sent = Arc<Mutex<Vec<Vec<u8>>>>;

/// Between a client and the API server: keeps what the client sends.
pub struct Relay {
    /// Its URL, without TLS.
    pub url: String,
    sent: Sent,
    accepting: AbortHandle,
}

impl Relay {
    /// Starts it.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let server = cluster.control_plane();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca().certificate_pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (connector, sent) = (TlsConnector::from(Arc::new(config)), Sent::default());
        let (address, keep) = (server.url().trim_start_matches("https://").to_owned(), sent.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, connector.clone(), address.clone(), keep.clone()));
            }
        });
        Ok(Self { url, sent, accepting: accepting.abort_handle() })
    }

    /// The tokens and the paths of the requests of each connection, in their order.
    pub fn requests(&self) -> Result<Vec<Vec<(String, String)>>> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sent.into_iter().map(|bytes| Ok(heads(&String::from_utf8(bytes)?))).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(stream: TcpStream, connector: TlsConnector, address: String, sent: Sent) -> Result<()> {
    let server = TcpStream::connect(&address).await?;
    let server = connector.connect(ServerName::try_from("127.0.0.1")?, server).await?;
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let number = {
        let mut all = sent.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Vec::new());
        all.len() - 1
    };
    let requests = async {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            let count = from_client.read(&mut bytes).await?;
            if count == 0 {
                return to_server.shutdown().await;
            }
            sent.lock().unwrap_or_else(PoisonError::into_inner)[number].extend(&bytes[..count]);
            to_server.write_all(&bytes[..count]).await?;
            to_server.flush().await?;
        }
    };
    tokio::try_join!(requests, tokio::io::copy(&mut from_server, &mut to_client))?;
    Ok(())
}

/// The token and the path of each request of HTTP/1.1.
fn heads(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.split("\r\n").collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.ends_with(" HTTP/1.1"));
    let head = |(start, line): (usize, &&str)| {
        let mut fields = lines[start..].iter().take_while(|line| !line.is_empty());
        let token = fields.find_map(|field| field.strip_prefix("authorization: Bearer "));
        // The body of the request before is on the same line.
        let path = line.trim_end_matches(" HTTP/1.1").rsplit(' ').next();
        (token.unwrap_or_default().to_owned(), path.unwrap_or_default().to_owned())
    };
    starts.map(head).collect()
}
