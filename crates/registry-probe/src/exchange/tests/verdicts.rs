//! The table of verdicts: behaviours of registries and token services, and the findings that follow.

use secrecy::SecretString;

use super::simulation::*;
use crate::credentials::Credentials;
use crate::exchange::{Failure, FailureCause};
use crate::findings::*;

/// A finding in a word or two.
fn word(finding: &CredentialsFinding) -> String {
    match finding {
        CredentialsFinding::Validated(evidence) => format!("Validated {evidence:?}"),
        CredentialsFinding::Rejected { by, .. } => format!("Rejected by {}", by.host),
        CredentialsFinding::Forbidden { by } => format!("Forbidden by {}", by.host),
        CredentialsFinding::TokenRefused { .. } => "TokenRefused".into(),
        CredentialsFinding::UnsupportedScheme { schemes } => {
            format!("UnsupportedScheme {}", schemes.join(","))
        }
        CredentialsFinding::UntrustedTokenService { cause, .. } => format!("Untrusted {cause:?}"),
        CredentialsFinding::Throttled { by } => format!("Throttled by {}", by.host),
        CredentialsFinding::TemporarilyUnavailable { cause, .. } => format!("Unavailable {cause:?}"),
        CredentialsFinding::Unprovable(why) => format!("Unprovable {why:?}"),
        other => format!("{other:?}"),
    }
}

fn path_word(finding: &ContentPathFinding) -> &'static str {
    match finding {
        ContentPathFinding::NotAttempted => "NotAttempted",
        ContentPathFinding::Accessible { .. } => "Accessible",
        ContentPathFinding::Denied { .. } => "Denied",
        ContentPathFinding::NotFound { .. } => "NotFound",
        ContentPathFinding::Inconclusive(_) => "Inconclusive",
    }
}

struct Row {
    name: &'static str,
    world: World,
    ask: SimulatedQuestion,
    credentials: &'static str,
    path: &'static str,
    requests: usize,
}

fn right() -> SimulatedQuestion {
    SimulatedQuestion { credentials: basic(PASSWORD), repository: None }
}

fn wrong() -> SimulatedQuestion {
    SimulatedQuestion { credentials: basic(WRONG), repository: None }
}

fn no_credentials() -> SimulatedQuestion {
    SimulatedQuestion { credentials: None, repository: None }
}

fn registry_token(token: &str) -> SimulatedQuestion {
    SimulatedQuestion {
        credentials: Some(Credentials::RegistryToken(SecretString::from(token))),
        repository: None,
    }
}

fn identity_token(token: &str) -> SimulatedQuestion {
    let token = SecretString::from(token);
    SimulatedQuestion {
        credentials: Some(Credentials::IdentityToken { username: Some("alice".into()), token }),
        repository: None,
    }
}

fn at_hello(ask: SimulatedQuestion) -> SimulatedQuestion {
    SimulatedQuestion { repository: Some("hello"), ..ask }
}

fn bearer(registry: SimulatedRegistry, service: Service) -> World {
    World { registry, service }
}

fn challenged(challenges: &[&str]) -> World {
    let challenges = challenges.iter().map(|challenge| (*challenge).to_owned()).collect();
    bearer(SimulatedRegistry { challenges, ..SimulatedRegistry::default() }, Service::default())
}

fn open(registry: SimulatedRegistry) -> World {
    bearer(SimulatedRegistry { open: true, ..registry }, Service::default())
}

fn row(
    name: &'static str,
    world: World,
    ask: SimulatedQuestion,
    credentials: &'static str,
    path: &'static str,
    requests: usize,
) -> Row {
    Row { name, world, ask, credentials, path, requests }
}

fn check(rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for Row { name, world, ask, credentials, path, requests } in rows {
        let run = world.probe(&ask);
        let found =
            (word(&run.verdict.credentials), path_word(&run.verdict.content_path), run.requests.len());
        if (&*found.0, found.1, found.2) != (credentials, path, requests) {
            wrong.push(format!(
                "{name}\n  expected {credentials}, {path}, {requests}\n  found    {}, {}, {}\n  {:#?}",
                found.0, found.1, found.2, run.requests
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn basic_credentials() {
    let closed = || challenged(&[BASIC]);
    let lenient = || open(SimulatedRegistry { challenges: vec![], ..SimulatedRegistry::default() });
    let strict =
        || open(SimulatedRegistry { challenges: vec![BASIC.into()], checks_when_open: true, ..SimulatedRegistry::default() });
    let private = || open(SimulatedRegistry { challenges: vec![BASIC.into()], ..SimulatedRegistry::default() });
    let public = || open(SimulatedRegistry { challenges: vec![], public: true, ..SimulatedRegistry::default() });
    check(vec![
        row("right", closed(), right(), "Validated RefusedWithout", "Inconclusive", 2),
        row("wrong", closed(), wrong(), "Rejected by registry.example.com", "NotAttempted", 2),
        row("none", closed(), no_credentials(), "Required", "NotAttempted", 1),
        row("right, repository", closed(), at_hello(right()), "Validated RefusedWithout", "Accessible", 3),
        row("open", lenient(), no_credentials(), "AnonymousAccess", "Inconclusive", 1),
        row("open, credentials ignored", lenient(), right(), "Unprovable AnonymousServed", "Inconclusive", 2),
        row("open, wrong ones too", lenient(), wrong(), "Unprovable AnonymousServed", "Inconclusive", 2),
        row("open but checked: right", strict(), right(), "Unprovable AnonymousServed", "Inconclusive", 2),
        row("open but checked: wrong", strict(), wrong(), "Rejected by registry.example.com", "NotAttempted", 2),
        row("open, private repository", private(), at_hello(right()), "Validated RefusedWithout", "Accessible", 4),
        row("open, private, wrong", private(), at_hello(wrong()), "Rejected by registry.example.com", "NotAttempted", 3),
        row("open, private, none", private(), at_hello(no_credentials()), "Required", "Denied", 3),
        row("open, public repository", public(), at_hello(right()), "Unprovable AnonymousServed", "Accessible", 4),
        row("open, public, none", public(), at_hello(no_credentials()), "AnonymousAccess", "Accessible", 2),
        row("Digest only", challenged(&["Digest realm=\"x\""]), right(), "UnsupportedScheme Digest", "NotAttempted", 1),
        row("Negotiate only", challenged(&["Negotiate, NTLM"]), no_credentials(), "UnsupportedScheme Negotiate,NTLM", "NotAttempted", 1),
        row("Digest beside Basic", challenged(&["Digest realm=\"x\"", BASIC]), right(), "Validated RefusedWithout", "Inconclusive", 2),
        row("no challenge at all", challenged(&[]), right(), "Rejected by registry.example.com", "NotAttempted", 2),
        row("no challenge at all, none", challenged(&[]), no_credentials(), "Required", "NotAttempted", 1),
        row("identity token under Basic", closed(), identity_token(IDENTITY_TOKEN), "UnsupportedScheme Basic", "NotAttempted", 1),
        row("identity token, open", lenient(), identity_token(IDENTITY_TOKEN), "Unprovable NothingAskedForToken", "Inconclusive", 1),
        row("identity token, open, repository", lenient(), at_hello(identity_token(IDENTITY_TOKEN)), "Unprovable NothingAskedForToken", "Denied", 2),
        row("registry token under Digest", challenged(&["Digest realm=\"x\""]), registry_token("x"), "UnsupportedScheme Digest", "NotAttempted", 1),
        row("registry token under Basic", closed(), registry_token("x"), "Rejected by registry.example.com", "NotAttempted", 2),
    ]);
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn token_services() {
    let harbor = |tokens| Service {
        anonymous: Gives::TokenForScopeOnly,
        wrong: Gives::TokenForScopeOnly,
        tokens,
        ..Service::default()
    };
    let hub = |tokens| Service { tokens, ..Service::default() };
    let guarded = || Service { anonymous: Gives::Status(401), ..Service::default() };
    let named = || SimulatedRegistry { v2: Opens::Named, ..SimulatedRegistry::default() };
    let any = SimulatedRegistry::default;
    let public = || SimulatedRegistry { public: true, ..SimulatedRegistry::default() };
    check(vec![
        row("guarded, right", bearer(any(), guarded()), right(), "Validated RefusedWithout", "Inconclusive", 4),
        row("guarded, wrong", bearer(any(), guarded()), wrong(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("guarded, none", bearer(any(), guarded()), no_credentials(), "Required", "NotAttempted", 2),
        row("names the account", bearer(any(), hub(SimulatedTokens::Named)), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("names a number", bearer(any(), hub(SimulatedTokens::Numbered)), right(), "Validated NamedInToken", "Inconclusive", 4),
        row("a number for everybody", bearer(any(), hub(SimulatedTokens::AllNumbered)), right(), "Unprovable AnonymousTokenServed", "Inconclusive", 5),
        row("opaque, for everybody", bearer(any(), hub(SimulatedTokens::Opaque)), right(), "Unprovable AnonymousTokenServed", "Inconclusive", 5),
        row("opaque, /v2/ for accounts", bearer(named(), hub(SimulatedTokens::Opaque)), right(), "Validated RefusedWithout", "Inconclusive", 5),
        row("nameless", bearer(any(), hub(SimulatedTokens::Nameless)), right(), "Unprovable AnonymousTokenServed", "Inconclusive", 5),
        row("for everybody, wrong", bearer(any(), hub(SimulatedTokens::Opaque)), wrong(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("for everybody, none", bearer(any(), hub(SimulatedTokens::Opaque)), no_credentials(), "AnonymousAccess", "Inconclusive", 3),
        row("Harbor, right", bearer(named(), harbor(SimulatedTokens::Named)), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("Harbor, wrong", bearer(named(), harbor(SimulatedTokens::Named)), wrong(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("Harbor, wrong, repository", bearer(named(), harbor(SimulatedTokens::Named)), at_hello(wrong()), "Rejected by auth.example.com", "NotAttempted", 2),
        row("Harbor, none", bearer(named(), harbor(SimulatedTokens::Named)), no_credentials(), "Required", "NotAttempted", 2),
        row("Harbor, none, public", bearer(SimulatedRegistry { public: true, ..named() }, harbor(SimulatedTokens::Named)), at_hello(no_credentials()), "AnonymousAccess", "Accessible", 4),
        row("private repository", bearer(any(), hub(SimulatedTokens::Opaque)), at_hello(right()), "Validated RefusedWithout", "Accessible", 6),
        row("private repository, guarded", bearer(any(), guarded()), at_hello(right()), "Validated RefusedWithout", "Accessible", 6),
        row("private repository, nameless", bearer(any(), hub(SimulatedTokens::Nameless)), at_hello(right()), "Validated GrantedInToken", "Accessible", 5),
        row("private repository, named", bearer(any(), hub(SimulatedTokens::Named)), at_hello(right()), "Validated NamedInToken", "Accessible", 4),
        row("public repository", bearer(public(), hub(SimulatedTokens::Opaque)), at_hello(right()), "Unprovable AnonymousTokenServed", "Accessible", 8),
        row("public, /v2/ for accounts", bearer(SimulatedRegistry { public: true, ..named() }, hub(SimulatedTokens::Opaque)), at_hello(right()), "Validated RefusedWithout", "Accessible", 8),
        row("denied repository", bearer(SimulatedRegistry { denies_alice: true, ..any() }, hub(SimulatedTokens::Named)), at_hello(right()), "Validated NamedInToken", "Denied", 6),
        row("denied repository, opaque", bearer(SimulatedRegistry { denies_alice: true, ..named() }, hub(SimulatedTokens::Opaque)), at_hello(right()), "Validated RefusedWithout", "Denied", 8),
        row("missing repository", bearer(SimulatedRegistry { exists: false, ..any() }, hub(SimulatedTokens::Named)), at_hello(right()), "Validated NamedInToken", "NotFound", 6),
        row("token refused", bearer(SimulatedRegistry { v2: Opens::Never, ..any() }, hub(SimulatedTokens::Named)), right(), "TokenRefused", "NotAttempted", 3),
        row("/v2/ takes none, repository", bearer(SimulatedRegistry { v2: Opens::Never, ..any() }, hub(SimulatedTokens::Opaque)), at_hello(right()), "Validated RefusedWithout", "Accessible", 6),
        row("/v2/ without scope only", bearer(SimulatedRegistry { v2: Opens::WithoutScope, ..any() }, guarded()), right(), "Validated RefusedWithout", "Inconclusive", 4),
    ]);
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn token_service_redirects_table() {
    let scoped_challenge = format!("{BEARER},scope=\"repository:x:pull\"");
    let wants_scope =
        |status| Service { without_scope: Some(status), anonymous: Gives::Status(401), ..Service::default() };
    let scoped = || SimulatedRegistry {
        challenges: vec![scoped_challenge.clone()],
        v2: Opens::WithScope,
        ..SimulatedRegistry::default()
    };
    let post_only = || Service { get: false, tokens: SimulatedTokens::Named, ..Service::default() };
    let get_only = || Service { post: false, tokens: SimulatedTokens::Named, ..Service::default() };
    let field = |field| Service { field, tokens: SimulatedTokens::Named, ..Service::default() };
    check(vec![
        row("scope wanted by the service", bearer(scoped(), wants_scope(400)), right(), "Validated RefusedWithout", "Inconclusive", 5),
        row("scope wanted, wrong password", bearer(scoped(), wants_scope(400)), wrong(), "Rejected by auth.example.com", "NotAttempted", 3),
        row("scope wanted by /v2/", bearer(scoped(), Service { tokens: SimulatedTokens::Named, ..Service::default() }), right(), "Validated NamedInToken", "Inconclusive", 4),
        row("400 for good", bearer(SimulatedRegistry::default(), wants_scope(400)), right(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("403 from the service", bearer(SimulatedRegistry::default(), Service { wrong: Gives::Status(403), ..Service::default() }), wrong(), "Forbidden by auth.example.com", "NotAttempted", 2),
        row("GET is not taken", bearer(SimulatedRegistry::default(), post_only()), right(), "Validated NamedInToken", "Inconclusive", 4),
        row("GET is not taken, control", bearer(SimulatedRegistry::default(), Service { tokens: SimulatedTokens::Opaque, ..post_only() }), right(), "Validated RefusedWithout", "Inconclusive", 5),
        row("GET is not taken, wrong", bearer(SimulatedRegistry::default(), post_only()), wrong(), "Rejected by auth.example.com", "NotAttempted", 3),
        row("identity token by POST", bearer(SimulatedRegistry::default(), get_only().post(true)), identity_token(IDENTITY_TOKEN), "Validated NamedInToken", "Inconclusive", 3),
        row("identity token, POST is not taken", bearer(SimulatedRegistry::default(), get_only()), identity_token(IDENTITY_TOKEN), "Validated NamedInToken", "Inconclusive", 4),
        row("identity token, wrong", bearer(SimulatedRegistry::default(), Service::default()), identity_token("x"), "Rejected by auth.example.com", "NotAttempted", 2),
        row("neither is taken", bearer(SimulatedRegistry::default(), Service { get: false, post: false, ..Service::default() }), right(), "Unavailable Status(405)", "NotAttempted", 3),
        row("access_token", bearer(SimulatedRegistry::default(), field("access_token")), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("no token in it", bearer(SimulatedRegistry::default(), field("other")), right(), "Unavailable NoToken", "NotAttempted", 2),
        row("anonymous gets HTML and 400", bearer(SimulatedRegistry::default(), Service { anonymous: Gives::Status(400), ..Service::default() }), right(), "Validated RefusedWithout", "Inconclusive", 4),
        row("anonymous gets 429", bearer(SimulatedRegistry::default(), Service { anonymous: Gives::Status(429), ..Service::default() }), right(), "Throttled by auth.example.com", "NotAttempted", 4),
        row("anonymous gets 502", bearer(SimulatedRegistry::default(), Service { anonymous: Gives::Status(502), ..Service::default() }), right(), "Unavailable Status(502)", "NotAttempted", 4),
        row("the service throttles", bearer(SimulatedRegistry::default(), Service { wrong: Gives::Status(429), ..Service::default() }), wrong(), "Throttled by auth.example.com", "NotAttempted", 2),
        row("the service fails", bearer(SimulatedRegistry::default(), Service { wrong: Gives::Status(500), ..Service::default() }), wrong(), "Unavailable Status(500)", "NotAttempted", 2),
    ]);
}

impl Service {
    fn post(self, post: bool) -> Self {
        Self { post, ..self }
    }
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn registry_tokens() {
    let world = |anonymous, v2| {
        bearer(SimulatedRegistry { v2, ..SimulatedRegistry::default() }, Service { anonymous, ..Service::default() })
    };
    let refusing = || world(Gives::Status(401), Opens::Any);
    check(vec![
        row("right", refusing(), registry_token(REGISTRY_TOKEN), "Validated RefusedWithout", "Inconclusive", 3),
        row("wrong", refusing(), registry_token("x"), "Rejected by registry.example.com", "NotAttempted", 2),
        row("anonymous tokens too", world(Gives::Token, Opens::Any), registry_token(REGISTRY_TOKEN), "Unprovable AnonymousTokenServed", "Inconclusive", 4),
        row("anonymous tokens too, private", world(Gives::Token, Opens::Any), at_hello(registry_token(REGISTRY_TOKEN)), "Validated RefusedWithout", "Accessible", 8),
        row("good for the repository only", world(Gives::Token, Opens::Never), at_hello(registry_token(REGISTRY_TOKEN)), "Validated RefusedWithout", "Accessible", 6),
    ]);
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn basic_and_bearer_offered_together() {
    let named = || Service { tokens: SimulatedTokens::Named, ..Service::default() };
    let both = |challenges: &[&str]| World { service: named(), ..challenged(challenges) };
    let elsewhere = r#"Bearer realm="https://auth.example.net/token""#;
    check(vec![
        row("one line", both(&[&format!("{BASIC}, {BEARER}")]), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("two lines", both(&[BASIC, BEARER]), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("wrong", both(&[BEARER, BASIC]), wrong(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("untrusted beside Basic", both(&[BASIC, elsewhere]), right(), "Unprovable AnonymousTokenServed", "Inconclusive", 4),
        row("untrusted alone", both(&[elsewhere]), right(), "Untrusted OtherSite", "NotAttempted", 1),
        row("untrusted alone, identity token", both(&[elsewhere]), identity_token(IDENTITY_TOKEN), "Untrusted OtherSite", "NotAttempted", 1),
        row("untrusted, but nothing to lose", both(&[elsewhere]), no_credentials(), "AnonymousAccess", "Inconclusive", 3),
    ]);
}

#[test]
#[rustfmt::skip] // A table is read by its rows.
fn challenges_on_successful_responses() {
    let asking = |registry: SimulatedRegistry| {
        bearer(
            SimulatedRegistry { open: true, always_challenges: true, ..registry },
            Service { tokens: SimulatedTokens::Named, ..Service::default() },
        )
    };
    let digest = || SimulatedRegistry { challenges: vec!["Digest realm=\"x\"".into()], always_challenges: true, ..SimulatedRegistry::default() };
    let wary = || World {
        service: Service { tokens: SimulatedTokens::Opaque, ..Service::default() },
        ..asking(SimulatedRegistry { v2: Opens::Named, checks_when_open: true, public: true, ..SimulatedRegistry::default() })
    };
    check(vec![
        row("Digest, but open", open(digest()), right(), "Unprovable AnonymousServed", "Inconclusive", 2),
        row("open to nobody's request, not to nobody's token", wary(), at_hello(right()), "Unprovable AnonymousTokenServed", "Accessible", 6),
        row("public, none", asking(SimulatedRegistry { public: true, ..SimulatedRegistry::default() }), at_hello(no_credentials()), "AnonymousAccess", "Accessible", 2),
        row("right", asking(SimulatedRegistry::default()), right(), "Validated NamedInToken", "Inconclusive", 3),
        row("wrong", asking(SimulatedRegistry::default()), wrong(), "Rejected by auth.example.com", "NotAttempted", 2),
        row("none", asking(SimulatedRegistry::default()), no_credentials(), "AnonymousAccess", "Inconclusive", 1),
        row("open, but the repository wants a token", open(SimulatedRegistry::default()), at_hello(right()), "Validated RefusedWithout", "Accessible", 8),
        row("the same, identity token", open(SimulatedRegistry::default()), at_hello(identity_token(IDENTITY_TOKEN)), "Validated RefusedWithout", "Accessible", 7),
        row("the same, identity token withdrawn", open(SimulatedRegistry::default()), at_hello(identity_token("x")), "Rejected by auth.example.com", "NotAttempted", 3),
        row("the same, wrong", open(SimulatedRegistry::default()), at_hello(wrong()), "Rejected by auth.example.com", "NotAttempted", 4),
    ]);
}

/// Validates with a failure in place of the response to some requests.
fn with_failure(
    world: &World,
    ask: &SimulatedQuestion,
    fails: impl Fn(&str) -> Option<FailureCause>,
) -> String {
    let run = probe_with(ask, |request| match fails(&request_line(request)) {
        Some(cause) => {
            let server = crate::host::HostPort::of(&request.url).unwrap();
            Err(Failure { server, cause })
        }
        None => Ok(world.answer(request)),
    });
    format!("{}, {}", word(&run.verdict.credentials), path_word(&run.verdict.content_path))
}

#[test]
fn reports_failure_in_the_layer_where_it_occurs() {
    let world = World {
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
        ..World::default()
    };
    let at = |part: &'static str, cause: FailureCause| {
        with_failure(&world, &at_hello(right()), move |request_line| {
            request_line.contains(part).then(|| cause.clone())
        })
    };
    let timeout = || FailureCause::Timeout(Stage::Request);
    assert_eq!(at("/v2/ as nobody", timeout()), "NotAttempted, NotAttempted");
    assert_eq!(at("/token as Basic", timeout()), "Unavailable Timeout(Request), NotAttempted");
    assert_eq!(at("/token as Basic scoped", timeout()), "Validated NamedInToken, Inconclusive");
    assert_eq!(at("/tags/list", timeout()), "Validated NamedInToken, Inconclusive");
    assert_eq!(at("/v2/ as Bearer", timeout()), "Validated NamedInToken, Accessible", "not needed");
    assert_eq!(
        at("/token as Basic", FailureCause::Dns(DnsFailure::NoSuchName)),
        "Unavailable Dns(NoSuchName), NotAttempted"
    );
    assert_eq!(
        at("/token", FailureCause::EgressDenied([169, 254, 169, 254].into())),
        "Untrusted EgressDenied, NotAttempted"
    );
    assert_eq!(at("/token", FailureCause::Tls), "NotAttempted, NotAttempted", "the TLS layer says it");
    let without =
        with_failure(&world, &right(), |request_line| request_line.contains("/v2/ as Bearer").then(timeout));
    assert_eq!(without, "Unavailable Timeout(Request), NotAttempted");
}

/// Validates with another status for some requests.
fn with_status(world: &World, ask: &SimulatedQuestion, part: &str, status: u16) -> String {
    let run = probe_with(ask, |request| {
        let other = request_line(request).contains(part);
        Ok(if other { respond(request, status, &[], "") } else { world.answer(request) })
    });
    format!("{}, {}", word(&run.verdict.credentials), path_word(&run.verdict.content_path))
}

#[test]
fn interprets_every_http_status() {
    let basic = challenged(&[BASIC]);
    let at_v2 = |status| with_status(&basic, &right(), "/v2/ as Basic", status);
    assert_eq!(at_v2(400), "Rejected by registry.example.com, NotAttempted");
    assert_eq!(at_v2(401), "Rejected by registry.example.com, NotAttempted");
    assert_eq!(at_v2(403), "Forbidden by registry.example.com, NotAttempted");
    for status in [404, 405, 418] {
        assert_eq!(at_v2(status), "NotAttempted, NotAttempted", "no registry: {status}");
    }
    assert_eq!(at_v2(429), "Throttled by registry.example.com, NotAttempted");
    assert_eq!(at_v2(503), "Unavailable Status(503), NotAttempted");

    let bearer = World {
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
        ..World::default()
    };
    let with_token = |status| with_status(&bearer, &right(), "/v2/ as Bearer", status);
    assert_eq!(with_token(400), "TokenRefused, NotAttempted");
    assert_eq!(with_token(401), "TokenRefused, NotAttempted");
    assert_eq!(with_token(403), "Forbidden by registry.example.com, NotAttempted");
    assert_eq!(with_token(404), "NotAttempted, NotAttempted", "no registry");
    assert_eq!(with_token(500), "Unavailable Status(500), NotAttempted");

    let at_service = |status| with_status(&bearer, &right(), "/token as Basic", status);
    assert_eq!(at_service(200), "Unavailable NoToken, NotAttempted");
    assert_eq!(at_service(302), "Untrusted Redirect, NotAttempted");
    assert_eq!(at_service(400), "Rejected by auth.example.com, NotAttempted");
    assert_eq!(at_service(401), "Rejected by auth.example.com, NotAttempted");
    assert_eq!(at_service(403), "Forbidden by auth.example.com, NotAttempted");
    assert_eq!(at_service(404), "Validated NamedInToken, Inconclusive", "asked again, by POST");
    assert_eq!(with_status(&bearer, &right(), "/token", 404), "Unavailable Status(404), NotAttempted");
    assert_eq!(at_service(410), "Unavailable Status(410), NotAttempted");
    assert_eq!(at_service(429), "Throttled by auth.example.com, NotAttempted");
    assert_eq!(at_service(500), "Unavailable Status(500), NotAttempted");

    for (world, evidence) in [(&basic, "RefusedWithout"), (&bearer, "NamedInToken")] {
        let at_tags = |status| with_status(world, &at_hello(right()), "/v2/hello/", status);
        for (status, path) in [
            (200, "Inconclusive"),
            (302, "Inconclusive"),
            (400, "Inconclusive"),
            (401, "Denied"),
            (403, "Denied"),
            (404, "NotFound"),
            (405, "Inconclusive"),
            (429, "Inconclusive"),
            (500, "Inconclusive"),
        ] {
            assert_eq!(at_tags(status), format!("Validated {evidence}, {path}"), "{status}");
        }
    }
}
