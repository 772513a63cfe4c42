//! Verdicts that depend on history: a Ready registry stays ready until there are too many transient failures in a row. A definite failure
//! shows at once. The layers always show the current findings.

use crate::hosts::{PortBehaviour, host};
use crate::row::{NOWHERE, REGISTRY, Row, row};
use crate::scripts::{alone, htpasswd};
use crate::spec::{right, wrong};
use crate::support::Answer;

pub fn rows() -> Vec<Row> {
    let fails = |name, failures, expected| {
        row(name, alone(|_| Answer::status(503)), right().was_ready(failures), NOWHERE, expected)
    };
    let throttled = |name, failures, expected| {
        row(name, alone(|_| Answer::status(429)), right().was_ready(failures), NOWHERE, expected)
    };
    let closed = || vec![host("registry", htpasswd).behind(PortBehaviour::Closed)];
    let right_there = || right().endpoint("https://{registry.host}:{registry.port}");
    const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
    vec![
        fails("ready until now, and 503", 0, "+Resolved -ServerError +Verified . . = +Available"),
        fails("ready, and 503 for the second time", 1, "+Resolved -ServerError +Verified . . = +Available"),
        fails(
            "ready, and 503 for the third time",
            2,
            "+Resolved -ServerError +Verified . . = -ServerError reconciling",
        ),
        throttled("ready until now, and 429", 0, "+Resolved ?Throttled +Verified . . = +Available"),
        throttled(
            "ready, and 429 for the third time",
            2,
            "+Resolved ?Throttled +Verified . . = -Throttled reconciling",
        ),
        row(
            "ready until now, and refused connections",
            closed(),
            right_there().was_ready(0),
            NOWHERE,
            "+Resolved -ConnectionRefused . . . = +Available",
        ),
        row(
            "ready until now, and a rejected password",
            alone(htpasswd),
            wrong().was_ready(0),
            REGISTRY,
            "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled",
        ),
        row(
            "ready until now, and a wrong certificate",
            vec![host("registry", htpasswd).shows(crate::pki::CertificateKind::Stranger)],
            right().was_ready(0),
            NOWHERE,
            "+Resolved +Reachable -UnknownIssuer . . = -UnknownIssuer stalled",
        ),
        row(
            "ready until now, and a redirect",
            alone(|_| Answer::status(302).header("Location", "{elsewhere}")),
            right().was_ready(0),
            NOWHERE,
            "+Resolved -RedirectRefused +Verified . . = -RedirectRefused stalled",
        ),
        row(
            "ready until now, and a missing Secret",
            alone(htpasswd),
            crate::spec::spec().basic().was_ready(0),
            NOWHERE,
            "-SecretNotFound . . . . = -SecretNotFound stalled",
        )
        .never_at(REGISTRY),
        row(
            "ready after two failures, and well again",
            alone(htpasswd),
            right().was_ready(2),
            REGISTRY,
            VALIDATED,
        ),
    ]
}
