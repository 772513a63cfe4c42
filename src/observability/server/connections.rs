//! Limits the number of open connections to the metrics address. The newest connection is always accepted. If there are
//! too many, the oldest one is closed, so that slow clients can't keep the kubelet's probes away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// The maximum numbers of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections that haven't requested metrics: they send their header, or receive a short response.
    pub others: usize,
    /// Connections that receive metrics.
    pub scrapes: usize,
}

/// The open connections. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    bounds: Bounds,
    open: Arc<Mutex<OpenConnections>>,
}

/// By age, the oldest first.
#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    others: BTreeMap<u64, AbortHandle>,
    scrapes: BTreeMap<u64, AbortHandle>,
}

/// The place of one connection, until dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    number: u64,
    connections: Connections,
}

impl Connections {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, open: Arc::default() }
    }

    /// Adds a connection. `serve` starts its task, which is aborted if newer connections need the place.
    pub(super) fn admit(&self, serve: impl FnOnce(ConnectionSlot) -> AbortHandle) {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        let task = serve(ConnectionSlot { number, connections: self.clone() });
        open.others.insert(number, task);
        let oldest = (open.others.len() > self.bounds.others).then(|| open.others.pop_first()).flatten();
        drop(open);
        end(oldest);
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionSlot {
    /// Counts this connection as one that receives metrics.
    pub(super) fn scrape(&self) {
        let mut open = self.connections.lock();
        if let Some(task) = open.others.remove(&self.number) {
            open.scrapes.insert(self.number, task);
        }
        let crowded = open.scrapes.len() > self.connections.bounds.scrapes;
        let oldest = crowded.then(|| open.scrapes.pop_first()).flatten();
        drop(open);
        end(oldest);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.others.remove(&self.number);
        open.scrapes.remove(&self.number);
    }
}

fn end(connection: Option<(u64, AbortHandle)>) {
    if let Some((_, task)) = connection {
        task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn connect(connections: &Connections, scrapes: bool) -> tokio::task::JoinHandle<()> {
        let mut handle = None;
        connections.admit(|place| {
            let task = tokio::spawn(async move {
                if scrapes {
                    place.scrape();
                }
                pending::<()>().await;
            });
            let abort = task.abort_handle();
            handle = Some(task);
            abort
        });
        handle.unwrap()
    }

    async fn all_run() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn newest_connection_replaces_the_oldest() {
        let connections = Connections::new(Bounds { others: 3, scrapes: 2 });
        let mut tasks = Vec::new();
        for scrapes in [true, false, true, false, false, true, false] {
            tasks.push(connect(&connections, scrapes));
            all_run().await;
        }
        let open: Vec<bool> = tasks.iter().map(|task| !task.is_finished()).collect();
        assert_eq!(open, [false, false, true, true, true, true, true]);
        let open = connections.lock();
        assert_eq!((open.others.len(), open.scrapes.len()), (3, 2));
    }

    #[tokio::test]
    async fn closed_connection_frees_its_place() {
        let connections = Connections::new(Bounds { others: 3, scrapes: 2 });
        for scrapes in [true, false] {
            connect(&connections, scrapes).abort();
        }
        all_run().await;
        let open = connections.lock();
        assert_eq!((open.others.len(), open.scrapes.len()), (0, 0));
    }
}
