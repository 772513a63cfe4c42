//! What is answered: responses reduced to what the decision needs, and failures to get one.

use std::fmt;
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::challenge::Challenge;
use crate::findings::{ConnectionFailure, DnsFailure, ProxyFailure, Stage};
use crate::host::HostPort;
use crate::token::{Token, object};

/// A response as it came, its body cut at the cap.
pub(crate) struct Response {
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// The URL's query may hold a user name, the body a token.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Response");
        debug.field("path", &self.url.path()).field("status", &self.status);
        debug.field("body_len", &self.body.len()).finish_non_exhaustive()
    }
}

/// No response.
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
    /// The fence holds every address, this one among them.
    EgressDenied(IpAddr),
    /// Every address refused the connection.
    Refused,
    /// The connection failed.
    Connection(ConnectionFailure),
    /// The TLS handshake failed, or the server is not to be believed. What is wrong stands in the record of
    /// handshakes.
    Tls,
    /// The deadline has come.
    Timeout(Stage),
    /// What came is no HTTP/1.1, or beyond all bounds.
    NotHttp,
    /// The proxy did not let the server be reached.
    Proxy(ProxyFailure),
}

/// What a registry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) said: Said,
    pub(crate) challenges: Vec<Challenge>,
    /// Does the response look like a registry's?
    pub(crate) has_sign: bool,
    /// Does it say that what was sent has expired? ECR says so in the error's message, with a 403; ECR Public with a 400.
    pub(crate) says_expired: bool,
    /// Is it about a manifest: by its digest, or by its type?
    pub(crate) is_manifest: bool,
}

/// The gist of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// 2xx, and no page for people.
    Granted(Content),
    /// 2xx, and a page for people.
    Page,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 429.
    Throttled,
    /// 5xx.
    Fault(u16),
    /// 3xx.
    Redirect {
        status: u16,
        /// As `scheme://host[:port]`.
        to: Option<String>,
    },
    /// 400 to a request in the clear, for the port speaks TLS.
    WantsTls,
    /// Any other status.
    Other(u16),
}

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A list of tags with at least one.
    Tags,
    /// A list of tags with none.
    NoTags,
    /// Something else.
    Other,
}

/// What a token service says.
#[derive(Debug, Clone)]
pub(crate) enum TokenReply {
    /// A token.
    Issued(Token),
    /// 200 without a token that can be used.
    NoToken,
    /// 400, 401 or 403.
    Refused(u16),
    /// 400 that blames the request and not the credentials (RFC 6749, section 5.2), such as one for a missing scope.
    BadRequest,
    /// 404, 405 or 501: perhaps it wants to be asked by another form.
    NotThisForm(u16),
    /// 429.
    Throttled,
    /// A redirect; where to.
    Redirect(Option<Url>),
    /// Any other status.
    Other(u16),
}

impl Reply {
    pub(crate) fn of(response: &Response) -> Self {
        let challenges = response.headers.get_all(WWW_AUTHENTICATE);
        let challenges = Challenge::parse_all(challenges.iter().map(http::HeaderValue::as_bytes));
        let says_expired = matches!(response.status, 400 | 401 | 403) && mentions_expiry(&response.body);
        let (has_sign, is_manifest) = (has_sign(response), is_manifest(response));
        Self { said: said(response), has_sign, says_expired, is_manifest, challenges }
    }

    /// The tags were read: a 2xx with anything else says nothing of the repository.
    pub(crate) fn is_tag_list(&self) -> bool {
        matches!(self.said, Said::Granted(Content::Tags | Content::NoTags))
    }
}

impl Reply {
    /// There is at least one tag in the list.
    pub(crate) fn lists_tags(&self) -> bool {
        self.said == Said::Granted(Content::Tags)
    }
}

fn said(response: &Response) -> Said {
    match response.status {
        200..=299 => match content(&response.body) {
            Content::Other if !names_version(response) && is_page(response) => Said::Page,
            content => Said::Granted(content),
        },
        status @ 300..=399 => Said::Redirect { status, to: location(response).as_ref().map(origin_of) },
        400 if wants_tls(response) => Said::WantsTls,
        401 => Said::Unauthorized,
        403 => Said::Forbidden,
        404 => Said::NotFound,
        429 => Said::Throttled,
        status @ 500..=599 => Said::Fault(status),
        status => Said::Other(status),
    }
}

/// A page for people: HTML by its type, or by its first character. A hint alone: Quay calls its answer to `/v2/` HTML.
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

fn content(body: &[u8]) -> Content {
    #[derive(Deserialize)]
    struct TagList {
        #[serde(rename = "name")]
        _name: String,
        tags: Option<Vec<String>>,
    }
    match object(body) {
        Some(TagList { tags: Some(tags), .. }) if !tags.is_empty() => Content::Tags,
        Some(TagList { .. }) => Content::NoTags,
        None if is_cut_tag_list(body) => Content::Tags,
        None => Content::Other,
    }
}

/// The beginning of a list of tags that is longer than the cap: some registries know no `n=`, and Google's list every
/// manifest before the tags.
fn is_cut_tag_list(body: &[u8]) -> bool {
    let mut cut = CutList::default();
    let mut input = serde_json::Deserializer::from_slice(body);
    let is_cut = (&mut cut).deserialize(&mut input).is_err_and(|error| error.is_eof());
    is_cut && cut.lists_something && !cut.is_of_another_kind
}

/// The fields of a list of tags that were seen before its text broke off.
#[derive(Default)]
struct CutList {
    /// A tag, or a manifest.
    lists_something: bool,
    is_of_another_kind: bool,
}

impl<'de> DeserializeSeed<'de> for &mut CutList {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut CutList {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "tags" | "manifest" => map.next_value_seed(First(&mut self.lists_something))?,
                "name" | "child" => map.next_value::<IgnoredAny>().map(|_| ())?,
                _ => {
                    self.is_of_another_kind = true;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Notes that a list has a first text, or an object a first field, before the rest is read.
struct First<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for First<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for First<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        *self.0 |= list.next_element::<String>()?.is_some();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        *self.0 |= map.next_key::<String>()?.is_some();
        map.next_value::<IgnoredAny>()?;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// What tells a registry from any web server: Docker's version header, a challenge, OCI's error envelope, or
/// an empty JSON object, as distribution answers `/v2/`.
fn has_sign(response: &Response) -> bool {
    let challenged = response.status == 401 && response.headers.contains_key(WWW_AUTHENTICATE);
    names_version(response) || challenged || body_has_sign(response)
}

fn names_version(response: &Response) -> bool {
    let version =
        response.headers.get("docker-distribution-api-version").and_then(|version| version.to_str().ok());
    version.is_some_and(|version| version.trim().starts_with("registry/2"))
}

fn body_has_sign(response: &Response) -> bool {
    if (200..300).contains(&response.status) {
        return object(&response.body).is_some_and(|object: serde_json::Map<_, _>| object.is_empty());
    }
    object(&response.body).is_some_and(|Envelope { errors }| !errors.is_empty())
}

fn mentions_expiry(body: &[u8]) -> bool {
    let errors = object(body).map(|Envelope { errors }| errors).unwrap_or_default();
    let messages = errors.iter().filter_map(|error| error.message.as_deref());
    messages.map(str::to_ascii_lowercase).any(|message| message.contains("expired"))
}

/// OCI distribution-spec, "Error Codes".
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<EnvelopeError>,
}

#[derive(Deserialize)]
struct EnvelopeError {
    #[serde(rename = "code")]
    _code: String,
    #[serde(default)]
    message: Option<String>,
}

/// What Go's and nginx's servers answer to a request in the clear on a port for TLS.
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
            200..=299 => Token::of_response(&response.body).map_or(Self::NoToken, Self::Issued),
            300..=399 => Self::Redirect(location(response)),
            400 if blames_request(&response.body) => Self::BadRequest,
            status @ (400 | 401 | 403) => Self::Refused(status),
            status @ (404 | 405 | 501) => Self::NotThisForm(status),
            429 => Self::Throttled,
            status => Self::Other(status),
        }
    }
}

/// RFC 6749, section 5.2: these errors say nothing of what was sent to sign in.
fn blames_request(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct OAuthError {
        error: String,
    }
    let blamed = ["invalid_request", "invalid_scope", "unsupported_grant_type", "unauthorized_client"];
    object(body).is_some_and(|OAuthError { error }| blamed.contains(&error.as_str()))
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
        let text =
            format!("{response:?} {:?}", TokenReply::Issued(Token::of_response(&response.body).unwrap()));
        let body = format!("{:?}", response.body);
        assert!(!text.contains("HUSH") && !text.contains(&body) && text.contains("/token"), "{text}");
    }

    fn response(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Response {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let url = Url::parse("https://registry.example.com/v2/").unwrap();
        Response { url, status, headers: headers.iter().map(header).collect(), body: body.to_vec() }
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply::of(&response(status, &[], body.as_bytes()))
    }

    #[test]
    fn a_registry_has_a_sign_that_other_servers_have_not() {
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
    fn a_list_of_tags_is_one_even_if_it_is_cut() {
        let content = |body: &str| match reply(200, body).said {
            Said::Granted(content) => content,
            other => panic!("{other:?}"),
        };
        let long = format!(r#"{{"name":"a","tags":["0"{}"#, ",\"1.2.3\"".repeat(20_000));
        assert_eq!(content(&long), Content::Tags);
        assert_eq!(content(r#"{"name":"a","tags":["1"]}"#), Content::Tags);
        for body in [r#"{"name":"a","tags":[]}"#, r#"{"name":"a","tags":null}"#, r#"{"name":"a"}"#] {
            assert_eq!(content(body), Content::NoTags, "{body}");
        }
        for body in [
            "",
            "{}",
            r#"["a",["1"]]"#,
            r#"{"name":"a","tags":["#,
            r#"{"tags":["1"]} trailing"#,
            "{{\"tags\":[\"1\"",
        ] {
            assert_eq!(content(body), Content::Other, "{body}");
        }
    }

    #[test]
    fn what_has_expired_is_said_in_the_envelope() {
        let ecr = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}"#;
        assert!(reply(403, ecr).says_expired && reply(401, ecr).says_expired);
        assert!(!reply(200, ecr).says_expired && !reply(500, ecr).says_expired);
        assert!(!reply(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#).says_expired);
        assert!(!reply(403, "expired").says_expired);
    }

    #[test]
    fn redirects_are_named_by_where_they_lead() {
        let to = |location: &str| match Reply::of(&response(302, &[("location", location)], b"")).said {
            Said::Redirect { to, .. } => to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to("http://a.example.net:5000/x?token=y").as_deref(), Some("http://a.example.net:5000"));
        assert_eq!(to("/login").as_deref(), Some("https://registry.example.com"));
        assert_eq!(to("https://[x"), None);
    }

    /// A body in which codes, messages and details are as registries have them, and worse.
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
        fn reads_error_envelopes_as_oci_client_does(body in envelopes()) {
            let theirs: Option<oci_client::errors::OciEnvelope> = serde_json::from_str(&body).ok();
            let errors = theirs.map(|envelope| envelope.errors).unwrap_or_default();
            let expired = errors.iter().any(|error| error.message.to_lowercase().contains("expired"));
            let ours = reply(403, &body);
            prop_assert_eq!((ours.has_sign, ours.says_expired), (!errors.is_empty(), expired), "{}", body);
        }
    }

    #[test]
    fn reads_an_envelope_whose_message_is_null() {
        // Go's clients take it for no message; oci-client's type refuses the whole envelope.
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":null}]}"#;
        assert!(reply(401, body).has_sign);
        assert!(serde_json::from_str::<oci_client::errors::OciEnvelope>(body).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(status in 100..1000_u16, body in any::<Vec<u8>>(), location in "[ -~]{0,30}") {
            let response = response(status, &[("location", &location)], &body);
            let _ = (Reply::of(&response), TokenReply::of(&response));
        }
    }
}
