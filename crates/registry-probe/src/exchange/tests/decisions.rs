//! Decisions of the exchange that the simulated registries don't lead to: each by a scripted answer.

use std::cell::{Cell, RefCell};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use secrecy::SecretString;

use super::simulation::*;
use crate::credentials::Credentials;
use crate::exchange::reply::{Reply, ReplyKind};
use crate::exchange::{Failure, FailureCause, Request, Response};
use crate::findings::*;
use crate::host::HostPort;

const ELSEWHERE: &str = r#"Bearer realm="https://auth.example.net/token""#;

fn right() -> SimulatedQuestion {
    SimulatedQuestion { credentials: basic(PASSWORD), repository: None }
}

fn no_credentials() -> SimulatedQuestion {
    SimulatedQuestion { credentials: None, repository: None }
}

fn at_hello(ask: SimulatedQuestion) -> SimulatedQuestion {
    SimulatedQuestion { repository: Some("hello"), ..ask }
}

fn registry_token(token: &str) -> SimulatedQuestion {
    SimulatedQuestion {
        credentials: Some(Credentials::RegistryToken(SecretString::from(token))),
        repository: None,
    }
}

fn challenged(challenges: &[&str]) -> SimulatedRegistry {
    let challenges = challenges.iter().map(|challenge| (*challenge).to_owned()).collect();
    SimulatedRegistry { challenges, ..SimulatedRegistry::default() }
}

fn guarded() -> Service {
    Service { anonymous: Gives::Status(401), ..Service::default() }
}

fn registry() -> HostPort {
    HostPort { host: "registry.example.com".parse().unwrap(), port: 443 }
}

/// A status, its challenges and a body.
type ScriptedAnswer<'a> = (u16, &'a [&'a str], &'a str);

fn answer(request: &Request, (status, challenges, body): ScriptedAnswer<'_>) -> Response {
    let challenges: Vec<String> = challenges.iter().map(|challenge| (*challenge).to_owned()).collect();
    respond(request, status, &challenges, body)
}

/// Validates in `world`, with a scripted answer to requests whose line contains the given text.
fn with_answer(
    world: &World,
    ask: &SimulatedQuestion,
    expired_error: &str,
    given: ScriptedAnswer<'_>,
) -> SimulatedRun {
    probe_with(ask, |request| {
        let other = request_line(request).contains(expired_error);
        Ok(if other { answer(request, given) } else { world.answer(request) })
    })
}

#[test]
fn rejects_server_without_registry_headers() {
    for (given, cause) in [
        ((200, &[][..], "ok"), NotARegistry::NoSign),
        ((200, &[], ""), NotARegistry::NoSign),
        ((200, &[], "<html>"), NotARegistry::NoSign),
        ((401, &[], "{}"), NotARegistry::Status(401)),
        ((403, &[], ""), NotARegistry::Status(403)),
        ((404, &[], ""), NotARegistry::Status(404)),
    ] {
        let found = with_answer(&World::default(), &right(), "/v2/", given).verdict;
        let server = registry();
        assert_eq!(found.endpoint, EndpointFinding::NotARegistry { server, cause }, "{given:?}");
        assert_eq!(found.credentials, CredentialsFinding::NotAttempted);
    }
}

#[test]
fn rejects_html_page_even_after_basic_challenge() {
    let world = World { registry: challenged(&[BASIC]), ..World::default() };
    let found = with_answer(&world, &right(), "/v2/ as Basic", (200, &[], "<html>")).verdict;
    let cause = NotARegistry::NoSign;
    assert_eq!(found.endpoint, EndpointFinding::NotARegistry { server: registry(), cause });
}

#[test]
fn names_at_most_five_unsupported_schemes() {
    let long = "X".repeat(40);
    let line = format!("{long}, Digest, Negotiate, NTLM, Digest, HOBA, Mutual, Vapid");
    let world = World { registry: challenged(&[&line]), ..World::default() };
    let schemes =
        vec![long[..32].to_owned(), "Digest".into(), "Negotiate".into(), "NTLM".into(), "HOBA".into()];
    assert_eq!(world.probe(&right()).verdict.credentials, CredentialsFinding::UnsupportedScheme { schemes });
}

#[test]
fn first_handshake_failure_belongs_to_tls_layer() {
    let run = probe_with(&right(), |request| {
        Err(Failure { server: HostPort::of(&request.url).unwrap(), cause: FailureCause::Tls })
    });
    assert_eq!(run.verdict.endpoint, EndpointFinding::Reachable);
    assert_eq!(run.verdict.credentials, CredentialsFinding::NotAttempted);
}

#[test]
fn only_a_tag_list_proves_repository_access() {
    let world = World { registry: challenged(&[BASIC]), ..World::default() };
    let read = |body: &str| {
        with_answer(&world, &at_hello(right()), "/tags/list", (200, &[], body)).verdict.content_path
    };
    let inconclusive = |path: &ContentPathFinding| match path {
        ContentPathFinding::Inconclusive(why) => format!("{why:?}"),
        other => format!("{other:?}"),
    };
    assert!(matches!(read(r#"{"name":"hello","tags":["1"]}"#), ContentPathFinding::Accessible { .. }));
    assert!(inconclusive(&read(r#"{"name":"hello","tags":[]}"#)).starts_with("NoTags"));
    assert!(inconclusive(&read(r#"{"name":"hello","tags":null}"#)).starts_with("NoTags"));
    for body in ["{}", "ok", "", r#"{"tags":"1"}"#, "<html>"] {
        assert!(inconclusive(&read(body)).starts_with("UnexpectedStatus"), "{body}");
    }
}

#[test]
fn requests_scope_only_after_401_without_it() {
    let scoped = SimulatedRegistry { v2: Opens::WithScope, ..SimulatedRegistry::default() };
    let world = World { registry: scoped, service: guarded() };
    let validated = CredentialsFinding::Validated(Evidence::RefusedWithout);
    let below = world.probe_below("team", &right());
    assert_eq!(below.verdict.credentials, validated, "the base path: {:#?}", below.requests);
    let denied =
        SimulatedRegistry { v2: Opens::WithScope, denies_alice: true, ..SimulatedRegistry::default() };
    let named = World { registry: denied, service: guarded() }.probe(&at_hello(right()));
    assert_eq!(named.verdict.credentials, validated, "the named repository: {:#?}", named.requests);
    assert_eq!(
        world.probe(&right()).verdict.credentials,
        CredentialsFinding::TokenRefused {
            issuer: HostPort { host: "auth.example.com".parse().unwrap(), port: 443 }
        }
    );

    let forbidden = probe_below_with("team", &right(), |request| {
        let other = request_line(request).contains("/v2/ as Bearer");
        Ok(if other { answer(request, (403, &[], "")) } else { world.answer(request) })
    });
    assert_eq!(forbidden.verdict.credentials, CredentialsFinding::Forbidden { by: registry() });
    assert!(!forbidden.requests.iter().any(|asked| asked.contains("scoped")), "{:#?}", forbidden.requests);
}

#[test]
fn requires_credentials_without_token_service() {
    let no_realm = World { registry: challenged(&["Bearer service=\"registry\""]), ..World::default() };
    assert_eq!(no_realm.probe(&no_credentials()).verdict.credentials, CredentialsFinding::Required);
    let refusing =
        World { service: guarded(), ..World::default() }.probe(&at_hello(no_credentials())).verdict;
    assert_eq!(refusing.credentials, CredentialsFinding::Required);
    assert!(matches!(refusing.content_path, ContentPathFinding::Denied { status: 401, .. }));
}

#[test]
fn tries_registry_token_at_open_registry() {
    let digest =
        SimulatedRegistry { open: true, always_challenges: true, ..challenged(&["Digest realm=\"x\""]) };
    let found = World { registry: digest, ..World::default() }.probe(&registry_token("x")).verdict;
    assert_eq!(found.credentials, CredentialsFinding::Unprovable(Unprovable::AnonymousServed));
}

#[test]
fn tries_token_service_unless_basic_was_requested() {
    let rejected = CredentialsFinding::Rejected { by: registry(), status: 401 };
    let refused = |world: &World, challenges| {
        with_answer(world, &right(), "/v2/ as Basic", (401, challenges, r#"{"errors":[{"code":"X"}]}"#))
    };
    let open = World {
        registry: SimulatedRegistry { open: true, ..challenged(&[]) },
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
    };
    let went_on = refused(&open, &[BEARER]);
    assert!(
        went_on.requests.iter().any(|asked| asked.contains("/token as Basic")),
        "{:#?}",
        went_on.requests
    );
    let untrusted = refused(&open, &[ELSEWHERE]).verdict.credentials;
    assert!(
        matches!(&untrusted, CredentialsFinding::UntrustedTokenService { cause: Distrust::OtherSite, .. }),
        "{untrusted:?}"
    );
    let asked_before = World { registry: challenged(&[BASIC]), ..open.clone() };
    for run in [refused(&open, &[BASIC, BEARER]), refused(&asked_before, &[BEARER])] {
        assert_eq!(run.verdict.credentials, rejected);
        assert!(!run.requests.iter().any(|asked| asked.contains("/token")), "{:#?}", run.requests);
    }
}

/// A token that expires so many seconds after the validation.
fn ending(seconds: i64) -> SimulatedQuestion {
    let now: jiff::Timestamp = NOW.parse().unwrap();
    let claims = format!(r#"{{"exp":{}}}"#, now.as_second() + seconds);
    registry_token(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)))
}

#[test]
fn reports_refused_token_as_expired() {
    let rejected = CredentialsFinding::Rejected { by: registry(), status: 401 };
    let forbidden = CredentialsFinding::Forbidden { by: registry() };
    let kind: &[&str] = &[
        r#"Bearer realm="https://auth.example.com/token",error="invalid_token",error_description="Token EXPIRED""#,
    ];
    let expired_error = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired."}]}"#;
    let refused = |ask: &SimulatedQuestion, given| {
        let run = with_answer(&World::default(), ask, "/v2/ as B", given);
        run.verdict.credentials
    };
    for status in [401, 403] {
        assert_eq!(refused(&ending(-1), (status, &[], "{}")), CredentialsFinding::Expired);
        assert_eq!(refused(&ending(0), (status, &[], "{}")), CredentialsFinding::Expired);
        assert_eq!(refused(&registry_token("x"), (status, kind, "{}")), CredentialsFinding::Expired);
        assert_eq!(refused(&registry_token("x"), (status, &[], expired_error)), CredentialsFinding::Expired);
    }
    assert_eq!(refused(&ending(60), (401, &[], "{}")), rejected);
    assert_eq!(refused(&ending(60), (403, &[], "{}")), forbidden);

    let basic = World { registry: challenged(&[BASIC]), ..World::default() };
    let password = |given| with_answer(&basic, &right(), "/v2/ as Basic", given).verdict.credentials;
    assert_eq!(password((403, &[], expired_error)), CredentialsFinding::Expired, "as ECR says it");
    assert_eq!(password((401, kind, "{}")), rejected, "a password is no token");
    assert_eq!(password((400, &[], expired_error)), CredentialsFinding::Expired, "as ECR Public says it");
    let unfit = r#"{"errors":[{"code":"INVALID","message":"the authorization token is invalid"}]}"#;
    assert_eq!(refused(&ending(-1), (400, &[], unfit)), CredentialsFinding::Expired);
    let status_that_came = CredentialsFinding::Rejected { by: registry(), status: 400 };
    assert_eq!(refused(&ending(60), (400, &[], unfit)), status_that_came);
}

#[test]
fn either_token_may_name_the_account() {
    let world = World {
        service: Service { tokens: SimulatedTokens::Opaque, ..Service::default() },
        ..World::default()
    };
    let named = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(r#"{"sub":"alice","hidden":"alice|"}"#));
    let body = format!(r#"{{"token":"{named}"}}"#);
    let run = probe_with(&at_hello(right()), |request| {
        let unscoped = request_line(request).ends_with("/token as Basic");
        Ok(if unscoped { answer(request, (200, &[], &body)) } else { world.answer(request) })
    });
    assert_eq!(run.verdict.credentials, CredentialsFinding::Validated(Evidence::NamedInToken));
    assert_eq!(run.requests.len(), 4, "{:#?}", run.requests);
}

#[test]
fn missing_repository_token_denies_access() {
    let world = World {
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
        ..World::default()
    };
    for status in [401, 403] {
        let scoped = "/token as Basic scoped";
        let found = with_answer(&world, &at_hello(right()), scoped, (status, &[], "{}")).verdict;
        assert_eq!(found.credentials, CredentialsFinding::Validated(Evidence::NamedInToken));
        assert!(
            matches!(found.content_path, ContentPathFinding::Denied { status: by, .. } if by == status),
            "{found:?}"
        );
    }
}

/// The reply of `url` with this status, header and body.
fn reply(url: &str, status: u16, (name, value): (&'static str, &str), body: &str) -> Reply {
    let headers = [(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())];
    let headers = headers.into_iter().collect();
    Reply::of(&Response {
        url: url.parse().unwrap(),
        status,
        headers,
        body: body.as_bytes().to_vec(),
        is_broken: false,
    })
}

#[test]
fn recognizes_html_by_type_or_content() {
    let kind_of = |kind, body| reply("https://r.io/v2/", 200, ("content-type", kind), body).kind;
    for (kind, body) in
        [("text/html", "{}"), ("Text/HTML; charset=utf-8", ""), ("text/plain", " \n<!doctype html>")]
    {
        assert_eq!(kind_of(kind, body), ReplyKind::Page, "{kind} {body}");
    }
    assert!(matches!(kind_of("application/json", "{}"), ReplyKind::Granted(_)));
}

#[test]
fn reports_tls_port_only_over_plain_http() {
    let kind = |url, body| reply(url, 400, ("content-type", "text/plain"), body).kind;
    for body in [
        "Client sent an HTTP request to an HTTPS server.",
        "<center>The plain HTTP request was sent to HTTPS port</center>",
    ] {
        assert_eq!(kind("http://r.io/v2/", body), ReplyKind::WantsTls);
        assert_eq!(kind("https://r.io/v2/", body), ReplyKind::Other(400));
    }
    assert_eq!(kind("http://r.io/v2/", "Bad Request"), ReplyKind::Other(400));
}

#[test]
fn accepts_only_version_2_of_docker_header() {
    let sign =
        |value| reply("https://r.io/v2/", 200, ("docker-distribution-api-version", value), "").has_sign;
    assert!(sign("registry/2.0") && sign(" registry/2.0 ") && sign("registry/2.0, other/1"));
    assert!(!sign("registry/1.0") && !sign("other") && !sign(""));
}

/// The requests to the token service, in order, as they are sent: the URL, and the pair in `Authorization`.
fn asked_of_service(world: &World, ask: &SimulatedQuestion) -> Vec<(String, String)> {
    let asked = RefCell::new(Vec::new());
    probe_with(ask, |request| {
        assert!(request.authorization.as_ref().is_none_or(HeaderValue::is_sensitive), "would be shown");
        if request.url.path() == "/token" {
            let header = request.authorization.as_ref().map(|value| value.to_str().unwrap().to_owned());
            let pair = header.and_then(|header| STANDARD.decode(header.strip_prefix("Basic ")?).ok());
            asked
                .borrow_mut()
                .push((request.url.to_string(), String::from_utf8(pair.unwrap_or_default()).unwrap()));
        }
        Ok(world.answer(request))
    });
    asked.into_inner()
}

#[test]
fn token_request_has_service_account_and_scopes() {
    let two = format!("{BEARER},scope=\"repository:a:pull  repository:b:pull\"");
    let scoped = SimulatedRegistry { v2: Opens::WithScope, ..challenged(&[&two]) };
    let asked = asked_of_service(&World { registry: scoped, service: guarded() }, &right());
    let realm = "https://auth.example.com/token?service=registry";
    let pair = format!("alice:{PASSWORD}");
    let scopes = "&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull";
    assert_eq!(asked[0], (format!("{realm}&account=alice"), pair.clone()));
    assert_eq!(asked[1], (format!("{realm}{scopes}&account=alice"), pair));
    assert_eq!(asked[2], (format!("{realm}{scopes}"), String::new()), "the control names nobody");
    let nothing = challenged(&[r#"Bearer realm="https://auth.example.com/token""#]);
    let asked = asked_of_service(&World { registry: nothing, service: guarded() }, &no_credentials());
    assert_eq!(asked, [("https://auth.example.com/token".to_owned(), String::new())]);
}

#[test]
fn identity_token_without_user_uses_azure_name() {
    let token = SecretString::from(IDENTITY_TOKEN);
    let of = |username: Option<&str>| SimulatedQuestion {
        credentials: Some(Credentials::IdentityToken {
            username: username.map(Into::into),
            token: token.clone(),
        }),
        repository: None,
    };
    let by_get = World { service: Service { post: false, ..guarded() }, ..World::default() };
    let no_credentials = format!("00000000-0000-0000-0000-000000000000:{IDENTITY_TOKEN}");
    assert_eq!(asked_of_service(&by_get, &of(None))[1].1, no_credentials);
    assert_eq!(asked_of_service(&by_get, &of(Some("alice")))[1].1, format!("alice:{IDENTITY_TOKEN}"));
}

#[test]
fn requests_one_tag_only() {
    let world = World { registry: challenged(&[BASIC]), ..World::default() };
    let asked = RefCell::new(Vec::new());
    probe_with(&at_hello(right()), |request| {
        asked.borrow_mut().push(request.url.to_string());
        Ok(world.answer(request))
    });
    let tags = "https://registry.example.com/v2/hello/tags/list?n=1";
    assert_eq!(asked.into_inner().last().map(String::as_str), Some(tags));
}

/// A reply of a token service to the first request for a token; all others are answered by `world`.
fn with_token_reply(world: &World, ask: &SimulatedQuestion, status: u16, location: &str) -> SimulatedRun {
    let asked = Cell::new(0);
    probe_with(ask, |request| {
        asked.set(asked.get() + usize::from(request.url.host_str() == Some("auth.example.com")));
        if request.url.host_str() != Some("auth.example.com") || asked.get() > 1 {
            return Ok(world.answer(request));
        }
        let mut response = answer(request, (status, &[], ""));
        response.headers.insert("location", HeaderValue::from_str(location).unwrap());
        Ok(response)
    })
}

#[test]
fn follows_only_trailing_slash_redirect_of_realm() {
    let world = World {
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
        ..World::default()
    };
    let found = |to| with_token_reply(&world, &right(), 301, to).verdict.credentials;
    assert_eq!(
        found("https://auth.example.com/token/"),
        CredentialsFinding::Validated(Evidence::NamedInToken)
    );
    for to in [
        "https://auth.example.com/other",
        "https://auth.example.net/token/",
        "http://auth.example.com/token/",
    ] {
        let redirected = found(to);
        assert!(
            matches!(
                &redirected,
                CredentialsFinding::UntrustedTokenService { cause: Distrust::Redirect, .. }
            ),
            "{to}: {redirected:?}"
        );
    }
}

#[test]
fn falls_back_to_other_token_request_method() {
    let world = World {
        service: Service { tokens: SimulatedTokens::Named, ..Service::default() },
        ..World::default()
    };
    for status in [404, 405, 501] {
        let run = with_token_reply(&world, &right(), status, "");
        assert_eq!(
            run.verdict.credentials,
            CredentialsFinding::Validated(Evidence::NamedInToken),
            "{status}"
        );
        assert!(run.requests[2].starts_with("POST"), "{:#?}", run.requests);
    }
}

#[test]
fn service_without_credentials_is_not_decisive() {
    let decisive = |registry: SimulatedRegistry, ask: &SimulatedQuestion| {
        let all = RefCell::new(Vec::new());
        let world = World { registry, ..World::default() };
        probe_with(ask, |request| {
            all.borrow_mut().push((
                request.url.host_str().unwrap().to_owned(),
                request.decisive,
                request.trusted,
            ));
            Ok(world.answer(request))
        });
        let all = all.into_inner();
        assert!(
            all.iter().filter(|(host, ..)| host == "registry.example.com").all(|(_, decisive, _)| *decisive)
        );
        let mut services = all.into_iter().filter(|(host, ..)| host != "registry.example.com");
        services.next().map(|(_, decisive, trusted)| (decisive, trusted))
    };
    let elsewhere = || challenged(&[BASIC, ELSEWHERE]);
    assert_eq!(decisive(challenged(&[BEARER]), &right()), Some((true, true)));
    assert_eq!(decisive(elsewhere(), &right()), Some((false, false)), "an anonymous control at a stranger's");
    assert_eq!(decisive(elsewhere(), &no_credentials()), Some((true, false)), "nothing but that service");
}
