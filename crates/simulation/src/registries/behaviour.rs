//! What a registry in memory answers, and what it must never be sent. Pure.

use std::time::Duration;

use super::http::HttpRequest;

/// How a registry wants its clients to sign in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignInMethod {
    /// Every user is served.
    Anonymous,
    /// With the user's name and password.
    Basic,
    /// With a token from its own token service.
    Token,
    /// With a token from a service at another site, which must never get the credentials.
    TokenElsewhere,
}

/// Whether a registry answers at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerCondition {
    /// It answers as it should.
    Up,
    /// It answers everything with this status, and asks to wait this many seconds, if any.
    Status(u16, Option<u64>),
    /// It answers late.
    Slow(Duration),
    /// It accepts the connection and says nothing.
    Silent,
    /// It closes the connection instead of an answer.
    Reset,
    /// It refuses connections.
    Refusing,
    /// Its name doesn't exist.
    Unnamed,
    /// It redirects everything to the host of that number.
    Redirected(usize),
}

/// A registry's behaviour, which a history changes over time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegistryBehaviour {
    /// Its host name.
    pub host: String,
    /// How to sign in.
    pub sign_in: SignInMethod,
    /// Whether it answers.
    pub condition: ServerCondition,
    /// The password that it accepts, of any user.
    pub password: String,
}

/// What a server does with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegistryAnswer {
    /// Sends this after a while.
    Send {
        /// How long it takes.
        after: Duration,
        /// The status.
        status: u16,
        /// Further headers.
        headers: Vec<(&'static str, String)>,
        /// The body, JSON.
        body: String,
    },
    /// Says nothing.
    Nothing,
    /// Closes the connection.
    Close,
}

impl RegistryBehaviour {
    /// Returns the answer to a request.
    pub fn answer(&self, request: &HttpRequest) -> RegistryAnswer {
        match self.condition {
            ServerCondition::Up => self.served(request, Duration::ZERO),
            ServerCondition::Slow(after) => self.served(request, after),
            ServerCondition::Status(status, wait) => {
                let headers = wait.map(|seconds| ("retry-after", seconds.to_string()));
                send(Duration::ZERO, status, headers.into_iter().collect(), "{\"errors\":[]}")
            }
            ServerCondition::Redirected(host) => {
                let location = format!("{}{}", crate::cast::endpoint(host), request.path);
                send(Duration::ZERO, 307, vec![("location", location)], "")
            }
            ServerCondition::Silent => RegistryAnswer::Nothing,
            ServerCondition::Reset | ServerCondition::Refusing | ServerCondition::Unnamed => {
                RegistryAnswer::Close
            }
        }
    }

    fn served(&self, request: &HttpRequest, after: Duration) -> RegistryAnswer {
        if request.path.starts_with("/token") {
            return self.issued(request, after);
        }
        match &request.authorization {
            None if self.sign_in == SignInMethod::Anonymous => send(after, 200, Vec::new(), "{}"),
            Some(_) if self.admits(request) => send(after, 200, Vec::new(), "{}"),
            // A wrong password is refused, even where none is needed.
            _ => send(after, 401, vec![("www-authenticate", self.challenge())], DENIED),
        }
    }

    /// The answer of the token service.
    fn issued(&self, request: &HttpRequest, after: Duration) -> RegistryAnswer {
        if self.knows(request) {
            let body = format!("{{\"token\":\"{}\"}}", self.token());
            return send(after, 200, Vec::new(), &body);
        }
        send(after, 401, Vec::new(), DENIED)
    }

    /// Whether the registry accepts what the client shows.
    fn admits(&self, request: &HttpRequest) -> bool {
        match self.sign_in {
            SignInMethod::Anonymous | SignInMethod::Basic => self.knows(request),
            SignInMethod::Token | SignInMethod::TokenElsewhere => {
                request.authorization == Some(format!("Bearer {}", self.token()))
            }
        }
    }

    /// Whether the client shows the password.
    fn knows(&self, request: &HttpRequest) -> bool {
        request.login().is_some_and(|(_, password)| password == self.password)
    }

    fn token(&self) -> String {
        format!("token-{}", self.host)
    }

    fn challenge(&self) -> String {
        let at = |host: &str| format!("Bearer realm=\"http://{host}/token\",service=\"{}\"", self.host);
        match self.sign_in {
            SignInMethod::Anonymous | SignInMethod::Basic => "Basic realm=\"registry\"".to_owned(),
            SignInMethod::Token => at(&self.host),
            SignInMethod::TokenElsewhere => at(ELSEWHERE),
        }
    }
}

/// The host of a token service at another site than all registries.
pub const ELSEWHERE: &str = "tokens.elsewhere.example";

const DENIED: &str = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}";

fn send(after: Duration, status: u16, headers: Vec<(&'static str, String)>, body: &str) -> RegistryAnswer {
    RegistryAnswer::Send { after, status, headers, body: body.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(sign_in: SignInMethod, path: &str, authorization: Option<&str>) -> u16 {
        let behaviour = RegistryBehaviour {
            host: "r0.example".to_owned(),
            sign_in,
            condition: ServerCondition::Up,
            password: "good".to_owned(),
        };
        let authorization = authorization.map(ToOwned::to_owned);
        let request = HttpRequest { method: "GET".to_owned(), path: path.to_owned(), authorization };
        match behaviour.answer(&request) {
            RegistryAnswer::Send { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn serves_only_who_signs_in() {
        let (good, bad) = ("Basic dXNlcjpnb29k", "Basic dXNlcjpiYWQ=");
        assert_eq!(status(SignInMethod::Basic, "/v2/", None), 401);
        assert_eq!(status(SignInMethod::Basic, "/v2/", Some(bad)), 401);
        assert_eq!(status(SignInMethod::Basic, "/v2/", Some(good)), 200);
        assert_eq!(status(SignInMethod::Anonymous, "/v2/", None), 200);
        assert_eq!(status(SignInMethod::Token, "/v2/", Some(good)), 401, "it wants a token");
        assert_eq!(status(SignInMethod::Token, "/token?service=x", Some(bad)), 401);
        assert_eq!(status(SignInMethod::Token, "/token?service=x", Some(good)), 200);
        assert_eq!(status(SignInMethod::Token, "/v2/", Some("Bearer token-r0.example")), 200);
    }
}
