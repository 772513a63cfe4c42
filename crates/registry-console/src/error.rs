//! What kept a page from being made, as a page.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use registry_check::cluster::words;
use thiserror::Error;

use crate::pages::{Chrome, ErrorPage, html};

/// What kept a page from being made.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// Nobody is signed in, or no longer.
    #[error("You are not signed in: this page needs the URL that the console printed when it started")]
    NotSignedIn,
    /// The API server doesn't take the token, or it can't be one.
    #[error("{0}")]
    TokenRefused(String),
    /// The code in the URL was used, or never was one.
    #[error("This link can't be used: it works once; start kubectl registry console again for a new one")]
    UsedLink,
    /// There is no such page or object.
    #[error("Not found: {0}")]
    NotFound(String),
    /// What was sent can't be read.
    #[error("{0}")]
    BadRequest(String),
    /// The user may not do that.
    #[error("{0}")]
    NotAllowed(String),
    /// Another tool keeps the registry.
    #[error("{0}; the console does not change it")]
    KeptElsewhere(String),
    /// What was sent is too large.
    #[error("{0}")]
    TooLarge(&'static str),
    /// There is too much of something.
    #[error("{0}")]
    TooMany(&'static str),
    /// The API server refused, or didn't answer.
    #[error("{}", words(.0))]
    Api(#[from] kube::Error),
    /// Something in this program failed.
    #[error("{0}")]
    Internal(String),
}

impl ConsoleError {
    /// The status code of its page.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn | Self::TokenRefused(_) | Self::UsedLink => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::KeptElsewhere(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Api(kube::Error::Api(status)) => match status.code {
                401 => StatusCode::UNAUTHORIZED,
                403 => StatusCode::FORBIDDEN,
                404 => StatusCode::NOT_FOUND,
                _ => StatusCode::BAD_GATEWAY,
            },
            Self::Api(_) => StatusCode::BAD_GATEWAY,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "Sign in",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::CONFLICT => "Read-only here",
            StatusCode::BAD_GATEWAY => "The cluster did not answer",
            _ => "That did not work",
        }
    }

    /// What to do.
    fn advice(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "kubectl registry console",
            _ => "",
        }
    }
}

/// An answer that needs a user, with what is wrong with the one who asked; empty if nobody did. In the cluster, the page to sign in
/// takes its place.
#[derive(Clone, Debug)]
pub struct SignInNeeded(pub String);

impl SignInNeeded {
    fn by(error: &ConsoleError) -> Option<Self> {
        let is_needed = error.status() == StatusCode::UNAUTHORIZED;
        is_needed.then(|| match error {
            ConsoleError::NotSignedIn | ConsoleError::UsedLink => Self(String::new()),
            error => Self(error.to_string()),
        })
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        let sign_in = SignInNeeded::by(&self);
        let page = ErrorPage {
            chrome: Chrome::signed_out(),
            title: self.title(),
            message: self.to_string(),
            command: self.advice(),
        };
        let mut response = html(self.status(), &page);
        if let Some(sign_in) = sign_in {
            response.extensions_mut().insert(sign_in);
        }
        response
    }
}
