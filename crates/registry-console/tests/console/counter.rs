//! A server that counts connections and closes them: what must not be reached.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// A server that counts its connections.
pub struct ConnectionCounter {
    /// Its port on 127.0.0.1.
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    counting: AbortHandle,
}

impl ConnectionCounter {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let counting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                drop(connection);
            }
        });
        Ok(Self { port, accepted, counting: counting.abort_handle() })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns how many connections there were since it was asked last. Connections are accepted in their order, so one of its own
    /// shows that all before it have been counted.
    pub async fn connections(&self) -> Result<usize> {
        let mut own = TcpStream::connect(("127.0.0.1", self.port)).await?;
        // It ends when it has been counted.
        let _ = own.read(&mut [0]).await;
        let counted = self.accepted.swap(0, Ordering::SeqCst);
        counted.checked_sub(1).context("its own connection was not counted")
    }
}

impl Drop for ConnectionCounter {
    fn drop(&mut self) {
        self.counting.abort();
    }
}
