//! The rows of real registries.

use std::sync::Arc;

use registry_testbed::process::Scratch;
use serde_json::{Value, json};

use super::Program;
use super::keys::{Kind, Proof, Signer, claims, signing, strict};
use super::registry::{Auth, Running, Tls, fill, start};
use crate::hosts::{Host, PortBehaviour, host};
use crate::pki::{CertificateKind, Client, Clients, GivenCa};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, TokenCall};
use crate::secrets::USER;
use crate::spec::{Spec, docker_auth, identity, right, spec, wrong, wrong_identity};
use crate::support::Answer;

/// The token service's port, at whatever address a row has it.
const AUTH_PORT: u16 = 5151;
const REALM: &str = "https://auth.example.com:5151/token";

/// What the registries hold.
const REPOSITORIES: [&str; 3] = ["hello", "team/packs/hello", "team/others"];

/// All rows of a program, and the processes that they speak with.
pub async fn of(program: &Program) -> (Vec<Row>, Vec<Running>) {
    let storage = Scratch::new("verdicts-storage").unwrap();
    fill(program, storage.path(), &REPOSITORIES).await;
    let mut troupe =
        ProcessGroup { program, storage: Arc::new(storage), running: Vec::new(), rows: Vec::new() };
    troupe.anonymous().await;
    troupe.passwords().await;
    troupe.certificates().await;
    troupe.client_certificates().await;
    for (kind, name) in [(Kind::Rsa, "RSA"), (Kind::Ec, "EC")] {
        let signer = Signer::new(kind);
        troupe.tokens(name, &signer, Proof::Certificate, false).await;
        if program.is_new {
            troupe.tokens(&format!("{name} by key set"), &signer, Proof::KeyId, true).await;
        }
    }
    if program.is_new {
        troupe.own_tokens().await;
    }
    let keep = troupe.storage.clone();
    let running = troupe.running.into_iter().map(|running| running.keeping(keep.clone())).collect();
    (troupe.rows, running)
}

/// A program's processes, as they are started, and the rows about them.
struct ProcessGroup<'a> {
    program: &'a Program,
    storage: Arc<Scratch>,
    running: Vec<Running>,
    rows: Vec<Row>,
}

const ANONYMOUS: &str = "+Resolved +Reachable -PlainHTTP +AnonymousAccess ?Inconclusive = +Available";
const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const REQUIRED: &str = "+Resolved +Reachable +Verified -Required . = -Required stalled";
const NOT_FOUND: &str = "+Resolved +Reachable +Verified +Validated -NotFound = -NotFound stalled";
const DENIED: &str = "+Resolved +Reachable +Verified +Validated -Denied = -Denied stalled";
const TOKEN_REFUSED: &str = "+Resolved +Reachable +Verified -TokenRefused . = -TokenRefused stalled";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";
const SKIPPED: &str = "+Resolved +Reachable -VerificationSkipped +Validated ?Inconclusive = +Available";
const UNKNOWN_ISSUER: &str = "+Resolved +Reachable -UnknownIssuer . . = -UnknownIssuer stalled";
const NO_CLIENT: &str =
    "+Resolved +Reachable -ClientCertificateRequired . . = -ClientCertificateRequired stalled";

const COMPANY: Tls = Tls::Server(CertificateKind::Company, Clients::NotAsked);

impl ProcessGroup<'_> {
    /// One more process, as a row's host.
    async fn registry(&mut self, auth: &Auth, tls: Tls) -> Host {
        let running = start(self.program, self.storage.path(), auth, tls).await;
        let door = PortBehaviour::Process { port: running.port, secure: running.secure };
        self.running.push(running);
        host("registry", |_| Answer::Close).behind(door)
    }

    fn row(
        &mut self,
        name: &str,
        hosts: &[Host],
        spec: Spec,
        permits: &'static [&'static str],
        expected: &'static str,
    ) {
        self.rows.push(row(name, hosts.to_vec(), spec, permits, expected));
    }

    async fn anonymous(&mut self) {
        let hosts = [self.registry(&Auth::Anonymous, Tls::None).await];
        let mut asks = |name, spec, expected| self.row(name, &hosts, spec, REGISTRY, expected);
        asks("anonymous, no credentials", spec(), ANONYMOUS);
        asks(
            "anonymous, a repository",
            spec().repository("hello"),
            "+Resolved +Reachable -PlainHTTP +AnonymousAccess +Accessible = +Available",
        );
        asks(
            "anonymous, a repository that does not exist",
            spec().repository("missing"),
            "+Resolved +Reachable -PlainHTTP +AnonymousAccess -NotFound = -NotFound stalled",
        );
        asks(
            "anonymous, a password",
            right(),
            "+Resolved +Reachable -PlainHTTP ?Unprovable ?Inconclusive = +CredentialsUnprovable",
        );
        asks(
            "anonymous, a password and a repository",
            wrong().repository("hello"),
            "+Resolved +Reachable -PlainHTTP ?Unprovable +Accessible = +CredentialsUnprovable",
        );
        asks(
            "anonymous, a wrong suffix",
            spec().endpoint("{registry}/other"),
            "+Resolved -NotARegistry -PlainHTTP . . = -NotARegistry stalled",
        );
        asks(
            "anonymous, asked over TLS",
            spec().endpoint("https://{registry.host}:{registry.port}"),
            "+Resolved +Reachable -HandshakeFailed . . = -HandshakeFailed stalled",
        );
    }

    async fn passwords(&mut self) {
        let clear = [self.registry(&Auth::Htpasswd, Tls::None).await];
        let mut asks = |name, spec, expected| self.row(name, &clear, spec, REGISTRY, expected);
        asks(
            "htpasswd in the clear, right",
            right(),
            "+Resolved +Reachable -PlainHTTP +Validated ?Inconclusive = +Available",
        );
        asks(
            "htpasswd in the clear, wrong",
            wrong(),
            "+Resolved +Reachable -PlainHTTP -Rejected . = -Rejected stalled",
        );
        asks(
            "htpasswd in the clear, none",
            spec(),
            "+Resolved +Reachable -PlainHTTP -Required . = -Required stalled",
        );

        let secure = [self.registry(&Auth::Htpasswd, COMPANY).await];
        let config = spec().docker_config(&json!({"auths": {"{registry.host}:{registry.port}": {"auth": docker_auth(USER, crate::secrets::PASSWORD)}}}));
        let mut asks = |name, spec, expected| self.row(name, &secure, spec, REGISTRY, expected);
        asks("htpasswd, right", right(), VALIDATED);
        asks("htpasswd, wrong", wrong(), REJECTED);
        asks("htpasswd, none", spec(), REQUIRED);
        asks("htpasswd, another user", spec().login("bob", crate::secrets::PASSWORD), REJECTED);
        asks("htpasswd, an empty password", spec().login(USER, ""), REJECTED);
        asks("htpasswd, a Docker configuration", config, VALIDATED);
        asks("htpasswd, a repository", right().repository("hello"), READ);
        asks(
            "htpasswd, a repository below a base path",
            right().below("team/packs").repository("hello"),
            READ,
        );
        asks("htpasswd, a base path alone", right().below("team/packs"), VALIDATED);
        asks("htpasswd, a repository that does not exist", right().repository("missing"), NOT_FOUND);
        asks(
            "htpasswd, a registry token",
            spec().token_secret(&[("token", "eyJhbGciOiJub25lIn0.e30.x")]),
            REJECTED,
        );
        asks(
            "htpasswd, asked in the clear",
            right().endpoint("http://{registry.host}:{registry.port}"),
            "+Resolved -NotARegistry -PlainHTTP . . = -NotARegistry stalled",
        );
    }

    async fn certificates(&mut self) {
        let tls = |shows| Tls::Server(shows, Clients::NotAsked);
        let stranger = [self.registry(&Auth::Htpasswd, tls(CertificateKind::Stranger)).await];
        self.row("of no public authority", &stranger, right().public_roots(), NOWHERE, UNKNOWN_ISSUER);
        self.row("of another authority than the given one", &stranger, right(), NOWHERE, UNKNOWN_ISSUER);
        self.row("of the given authority", &stranger, right().trusts(GivenCa::Stranger), REGISTRY, VALIDATED);
        self.row("skipped, of a stranger", &stranger, right().skip(), REGISTRY, SKIPPED);
        self.row(
            "skipped, a wrong password",
            &stranger,
            wrong().skip(),
            REGISTRY,
            "+Resolved +Reachable -VerificationSkipped -Rejected . = -Rejected stalled",
        );
        let own = [self.registry(&Auth::Htpasswd, tls(CertificateKind::SelfSigned)).await];
        self.row("self-signed", &own, right(), NOWHERE, UNKNOWN_ISSUER);
        self.row("self-signed, and given", &own, right().trusts(GivenCa::SelfSigned), REGISTRY, VALIDATED);
        for (name, shows, expected) in [
            ("expired", CertificateKind::Expired, "+Resolved +Reachable -Expired . . = -Expired stalled"),
            (
                "not yet valid",
                CertificateKind::NotYetValid,
                "+Resolved +Reachable -NotYetValid . . = -NotYetValid stalled",
            ),
            (
                "for another host",
                CertificateKind::OtherHost,
                "+Resolved +Reachable -HostnameMismatch . . = -HostnameMismatch stalled",
            ),
            ("an intermediate that is missing", CertificateKind::DepartmentBare, UNKNOWN_ISSUER),
            (
                "expired, of a stranger, for another host",
                CertificateKind::StrangerExpiredOtherHost,
                UNKNOWN_ISSUER,
            ),
        ] {
            let hosts = [self.registry(&Auth::Htpasswd, tls(shows)).await];
            self.row(name, &hosts, right(), NOWHERE, expected);
            self.row(&format!("skipped, {name}"), &hosts, right().skip(), REGISTRY, SKIPPED);
        }
        let department = [self.registry(&Auth::Htpasswd, tls(CertificateKind::Department)).await];
        self.row("an intermediate that is shown", &department, right(), REGISTRY, VALIDATED);
    }

    async fn client_certificates(&mut self) {
        let hosts =
            [self.registry(&Auth::Htpasswd, Tls::Server(CertificateKind::Company, Clients::Required)).await];
        self.row("client certificates, none", &hosts, right(), NOWHERE, NO_CLIENT);
        self.row("client certificates, right", &hosts, right().client(Client::Right), REGISTRY, VALIDATED);
        self.row(
            "client certificates, right, and a wrong password",
            &hosts,
            wrong().client(Client::Right),
            REGISTRY,
            REJECTED,
        );
        self.row(
            "client certificates, a stranger's",
            &hosts,
            right().client(Client::OfStrangers),
            NOWHERE,
            NO_CLIENT,
        );
        self.row("client certificates, expired", &hosts, right().client(Client::Expired), NOWHERE, NO_CLIENT);
        let open =
            [self.registry(&Auth::Anonymous, Tls::Server(CertificateKind::Company, Clients::Required)).await];
        self.row(
            "client certificates instead of passwords",
            &open,
            spec().client(Client::Right),
            NOWHERE,
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        );
    }

    async fn tokens(&mut self, what: &str, signer: &Signer, proof: Proof, by_key_set: bool) {
        let auth = Auth::Token { realm: REALM.into(), signer: signer.clone(), by_key_set };
        let registry = self.registry(&auth, COMPANY).await;
        let service = |signer: &Signer, answer: fn(&TokenCall) -> Option<Value>| {
            [registry.clone(), host("auth", signing(signer, proof, answer)).at_port(AUTH_PORT)]
        };
        let mut asks = |name: &str, hosts: &[Host], spec, expected| {
            self.row(&format!("tokens of {what}, {name}"), hosts, spec, AUTH, expected)
        };
        let alice = service(signer, strict);
        asks("right", &alice, right(), VALIDATED);
        asks("wrong", &alice, wrong(), REJECTED);
        asks("none", &alice, spec(), REQUIRED);
        asks("an identity token", &alice, identity(), VALIDATED);
        asks("a withdrawn identity token", &alice, wrong_identity(), REJECTED);
        asks("a repository", &alice, right().below("team/packs").repository("hello"), READ);
        asks("a repository that does not exist", &alice, right().repository("missing"), NOT_FOUND);
        asks("a repository of others", &alice, right().below("team").repository("others"), DENIED);
        let everybody =
            service(signer, |call| Some(claims((call.caller == Caller::Alice).then_some(USER), None)));
        asks("everybody gets a token, and Alice hers", &everybody, right(), VALIDATED);
        asks(
            "everybody gets a token, none",
            &everybody,
            spec(),
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        );
        let alike = service(signer, |_| Some(claims(None, None)));
        asks("everybody gets the same token", &alike, right(), UNPROVABLE);
        asks("everybody gets the same token, wrong", &alike, wrong(), UNPROVABLE);
        asks(
            "everybody gets the same token, a private repository",
            &service(signer, only_alice_pulls),
            right().repository("hello"),
            READ,
        );
        let strange = service(&Signer::new(Kind::Ec), strict);
        asks("signed by a key that the registry does not know", &strange, right(), TOKEN_REFUSED);
        asks(
            "for another service",
            &service(signer, |call| changed(call, "aud", &"other".into())),
            right(),
            TOKEN_REFUSED,
        );
        asks(
            "of another issuer",
            &service(signer, |call| changed(call, "iss", &"other".into())),
            right(),
            TOKEN_REFUSED,
        );
        asks(
            "that has ended",
            &service(signer, |call| changed(call, "exp", &1_600_000_000.into())),
            right(),
            TOKEN_REFUSED,
        );
        asks(
            "that is yet to begin",
            &service(signer, |call| changed(call, "nbf", &4_000_000_000_u64.into())),
            right(),
            TOKEN_REFUSED,
        );
        let given = |claims: &Value| spec().token_secret(&[("token", &signer.sign(proof, claims))]);
        let mut ended = claims(Some(USER), None);
        ended["exp"] = 1_600_000_000.into();
        let own = [registry.clone(), host("auth", signing(signer, proof, strict)).at_port(AUTH_PORT)];
        asks("given by the user", &own, given(&claims(Some(USER), None)), VALIDATED);
        asks(
            "given by the user, for a repository",
            &own,
            given(&claims(Some(USER), Some(("hello", &["pull"])))).repository("hello"),
            READ,
        );
        asks(
            "given by the user, and ended",
            &own,
            given(&ended),
            "+Resolved +Reachable +Verified -Expired . = -Expired stalled",
        );
    }

    /// The registry names a token service at whatever host it is asked by.
    async fn own_tokens(&mut self) {
        let registry = self.registry(&Auth::OwnToken { signer: Signer::new(Kind::Ec) }, COMPANY).await;
        // Nothing but the registry is at that port, and it has no token service.
        self.row(
            "a token service that is said to be at the registry's own host, and isn't",
            &[registry],
            right(),
            REGISTRY,
            "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling",
        );
    }
}

/// The strict service's token, but for one claim.
fn changed(call: &TokenCall, claim: &str, value: &Value) -> Option<Value> {
    let mut claims = strict(call)?;
    claims[claim] = value.clone();
    Some(claims)
}

/// Everyone gets a token that names nobody; only Alice's may pull.
fn only_alice_pulls(call: &TokenCall) -> Option<Value> {
    let may: &[&str] = if call.caller == Caller::Alice { &["pull"] } else { &[] };
    Some(claims(None, call.repository().map(|name| (name, may))))
}
