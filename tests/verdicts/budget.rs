//! The cost of a validation for the registry: requests and connections, counted at the server.
//!
//! The bounds: anonymous 1 request, Basic 2, bearer at most 4; two more where anonymous tokens must be ruled out; two more for a
//! named repository and its control. One TLS handshake for each host.

use crate::hosts::{Host, Stage, host};
use crate::row::{BOTH, Row, row};
use crate::runner;
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, alone, htpasswd, issues, open, refused, scoped, strict, takes_tokens, token,
    with_service,
};
use crate::secrets::USER;
use crate::spec::{Spec, identity, right, spec, wrong};
use crate::support::{Answer, ReceivedRequest};

/// What a validation may cost.
struct Budget {
    name: &'static str,
    hosts: Vec<Host>,
    spec: Spec,
    /// Requests, to the registry and its token service together.
    requests: usize,
    /// Hosts that are spoken with, and so connections.
    hosts_asked: usize,
}

const ANONYMOUS: usize = 1;
const BASIC: usize = 2;
const BEARER: usize = 4;
const RULING_OUT: usize = 2;
const REPOSITORY: usize = 2;
/// docs/decisions/0014: `/v2/` refuses the token without a scope, and one with it is asked for.
const FALLBACK: usize = 1;

fn budget(name: &'static str, hosts: Vec<Host>, spec: Spec, requests: usize, hosts_asked: usize) -> Budget {
    Budget { name, hosts, spec, requests, hosts_asked }
}

/// Opaque tokens; anonymous clients get some that open nothing.
fn opaque(call: &TokenCall) -> Answer {
    match call.caller {
        Caller::Alice => scoped(token().opening("api"), call).opaque().issued(),
        Caller::Nobody => token().opaque().issued(),
        _ => refused(),
    }
}

/// Opaque tokens for everyone, that open the same.
fn alike(call: &TokenCall) -> Answer {
    scoped(token().opening("api"), call).opaque().issued()
}

/// Tokens open `/v2/` only with a scope.
fn only_with_scope(call: &TokenCall) -> Answer {
    if call.scope().is_some() { opaque(call) } else { token().opaque().issued() }
}

/// The same, and they name the account.
fn named_with_scope(call: &TokenCall) -> Answer {
    match (&call.caller, call.scope()) {
        (Caller::Alice, Some(_)) => token().naming(USER).opening("api").issued(),
        (Caller::Alice, None) => token().naming(USER).issued(),
        _ => refused(),
    }
}

/// Everyone gets in, with a password or without.
fn open_with_challenge(asked: &ReceivedRequest) -> Answer {
    open(asked).header("WWW-Authenticate", TO_AUTH)
}

/// A service that sends on to its missing slash.
fn slashless(call: &TokenCall) -> Answer {
    if call.path == "/token" { Answer::status(301).header("Location", "/token/") } else { strict(call) }
}

fn budgets() -> Vec<Budget> {
    let asks_scope = |service: fn(&TokenCall) -> Answer| {
        let challenge = "Bearer realm=\"{auth}/token\",scope=\"repository:x:pull\"";
        vec![host("registry", takes_tokens(challenge)), host("auth", issues(service))]
    };
    let open_door = || vec![host("registry", open_with_challenge), host("auth", issues(strict))];
    vec![
        budget("anonymous", alone(open), spec(), ANONYMOUS, 1),
        budget("anonymous where a password is wanted", alone(htpasswd), spec(), ANONYMOUS, 1),
        budget(
            "anonymous, with a repository",
            alone(open),
            spec().repository("hello"),
            ANONYMOUS + REPOSITORY,
            1,
        ),
        budget("anonymous, by a token", with_service(alike), spec(), BEARER, 2),
        budget("Basic, right", alone(htpasswd), right(), BASIC, 1),
        budget("Basic, wrong", alone(htpasswd), wrong(), BASIC, 1),
        budget(
            "Basic, with a repository",
            alone(htpasswd),
            right().repository("hello"),
            BASIC + REPOSITORY,
            1,
        ),
        budget("Basic, at an open registry", alone(open), right(), BASIC, 1),
        budget(
            "Basic, at an open registry, with a repository",
            alone(open),
            right().repository("hello"),
            BASIC + REPOSITORY,
            1,
        ),
        budget("bearer, by a token that names the account", with_service(strict), right(), BEARER, 2),
        budget(
            "bearer, by a token that names the account, with a repository",
            with_service(strict),
            right().repository("hello"),
            BEARER + REPOSITORY,
            2,
        ),
        budget("bearer, wrong", with_service(strict), wrong(), BEARER, 2),
        budget("bearer, a missing slash", with_service(slashless), right(), BEARER, 2),
        budget("bearer, an identity token", with_service(strict), identity(), BEARER, 2),
        budget(
            "bearer, anonymous tokens to be ruled out",
            with_service(opaque),
            right(),
            BEARER + RULING_OUT,
            2,
        ),
        budget(
            "bearer, anonymous tokens that open the same",
            with_service(alike),
            right(),
            BEARER + RULING_OUT,
            2,
        ),
        budget("bearer, a scope that is asked for", asks_scope(named_with_scope), right(), BEARER, 2),
        budget(
            "bearer, a scope that is not asked for, and wanted",
            with_service(named_with_scope),
            right().below("team"),
            BEARER + FALLBACK,
            2,
        ),
        budget(
            "bearer, a scope that is asked for, anonymous tokens to be ruled out",
            asks_scope(only_with_scope),
            right(),
            BEARER + RULING_OUT,
            2,
        ),
        budget(
            "bearer, all of it",
            with_service(opaque),
            right().repository("hello"),
            BEARER + RULING_OUT + REPOSITORY,
            2,
        ),
        budget(
            "bearer, all of it, and nothing proven",
            with_service(alike),
            right().repository("hello"),
            BEARER + RULING_OUT + REPOSITORY,
            2,
        ),
        budget(
            "bearer, a repository that does not exist",
            with_service(opaque),
            right().repository("missing"),
            BEARER + RULING_OUT + REPOSITORY,
            2,
        ),
        budget(
            "bearer, a scope that is asked for, and a repository",
            asks_scope(only_with_scope),
            right().repository("hello"),
            BEARER + RULING_OUT + REPOSITORY,
            2,
        ),
        budget("bearer, at an open registry", open_door(), right(), BEARER, 2),
        budget(
            "a registry token",
            with_service(strict),
            spec().token_secret(&[("token", &token().opening("api").given())]),
            BASIC + RULING_OUT,
            2,
        ),
    ]
}

impl Budget {
    /// What one validation costs: requests, and per host its connections and handshakes.
    async fn cost(&self, index: usize) -> (usize, Vec<(String, usize)>) {
        let stage = Stage::set(&self.hosts, index).await;
        // Only the cost is looked at; the table has the verdicts.
        let row: Row =
            row(self.name, Vec::new(), self.spec.clone(), BOTH, "+Resolved . . . . = -Any stalled");
        runner::validate_once(&row, &stage, &runner::prober(&stage)).await;
        let arrivals = stage.log.arrivals();
        let places: Vec<String> = arrivals.iter().map(|arrival| arrival.place.clone()).collect();
        let mut hosts: Vec<(String, usize)> = Vec::new();
        for place in places {
            match hosts.iter_mut().find(|(known, _)| *known == place) {
                Some((_, count)) => *count += 1,
                None => hosts.push((place, 1)),
            }
        }
        assert!(
            arrivals.iter().all(|arrival| arrival.secure),
            "{}: a handshake that came to no end",
            self.name
        );
        (arrivals.iter().map(|arrival| arrival.asked.len()).sum(), hosts)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validations_stay_within_request_budget() {
    let mut over = String::new();
    let budgets = budgets();
    for (index, budget) in budgets.iter().enumerate() {
        let (requests, hosts) = budget.cost(40_000 + index).await;
        if requests > budget.requests || requests == 0 {
            over += &format!("{}: {requests} requests, of {}\n", budget.name, budget.requests);
        }
        if hosts.len() > budget.hosts_asked || hosts.iter().any(|(_, handshakes)| *handshakes != 1) {
            over += &format!(
                "{}: handshakes {hosts:?}, of one for each of {} hosts\n",
                budget.name, budget.hosts_asked
            );
        }
        crate::say(&format!("budget: {}: {requests} of {}\n", budget.name, budget.requests));
    }
    assert!(over.is_empty(), "{over}");
}
