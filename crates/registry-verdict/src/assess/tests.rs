//! Tables from what was observed to every condition.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use registry_api::{
    ConditionType, Reason, RegistryStatus, SystemRegistry,
    condition::LAYERS,
    spec::{RegistrySpec, Validation},
};
use registry_probe::{
    ConnectionFailure, ContentPathFinding, CredentialsFinding, DnsFailure, Endpoint, EndpointFinding,
    Evidence, Findings, HostPort, Inconclusive, ProxyFailure, ProxyFault, Stage, TlsDefect, TlsFinding,
    Unavailable, Unprovable, Withholding,
};

use super::{
    catalogue::{presented, usable},
    *,
};
use crate::resolve::{Reference, ReferenceKind};

fn server() -> HostPort {
    Endpoint::parse("https://registry.example.com:5000").unwrap().server().clone()
}

fn refused() -> Findings {
    Findings {
        endpoint: EndpointFinding::ConnectionRefused { server: server() },
        tls: TlsFinding::NotAttempted,
        credentials: CredentialsFinding::NotAttempted,
        content_path: ContentPathFinding::NotAttempted,
        ..usable()
    }
}

fn object(generation: i64, status: RegistryStatus) -> RegistryObject {
    let validation = Validation { failure_threshold: 3, ..Validation::default() };
    let spec = RegistrySpec { validation, ..RegistrySpec::default() };
    let mut registry = SystemRegistry::new("packs", spec);
    registry.metadata.generation = Some(generation);
    registry.status = Some(status);
    RegistryObject::of(registry)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The verdict on a registry that has no pull Secrets.
fn verdict(object: &RegistryObject, validation: &ValidationRecord) -> (RegistryStatus, ValidationOutcome) {
    (assess(object, validation, &AvailabilityReport::default()), validation.outcome())
}

fn probed(findings: Findings, second: i64) -> ValidationRecord {
    ValidationRecord::first(Observation::Probed(Box::new(findings)), at(second))
}

fn new_object() -> RegistryObject {
    object(1, RegistryStatus::default())
}

fn judged(findings: Findings) -> (RegistryStatus, ValidationOutcome) {
    verdict(&new_object(), &probed(findings, 100))
}

fn ready(status: &RegistryStatus) -> (&str, &str) {
    let ready = status.condition(ConditionType::Ready).unwrap();
    (&ready.status, &ready.reason)
}

#[test]
fn own_limits_are_reported_in_every_layer() {
    let (own, dns) = (ConnectionFailure::OwnLimit, DnsFailure::OwnLimit);
    let server = server();
    let failed = |cause| EndpointFinding::ConnectionFailed { server: server.clone(), cause };
    let credentials = |cause| CredentialsFinding::TemporarilyUnavailable { server: server.clone(), cause };
    for (findings, expected) in [
        (usable(), false),
        (Findings { endpoint: failed(ConnectionFailure::Other), ..usable() }, false),
        (Findings { endpoint: failed(own), ..usable() }, true),
        (
            Findings {
                endpoint: EndpointFinding::DnsFailure { host: server.host.clone(), cause: dns },
                ..usable()
            },
            true,
        ),
        (Findings { credentials: credentials(Unavailable::Connection(own)), ..usable() }, true),
        (Findings { credentials: credentials(Unavailable::Dns(dns)), ..usable() }, true),
        (Findings { credentials: credentials(Unavailable::Refused), ..usable() }, false),
    ] {
        assert_eq!(findings.hit_own_limit(), expected, "{findings:?}");
    }
}

#[test]
fn validated_message_is_fixed() {
    let (status, outcome) = judged(usable());
    let credentials = status.condition(ConditionType::CredentialsValidated).unwrap();
    assert_eq!(
        (credentials.status.as_str(), credentials.message.as_str()),
        ("True", "Credentials validated")
    );
    assert_eq!(ready(&status), ("True", "Available"));
    assert_eq!(outcome, ValidationOutcome::Usable);
}

#[test]
fn ready_takes_reason_of_first_failing_layer() {
    let rejected = CredentialsFinding::Rejected { by: server(), status: 401 };
    let unknown = TlsDefect::UnknownIssuer { issuer: "CN=x".into(), self_signed: false };
    let failed = TlsFinding::Failed { server: server(), defect: unknown, also: Vec::new(), presented: None };
    for (findings, reason, outcome) in [
        (refused(), "ConnectionRefused", ValidationOutcome::Transient { retry_after: None }),
        (
            Findings { credentials: rejected, ..usable() },
            "Rejected",
            ValidationOutcome::Rejected { pause: None },
        ),
        (
            Findings { tls: failed, credentials: CredentialsFinding::NotAttempted, ..usable() },
            "UnknownIssuer",
            ValidationOutcome::Definite,
        ),
        (
            Findings { credentials: CredentialsFinding::Required, ..usable() },
            "Required",
            ValidationOutcome::Definite,
        ),
        (
            Findings {
                credentials: CredentialsFinding::Throttled { by: server() },
                retry_after: Some(Duration::from_secs(7)),
                ..usable()
            },
            "Throttled",
            ValidationOutcome::Transient { retry_after: Some(Duration::from_secs(7)) },
        ),
    ] {
        let (status, seen) = judged(findings);
        assert_eq!(ready(&status), ("False", reason));
        assert_eq!(seen, outcome, "{reason}");
    }
}

#[test]
fn skipped_and_unprovable_checks_keep_ready() {
    let plain = Findings { tls: TlsFinding::PlainHttp, ..usable() };
    assert_eq!(ready(&judged(plain).0), ("True", "Available"));
    let skipped =
        TlsFinding::Skipped { server: server(), defect: None, also: Vec::new(), ca_would_verify: None };
    assert_eq!(ready(&judged(Findings { tls: skipped, ..usable() }).0), ("True", "Available"));
    let unprovable = CredentialsFinding::Unprovable(Unprovable::AnonymousServed);
    assert_eq!(
        ready(&judged(Findings { credentials: unprovable, ..usable() }).0),
        ("True", "CredentialsUnprovable")
    );
}

#[test]
fn unsupported_settings_fail_resolved_refs() {
    for error in [SpecError::EcrUnsupported, SpecError::Place(ecr::EcrEndpointError::Public)] {
        let (status, outcome) =
            verdict(&new_object(), &ValidationRecord::first(Observation::Unfit(error), at(100)));
        let references = status.condition(ConditionType::ResolvedRefs).unwrap();
        assert_eq!((references.status.as_str(), references.reason.as_str()), ("False", "NotPermitted"));
        assert_eq!((ready(&status), outcome), (("False", "NotPermitted"), ValidationOutcome::Definite));
        assert!(status.is_true(ConditionType::Stalled));
    }
}

/// Returns status and reason of the condition.
fn says(seen: Observation, condition: ConditionType) -> (String, String) {
    let (status, _) = verdict(&new_object(), &ValidationRecord::first(seen, at(100)));
    let condition = status.condition(condition).unwrap();
    (condition.status.clone(), condition.reason.clone())
}

#[test]
fn similar_findings_have_distinct_reasons() {
    let probed = |findings| Observation::Probed(Box::new(findings));
    let mismatch = TlsDefect::HostnameMismatch { expected: "a".into(), names: vec!["b".into()] };
    let failed = TlsFinding::Failed { server: server(), defect: mismatch, also: Vec::new(), presented: None };
    let repository = registry_probe::RepositoryName::parse("packs/hello").unwrap();
    let denied = ContentPathFinding::Denied { repository, status: 403 };
    let throttled = EndpointFinding::Throttled { server: server() };
    let reference = Reference::new(ReferenceKind::Secret, "team-a", "login");
    let forbidden = Problem::AccessDenied { reference, operator: "--user=x".into(), obstacle: None };
    let action =
        ecr::Cause::ActionDenied { action: "ecr:GetAuthorizationToken", denial: ecr::Denial::default() };
    let refusal =
        AwsRefusal { cause: action, api: ecr::Api::Ecr, region: "eu-west-1".into(), retry_after: None };
    let aws = ecr::EcrObservation { findings: usable(), refusal: Some(refusal), renewal: None, used: None };
    for (seen, condition, status, reason) in [
        (
            probed(Findings { endpoint: throttled, ..refused() }),
            ConditionType::EndpointReachable,
            "Unknown",
            "Throttled",
        ),
        (
            probed(Findings { tls: failed, ..usable() }),
            ConditionType::TLSVerified,
            "False",
            "HostnameMismatch",
        ),
        (
            probed(Findings { credentials: CredentialsFinding::Expired, ..usable() }),
            ConditionType::CredentialsValidated,
            "False",
            "Expired",
        ),
        (
            probed(Findings { content_path: denied, ..usable() }),
            ConditionType::ContentPathAccessible,
            "False",
            "Denied",
        ),
        (Observation::Unresolved(forbidden), ConditionType::ResolvedRefs, "False", "AccessDenied"),
        (
            Observation::Unfit(SpecError::SeveralMethods),
            ConditionType::EndpointReachable,
            "False",
            "NotARegistry",
        ),
        (Observation::Ecr(Box::new(aws)), ConditionType::CredentialsValidated, "False", "Forbidden"),
    ] {
        assert_eq!(says(seen, condition), (status.to_owned(), reason.to_owned()));
    }
}

#[test]
fn ready_message_mentions_unchecked_content_path() {
    let message = |edit: fn(&mut RegistryObject)| {
        let mut object = object(1, RegistryStatus::default());
        edit(&mut object);
        let (status, _) = verdict(&object, &probed(usable(), 100));
        let said = |condition| status.condition(condition).unwrap().message.clone();
        assert_eq!(said(ConditionType::CredentialsValidated), "Credentials validated");
        said(ConditionType::Ready)
    };
    assert_eq!(message(|_| ()), "Credentials validated", "no path is asked for");
    assert_eq!(
        message(|object| object.spec.base_content_path = Some("paks".into())),
        "Credentials validated; spec.baseContentPath not checked: set spec.validation.repository"
    );
    let named = message(|object| {
        object.spec.base_content_path = Some("packs".into());
        object.spec.validation.repository = Some("hello".into());
    });
    assert_eq!(named, "Credentials validated");
}

#[test]
fn waiting_credentials_answer_no_request() {
    let wait = Duration::from_secs(40);
    let withheld = |why| Findings {
        credentials: CredentialsFinding::Withheld { server: server(), why },
        retry_after: Some(wait),
        ..usable()
    };
    let (good, _) = judged(usable());
    let asked = RegistryObject { requested_at: Some("now".into()), ..object(2, good.clone()) };
    for (why, condition, marker) in [
        (Withholding::TriedTooOften, ("False", "Rejected"), ConditionType::Stalled),
        (Withholding::TooManyRejected, ("Unknown", "Throttled"), ConditionType::Reconciling),
        (Withholding::MemoryFull, ("Unknown", "Throttled"), ConditionType::Reconciling),
        (Withholding::UnderWay, ("Unknown", "Throttled"), ConditionType::Reconciling),
    ] {
        let changed = ValidationRecord { same_inputs: false, ..probed(withheld(why), 200) };
        let (status, outcome) = verdict(&asked, &changed);
        let credentials = status.condition(ConditionType::CredentialsValidated).unwrap();
        assert_eq!((credentials.status.as_str(), credentials.reason.as_str()), condition);
        assert_eq!(ready(&status), ("False", condition.1));
        assert!(status.is_true(marker), "{why:?}");
        assert_eq!(outcome, ValidationOutcome::Postponed { wait });
        assert_eq!(status.last_handled_reconcile_at, None, "the request is still to be answered");
        // A Ready, unchanged registry stays Ready if nothing is found against it.
        let (status, _) = verdict(&object(1, good.clone()), &probed(withheld(why), 200));
        assert_eq!(status.is_true(ConditionType::Ready), condition.0 == "Unknown", "{why:?}");
    }
}

#[test]
fn never_ready_without_findings() {
    let nothing = Findings { endpoint: EndpointFinding::NotAttempted, ..refused() };
    assert_eq!(ready(&judged(nothing).0), ("Unknown", "Progressing"));
}

#[test]
fn definite_failure_stalls_transient_reconciles() {
    let (definite, _) = judged(Findings { credentials: CredentialsFinding::Required, ..usable() });
    assert!(
        definite.is_true(ConditionType::Stalled) && definite.condition(ConditionType::Reconciling).is_none()
    );
    let (transient, _) = judged(refused());
    assert!(
        transient.is_true(ConditionType::Reconciling)
            && transient.condition(ConditionType::Stalled).is_none()
    );
    let (good, _) = judged(usable());
    assert_eq!(good.conditions.len(), 6, "neither is there when all is well");
}

#[test]
fn keeps_ready_below_failure_threshold() {
    let (mut status, _) = judged(usable());
    for (failures, expected) in [(0, "True"), (1, "True"), (2, "False")] {
        let validation = ValidationRecord { transient_failures: failures, ..probed(refused(), 200) };
        (status, _) = verdict(&object(1, status), &validation);
        assert_eq!(ready(&status).0, expected, "after {} failures", failures + 1);
        assert_eq!(status.condition(ConditionType::EndpointReachable).unwrap().reason, "ConnectionRefused");
        assert_eq!(status.condition(ConditionType::CredentialsValidated).unwrap().reason, "NotAttempted");
    }
}

#[test]
fn new_spec_or_credentials_reset_readiness() {
    let (status, _) = judged(usable());
    let (changed_spec, _) = verdict(&object(2, status.clone()), &probed(refused(), 200));
    assert_eq!(ready(&changed_spec), ("False", "ConnectionRefused"));
    let other = ValidationRecord { same_inputs: false, ..probed(refused(), 200) };
    let (changed_secret, _) = verdict(&object(1, status), &other);
    assert_eq!(ready(&changed_secret), ("False", "ConnectionRefused"));
}

#[test]
fn transition_time_changes_only_with_status() {
    let (first, _) = judged(usable());
    let (second, _) = verdict(&object(1, first.clone()), &probed(usable(), 200));
    let times = |status: &RegistryStatus| {
        status.conditions.iter().map(|condition| condition.last_transition_time.clone()).collect::<Vec<_>>()
    };
    assert_eq!(times(&first), times(&second));
    let rejected =
        Findings { credentials: CredentialsFinding::Rejected { by: server(), status: 401 }, ..usable() };
    let (third, _) = verdict(&object(1, first), &probed(rejected, 300));
    let time = |condition| third.condition(condition).unwrap().last_transition_time.0;
    assert_eq!(time(ConditionType::EndpointReachable), at(100));
    assert_eq!(time(ConditionType::CredentialsValidated), at(300));
}

#[test]
fn repeated_failure_changes_only_the_time() {
    let (first, _) = judged(refused());
    let (second, _) = verdict(&object(1, first.clone()), &probed(refused(), 200));
    assert_eq!(
        RegistryStatus { last_validation_time: None, ..first },
        RegistryStatus { last_validation_time: None, ..second }
    );
}

#[test]
fn spec_in_progress_drops_old_results() {
    let (before, _) = judged(usable());
    let status = progressing(&object(2, before), at(200));
    assert_eq!(ready(&status), ("Unknown", "Progressing"));
    assert!(status.is_true(ConditionType::Reconciling));
    for layer in LAYERS {
        assert_eq!(status.condition(layer.condition).unwrap().reason, "NotAttempted");
    }
}

#[test]
fn definite_failure_ends_ready_at_once() {
    let (was_ready, _) = judged(usable());
    let rejected =
        Findings { credentials: CredentialsFinding::Rejected { by: server(), status: 401 }, ..usable() };
    let (status, outcome) = verdict(&object(1, was_ready), &probed(rejected, 200));
    assert_eq!(
        (ready(&status), outcome),
        (("False", "Rejected"), ValidationOutcome::Rejected { pause: None })
    );
}

#[test]
fn unreachable_token_service_leaves_no_evidence() {
    let cause = Unavailable::Status(503);
    let credentials = CredentialsFinding::TemporarilyUnavailable { server: server(), cause };
    let (status, outcome) = judged(Findings { credentials, ..usable() });
    assert_eq!(ready(&status), ("False", "TemporarilyUnavailable"));
    assert_eq!(outcome, ValidationOutcome::Transient { retry_after: None });
}

#[test]
fn retries_without_verdict() {
    let credentials = CredentialsFinding::NotAttempted;
    let (status, outcome) = judged(Findings { credentials, ..usable() });
    assert_eq!(ready(&status), ("Unknown", "Progressing"));
    assert_eq!(outcome, ValidationOutcome::Transient { retry_after: None });
}

#[test]
fn later_transient_failure_stays_definite() {
    let repository = "hello".parse().unwrap();
    let away = Inconclusive::Unavailable { repository, server: server(), cause: Unavailable::Status(503) };
    let content_path = ContentPathFinding::Inconclusive(away);
    let alone = Findings { content_path: content_path.clone(), ..usable() };
    assert_eq!(judged(alone).1, ValidationOutcome::Transient { retry_after: None });
    let required = Findings { credentials: CredentialsFinding::Required, content_path, ..usable() };
    assert_eq!(judged(required).1, ValidationOutcome::Definite);
}

/// Returns the result if AWS issued no token, for that cause.
fn refused_by_aws(cause: ecr::Cause, findings: Findings) -> (RegistryStatus, ValidationOutcome) {
    let retry_after = Some(Duration::from_secs(7));
    let refusal = AwsRefusal { cause, api: ecr::Api::Ecr, region: "eu-central-1".into(), retry_after };
    let seen = ecr::EcrObservation { findings, refusal: Some(refusal), renewal: None, used: None };
    verdict(&new_object(), &ValidationRecord::first(Observation::Ecr(Box::new(seen)), at(100)))
}

#[test]
fn aws_refusal_decides_credentials_condition() {
    let open = || Findings { credentials: CredentialsFinding::AnonymousAccess, ..usable() };
    for (cause, reason, outcome) in [
        (
            ecr::Cause::KeysRefused(ecr::KeyRefusal::WrongSecret),
            "Rejected",
            ValidationOutcome::Rejected { pause: Some(Duration::from_secs(7)) },
        ),
        (
            ecr::Cause::KeysRefused(ecr::KeyRefusal::Expired),
            "Expired",
            ValidationOutcome::Rejected { pause: Some(Duration::from_secs(7)) },
        ),
        (ecr::Cause::Other { code: "Strange".into() }, "Forbidden", ValidationOutcome::Definite),
        (
            ecr::Cause::Throttled,
            "Throttled",
            ValidationOutcome::Transient { retry_after: Some(Duration::from_secs(7)) },
        ),
    ] {
        let (status, seen) = refused_by_aws(cause, open());
        assert_eq!((ready(&status), seen), (("False", reason), outcome));
        let path = status.condition(ConditionType::ContentPathAccessible).unwrap();
        assert_eq!((path.status.as_str(), path.reason.as_str()), ("Unknown", "NotAttempted"));
    }
    let away = Findings { retry_after: None, ..refused() };
    let (status, seen) = refused_by_aws(ecr::Cause::KeysRefused(ecr::KeyRefusal::WrongSecret), away);
    assert_eq!(ready(&status), ("False", "ConnectionRefused"), "the layer before");
    assert_eq!(seen, ValidationOutcome::Transient { retry_after: None });
}

#[test]
fn next_validation_is_due_at_earliest_expiry() {
    let none = Findings { certificate: None, ..usable() };
    assert!(probed(none.clone(), 100).ends(0.0).is_empty());
    let credentials = Findings { credentials_expire_at: Some(at(500)), ..none };
    assert_eq!(probed(credentials.clone(), 100).ends(0.0), [at(500)]);
    let certificate = registry_probe::PresentedCertificate { not_after: at(400), ..presented() };
    let both = Findings { certificate: Some(certificate), ..credentials };
    assert_eq!(probed(both, 100).ends(0.0), [at(400), at(500)]);
}

#[test]
fn echoes_the_requested_at_annotation() {
    let asked = RegistryObject { requested_at: Some("now".into()), ..object(1, RegistryStatus::default()) };
    let (status, _) = verdict(&asked, &probed(usable(), 100));
    assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("now"));
}

/// The message names the proxy instead of the registry, and says what to do.
#[test]
fn reports_proxy_failure_as_such() {
    let proxy = HostPort { host: "proxy.example.com".parse().unwrap(), port: 3128 };
    let status = |fault| {
        let failure = ProxyFailure { proxy: Box::new(proxy.clone()), fault };
        judged(Findings { endpoint: EndpointFinding::ProxyFailed { server: server(), failure }, ..refused() })
            .0
    };
    for (fault, reason, said, definite) in [
        (
            ProxyFault::Refused,
            "ConnectionRefused",
            "refused the connection; check the operator's --proxy",
            false,
        ),
        (
            ProxyFault::Dns(DnsFailure::NoSuchName),
            "DNSFailure",
            "has no address; check the operator's --proxy",
            false,
        ),
        (
            ProxyFault::Timeout(Stage::Connect),
            "Timeout",
            "timed out connecting to proxy proxy.example.com:3128",
            false,
        ),
        (ProxyFault::Timeout(Stage::Request), "Timeout", "did not answer (spec.validation.timeout)", false),
        (
            ProxyFault::Connection(ConnectionFailure::Closed),
            "ConnectionFailed",
            "closed without an answer",
            false,
        ),
        (ProxyFault::Tls, "ConnectionFailed", "add its CA to --ca-file", false),
        (ProxyFault::NotHttp, "ConnectionFailed", "is not an HTTP proxy", false),
        (ProxyFault::Status(503), "ConnectionFailed", "returned HTTP status 503", false),
        (ProxyFault::Status(405), "ConnectionFailed", "returned HTTP status 405", true),
        (
            ProxyFault::LoginRequired,
            "ConnectionFailed",
            "requires a login (407); add it to the operator's --proxy",
            true,
        ),
        (ProxyFault::LoginRejected, "ConnectionFailed", "correct it in the operator's --proxy", true),
        (ProxyFault::Forbidden(403), "EgressDenied", "add it to --no-proxy", true),
    ] {
        let status = status(fault);
        let condition = status.condition(ConditionType::EndpointReachable).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", reason), "{fault:?}");
        let begins = format!("{} not reached: ", server());
        assert!(
            condition.message.starts_with(&begins) && condition.message.contains(said),
            "{}",
            condition.message
        );
        assert!(condition.message.contains("proxy.example.com"), "{}", condition.message);
        assert_eq!(status.is_true(ConditionType::Stalled), definite, "{fault:?}");
    }
}

/// What the operator says of that registry's pull Secrets.
fn note(note: &str) -> AvailabilityReport {
    let counts = AvailabilityStatus { namespaces: Some(3), ..AvailabilityStatus::default() };
    AvailabilityReport { counts: Some(counts), note: Some(note.to_owned()) }
}

#[test]
fn pull_secrets_are_reported_in_ready_alone() {
    let (plain, _) = judged(refused());
    let report = note("pull Secret not created in 1 namespace");
    let noted = assess(&new_object(), &probed(refused(), 100), &report);
    let message = |status: &RegistryStatus, condition| status.condition(condition).unwrap().message.clone();
    let with_note =
        format!("{}; pull Secret not created in 1 namespace", message(&plain, ConditionType::Ready));
    assert_eq!(message(&noted, ConditionType::Ready), with_note);
    assert_eq!(message(&noted, ConditionType::Reconciling), message(&plain, ConditionType::Reconciling));
    assert_eq!((noted.availability, plain.availability), (report.counts, None));
    assert_eq!(noted.conditions[..5], plain.conditions[..5]);
}

#[test]
fn a_long_note_is_cut_off() {
    let status = assess(&new_object(), &probed(usable(), 100), &note(&"x".repeat(2000)));
    assert_eq!(status.condition(ConditionType::Ready).unwrap().message.chars().count(), 1024);
}

#[test]
fn times_are_whole_seconds_as_they_are_stored() {
    let fraction = at(100).checked_add(Duration::from_millis(700)).unwrap();
    let findings = Findings { credentials_expire_at: Some(fraction), ..usable() };
    let validation = ValidationRecord { time: fraction, ..probed(findings, 0) };
    let (status, _) = verdict(&new_object(), &validation);
    let stored: RegistryStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    assert_eq!(status, stored);
}

fn any_findings() -> impl Strategy<Value = Findings> {
    let endpoint = prop_oneof![
        Just(EndpointFinding::NotAttempted),
        Just(EndpointFinding::Reachable),
        Just(EndpointFinding::DnsFailure { host: server().host, cause: DnsFailure::NoAnswer }),
        Just(EndpointFinding::Timeout { server: server(), during: Stage::Connect }),
        Just(EndpointFinding::ServerError { server: server(), status: 503 }),
        Just(EndpointFinding::Throttled { server: server() }),
    ];
    let tls =
        prop_oneof![Just(TlsFinding::NotAttempted), Just(TlsFinding::PlainHttp), Just(TlsFinding::Verified)];
    let credentials = prop_oneof![
        Just(CredentialsFinding::NotAttempted),
        Just(CredentialsFinding::AnonymousAccess),
        Just(CredentialsFinding::Required),
        Just(CredentialsFinding::Expired),
        Just(CredentialsFinding::Rejected { by: server(), status: 401 }),
        Just(CredentialsFinding::Withheld { server: server(), why: Withholding::TooManyRejected }),
        Just(CredentialsFinding::Unprovable(Unprovable::AnonymousServed)),
        Just(CredentialsFinding::TemporarilyUnavailable { server: server(), cause: Unavailable::NoToken }),
        Just(CredentialsFinding::Validated(Evidence::NamedInToken)),
    ];
    let content = prop_oneof![
        Just(ContentPathFinding::NotAttempted),
        Just(ContentPathFinding::Inconclusive(Inconclusive::NoRepositoryNamed)),
    ];
    (endpoint, tls, credentials, content).prop_map(|(endpoint, tls, credentials, content_path)| Findings {
        endpoint,
        tls,
        credentials,
        content_path,
        ..usable()
    })
}

proptest! {
    /// Each layer occurs once and in order, with a reason that `LAYERS` allows for its status. Ready is only True if
    /// the credentials are validated, not needed, or not provable.
    #[test]
    fn every_status_keeps_the_contract(findings in any_findings()) {
        let (status, _) = judged(findings);
        for (index, layer) in LAYERS.iter().enumerate() {
            let condition = &status.conditions[index];
            prop_assert_eq!(&condition.type_, layer.condition.as_str());
            let allowed = match condition.status.as_str() { "True" => layer.good, "False" => layer.bad, _ => layer.unknown };
            let reason: Reason = condition.reason.parse().unwrap();
            prop_assert!(allowed.contains(&reason), "{} {} {}", condition.type_, condition.status, condition.reason);
            prop_assert!(!condition.message.is_empty() && condition.message.chars().count() <= 1024);
            prop_assert_eq!(condition.observed_generation, Some(1));
        }
        if status.is_true(ConditionType::Ready) {
            let credentials = &status.condition(ConditionType::CredentialsValidated).unwrap().reason;
            prop_assert!(["Validated", "AnonymousAccess", "Unprovable"].contains(&credentials.as_str()));
        }
    }

    /// Once the status of a validation is written, the same validation leads to the same status; and another state of the pull
    /// Secrets changes nothing but the counts and the message of Ready.
    #[test]
    fn a_verdict_stays_the_same_until_the_next_validation(
        before in any_findings(), findings in any_findings(), transient_failures in 0u32..4, same_inputs: bool,
    ) {
        let object = |status| object(1, status);
        let (before, _) = judged(before);
        let validation = ValidationRecord { transient_failures, same_inputs, ..probed(findings, 200) };
        let (first, outcome) = verdict(&object(before), &validation);
        prop_assert_eq!(verdict(&object(first.clone()), &validation), (first.clone(), outcome));
        let noted = assess(&object(first.clone()), &validation, &note("a note"));
        let (again, _) = verdict(&object(noted.clone()), &validation);
        prop_assert_eq!(&again, &first);
        prop_assert!(noted.condition(ConditionType::Ready).unwrap().message.ends_with("; a note"));
    }
}
