//! The flags of the programs that check registries from this machine, and the clients that they describe.

use std::sync::Arc;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use registry_probe::{CaBundle, Prober, ProberError, ProberSettings, Proxy, TrustedService};
use registry_verdict::{
    ca_file::{CaFile, CaFileError},
    cluster_addresses::ClusterAddresses,
    ecr::EcrTokens,
    outbound::{AwsEndpoint, OutboundSettings, ProxySettingError, aws_endpoint},
    validate::AdminPolicy,
};
use thiserror::Error;

use crate::check::Checker;

/// How a program on this machine reaches registries, token services and AWS.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// Token service on another host that credentials may be sent to, as for the operator (repeatable or
    /// comma-separated).
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub trusted_token_service: Vec<TrustedService>,
    /// How to connect to registries, as for the operator.
    #[command(flatten)]
    pub outbound: OutboundSettings,
    /// Endpoint of the AWS ECR API; default: that of the registry's region.
    #[arg(long, env = "AWS_ENDPOINT_URL_ECR", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_ecr: Option<AwsEndpoint>,
    /// Endpoint of the AWS STS API; default: that of the registry's region.
    #[arg(long, env = "AWS_ENDPOINT_URL_STS", value_name = "URL", value_parser = aws_endpoint, hide_env_values = true)]
    pub aws_endpoint_url_sts: Option<AwsEndpoint>,
    /// AWS region in which your own AWS identity assumes roles.
    #[arg(long, env = "AWS_REGION", value_name = "REGION", hide_env_values = true)]
    pub aws_region: Option<String>,
}

/// Why the clients can't be made.
#[derive(Debug, Error)]
pub enum CheckFlagsError {
    /// `--ca-file` can't be used.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// `--proxy` can't be used.
    #[error(transparent)]
    Proxy(#[from] ProxySettingError),
    /// The client for registries can't be made.
    #[error("failed to set up the prober")]
    Prober(#[from] ProberError),
    /// There were no random numbers for the key of the token cache.
    #[error("failed to create the key of the token cache")]
    TokenCache,
}

impl CheckFlags {
    /// Returns what checks are made with. `program` is a part of the `User-Agent`; `jitter` returns random numbers from 0 to 1.
    pub fn checker(
        &self,
        program: &str,
        clock: fn() -> Timestamp,
        jitter: fn() -> f64,
    ) -> Result<Checker, CheckFlagsError> {
        let proxy = self.outbound.proxy()?;
        let ca = self.outbound.ca_file.as_deref().map(CaFile::read).transpose()?.map(|(_, bundle)| bundle);
        let tokens = self.tokens(proxy.clone(), ca.as_ref(), clock, jitter)?;
        let version = format!("{} ({program})", env!("CARGO_PKG_VERSION"));
        let prober = Prober::new(ProberSettings { version, proxy, ca, ..ProberSettings::default() })?;
        let admin_policy = AdminPolicy {
            egress_allow: Arc::new([]),
            egress_deny: Arc::new([]),
            cluster_addresses: ClusterAddresses::new([]),
            trusted_token_services: self.trusted_token_service.clone().into(),
        };
        Ok(Checker { prober, tokens, admin_policy, clock })
    }

    #[cfg(feature = "ecr")]
    fn tokens(
        &self,
        proxy: Option<Proxy>,
        ca: Option<&CaBundle>,
        clock: fn() -> Timestamp,
        jitter: fn() -> f64,
    ) -> Result<Option<Arc<EcrTokens>>, CheckFlagsError> {
        use registry_verdict::ecr::{
            api::{Aws, Endpoints},
            http::AwsHttp,
        };
        let url = |endpoint: &Option<AwsEndpoint>| endpoint.as_ref().and_then(|AwsEndpoint(url)| url.clone());
        let endpoints = Endpoints {
            ecr: url(&self.aws_endpoint_url_ecr),
            sts: url(&self.aws_endpoint_url_sts),
            region: self.aws_region.clone(),
        };
        let aws = Aws::new(endpoints, AwsHttp::new(proxy, ca), Arc::new(|_, _| ()), clock);
        let tokens = EcrTokens::new(Arc::new(aws), clock, jitter).map_err(|_| CheckFlagsError::TokenCache)?;
        Ok(Some(Arc::new(tokens)))
    }

    #[cfg(not(feature = "ecr"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with the feature")]
    fn tokens(
        &self,
        _: Option<Proxy>,
        _: Option<&CaBundle>,
        _: fn() -> Timestamp,
        _: fn() -> f64,
    ) -> Result<Option<Arc<EcrTokens>>, CheckFlagsError> {
        Ok(None)
    }
}
