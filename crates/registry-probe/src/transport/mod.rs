//! Sending: names become addresses, addresses become connections, and requests become responses.
//!
//! Applies the egress policy to every address at the moment of the connection, and bounds the time and the size of every response.
//! Decides nothing about what to ask or what a response means.
//!
//! - `connect`: connects to one of several addresses (RFC 8305).
//! - `connection`: one HTTP/1.1 connection.
//! - `journal`: records handshakes, request counts, durations and requests to wait.
//! - `network`: the operating system's network, which tests can replace.
//! - `proxy`: the tunnel through a forward proxy, and the login there.
//! - `resolve`: looks up names.
//! - `retry_after`: reads `Retry-After` headers.
//! - `sender`: the requests of one validation, over connections that are kept until it ends.

mod connect;
mod connection;
mod journal;
mod network;
mod proxy;
mod resolve;
mod retry_after;
mod sender;

pub(crate) use journal::{HandshakeRecord, Journal};
pub(crate) use network::SystemNetwork;
pub use network::{ByteStream, Network};
pub(crate) use proxy::ProxyRoute;
pub(crate) use resolve::{Resolver, ResolverSources};
pub(crate) use sender::{LateResponse, Sender};
