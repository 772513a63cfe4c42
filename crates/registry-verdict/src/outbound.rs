//! What the command lines of several programs share: the flags for connections to registries, token services and AWS, and the
//! parsers of addresses.

use std::{
    convert::Infallible,
    ffi::OsStr,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, builder::Resettable};
use registry_probe::{IpNet, NoProxy, Proxy, ProxyUrlError};
use secrecy::SecretString;
use thiserror::Error;

/// How to connect to registries, token services and AWS.
#[derive(Args, Clone, Debug, Default)]
pub struct OutboundSettings {
    /// Forward proxy for registries, token services and AWS, as `http[s]://[USER:PASSWORD@]HOST:PORT`. Not used for
    /// the API server. HTTPS_PROXY and similar variables are ignored.
    #[arg(long, env = "REGISTRY_OPERATOR_PROXY", value_name = "URL", value_parser = secret, hide_env_values = true)]
    pub proxy: Option<SecretString>,

    /// Destinations that bypass the proxy, as in NO_PROXY of Go programs: hosts with their subdomains, .DOMAIN, IP
    /// addresses and CIDRs, each with an optional :PORT, or *; comma-separated.
    #[arg(long, env = "REGISTRY_OPERATOR_NO_PROXY", value_name = "LIST")]
    pub no_proxy: Option<NoProxy>,

    /// PEM file with additional CA certificates for registries, token services, AWS and the proxy. Reloaded when it
    /// changes.
    #[arg(long, env = "REGISTRY_OPERATOR_CA_FILE", value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
}

impl OutboundSettings {
    /// Returns the proxy, or what is wrong with its URL. The error doesn't contain the URL, because it may have a
    /// password.
    pub fn proxy(&self) -> Result<Option<Proxy>, ProxySettingError> {
        let Some(url) = &self.proxy else { return Ok(None) };
        let proxy = Proxy::parse(url, self.no_proxy.clone().unwrap_or_default());
        Ok(Some(proxy.map_err(ProxySettingError)?))
    }
}

/// What is wrong with `--proxy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Error)]
#[error("--proxy {0}")]
pub struct ProxySettingError(ProxyUrlError);

/// Accepts any text, because clap prints values that it refuses.
#[expect(clippy::unnecessary_wraps, reason = "what clap wants")]
fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(text.into())
}

/// An endpoint of AWS; `None` if the variable is empty, as in AWS's own tools.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AwsEndpoint(pub Option<String>);

/// Parses an endpoint of AWS.
pub fn aws_endpoint(text: &str) -> Result<AwsEndpoint, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(AwsEndpoint(None));
    }
    let uri: http::Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(AwsEndpoint(Some(text.to_owned()))),
        _ => Err("not a URL that starts with https:// or http://".to_owned()),
    }
}

/// Ignores environment variables that are set but empty, because some manifests set a variable to "" to omit it.
pub fn without_variables(command: clap::Command, is_empty: impl Fn(&OsStr) -> bool) -> clap::Command {
    command.mut_args(|arg| {
        let empty = arg.get_env().is_some_and(&is_empty);
        if empty { arg.env(Resettable::Reset) } else { arg }
    })
}

/// Parses the address to listen on. Without a host, it is all addresses.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
    let anywhere = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    anywhere.or_else(|| text.parse().ok()).ok_or("not an IP address and a port, such as 127.0.0.1:8080")
}

/// Parses a CIDR or a single address.
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| one()).map_err(|_| "not a network, such as 10.0.0.0/8 or fd00::/8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_endpoint_is_a_url_or_unset() {
        assert_eq!(aws_endpoint(""), Ok(AwsEndpoint(None)));
        assert_eq!(
            aws_endpoint("http://127.0.0.1:5000"),
            Ok(AwsEndpoint(Some("http://127.0.0.1:5000".into())))
        );
        for wrong in ["127.0.0.1:5000", "ftp://aws.example", "not a url"] {
            assert!(aws_endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn port_alone_listens_on_all_addresses() {
        assert_eq!(address(":8080"), Ok("[::]:8080".parse().unwrap()));
        assert_eq!(address("[::1]:9"), Ok("[::1]:9".parse().unwrap()));
        for wrong in ["", ":", "8080", ":http", "127.0.0.1", ":65536"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn single_address_is_a_network() {
        assert_eq!(network("10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
        assert_eq!(network("fd00::/8"), Ok("fd00::/8".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "registry.example.com"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
