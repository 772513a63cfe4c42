//! Sends requests to AWS with its SDK. Owns the clients. Only connections, which carry no login, and the operator's own
//! credentials outlive a request.
//!
//! Every client is created for one login, with its credentials and region set explicitly, so nothing from the
//! environment of the process is used. The one exception is `OwnCredentials`, which requires an `OperatorIdentity`.

use std::{sync::Arc, time::Duration};

use aws_config::{
    default_provider::credentials::DefaultCredentialsChain, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain, provider_config::ProviderConfig,
};
use aws_credential_types::{
    Credentials as AwsCredentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_sdk_ecr::{config::Region, primitives::DateTime};
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::{
    behavior_version::BehaviorVersion,
    http::SharedHttpClient,
    orchestrator::HttpResponse,
    result::{DispatchFailure, SdkError},
};
use aws_smithy_types::{error::metadata::ProvideErrorMetadata, retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::jiff::Timestamp;
use registry_probe::{Credentials, RepositoryName};
use secrecy::{ExposeSecret, SecretString};

pub use super::regions::Endpoints;
use super::{
    cache::Fresh,
    causes::{Api, AwsAction, AwsRefusal, Cause, Complaint, KeyRefusal, Outage, OwnIdentityFault, cause},
    http::{AwsHttp, ProxyError},
    identity::{Identity, Keys, Login, RoleSource},
    own::OwnCredentials,
    tokens::{EcrToken, Issuer},
};

/// Called after each request to AWS with its outcome, for the metrics.
pub type RequestObserver = Arc<dyn Fn(Api, RequestOutcome) + Send + Sync>;

/// The outcome of a request to AWS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestOutcome {
    /// AWS returned what was requested.
    Granted,
    /// AWS refused the request.
    Refused,
    /// AWS throttled the request.
    Throttled,
    /// AWS didn't answer.
    Failed,
}

impl RequestOutcome {
    /// Returns the outcome of a request without a token.
    fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Throttled => Self::Throttled,
            Cause::Unavailable(_) | Cause::Proxy { .. } => Self::Failed,
            Cause::KeysRefused(_)
            | Cause::RoleDenied { .. }
            | Cause::SessionTooLarge
            | Cause::ActionDenied { .. }
            | Cause::RegionDisabled
            | Cause::NotSubscribed
            | Cause::NoEndpoint
            | Cause::ClockSkew
            | Cause::Withheld(_)
            | Cause::NoOperatorIdentity
            | Cause::OperatorIdentityRefused(_)
            | Cause::TokenRefused { .. }
            | Cause::Other { .. } => Self::Refused,
        }
    }

    /// Returns the value of the metrics' label, from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// The client for AWS. Cheap to clone.
#[derive(Clone)]
pub struct Aws(Arc<AwsClient>);

struct AwsClient {
    http: SharedHttpClient,
    endpoints: Endpoints,
    own: OwnCredentials,
    observe: RequestObserver,
    clock: fn() -> Timestamp,
}

/// The name of the session in CloudTrail.
const SESSION: &str = "registry-operator";
const CONNECT: Duration = Duration::from_secs(3);
const OPERATION: Duration = Duration::from_secs(10);
/// The number of repositories per page, which is AWS's maximum.
const PAGE: i32 = 1000;
const PAGES: usize = 10;
/// How long a list of repositories is used.
const LISTED: Duration = Duration::from_hours(1);

impl Aws {
    /// Creates a client that has sent no request yet.
    pub fn new(
        endpoints: Endpoints,
        http: AwsHttp,
        observe: RequestObserver,
        clock: fn() -> Timestamp,
    ) -> Self {
        let http = SharedHttpClient::new(http);
        let own = {
            let http = http.clone();
            OwnCredentials::new(move |region| look_up(http.clone(), region).boxed(), clock)
        };
        Self(Arc::new(AwsClient { http, endpoints, own, observe, clock }))
    }
}

impl Issuer for Aws {
    fn issue(&self, login: Login) -> BoxFuture<'static, Result<Fresh<EcrToken>, AwsRefusal>> {
        let aws = self.clone();
        async move { aws.0.token(&login).await }.boxed()
    }

    fn find(
        &self,
        login: Login,
        base: RepositoryName,
    ) -> BoxFuture<'static, Result<Fresh<Option<RepositoryName>>, AwsRefusal>> {
        let aws = self.clone();
        async move { aws.0.repository(&login, &base).await }.boxed()
    }
}

impl AwsClient {
    async fn token(&self, login: &Login) -> Result<Fresh<EcrToken>, AwsRefusal> {
        let (client, temporary) = self.ecr(login).await?;
        let region = self.endpoints.ecr_region(&login.endpoint);
        let asked = AwsRequest { login, action: AwsAction::GetAuthorizationToken, temporary, region };
        let answer = client.get_authorization_token().send().await;
        let answer = answer.map_err(|error| self.refused(&asked, &error))?;
        (self.observe)(Api::Ecr, RequestOutcome::Granted);
        let data = answer.authorization_data().first();
        let token = data.and_then(|data| {
            let credentials = decoded(data.authorization_token()?)?;
            Some(EcrToken { credentials, expires_at: timestamp(data.expires_at()?)? })
        });
        let token = token.ok_or_else(|| asked.refusal(Cause::Unavailable(Outage::Unreadable)))?;
        Ok(Fresh { ends_at: token.expires_at, value: token })
    }

    async fn repository(
        &self,
        login: &Login,
        base: &RepositoryName,
    ) -> Result<Fresh<Option<RepositoryName>>, AwsRefusal> {
        let (client, temporary) = self.ecr(login).await?;
        let region = self.endpoints.ecr_region(&login.endpoint);
        let asked = AwsRequest { login, action: AwsAction::DescribeRepositories, temporary, region };
        let request = client.describe_repositories().set_registry_id(login.endpoint.account.clone());
        let mut pages = request.into_paginator().page_size(PAGE).send();
        let mut found = None;
        for _ in 0..PAGES {
            let Some(page) = pages.next().await else { break };
            let page = page.map_err(|error| self.refused(&asked, &error))?;
            (self.observe)(Api::Ecr, RequestOutcome::Granted);
            let names = page.repositories().iter().filter_map(|repository| repository.repository_name());
            found =
                names.filter(|name| is_below(name, base)).find_map(|name| RepositoryName::parse(name).ok());
            if found.is_some() {
                break;
            }
        }
        Ok(Fresh { value: found, ends_at: (self.clock)() + LISTED })
    }

    /// Returns a client for ECR with the credentials of `login`, and whether it uses a session token.
    async fn ecr(&self, login: &Login) -> Result<(aws_sdk_ecr::Client, bool), AwsRefusal> {
        let credentials = match &login.identity {
            Identity::Keys(keys) => explicit(keys),
            Identity::Role { arn, external_id, source } => {
                self.assume(login, arn, external_id.as_deref(), source).await?
            }
        };
        let temporary = credentials.session_token().is_some();
        let place = &login.endpoint;
        // An endpoint that an administrator sets is used as it is, without FIPS or dual-stack variants.
        let derived = self.endpoints.ecr.is_none();
        let mut config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.endpoints.ecr_region(place).to_owned()))
            .use_fips(place.fips && derived)
            .use_dual_stack(place.dual_stack && derived)
            .credentials_provider(credentials)
            .http_client(self.http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts());
        config.set_endpoint_url(self.endpoints.ecr.clone());
        Ok((aws_sdk_ecr::Client::from_conf(config.build()), temporary))
    }

    async fn assume(
        &self,
        login: &Login,
        arn: &str,
        external_id: Option<&str>,
        source: &RoleSource,
    ) -> Result<AwsCredentials, AwsRefusal> {
        let action = AwsAction::AssumeRole { external_id: external_id.is_some() };
        let region = self.endpoints.sts_region(&login.endpoint, source);
        let credentials = match source {
            RoleSource::Keys(keys) => explicit(keys),
            RoleSource::Operator(identity) => {
                let own = self.own.get(identity, region).await;
                own.map_err(|cause| AwsRequest { login, action, temporary: false, region }.refusal(cause))?
            }
        };
        let asked = AwsRequest { login, action, temporary: credentials.session_token().is_some(), region };
        let request = self
            .sts(login, region, credentials.clone())
            .assume_role()
            .role_arn(arn)
            .role_session_name(SESSION)
            .set_external_id(external_id.map(ToOwned::to_owned));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.not_assumed(&asked, arn, &credentials, &error)),
        };
        (self.observe)(Api::Sts, RequestOutcome::Granted);
        let session = answer.credentials().map(|session| {
            let token = Some(session.session_token().to_owned());
            AwsCredentials::new(session.access_key_id(), session.secret_access_key(), token, None, SESSION)
        });
        session.ok_or_else(|| asked.refusal(Cause::Unavailable(Outage::Unreadable)))
    }

    fn sts(&self, login: &Login, region: &str, credentials: AwsCredentials) -> aws_sdk_sts::Client {
        let place = &login.endpoint;
        let derived = self.endpoints.sts.is_none();
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.to_owned()))
            .use_fips(place.fips && derived)
            .use_dual_stack(place.dual_stack && derived)
            .credentials_provider(credentials)
            .http_client(self.http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts());
        config.set_endpoint_url(self.endpoints.sts.clone());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    fn not_assumed<E: ProvideErrorMetadata>(
        &self,
        asked: &AwsRequest<'_>,
        arn: &str,
        used: &AwsCredentials,
        error: &SdkError<E, HttpResponse>,
    ) -> AwsRefusal {
        let refusal = self.refused(asked, error);
        let cause = match refusal.cause {
            Cause::RoleDenied { external_id, action, denial, .. } => {
                let partition = arn.split(':').nth(1).unwrap_or_default();
                let other =
                    (partition != asked.login.endpoint.partition().as_str()).then(|| partition.to_owned());
                Cause::RoleDenied { external_id, other_partition: other, action, denial }
            }
            // The keys are the operator's, not those of the spec's author.
            Cause::KeysRefused(
                KeyRefusal::UnknownKey
                | KeyRefusal::UnknownKeyOrSession
                | KeyRefusal::WrongSecret
                | KeyRefusal::Malformed
                | KeyRefusal::Expired,
            ) if asked.login.is_by_operator() => {
                self.own.discard(used);
                Cause::OperatorIdentityRefused(OwnIdentityFault::Credentials)
            }
            cause @ (Cause::KeysRefused(_)
            | Cause::SessionTooLarge
            | Cause::ActionDenied { .. }
            | Cause::RegionDisabled
            | Cause::NotSubscribed
            | Cause::NoEndpoint
            | Cause::ClockSkew
            | Cause::Throttled
            | Cause::Unavailable(_)
            | Cause::Withheld(_)
            | Cause::Proxy { .. }
            | Cause::NoOperatorIdentity
            | Cause::OperatorIdentityRefused(_)
            | Cause::TokenRefused { .. }
            | Cause::Other { .. }) => cause,
        };
        AwsRefusal { cause, ..refusal }
    }

    fn refused<E: ProvideErrorMetadata>(
        &self,
        asked: &AwsRequest<'_>,
        error: &SdkError<E, HttpResponse>,
    ) -> AwsRefusal {
        let refusal = AwsRefusal { retry_after: retry_after(error), ..asked.refusal(asked.cause(error)) };
        (self.observe)(refusal.api, RequestOutcome::of(&refusal.cause));
        tracing::debug!(api = refusal.api.as_str(), region = refusal.region, cause = ?refusal.cause, "AWS request refused");
        refusal
    }
}

/// A request to AWS, for the error message.
struct AwsRequest<'a> {
    login: &'a Login,
    action: AwsAction,
    temporary: bool,
    region: &'a str,
}

impl AwsRequest<'_> {
    fn refusal(&self, cause: Cause) -> AwsRefusal {
        AwsRefusal { cause, api: self.action.api(), region: self.region.to_owned(), retry_after: None }
    }

    fn cause<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> Cause {
        let cause = meaning(error, self.action, self.temporary);
        if matches!(error, SdkError::ServiceError(_)) { self.of_session(cause) } else { cause }
    }

    /// If STS has just issued a session that the region doesn't know, the region is not enabled.
    fn of_session(&self, cause: Cause) -> Cause {
        let by_role = matches!(self.login.identity, Identity::Role { .. });
        let is_unknown =
            matches!(cause, Cause::KeysRefused(KeyRefusal::UnknownKey | KeyRefusal::UnknownKeyOrSession));
        if is_unknown && by_role && self.action.api() == Api::Ecr { Cause::RegionDisabled } else { cause }
    }
}

/// Returns the cause of the SDK's error.
#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn meaning<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
    action: AwsAction,
    temporary: bool,
) -> Cause {
    match error {
        SdkError::ServiceError(service) => {
            let (metadata, body) = (service.err().meta(), service.raw().body().bytes().unwrap_or_default());
            let body = str::from_utf8(body).unwrap_or_default();
            let complaint = Complaint {
                code: metadata.code().or_else(|| element(body, "Code")),
                message: metadata.message().or_else(|| element(body, "Message")).unwrap_or_default(),
                status: service.raw().status().as_u16(),
            };
            cause(complaint, action, temporary)
        }
        SdkError::TimeoutError(_) => Cause::Unavailable(Outage::Timeout),
        SdkError::DispatchFailure(failure) => unreached(failure),
        SdkError::ResponseError(response) => match response.raw().status().as_u16() {
            200 => Cause::Unavailable(Outage::Unreadable),
            status => Cause::Unavailable(Outage::Status(status)),
        },
        _ => Cause::NoEndpoint,
    }
}

/// Gets the operator's own identity, from the same sources as AWS's own tools.
async fn look_up(http: SharedHttpClient, region: String) -> Result<AwsCredentials, Cause> {
    let region =
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(Region::new(region));
    let config = ProviderConfig::empty()
        .with_http_client(http)
        .with_sleep_impl(TokioSleep::new())
        .with_timeout_config(timeouts());
    let looking = async {
        let chain = DefaultCredentialsChain::builder().configure(config).region(region).build().await;
        chain.provide_credentials().await
    };
    match tokio::time::timeout(OPERATION, looking).await {
        Ok(credentials) => credentials.map_err(|error| own_cause(&error)),
        Err(_) => Err(Cause::Unavailable(Outage::Timeout)),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn own_cause(error: &CredentialsError) -> Cause {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Cause::NoOperatorIdentity,
        CredentialsError::ProviderTimedOut(_) => Cause::Unavailable(Outage::Timeout),
        error => web_identity_cause(error),
    }
}

/// With IRSA, the SDK calls STS itself.
fn web_identity_cause(error: &CredentialsError) -> Cause {
    type Asked = SdkError<AssumeRoleWithWebIdentityError, HttpResponse>;
    let refused = Cause::OperatorIdentityRefused(OwnIdentityFault::Credentials);
    let mut chain = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let asked = chain.find_map(|error| error.downcast_ref::<Asked>());
    match asked.map(|error| meaning(error, AwsAction::AssumeRoleWithWebIdentity, false)) {
        // The message must say that this is about the operator's role and not about one in a spec.
        None | Some(Cause::Other { .. } | Cause::NoEndpoint) => refused,
        Some(cause) => cause,
    }
}

fn explicit(keys: &Keys) -> AwsCredentials {
    let text = |secret: &SecretString| secret.expose_secret().to_owned();
    AwsCredentials::new(text(&keys.id), text(&keys.secret), keys.session.as_ref().map(text), None, "spec")
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(OPERATION).build()
}

/// Returns the content of the first element with that name: gateways in front of a JSON API report errors in XML.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once('<').map(|(text, _)| text)
}

/// Decodes `base64(user:password)`.
fn decoded(token: &str) -> Option<Credentials> {
    let pair = SecretString::from(String::from_utf8(STANDARD.decode(token).ok()?).ok()?);
    let (user, password) = pair.expose_secret().split_once(':')?;
    Credentials::basic(user, SecretString::from(password)).ok()
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}

fn is_below(name: &str, base: &RepositoryName) -> bool {
    name.strip_prefix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Parses `Retry-After` (RFC 9110) in seconds. AWS doesn't send dates there.
fn retry_after<E>(error: &SdkError<E, HttpResponse>) -> Option<Duration> {
    let seconds = error.raw_response()?.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn unreached(failure: &DispatchFailure) -> Cause {
    let error = failure.as_connector_error().map(|error| error as &(dyn std::error::Error + 'static));
    if is_about_certificate(error) {
        return Cause::Unavailable(Outage::Untrusted);
    }
    let mut chain = std::iter::successors(error, |error| error.source());
    if let Some(ProxyError { proxy, trouble, .. }) = chain.find_map(|error| error.downcast_ref()) {
        return Cause::Proxy { proxy: proxy.clone(), trouble: *trouble };
    }
    Cause::Unavailable(if failure.is_timeout() { Outage::Timeout } else { Outage::Unreachable })
}

fn is_about_certificate(error: Option<&(dyn std::error::Error + 'static)>) -> bool {
    let mut chain = std::iter::successors(error, |error| error.source());
    chain.any(|error| error.to_string().contains("certificate"))
}
