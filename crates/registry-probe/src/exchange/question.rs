//! The questions of the exchange: requests as values, without secrets.

use crate::host::HostPort;
use crate::realm::TokenService;

/// A request that the decision needs the answer to. Asked at most once in a validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// To the registry.
    Registry(Resource, AuthAttempt),
    /// To a token service.
    Token(TokenRequest),
}

/// A resource of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `GET <endpoint>/v2/` (OCI distribution-spec, end-1).
    Api,
    /// `GET <endpoint>/v2/<repository>/tags/list?n=1` (end-8b).
    Tags,
    /// `HEAD <endpoint>/v2/<repository>/manifests/latest` (end-2), because a client may pull without permission to list.
    Manifest,
}

/// How a request to the registry is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthAttempt {
    /// Not at all, as in the first request of every client.
    Nothing,
    /// The user name and password.
    Basic,
    /// The user's own bearer token.
    RegistryToken,
    /// The token that was issued for this request.
    Issued(TokenRequest),
}

/// A request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    pub(crate) service: TokenService,
    pub(crate) scope: Option<String>,
    pub(crate) principal: TokenPrincipal,
    pub(crate) method: TokenMethod,
}

/// The principal that a token is requested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenPrincipal {
    /// An anonymous client.
    Anonymous,
    /// The account of the credentials.
    Account,
}

/// The HTTP method by which a token is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenMethod {
    /// `GET` with Basic credentials (Docker Registry v2 authentication, "token").
    Get,
    /// `POST` of an OAuth2 form (Docker Registry v2 authentication, "oauth").
    Post,
}

impl Question {
    /// The server that gets the user's own credentials; `None` if only an issued token, or nothing, is sent.
    pub(crate) fn recipient(&self, registry: &HostPort) -> Option<HostPort> {
        match self {
            Self::Registry(_, AuthAttempt::Basic | AuthAttempt::RegistryToken) => Some(registry.clone()),
            Self::Registry(_, AuthAttempt::Nothing | AuthAttempt::Issued(_)) => None,
            Self::Token(request) => (request.principal == TokenPrincipal::Account && request.service.trusted)
                .then(|| request.service.server.clone()),
        }
    }

    /// Whether it is the one that every validation begins with.
    pub(crate) fn is_first(&self) -> bool {
        matches!(self, Self::Registry(Resource::Api, AuthAttempt::Nothing))
    }

    /// Whether it requests a token without a scope.
    pub(crate) fn is_unscoped(&self) -> bool {
        matches!(self, Self::Token(TokenRequest { scope: None, .. }))
    }
}

impl TokenRequest {
    /// The same request by another method.
    pub(crate) fn with_method(&self, method: TokenMethod) -> Self {
        Self { method, ..self.clone() }
    }
}
