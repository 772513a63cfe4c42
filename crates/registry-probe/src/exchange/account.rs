//! The validation of credentials, by the way that the registry asks for.

use super::decision::{
    Exchange, ExchangeFindings, ExchangeStep, ExchangeStop, PingAdmission, unsupported, untrusted,
};
use super::evidence::Anonymous;
use super::issue::Issue;
use super::ping::Ping;
use super::question::{Bearer, Pass, Resource, TokenRequest};
use super::reply::Refusal;
use super::repository_read::RepositoryRead;
use super::token_admission::{TokenAdmission, bad_request};
use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::findings::{CredentialsFinding, EndpointFinding, Evidence, NotARegistry, Unavailable, Unprovable};
use crate::host::HostPort;
use crate::realm::{Distrusted, TokenService};
use crate::token::expiry_of;

impl Exchange<'_> {
    /// Validates credentials at a registry that is reached.
    pub(super) fn account(
        &self,
        opening: &Ping<'_>,
        credentials: &Credentials,
    ) -> ExchangeStep<ExchangeFindings> {
        match credentials {
            Credentials::Basic { .. } => self.password(opening),
            Credentials::RegistryToken(_) if opening.is_foreign() && !opening.served => {
                Err(unsupported(opening))
            }
            Credentials::RegistryToken(_) => self.directly(opening, &Pass::RegistryToken),
            Credentials::IdentityToken { .. } => self.identity_token(opening),
        }
    }

    /// A token service is preferred where one is offered, for that is where clients that pull go; the
    /// registry itself is asked where it alone is offered, or where the token service is not to be trusted.
    fn password(&self, opening: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        match self.trusted_service(opening) {
            Some(Ok(service)) => self.by_token(opening, &service),
            Some(Err(distrusted)) if !opening.asks_for("Basic") => Err(untrusted(distrusted)),
            None if opening.is_foreign() && !opening.served => Err(unsupported(opening)),
            Some(Err(_)) | None => self.directly(opening, &Pass::Basic),
        }
    }

    fn identity_token(&self, opening: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        match self.trusted_service(opening) {
            Some(Ok(service)) => self.by_token(opening, &service),
            Some(Err(distrusted)) => Err(untrusted(distrusted)),
            None if opening.served => self.identity_token_at_repository(opening),
            None if opening.forbids_everybody() => {
                Err(ExchangeStop::credentials(CredentialsFinding::ForbiddenToAll { by: self.server() }))
            }
            None => Err(unsupported(opening)),
        }
    }

    /// A registry that is open to everybody may name its token service only where a repository is asked for.
    fn identity_token_at_repository(&self, opening: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        let reading = self.reading(&Pass::Nothing)?;
        if reading == RepositoryRead::Refused(401) {
            let asked = Ping { challenges: self.tags_challenges(&Pass::Nothing)?, ..*opening };
            if let Some(service) = self.trusted_service(&asked) {
                return self.by_token(&asked, &service.map_err(untrusted)?);
            }
        }
        Ok(self.verdict(CredentialsFinding::Unprovable(Unprovable::NothingAskedForToken), &reading))
    }

    /// The token service that the registry names, if credentials may be sent there.
    fn trusted_service(&self, opening: &Ping<'_>) -> Option<Result<TokenService, Distrusted>> {
        let service = self.token_service(opening.challenges)?;
        Some(service.and_then(TokenService::trusted))
    }

    /// Sends the credentials to the registry itself: Basic, or the user's own bearer token.
    fn directly(&self, opening: &Ping<'_>, pass: &Pass) -> ExchangeStep<ExchangeFindings> {
        match self.admission(pass)? {
            PingAdmission::Granted => self.admitted_directly(opening, pass),
            PingAdmission::Refused(reply) => {
                self.refused_directly(opening, pass, reply.said.refusal(), &reply.challenges)
            }
        }
    }

    fn admitted_directly(&self, opening: &Ping<'_>, pass: &Pass) -> ExchangeStep<ExchangeFindings> {
        let anonymous = self.offered_anonymously(opening)?;
        let finding = self.weigh_admission(opening, &anonymous)?;
        if matches!(finding, CredentialsFinding::Validated(_)) {
            return Ok(self.verdict(finding, &self.pulling(pass)?));
        }
        // Nothing was shown at `/v2/`; the repository is the second chance.
        let reading = match self.reading(pass)? {
            refused @ RepositoryRead::Refused(401) => refused,
            RepositoryRead::Refused(_)
            | RepositoryRead::NotNamed
            | RepositoryRead::Granted { .. }
            | RepositoryRead::Pulled
            | RepositoryRead::NotListed(_)
            | RepositoryRead::Missing
            | RepositoryRead::Unexpected(_)
            | RepositoryRead::Unavailable { .. } => self.pulling(pass)?,
        };
        match reading {
            RepositoryRead::Refused(401) => {
                self.refused_directly(opening, pass, Refusal::Rejected(401), self.tags_challenges(pass)?)
            }
            RepositoryRead::Granted { .. } => Ok(self.verdict(self.weigh_reading(opening)?, &reading)),
            RepositoryRead::Pulled => Ok(self.verdict(self.weigh_pulling(opening)?, &reading)),
            RepositoryRead::Refused(_)
            | RepositoryRead::NotNamed
            | RepositoryRead::NotListed(_)
            | RepositoryRead::Missing
            | RepositoryRead::Unexpected(_)
            | RepositoryRead::Unavailable { .. } => Ok(self.verdict(finding, &reading)),
        }
    }

    /// What the token service that is named beside hands to anonymous clients, whether or not it may have the
    /// credentials.
    fn offered_anonymously(&self, opening: &Ping<'_>) -> ExchangeStep<Anonymous> {
        match self.token_service(opening.challenges) {
            Some(Ok(service)) if !opening.served => self.anonymous_token(&service, None),
            Some(Ok(_) | Err(_)) | None => Ok(Anonymous::Nothing),
        }
    }

    /// Rule (a) at the repository, for credentials that were sent to the registry itself.
    fn weigh_reading(&self, opening: &Ping<'_>) -> ExchangeStep<CredentialsFinding> {
        let bare = self.weigh_bare_reading()?;
        let service = self.service_of_repository(opening)?;
        let (CredentialsFinding::Validated(_), Some(service)) = (&bare, service) else { return Ok(bare) };
        match self.anonymous_token(&service, self.repository_scope())? {
            Anonymous::Token(request) => self.weigh_token_reading(&request),
            Anonymous::Nothing => Ok(bare),
        }
    }

    /// The token service that the registry names for the repository, to anonymous clients.
    fn service_of_repository(&self, opening: &Ping<'_>) -> ExchangeStep<Option<TokenService>> {
        let named = self.token_service(self.tags_challenges(&Pass::Nothing)?);
        Ok(named.or_else(|| self.token_service(opening.challenges)).and_then(Result::ok))
    }

    /// Rule (a) at the manifest, where the list of tags is refused to the credentials too.
    fn weigh_pulling(&self, opening: &Ping<'_>) -> ExchangeStep<CredentialsFinding> {
        if !self.is_kept_from_pulling(&Pass::Nothing)? {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousServed));
        }
        if let Some(service) = self.service_of_repository(opening)?
            && let Anonymous::Token(request) = self.anonymous_token(&service, self.repository_scope())?
            && !self.is_kept_from_pulling(&Pass::Issued(request))?
        {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed));
        }
        Ok(CredentialsFinding::Validated(Evidence::RefusedWithout))
    }

    fn refused_directly(
        &self,
        opening: &Ping<'_>,
        pass: &Pass,
        refusal: Refusal,
        challenges: &[Challenge],
    ) -> ExchangeStep<ExchangeFindings> {
        // The password was sent unasked, for anonymous clients were served. Only now is it said that a token
        // is wanted.
        let asked = Ping { challenges, ..*opening };
        if *pass == Pass::Basic
            && !opening.asks_for("Basic")
            && !asked.asks_for("Basic")
            && let Some(service) = self.trusted_service(&asked)
        {
            return self.by_token(&asked, &service.map_err(untrusted)?);
        }
        // A token may be good for its repository alone; and what is no refusal of a password may leave the repository open to it.
        let is_of_credentials = match refusal {
            Refusal::Rejected(_) | Refusal::Forbidden => !self.is_said_to_everybody(refusal)?,
            Refusal::Silent(_) => false,
        };
        if *pass == Pass::RegistryToken || !is_of_credentials {
            match self.pulling(pass)? {
                reading @ RepositoryRead::Granted { .. } => {
                    return Ok(self.verdict(self.weigh_reading(opening)?, &reading));
                }
                reading @ RepositoryRead::Pulled => {
                    return Ok(self.verdict(self.weigh_pulling(opening)?, &reading));
                }
                RepositoryRead::NotNamed
                | RepositoryRead::NotListed(_)
                | RepositoryRead::Refused(_)
                | RepositoryRead::Missing
                | RepositoryRead::Unexpected(_)
                | RepositoryRead::Unavailable { .. } => {}
            }
        }
        if !is_of_credentials {
            return Err(self.grants_nothing(refusal.status()));
        }
        Err(ExchangeStop::credentials(self.refusal(pass, refusal, challenges)))
    }

    /// An answer to the credentials at `/v2/` that neither grants nor refuses. For a client that pulls, there is no such API.
    fn grants_nothing(&self, status: u16) -> ExchangeStop {
        let (server, cause) = (self.server(), NotARegistry::Status(status));
        ExchangeStop::endpoint(EndpointFinding::NotARegistry { server, cause })
    }

    /// What a refusal by the registry itself says of the credentials.
    fn refusal(&self, pass: &Pass, refusal: Refusal, challenges: &[Challenge]) -> CredentialsFinding {
        let is_told = *pass == Pass::RegistryToken && challenges.iter().any(says_expired);
        let ended = is_told || self.secret_has_ended() || self.was_told_of_expiry(pass);
        if ended { CredentialsFinding::Expired } else { refused(refusal, self.server()) }
    }

    /// Whether the registry, so far as it was asked with `pass`, said that this has expired.
    fn was_told_of_expiry(&self, pass: &Pass) -> bool {
        [Resource::Api, Resource::Tags]
            .into_iter()
            .any(|resource| matches!(self.seen.registry(resource, pass), Ok(Ok(reply)) if reply.says_expired))
    }

    /// Whether the secret that was sent is a token, and has ended by its own date. Azure's refresh tokens are given as
    /// passwords too.
    fn secret_has_ended(&self) -> bool {
        let secret = match self.case.credentials {
            Some(Credentials::Basic { password, .. }) => password,
            Some(Credentials::IdentityToken { token, .. } | Credentials::RegistryToken(token)) => token,
            None => return false,
        };
        expiry_of(secret).is_some_and(|end| end <= self.case.now)
    }

    /// What a refusal by the token service says of the credentials.
    fn refused_by(&self, service: &TokenService, refusal: Refusal) -> CredentialsFinding {
        if self.secret_has_ended() || self.seen.service_says_expired() {
            return CredentialsFinding::Expired;
        }
        refused(refusal, service.server.clone())
    }

    /// Sends the credentials to the token service, and its token to the registry.
    fn by_token(&self, opening: &Ping<'_>, service: &TokenService) -> ExchangeStep<ExchangeFindings> {
        let fallback = self.fallback_scope(opening.challenges);
        let first = match self.first_token(service, Bearer::Account, fallback.as_ref())? {
            Issue::Issued(request) => request,
            Issue::Refused(refusal) => {
                return Err(ExchangeStop::credentials(self.refused_by(service, refusal)));
            }
            Issue::BadRequest => return Err(ExchangeStop::credentials(bad_request())),
            Issue::Hindered(finding) => return Err(ExchangeStop::credentials(finding)),
        };
        match self.repository_scope() {
            Some(scope) => self.by_repository_token(opening, &first, scope),
            None => self.by_entry(opening, service, &RepositoryRead::NotNamed),
        }
    }

    /// The named repository first: where only the account may read it, one control is enough for both layers.
    fn by_repository_token(
        &self,
        opening: &Ping<'_>,
        first: &TokenRequest,
        scope: String,
    ) -> ExchangeStep<ExchangeFindings> {
        let service = &first.service;
        let (account, reading) =
            match self.issue(self.token_request(service, Bearer::Account, Some(scope.clone())))? {
                Issue::Issued(request) => (Some(request.clone()), self.pulling(&Pass::Issued(request))?),
                Issue::Refused(refusal) => (None, RepositoryRead::Refused(refusal.status())),
                Issue::BadRequest => (None, RepositoryRead::NotNamed),
                Issue::Hindered(finding) => (None, unread(finding)),
            };
        let (Some(account), true) = (account, reading.is_granted()) else {
            return self.by_entry(opening, service, &reading);
        };
        if self.names_account(first) || self.names_account(&account) {
            let finding = CredentialsFinding::Validated(Evidence::NamedInToken);
            return Ok(self.verdict(finding, &reading));
        }
        Ok(self.verdict(self.weigh_repository(opening, &account, scope)?, &reading))
    }

    fn weigh_repository(
        &self,
        opening: &Ping<'_>,
        account: &TokenRequest,
        scope: String,
    ) -> ExchangeStep<CredentialsFinding> {
        let Anonymous::Token(anonymous) = self.anonymous_token(&account.service, Some(scope))? else {
            return self.weigh_bare_reading();
        };
        if let Some(evidence) = self.proven_by_tokens(account, &anonymous) {
            return Ok(CredentialsFinding::Validated(evidence));
        }
        let finding = self.weigh_token_reading(&anonymous)?;
        if matches!(finding, CredentialsFinding::Unprovable(_)) {
            return self.weigh_pair(opening, account, &anonymous);
        }
        Ok(finding)
    }

    /// `/v2/` itself, where no repository is named or the named one was not read.
    fn by_entry(
        &self,
        opening: &Ping<'_>,
        service: &TokenService,
        reading: &RepositoryRead,
    ) -> ExchangeStep<ExchangeFindings> {
        match self.enter(service, Bearer::Account, opening.challenges)? {
            TokenAdmission::Opened(request) => {
                Ok(self.verdict(self.weigh_token(opening, &request)?, reading))
            }
            TokenAdmission::NotIssued(refusal) => {
                Err(ExchangeStop::credentials(self.refused_by(service, refusal)))
            }
            TokenAdmission::TokenRefused(Refusal::Forbidden) => {
                Err(ExchangeStop::credentials(CredentialsFinding::Forbidden { by: self.server() }))
            }
            TokenAdmission::TokenRefused(Refusal::Rejected(_)) => {
                Err(ExchangeStop::credentials(CredentialsFinding::TokenRefused {
                    issuer: service.server.clone(),
                }))
            }
            TokenAdmission::TokenRefused(Refusal::Silent(status)) => Err(self.grants_nothing(status)),
            TokenAdmission::Hindered(finding) => Err(ExchangeStop::credentials(finding)),
        }
    }
}

/// The finding on credentials that have not ended, and that `by` refused so.
fn refused(refusal: Refusal, by: HostPort) -> CredentialsFinding {
    match refusal {
        Refusal::Forbidden => CredentialsFinding::Forbidden { by },
        Refusal::Rejected(status) | Refusal::Silent(status) => CredentialsFinding::Rejected { by, status },
    }
}

/// RFC 6750, section 3.1.
fn says_expired(challenge: &Challenge) -> bool {
    let description = challenge.parameter("error_description").unwrap_or_default().to_ascii_lowercase();
    challenge.is("Bearer") && description.contains("expired")
}

/// The token for the repository could not be had now.
fn unread(finding: CredentialsFinding) -> RepositoryRead {
    match finding {
        CredentialsFinding::TemporarilyUnavailable { server, cause } => {
            RepositoryRead::Unavailable { server, cause }
        }
        CredentialsFinding::Throttled { by } => {
            RepositoryRead::Unavailable { server: by, cause: Unavailable::Status(429) }
        }
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
        | CredentialsFinding::Withheld { .. } => RepositoryRead::NotNamed,
    }
}
