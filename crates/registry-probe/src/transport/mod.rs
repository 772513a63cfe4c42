//! Sends requests: resolves names, connects, performs TLS handshakes, and reads
//! responses.
//!
//! Enforces the egress policy (for every address, when it is connected to), the deadline, and all limits on
//! what a server may send. Does not decide what is requested or what a response means.

mod connect;
mod connection;
mod journal;
mod proxy;
mod resolve;
mod retry_after;
mod sender;

pub(crate) use journal::{HandshakeRecord, Journal};
pub(crate) use proxy::ProxyRoute;
pub(crate) use resolve::{Resolver, ResolverSources};
pub(crate) use sender::Sender;
