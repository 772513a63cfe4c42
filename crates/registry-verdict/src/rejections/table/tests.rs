//! Every delay, to the second, and properties that hold for every history of attempts.

use proptest::prelude::*;

use super::*;

const REJECTED: CredentialAnswer = CredentialAnswer::Refused(HostRefusal::Rejected);

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn tenant(name: &str) -> Group {
    Group::Tenant(name.into())
}

/// A request of tenant a at host h with those credentials.
fn wish(password: u32) -> CredentialUse {
    let mut digest = Digest::default();
    digest[..4].copy_from_slice(&password.to_be_bytes());
    CredentialUse { group: tenant("a"), host: "h:443".into(), digest, requested: false, validated: None }
}

fn requested(password: u32) -> CredentialUse {
    CredentialUse { requested: true, ..wish(password) }
}

/// Makes an attempt, if allowed, which is rejected immediately.
fn tries(table: &mut Table, wish: &CredentialUse, now: Timestamp) -> bool {
    let Decision::Send(id) = table.decide(wish, now) else { return false };
    table.conclude(wish, id, REJECTED, now);
    true
}

fn minutes(wait: Duration) -> u64 {
    wait.as_secs() / 60
}

#[test]
fn rejections_back_off_up_to_sixty_minutes() {
    let mut table = Table::default();
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..9 {
        let Decision::Send(id) = table.decide(&wish(1), now) else {
            panic!("{:?}", table.decide(&wish(1), now))
        };
        let pause = table.conclude(&wish(1), id, REJECTED, now).unwrap();
        pauses.push(minutes(pause));
        let just_before = after(now, pause.saturating_sub(Duration::from_secs(1)));
        assert_eq!(
            table.decide(&wish(1), just_before),
            Decision::Paused(HostRefusal::Rejected, Duration::from_secs(1)),
            "another object meets the same pause"
        );
        // A retry comes up to a tenth later.
        now = after(now, pause.mul_f64(1.1));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn delays_are_per_credentials_host_and_group() {
    let mut table = Table::default();
    assert!(tries(&mut table, &wish(1), at(0)));
    assert!(tries(&mut table, &wish(2), at(0)));
    assert!(tries(
        &mut table,
        &CredentialUse { host: "other:443".into(), digest: [9; 16], ..wish(1) },
        at(0)
    ));
    assert!(tries(&mut table, &CredentialUse { group: tenant("b"), digest: [8; 16], ..wish(1) }, at(0)));
    assert!(!tries(&mut table, &wish(1), at(59)));
}

#[test]
fn limits_group_to_ten_rejections_a_minute() {
    let mut table = Table::default();
    let sent = (0..730u32).filter(|try_| tries(&mut table, &wish(*try_), at(u64::from(*try_) / 9))).count();
    assert_eq!(sent, 20, "73 passwords in 8 seconds, for 80 seconds");
    let sent = (0..10).filter(|n| tries(&mut table, &wish(5000 + n), at(81))).count();
    assert_eq!(sent, 0);
    assert_eq!(table.decide(&wish(6000), at(81)), Decision::TooManyRejected(Duration::from_secs(39)));
    let other = CredentialUse { host: "other:443".into(), digest: [7; 16], ..wish(1) };
    assert!(tries(&mut table, &other, at(81)), "another host is not concerned");
    assert!(tries(&mut table, &CredentialUse { group: tenant("b"), digest: [7; 16], ..wish(1) }, at(81)));
}

#[test]
fn three_requests_a_minute_are_tried_at_once() {
    let mut table = Table::default();
    let sent = (0..80u64).filter(|tenth| tries(&mut table, &requested(1), at(tenth / 10))).count();
    assert_eq!(sent, 3);
    assert_eq!(
        table.decide(&requested(1), at(8)),
        Decision::TriedTooOften(HostRefusal::Rejected, Duration::from_secs(52))
    );
    assert!(tries(&mut table, &requested(1), at(60)));
    assert!(tries(&mut table, &requested(2), at(60)), "other credentials");
}

#[test]
fn shares_one_try_of_the_same_credentials() {
    let mut table = Table::default();
    let Decision::Send(first) = table.decide(&wish(1), at(0)) else { panic!("not sent") };
    for _ in 0..39 {
        assert_eq!(table.decide(&wish(1), at(0)), Decision::Wait);
    }
    table.conclude(&wish(1), first, REJECTED, at(1));
    for _ in 0..39 {
        assert_eq!(
            table.decide(&wish(1), at(1)),
            Decision::Paused(HostRefusal::Rejected, Duration::from_mins(1))
        );
    }
}

#[test]
fn accepted_credentials_cause_no_delay() {
    let mut table = Table::default();
    let Decision::Send(first) = table.decide(&wish(1), at(0)) else { panic!("not sent") };
    table.conclude(&wish(1), first, CredentialAnswer::Accepted, at(0));
    let open: Vec<TryId> = (0..MOST_AT_A_HOST)
        .map(|_| match table.decide(&wish(1), at(1)) {
            Decision::Send(id) => id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(table.decide(&wish(1), at(1)), Decision::Wait, "all of them may be rejected by now");
    for id in open {
        table.conclude(&wish(1), id, CredentialAnswer::Accepted, at(1));
    }
    assert!(matches!(table.decide(&wish(1), at(20)), Decision::Send(_)));
    assert_eq!(table.decide(&wish(1), at(20)), Decision::Wait, "a while later, one goes ahead again");
}

#[test]
fn hanging_first_try_delays_five_seconds() {
    let mut table = Table::default();
    assert!(matches!(table.decide(&wish(1), at(0)), Decision::Send(_)));
    assert_eq!(table.decide(&wish(1), at(4)), Decision::Wait);
    assert!(matches!(table.decide(&wish(1), at(5)), Decision::Send(_)));
    assert!(matches!(table.decide(&wish(1), at(10)), Decision::Send(_)));
    assert_eq!(table.decide(&wish(1), at(30)), Decision::Wait, "three at most");
    assert!(matches!(table.decide(&wish(2), at(30)), Decision::Send(_)), "other credentials");
}

#[test]
fn cancelled_tries_count_as_rejected() {
    let mut table = Table::default();
    let sent = (0..73).filter(|password| {
        let Decision::Send(id) = table.decide(&wish(*password), at(0)) else { return false };
        table.conclude(&wish(*password), id, CredentialAnswer::NoAnswer, at(1));
        true
    });
    assert_eq!(sent.count(), MOST_AT_A_HOST);
    // Credentials that turn out to be right were never wrong.
    let mut table = Table::default();
    for second in 0..9 {
        let Decision::Send(id) = table.decide(&wish(1), at(second)) else { panic!("not sent") };
        table.conclude(&wish(1), id, CredentialAnswer::NoAnswer, at(second));
    }
    let Decision::Send(id) = table.decide(&wish(1), at(9)) else { panic!("not sent") };
    table.conclude(&wish(1), id, CredentialAnswer::Accepted, at(9));
    for password in 10..20 {
        assert!(tries(&mut table, &wish(password), at(9)));
    }
}

#[test]
fn unanswered_try_of_rejected_credentials_doubles_the_delay() {
    let mut table = Table::default();
    assert!(tries(&mut table, &wish(1), at(0)));
    let Decision::Send(id) = table.decide(&wish(1), at(60)) else { panic!("not sent") };
    let pause = table.conclude(&wish(1), id, CredentialAnswer::NoAnswer, at(70));
    assert_eq!(pause, Some(Duration::from_mins(2)));
    let paused = Decision::Paused(HostRefusal::Rejected, Duration::from_secs(1));
    assert_eq!(table.decide(&wish(1), at(189)), paused);
    assert!(matches!(table.decide(&wish(1), at(190)), Decision::Send(_)));
}

#[test]
fn concurrent_tries_double_the_delay_once() {
    let mut table = Table::default();
    let ids: Vec<TryId> = [0, 5, 10]
        .map(|second| match table.decide(&wish(1), at(second)) {
            Decision::Send(id) => id,
            other => panic!("{other:?}"),
        })
        .into();
    let pauses = ids.into_iter().map(|id| table.conclude(&wish(1), id, REJECTED, at(20)).map(minutes));
    assert_eq!(pauses.collect::<Vec<_>>(), [Some(1), Some(1), Some(1)]);
}

#[test]
fn full_table_keeps_delays_and_defers_tries() {
    let mut table = Table::default();
    let mut now = at(0);
    assert!(tries(&mut table, &wish(0), now));
    let at_host = |number: u32| CredentialUse { host: format!("h{}", number / 5).into(), ..wish(number) };
    let remembered = (1..2000).filter(|number| tries(&mut table, &at_host(*number), now)).count();
    assert_eq!(remembered, MOST_REJECTED - 1);
    assert!(matches!(table.decide(&at_host(3000), now), Decision::Full(_)));
    assert!(matches!(table.decide(&wish(0), now), Decision::Paused(..)), "the first is not flushed out");
    let of_another = CredentialUse { group: tenant("b"), digest: [7; 16], ..wish(1) };
    assert!(tries(&mut table, &of_another, now), "another tenant is not concerned");
    now = at(12 * 60);
    assert!(tries(&mut table, &at_host(3000), now), "they end by themselves");
}

#[test]
fn delays_survive_restart_and_clock_change() {
    let mut table = Table::default();
    assert!(tries(&mut table, &wish(1), at(0)));
    let (kept, revision) = (table.rejections(at(0)), table.revision());
    for minute in [1, 3] {
        assert!(tries(&mut table, &wish(1), at(60 * minute)));
    }
    assert_eq!(
        (table.rejections(at(180)), table.revision()),
        (kept.clone(), revision),
        "nothing to write again"
    );
    let restarted = || {
        let mut table = Table::default();
        table.resume(kept.clone());
        table
    };
    assert_eq!(
        restarted().decide(&wish(1), at(200)),
        Decision::Paused(HostRefusal::Rejected, Duration::from_secs(4 * 60 - 20 + 18)),
        "the third try may have been a tenth late"
    );
    let mut table = restarted();
    assert!(matches!(table.decide(&wish(1), at(200)), Decision::Paused(..)));
    assert!(tries(&mut table, &wish(1), at(438)));
    assert_eq!(
        table.decide(&wish(1), at(438)),
        Decision::Paused(HostRefusal::Rejected, Duration::from_mins(8))
    );
    assert!(tries(&mut restarted(), &wish(1), at(25 * 3600)), "a day later it is tried once");
    assert_eq!(restarted().rejections(at(200)), kept, "also of what nobody has asked for yet");
    let long_ago = Timestamp::UNIX_EPOCH;
    assert_eq!(
        restarted().decide(&wish(1), long_ago),
        Decision::Paused(HostRefusal::Rejected, Duration::from_mins(1))
    );
}

#[test]
fn delay_begins_again_when_clock_is_set_back() {
    let mut table = Table::default();
    assert!(tries(&mut table, &wish(1), at(7200)));
    let paused = |seconds| Decision::Paused(HostRefusal::Rejected, Duration::from_secs(seconds));
    assert_eq!(table.decide(&wish(1), at(0)), paused(60), "and not two hours");
    assert_eq!(table.decide(&wish(1), at(20)), paused(40));
    assert!(tries(&mut table, &wish(1), at(60)));
    assert_eq!(table.decide(&wish(1), at(60)), paused(120), "the second rejection");
}

#[test]
fn forgets_expired_records() {
    let mut table = Table::default();
    tries(&mut table, &wish(1), at(0));
    table.decide(&CredentialUse { group: tenant("b"), ..wish(2) }, at(3600));
    assert!(!table.groups.contains_key(&tenant("a")));
}

#[derive(Clone, Debug)]
struct Move {
    seconds: u64,
    password: u32,
    requested: bool,
    /// 0 to 9: how long the answer takes, in seconds.
    answer: u64,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (0..20u64, 0..15u32, any::<bool>(), 0..10u64)
        .prop_map(|(seconds, password, requested, answer)| Move { seconds, password, requested, answer });
    prop::collection::vec(one, 1..300)
}

proptest! {
    /// Whatever the requests and however late the answers: within a minute, at most ten attempts of a group start at a
    /// host, and at most three with the same credentials. Unrequested attempts with the same credentials keep their
    /// distance.
    #[test]
    fn no_history_exceeds_the_rate(moves in moves()) {
        let mut table = Table::default();
        let mut second = 0;
        let mut open: Vec<(u64, CredentialUse, TryId)> = Vec::new();
        let mut begun: Vec<(u64, u32, bool)> = Vec::new();
        for step in moves {
            second += step.seconds;
            open.sort_by_key(|(end, ..)| *end);
            while open.first().is_some_and(|(end, ..)| *end <= second) {
                let (end, wish, id) = open.remove(0);
                table.conclude(&wish, id, REJECTED, at(end));
            }
            let wish = CredentialUse { requested: step.requested, ..wish(step.password) };
            if let Decision::Send(id) = table.decide(&wish, at(second)) {
                begun.push((second, step.password, step.requested));
                open.push((second + step.answer, wish, id));
            }
        }
        for (index, (begin, password, _)) in begun.iter().enumerate() {
            let within = begun[index..].iter().filter(|(second, ..)| *second < begin + 60);
            let same = within.clone().filter(|(_, other, _)| other == password);
            prop_assert!(within.count() <= MOST_AT_A_HOST && same.count() <= MOST_OF_THE_SAME);
        }
    }
}

/// The process ended when the registry had accepted the credentials, and before the rejection was removed from what is stored.
#[test]
fn validation_after_a_stored_rejection_ends_it() {
    let mut table = Table::default();
    assert!(tries(&mut table, &wish(1), at(10)));
    let stored = table.rejections(at(30));
    for (validated, is_sent) in [(at(20), true), (at(10), false), (at(5), false)] {
        let mut restarted = Table::default();
        restarted.resume(stored.clone());
        let revision = restarted.revision();
        let decision = restarted.decide(&CredentialUse { validated: Some(validated), ..wish(1) }, at(30));
        assert_eq!(matches!(decision, Decision::Send(_)), is_sent, "{decision:?}");
        assert_eq!(restarted.rejections(at(30)).is_empty(), is_sent);
        assert_eq!(restarted.revision() != revision, is_sent, "it is stored");
    }
}
