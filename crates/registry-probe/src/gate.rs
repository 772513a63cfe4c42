//! Permission to send credentials: the caller grants it before they go to a server, so that a password that the server
//! rejected is not sent again too early.
//!
//! Has no memory and no rule: the caller decides when credentials may be sent.

use std::future::Future;

use futures::future::BoxFuture;

use crate::findings::{CredentialsFinding, Findings};
use crate::host::HostPort;

/// Decides whether the credentials of one validation may be sent. Called once for each server that should get them: the
/// registry, its token service, or both.
pub trait Gate: Send + Sync {
    /// Returns whether they may be sent to `server`. May wait; the validation's deadline bounds that.
    fn admit(&self, server: &HostPort) -> impl Future<Output = Admission> + Send;

    /// Reports that the token service `server` answered 403 to the credentials without a scope, which means that
    /// it refuses the account and not a repository.
    fn forbidden(&self, server: &HostPort);

    /// Given the rest of a request that took the credentials to `server` and had no answer before the deadline: it yields what the
    /// answer decides about them; `None` if there is none, or if it decides nothing alone. It has no deadline of its own. By default,
    /// the request is abandoned.
    fn unanswered(&self, _server: &HostPort, _answer: BoxFuture<'static, Option<CredentialsFinding>>) {}

    /// Told that a registry answers, before anything that depends on credentials is asked. `findings` works out what is known by
    /// then; the end of the validation may still find more about the servers. By default, nothing is worked out.
    fn reached(&self, _findings: impl FnOnce() -> Findings) {}
}

/// The answer of a [`Gate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// They may be sent.
    Granted,
    /// They may not be sent: this is the finding of the validation.
    Refused(CredentialsFinding),
}

/// A gate that always grants, for callers without memory such as the command line.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

impl Gate for OpenGate {
    async fn admit(&self, _server: &HostPort) -> Admission {
        Admission::Granted
    }

    fn forbidden(&self, _server: &HostPort) {}
}
