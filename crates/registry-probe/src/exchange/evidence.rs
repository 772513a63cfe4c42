//! Evidence: what shows that credentials are right, and not merely let pass.
//!
//! The rule (docs/architecture.md#evidence): `Validated` rests on one of two: (a) the registry refused a request without these
//! credentials and granted the same with them, where "without" includes what an anonymous token gets; (b) the
//! token service gave them a token that names their account, or grants what the anonymous token does not.
//! Anything less is `Unprovable`. A wrong password is never sent as a control: it would count towards a
//! lock-out.

use secrecy::ExposeSecret;

use super::decision::{Exchange, ExchangeStep, ExchangeStop};
use super::issue::Issue;
use super::ping::Ping;
use super::question::{Bearer, Pass, TokenRequest};
use super::repository_read::RepositoryRead;
use crate::credentials::Credentials;
use crate::findings::{CredentialsFinding, Evidence, Unavailable, Unprovable};
use crate::realm::TokenService;
use crate::token::Claims;

/// What an anonymous client gets from a token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Anonymous {
    /// A token.
    Token(TokenRequest),
    /// None.
    Nothing,
}

impl Exchange<'_> {
    /// Asks for an anonymous token. Ends the validation where the service can't say now: nothing would be
    /// proven.
    pub(super) fn anonymous_token(
        &self,
        service: &TokenService,
        scope: Option<String>,
    ) -> ExchangeStep<Anonymous> {
        match self.issue(self.token_request(service, Bearer::Anonymous, scope))? {
            Issue::Issued(request) => Ok(Anonymous::Token(request)),
            Issue::Hindered(finding) if is_passing(&finding) => Err(ExchangeStop::credentials(finding)),
            Issue::Refused(_) | Issue::BadRequest | Issue::Hindered(_) => Ok(Anonymous::Nothing),
        }
    }

    /// Does the token name the account that it was asked for?
    pub(super) fn names_account(&self, request: &TokenRequest) -> bool {
        let username = match self.case.credentials {
            Some(Credentials::Basic { username, .. }) => Some(username.as_str()),
            Some(Credentials::IdentityToken { username, .. }) => username.as_deref(),
            Some(Credentials::RegistryToken(_)) | None => None,
        };
        self.vouched_claims(request).zip(username).is_some_and(|(claims, username)| claims.names(username))
    }

    /// What a token says that its service vouches for: not where it has ended, nor where it is the very secret that was sent
    /// there, for what the client itself sent can't testify for the client.
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

    /// Rule (b), by comparison of the account's token with the anonymous one for the same scope.
    pub(super) fn proven_by_tokens(
        &self,
        account: &TokenRequest,
        anonymous: &TokenRequest,
    ) -> Option<Evidence> {
        let (account, anonymous) = (self.vouched_claims(account)?, self.issued(anonymous)?.claims.as_ref()?);
        if account.names_another_than(anonymous) {
            return Some(Evidence::NamedInToken);
        }
        account.grants_more_than(anonymous).then_some(Evidence::GrantedInToken)
    }

    /// Weighs a token that opened `/v2/`: by its own words, else against the anonymous token for the same
    /// scope.
    pub(super) fn weigh_token(
        &self,
        opening: &Ping<'_>,
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
        self.weigh_admission(opening, &anonymous)
    }

    /// Rule (a) at `/v2/`, which was granted to the credentials: was it refused to everybody else?
    pub(super) fn weigh_admission(
        &self,
        opening: &Ping<'_>,
        anonymous: &Anonymous,
    ) -> ExchangeStep<CredentialsFinding> {
        if opening.served {
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
        Ok(self.admission(&Pass::Issued(request.clone()))?.is_granted())
    }

    /// Rule (a) at the named repository, which was granted to the credentials: is it refused to a client
    /// without a token?
    pub(super) fn weigh_bare_reading(&self) -> ExchangeStep<CredentialsFinding> {
        weigh_control(&self.reading(&Pass::Nothing)?, Unprovable::AnonymousServed)
    }

    /// Rule (a) at the named repository: is it refused to the anonymous token?
    pub(super) fn weigh_token_reading(&self, anonymous: &TokenRequest) -> ExchangeStep<CredentialsFinding> {
        let control = self.reading(&Pass::Issued(anonymous.clone()))?;
        weigh_control(&control, Unprovable::AnonymousTokenServed)
    }

    /// Rule (a) at `/v2/` with both tokens of one scope.
    pub(super) fn weigh_pair(
        &self,
        opening: &Ping<'_>,
        account: &TokenRequest,
        anonymous: &TokenRequest,
    ) -> ExchangeStep<CredentialsFinding> {
        let shown = !opening.served && self.opens(account)? && !self.opens(anonymous)?;
        Ok(if shown {
            CredentialsFinding::Validated(Evidence::RefusedWithout)
        } else {
            CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed)
        })
    }
}

/// A fault that may be over at the next try, as against a service that has nothing for anonymous clients.
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

fn weigh_control(control: &RepositoryRead, served: Unprovable) -> ExchangeStep<CredentialsFinding> {
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
