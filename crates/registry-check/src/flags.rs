//! The flags of the programs that check registries from this machine, and the clients that they describe.

use std::sync::Arc;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use registry_probe::{CaBundle, Prober, ProberError, ProberSettings, TrustedService};
#[cfg(feature = "ecr")]
use registry_verdict::ecr::EcrTokens;
use registry_verdict::{
    ca_file::{CaFile, CaFileError},
    cluster_addresses::ClusterAddresses,
    outbound::{AwsEndpoint, OutboundSettings, ProxySettingError, aws_endpoint},
    validate::AdminPolicy,
};
use thiserror::Error;

use crate::check::{CheckNetwork, Checker};

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

/// What checks are made with, and the file whose certificates are trusted.
pub struct CheckClients {
    /// What checks are made with.
    pub checker: Checker,
    ca_file: Option<CaFile>,
    #[cfg(feature = "ecr")]
    aws: registry_verdict::ecr::http::AwsHttp,
}

impl CheckClients {
    /// Reads `--ca-file` again whenever it changes. Never returns.
    pub async fn follow_ca_file(self) {
        let Some(file) = self.ca_file else { return std::future::pending().await };
        let prober = self.checker.prober;
        file.follow(move |bundle: CaBundle| {
            #[cfg(feature = "ecr")]
            self.aws.trust(Some(&bundle));
            prober.trust(Some(bundle));
        })
        .await;
    }
}

impl CheckFlags {
    /// Returns what checks are made with. `program` is a part of the `User-Agent`; `jitter` returns random numbers from 0 to 1.
    pub fn checker(
        &self,
        program: &str,
        clock: fn() -> Timestamp,
        jitter: fn() -> f64,
    ) -> Result<Checker, CheckFlagsError> {
        Ok(self.clients(program, clock, jitter)?.checker)
    }

    /// Returns what checks are made with, for a program that runs for long.
    pub fn clients(
        &self,
        program: &str,
        clock: fn() -> Timestamp,
        jitter: fn() -> f64,
    ) -> Result<CheckClients, CheckFlagsError> {
        let proxy = self.outbound.proxy()?;
        let (ca_file, ca) = self.outbound.ca_file.as_deref().map(CaFile::read).transpose()?.unzip();
        #[cfg(feature = "ecr")]
        let aws = registry_verdict::ecr::http::AwsHttp::new(proxy.clone(), ca.as_ref());
        #[cfg(feature = "ecr")]
        let tokens = Some(self.tokens(aws.clone(), clock, jitter)?);
        #[cfg(not(feature = "ecr"))]
        let (tokens, _) = (None, jitter);
        let version = format!("{} ({program})", env!("CARGO_PKG_VERSION"));
        let prober = Prober::new(ProberSettings { version, proxy, ca, ..ProberSettings::default() })?;
        let admin_policy = AdminPolicy {
            egress_allow: Arc::new([]),
            egress_deny: Arc::new([]),
            cluster_addresses: ClusterAddresses::new([]),
            trusted_token_services: self.trusted_token_service.clone().into(),
        };
        let checker = Checker { prober, tokens, admin_policy, network: CheckNetwork::Users, clock };
        Ok(CheckClients {
            checker,
            ca_file,
            #[cfg(feature = "ecr")]
            aws,
        })
    }

    #[cfg(feature = "ecr")]
    fn tokens(
        &self,
        aws: registry_verdict::ecr::http::AwsHttp,
        clock: fn() -> Timestamp,
        jitter: fn() -> f64,
    ) -> Result<Arc<EcrTokens>, CheckFlagsError> {
        use registry_verdict::ecr::api::{Aws, Endpoints};
        let url = |endpoint: &Option<AwsEndpoint>| endpoint.as_ref().and_then(|AwsEndpoint(url)| url.clone());
        let endpoints = Endpoints {
            ecr: url(&self.aws_endpoint_url_ecr),
            sts: url(&self.aws_endpoint_url_sts),
            region: self.aws_region.clone(),
        };
        let aws = Aws::new(endpoints, aws, Arc::new(|_, _| ()), clock);
        let tokens = EcrTokens::new(Arc::new(aws), clock, jitter).map_err(|_| CheckFlagsError::TokenCache)?;
        Ok(Arc::new(tokens))
    }
}
