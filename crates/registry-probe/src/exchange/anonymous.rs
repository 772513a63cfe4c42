//! The validation without credentials: whether the registry or its token service serves anonymous clients.

use super::decision::{Exchange, ExchangeFindings, ExchangeStep, ExchangeStop, unsupported, untrusted};
use super::issue::Issue;
use super::ping::Ping;
use super::question::{AuthAttempt, TokenPrincipal};
use super::repository_read::RepositoryRead;
use super::token_admission::TokenAdmission;
use crate::findings::{CredentialsFinding, Distrust};
use crate::realm::{Distrusted, TokenService};

impl Exchange<'_> {
    /// Validates a registry without credentials.
    pub(super) fn anonymous(&self, ping: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        if ping.forbids_all() {
            return Err(ExchangeStop::credentials(CredentialsFinding::ForbiddenToAll { by: self.server() }));
        }
        let admitted = ping.served || self.admits_anonymous(ping)?;
        let read = self.read_anonymously(ping)?;
        let finding = match read {
            RepositoryRead::Granted { .. } | RepositoryRead::Pulled => CredentialsFinding::AnonymousAccess,
            // The registry is open but the named repository isn't: it requires credentials.
            RepositoryRead::Refused(401) => CredentialsFinding::Required,
            RepositoryRead::NotNamed
            | RepositoryRead::NotListed(_)
            | RepositoryRead::Refused(_)
            | RepositoryRead::Missing
            | RepositoryRead::Unexpected(_)
            | RepositoryRead::Unavailable { .. } => {
                if admitted {
                    CredentialsFinding::AnonymousAccess
                } else {
                    CredentialsFinding::Required
                }
            }
        };
        Ok(self.verdict(finding, &read))
    }

    /// Whether an anonymous token opens `/v2/`.
    fn admits_anonymous(&self, ping: &Ping<'_>) -> ExchangeStep<bool> {
        let Some(service) = self.token_service(ping.challenges) else {
            return if ping.has_only_unsupported_schemes() { Err(unsupported(ping)) } else { Ok(false) };
        };
        let service = match service {
            Ok(service) => service,
            // There is no service to get a token from, so the user must supply credentials.
            Err(Distrusted { cause: Distrust::NoRealm, .. }) => return Ok(false),
            Err(distrusted) => return Err(untrusted(distrusted)),
        };
        match self.open_api(&service, TokenPrincipal::Anonymous, ping.challenges)? {
            TokenAdmission::Opened(_) => Ok(true),
            // The last case: the service requires a scope, and no repository is named.
            TokenAdmission::NotIssued(_)
            | TokenAdmission::TokenRefused(_)
            | TokenAdmission::Inconclusive(CredentialsFinding::Unprovable(_)) => Ok(false),
            TokenAdmission::Inconclusive(finding) => Err(ExchangeStop::credentials(finding)),
        }
    }

    /// Reads the named repository: with an anonymous token if the registry asks for one, otherwise without a token.
    fn read_anonymously(&self, ping: &Ping<'_>) -> ExchangeStep<RepositoryRead> {
        if let Some(Ok(service)) = self.token_service(ping.challenges).filter(|_| !ping.served) {
            return self.read_with_anonymous_token(&service);
        }
        if self.read_tags(&AuthAttempt::Nothing)? != RepositoryRead::Refused(401) {
            return self.read_repository(&AuthAttempt::Nothing);
        }
        match self.token_service(self.tags_challenges(&AuthAttempt::Nothing)?) {
            Some(Ok(service)) => self.read_with_anonymous_token(&service),
            Some(Err(_)) | None => self.read_repository(&AuthAttempt::Nothing),
        }
    }

    fn read_with_anonymous_token(&self, service: &TokenService) -> ExchangeStep<RepositoryRead> {
        let Some(scope) = self.repository_scope() else { return Ok(RepositoryRead::NotNamed) };
        match self.issue(self.token_request(service, TokenPrincipal::Anonymous, Some(scope)))? {
            Issue::Issued(request) => self.read_repository(&AuthAttempt::Issued(request)),
            Issue::Refused(_) | Issue::BadRequest => Ok(RepositoryRead::Refused(401)),
            Issue::Inconclusive(finding) => Err(ExchangeStop::credentials(finding)),
        }
    }
}
