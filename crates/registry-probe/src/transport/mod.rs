//! The sending: names become addresses, addresses connections, connections encrypted ones, and requests
//! responses.
//!
//! Owns the egress policy's place (every address, at the moment it is connected to), the deadline, and all bounds on
//! what a server may send. Decides nothing about what is asked or what an answer means.

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
