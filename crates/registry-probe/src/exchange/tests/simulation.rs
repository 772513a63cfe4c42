//! A simulated registry and token service, with behaviours of real ones.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::exchange::{
    ExchangeCase, ExchangeFindings, Failure, Next, RecordedAnswers, Request, Response, next,
};
use crate::realm::Trust;
use crate::repository::RepositoryName;

pub(super) const PASSWORD: &str = "correct-horse-battery";
pub(super) const WRONG: &str = "battery-horse-staple";
pub(super) const REGISTRY_TOKEN: &str = "registry-token-of-alice";
pub(super) const IDENTITY_TOKEN: &str = "identity-token-of-alice";

/// How the registry behaves.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "habits combine freely")]
pub(super) struct SimulatedRegistry {
    /// The `WWW-Authenticate` headers of a 401.
    pub(super) challenges: Vec<String>,
    /// `/v2/` is granted to anonymous clients.
    pub(super) open: bool,
    /// It sends its challenges with a 200 too.
    pub(super) always_challenges: bool,
    /// Which tokens open `/v2/`.
    pub(super) v2: Opens,
    /// It checks Basic credentials and tokens.
    pub(super) checks: bool,
    /// It checks credentials even though it serves anonymous clients.
    pub(super) checks_when_open: bool,
    /// The repository `hello` is public.
    pub(super) public: bool,
    /// There is a repository `hello`.
    pub(super) exists: bool,
    /// What alice may do with `hello`.
    pub(super) denies_alice: bool,
}

/// Which tokens open `/v2/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opens {
    /// Any that the service issued.
    Any,
    /// Any that names an account.
    Named,
    /// Those without a scope.
    WithoutScope,
    /// Those with a scope.
    WithScope,
    /// None.
    Never,
}

/// How the token service behaves.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// What anonymous clients get.
    pub(super) anonymous: Gives,
    /// What a wrong password gets.
    pub(super) wrong: Gives,
    /// What a request without a scope gets, if that differs.
    pub(super) without_scope: Option<u16>,
    /// What tokens look like.
    pub(super) tokens: SimulatedTokens,
    /// It accepts GET.
    pub(super) get: bool,
    /// It accepts POST.
    pub(super) post: bool,
    /// The field that the token is in.
    pub(super) field: &'static str,
}

/// A token service's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// An anonymous token, which opens what is public.
    Token,
    /// An anonymous token with a scope, a refusal without one (Harbor).
    TokenForScopeOnly,
    /// The token of alice: no password is checked.
    AsAlice,
    /// A refusal with this status.
    Status(u16),
}

/// What tokens look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SimulatedTokens {
    /// JSON Web Tokens that name the user.
    Named,
    /// JSON Web Tokens that name the user by a number.
    Numbered,
    /// JSON Web Tokens with a number for every client, anonymous ones too.
    AllNumbered,
    /// JSON Web Tokens without a name, but with grants.
    Nameless,
    /// Opaque text.
    Opaque,
}

impl Default for SimulatedRegistry {
    fn default() -> Self {
        Self {
            challenges: vec![BEARER.into()],
            open: false,
            always_challenges: false,
            v2: Opens::Any,
            checks: true,
            checks_when_open: false,
            public: false,
            exists: true,
            denies_alice: false,
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            anonymous: Gives::Token,
            wrong: Gives::Status(401),
            without_scope: None,
            tokens: SimulatedTokens::Opaque,
            get: true,
            post: true,
            field: "token",
        }
    }
}

pub(super) const BEARER: &str = r#"Bearer realm="https://auth.example.com/token",service="registry""#;
pub(super) const BASIC: &str = r#"Basic realm="registry""#;

/// The caller, as far as the request shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Caller {
    Nobody,
    Alice,
    Impostor,
    Holder { name: &'static str, scope: String },
}

/// A simulated registry with its token service.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) registry: SimulatedRegistry,
    pub(super) service: Service,
}

/// The findings and the requests of a validation.
#[derive(Debug)]
pub(super) struct SimulatedRun {
    pub(super) verdict: ExchangeFindings,
    pub(super) requests: Vec<String>,
}

/// The input of a validation.
#[derive(Debug, Clone)]
pub(super) struct SimulatedQuestion {
    pub(super) credentials: Option<Credentials>,
    pub(super) repository: Option<&'static str>,
}

#[expect(clippy::unnecessary_wraps, reason = "as the tables want it")]
pub(super) fn basic(password: &str) -> Option<Credentials> {
    Some(Credentials::basic("alice", SecretString::from(password)).unwrap())
}

impl World {
    /// Validates this world.
    pub(super) fn probe(&self, ask: &SimulatedQuestion) -> SimulatedRun {
        probe_with(ask, |request| Ok(self.answer(request)))
    }

    /// Validates this world, below a base path.
    pub(super) fn probe_below(&self, base: &str, ask: &SimulatedQuestion) -> SimulatedRun {
        probe_below_with(base, ask, |request| Ok(self.answer(request)))
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        match request.url.host_str() {
            Some("registry.example.com") => self.registry_answers(request),
            _ => self.service_answers(request),
        }
    }

    fn registry_answers(&self, request: &Request) -> Response {
        let caller = caller(request);
        let allowed = match request.url.path() {
            "/v2/" => self.opens_v2(&caller),
            _ => self.reads_repository(&caller),
        };
        let challenges =
            if allowed == 401 || self.registry.always_challenges { &*self.registry.challenges } else { &[] };
        let body = match (allowed, request.url.path()) {
            (200, "/v2/") => "{}",
            (200, _) => r#"{"name":"hello","tags":["1.0"]}"#,
            _ => r#"{"errors":[{"code":"X"}]}"#,
        };
        respond(request, allowed, challenges, body)
    }

    fn opens_v2(&self, caller: &Caller) -> u16 {
        let SimulatedRegistry { open, v2, checks, checks_when_open, .. } = self.registry;
        if open && (!checks_when_open || *caller == Caller::Nobody) {
            return 200;
        }
        let takes_basic = self.registry.challenges.iter().any(|challenge| challenge.starts_with("Basic"));
        let admitted = match caller {
            Caller::Nobody => false,
            Caller::Alice => takes_basic,
            Caller::Impostor => takes_basic && !checks,
            Caller::Holder { name, scope } => match v2 {
                Opens::Any => true,
                Opens::Named => !name.is_empty(),
                Opens::WithoutScope => scope.is_empty(),
                Opens::WithScope => !scope.is_empty(),
                Opens::Never => false,
            },
        };
        if admitted { 200 } else { 401 }
    }

    fn reads_repository(&self, caller: &Caller) -> u16 {
        let SimulatedRegistry { public, exists, denies_alice, checks, .. } = self.registry;
        let takes_basic = self.registry.challenges.iter().any(|challenge| challenge.starts_with("Basic"));
        let is_alice = match caller {
            Caller::Impostor if takes_basic && checks => return 401,
            Caller::Alice | Caller::Impostor => takes_basic,
            Caller::Holder { name, scope } => *name == "alice" && scope.contains(":hello:"),
            Caller::Nobody => false,
        };
        let is_anonymous_with_scope =
            matches!(caller, Caller::Holder { scope, .. } if scope.contains(":hello:"));
        let wants_token = self.registry.challenges.iter().any(|challenge| challenge.starts_with("Bearer"));
        let anybody = public && (is_anonymous_with_scope || !wants_token || self.registry.open);
        match () {
            () if is_alice && denies_alice => 403,
            () if (is_alice || anybody) && !exists => 404,
            () if is_alice || anybody => 200,
            () => 401,
        }
    }

    fn service_answers(&self, request: &Request) -> Response {
        let form = request.form.as_ref().map(|form| form.expose_secret().to_owned()).unwrap_or_default();
        let query = request.url.query().unwrap_or_default().to_owned() + "&" + &form;
        let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
        let scope = scope.replace("%3A", ":").replace("%2F", "/");
        let caller = if form.is_empty() { caller(request) } else { caller_of_form(&form) };
        let taken = if request.method == Method::POST { self.service.post } else { self.service.get };
        let given = match caller {
            _ if !taken => Gives::Status(405),
            _ if scope.is_empty() && self.service.without_scope.is_some() => {
                Gives::Status(self.service.without_scope.unwrap_or_default())
            }
            Caller::Alice => Gives::AsAlice,
            Caller::Nobody => self.service.anonymous,
            _ => self.service.wrong,
        };
        match given {
            Gives::Status(status) => respond(request, status, &[], "<html>no</html>"),
            Gives::TokenForScopeOnly if scope.is_empty() => respond(request, 401, &[], "{}"),
            Gives::Token | Gives::TokenForScopeOnly => self.issue(request, "", &scope),
            Gives::AsAlice => self.issue(request, "alice", &scope),
        }
    }

    fn issue(&self, request: &Request, name: &str, scope: &str) -> Response {
        let actions = if name == "alice" || self.registry.public { r#"["pull"]"# } else { "[]" };
        let access = match scope {
            "" => "[]".to_owned(),
            scope => format!(
                r#"[{{"type":"repository","name":"{}","actions":{actions}}}]"#,
                scope.replace(':', "_")
            ),
        };
        let sub = match (self.service.tokens, name) {
            (SimulatedTokens::Named, name) => name,
            (SimulatedTokens::Numbered | SimulatedTokens::AllNumbered, "alice") => "8f14e45f-ceea-467f",
            (SimulatedTokens::AllNumbered, _) => "c9f0f895-fb98-4b9d",
            _ => "",
        };
        let hidden = format!("{name}|{scope}");
        let token = match self.service.tokens {
            SimulatedTokens::Opaque => URL_SAFE_NO_PAD.encode(hidden),
            SimulatedTokens::Named
            | SimulatedTokens::Numbered
            | SimulatedTokens::AllNumbered
            | SimulatedTokens::Nameless => {
                let claims = format!(r#"{{"sub":"{sub}","access":{access},"hidden":"{hidden}"}}"#);
                format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
            }
        };
        respond(request, 200, &[], &format!(r#"{{"{}":"{token}","expires_in":300}}"#, self.service.field))
    }
}

/// The time of all validations.
pub(super) const NOW: &str = "2026-06-01T12:00:00Z";

/// Validates, with the requests answered by `answer`.
pub(super) fn probe_with(
    ask: &SimulatedQuestion,
    answer: impl Fn(&Request) -> Result<Response, Failure>,
) -> SimulatedRun {
    probe_at(None, ask, answer)
}

/// The same below a base path.
pub(super) fn probe_below_with(
    base: &str,
    ask: &SimulatedQuestion,
    answer: impl Fn(&Request) -> Result<Response, Failure>,
) -> SimulatedRun {
    probe_at(Some(&RepositoryName::parse(base).unwrap()), ask, answer)
}

fn probe_at(
    base_path: Option<&RepositoryName>,
    ask: &SimulatedQuestion,
    answer: impl Fn(&Request) -> Result<Response, Failure>,
) -> SimulatedRun {
    let endpoint = Endpoint::parse("https://registry.example.com").unwrap();
    let case = ExchangeCase {
        endpoint: &endpoint,
        base_path,
        repository: ask.repository.map(|name| RepositoryName::parse(name).unwrap().below(base_path)),
        credentials: ask.credentials.as_ref(),
        trust: Trust { registry: endpoint.api(), listed: &[], only_registry: false },
        now: NOW.parse().unwrap(),
    };
    let (mut answers, mut requests) = (RecordedAnswers::default(), Vec::new());
    loop {
        match next(&case, &answers) {
            Next::Done(verdict) => return SimulatedRun { verdict: *verdict, requests },
            Next::Ask(question) => {
                let request = Request::of(&question, &case, &answers);
                requests.push(request_line(&request));
                assert!(requests.len() < 20, "no end: {requests:#?}");
                let outcome = answer(&request);
                answers.note(*question, outcome.as_ref().map_err(Clone::clone));
            }
        }
    }
}

fn caller(request: &Request) -> Caller {
    let header =
        request.authorization.as_ref().map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    if let Some(basic) = header.strip_prefix("Basic ") {
        let pair = String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap();
        let good = pair == format!("alice:{PASSWORD}") || pair.ends_with(&format!(":{IDENTITY_TOKEN}"));
        return if good { Caller::Alice } else { Caller::Impostor };
    }
    match header.strip_prefix("Bearer ") {
        None => Caller::Nobody,
        Some(REGISTRY_TOKEN) => Caller::Holder { name: "alice", scope: "repository:hello:pull".into() },
        Some(token) => holder(token).unwrap_or(Caller::Impostor),
    }
}

fn holder(token: &str) -> Option<Caller> {
    let text = match token.split('.').nth(1) {
        Some(payload) => {
            let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
            claims.rsplit_once(r#""hidden":""#)?.1.trim_end_matches("\"}").to_owned()
        }
        None => String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?,
    };
    let (name, scope) = text.split_once('|')?;
    let name = if name == "alice" { "alice" } else { "" };
    Some(Caller::Holder { name, scope: scope.into() })
}

fn caller_of_form(form: &str) -> Caller {
    let good = form.contains(&format!("password={PASSWORD}"))
        || form.contains(&format!("refresh_token={IDENTITY_TOKEN}"));
    if good { Caller::Alice } else { Caller::Impostor }
}

pub(super) fn respond(request: &Request, status: u16, challenges: &[String], body: &str) -> Response {
    let mut headers = HeaderMap::new();
    for challenge in challenges {
        let name = HeaderName::from_static("www-authenticate");
        headers.append(name, HeaderValue::from_bytes(challenge.as_bytes()).unwrap());
    }
    Response { url: request.url.clone(), status, headers, body: body.as_bytes().to_vec(), is_broken: false }
}

/// A request in a line: `GET registry /v2/ as Basic`.
pub(super) fn request_line(request: &Request) -> String {
    let kind = request.authorization.as_ref().map_or("nobody".into(), |value| {
        let value = value.to_str().unwrap();
        value.split(' ').next().unwrap().to_owned()
    });
    let scope = if request.url.query().unwrap_or_default().contains("scope=") { " scoped" } else { "" };
    let host = request.url.host_str().unwrap();
    format!("{} {host}{} as {kind}{scope}", request.method, request.url.path())
}
