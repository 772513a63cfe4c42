//! Docker configurations, made here, and read by the kubelet's and by Docker's own reader.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use registry_probe::{Credentials, CredentialsError, DockerConfigError, Endpoint, RepositoryName};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::docker_cases::{Case, cases};
use super::{Listed, SEED, expect_only_listed, go_readers};

const COUNT: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    username: Option<String>,
    password: Option<String>,
    identity_token: Option<String>,
    registry_token: Option<String>,
}

impl Login {
    /// User name, password, identity token and registry token, as far as they are text.
    fn texts(&self) -> [Option<String>; 4] {
        let text = |field: &Option<String>| {
            let bytes = STANDARD.decode(field.as_deref().unwrap_or_default()).unwrap();
            String::from_utf8(bytes).ok()
        };
        [&self.username, &self.password, &self.identity_token, &self.registry_token].map(text)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kubelet {
    readable: bool,
    firsts_that_say: Option<Vec<Login>>,
}

#[derive(Debug, Deserialize)]
struct Docker {
    logins: Option<Vec<Login>>,
}

#[derive(Debug, Deserialize)]
struct Answers {
    kubelet: Kubelet,
    docker: Docker,
}

/// What each of us makes of one configuration.
#[derive(Debug)]
struct Reading {
    #[expect(dead_code, reason = "shown")]
    case: String,
    endpoint: Endpoint,
    config: Vec<u8>,
    has_key_twice: bool,
    is_readable: bool,
    kubelet: Vec<[Option<String>; 4]>,
    docker: Vec<[Option<String>; 4]>,
    ours: Result<[Option<String>; 4], DockerConfigError>,
}

impl Reading {
    fn of(case: Case, answers: Answers) -> Self {
        let endpoint = Endpoint::parse(&case.endpoint).unwrap();
        let base = case.base_path.as_deref().map(|path| RepositoryName::parse(path).unwrap());
        let ours = Credentials::from_dockerconfigjson_below(&case.config, &endpoint, base.as_ref());
        let texts =
            |logins: Option<Vec<Login>>| logins.into_iter().flatten().map(|login| login.texts()).collect();
        Self {
            case: format!("{} {} {}", case.endpoint, case.image, String::from_utf8_lossy(&case.config)),
            endpoint,
            config: case.config,
            has_key_twice: case.has_key_twice,
            is_readable: answers.kubelet.readable,
            kubelet: texts(answers.kubelet.firsts_that_say),
            docker: texts(answers.docker.logins),
            ours: ours.map(|ours| texts_of(&ours)),
        }
    }

    /// Whether we use what the kubelet uses, or nothing as it does.
    fn is_as_kubelet(&self) -> bool {
        match &self.ours {
            Ok(ours) => self.kubelet.contains(ours),
            Err(_) => self.kubelet.is_empty(),
        }
    }

    fn is_unusable(&self, is: impl Fn(CredentialsError) -> bool) -> bool {
        matches!(&self.ours, Err(DockerConfigError::Unusable { cause, .. }) if is(*cause))
    }

    fn has(&self, text: &str) -> bool {
        self.config.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
    }

    fn is_hub(&self) -> bool {
        self.endpoint.to_string().contains("docker.io")
    }

    /// Whether a key names the scheme's own port.
    fn spells_out_default_port(&self) -> bool {
        let port = if self.endpoint.to_string().starts_with("https:") { ":443" } else { ":80" };
        ["\"", "/", "#", "?", "\\/"].iter().any(|end| self.has(&format!("{port}{end}")))
    }
}

fn texts_of(credentials: &Credentials) -> [Option<String>; 4] {
    let some = |text: &str| Some(text.to_owned());
    match credentials {
        Credentials::Basic { username, password } => {
            [some(username), some(password.expose_secret()), some(""), some("")]
        }
        Credentials::IdentityToken { username, token } => {
            [some(username.as_deref().unwrap_or_default()), some(""), some(token.expose_secret()), some("")]
        }
        Credentials::RegistryToken(token) => [some(""), some(""), some(""), some(token.expose_secret())],
    }
}

#[test]
#[ignore = "needs target/tools/bin/go-readers, which `make tools` builds"]
fn reads_docker_config_as_kubelet_does() {
    let cases = cases(SEED, COUNT);
    let lines = cases.iter().map(|case| {
        let config = STANDARD.encode(&case.config);
        json!({"config": config, "image": case.image, "host": case.host}).to_string() + "\n"
    });
    let answers: Vec<Answers> = go_readers(&["docker"], lines.collect::<String>().into_bytes());
    assert_eq!(answers.len(), COUNT);
    let all: Vec<_> =
        cases.into_iter().zip(answers).map(|(case, answers)| Reading::of(case, answers)).collect();
    let used = all.iter().filter(|reading| reading.ours.is_ok()).count();
    assert!(
        (COUNT / 4..COUNT * 3 / 4).contains(&used),
        "the generator has become one-sided: {used} are used"
    );
    let apart =
        all.iter().filter(|reading| reading.is_as_kubelet() && reading.docker != reading.kubelet).count();
    println!(
        "{apart:6} of {COUNT}: Docker's command line and the kubelet differ, and the kubelet, which pulls, is followed"
    );
    let disagreements: Vec<_> = all.into_iter().filter(|reading| !reading.is_as_kubelet()).collect();
    expect_only_listed(&disagreements, COUNT, LISTED);
}

const LISTED: &[Listed<Reading>] = &[
    Listed {
        reason: "what no HTTP header carries (control characters, a line break at the end) is refused before it is sent",
        holds: |it| {
            it.is_unusable(|cause| {
                matches!(cause, CredentialsError::Control(_) | CredentialsError::LineBreak(_))
            })
        },
    },
    Listed {
        reason: "a user name with a colon would be read as another user's (RFC 7617)",
        holds: |it| it.is_unusable(|cause| cause == CredentialsError::Colon),
    },
    Listed {
        reason: "a login that is not UTF-8 can't be handed to the container runtime: its API takes text",
        holds: |it| it.ours.is_err() && it.kubelet.iter().any(|login| login.contains(&None)),
    },
    Listed {
        reason: "identity and registry tokens are used as Docker uses them; the kubelet does not know them",
        holds: |it| {
            let is_token =
                |login: &[Option<String>; 4]| login[2..].iter().any(|token| token.as_deref() != Some(""));
            it.ours.as_ref().is_ok_and(is_token)
                || it.is_unusable(|cause| {
                    matches!(cause, CredentialsError::NotAToken | CredentialsError::EmptyToken)
                })
        },
    },
    Listed {
        reason: "NULs round a password are Docker's padding, and are dropped as Docker drops them",
        holds: |it| {
            let trimmed = |login: &[Option<String>; 4]| {
                let [user, password, ..] = login.clone();
                [
                    user,
                    password.map(|password| password.trim_matches('\0').to_owned()),
                    Some(String::new()),
                    Some(String::new()),
                ]
            };
            it.ours.as_ref().is_ok_and(|ours| it.kubelet.iter().any(|login| trimmed(login) == *ours))
        },
    },
    Listed {
        reason: "all names of Docker Hub are one host, at whatever port the endpoint has it",
        holds: |it| it.is_hub() && it.ours.is_ok() && it.kubelet.is_empty() && it.has("docker.io"),
    },
    Listed {
        reason: "the scheme's own port may be spelled out: the owner of the password named this server and this port",
        holds: |it| it.ours.is_ok() && it.kubelet.is_empty() && it.spells_out_default_port(),
    },
    Listed {
        reason: "of a key that stands twice the last entry alone is looked at; Go refuses the file for the first one's auth",
        holds: |it| it.ours.is_ok() && !it.is_readable && it.has_key_twice,
    },
    Listed {
        reason: "an IPv6 address without a port is a pattern to the kubelet, and a host to Docker",
        holds: |it| it.ours.is_ok() && it.kubelet.is_empty() && it.endpoint.to_string().contains('['),
    },
    Listed {
        reason: "`/v1` and `/v2` without a slash behind them are the version of an API to Docker",
        holds: |it| it.ours.is_ok() && (it.has("/v1\"") || it.has("/v2\"")),
    },
];
