//! What the exchange asks: requests as values, without a secret in them.

use crate::host::HostPort;
use crate::realm::TokenService;

/// A request that the decision needs the answer to. Asked at most once in a validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// To the registry.
    Registry(Resource, Pass),
    /// To a token service.
    Token(TokenRequest),
}

/// What is asked of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `GET <endpoint>/v2/` (OCI distribution-spec, end-1).
    Api,
    /// `GET <endpoint>/v2/<repository>/tags/list?n=1` (end-8b).
    Tags,
    /// `HEAD <endpoint>/v2/<repository>/manifests/latest` (end-2): being able to pull is not being able to list.
    Manifest,
}

/// What a request to the registry is sent with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing: the way an anonymous client asks first.
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
    pub(crate) bearer: Bearer,
    pub(crate) form: Form,
}

/// Whom a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// Nobody in particular.
    Anonymous,
    /// The account of the credentials.
    Account,
}

/// How a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `GET` with Basic credentials (Docker Registry v2 authentication, "token").
    Get,
    /// `POST` of an OAuth2 form (Docker Registry v2 authentication, "oauth").
    Post,
}

impl Question {
    /// The server that gets the user's own credentials by this; none where only an issued token, or nothing, is sent.
    pub(crate) fn recipient(&self, registry: &HostPort) -> Option<HostPort> {
        match self {
            Self::Registry(_, Pass::Basic | Pass::RegistryToken) => Some(registry.clone()),
            Self::Registry(_, Pass::Nothing | Pass::Issued(_)) => None,
            Self::Token(request) => (request.bearer == Bearer::Account && request.service.trusted)
                .then(|| request.service.server.clone()),
        }
    }

    /// Whether it asks for no repository in particular.
    pub(crate) fn is_unscoped(&self) -> bool {
        matches!(self, Self::Token(TokenRequest { scope: None, .. }))
    }
}

impl TokenRequest {
    /// The same request by the other form.
    pub(crate) fn by(&self, form: Form) -> Self {
        Self { form, ..self.clone() }
    }
}
