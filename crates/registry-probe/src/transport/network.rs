//! The network below the prober: name look-ups and connections. The egress policy is applied above it, to each address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::resolve::Resolver;
use crate::findings::DnsFailure;
use crate::host::Host;

/// A byte stream, encrypted or not.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// How names become addresses, and addresses become byte streams.
pub trait Network: Send + Sync {
    /// Looks up a host. A name that was written with a trailing dot is `absolute`: no search domain is tried.
    fn addresses<'a>(
        &'a self,
        host: &'a Host,
        absolute: bool,
    ) -> BoxFuture<'a, Result<Arc<[IpAddr]>, DnsFailure>>;

    /// Returns how long name servers that don't answer are waited for.
    fn longest_lookup(&self) -> Duration;

    /// Connects to an address, which the egress policy has allowed.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>>;
}

/// The network of this machine.
pub(crate) struct SystemNetwork(pub(crate) Resolver);

impl Network for SystemNetwork {
    fn addresses<'a>(
        &'a self,
        host: &'a Host,
        absolute: bool,
    ) -> BoxFuture<'a, Result<Arc<[IpAddr]>, DnsFailure>> {
        self.0.addresses(host, absolute).boxed()
    }

    fn longest_lookup(&self) -> Duration {
        self.0.longest_lookup()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        async move {
            let stream = TcpStream::connect(address).await?;
            // Requests are small and answered one by one: waiting to fill a segment only delays them.
            stream.set_nodelay(true).ok();
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        }
        .boxed()
    }
}
