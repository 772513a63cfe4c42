//! Servers of other people: server × account × repository → verdict. What they are is in the testbed's `servers`.

use registry_testbed::servers::{
    OWNER_PASSWORD, Role, ServerCertificate, ServerError, TestServer, WRONG_PASSWORD, gitea, quick,
};

use crate::hosts::{PortBehaviour, host};
use crate::pki::{CertificateKind, GivenCa, PKI};
use crate::row::{REGISTRY, Row, row};
use crate::secrets::{self, USER};
use crate::spec::{Spec, spec};
use crate::support::Answer;

/// As whom a server is asked.
#[derive(Debug, Clone, Copy)]
enum Identity {
    Nobody,
    Account(Role),
    WrongPassword,
}

use Identity::{Nobody, WrongPassword};
const OWNER: Identity = Identity::Account(Role::Owner);
const PULL_ONLY: Identity = Identity::Account(Role::PullOnly);
const STRANGER: Identity = Identity::Account(Role::Stranger);

/// As whom, with which `validation.repository`, and the verdict's end: credentials, content path, Ready.
type Line = (Identity, Option<&'static str>, &'static str);

const ANONYMOUS: &str = "+AnonymousAccess ?Inconclusive = +Available";
const ANONYMOUS_READS: &str = "+AnonymousAccess +Accessible = +Available";
const ANONYMOUS_MISSES: &str = "+AnonymousAccess -NotFound = -NotFound stalled";
const ANONYMOUS_DENIED: &str = "+AnonymousAccess -Denied = -Denied stalled";
const UNPROVABLE: &str = "?Unprovable ?Inconclusive = +CredentialsUnprovable";
const UNPROVABLE_READS: &str = "?Unprovable +Accessible = +CredentialsUnprovable";
const UNPROVABLE_DENIED: &str = "?Unprovable -Denied = -Denied stalled";
const VALIDATED: &str = "+Validated ?Inconclusive = +Available";
const READS: &str = "+Validated +Accessible = +Available";
const MISSES: &str = "+Validated -NotFound = -NotFound stalled";
const DENIED: &str = "+Validated -Denied = -Denied stalled";
const REQUIRED: &str = "-Required . = -Required stalled";
/// Sent in any case: some registries serve public repositories to all clients, and `/v2/` to none.
const REQUIRED_DENIED: &str = "-Required -Denied = -Required stalled";
const REJECTED: &str = "-Rejected . = -Rejected stalled";

const OPEN_TO_ALL: &[Line] = &[
    (Nobody, None, ANONYMOUS),
    (Nobody, Some("hello"), ANONYMOUS_READS),
    (Nobody, Some("team/tagged"), ANONYMOUS_READS),
    (Nobody, Some("missing"), ANONYMOUS_MISSES),
    (OWNER, None, UNPROVABLE),
    (OWNER, Some("hello"), UNPROVABLE_READS),
    (WrongPassword, None, UNPROVABLE),
    (WrongPassword, Some("hello"), UNPROVABLE_READS),
];

const DENIES_ONE: &[Line] =
    &[(Nobody, Some("private/hello"), ANONYMOUS_DENIED), (OWNER, Some("private/hello"), UNPROVABLE_DENIED)];

const WITH_TOKENS: &[Line] = &[
    (Nobody, None, REQUIRED),
    (Nobody, Some("alice/hello"), REQUIRED_DENIED),
    (OWNER, None, VALIDATED),
    (OWNER, Some("alice/hello"), READS),
    (OWNER, Some("alice/tagged"), READS),
    (OWNER, Some("alice/missing"), MISSES),
    (WrongPassword, None, REJECTED),
    (WrongPassword, Some("alice/hello"), REJECTED),
    (STRANGER, None, VALIDATED),
    (STRANGER, Some("alice/hello"), DENIED),
];

const WITH_PASSWORDS: &[Line] = &[
    (Nobody, None, REQUIRED),
    (Nobody, Some("hello"), REQUIRED_DENIED),
    (OWNER, None, VALIDATED),
    (OWNER, Some("hello"), READS),
    (OWNER, Some("private/hello"), READS),
    (OWNER, Some("missing"), MISSES),
    (WrongPassword, None, REJECTED),
    (WrongPassword, Some("hello"), REJECTED),
    (PULL_ONLY, None, VALIDATED),
    (PULL_ONLY, Some("hello"), READS),
    (PULL_ONLY, Some("team/tagged"), READS),
    (PULL_ONLY, Some("private/hello"), DENIED),
];

const GITEA: &[Line] = &[
    (Nobody, None, ANONYMOUS),
    (Nobody, Some("alice/hello"), ANONYMOUS_READS),
    (Nobody, Some("alice/missing"), ANONYMOUS_MISSES),
    (Nobody, Some("team/hello"), REQUIRED_DENIED),
    (OWNER, None, VALIDATED),
    (OWNER, Some("alice/hello"), READS),
    (OWNER, Some("team/hello"), READS),
    (OWNER, Some("team/tagged"), READS),
    (OWNER, Some("team/missing"), MISSES),
    (WrongPassword, None, REJECTED),
    (WrongPassword, Some("alice/hello"), REJECTED),
    (WrongPassword, Some("team/hello"), REJECTED),
    (PULL_ONLY, None, VALIDATED),
    (PULL_ONLY, Some("team/hello"), READS),
    (PULL_ONLY, Some("team/tagged"), READS),
    (STRANGER, None, VALIDATED),
    (STRANGER, Some("alice/hello"), READS),
    (STRANGER, Some("team/hello"), DENIED),
];

fn lines(server: &str) -> Vec<Line> {
    match server {
        "ociregistry" => [OPEN_TO_ALL, DENIES_ONE].concat(),
        "go-containerregistry" | "distribution as a pull-through cache" | "nginx, passwords for pushes" => {
            OPEN_TO_ALL.to_vec()
        }
        "distribution with its token service" => WITH_TOKENS.to_vec(),
        "nginx" | "Apache" => WITH_PASSWORDS.to_vec(),
        "Gitea" => GITEA.to_vec(),
        other => panic!("no verdicts for {other}"),
    }
}

/// Servers that run, the rows about them, and what couldn't be had.
#[derive(Default)]
pub struct Servers {
    pub rows: Vec<Row>,
    pub skipped: Vec<String>,
    _running: Vec<TestServer>,
}

/// Those that build in seconds.
pub async fn of_seconds() -> Servers {
    let (chain_pem, key_pem) = PKI.for_server(CertificateKind::Company, "127.0.0.1");
    let certificate = ServerCertificate { chain_pem, key_pem, ca_pem: PKI.ca_pem(GivenCa::Company) };
    collect(quick(&certificate).await)
}

/// Those that take minutes to build.
pub async fn of_minutes() -> Servers {
    collect(vec![gitea().await])
}

fn collect(started: Vec<Result<TestServer, ServerError>>) -> Servers {
    let mut servers = Servers::default();
    for server in started {
        match server {
            Ok(server) => {
                servers.rows.extend(rows(&server));
                servers._running.push(server);
            }
            Err(ServerError::Debian(reason)) => servers.skipped.push(format!("a Debian server: {reason}")),
            Err(error) => panic!("{error}"),
        }
    }
    servers
}

fn rows(server: &TestServer) -> Vec<Row> {
    // What the rows say of secrets holds of these too.
    assert_eq!((OWNER_PASSWORD, WRONG_PASSWORD), (secrets::PASSWORD, secrets::WRONG_PASSWORD));
    let secure = server.ca_pem.is_some();
    let hosts =
        [host("registry", |_| Answer::Close).behind(PortBehaviour::Process { port: server.port, secure })];
    let tls = if secure { "+Verified" } else { "-PlainHTTP" };
    lines(server.name)
        .into_iter()
        .map(|(who, repository, end)| {
            let spec = who.asks(server);
            let spec = repository.into_iter().fold(spec, Spec::repository);
            // Rows call the registry by a name, and the token service is at its address: another site.
            let service = server.token_service.iter().map(|service| format!("127.0.0.1:{}", service.port));
            let spec = service.fold(spec, |spec, service| spec.trusting(&service));
            let name = format!("{who:?}, {}", repository.unwrap_or("no repository"));
            let expected = format!("+Resolved +Reachable {tls} {end}");
            row(name, hosts.to_vec(), spec, REGISTRY, &expected).under(server.name)
        })
        .collect()
}

impl Identity {
    fn asks(self, server: &TestServer) -> Spec {
        match self {
            Nobody => spec(),
            WrongPassword => spec().login(USER, WRONG_PASSWORD),
            Self::Account(role) => match server.account(role) {
                Some(account) => spec().login(&account.user, &account.password),
                None => spec().login(USER, OWNER_PASSWORD),
            },
        }
    }
}
