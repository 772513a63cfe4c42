//! The faults that controllers are known to break under, each as a history of its own. The numbers are those of docs/reliability.md;
//! those that aren't here need the real parts.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use registry_simulation::{
    history::{
        HistoryEvent::{self, Fault, Step},
        InjectedFault as F, SimulatedHistory, TimedEvent, UserStep as S,
    },
    registries::{ServerCondition, ServerRecord},
    search::judge,
    trace::{AcceptedWrite, HistoryTrace},
    wire::fate::{Fate, KillPoint, NextWrites, WriteKind},
    world::run,
};
use serde_json::Value;

/// A history of a minute and a half, with these events at these milliseconds.
fn story(replicas: usize, events: Vec<(u64, HistoryEvent)>) -> SimulatedHistory {
    let timed = events.into_iter().map(|(at, event)| TimedEvent { at: Duration::from_millis(at), event });
    SimulatedHistory {
        seed: 1,
        replicas,
        events: timed.collect(),
        active: Duration::from_secs(90),
        calm: Duration::from_mins(5),
        asks: false,
    }
}

/// Two registries with pull Secrets and one without, all with the right password, and then these events.
fn with_registries(replicas: usize, events: Vec<(u64, HistoryEvent)>) -> SimulatedHistory {
    let mut all = Vec::new();
    for number in [0, 2, 4] {
        all.push((0, Step(S::WriteSecret(number, 1))));
        all.push((0, Step(S::Create(number, number != 4))));
    }
    all.extend(events);
    story(replicas, all)
}

/// Checks all invariants, with the comparison to the history without faults, and returns what happened.
#[track_caller]
fn holds(history: &SimulatedHistory) -> HistoryTrace {
    let violations = judge(history);
    assert!(violations.is_empty(), "{violations:#?}\n{history}");
    run(history).unwrap()
}

/// The operator's writes of a registry's status.
fn statuses<'a>(trace: &'a HistoryTrace, name: &'a str) -> impl Iterator<Item = &'a AcceptedWrite> {
    let of = |write: &&AcceptedWrite| write.by_operator && write.subresource == "status";
    trace.writes.iter().filter(of).filter(move |write| write.name == name)
}

/// When the registry was first Ready after a time.
fn ready_after(trace: &HistoryTrace, name: &str, after: u64) -> Duration {
    let after = Duration::from_millis(after);
    let mut later = statuses(trace, name).filter(|write| write.at >= after && is_ready(write));
    later.next().map_or(Duration::MAX, |write| write.at.saturating_sub(after))
}

fn is_ready(write: &AcceptedWrite) -> bool {
    let conditions = write.field("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

const MOVED: &str = "http://r3.three.example";

fn observed(write: &AcceptedWrite) -> Option<&Value> {
    write.field("/status/observedGeneration")
}

fn generation(write: &AcceptedWrite) -> Option<&Value> {
    write.field("/metadata/generation")
}

/// The request that a status answers.
fn handled(write: &AcceptedWrite) -> Option<&str> {
    write.field("/status/lastHandledReconcileAt").and_then(Value::as_str)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn fault_01_killed_around_each_write() {
    for (write, after) in (1..=14).flat_map(|write| [(write, false), (write, true)]) {
        let kill = F::KillAt(0, KillPoint { kind: WriteKind::Any, write, after }, seconds(1));
        let delete = [(40_000, Step(S::Delete(0))), (50_000, Step(S::PullSecret(2, false)))];
        let mut events = vec![(1, Fault(kill))];
        events.extend(delete);
        let trace = holds(&with_registries(1, events));
        assert_eq!(trace.starts.len(), 3, "started, killed at write {write}, started");
    }
}

#[test]
fn fault_02_reply_lost_after_write() {
    for lost in 1..=8 {
        let events = vec![
            (1, Fault(F::LostReplies(0, NextWrites { kind: WriteKind::Any, count: lost }))),
            (40_000, Step(S::Delete(2))),
        ];
        holds(&with_registries(1, events));
    }
}

#[test]
fn fault_04_leadership_lost_in_validation() {
    let slow = Step(S::Answer(0, ServerCondition::Slow(seconds(4))));
    let events =
        vec![(10_000, slow), (10_010, Step(S::Request(0))), (11_000, Fault(F::Frozen(0, seconds(40))))];
    let trace = holds(&with_registries(2, events));
    let by = |replica: usize, from: u64, to: u64| {
        let of = trace.requests.iter().filter(move |request| request.path.contains("/status"));
        let of = of.filter(move |request| request.replica == replica);
        of.filter(|request| (seconds(from)..seconds(to)).contains(&request.at)).count()
    };
    let began = trace.served.iter().any(|record| (seconds(10)..seconds(12)).contains(&record.at));
    assert!(began, "a validation is under way when the API server doesn't answer any more");
    assert!(by(1, 11, 51) > 0, "the other replica has taken over");
    assert_eq!(by(0, 22, 51), 0, "after its term, the first one writes nothing more");
    let answered = statuses(&trace, "system-a").any(|write| handled(write) == Some("10.01s"));
    assert!(answered, "the request that the first one could not answer is answered");
}

#[test]
fn fault_05_api_server_frozen() {
    let events = vec![
        (10_000, Fault(F::Frozen(0, seconds(60)))),
        (20_000, Step(S::WriteSecret(0, 2))),
        (30_000, Step(S::WriteSecret(0, 1))),
        (40_000, Step(S::Delete(2))),
    ];
    holds(&with_registries(1, events));
}

#[test]
fn fault_06_stale_watch_after_switch() {
    let events = vec![
        (10_000, Fault(F::Stale(1, seconds(30)))),
        (12_000, Step(S::Move(0, 3))),
        (13_000, Step(S::DeleteSecret(2))),
        (15_000, Fault(F::Kill(0, seconds(40)))),
    ];
    let trace = holds(&with_registries(2, events));
    let mut by_other = trace.requests.iter().filter(|request| request.replica == 1);
    assert!(by_other.any(|request| request.path.contains("/status")), "the other one has taken over");
    let of_older = statuses(&trace, "system-a").filter(|write| write.at > seconds(12));
    let of_older = of_older.filter(|write| observed(write) != generation(write)).count();
    assert_eq!(of_older, 0, "it writes nothing of the spec that its cache still has");
    assert!(ready_after(&trace, "system-a", 12_000) < seconds(60), "it moved");
    let missing = statuses(&trace, "alpha-a").last().unwrap();
    assert!(missing.field("/status").unwrap().to_string().contains("SecretNotFound"));
}

#[test]
fn fault_07_recreated_during_validation() {
    let slow = Step(S::Answer(0, ServerCondition::Slow(seconds(5))));
    let events = vec![(10_000, slow), (10_010, Step(S::Request(0))), (12_000, Step(S::Recreate(0, 3)))];
    let trace = holds(&with_registries(1, events));
    let of = |write: &AcceptedWrite| write.field("/spec/endpoint").and_then(Value::as_str) == Some(MOVED);
    let first = statuses(&trace, "system-a").find(|write| of(write)).unwrap();
    assert!(first.at >= seconds(12) && is_ready(first), "the new one's first status is its own verdict");
    let newest = statuses(&trace, "system-a").last().unwrap();
    assert!(of(newest) && newest.uid() == first.uid() && is_ready(newest));
}

#[test]
fn fault_08_cache_predates_the_deletion() {
    let events = vec![
        (10_000, Fault(F::Stale(0, seconds(30)))),
        (12_000, Step(S::Recreate(4, 1))),
        (14_000, Step(S::Delete(2))),
        (16_000, Fault(F::Kill(0, seconds(1)))),
    ];
    holds(&with_registries(1, events));
}

#[test]
fn fault_09_intermediate_updates_unseen() {
    let mut events = vec![(10_000, Fault(F::Blackholed(0, seconds(10))))];
    events.extend(
        (1..8_u64).map(|step| (10_000 + step * 1000, Step(S::Move(0, usize::try_from(step % 4).unwrap())))),
    );
    let trace = holds(&with_registries(1, events));
    let unseen = statuses(&trace, "system-a").filter(|write| {
        (seconds(11)..seconds(20)).contains(&write.at) && observed(write) == generation(write)
    });
    assert_eq!(unseen.count(), 0, "the watch is silent meanwhile");
    let newest = statuses(&trace, "system-a").last().unwrap();
    assert_eq!(newest.field("/spec/endpoint").unwrap(), MOVED, "the last one wins");
    assert!(is_ready(newest) && observed(newest) == generation(newest));
}

#[test]
fn fault_10_deletions_missed_and_410() {
    let events = vec![
        (10_000, Fault(F::Blackholed(0, seconds(20)))),
        (12_000, Step(S::Delete(4))),
        (13_000, Step(S::DeleteSecret(0))),
        (14_000, Step(S::DeletePullSecrets(2))),
        (25_000, Step(S::Compact)),
    ];
    let trace = holds(&with_registries(1, events));
    let gone = trace.writes.iter().any(|write| write.name == "beta-a" && write.after.is_none());
    assert!(gone, "it was deleted");
}

#[test]
fn fault_11_secret_rotated_while_watch_is_down() {
    let events = vec![
        (10_000, Fault(F::Blackholed(0, seconds(20)))),
        (12_000, Step(S::Accept(0, 2))),
        (15_000, Step(S::WriteSecret(0, 2))),
    ];
    let trace = holds(&with_registries(1, events));
    let tried = trace.served.iter().filter_map(|record| record.request.login());
    assert!(tried.into_iter().any(|login| login == ("system-a".to_owned(), "password-2".to_owned())));
}

#[test]
fn fault_13_third_of_calls_fails() {
    let events = vec![
        (1, Fault(F::Failing(0, 30, seconds(80)))),
        (20_000, Step(S::WriteSecret(0, 2))),
        (30_000, Step(S::Recreate(2, 3))),
        (40_000, Step(S::Label(1, false))),
        (50_000, Step(S::Label(1, true))),
        (60_000, Step(S::Delete(4))),
    ];
    holds(&with_registries(1, events));
}

#[test]
fn fault_14_status_forbidden() {
    let events = vec![
        (5_000, Fault(F::StatusForbidden(0, seconds(30)))),
        (6_000, Step(S::Move(0, 3))),
        (7_000, Step(S::Delete(2))),
    ];
    let trace = holds(&with_registries(1, events));
    let deleted = trace.writes.iter().find(|write| write.name == "alpha-a" && write.after.is_none()).unwrap();
    assert!(deleted.at < seconds(9), "a deletion doesn't wait for a status: {:?}", deleted.at);
    let refused = trace.requests.iter().filter(|request| request.fate == Fate::Refused(403)).count();
    assert!((3..40).contains(&refused), "it is tried again with pauses: {refused}");
    let written = statuses(&trace, "system-a").find(|write| write.at > seconds(6)).unwrap();
    assert!(written.at < seconds(35 + 31), "the status is written when it may be: {:?}", written.at);
}

#[test]
fn fault_17_undecodable_object_stops_no_other() {
    let events = vec![
        (5_000, Step(S::StoreUndecodable)),
        (10_000, Step(S::WriteSecret(0, 2))),
        (20_000, Step(S::WriteSecret(0, 1))),
    ];
    let trace = holds(&with_registries(1, events));
    let unready = statuses(&trace, "system-a").find(|write| write.at >= seconds(10)).unwrap();
    assert!(unready.at <= seconds(12) && !is_ready(unready), "the others' changes are seen");
    assert!(ready_after(&trace, "system-a", 20_000) <= seconds(2));
}

#[test]
fn fault_18_spec_changed_and_changed_back() {
    let events = vec![(10_000, Step(S::Move(0, 3))), (10_400, Step(S::Move(0, 0)))];
    let trace = holds(&with_registries(1, events));
    assert!(ready_after(&trace, "system-a", 10_400) <= seconds(2));
    let newest = statuses(&trace, "system-a").last().unwrap();
    assert_eq!(generation(newest), Some(&Value::from(3)), "both changes count");
    assert_eq!(observed(newest), generation(newest));
    let last_host = trace
        .served
        .iter()
        .rfind(|record| record.request.login().is_some_and(|(user, _)| user == "system-a"));
    assert_eq!(last_host.unwrap().host, "r0.zero.example");
}

#[test]
fn fault_19_bad_then_fixed() {
    let bad =
        [S::WriteSecret(0, 2), S::SpoilSecret(0), S::DeleteSecret(0), S::UseSecret(0, false), S::Move(0, 3)];
    let fix = [
        S::WriteSecret(0, 1),
        S::WriteSecret(0, 1),
        S::WriteSecret(0, 1),
        S::UseSecret(0, true),
        S::Move(0, 0),
    ];
    for (bad, fix) in bad.into_iter().zip(fix) {
        let wrong = Step(S::Accept(3, 2));
        let events = vec![(5_000, wrong), (10_000, Step(bad.clone())), (20_000, Step(fix))];
        let trace = holds(&with_registries(1, events));
        assert!(ready_after(&trace, "system-a", 20_000) <= seconds(2), "after {bad:?}");
    }
}

#[test]
fn fault_21_changed_ten_times_a_second() {
    let changes = (0..600_u64).map(|step| {
        let host = usize::try_from(step % 4).unwrap();
        (10_000 + step * 100, Step(S::Move(0, host)))
    });
    let trace = holds(&with_registries(1, changes.collect()));
    let minute = seconds(10)..seconds(71);
    let written = statuses(&trace, "system-a").filter(|write| minute.contains(&write.at)).count();
    assert!((1..=600).contains(&written), "{written} writes of the status in a minute");
    let newest = statuses(&trace, "system-a").last().unwrap();
    assert_eq!(newest.field("/spec/endpoint").unwrap(), MOVED, "the last one wins");
    assert!(is_ready(newest) && observed(newest) == generation(newest));
    assert!(ready_after(&trace, "system-a", 69_900) <= seconds(3), "and shows at once");
}

/// Seven seconds in which every request fails, so that every watch does a few times, but not long enough to lose the Lease.
fn outage(at: u64) -> Vec<(u64, HistoryEvent)> {
    vec![(at, Fault(F::Failing(0, 100, seconds(7)))), (at + 1, Fault(F::CutWatches(0)))]
}

#[test]
fn repairs_in_time_after_an_outage() {
    let mut events = outage(10_000);
    events.push((40_000, Step(S::DeletePullSecrets(0))));
    let trace = holds(&with_registries(1, events));
    let repaired = trace.writes.iter().find(|write| {
        write.by_operator
            && write.kind == "Secret"
            && write.name == "system-a-pull"
            && write.at >= seconds(40)
    });
    let repaired = repaired.expect("it is repaired").at;
    assert!(repaired <= seconds(42), "{repaired:?}");
}

/// The pause goes on where it was: it is stored in whole seconds, and must not become shorter by that.
#[test]
fn restart_shortens_no_pause_of_a_password() {
    let events = vec![
        (0, Step(S::WriteSecret(0, 2))),
        (0, Step(S::Create(0, false))),
        (30_000, Fault(F::Kill(0, seconds(1)))),
    ];
    let trace = holds(&story(1, events));
    let rejected: Vec<Duration> = trace
        .served
        .iter()
        .filter(|record| record.request.login().is_some())
        .map(|record| record.at)
        .collect();
    assert!(rejected[1] >= rejected[0] + seconds(60), "{rejected:?}");
}

/// The Lease is lost before the rejection is stored, and taken again.
#[test]
fn lost_lease_shortens_no_pause_of_a_password() {
    let events = vec![
        (0, Step(S::WriteSecret(0, 1))),
        (0, Step(S::Create(0, false))),
        (40_000, Step(S::Accept(0, 2))),
        (62_000, Fault(F::Failing(0, 100, seconds(15)))),
    ];
    let history = story(1, events);
    let trace = holds(&history);
    let rejected: Vec<Duration> = trace
        .served
        .iter()
        .filter(|tried| tried.status == Some(401) && tried.request.login().is_some())
        .map(|tried| tried.at)
        .collect();
    assert!((seconds(62)..seconds(67)).contains(&rejected[0]), "during the fault: {rejected:?}");
    assert!(rejected[1] >= history.active, "until a user asks for it: {rejected:?}");
}

/// The process ends before it has deleted the pull Secrets, and the next one can't list some namespaces at once.
#[test]
fn finalizer_waits_for_namespaces_that_failed_once() {
    let events = vec![
        (0, Step(S::WriteSecret(0, 1))),
        (0, Step(S::Create(0, true))),
        (0, Step(S::Create(2, false))),
        (0, Step(S::WriteSecret(4, 1))),
        (0, Step(S::Create(4, false))),
        (6_141, Fault(F::Failing(0, 33, Duration::from_millis(18_557)))),
        (11_378, Step(S::PullSecret(0, false))),
        (12_165, Fault(F::Stop(0, Duration::from_millis(2_116)))),
    ];
    let history = SimulatedHistory { seed: 1335, active: seconds(27), ..story(1, events) };
    let trace = holds(&history);
    let gone = trace.writes.iter().filter(|write| write.name == "system-a-pull" && write.after.is_none());
    let last = gone.map(|write| write.at).max().unwrap();
    let finalizers = |object: &Option<std::sync::Arc<serde_json::Value>>| {
        object.as_ref().is_some_and(|object| object.pointer("/metadata/finalizers/0").is_some())
    };
    let freed =
        trace.writes.iter().find(|write| finalizers(&write.before) && !finalizers(&write.after)).unwrap();
    assert!(
        last > seconds(14) && freed.at > last,
        "pull Secrets until {last:?}, finalizer until {:?}",
        freed.at
    );
}

/// A server may reject a password, and count that, though the answer comes too late to be seen.
#[test]
fn unanswered_try_of_a_rejected_password_waits() {
    let events = vec![
        (0, Step(S::WriteSecret(3, 2))),
        (0, Step(S::Create(3, false))),
        (33_000, Step(S::Answer(2, ServerCondition::Slow(Duration::from_millis(7384))))),
    ];
    let trace = holds(&story(1, events));
    let late = |tried: &&ServerRecord| tried.request.login().is_some() && tried.at > seconds(33);
    assert!(trace.served.iter().any(|tried| late(&tried)), "it is tried while the server is slow");
}

/// The registry's Secret has changed, and the deletion waits for the API server: nothing is to be done meanwhile.
#[test]
fn deletion_that_waits_makes_no_work() {
    let secret = NextWrites { kind: WriteKind::Any, count: 3 };
    for late in [3, 8, 12] {
        let events = vec![
            (20_000, Fault(F::LateWrites(0, secret, seconds(late)))),
            (20_000, Step(S::TouchSecret(0))),
            (20_001, Step(S::Recreate(0, 3))),
            (20_002, Step(S::WriteSecret(0, 2))),
            (21_000, Step(S::TouchSecret(0))),
        ];
        holds(&with_registries(1, events));
    }
}

#[test]
fn says_nothing_of_an_outage_that_is_over() {
    let mut events = vec![(0, Step(S::Create(1, true)))];
    events.extend(outage(10_000));
    holds(&story(1, events));
}

/// The validation of the one before is under way, the operator sees nothing of the deletion, and its write meets the new object.
#[test]
fn status_of_a_deleted_registry_goes_to_no_other() {
    let events = vec![
        (8_000, Step(S::Move(4, 1))),
        (10_000, Step(S::Answer(1, ServerCondition::Slow(seconds(3))))),
        (10_010, Step(S::Request(4))),
        (10_100, Fault(F::Blackholed(0, seconds(30)))),
        (11_000, Step(S::Recreate(4, 3))),
    ];
    let trace = holds(&with_registries(1, events));
    let recreated =
        trace.writes.iter().rfind(|write| write.name == "beta-a" && write.before.is_none()).unwrap();
    assert!((seconds(11)..seconds(12)).contains(&recreated.at), "it is there again: {:?}", recreated.at);
    let blind = seconds(12)..seconds(40);
    let sent =
        trace.requests.iter().filter(|sent| sent.path.contains("/beta-a/status") && blind.contains(&sent.at));
    assert!(sent.count() > 0, "the status is sent while the operator doesn't see the new one");
    let written = statuses(&trace, "beta-a").filter(|write| blind.contains(&write.at));
    assert_eq!(written.count(), 0, "and isn't accepted");
}

/// The answer to the last renewal of the Lease comes late, and then no request succeeds: the term counts from the request, and not from
/// the answer.
#[test]
fn term_counts_from_the_claim() {
    for late in [700, 1_000, 1_400] {
        let slow = F::Slow(0, Duration::from_millis(late), seconds(16));
        let mut events = vec![(10_000, Fault(slow)), (26_000, Fault(F::Failing(0, 100, seconds(16))))];
        events.extend((0..160).map(|change| {
            let host = usize::try_from(change % 4).unwrap();
            (26_000 + change * 100, Step(S::Move(0, host)))
        }));
        let trace = holds(&with_registries(1, events));
        let refused =
            trace.requests.iter().filter(|sent| sent.path.contains("/status") && sent.fate != Fate::Arrive);
        assert!(refused.count() > 10, "it tries to write meanwhile");
    }
}

/// The object changes a hundred times a second, so that a write of the version that was read before rarely succeeds.
#[test]
fn busy_object_gets_its_verdict_in_time() {
    let touches = (0..1500_u64).map(|touch| (10_000 + touch * 10, Step(S::Touch(0))));
    let moves = [12_000, 15_000, 18_000, 21_000];
    let hosts = [3, 0, 3, 0];
    let moved = moves.into_iter().zip(hosts).map(|(at, host)| (at, Step(S::Move(0, host))));
    let mut events: Vec<_> = touches.chain(moved).collect();
    events.sort_by_key(|(at, _)| *at);
    let trace = holds(&with_registries(1, events));
    for (at, generation_) in moves.into_iter().zip(2_i64..) {
        let mut verdicts = statuses(&trace, "system-a")
            .filter(|write| is_ready(write) && observed(write).and_then(Value::as_i64) >= Some(generation_));
        let verdict = verdicts.find(|write| write.at >= Duration::from_millis(at)).unwrap();
        let took = verdict.at.saturating_sub(Duration::from_millis(at));
        assert!(took < Duration::from_millis(500), "generation {generation_} took {took:?}");
    }
}

/// Nothing but the retry of the write would show the new state within the hour of this registry's interval.
#[test]
fn status_that_was_refused_is_written_in_the_end() {
    let events = vec![
        (0, Step(S::WriteSecret(1, 1))),
        (0, Step(S::Create(1, false))),
        (20_000, Fault(F::StatusForbidden(0, seconds(20)))),
        (21_000, Step(S::Move(1, 3))),
    ];
    let trace = holds(&story(1, events));
    let refused = trace.requests.iter().filter(|sent| sent.fate == Fate::Refused(403)).count();
    assert!((3..20).contains(&refused), "tried again with pauses: {refused}");
    let written = statuses(&trace, "system-b").last().unwrap();
    assert!(written.at < seconds(40 + 31) && is_ready(written) && observed(written) == generation(written));
}

/// A validation with the Secret before still waits for the registry.
#[test]
fn changed_secret_supersedes_validation() {
    let events = vec![
        (10_000, Step(S::Answer(0, ServerCondition::Slow(seconds(8))))),
        (10_010, Step(S::Request(0))),
        (11_000, Step(S::WriteSecret(0, 2))),
        (40_000, Step(S::Answer(0, ServerCondition::Up))),
        (41_000, Step(S::WriteSecret(0, 1))),
    ];
    let trace = holds(&with_registries(1, events));
    let asked: Vec<Duration> = trace
        .served
        .iter()
        .filter(|record| record.host == "r0.zero.example")
        .map(|record| record.at)
        .collect();
    let begun = |second: u64| asked.iter().any(|at| (seconds(second)..seconds(second + 1)).contains(at));
    assert!(begun(10) && begun(11), "a new validation begins: {asked:?}");
}

#[test]
fn clock_set_back_stops_no_validation() {
    let events = vec![
        (20_000, Fault(F::Jump(-3600))),
        (30_000, Step(S::Answer(0, ServerCondition::Status(503, None)))),
        (60_000, Step(S::Answer(0, ServerCondition::Up))),
    ];
    let trace = holds(&with_registries(1, events));
    let tried =
        trace.served.iter().filter(|record| record.request.login().is_some() && record.at > seconds(90));
    assert!(tried.count() >= 6, "two registries, each at least once a minute");
}

/// A user's own pull Secret has the name of the operator's, and nothing but its owner tells them apart.
#[test]
fn secret_of_a_user_is_not_replaced() {
    let events = vec![
        (20_000, Step(S::DeletePullSecrets(0))),
        (20_000, Step(S::ForeignSecret(0, 1))),
        (60_000, Step(S::WriteSecret(0, 2))),
        (60_000, Step(S::Accept(0, 2))),
    ];
    let trace = holds(&with_registries(1, events));
    let of = |write: &&AcceptedWrite| write.name == "system-a-pull" && write.namespace == "alpha-2";
    let last = trace.writes.iter().rfind(of).unwrap();
    assert!(!last.by_operator && last.before.is_none(), "the user's creation is the last write of it");
    let elsewhere = |write: &&AcceptedWrite| write.name == "system-a-pull" && write.namespace == "beta-1";
    assert!(trace.writes.iter().rfind(elsewhere).unwrap().at > seconds(60), "the others get the password");
}

#[test]
fn credentials_follow_no_redirect() {
    let events = vec![
        (20_000, Step(S::Answer(0, ServerCondition::Redirected(1)))),
        (20_010, Step(S::Request(0))),
        (50_000, Step(S::Answer(0, ServerCondition::Up))),
        (50_010, Step(S::Request(0))),
    ];
    let trace = holds(&with_registries(1, events));
    let redirected = |record: &&ServerRecord| record.host == "r0.zero.example" && record.status == Some(307);
    assert!(trace.served.iter().any(|record| redirected(&record)), "it redirects");
    let elsewhere = |record: &&ServerRecord| {
        record.host == "r1.one.example" && record.request.login().is_some_and(|(user, _)| user == "system-a")
    };
    assert!(!trace.served.iter().any(|record| elsewhere(&record)), "without the password");
}

/// The next write of the Secret finds that it exists, and counts it.
#[test]
fn pull_secret_whose_reply_was_lost_counts() {
    for lost in 1..=4 {
        let writes = NextWrites { kind: WriteKind::PullSecret, count: lost };
        let trace = holds(&with_registries(1, vec![(1, Fault(F::LostReplies(0, writes)))]));
        let newest = statuses(&trace, "system-a").last().unwrap();
        let counted = newest.field("/status/availability/pullSecrets").and_then(Value::as_i64);
        assert_eq!(counted, Some(4), "{lost} replies were lost");
    }
}

/// The pause is a minute, and begins again, although its end is an hour away by the clock.
#[test]
fn clock_set_back_lengthens_no_pause() {
    let events = vec![
        (0, Step(S::WriteSecret(0, 2))),
        (0, Step(S::Create(0, false))),
        (3_000, Fault(F::Jump(-5326))),
        (6_000, Step(S::Accept(0, 2))),
    ];
    let trace = holds(&story(1, events));
    let ready = ready_after(&trace, "system-a", 6_000);
    assert!((seconds(60)..seconds(140)).contains(&ready), "after two pauses at most: {ready:?}");
}
