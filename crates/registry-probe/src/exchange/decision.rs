//! The input of a decision: the case, and the answers so far.
//!
//! Every decision is a pure function that reads as if all answers were available. If one is missing, `?` returns
//! the question to ask, and the decision runs again from the start once it is answered. So the order of
//! requests is the order in which the decision reads. The same `?` also returns a verdict if there is no
//! reason to continue.

use jiff::Timestamp;

use super::ping::Ping;
use super::question::{AuthAttempt, Question, Resource, TokenMethod, TokenPrincipal, TokenRequest};
use super::recorded_answers::RecordedAnswers;
use super::reply::{Failure, FailureCause, Reply, ReplyKind, TokenReply};
use super::repository_read::RepositoryRead;
use super::token_admission::asked_scope;
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::findings::{
    ConnectionFailure, ContentPathFinding, CredentialsFinding, Distrust, EndpointFinding, NotARegistry,
    Unavailable, Unprovable,
};
use crate::host::HostPort;
use crate::realm::{Distrusted, TokenService, Trust};
use crate::repository::RepositoryName;
use crate::token::IssuedToken;

/// What to find out: endpoint, credentials and repository.
pub(crate) struct ExchangeCase<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) base_path: Option<&'a RepositoryName>,
    /// The repository that must be readable, by its full name.
    pub(crate) repository: Option<RepositoryName>,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) trust: Trust<'a>,
    pub(crate) now: Timestamp,
}

/// The findings that the exchange decides on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeFindings {
    pub(crate) endpoint: EndpointFinding,
    pub(crate) credentials: CredentialsFinding,
    pub(crate) content_path: ContentPathFinding,
}

/// Why a decision ends early.
#[derive(Debug)]
pub(crate) enum ExchangeStop {
    /// The decision needs the answer to this question.
    Ask(Box<Question>),
    /// The verdict is final.
    Decided(Box<ExchangeFindings>),
}

/// A part of a decision.
pub(crate) type ExchangeStep<T> = Result<T, ExchangeStop>;

/// The case, and the answers so far.
pub(crate) struct Exchange<'a> {
    pub(crate) case: &'a ExchangeCase<'a>,
    pub(crate) answers: &'a RecordedAnswers,
}

impl ExchangeFindings {
    /// Findings if only the endpoint layer was reached.
    pub(super) fn of_endpoint(endpoint: EndpointFinding) -> Self {
        let (credentials, content_path) =
            (CredentialsFinding::NotAttempted, ContentPathFinding::NotAttempted);
        Self { endpoint, credentials, content_path }
    }

    /// Findings of a registry that answers, with this result for the credentials.
    pub(crate) fn of_credentials(credentials: CredentialsFinding) -> Self {
        Self { credentials, ..Self::of_endpoint(EndpointFinding::Reachable) }
    }
}

impl ExchangeStop {
    pub(super) fn endpoint(finding: EndpointFinding) -> Self {
        Self::Decided(Box::new(ExchangeFindings::of_endpoint(finding)))
    }

    pub(super) fn credentials(finding: CredentialsFinding) -> Self {
        Self::Decided(Box::new(ExchangeFindings::of_credentials(finding)))
    }
}

impl From<Box<Question>> for ExchangeStop {
    fn from(question: Box<Question>) -> Self {
        Self::Ask(question)
    }
}

/// Stops because the registry names a token service that must not get the credentials.
pub(super) fn untrusted(Distrusted { service, cause }: Distrusted) -> ExchangeStop {
    ExchangeStop::credentials(CredentialsFinding::UntrustedTokenService { service, cause })
}

/// Stops because the registry offers only unsupported authentication schemes.
pub(super) fn unsupported(ping: &Ping<'_>) -> ExchangeStop {
    ExchangeStop::credentials(CredentialsFinding::UnsupportedScheme { schemes: ping.schemes() })
}

/// Whether a request to `/v2/` was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PingAdmission<'a> {
    /// The request was granted.
    Granted,
    /// The request was refused.
    Refused(&'a Reply),
}

impl PingAdmission<'_> {
    pub(super) fn is_granted(self) -> bool {
        self == Self::Granted
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn server(&self) -> HostPort {
        self.case.endpoint.server().clone()
    }

    /// The registry's answer to `GET /v2/`.
    pub(super) fn api(&self, attempt: &AuthAttempt) -> ExchangeStep<Result<&'a Reply, &'a Failure>> {
        Ok(self.answers.registry(Resource::Api, attempt)?)
    }

    /// The registry's answer to the list of tags.
    pub(super) fn tags(&self, attempt: &AuthAttempt) -> ExchangeStep<Result<&'a Reply, &'a Failure>> {
        Ok(self.answers.registry(Resource::Tags, attempt)?)
    }

    /// The registry's answer to `HEAD` of the manifest `latest`.
    pub(super) fn manifest(&self, attempt: &AuthAttempt) -> ExchangeStep<Result<&'a Reply, &'a Failure>> {
        Ok(self.answers.registry(Resource::Manifest, attempt)?)
    }

    /// The challenges in the response to the request for the list of tags.
    pub(super) fn tags_challenges(&self, attempt: &AuthAttempt) -> ExchangeStep<&'a [Challenge]> {
        Ok(self.tags(attempt)?.map_or(&[], |reply| &reply.challenges))
    }

    /// The token service's answer.
    pub(super) fn token(&self, request: &TokenRequest) -> ExchangeStep<Result<&'a TokenReply, &'a Failure>> {
        Ok(self.answers.token(request)?)
    }

    /// The token that a request got.
    pub(super) fn issued(&self, request: &TokenRequest) -> Option<&'a IssuedToken> {
        self.answers.issued(request)
    }

    /// Whether `/v2/` grants `attempt`. Stops the validation if the registry can't answer now.
    pub(super) fn admission(&self, attempt: &AuthAttempt) -> ExchangeStep<PingAdmission<'a>> {
        let server = self.server();
        let reply = self
            .api(attempt)?
            .map_err(|failure| ExchangeStop::credentials(self.finding_of_failure(failure)))?;
        match &reply.kind {
            ReplyKind::Granted(_) => Ok(PingAdmission::Granted),
            ReplyKind::Page if self.is_known_by_repository()? => Ok(PingAdmission::Granted),
            ReplyKind::Page => {
                let cause = NotARegistry::NoSign;
                Err(ExchangeStop::endpoint(EndpointFinding::NotARegistry { server, cause }))
            }
            ReplyKind::Redirect { to, .. } => {
                Err(ExchangeStop::endpoint(EndpointFinding::RedirectRefused { server, to: to.clone() }))
            }
            ReplyKind::Throttled => {
                Err(ExchangeStop::credentials(CredentialsFinding::Throttled { by: server }))
            }
            ReplyKind::Fault(status) => {
                let cause = Unavailable::Status(*status);
                Err(ExchangeStop::credentials(CredentialsFinding::TemporarilyUnavailable { server, cause }))
            }
            ReplyKind::Unauthorized
            | ReplyKind::Forbidden
            | ReplyKind::NotFound
            | ReplyKind::WantsTls
            | ReplyKind::Other(_) => Ok(PingAdmission::Refused(reply)),
        }
    }

    /// The token service of the first Bearer challenge; `None` if there is no such challenge.
    pub(super) fn token_service(&self, challenges: &[Challenge]) -> Option<Result<TokenService, Distrusted>> {
        let bearer = challenges.iter().find(|challenge| challenge.is("Bearer"))?;
        Some(TokenService::of(bearer, &self.case.trust))
    }

    /// A request for a token, by the method that suits the credentials.
    pub(super) fn token_request(
        &self,
        service: &TokenService,
        principal: TokenPrincipal,
        scope: Option<String>,
    ) -> TokenRequest {
        let identity = matches!(self.case.credentials, Some(Credentials::IdentityToken { .. }));
        let method = if identity && principal == TokenPrincipal::Account {
            TokenMethod::Post
        } else {
            TokenMethod::Get
        };
        TokenRequest { service: service.clone(), scope, principal, method }
    }

    /// The scope to read the named repository (Docker Registry v2 authentication, "scope").
    pub(super) fn repository_scope(&self) -> Option<String> {
        self.case.repository.as_ref().map(|repository| format!("repository:{repository}:pull"))
    }

    /// A scope to try if a token without a scope doesn't open `/v2/`: the one that the registry asks for, otherwise the
    /// scope of the named repository or base path.
    pub(super) fn fallback_scope(&self, challenges: &[Challenge]) -> Option<String> {
        let asked = asked_scope(challenges).map(ToOwned::to_owned);
        let base = || self.case.base_path.map(|base| format!("repository:{base}:pull"));
        asked.or_else(|| self.repository_scope()).or_else(base)
    }

    /// The finding for credentials that could not be tried because of `failure`.
    pub(super) fn finding_of_failure(&self, failure: &Failure) -> CredentialsFinding {
        let Failure { server, cause } = failure;
        let service = server != self.case.endpoint.server();
        match (cause, unavailable(cause.clone())) {
            (FailureCause::EgressDenied(_), _) if service => CredentialsFinding::UntrustedTokenService {
                service: Some(server.clone()),
                cause: Distrust::EgressDenied,
            },
            (_, Some(cause)) => CredentialsFinding::TemporarilyUnavailable { server: server.clone(), cause },
            // An earlier layer failed and has its own finding.
            (_, None) => CredentialsFinding::NotAttempted,
        }
    }

    /// The verdict on a registry that answers.
    pub(super) fn verdict(&self, credentials: CredentialsFinding, read: &RepositoryRead) -> ExchangeFindings {
        let content_path = match (&credentials, &self.case.repository) {
            (
                CredentialsFinding::Validated(_)
                | CredentialsFinding::AnonymousAccess
                | CredentialsFinding::Unprovable(
                    Unprovable::AnonymousServed
                    | Unprovable::AnonymousTokenServed
                    | Unprovable::NothingAskedForToken
                    | Unprovable::TokenRequestRefused,
                ),
                repository,
            ) => read.finding(repository.as_ref()),
            (CredentialsFinding::Required, Some(repository)) => read.finding(Some(repository)),
            (
                CredentialsFinding::Required
                | CredentialsFinding::NotAttempted
                | CredentialsFinding::Rejected { .. }
                | CredentialsFinding::Forbidden { .. }
                | CredentialsFinding::ForbiddenToAll { .. }
                | CredentialsFinding::Expired
                | CredentialsFinding::UntrustedTokenService { .. }
                | CredentialsFinding::TokenRefused { .. }
                | CredentialsFinding::UnsupportedScheme { .. }
                | CredentialsFinding::Throttled { .. }
                | CredentialsFinding::Withheld { .. }
                | CredentialsFinding::TemporarilyUnavailable { .. },
                _,
            ) => ContentPathFinding::NotAttempted,
        };
        ExchangeFindings { content_path, ..ExchangeFindings::of_credentials(credentials) }
    }
}

/// A failure to get an answer, as a cause; `None` if the finding of the TLS layer covers it.
pub(super) fn unavailable(cause: FailureCause) -> Option<Unavailable> {
    match cause {
        FailureCause::Dns(cause) => Some(Unavailable::Dns(cause)),
        FailureCause::Refused => Some(Unavailable::Refused),
        FailureCause::Connection(cause) => Some(Unavailable::Connection(cause)),
        FailureCause::Timeout(stage) => Some(Unavailable::Timeout(stage)),
        FailureCause::NotHttp => Some(Unavailable::Unreadable),
        FailureCause::EgressDenied(_) => Some(Unavailable::Connection(ConnectionFailure::Unreachable)),
        FailureCause::Proxy(failure) => Some(Unavailable::Proxy(failure)),
        FailureCause::Tls => None,
    }
}
