//! The flags for connections to registries, token services and AWS, shared by the operator and the kubectl plugin.

use std::{convert::Infallible, path::PathBuf};

use clap::Args;
use registry_probe::{NoProxy, Proxy, ProxyUrlError};
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
}
