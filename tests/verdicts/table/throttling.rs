//! 429 and 5xx at each step, with and without `Retry-After`: retried after the time that the server asks for.

use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, about, alone, caller, htpasswd, issues, strict, takes_tokens, token,
};
use crate::spec::{Spec, right, spec};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    let mut rows = waits();
    for (status, what) in [(429, "429"), (500, "500"), (502, "502"), (503, "503")] {
        for asks in [None, Some("30")] {
            let answer = asks
                .map_or(Answer::status(status), |wait| Answer::status(status).header("Retry-After", wait));
            let how = asks.map_or_else(|| what.to_owned(), |wait| format!("{what} for {wait} seconds"));
            for row in steps(&how, status, &answer) {
                rows.push(if asks.is_some() { row.after(30) } else { row });
            }
        }
    }
    rows.extend(readings());
    rows
}

/// Alice's tokens say nothing, so the anonymous control is asked for.
fn opaque(call: &TokenCall) -> Answer {
    match call.caller {
        Caller::Alice => token().opening("api").opaque().issued(),
        _ => strict(call),
    }
}

fn with_service(
    registry: impl Fn(&ReceivedRequest) -> Answer + Send + Sync + 'static,
    service: impl Fn(&TokenCall) -> Answer + Send + Sync + 'static,
) -> Vec<Host> {
    vec![host("registry", registry), host("auth", issues(service))]
}

/// That answer at each step at which it hides the verdict.
fn steps(how: &str, status: u16, answer: &Answer) -> Vec<Row> {
    let throttled = status == 429;
    let endpoint = if throttled {
        "+Resolved ?Throttled +Verified . . = -Throttled reconciling"
    } else {
        "+Resolved -ServerError +Verified . . = -ServerError reconciling"
    };
    let credentials = if throttled {
        "+Resolved +Reachable +Verified ?Throttled . = -Throttled reconciling"
    } else {
        "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling"
    };
    let give = || answer.clone();
    let at_once = give();
    let to_password = give();
    let to_token = give();
    let (for_alice, for_nobody, without) = (give(), give(), give());
    vec![
        row(format!("{how} at once"), alone(move |_| at_once.clone()), right(), NOWHERE, endpoint).costs(1),
        row(
            format!("{how} to the password"),
            alone(
                move |asked| {
                    if caller(asked) == Caller::Nobody { htpasswd(asked) } else { to_password.clone() }
                },
            ),
            right(),
            REGISTRY,
            credentials,
        )
        .costs(2),
        row(
            format!("{how} of the token service"),
            with_service(takes_tokens(TO_AUTH), move |_| for_alice.clone()),
            right(),
            AUTH,
            credentials,
        )
        .message_contains("CredentialsValidated", "{auth.host}:{auth.port}"),
        row(
            format!("{how} to the token"),
            with_service(
                move |asked| {
                    if caller(asked) == Caller::Nobody {
                        takes_tokens(TO_AUTH)(asked)
                    } else {
                        to_token.clone()
                    }
                },
                strict,
            ),
            right(),
            AUTH,
            credentials,
        ),
        row(
            format!("{how} to the anonymous control at the token service"),
            with_service(takes_tokens(TO_AUTH), move |call| {
                if call.caller == Caller::Nobody { for_nobody.clone() } else { opaque(call) }
            }),
            right(),
            AUTH,
            credentials,
        ),
        row(
            format!("{how} of the token service, without credentials"),
            with_service(takes_tokens(TO_AUTH), move |_| without.clone()),
            spec(),
            NOWHERE,
            credentials,
        ),
    ]
}

/// What a server may write into `Retry-After`.
fn waits() -> Vec<Row> {
    let asking = |what: &'static str, value: &'static str| {
        let script = move |_: &ReceivedRequest| Answer::status(429).header("Retry-After", value);
        row(
            format!("Retry-After: {what}"),
            alone(script),
            right(),
            NOWHERE,
            "+Resolved ?Throttled +Verified . . = -Throttled reconciling",
        )
    };
    vec![
        asking("two minutes", "120").after(120),
        asking("a date in a minute", "Mon, 01 Jun 2026 12:01:00 GMT").after(60),
        asking("a date in the past", "Mon, 01 Jun 2026 11:00:00 GMT").at_will(),
        asking("a hundred years", "3153600000").after(86_400),
        asking("more than a number holds", "99999999999999999999999").after(86_400),
        asking("words", "soon").at_will(),
        asking("a negative number", "-5").at_will(),
        asking("nothing", "").at_will(),
    ]
}

/// A registry that grants `/v2/`, and answers so to the list of tags.
fn listing(
    answer: &Answer,
    with_password: bool,
) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync + use<> {
    let answer = answer.clone();
    move |asked| match (about(asked).as_str(), caller(asked)) {
        ("hello", Caller::Alice) if with_password => answer.clone(),
        ("hello", Caller::Nobody) if !with_password => answer.clone(),
        ("api", Caller::Nobody) if !with_password => Answer::granted(),
        _ => htpasswd(asked),
    }
}

/// The repository can't be read now: what was proven before that stands.
fn readings() -> Vec<Row> {
    const UNREAD: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
    let named = |name: String, hosts: Vec<Host>, spec: Spec, permits, expected| {
        row(name, hosts, spec.repository("hello"), permits, expected)
    };
    let mut rows = Vec::new();
    for status in [429, 503] {
        let answer = Answer::status(status).header("Retry-After", "30");
        let for_scope = answer.clone();
        let to_token = answer.clone();
        let control = if status == 429 { "?Throttled" } else { "?TemporarilyUnavailable" };
        let control = match control {
            "?Throttled" => "+Resolved +Reachable +Verified ?Throttled . = -Throttled reconciling",
            _ => {
                "+Resolved +Reachable +Verified ?TemporarilyUnavailable . = -TemporarilyUnavailable reconciling"
            }
        };
        let refuses_scope =
            move |call: &TokenCall| if call.scope().is_some() { for_scope.clone() } else { strict(call) };
        let refuses_tags = move |asked: &ReceivedRequest| match (about(asked).as_str(), caller(asked)) {
            ("hello", Caller::Bearer(_)) => to_token.clone(),
            _ => takes_tokens(TO_AUTH)(asked),
        };
        rows.extend([
            named(
                format!("{status} to the tags, with the password"),
                alone(listing(&answer, true)),
                right(),
                REGISTRY,
                UNREAD,
            )
            .after(30),
            named(
                format!("{status} to the tags' anonymous control"),
                alone(listing(&answer, false)),
                right(),
                REGISTRY,
                control,
            )
            .after(30),
            named(
                format!("{status} of the token service for the repository"),
                with_service(takes_tokens(TO_AUTH), refuses_scope),
                right(),
                AUTH,
                UNREAD,
            )
            .after(30),
            named(
                format!("{status} to the tags, with the token"),
                with_service(refuses_tags, strict),
                right(),
                AUTH,
                UNREAD,
            )
            .after(30),
        ]);
    }
    rows
}
