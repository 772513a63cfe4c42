//! Addresses to connections: each address past the fence, one after the other.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::exchange::FailureCause;
use crate::fence::Fence;
use crate::findings::{ConnectionFailure, Stage};

/// How long one address may take if there are more to try.
const PATIENCE: Duration = Duration::from_secs(4);

/// Connects to the first address that the fence lets pass and that answers.
pub(super) async fn connect(
    addresses: &[IpAddr],
    port: u16,
    fence: &Fence,
    deadline: Instant,
) -> Result<TcpStream, FailureCause> {
    let (open, fenced): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| fence.allows(**address));
    let mut failure = match fenced.first() {
        Some(address) => FailureCause::EgressDenied(*address),
        None => FailureCause::Connection(ConnectionFailure::Unreachable),
    };
    for (index, address) in open.iter().enumerate() {
        let last = index + 1 == open.len();
        let until = if last { deadline } else { deadline.min(Instant::now() + PATIENCE) };
        match timeout_at(until, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => {
                // Requests are small and answered one by one: waiting to fill a segment only delays them.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Ok(Err(error)) => failure = cause_of(&error),
            Err(_) => failure = FailureCause::Timeout(Stage::Connect),
        }
    }
    Err(failure)
}

fn cause_of(error: &io::Error) -> FailureCause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FailureCause::Refused,
        io::ErrorKind::TimedOut => FailureCause::Timeout(Stage::Connect),
        _ => FailureCause::Connection(connection_failure(error)),
    }
}

/// Too many open files: in this process, and in the whole system. The numbers are those of every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// Whether files ran out here.
pub(super) fn is_own_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// The cause of a broken connection, in words that stay the same.
pub(super) fn connection_failure(error: &io::Error) -> ConnectionFailure {
    if is_own_limit(error) {
        return ConnectionFailure::OwnLimit;
    }
    match error.kind() {
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => ConnectionFailure::Unreachable,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotConnected => ConnectionFailure::Closed,
        _ => ConnectionFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_are_no_fault_of_the_other_side() {
        for code in [EMFILE, ENFILE] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(cause_of(&error), FailureCause::Connection(ConnectionFailure::OwnLimit), "{error}");
        }
    }
}
