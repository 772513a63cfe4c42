//! Requests as they are sent: questions with their secrets.
//!
//! Decides which secret goes where: the user's password or token goes only to the registry itself or to a
//! trusted token service, an issued token to the registry only.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use oci_spec::image::{MediaType, ToDockerV2S2 as _};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use url::form_urlencoded::Serializer;

use super::decision::ExchangeCase;
use super::question::{AuthAttempt, Question, Resource, TokenMethod, TokenPrincipal, TokenRequest};
use super::recorded_answers::RecordedAnswers;
use crate::credentials::Credentials;

/// A request, ready to be sent. `Debug` hides secrets.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// The `Accept` header.
    pub(crate) accept: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
    /// A form, as `application/x-www-form-urlencoded`.
    pub(crate) form: Option<SecretString>,
    /// Whether the server may get the client certificate.
    pub(crate) trusted: bool,
    /// Whether the verdict depends on this server, so that its certificate must be valid. Not so for an anonymous control at a
    /// token service that doesn't get the credentials.
    pub(crate) decisive: bool,
}

/// The URL's query may hold a user name.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Request");
        debug.field("method", &self.method).field("path", &self.url.path());
        debug.field("authorization", &self.authorization.is_some()).finish_non_exhaustive()
    }
}

const ANY_JSON: &str = "application/json, */*;q=0.1";

/// Manifests and indexes of OCI and Docker. Without them, registries answer 404 for types that they would have to convert.
static ANY_MANIFEST: LazyLock<String> = LazyLock::new(|| {
    let kinds = [MediaType::ImageIndex, MediaType::ImageManifest];
    let docker = kinds.iter().filter_map(|kind| kind.to_docker_v2s2().ok());
    let accepted: Vec<&str> = kinds.iter().map(AsRef::as_ref).chain(docker).chain(["*/*;q=0.1"]).collect();
    accepted.join(", ")
});

/// The OAuth2 `client_id`.
const CLIENT_ID: &str = "registry-operator";

/// The user name with which Azure's registries accept a refresh token as a password.
const AZURE_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

impl Request {
    /// The request for a question.
    pub(crate) fn of(question: &Question, case: &ExchangeCase<'_>, answers: &RecordedAnswers) -> Self {
        match question {
            Question::Registry(resource, attempt) => Self::to_registry(*resource, attempt, case, answers),
            Question::Token(request) => Self::to_token_service(request, case.credentials),
        }
    }

    fn to_registry(
        resource: Resource,
        attempt: &AuthAttempt,
        case: &ExchangeCase<'_>,
        seen: &RecordedAnswers,
    ) -> Self {
        let authorization = match (attempt, case.credentials) {
            (AuthAttempt::Basic, Some(Credentials::Basic { username, password })) => {
                basic(username, password)
            }
            (AuthAttempt::RegistryToken, Some(Credentials::RegistryToken(token))) => bearer(token),
            (AuthAttempt::Issued(request), _) => seen.issued(request).and_then(|token| bearer(&token.secret)),
            (AuthAttempt::Nothing | AuthAttempt::Basic | AuthAttempt::RegistryToken, _) => None,
        };
        let (method, accept) = match resource {
            Resource::Api | Resource::Tags => (Method::GET, ANY_JSON),
            Resource::Manifest => (Method::HEAD, ANY_MANIFEST.as_str()),
        };
        Self {
            method,
            url: url_of(resource, case),
            accept,
            authorization,
            form: None,
            trusted: true,
            decisive: true,
        }
    }

    fn to_token_service(request: &TokenRequest, credentials: Option<&Credentials>) -> Self {
        // An untrusted service gets no credentials, whatever the question says.
        let account =
            credentials.filter(|_| request.principal == TokenPrincipal::Account && request.service.trusted);
        let trusted = request.service.trusted;
        let decisive = trusted || credentials.is_none();
        match request.method {
            TokenMethod::Get => {
                let (url, authorization) = (token_url(request, account), account.and_then(as_basic));
                Self {
                    method: Method::GET,
                    url,
                    accept: ANY_JSON,
                    authorization,
                    form: None,
                    trusted,
                    decisive,
                }
            }
            TokenMethod::Post => {
                let (url, form) = (request.service.realm.clone(), Some(token_form(request, account)));
                Self {
                    method: Method::POST,
                    url,
                    accept: ANY_JSON,
                    authorization: None,
                    form,
                    trusted,
                    decisive,
                }
            }
        }
    }
}

fn url_of(resource: Resource, case: &ExchangeCase<'_>) -> Url {
    let mut url = case.endpoint.api().clone();
    let Some(repository) = &case.repository else { return url };
    match resource {
        Resource::Api => {}
        Resource::Tags => {
            url.set_path(&format!("{}{repository}/tags/list", url.path()));
            url.set_query(Some("n=1"));
        }
        Resource::Manifest => url.set_path(&format!("{}{repository}/manifests/latest", url.path())),
    }
    url
}

/// `Authorization` with a user name and password (RFC 7617).
fn basic(username: &str, password: &SecretString) -> Option<HeaderValue> {
    let pair = SecretString::from(format!("{username}:{}", password.expose_secret()));
    secret_header("Basic ", &SecretString::from(STANDARD.encode(pair.expose_secret())))
}

/// `Authorization` with a bearer token (RFC 6750, section 2.1).
fn bearer(token: &SecretString) -> Option<HeaderValue> {
    secret_header("Bearer ", token)
}

fn secret_header(scheme: &str, secret: &SecretString) -> Option<HeaderValue> {
    let text = SecretString::from(format!("{scheme}{}", secret.expose_secret()));
    let mut header = HeaderValue::from_str(text.expose_secret()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn as_basic(credentials: &Credentials) -> Option<HeaderValue> {
    match credentials {
        Credentials::Basic { username, password } => basic(username, password),
        Credentials::IdentityToken { username, token } => {
            basic(username.as_deref().unwrap_or(AZURE_TOKEN_USER), token)
        }
        Credentials::RegistryToken(_) => None,
    }
}

/// The URL of a token request (Docker Registry v2 authentication, "token"). Does not set `offline_token`, which would
/// create a refresh token at every validation.
fn token_url(request: &TokenRequest, account: Option<&Credentials>) -> Url {
    let mut url = request.service.realm.clone();
    let mut query = url.query_pairs_mut();
    if let Some(service) = &request.service.service {
        query.append_pair("service", service);
    }
    for scope in request.scope.iter().flat_map(|scope| scope.split_whitespace()) {
        query.append_pair("scope", scope);
    }
    if let Some(Credentials::Basic { username, .. }) = account {
        query.append_pair("account", username);
    }
    drop(query);
    if url.query() == Some("") {
        url.set_query(None);
    }
    url
}

/// The form of a token request (Docker Registry v2 authentication, "oauth").
fn token_form(request: &TokenRequest, account: Option<&Credentials>) -> SecretString {
    let mut form = Serializer::new(String::new());
    match account {
        Some(Credentials::Basic { username, password }) => {
            form.append_pair("grant_type", "password");
            form.append_pair("username", username).append_pair("password", password.expose_secret());
        }
        Some(Credentials::IdentityToken { token, .. }) => {
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token.expose_secret());
        }
        Some(Credentials::RegistryToken(_)) | None => {}
    }
    form.append_pair("service", request.service.service.as_deref().unwrap_or_default());
    form.append_pair("client_id", CLIENT_ID);
    if let Some(scope) = &request.scope {
        form.append_pair("scope", scope);
    }
    SecretString::from(form.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostPort;
    use crate::realm::TokenService;

    #[test]
    fn accepts_the_manifest_types_of_oci_client() {
        use oci_client::manifest::{
            IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
            OCI_IMAGE_MEDIA_TYPE,
        };
        let kinds = [
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            "*/*;q=0.1",
        ];
        assert_eq!(*ANY_MANIFEST, kinds.join(", "));
    }

    #[test]
    fn debug_output_holds_no_credentials() {
        let realm = Url::parse("https://auth.example.net/token").unwrap();
        let server = HostPort::of(&realm).unwrap();
        let service = TokenService { realm, server, service: None, trusted: true };
        let credentials = Credentials::basic("HUSH-alice", SecretString::from("HUSH")).unwrap();
        for method in [TokenMethod::Get, TokenMethod::Post] {
            let asked = TokenRequest {
                service: service.clone(),
                scope: None,
                principal: TokenPrincipal::Account,
                method,
            };
            let request = Request::to_token_service(&asked, Some(&credentials));
            let text = format!("{request:?}");
            assert!(!text.contains("HUSH") && text.contains("/token"), "{text}");
        }
    }

    #[test]
    fn untrusted_token_service_gets_no_credentials() {
        let realm = Url::parse("https://auth.example.net/token").unwrap();
        let server = HostPort::of(&realm).unwrap();
        let service = TokenService { realm, server, service: None, trusted: false };
        let secret = SecretString::from("correct-horse-battery");
        let all = [
            Credentials::basic("alice", secret.clone()).unwrap(),
            Credentials::identity_token(Some("alice"), &secret).unwrap(),
        ];
        for (credentials, method) in
            all.iter().flat_map(|one| [(one, TokenMethod::Get), (one, TokenMethod::Post)])
        {
            let asked = TokenRequest {
                service: service.clone(),
                scope: None,
                principal: TokenPrincipal::Account,
                method,
            };
            let request = Request::to_token_service(&asked, Some(credentials));
            assert_eq!(request.authorization, None);
            assert_eq!(request.url.query(), None);
            let form = request.form.map(|form| form.expose_secret().to_owned()).unwrap_or_default();
            assert!(!form.contains("correct") && !form.contains("alice"), "{form}");
            assert!(!request.trusted);
        }
    }
}
