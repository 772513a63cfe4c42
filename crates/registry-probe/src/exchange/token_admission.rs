//! Opening `/v2/` with a token: which scope, and what it means when the token is refused.

use super::decision::{Exchange, ExchangeStep, PingAdmission};
use super::issue::Issue;
use super::question::{Bearer, Pass, TokenRequest};
use super::reply::ReplyKind;
use crate::challenge::Challenge;
use crate::findings::{CredentialsFinding, Unprovable};
use crate::realm::TokenService;

/// What came of trying to open `/v2/` with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenAdmission {
    /// The token of this request opened it.
    Opened(TokenRequest),
    /// The token service refused to issue one, with this status.
    NotIssued(u16),
    /// The registry refused the token with this status.
    TokenRefused(u16),
    /// The token service gave no token, which says nothing of the credentials.
    Hindered(CredentialsFinding),
}

impl Exchange<'_> {
    /// Asks for a token without a scope, as `docker login` does: with one, some services hand a token that
    /// opens nothing to whoever asks, a wrong password among them. If that is refused, with `fallback`, for
    /// some services want a scope.
    pub(super) fn first_token(
        &self,
        service: &TokenService,
        bearer: Bearer,
        fallback: Option<&String>,
    ) -> ExchangeStep<Issue> {
        let issue = self.issue(self.token_request(service, bearer, None))?;
        match (issue, fallback) {
            (Issue::Refused(400) | Issue::BadRequest, Some(scope)) => {
                self.issue(self.token_request(service, bearer, Some(scope.clone())))
            }
            (issue, _) => Ok(issue),
        }
    }

    /// Tries to open `/v2/` with a token for `bearer`: with the scope that the registry asks for, if it asks
    /// for one; without a scope; then with the nearest to the case.
    pub(super) fn enter(
        &self,
        service: &TokenService,
        bearer: Bearer,
        challenges: &[Challenge],
    ) -> ExchangeStep<TokenAdmission> {
        let fallback = self.fallback_scope(challenges);
        let fallback = fallback.as_ref();
        let first = match self.first_token(service, bearer, fallback)? {
            Issue::Issued(request) => request,
            Issue::Refused(status) => return Ok(TokenAdmission::NotIssued(status)),
            Issue::BadRequest => return Ok(TokenAdmission::Hindered(bad_request())),
            Issue::Hindered(finding) => return Ok(TokenAdmission::Hindered(finding)),
        };
        if let Some(scope) = asked_scope(challenges)
            && let opened @ TokenAdmission::Opened(_) = self.enter_with_scope(service, bearer, scope, 401)?
        {
            return Ok(opened);
        }
        let refused = match self.admission(&Pass::Issued(first.clone()))? {
            PingAdmission::Granted => return Ok(TokenAdmission::Opened(first)),
            PingAdmission::Refused(reply) => status_of(&reply.said),
        };
        let Some(scope) = fallback.filter(|_| first.scope.is_none() && refused == 401) else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        self.enter_with_scope(service, bearer, scope, refused)
    }

    fn enter_with_scope(
        &self,
        service: &TokenService,
        bearer: Bearer,
        scope: &str,
        refused: u16,
    ) -> ExchangeStep<TokenAdmission> {
        let request = self.token_request(service, bearer, Some(scope.to_owned()));
        let Issue::Issued(request) = self.issue(request)? else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        Ok(match self.admission(&Pass::Issued(request.clone()))? {
            PingAdmission::Granted => TokenAdmission::Opened(request),
            PingAdmission::Refused(reply) => TokenAdmission::TokenRefused(status_of(&reply.said)),
        })
    }
}

/// The token service did not take the request as it was, and said nothing of the credentials.
pub(super) fn bad_request() -> CredentialsFinding {
    CredentialsFinding::Unprovable(Unprovable::TokenRequestRefused)
}

/// The scope that the registry asks for, if it asks for one.
pub(super) fn asked_scope(challenges: &[Challenge]) -> Option<&str> {
    challenges.iter().find(|challenge| challenge.is("Bearer"))?.parameter("scope")
}

/// The status of a refusal.
pub(super) fn status_of(said: &ReplyKind) -> u16 {
    match said {
        ReplyKind::Unauthorized => 401,
        ReplyKind::Forbidden => 403,
        ReplyKind::NotFound => 404,
        ReplyKind::WantsTls => 400,
        ReplyKind::Other(status) | ReplyKind::Fault(status) | ReplyKind::Redirect { status, .. } => *status,
        ReplyKind::Throttled => 429,
        ReplyKind::Granted(_) | ReplyKind::Page => 200,
    }
}
