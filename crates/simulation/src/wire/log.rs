//! What the replicas sent to the API server.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::fate::{Fate, RequestPurpose};

/// A request that a replica sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SentRequest {
    /// When, since the history began.
    pub at: Duration,
    /// The number of the replica.
    pub replica: usize,
    /// How often the replica was started before.
    pub incarnation: u32,
    /// The method.
    pub method: String,
    /// The path, with the query.
    pub path: String,
    /// What happened to it.
    pub fate: Fate,
}

impl SentRequest {
    /// Returns what it is for.
    pub fn purpose(&self) -> RequestPurpose {
        RequestPurpose::of(&self.method, &self.path)
    }
}

/// All requests of a history. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RequestLog(Arc<Mutex<Vec<SentRequest>>>);

impl RequestLog {
    /// Adds a request.
    pub fn add(&self, request: SentRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Returns all requests, which are forgotten then.
    pub fn take(&self) -> Vec<SentRequest> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
