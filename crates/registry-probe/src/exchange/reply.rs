//! Answers: responses reduced to what the decision needs, and failures to get a response.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use url::Url;

use super::errors::{blames_request, is_envelope, mentions_expiry};
use super::tag_list::GrantedList;
use crate::challenge::Challenge;
use crate::findings::{ConnectionFailure, DnsFailure, ProxyFailure, Stage};
use crate::host::HostPort;
use crate::token::{IssuedToken, object};

/// A response, with its body truncated at the limit.
pub(crate) struct Response {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The connection broke within the body.
    pub(crate) is_broken: bool,
}

/// The URL's query may hold a user name, the body a token.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Response");
        debug.field("path", &self.url.path()).field("status", &self.status);
        debug.field("body_len", &self.body.len()).finish_non_exhaustive()
    }
}

/// A failure to get a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) server: HostPort,
    pub(crate) cause: FailureCause,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FailureCause {
    /// The name has no address.
    Dns(DnsFailure),
    /// The egress policy denies every address; this is one of them.
    EgressDenied(IpAddr),
    /// Every address refused the connection.
    Refused,
    /// The connection failed.
    Connection(ConnectionFailure),
    /// The TLS handshake failed, or the certificate isn't trusted. The record of handshakes has
    /// the details.
    Tls,
    /// The deadline has passed.
    Timeout(Stage),
    /// The response isn't HTTP/1.1, or exceeds the size limits.
    NotHttp,
    /// The proxy failed or refused to connect.
    Proxy(ProxyFailure),
}

/// A registry's response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one observation of its own")]
pub(crate) struct Reply {
    pub(crate) kind: ReplyKind,
    pub(crate) challenges: Vec<Challenge>,
    /// Whether the response looks like a registry's.
    pub(crate) has_sign: bool,
    /// Whether it has Docker's version header or OCI's error envelope, which only registries have. Any web server may answer a
    /// 401 with a challenge.
    pub(crate) speaks_oci: bool,
    /// Whether it says that the credentials have expired. ECR says so in the error's message, with a 403; ECR Public with a 400.
    pub(crate) says_expired: bool,
    /// Whether it is about a manifest, by its digest or its type.
    pub(crate) is_manifest: bool,
}

/// The kind of a registry's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// 200 with content that isn't an HTML page.
    Granted(GrantedList),
    /// 200 with an HTML page.
    Page,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 429.
    Throttled,
    /// 5xx, and other statuses that a retry may resolve.
    Fault(u16),
    /// 3xx.
    Redirect {
        status: u16,
        /// As `scheme://host[:port]`.
        to: Option<String>,
    },
    /// 400 to a plain HTTP request, because the port requires TLS.
    WantsTls,
    /// Any other status.
    Other(u16),
}

/// What an answer that doesn't grant a request says of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They are wrong: 400 or 401.
    Rejected(u16),
    /// They are known, and not allowed: 403.
    Forbidden,
    /// Nothing: for clients that pull, there is no such API.
    Silent(u16),
}

impl Refusal {
    /// The HTTP status.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::Rejected(status) | Self::Silent(status) => status,
            Self::Forbidden => 403,
        }
    }
}

impl ReplyKind {
    /// What it says of the credentials, as an answer that doesn't grant the request.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::Unauthorized => Refusal::Rejected(401),
            Self::WantsTls | Self::Other(400) => Refusal::Rejected(400),
            Self::Forbidden => Refusal::Forbidden,
            Self::NotFound => Refusal::Silent(404),
            Self::Throttled => Refusal::Silent(429),
            Self::Granted(_) | Self::Page => Refusal::Silent(200),
            Self::Other(status) | Self::Fault(status) | Self::Redirect { status, .. } => {
                Refusal::Silent(*status)
            }
        }
    }

    /// Whether it is how registries keep a repository from a client, or say that there is none.
    pub(crate) fn is_denial(&self) -> bool {
        match self {
            Self::Unauthorized | Self::Forbidden | Self::NotFound => true,
            Self::Granted(_)
            | Self::Page
            | Self::Throttled
            | Self::Fault(_)
            | Self::Redirect { .. }
            | Self::WantsTls
            | Self::Other(_) => false,
        }
    }
}

/// A token service's response.
#[derive(Debug, Clone)]
pub(crate) enum TokenReply {
    /// A token.
    Issued(IssuedToken),
    /// 200 without a usable token.
    NoToken,
    /// 400, 401 or 403.
    Refused {
        refusal: Refusal,
        /// Whether it says that the credentials have expired.
        says_expired: bool,
    },
    /// 400 because of the request and not the credentials (RFC 6749, section 5.2), such as one for a missing scope.
    BadRequest,
    /// 404, 405 or 501: the service may accept another method.
    NotThisMethod(u16),
    /// 429.
    Throttled,
    /// A redirect, with its target.
    Redirect(Option<Url>),
    /// Any other status.
    Other(u16),
}

impl Reply {
    pub(crate) fn of(response: &Response) -> Self {
        let challenges = response.headers.get_all(WWW_AUTHENTICATE);
        let challenges = Challenge::parse_all(challenges.iter().map(http::HeaderValue::as_bytes));
        let says_expired = matches!(response.status, 400 | 401 | 403) && mentions_expiry(&response.body);
        let speaks_oci = names_version(response) || is_envelope(&response.body);
        let (has_sign, is_manifest) = (has_sign(response), is_manifest(response));
        Self { kind: kind(response), has_sign, speaks_oci, says_expired, is_manifest, challenges }
    }

    /// Whether it is a list of tags. A 200 with anything else says nothing about the repository.
    pub(crate) fn is_tag_list(&self) -> bool {
        matches!(self.kind, ReplyKind::Granted(GrantedList::Tags | GrantedList::NoTags))
    }
}

impl Reply {
    /// Whether it is a list with at least one tag.
    pub(crate) fn lists_tags(&self) -> bool {
        self.kind == ReplyKind::Granted(GrantedList::Tags)
    }
}

fn kind(response: &Response) -> ReplyKind {
    match response.status {
        // 203: modified by a proxy (RFC 9110, section 15.3.4). Any other 2xx has no content.
        200 | 203 => match GrantedList::of(&response.body) {
            GrantedList::Other if !names_version(response) && is_page(response) => ReplyKind::Page,
            content @ (GrantedList::Tags | GrantedList::NoTags | GrantedList::Other) => {
                ReplyKind::Granted(content)
            }
        },
        status @ 300..=399 => ReplyKind::Redirect { status, to: location(response).as_ref().map(origin_of) },
        400 if wants_tls(response) => ReplyKind::WantsTls,
        401 => ReplyKind::Unauthorized,
        403 => ReplyKind::Forbidden,
        404 => ReplyKind::NotFound,
        429 => ReplyKind::Throttled,
        // 408 and 425: the same request may succeed later (RFC 9110, section 15.5.9; RFC 8470, section 5.2).
        status @ (408 | 425 | 500..=599) => ReplyKind::Fault(status),
        status => ReplyKind::Other(status),
    }
}

/// Whether it is an HTML page, by its type or its first character. Only a hint: Quay labels its response at `/v2/` as HTML.
fn is_page(response: &Response) -> bool {
    content_type(response).contains("html") || response.body.trim_ascii_start().starts_with(b"<")
}

fn content_type(response: &Response) -> String {
    let kind = response.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.unwrap_or_default().to_ascii_lowercase()
}

fn is_manifest(response: &Response) -> bool {
    let kind = content_type(response);
    response.headers.contains_key("docker-content-digest")
        || ["manifest", "image.index"].iter().any(|word| kind.contains(word))
}

/// Whether it differs from any web server's response: by Docker's version header, a challenge, OCI's error envelope, or
/// an empty JSON object, which is distribution's response at `/v2/`.
fn has_sign(response: &Response) -> bool {
    let challenged = response.status == 401 && response.headers.contains_key(WWW_AUTHENTICATE);
    names_version(response) || challenged || body_has_sign(response)
}

fn names_version(response: &Response) -> bool {
    let lines = response.headers.get_all("docker-distribution-api-version");
    let versions = lines.iter().filter_map(|line| line.to_str().ok());
    versions.flat_map(|line| line.split([' ', ','])).any(|version| version.starts_with("registry/2"))
}

fn body_has_sign(response: &Response) -> bool {
    if (200..300).contains(&response.status) {
        return object(&response.body).is_some_and(|object: serde_json::Map<_, _>| object.is_empty());
    }
    is_envelope(&response.body)
}

/// Whether it is the response of Go's or nginx's servers to a plain HTTP request on a TLS port.
fn wants_tls(response: &Response) -> bool {
    let body = String::from_utf8_lossy(&response.body);
    response.url.scheme() == "http"
        && (body.contains("HTTP request to an HTTPS") || body.contains("sent to HTTPS port"))
}

fn location(response: &Response) -> Option<Url> {
    response.url.join(response.headers.get(LOCATION)?.to_str().ok()?).ok()
}

fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl TokenReply {
    pub(crate) fn of(response: &Response) -> Self {
        match response.status {
            200..=299 => IssuedToken::of_response(&response.body).map_or(Self::NoToken, Self::Issued),
            300..=399 => Self::Redirect(location(response)),
            400 if blames_request(&response.body) => Self::BadRequest,
            status @ (400 | 401) => Self::refused(Refusal::Rejected(status), response),
            403 => Self::refused(Refusal::Forbidden, response),
            status @ (404 | 405 | 501) => Self::NotThisMethod(status),
            429 => Self::Throttled,
            status => Self::Other(status),
        }
    }

    fn refused(refusal: Refusal, response: &Response) -> Self {
        Self::Refused { refusal, says_expired: mentions_expiry(&response.body) }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_output_holds_no_token_and_no_user_name() {
        let response = Response {
            url: Url::parse("https://registry.example.com/token?account=HUSH-alice").unwrap(),
            ..response(200, &[("set-cookie", "HUSH")], br#"{"token":"HUSH"}"#)
        };
        let text = format!(
            "{response:?} {:?}",
            TokenReply::Issued(IssuedToken::of_response(&response.body).unwrap())
        );
        let body = format!("{:?}", response.body);
        assert!(!text.contains("HUSH") && !text.contains(&body) && text.contains("/token"), "{text}");
    }

    fn response(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Response {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let url = Url::parse("https://registry.example.com/v2/").unwrap();
        Response {
            url,
            status,
            headers: headers.iter().map(header).collect(),
            body: body.to_vec(),
            is_broken: false,
        }
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply::of(&response(status, &[], body.as_bytes()))
    }

    #[test]
    fn recognizes_registries_by_their_headers() {
        let version = [("docker-distribution-api-version", "registry/2.0")];
        let challenge = [("www-authenticate", "Basic realm=x")];
        assert!(Reply::of(&response(200, &version, b"")).has_sign);
        assert!(Reply::of(&response(401, &challenge, b"<html>")).has_sign);
        assert!(reply(200, "{}").has_sign && reply(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).has_sign);
        assert!(!Reply::of(&response(200, &challenge, b"")).has_sign);
        for body in ["", "ok", "[]", "null", r#"{"status":"UP"}"#, "<html>"] {
            assert!(!reply(200, body).has_sign, "{body}");
        }
        for body in
            ["", "{}", r#"{"errors":[]}"#, r#"{"errors":["no"]}"#, r#"[[{"code":"X"}]]"#, r#"{"error":"x"}"#]
        {
            assert!(!reply(401, body).has_sign, "{body}");
        }
    }

    #[test]
    fn recognizes_truncated_tag_list() {
        let content = |body: &str| match reply(200, body).kind {
            ReplyKind::Granted(content) => content,
            other => panic!("{other:?}"),
        };
        let long = format!(r#"{{"name":"a","tags":["0"{}"#, ",\"1.2.3\"".repeat(20_000));
        assert_eq!(content(&long), GrantedList::Tags);
        for body in [
            r#"{"name":"a","tags":["1"]}"#,
            r#"{"tags":["1"]}"#,
            r#"{"Name":"a","Tags":["1"],"x":{"y":[]}}"#,
            r#"{"name":null,"tags":["1",null],"manifest":null}"#,
            r#"{"name":"a","tags":["0"],"tags":["1"]}"#,
            r#"{"x":1,"name":"a","tags":["1","2"#,
        ] {
            assert_eq!(content(body), GrantedList::Tags, "{body}");
        }
        for body in [r#"{"name":"a","tags":[]}"#, r#"{"name":"a","tags":null}"#, r#"{"name":"a"}"#] {
            assert_eq!(content(body), GrantedList::NoTags, "{body}");
        }
        for body in [
            "",
            "{}",
            r#"["a",["1"]]"#,
            r#"{"name":"a","tags":["#,
            r#"{"tags":["1"]} trailing"#,
            "{{\"tags\":[\"1\"",
            r#"{"name":"a","tags":{"1":"2"}}"#,
            r#"{"name":"a","tags":"1"}"#,
        ] {
            assert_eq!(content(body), GrantedList::Other, "{body}");
        }
    }

    #[test]
    fn reads_expiry_from_error_envelope() {
        let ecr = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}"#;
        assert!(reply(403, ecr).says_expired && reply(401, ecr).says_expired);
        assert!(!reply(200, ecr).says_expired && !reply(500, ecr).says_expired);
        assert!(!reply(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#).says_expired);
        assert!(!reply(403, "expired").says_expired);
    }

    #[test]
    fn describes_redirect_by_its_target() {
        let to = |location: &str| match Reply::of(&response(302, &[("location", location)], b"")).kind {
            ReplyKind::Redirect { to, .. } => to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to("http://a.example.net:5000/x?token=y").as_deref(), Some("http://a.example.net:5000"));
        assert_eq!(to("/login").as_deref(), Some("https://registry.example.com"));
        assert_eq!(to("https://[x"), None);
    }

    /// A body with codes, messages and details as in registries' errors, valid or not.
    fn envelopes() -> impl Strategy<Value = String> {
        let code = prop_oneof![
            Just(r#""UNAUTHORIZED""#.to_owned()),
            Just(r#""TOOMANYREQUESTS""#.to_owned()),
            "\"[A-Z_]{0,12}\"",
            Just("404".to_owned()),
            Just("null".to_owned()),
        ];
        let message =
            prop_oneof![Just(r#""Token has Expired""#.to_owned()), "\"[a-z ]{0,12}\"", Just("7".to_owned())];
        let detail =
            prop_oneof![Just("null".to_owned()), Just(r#"{"a":[1]}"#.to_owned()), Just(r#""x""#.to_owned())];
        let field = |name: &'static str, value: BoxedStrategy<String>| {
            proptest::option::of(value)
                .prop_map(move |value| value.map(|value| format!(r#""{name}":{value}"#)))
        };
        let error =
            (field("code", code.boxed()), field("message", message.boxed()), field("detail", detail.boxed()));
        let error = error.prop_map(|(code, message, detail)| {
            let fields: Vec<String> = [code, message, detail].into_iter().flatten().collect();
            format!("{{{}}}", fields.join(","))
        });
        proptest::collection::vec(error, 0..3)
            .prop_map(|errors| format!(r#"{{"errors":[{}]}}"#, errors.join(",")))
    }

    proptest! {
        #[test]
        fn reads_each_error_envelope_that_oci_client_reads(body in envelopes()) {
            let theirs: Option<oci_client::errors::OciEnvelope> = serde_json::from_str(&body).ok();
            let errors = theirs.map(|envelope| envelope.errors).unwrap_or_default();
            let expired = errors.iter().any(|error| error.message.to_lowercase().contains("expired"));
            let ours = reply(403, &body);
            // oci-client rejects the whole envelope for one malformed error; Go's clients and this crate read the others.
            prop_assert!(ours.has_sign || errors.is_empty(), "{}", body);
            prop_assert!(ours.says_expired || !expired, "{}", body);
        }
    }

    #[test]
    fn reads_error_envelope_with_null_message() {
        // Go's clients treat it as no message; oci-client rejects the whole envelope.
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":null}]}"#;
        assert!(reply(401, body).has_sign);
        assert!(serde_json::from_str::<oci_client::errors::OciEnvelope>(body).is_err());
    }

    proptest! {
        #[test]
        fn no_response_panics(status in 100..1000_u16, body in any::<Vec<u8>>(), location in "[ -~]{0,30}") {
            let response = response(status, &[("location", &location)], &body);
            let _ = (Reply::of(&response), TokenReply::of(&response));
        }
    }
}
