//! Evidence: what shows that a server checked the credentials and accepted them.
//!
//! The rule (docs/architecture.md#evidence): `Validated` needs one of two: (a) the registry refused a request without these
//! credentials and granted the same request with them, where "without" includes an anonymous token; (b) the
//! token service issued a token that names their account, or that grants more than the anonymous token.
//! Anything less is `Unprovable`. A wrong password is never sent as a control, because it would count towards an account
//! lockout.

use secrecy::ExposeSecret;

use super::decision::{Exchange, ExchangeStep, ExchangeStop};
use super::issue::Issue;
use super::ping::Ping;
use super::question::{AuthAttempt, TokenPrincipal, TokenRequest};
use super::repository_read::RepositoryRead;
use crate::credentials::Credentials;
use crate::findings::{CredentialsFinding, Evidence, Unavailable, Unprovable};
use crate::realm::TokenService;
use crate::token::Claims;

/// What a token service gives to an anonymous client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// A token.
    Token(TokenRequest),
    /// None.
    Nothing,
}

impl Exchange<'_> {
    /// Requests an anonymous token. Stops the validation if the service can't answer now, because nothing would be
    /// proven.
    pub(super) fn anonymous_token(
        &self,
        service: &TokenService,
        scope: Option<String>,
    ) -> ExchangeStep<Anonymous> {
        match self.issue(self.token_request(service, TokenPrincipal::Anonymous, scope))? {
            Issue::Issued(request) => Ok(Anonymous::Token(request)),
            Issue::Inconclusive(finding) if is_passing(&finding) => Err(ExchangeStop::credentials(finding)),
            Issue::Refused(_) | Issue::BadRequest | Issue::Inconclusive(_) => Ok(Anonymous::Nothing),
        }
    }

    /// Whether the token names the account that it was requested for.
    pub(super) fn names_account(&self, request: &TokenRequest) -> bool {
        let username = match self.case.credentials {
            Some(Credentials::Basic { username, .. }) => Some(username.as_str()),
            Some(Credentials::IdentityToken { username, .. }) => username.as_deref(),
            Some(Credentials::RegistryToken(_)) | None => None,
        };
        self.vouched_claims(request).zip(username).is_some_and(|(claims, username)| claims.names(username))
    }

    /// The claims that the token service vouches for. `None` if the token has expired, or if it is the secret that was sent
    /// there: what the client itself sent is no evidence.
    fn vouched_claims(&self, request: &TokenRequest) -> Option<&Claims> {
        let token = self.issued(request)?;
        let sent = match self.case.credentials? {
            Credentials::Basic { password, .. } => password,
            Credentials::IdentityToken { token, .. } | Credentials::RegistryToken(token) => token,
        };
        let claims = token.claims.as_ref()?;
        let is_what_was_sent = sent.expose_secret().contains(token.secret.expose_secret())
            || Claims::of(sent.expose_secret()).as_ref() == Some(claims);
        let has_ended = claims.expires_at().is_some_and(|end| end <= self.case.now);
        (!is_what_was_sent && !has_ended).then_some(claims)
    }

    /// Applies rule (b): compares the account's token with the anonymous one for the same scope.
    pub(super) fn proven_by_tokens(
        &self,
        account: &TokenRequest,
        anonymous: &TokenRequest,
    ) -> Option<Evidence> {
        let (account, anonymous) = (self.vouched_claims(account)?, self.issued(anonymous)?.claims.as_ref()?);
        if account.names_other_account_than(anonymous) {
            return Some(Evidence::NamedInToken);
        }
        account.grants_more_than(anonymous).then_some(Evidence::GrantedInToken)
    }

    /// The finding for a token that opened `/v2/`: by its claims, otherwise by comparison with the anonymous token for the same
    /// scope.
    pub(super) fn evidence_of_token(
        &self,
        ping: &Ping<'_>,
        account: &TokenRequest,
    ) -> ExchangeStep<CredentialsFinding> {
        if self.names_account(account) {
            return Ok(CredentialsFinding::Validated(Evidence::NamedInToken));
        }
        let anonymous = self.anonymous_token(&account.service, account.scope.clone())?;
        if let Anonymous::Token(anonymous) = &anonymous
            && let Some(evidence) = self.proven_by_tokens(account, anonymous)
        {
            return Ok(CredentialsFinding::Validated(evidence));
        }
        self.evidence_at_api(ping, &anonymous)
    }

    /// Applies rule (a) at `/v2/`, which was granted to the credentials: refused to anonymous clients, it is evidence.
    pub(super) fn evidence_at_api(
        &self,
        ping: &Ping<'_>,
        anonymous: &Anonymous,
    ) -> ExchangeStep<CredentialsFinding> {
        if ping.served {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousServed));
        }
        if let Anonymous::Token(request) = anonymous
            && self.opens(request)?
        {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed));
        }
        Ok(CredentialsFinding::Validated(Evidence::RefusedWithout))
    }

    fn opens(&self, request: &TokenRequest) -> ExchangeStep<bool> {
        Ok(self.admission(&AuthAttempt::Issued(request.clone()))?.is_granted())
    }

    /// Applies rule (a) at the named repository, which was granted to the credentials: sends a control request
    /// without a token.
    pub(super) fn evidence_without_token(&self) -> ExchangeStep<CredentialsFinding> {
        finding_of_control(&self.read_tags(&AuthAttempt::Nothing)?, Unprovable::AnonymousServed)
    }

    /// Applies rule (a) at the named repository: sends a control request with the anonymous token.
    pub(super) fn evidence_against_anonymous_token(
        &self,
        anonymous: &TokenRequest,
    ) -> ExchangeStep<CredentialsFinding> {
        let control = self.read_tags(&AuthAttempt::Issued(anonymous.clone()))?;
        finding_of_control(&control, Unprovable::AnonymousTokenServed)
    }

    /// Applies rule (a) at `/v2/` with the account's token and the anonymous token of one scope.
    pub(super) fn evidence_of_token_pair(
        &self,
        ping: &Ping<'_>,
        account: &TokenRequest,
        anonymous: &TokenRequest,
    ) -> ExchangeStep<CredentialsFinding> {
        let shown = !ping.served && self.opens(account)? && !self.opens(anonymous)?;
        Ok(if shown {
            CredentialsFinding::Validated(Evidence::RefusedWithout)
        } else {
            CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed)
        })
    }
}

/// Whether a retry may help, unlike with a service that has no tokens for anonymous clients.
fn is_passing(finding: &CredentialsFinding) -> bool {
    match finding {
        CredentialsFinding::Throttled { .. } => true,
        CredentialsFinding::TemporarilyUnavailable { cause, .. } => cause.is_passing(),
        CredentialsFinding::NotAttempted
        | CredentialsFinding::Validated(_)
        | CredentialsFinding::AnonymousAccess
        | CredentialsFinding::Rejected { .. }
        | CredentialsFinding::Forbidden { .. }
        | CredentialsFinding::ForbiddenToAll { .. }
        | CredentialsFinding::Required
        | CredentialsFinding::Expired
        | CredentialsFinding::UntrustedTokenService { .. }
        | CredentialsFinding::TokenRefused { .. }
        | CredentialsFinding::UnsupportedScheme { .. }
        | CredentialsFinding::Unprovable(_)
        | CredentialsFinding::Withheld { .. } => false,
    }
}

fn finding_of_control(control: &RepositoryRead, served: Unprovable) -> ExchangeStep<CredentialsFinding> {
    match control {
        RepositoryRead::Refused(_) | RepositoryRead::Missing => {
            Ok(CredentialsFinding::Validated(Evidence::RefusedWithout))
        }
        RepositoryRead::Unavailable { server, cause: Unavailable::Status(429) } => {
            Err(ExchangeStop::credentials(CredentialsFinding::Throttled { by: server.clone() }))
        }
        RepositoryRead::Unavailable { server, cause } => {
            let (server, cause) = (server.clone(), cause.clone());
            Err(ExchangeStop::credentials(CredentialsFinding::TemporarilyUnavailable { server, cause }))
        }
        RepositoryRead::NotNamed
        | RepositoryRead::Granted { .. }
        | RepositoryRead::Pulled
        | RepositoryRead::NotListed(_)
        | RepositoryRead::Unexpected(_) => Ok(CredentialsFinding::Unprovable(served)),
    }
}
