//! Permission to send credentials: asked of the caller before they go to a server, so that a password which that server
//! refused is not sent to it again before its time.
//!
//! Owns no memory and no rule: when something may be sent is the caller's decision.

use std::future::Future;

use crate::findings::CredentialsFinding;
use crate::host::HostPort;

/// Decides whether the credentials of one validation may be sent. Asked once for each server that is to get them: the
/// registry, its token service, or both.
pub trait Gate: Send + Sync {
    /// Returns whether they may be sent to `server`. May wait; the validation's deadline bounds that.
    fn admit(&self, server: &HostPort) -> impl Future<Output = Admission> + Send;

    /// Tells that the token service `server` answered the credentials 403 where they were sent without a scope, so that
    /// the refusal is of the account and not of a repository.
    fn forbidden(&self, server: &HostPort);
}

/// The answer of a [`Gate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// They may be sent.
    Granted,
    /// They may not: this is the finding of the validation.
    Refused(CredentialsFinding),
}

/// The gate of callers that have no memory, such as a single validation from the command line.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

impl Gate for OpenGate {
    async fn admit(&self, _server: &HostPort) -> Admission {
        Admission::Granted
    }

    fn forbidden(&self, _server: &HostPort) {}
}
