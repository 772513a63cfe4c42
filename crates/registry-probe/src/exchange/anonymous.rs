//! The validation without credentials: does the registry, or its token service, serve everybody?

use super::decision::{Exchange, ExchangeFindings, ExchangeStep, ExchangeStop, unsupported, untrusted};
use super::issue::Issue;
use super::ping::Ping;
use super::question::{Bearer, Pass};
use super::repository_read::RepositoryRead;
use super::token_admission::TokenAdmission;
use crate::findings::{CredentialsFinding, Distrust};
use crate::realm::{Distrusted, TokenService};

impl Exchange<'_> {
    /// Validates a registry that no credentials were given for.
    pub(super) fn anonymous(&self, opening: &Ping<'_>) -> ExchangeStep<ExchangeFindings> {
        if opening.forbids_everybody() {
            return Err(ExchangeStop::credentials(CredentialsFinding::ForbiddenToAll { by: self.server() }));
        }
        let admitted = opening.served || self.admits_anybody(opening)?;
        let reading = self.anonymous_reading(opening)?;
        let finding = match reading {
            RepositoryRead::Granted { .. } | RepositoryRead::Pulled => CredentialsFinding::AnonymousAccess,
            // The registry is open, but not the content that was named: credentials are needed for that.
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
        Ok(self.verdict(finding, &reading))
    }

    /// Does an anonymous token open `/v2/`?
    fn admits_anybody(&self, opening: &Ping<'_>) -> ExchangeStep<bool> {
        let Some(service) = self.token_service(opening.challenges) else {
            return if opening.is_foreign() { Err(unsupported(opening)) } else { Ok(false) };
        };
        let service = match service {
            Ok(service) => service,
            // There is nowhere to get a token: whoever has one may give it.
            Err(Distrusted { cause: Distrust::NoRealm, .. }) => return Ok(false),
            Err(distrusted) => return Err(untrusted(distrusted)),
        };
        match self.enter(&service, Bearer::Anonymous, opening.challenges)? {
            TokenAdmission::Opened(_) => Ok(true),
            // The last: it wants to know for which repository, and none is named.
            TokenAdmission::NotIssued(_)
            | TokenAdmission::TokenRefused(_)
            | TokenAdmission::Hindered(CredentialsFinding::Unprovable(_)) => Ok(false),
            TokenAdmission::Hindered(finding) => Err(ExchangeStop::credentials(finding)),
        }
    }

    /// Reads the named repository: with an anonymous token where the registry asks for one, else without.
    fn anonymous_reading(&self, opening: &Ping<'_>) -> ExchangeStep<RepositoryRead> {
        if let Some(Ok(service)) = self.token_service(opening.challenges).filter(|_| !opening.served) {
            return self.anonymous_token_reading(&service);
        }
        if self.reading(&Pass::Nothing)? != RepositoryRead::Refused(401) {
            return self.pulling(&Pass::Nothing);
        }
        match self.token_service(self.tags_challenges(&Pass::Nothing)?) {
            Some(Ok(service)) => self.anonymous_token_reading(&service),
            Some(Err(_)) | None => self.pulling(&Pass::Nothing),
        }
    }

    fn anonymous_token_reading(&self, service: &TokenService) -> ExchangeStep<RepositoryRead> {
        let Some(scope) = self.repository_scope() else { return Ok(RepositoryRead::NotNamed) };
        match self.issue(self.token_request(service, Bearer::Anonymous, Some(scope)))? {
            Issue::Issued(request) => self.pulling(&Pass::Issued(request)),
            Issue::Refused(_) | Issue::BadRequest => Ok(RepositoryRead::Refused(401)),
            Issue::Hindered(finding) => Err(ExchangeStop::credentials(finding)),
        }
    }
}
