//! Connects to one of several addresses: staggered attempts, each with a short head start (RFC 8305, section 5).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::network::{ByteStream, Network};
use crate::exchange::FailureCause;
use crate::findings::{ConnectionFailure, Stage};

/// The time until the next address is tried in parallel.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first address that answers. Every address must have passed the egress policy.
pub(super) async fn connect(
    network: &dyn Network,
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
) -> Result<Box<dyn ByteStream>, FailureCause> {
    let mut waiting = alternating(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = FailureCause::Connection(ConnectionFailure::Unreachable);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(network.connect(SocketAddr::new(address, port))),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let head_start =
            if waiting.len() == 0 { deadline } else { deadline.min(Instant::now() + HEAD_START) };
        tokio::select! {
            biased;
            Some(outcome) = attempts.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = more_specific(failure, cause_of(&error)),
            },
            () = sleep_until(head_start) => {
                if Instant::now() >= deadline {
                    return Err(FailureCause::Timeout(Stage::Connect));
                }
            }
        }
    }
}

/// The addresses with alternating families, beginning with that of the first address.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let (mut own, mut other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().rev().copied().partition(|address: &IpAddr| address.is_ipv4() == first.is_ipv4());
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(own.pop());
        turns.extend(other.pop());
    }
    turns
}

/// The more specific of two failures. `Unreachable` is the least specific.
fn more_specific(one: FailureCause, other: FailureCause) -> FailureCause {
    let rank = |cause: &FailureCause| match cause {
        FailureCause::Connection(ConnectionFailure::Unreachable) => 0,
        FailureCause::Refused => 1,
        FailureCause::Connection(_) => 2,
        FailureCause::Dns(_)
        | FailureCause::EgressDenied(_)
        | FailureCause::Tls
        | FailureCause::Timeout(_)
        | FailureCause::NotHttp
        | FailureCause::Proxy(_) => 3,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
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

/// Whether this process or machine has too many open files.
pub(super) fn is_own_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// The category of a connection error.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
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
    fn reports_own_limit_on_too_many_open_files() {
        for code in [EMFILE, ENFILE] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(cause_of(&error), FailureCause::Connection(ConnectionFailure::OwnLimit), "{error}");
        }
    }

    fn in_turns(addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        alternating(&addresses).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn alternates_address_families() {
        assert_eq!(
            in_turns(&["1.1.1.1", "2.2.2.2", "3.3.3.3", "::1"]),
            ["1.1.1.1", "::1", "2.2.2.2", "3.3.3.3"]
        );
        assert_eq!(in_turns(&["::1", "::2", "1.1.1.1"]), ["::1", "1.1.1.1", "::2"]);
        assert!(in_turns(&[]).is_empty());
    }

    #[test]
    fn reports_the_most_specific_failure() {
        let unreachable = || FailureCause::Connection(ConnectionFailure::Unreachable);
        assert_eq!(more_specific(unreachable(), FailureCause::Refused), FailureCause::Refused);
        assert_eq!(more_specific(FailureCause::Refused, unreachable()), FailureCause::Refused);
        let late = FailureCause::Timeout(Stage::Connect);
        assert_eq!(more_specific(FailureCause::Refused, late.clone()), late);
    }
}
