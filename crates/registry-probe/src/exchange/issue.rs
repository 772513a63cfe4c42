//! Requests a token from a token service, with the second request that some services need.

use super::decision::{Exchange, ExchangeStep};
use super::question::{TokenMethod, TokenPrincipal, TokenRequest};
use super::reply::{Refusal, TokenReply};
use crate::findings::{CredentialsFinding, Distrust, Unavailable};
use crate::host::HostPort;

/// The result of a request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Issue {
    /// A token, and the request that finally got it.
    Issued(TokenRequest),
    /// The service refused: 400, 401 or 403.
    Refused(Refusal),
    /// The service blames the request, not the credentials: often for the missing scope.
    BadRequest,
    /// The service issued no token, for a reason that isn't the credentials.
    Inconclusive(CredentialsFinding),
}

impl Exchange<'_> {
    /// Asks for a token.
    pub(super) fn issue(&self, request: TokenRequest) -> ExchangeStep<Issue> {
        match self.token(&request)? {
            Ok(TokenReply::Issued(_)) => Ok(Issue::Issued(request)),
            Ok(TokenReply::Refused { refusal, .. }) => Ok(Issue::Refused(*refusal)),
            Ok(TokenReply::BadRequest) => Ok(Issue::BadRequest),
            Ok(TokenReply::NotThisMethod(status)) => self.issue_by_other_method(&request, *status),
            Ok(TokenReply::Redirect(to)) => {
                // Redirects are not followed with credentials. The exception is a realm without its trailing
                // slash: the request is repeated at the URL of the redirect, which is on the same
                // server.
                match to.as_ref().and_then(|to| request.service.with_slash(to)) {
                    Some(service) => self.issue(TokenRequest { service, ..request }),
                    None => Ok(Issue::Inconclusive(redirected(to.as_ref()))),
                }
            }
            Ok(TokenReply::Throttled) => {
                Ok(Issue::Inconclusive(CredentialsFinding::Throttled { by: request.service.server }))
            }
            Ok(TokenReply::NoToken) => Ok(Issue::Inconclusive(unavailable(&request, Unavailable::NoToken))),
            Ok(TokenReply::Other(status)) => {
                Ok(Issue::Inconclusive(unavailable(&request, Unavailable::Status(*status))))
            }
            Err(failure) => Ok(Issue::Inconclusive(self.finding_of_failure(failure))),
        }
    }

    /// Repeats the request by the other method: some services accept only GET, some only POST.
    fn issue_by_other_method(&self, request: &TokenRequest, status: u16) -> ExchangeStep<Issue> {
        let first = self.token_request(&request.service, request.principal, None).method;
        let other = if first == TokenMethod::Get { TokenMethod::Post } else { TokenMethod::Get };
        if request.principal == TokenPrincipal::Account && request.method == first {
            return self.issue(request.with_method(other));
        }
        Ok(Issue::Inconclusive(unavailable(request, Unavailable::Status(status))))
    }
}

fn redirected(to: Option<&url::Url>) -> CredentialsFinding {
    let service = to.and_then(HostPort::of);
    CredentialsFinding::UntrustedTokenService { service, cause: Distrust::Redirect }
}

fn unavailable(request: &TokenRequest, cause: Unavailable) -> CredentialsFinding {
    CredentialsFinding::TemporarilyUnavailable { server: request.service.server.clone(), cause }
}
