//! What registries, configurations and certificates were reported to answer, by the kinds of issue 13: each report as it came,
//! and further members of its kind.
//!
//! A: is it a registry? B: HTTP as it is on the wire. C: nothing was shown to work. D: what a refusal says. E: pulling is not
//! listing. F: Docker configurations as clients read them. G: certificates that clients accept. H: bundles lose nothing.

mod certificates;
mod docker_configs;
mod evidence;
mod http;
mod pulling;
mod refusals;
mod registries;

use serde_json::json;

use crate::row::Row;
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [
        registries::rows(),
        http::rows(),
        evidence::rows(),
        refusals::rows(),
        pulling::rows(),
        docker_configs::rows(),
        certificates::rows(),
    ]
    .concat()
}

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const DENIED: &str = "+Resolved +Reachable +Verified +Validated -Denied = -Denied stalled";
const NOT_FOUND: &str = "+Resolved +Reachable +Verified +Validated -NotFound = -NotFound stalled";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const REQUIRED: &str = "+Resolved +Reachable +Verified -Required . = -Required stalled";
const EXPIRED: &str = "+Resolved +Reachable +Verified -Expired . = -Expired stalled";
const ANONYMOUS: &str = "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available";
const ANONYMOUS_READ: &str = "+Resolved +Reachable +Verified +AnonymousAccess +Accessible = +Available";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";
const UNPROVABLE_READ: &str =
    "+Resolved +Reachable +Verified ?Unprovable +Accessible = +CredentialsUnprovable";
const NO_REGISTRY: &str = "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled";
const REDIRECTED: &str = "+Resolved -RedirectRefused +Verified . . = -RedirectRefused stalled";
const UNREACHABLE: &str = "+Resolved -ConnectionFailed +Verified . . = -ConnectionFailed reconciling";
const BUSY: &str = "+Resolved -ServerError +Verified . . = -ServerError reconciling";
const SECRET_INVALID: &str = "-SecretInvalid . . . . = -SecretInvalid stalled";

/// With Docker's version header.
fn versioned(answer: Answer) -> Answer {
    answer.header("Docker-Distribution-Api-Version", "registry/2.0")
}

/// An answer of that type.
fn typed(status: u16, kind: &str, body: &str) -> Answer {
    Answer::status(status).header("Content-Type", kind).body(body)
}

/// OCI's error envelope, with a message.
fn envelope(status: u16, code: &str, message: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": message}]});
    typed(status, "application/json", &body.to_string())
}

/// 401, as Artifactory writes it: no code, no version.
fn without_code(status: u16) -> Answer {
    let body = json!({"errors": [{"status": status, "message": "Not Found"}]});
    typed(status, "application/json", &body.to_string())
}

/// Without the query.
fn path_of(asked: &ReceivedRequest) -> &str {
    asked.path.split('?').next().unwrap_or_default()
}
