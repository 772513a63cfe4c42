//! Getting a token from a token service, with the detours that services want.

use super::decision::{Exchange, ExchangeStep};
use super::question::{Bearer, Form, TokenRequest};
use super::reply::{Refusal, TokenReply};
use crate::findings::{CredentialsFinding, Distrust, Unavailable};
use crate::host::HostPort;

/// What came of a request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Issue {
    /// A token, for the request as it was finally made.
    Issued(TokenRequest),
    /// The service refused: 400, 401 or 403.
    Refused(Refusal),
    /// The service blames the request, not the credentials: often for the missing scope.
    BadRequest,
    /// The service gave no token, which says nothing of the credentials.
    Hindered(CredentialsFinding),
}

impl Exchange<'_> {
    /// Asks for a token.
    pub(super) fn issue(&self, request: TokenRequest) -> ExchangeStep<Issue> {
        match self.token(&request)? {
            Ok(TokenReply::Issued(_)) => Ok(Issue::Issued(request)),
            Ok(TokenReply::Refused { refusal, .. }) => Ok(Issue::Refused(*refusal)),
            Ok(TokenReply::BadRequest) => Ok(Issue::BadRequest),
            Ok(TokenReply::NotThisForm(status)) => self.issue_by_other_form(&request, *status),
            Ok(TokenReply::Redirect(to)) => {
                // Redirects are not followed with credentials. A realm that lacks its slash is another
                // matter: the request is made anew, to the same server, at the address that the service gives
                // as its own.
                match to.as_ref().and_then(|to| request.service.with_slash(to)) {
                    Some(service) => self.issue(TokenRequest { service, ..request }),
                    None => Ok(Issue::Hindered(redirected(to.as_ref()))),
                }
            }
            Ok(TokenReply::Throttled) => {
                Ok(Issue::Hindered(CredentialsFinding::Throttled { by: request.service.server }))
            }
            Ok(TokenReply::NoToken) => Ok(Issue::Hindered(unavailable(&request, Unavailable::NoToken))),
            Ok(TokenReply::Other(status)) => {
                Ok(Issue::Hindered(unavailable(&request, Unavailable::Status(*status))))
            }
            Err(failure) => Ok(Issue::Hindered(self.hindrance(failure))),
        }
    }

    /// Some services take tokens' requests by GET only, some by POST only.
    fn issue_by_other_form(&self, request: &TokenRequest, status: u16) -> ExchangeStep<Issue> {
        let first = self.token_request(&request.service, request.bearer, None).form;
        let other = if first == Form::Get { Form::Post } else { Form::Get };
        if request.bearer == Bearer::Account && request.form == first {
            return self.issue(request.by(other));
        }
        Ok(Issue::Hindered(unavailable(request, Unavailable::Status(status))))
    }
}

fn redirected(to: Option<&url::Url>) -> CredentialsFinding {
    let service = to.and_then(HostPort::of);
    CredentialsFinding::UntrustedTokenService { service, cause: Distrust::Redirect }
}

fn unavailable(request: &TokenRequest, cause: Unavailable) -> CredentialsFinding {
    CredentialsFinding::TemporarilyUnavailable { server: request.service.server.clone(), cause }
}
