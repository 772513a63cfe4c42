//! How the console keeps tokens and cookies from being read on the way: TLS of its own, that of a proxy, or no network at all. Pure.

use std::{net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::{cli::ServeFlags, public_url::PublicUrl};

/// How requests reach the console.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transport {
    /// The console serves HTTPS with these files.
    Tls {
        /// The certificate and its intermediates.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A proxy in front of it serves HTTPS.
    BehindProxy,
    /// Only programs on this machine reach it.
    Loopback,
}

/// Why the console doesn't start.
#[derive(Debug, Eq, Error, PartialEq)]
pub enum TransportError {
    /// Tokens could be read on the way.
    #[error(
        "--listen {0} is not a loopback address: set --tls-cert and --tls-key, or --behind-tls-proxy if a proxy in front of the \
         console serves HTTPS"
    )]
    Unprotected(SocketAddr),
    /// It isn't clear who serves HTTPS.
    #[error("--behind-tls-proxy and --tls-cert exclude each other; remove one of them")]
    Both,
    /// Browsers would use HTTPS, and nobody serves it.
    #[error(
        "--public-url starts with https://, but nothing serves HTTPS: set --tls-cert and --tls-key, or --behind-tls-proxy"
    )]
    NobodyServesHttps,
    /// Browsers wouldn't use HTTPS.
    #[error("--public-url must start with https:// with --tls-cert or --behind-tls-proxy")]
    NotHttps,
}

/// Decides by the flags; only a loopback address needs no TLS.
pub fn transport(
    flags: &ServeFlags,
    listen: SocketAddr,
    url: &PublicUrl,
) -> Result<Transport, TransportError> {
    let files = flags.tls_cert.clone().zip(flags.tls_key.clone());
    let transport = match (files, flags.behind_tls_proxy) {
        (Some(_), true) => return Err(TransportError::Both),
        (Some((cert, key)), false) => Transport::Tls { cert, key },
        (None, true) => Transport::BehindProxy,
        (None, false) if listen.ip().is_loopback() => Transport::Loopback,
        (None, false) => return Err(TransportError::Unprotected(listen)),
    };
    match (transport == Transport::Loopback, url.is_https()) {
        (true, true) => Err(TransportError::NobodyServesHttps),
        (false, false) => Err(TransportError::NotHttps),
        _ => Ok(transport),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::ConsoleCli;

    fn decide(listen: &str, url: &str, more: &[&str]) -> Result<Transport, TransportError> {
        let words = ["registry-console", "--listen", listen, "--public-url", url];
        let flags = ConsoleCli::try_parse_from(words.iter().chain(more)).unwrap().serve;
        transport(&flags, flags.listen.unwrap(), &flags.public_url.clone().unwrap())
    }

    const HTTPS: &str = "https://r.example";
    const HTTP: &str = "http://localhost:8080";
    const FILES: [&str; 4] = ["--tls-cert", "c", "--tls-key", "k"];

    #[test]
    fn networks_need_tls() {
        for listen in [":8443", "0.0.0.0:8443", "10.0.0.1:8443", "[fd00::1]:8443"] {
            let refused = decide(listen, HTTPS, &[]).unwrap_err().to_string();
            assert!(refused.contains("--tls-cert") && refused.contains("--behind-tls-proxy"), "{refused}");
            assert!(decide(listen, HTTPS, &FILES).is_ok());
            assert_eq!(decide(listen, HTTPS, &["--behind-tls-proxy"]), Ok(Transport::BehindProxy));
        }
        assert_eq!(decide("127.0.0.1:8080", HTTP, &[]), Ok(Transport::Loopback));
    }

    #[test]
    fn public_url_says_who_serves_https() {
        assert_eq!(decide("127.0.0.1:1", HTTPS, &[]), Err(TransportError::NobodyServesHttps));
        assert_eq!(decide("127.0.0.1:1", HTTP, &FILES), Err(TransportError::NotHttps));
        assert_eq!(decide(":1", HTTP, &["--behind-tls-proxy"]), Err(TransportError::NotHttps));
        let both = [&FILES[..], &["--behind-tls-proxy"]].concat();
        assert_eq!(decide(":1", HTTPS, &both), Err(TransportError::Both));
    }

    #[test]
    fn proxy_can_be_denied_in_a_variable() {
        assert_eq!(decide("127.0.0.1:1", HTTP, &["--behind-tls-proxy=false"]), Ok(Transport::Loopback));
    }
}
