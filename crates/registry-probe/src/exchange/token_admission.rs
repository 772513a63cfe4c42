//! Access to `/v2/` with a token: which scope to request, and what a refused token means.

use super::decision::{Exchange, ExchangeStep, PingAdmission};
use super::issue::Issue;
use super::question::{AuthAttempt, TokenPrincipal, TokenRequest};
use super::reply::Refusal;
use crate::challenge::Challenge;
use crate::findings::{CredentialsFinding, Unprovable};
use crate::realm::TokenService;

/// The result of trying to open `/v2/` with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenAdmission {
    /// The token of this request opened it.
    Opened(TokenRequest),
    /// The token service refused to issue one.
    NotIssued(Refusal),
    /// The registry refused the token.
    TokenRefused(Refusal),
    /// The token service issued no token, for a reason that isn't the credentials.
    Inconclusive(CredentialsFinding),
}

/// What a registry answers to a token that opens nothing here; perhaps one for another scope does.
const UNAUTHORIZED: Refusal = Refusal::Rejected(401);

impl Exchange<'_> {
    /// Requests a token without a scope, as `docker login` does: with a scope, some services issue a token that
    /// opens nothing even for a wrong password. If that is refused, requests one with `fallback`, because
    /// some services require a scope.
    pub(super) fn first_token(
        &self,
        service: &TokenService,
        principal: TokenPrincipal,
        fallback: Option<&String>,
    ) -> ExchangeStep<Issue> {
        let issue = self.issue(self.token_request(service, principal, None))?;
        match (issue, fallback) {
            (Issue::Refused(Refusal::Rejected(400)) | Issue::BadRequest, Some(scope)) => {
                self.issue(self.token_request(service, principal, Some(scope.clone())))
            }
            (issue, _) => Ok(issue),
        }
    }

    /// Tries to open `/v2/` with a token for `principal`: with the scope that the registry asks for, if it asks
    /// for one; then without a scope; then with the scope of the named repository or base path.
    pub(super) fn open_api(
        &self,
        service: &TokenService,
        principal: TokenPrincipal,
        challenges: &[Challenge],
    ) -> ExchangeStep<TokenAdmission> {
        let fallback = self.fallback_scope(challenges);
        let fallback = fallback.as_ref();
        let first = match self.first_token(service, principal, fallback)? {
            Issue::Issued(request) => request,
            Issue::Refused(refusal) => return Ok(TokenAdmission::NotIssued(refusal)),
            Issue::BadRequest => return Ok(TokenAdmission::Inconclusive(bad_request())),
            Issue::Inconclusive(finding) => return Ok(TokenAdmission::Inconclusive(finding)),
        };
        if let Some(scope) = asked_scope(challenges)
            && let opened @ TokenAdmission::Opened(_) =
                self.open_api_with_scope(service, principal, scope, UNAUTHORIZED)?
        {
            return Ok(opened);
        }
        let refused = match self.admission(&AuthAttempt::Issued(first.clone()))? {
            PingAdmission::Granted => return Ok(TokenAdmission::Opened(first)),
            PingAdmission::Refused(reply) => reply.kind.refusal(),
        };
        let Some(scope) = fallback.filter(|_| first.scope.is_none() && refused == UNAUTHORIZED) else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        self.open_api_with_scope(service, principal, scope, refused)
    }

    fn open_api_with_scope(
        &self,
        service: &TokenService,
        principal: TokenPrincipal,
        scope: &str,
        refused: Refusal,
    ) -> ExchangeStep<TokenAdmission> {
        let request = self.token_request(service, principal, Some(scope.to_owned()));
        let Issue::Issued(request) = self.issue(request)? else {
            return Ok(TokenAdmission::TokenRefused(refused));
        };
        Ok(match self.admission(&AuthAttempt::Issued(request.clone()))? {
            PingAdmission::Granted => TokenAdmission::Opened(request),
            PingAdmission::Refused(reply) => TokenAdmission::TokenRefused(reply.kind.refusal()),
        })
    }
}

/// The finding if the token service rejected the request for a reason that isn't the credentials.
pub(super) fn bad_request() -> CredentialsFinding {
    CredentialsFinding::Unprovable(Unprovable::TokenRequestRefused)
}

/// The scope that the registry asks for, if it asks for one.
pub(super) fn asked_scope(challenges: &[Challenge]) -> Option<&str> {
    challenges.iter().find(|challenge| challenge.is("Bearer"))?.parameter("scope")
}
