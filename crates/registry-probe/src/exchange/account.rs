//! The validation of credentials, by the authentication scheme that the registry asks for.

use super::decision::{
    Exchange, ExchangeFindings, ExchangeStep, ExchangeStop, PingAdmission, unsupported, untrusted,
};
use super::evidence::Anonymous;
use super::issue::Issue;
use super::ping::Ping;
use super::question::{AuthAttempt, Resource, TokenPrincipal, TokenRequest};
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
    /// Validates credentials at a registry that answers.
    pub(super) fn account(
        &self,
        ping: &Ping<'_>,
        credentials: &Credentials,
    ) -> ExchangeStep<ExchangeFindings> {
        match credentials {
            Credentials::Basic { .. } => self.password(ping),
            Credentials::RegistryToken(_) if ping.has_only_unsupported_schemes() && !ping.served => {
                Err(unsupported(ping))
            }
            Credentials::RegistryToken(_) => self.directly(ping, &AuthAttempt::RegistryToken),
            Credentials::IdentityToken { .. } => self.identity_token(ping),
        }
    }

    /// Prefers a token service if the registry offers one, because pulling clients use it. Sends the password to the
    /// registry itself if the registry offers only Basic, or if the token service isn't trusted.
    fn password(&self, ping: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        match self.trusted_service(ping) {
            Some(Ok(service)) => self.by_token(ping, &service),
            Some(Err(distrusted)) if !ping.asks_for("Basic") => Err(untrusted(distrusted)),
            None if ping.has_only_unsupported_schemes() && !ping.served => Err(unsupported(ping)),
            Some(Err(_)) | None => self.directly(ping, &AuthAttempt::Basic),
        }
    }

    fn identity_token(&self, ping: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        match self.trusted_service(ping) {
            Some(Ok(service)) => self.by_token(ping, &service),
            Some(Err(distrusted)) => Err(untrusted(distrusted)),
            None if ping.served => self.identity_token_at_repository(ping),
            None if ping.forbids_all() => {
                Err(ExchangeStop::credentials(CredentialsFinding::ForbiddenToAll { by: self.server() }))
            }
            None => Err(unsupported(ping)),
        }
    }

    /// An open registry may name its token service only in response to a request for a repository.
    fn identity_token_at_repository(&self, ping: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        let read = self.read_tags(&AuthAttempt::Nothing)?;
        if read == RepositoryRead::Refused(401) {
            let asked = Ping { challenges: self.tags_challenges(&AuthAttempt::Nothing)?, ..*ping };
            if let Some(service) = self.trusted_service(&asked) {
                return self.by_token(&asked, &service.map_err(untrusted)?);
            }
        }
        Ok(self.verdict(CredentialsFinding::Unprovable(Unprovable::NothingAskedForToken), &read))
    }

    /// The token service that the registry names, if credentials may be sent there.
    fn trusted_service(&self, ping: &Ping<'_>) -> Option<Result<TokenService, Distrusted>> {
        let service = self.token_service(ping.challenges)?;
        Some(service.and_then(TokenService::trusted))
    }

    /// Sends the credentials to the registry itself: Basic, or the user's own bearer token.
    fn directly(&self, ping: &Ping<'_>, attempt: &AuthAttempt) -> ExchangeStep<ExchangeFindings> {
        match self.admission(attempt)? {
            PingAdmission::Granted => self.admitted_directly(ping, attempt),
            PingAdmission::Refused(reply) => {
                self.refused_directly(ping, attempt, reply.kind.refusal(), &reply.challenges)
            }
        }
    }

    fn admitted_directly(&self, ping: &Ping<'_>, attempt: &AuthAttempt) -> ExchangeStep<ExchangeFindings> {
        let anonymous = self.anonymous_offer(ping)?;
        let finding = self.evidence_at_api(ping, &anonymous)?;
        if matches!(finding, CredentialsFinding::Validated(_)) {
            return Ok(self.verdict(finding, &self.read_repository(attempt)?));
        }
        // `/v2/` gave no evidence; the repository may.
        let read = match self.read_tags(attempt)? {
            refused @ RepositoryRead::Refused(401) => refused,
            RepositoryRead::Refused(_)
            | RepositoryRead::NotNamed
            | RepositoryRead::Granted { .. }
            | RepositoryRead::Pulled
            | RepositoryRead::NotListed(_)
            | RepositoryRead::Missing
            | RepositoryRead::Unexpected(_)
            | RepositoryRead::Unavailable { .. } => self.read_repository(attempt)?,
        };
        match read {
            RepositoryRead::Refused(401) => {
                self.refused_directly(ping, attempt, Refusal::Rejected(401), self.tags_challenges(attempt)?)
            }
            RepositoryRead::Granted { .. } => Ok(self.verdict(self.evidence_at_repository(ping)?, &read)),
            RepositoryRead::Pulled => Ok(self.verdict(self.evidence_at_manifest(ping)?, &read)),
            RepositoryRead::Refused(_)
            | RepositoryRead::NotNamed
            | RepositoryRead::NotListed(_)
            | RepositoryRead::Missing
            | RepositoryRead::Unexpected(_)
            | RepositoryRead::Unavailable { .. } => Ok(self.verdict(finding, &read)),
        }
    }

    /// What the token service that is offered too gives to anonymous clients, whether or not it may get the
    /// credentials.
    fn anonymous_offer(&self, ping: &Ping<'_>) -> ExchangeStep<Anonymous> {
        match self.token_service(ping.challenges) {
            Some(Ok(service)) if !ping.served => self.anonymous_token(&service, None),
            Some(Ok(_) | Err(_)) | None => Ok(Anonymous::Nothing),
        }
    }

    /// Applies rule (a) at the repository, for credentials that were sent to the registry itself.
    fn evidence_at_repository(&self, ping: &Ping<'_>) -> ExchangeStep<CredentialsFinding> {
        let bare = self.evidence_without_token()?;
        let service = self.service_of_repository(ping)?;
        let (CredentialsFinding::Validated(_), Some(service)) = (&bare, service) else { return Ok(bare) };
        match self.anonymous_token(&service, self.repository_scope())? {
            Anonymous::Token(request) => self.evidence_against_anonymous_token(&request),
            Anonymous::Nothing => Ok(bare),
        }
    }

    /// The token service that the registry names for the repository, to anonymous clients.
    fn service_of_repository(&self, ping: &Ping<'_>) -> ExchangeStep<Option<TokenService>> {
        let named = self.token_service(self.tags_challenges(&AuthAttempt::Nothing)?);
        Ok(named.or_else(|| self.token_service(ping.challenges)).and_then(Result::ok))
    }

    /// Applies rule (a) at the manifest, if the credentials may not list tags either.
    fn evidence_at_manifest(&self, ping: &Ping<'_>) -> ExchangeStep<CredentialsFinding> {
        if !self.is_manifest_refused(&AuthAttempt::Nothing)? {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousServed));
        }
        if let Some(service) = self.service_of_repository(ping)?
            && let Anonymous::Token(request) = self.anonymous_token(&service, self.repository_scope())?
            && !self.is_manifest_refused(&AuthAttempt::Issued(request))?
        {
            return Ok(CredentialsFinding::Unprovable(Unprovable::AnonymousTokenServed));
        }
        Ok(CredentialsFinding::Validated(Evidence::RefusedWithout))
    }

    fn refused_directly(
        &self,
        ping: &Ping<'_>,
        attempt: &AuthAttempt,
        refusal: Refusal,
        challenges: &[Challenge],
    ) -> ExchangeStep<ExchangeFindings> {
        // The password was sent without a challenge, because anonymous clients are served. Only this response says that a token
        // is required.
        let asked = Ping { challenges, ..*ping };
        if *attempt == AuthAttempt::Basic
            && !ping.asks_for("Basic")
            && !asked.asks_for("Basic")
            && let Some(service) = self.trusted_service(&asked)
        {
            return self.by_token(&asked, &service.map_err(untrusted)?);
        }
        // A token may be valid for its repository only; and a password that wasn't refused may still open the repository.
        let is_of_credentials = match refusal {
            Refusal::Rejected(_) | Refusal::Forbidden => !self.is_status_for_all(refusal)?,
            Refusal::Silent(_) => false,
        };
        if *attempt == AuthAttempt::RegistryToken || !is_of_credentials {
            match self.read_repository(attempt)? {
                read @ RepositoryRead::Granted { .. } => {
                    return Ok(self.verdict(self.evidence_at_repository(ping)?, &read));
                }
                read @ RepositoryRead::Pulled => {
                    return Ok(self.verdict(self.evidence_at_manifest(ping)?, &read));
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
            return Err(self.not_a_registry(refusal.status()));
        }
        Err(ExchangeStop::credentials(self.refusal(attempt, refusal, challenges)))
    }

    /// The finding for a response at `/v2/` that neither grants nor refuses the credentials. Clients that pull take it as no registry.
    fn not_a_registry(&self, status: u16) -> ExchangeStop {
        let (server, cause) = (self.server(), NotARegistry::Status(status));
        ExchangeStop::endpoint(EndpointFinding::NotARegistry { server, cause })
    }

    /// What a refusal by the registry itself says of the credentials.
    fn refusal(
        &self,
        attempt: &AuthAttempt,
        refusal: Refusal,
        challenges: &[Challenge],
    ) -> CredentialsFinding {
        let is_told = *attempt == AuthAttempt::RegistryToken && challenges.iter().any(says_expired);
        let ended = is_told || self.secret_has_ended() || self.reported_expiry(attempt);
        if ended { CredentialsFinding::Expired } else { refused(refusal, self.server()) }
    }

    /// Whether a response of the registry to `attempt` said that the credentials have expired.
    fn reported_expiry(&self, attempt: &AuthAttempt) -> bool {
        [Resource::Api, Resource::Tags]
            .into_iter()
            .any(|resource| matches!(self.answers.registry(resource, attempt), Ok(Ok(reply)) if reply.says_expired))
    }

    /// Whether the secret that was sent is a token that has expired by its own date. Azure's refresh tokens are used as
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
        if self.secret_has_ended() || self.answers.service_says_expired() {
            return CredentialsFinding::Expired;
        }
        refused(refusal, service.server.clone())
    }

    /// Sends the credentials to the token service, and its token to the registry.
    fn by_token(&self, ping: &Ping<'_>, service: &TokenService) -> ExchangeStep<ExchangeFindings> {
        let fallback = self.fallback_scope(ping.challenges);
        let first = match self.first_token(service, TokenPrincipal::Account, fallback.as_ref())? {
            Issue::Issued(request) => request,
            Issue::Refused(refusal) => {
                return Err(ExchangeStop::credentials(self.refused_by(service, refusal)));
            }
            Issue::BadRequest => return Err(ExchangeStop::credentials(bad_request())),
            Issue::Inconclusive(finding) => return Err(ExchangeStop::credentials(finding)),
        };
        match self.repository_scope() {
            Some(scope) => self.by_repository_token(ping, &first, scope),
            None => self.by_api_token(ping, service, &RepositoryRead::NotNamed),
        }
    }

    /// Reads the named repository first: if only the account may read it, one control request is enough for both layers.
    fn by_repository_token(
        &self,
        ping: &Ping<'_>,
        first: &TokenRequest,
        scope: String,
    ) -> ExchangeStep<ExchangeFindings> {
        let service = &first.service;
        let (account, read) =
            match self.issue(self.token_request(service, TokenPrincipal::Account, Some(scope.clone())))? {
                Issue::Issued(request) => {
                    (Some(request.clone()), self.read_repository(&AuthAttempt::Issued(request))?)
                }
                Issue::Refused(refusal) => (None, RepositoryRead::Refused(refusal.status())),
                Issue::BadRequest => (None, RepositoryRead::NotNamed),
                Issue::Inconclusive(finding) => (None, unavailable_read(finding)),
            };
        let (Some(account), true) = (account, read.is_granted()) else {
            return self.by_api_token(ping, service, &read);
        };
        if self.names_account(first) || self.names_account(&account) {
            let finding = CredentialsFinding::Validated(Evidence::NamedInToken);
            return Ok(self.verdict(finding, &read));
        }
        Ok(self.verdict(self.evidence_of_repository_token(ping, &account, scope)?, &read))
    }

    fn evidence_of_repository_token(
        &self,
        ping: &Ping<'_>,
        account: &TokenRequest,
        scope: String,
    ) -> ExchangeStep<CredentialsFinding> {
        let Anonymous::Token(anonymous) = self.anonymous_token(&account.service, Some(scope))? else {
            return self.evidence_without_token();
        };
        if let Some(evidence) = self.proven_by_tokens(account, &anonymous) {
            return Ok(CredentialsFinding::Validated(evidence));
        }
        let finding = self.evidence_against_anonymous_token(&anonymous)?;
        if matches!(finding, CredentialsFinding::Unprovable(_)) {
            return self.evidence_of_token_pair(ping, account, &anonymous);
        }
        Ok(finding)
    }

    /// Validates at `/v2/`, if no repository is named or the named one could not be read.
    fn by_api_token(
        &self,
        ping: &Ping<'_>,
        service: &TokenService,
        read: &RepositoryRead,
    ) -> ExchangeStep<ExchangeFindings> {
        match self.open_api(service, TokenPrincipal::Account, ping.challenges)? {
            TokenAdmission::Opened(request) => {
                Ok(self.verdict(self.evidence_of_token(ping, &request)?, read))
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
            TokenAdmission::TokenRefused(Refusal::Silent(status)) => Err(self.not_a_registry(status)),
            TokenAdmission::Inconclusive(finding) => Err(ExchangeStop::credentials(finding)),
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

/// Whether the challenge says that the token has expired (RFC 6750, section 3.1).
fn says_expired(challenge: &Challenge) -> bool {
    let description = challenge.parameter("error_description").unwrap_or_default().to_ascii_lowercase();
    challenge.is("Bearer") && description.contains("expired")
}

/// The result of reading the repository if its token can't be obtained now.
fn unavailable_read(finding: CredentialsFinding) -> RepositoryRead {
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
