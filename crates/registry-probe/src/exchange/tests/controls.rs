//! The anonymous control request for a named repository, if it gets no answer: that is no evidence for or against
//! the credentials.

use std::cell::Cell;

use super::simulation::*;
use crate::exchange::{ExchangeFindings, Failure, FailureCause};
use crate::findings::*;
use crate::host::HostPort;

/// The response to the last read of `hello`, which is the control.
type Control = Result<u16, FailureCause>;

/// Validates with the right password and this response to the control.
fn probe(world: &World, control: &Control) -> ExchangeFindings {
    let ask = SimulatedQuestion { credentials: basic(PASSWORD), repository: Some("hello") };
    let whole = world.probe(&ask).requests;
    let reads = whole.iter().filter(|request| request.contains("/tags/list")).count();
    assert_eq!(reads, 2, "the account's and the control: {whole:#?}");
    let read = Cell::new(0);
    let run = probe_with(&ask, |request| {
        read.set(read.get() + usize::from(request_line(request).contains("/tags/list")));
        match control.clone() {
            Ok(status) if read.get() == 2 => Ok(respond(request, status, &[], "")),
            Err(cause) if read.get() == 2 => {
                Err(Failure { server: HostPort::of(&request.url).unwrap(), cause })
            }
            _ => Ok(world.answer(request)),
        }
    });
    assert_eq!(run.requests[..], whole[..run.requests.len()], "nothing is asked otherwise");
    run.verdict
}

/// Registries that grant `hello` to the account only, so that only the control is evidence: with a token,
/// and with the password if `/v2/` is open to all.
fn worlds() -> [World; 2] {
    let open =
        SimulatedRegistry { challenges: vec![BASIC.into()], open: true, ..SimulatedRegistry::default() };
    [World::default(), World { registry: open, ..World::default() }]
}

fn with_method() -> HostPort {
    HostPort { host: "registry.example.com".parse().unwrap(), port: 443 }
}

#[test]
fn throttled_control_request_is_retried() {
    for world in worlds() {
        let verdict = probe(&world, &Ok(429));
        assert_eq!(verdict.credentials, CredentialsFinding::Throttled { by: with_method() });
        assert_eq!(verdict.content_path, ContentPathFinding::NotAttempted);
    }
}

#[test]
fn failed_control_request_is_retried() {
    let timeout = FailureCause::Timeout(Stage::Request);
    for (control, cause) in [
        (Ok(500), Unavailable::Status(500)),
        (Ok(503), Unavailable::Status(503)),
        (Err(timeout), Unavailable::Timeout(Stage::Request)),
        (Err(FailureCause::Refused), Unavailable::Refused),
        (Err(FailureCause::NotHttp), Unavailable::Unreadable),
    ] {
        for world in worlds() {
            let verdict = probe(&world, &control);
            let (server, cause) = (with_method(), cause.clone());
            assert_eq!(
                verdict.credentials,
                CredentialsFinding::TemporarilyUnavailable { server, cause },
                "{control:?}"
            );
            assert_eq!(verdict.content_path, ContentPathFinding::NotAttempted);
        }
    }
}

#[test]
fn only_a_refused_control_request_is_evidence() {
    let [by_token, by_password] = worlds();
    for status in [401, 403, 404] {
        for world in [&by_token, &by_password] {
            let verdict = probe(world, &Ok(status));
            assert_eq!(
                verdict.credentials,
                CredentialsFinding::Validated(Evidence::RefusedWithout),
                "{status}"
            );
        }
    }
    for status in [204, 302, 400, 405] {
        let unprovable = probe(&by_password, &Ok(status)).credentials;
        assert_eq!(unprovable, CredentialsFinding::Unprovable(Unprovable::AnonymousServed), "{status}");
    }
}
