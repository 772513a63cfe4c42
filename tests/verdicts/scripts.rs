//! Responses of scripted registries and token services, from which rows are built.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::hosts::{Host, host};
use crate::secrets::{IDENTITY, OWN_SEAL, PASSWORD, SEAL, USER};
use crate::support::{Answer, ReceivedRequest};

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// An anonymous client.
    Nobody,
    /// Alice, with her password or identity token.
    Alice,
    /// A client with invalid credentials.
    Stranger,
    /// A client with this bearer token.
    Bearer(String),
}

/// By the `Authorization` header.
pub fn caller(asked: &ReceivedRequest) -> Caller {
    let Some(header) = asked.authorization() else { return Caller::Nobody };
    let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Caller::Bearer(rest.to_owned());
    }
    let pairs = [
        format!("{USER}:{PASSWORD}"),
        format!("{USER}:{IDENTITY}"),
        format!("{AZURE_TOKEN_USER}:{IDENTITY}"),
    ];
    if pairs.iter().any(|pair| BASE64_STANDARD.encode(pair) == rest) {
        Caller::Alice
    } else {
        Caller::Stranger
    }
}

/// The user name with which Azure's registries take identity tokens.
const AZURE_TOKEN_USER: &str = "00000000-0000-0000-0000-000000000000";

/// A request for a token.
#[derive(Debug, Clone)]
pub struct TokenCall {
    /// The caller, from the header or form.
    pub caller: Caller,
    /// By GET or POST.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    parameters: Vec<(String, String)>,
}

impl TokenCall {
    fn of(asked: &ReceivedRequest) -> Self {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let parameters = [pairs(query), pairs(&asked.body)].concat();
        let mut call =
            Self { caller: caller(asked), method: asked.method.clone(), path: path.to_owned(), parameters };
        if let Some(secret) = call.parameter("password").or_else(|| call.parameter("refresh_token")) {
            let right = [PASSWORD, IDENTITY].contains(&secret);
            call.caller = if right { Caller::Alice } else { Caller::Stranger };
        }
        call
    }

    /// A parameter of the query or the form.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The scope that is asked for.
    pub fn scope(&self) -> Option<&str> {
        self.parameter("scope")
    }

    /// The repository of the scope.
    pub fn repository(&self) -> Option<&str> {
        self.scope()?.strip_prefix("repository:")?.strip_suffix(":pull")
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (decoded(key), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(&String::from_utf8_lossy(&hex), 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A token of a token service: its claims, and what it opens.
#[derive(Debug, Clone)]
pub struct Token {
    claims: Value,
    opens: Vec<String>,
    opaque: bool,
}

/// A JSON Web Token that names nobody, grants nothing and opens nothing.
pub fn token() -> Token {
    Token { claims: json!({"iss": "auth", "access": []}), opens: Vec::new(), opaque: false }
}

impl Token {
    /// It names this account.
    pub fn naming(mut self, subject: &str) -> Self {
        self.claims["sub"] = subject.into();
        self
    }

    /// It names this account as Gitea's do: by a number, which anonymous tokens have too.
    pub fn numbered(mut self, user: i64) -> Self {
        self.claims["UserID"] = user.into();
        self
    }

    /// It grants these actions on a repository, and opens it if pulling is one of them.
    pub fn granting(mut self, repository: &str, actions: &[&str]) -> Self {
        let entry = json!({"type": "repository", "name": repository, "actions": actions});
        self.claims["access"].as_array_mut().unwrap().push(entry);
        if actions.contains(&"pull") { self.opening(repository) } else { self }
    }

    /// It opens this: `api` is `/v2/`, all else a repository.
    pub fn opening(mut self, what: &str) -> Self {
        self.opens.push(what.to_owned());
        self
    }

    /// It can't be read by its bearer.
    pub fn opaque(self) -> Self {
        Self { opaque: true, ..self }
    }

    /// It ended long ago.
    pub fn ended(mut self) -> Self {
        self.claims["exp"] = 1_600_000_000.into();
        self
    }

    /// It ends long after the tests.
    pub fn lasting(mut self) -> Self {
        self.claims["exp"] = 1_900_000_000.into();
        self
    }

    fn sealed(&self, seal: &str) -> String {
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let mut claims = self.claims.clone();
        claims["opens"] = self.opens.clone().into();
        match self.opaque {
            true => format!("opaque-{}-{seal}", encode(&claims["opens"])),
            false => format!("{}.{}.{seal}", encode(&json!({"typ": "JWT", "alg": "ES256"})), encode(&claims)),
        }
    }

    /// As a token service issues it.
    pub fn text(&self) -> String {
        self.sealed(SEAL)
    }

    /// As a user has it, from a registry's web page.
    pub fn given(&self) -> String {
        self.sealed(OWN_SEAL)
    }

    /// The answer of a token service, by both names.
    pub fn issued(&self) -> Answer {
        self.issued_as(json!({"token": self.text(), "access_token": self.text(), "expires_in": 300}))
    }

    /// The answer of a token service, as it words it.
    pub fn issued_as(&self, body: Value) -> Answer {
        Answer::status(200).header("Content-Type", "application/json").body(body.to_string())
    }
}

/// What a token opens; nothing if it is none of ours.
pub fn opened_by(token: &str) -> Vec<String> {
    let decode =
        |text: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    let ours = token.ends_with(SEAL) || token.ends_with(OWN_SEAL);
    let opens = match token.strip_prefix("opaque-") {
        Some(rest) => rest.split_once('-').and_then(|(opens, _)| decode(opens)),
        None => token.split('.').nth(1).and_then(decode).map(|claims| claims["opens"].clone()),
    };
    opens.filter(|_| ours).and_then(|opens| serde_json::from_value(opens).ok()).unwrap_or_default()
}

/// What a request to a registry is about: `api`, or a repository's name.
pub fn about(asked: &ReceivedRequest) -> String {
    let path = asked.path.split('?').next().unwrap_or_default();
    let rest = path.split_once("/v2/").map_or("", |(_, rest)| rest);
    match rest.strip_suffix("/tags/list") {
        Some(repository) => repository.to_owned(),
        None => rest.split_once("/manifests/").map_or("api", |(repository, _)| repository).to_owned(),
    }
}

/// What a registry holds, once one is let in.
pub fn content(asked: &ReceivedRequest) -> Answer {
    match about(asked).as_str() {
        "api" => Answer::granted(),
        "missing" | "team/missing" => Answer::error(404, "NAME_UNKNOWN"),
        "empty" => Answer::status(200).body(r#"{"name":"empty","tags":[]}"#),
        "forbidden" => Answer::error(403, "DENIED"),
        repository => Answer::status(200).body(json!({"name": repository, "tags": ["1.0"]}).to_string()),
    }
}

/// A registry that takes Basic, and nothing else, as distribution with htpasswd does.
pub fn htpasswd(asked: &ReceivedRequest) -> Answer {
    match caller(asked) {
        Caller::Alice => content(asked),
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

/// A registry that serves everyone, and looks at no credentials.
pub fn open(asked: &ReceivedRequest) -> Answer {
    content(asked)
}

/// One registry, alone.
pub fn alone(script: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static) -> Vec<Host> {
    vec![host("registry", script)]
}

/// A registry that takes tokens: `challenge` is its header, a token opens what it says.
pub fn takes_tokens(challenge: &'static str) -> impl Fn(&ReceivedRequest) -> Answer + Clone + Send + Sync {
    move |asked| {
        let about = about(asked);
        let scope =
            if about == "api" { String::new() } else { format!(",scope=\"repository:{about}:pull\"") };
        match caller(asked) {
            Caller::Bearer(token) if opened_by(&token).contains(&about) => content(asked),
            Caller::Bearer(_) => Answer::challenge(&format!("{challenge}{scope},error=\"invalid_token\"")),
            _ => Answer::challenge(&format!("{challenge}{scope}")),
        }
    }
}

/// The challenge of a registry whose token service is at `auth`.
pub const TO_AUTH: &str = "Bearer realm=\"{auth}/token\",service=\"registry.example.com\"";

/// A token service that answers by the caller.
pub fn issues(
    answer: impl Fn(&TokenCall) -> Answer + Send + Sync + 'static,
) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| answer(&TokenCall::of(asked))
}

/// A registry that takes the tokens of a token service.
pub fn with_service(answer: impl Fn(&TokenCall) -> Answer + Send + Sync + 'static) -> Vec<Host> {
    vec![host("registry", takes_tokens(TO_AUTH)), host("auth", issues(answer))]
}

/// 401, as token services say it.
pub fn refused() -> Answer {
    Answer::error(401, "UNAUTHORIZED")
}

/// A token service that gives nobody a token but Alice, and names her in it.
pub fn strict(call: &TokenCall) -> Answer {
    match call.caller {
        Caller::Alice => scoped(token().naming(USER).opening("api"), call).issued(),
        _ => refused(),
    }
}

/// The token, with the right to pull what is asked for.
pub fn scoped(token: Token, call: &TokenCall) -> Token {
    match call.repository() {
        Some(repository) => token.granting(repository, &["pull"]),
        None => token,
    }
}

/// A registry and its token service, both in the clear.
pub fn clear(hosts: Vec<Host>) -> Vec<Host> {
    hosts.into_iter().map(Host::clear).collect()
}
