//! Opening `/v2/` with a token: which scope, and what it means when the token is refused.

use super::decision::{Exchange, ExchangeStep, PingAdmission};
use super::issue::Issue;
use super::question::{Bearer, Pass, TokenRequest};
use super::reply::Refusal;
use crate::challenge::Challenge;
use crate::findings::{CredentialsFinding, Unprovable};
use crate::realm::TokenService;

/// What came of trying to open `/v2/` with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenAdmission {
    /// The token of this request opened it.
    Opened(TokenRequest),
    /// The token service refused to issue one.
    NotIssued(Refusal),
    /// The registry refused the token.
    TokenRefused(Refusal),
    /// The token service gave no token, which says nothing of the credentials.
    Hindered(CredentialsFinding),
}

/// What a registry answers to a token that opens nothing here; perhaps one for another scope does.
const UNAUTHORIZED: Refusal = Refusal::Rejected(401);

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
            (Issue::Refused(Refusal::Rejected(400)) | Issue::BadRequest, Some(scope)) => {
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
            Issue::Refused(refusal) => return Ok(TokenAdmission::NotIssued(refusal)),
            Issue::BadRequest => return Ok(TokenAdmission::Hindered(bad_request())),
            Issue::Hindered(finding) => return Ok(TokenAdmission::Hindered(finding)),
        };
        if let Some(scope) = asked_scope(challenges)
            && let opened @ TokenAdmission::Opened(_) =
                self.enter_with_scope(service, bearer, scope, UNAUTHORIZED)?
        {
            return Ok(opened);
        }
        let refused = match self.admission(&Pass::Issued(first.clone()))? {
            PingAdmission::Granted => return Ok(TokenAdmission::Opened(first)),
            PingAdmission::Refused(reply) => reply.said.refusal(),
        };
        let Some(scope) = fallback.filter(|_| first.scope.is_none() && refused == UNAUTHORIZED) else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        self.enter_with_scope(service, bearer, scope, refused)
    }

    fn enter_with_scope(
        &self,
        service: &TokenService,
        bearer: Bearer,
        scope: &str,
        refused: Refusal,
    ) -> ExchangeStep<TokenAdmission> {
        let request = self.token_request(service, bearer, Some(scope.to_owned()));
        let Issue::Issued(request) = self.issue(request)? else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        Ok(match self.admission(&Pass::Issued(request.clone()))? {
            PingAdmission::Granted => TokenAdmission::Opened(request),
            PingAdmission::Refused(reply) => TokenAdmission::TokenRefused(reply.said.refusal()),
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
