//! What only the edge of the program may reach, handed in by it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::jiff::Timestamp;

/// The clock, and a source of random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// The clock.
    pub now: fn() -> Timestamp,
    /// 256 random bits; none if the system has none to give.
    pub random: fn() -> Option<[u8; 32]>,
}

impl Edge {
    /// A name that can't be guessed, for a URL or a cookie.
    pub fn unguessable(&self) -> Option<String> {
        (self.random)().map(|bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}
