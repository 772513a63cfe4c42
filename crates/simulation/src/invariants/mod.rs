//! What holds in every history. Each invariant is a function of the trace, and names what broke it.
//!
//! - [`credentials`]: where credentials went, and how often.
//! - [`deletion`]: deletion finishes, and nothing is written to another object of the same name.
//! - [`leadership`]: one replica writes at a time, and no process ends by itself.
//! - [`outcome`]: the desired state is reached, stays, and is the same as without faults.
//! - [`pace`]: how often registries are asked.
//! - [`promptness`]: a changed Secret is tried at once.
//! - [`pull_secrets`]: what happens to pull Secrets, and to those of other owners.
//! - `samples`: traces for the tests.
//! - [`status`]: what a status never says.

pub mod credentials;
pub mod deletion;
pub mod leadership;
pub mod outcome;
pub mod pace;
pub mod promptness;
pub mod pull_secrets;
#[cfg(test)]
pub mod samples;
pub mod status;

use std::fmt;

use crate::trace::HistoryTrace;

/// What broke an invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The name of the invariant.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// An invariant of one history.
pub type Invariant = fn(&HistoryTrace) -> Vec<String>;

/// The invariants by name.
pub const INVARIANTS: [(&str, Invariant); 23] = [
    ("nothing breaks", leadership::nothing_breaks),
    ("desired state is reached", outcome::desired_state_is_reached),
    ("desired state stays", outcome::desired_state_stays),
    ("changes show in time", outcome::changes_show_in_time),
    ("nothing is written in vain", outcome::nothing_is_written_in_vain),
    ("steady state writes nothing", outcome::steady_state_writes_nothing),
    ("credentials stay at permitted hosts", credentials::credentials_stay_at_permitted_hosts),
    ("rejected passwords wait", credentials::rejected_passwords_wait),
    ("suspended registries are left alone", credentials::suspended_registries_are_left_alone),
    ("deletion finishes", deletion::deletion_finishes),
    ("another object gets nothing", deletion::another_object_gets_nothing),
    ("one replica writes at a time", leadership::one_replica_writes_at_a_time),
    ("lease is released", leadership::lease_is_released),
    ("finalizer outlives pull secrets", pull_secrets::finalizer_outlives_pull_secrets),
    ("secrets of others stay", pull_secrets::secrets_of_others_stay),
    ("retry-after is honoured", pace::retry_after_is_honoured),
    ("validations have pauses", pace::validations_have_pauses),
    ("changed secrets are tried at once", promptness::changed_secrets_are_tried_at_once),
    ("registries are validated again", pace::registries_are_validated_again),
    ("verdicts rest on validations", status::verdicts_rest_on_validations),
    ("process keeps running", leadership::process_keeps_running),
    ("transition time moves with status", status::transition_time_moves_with_status),
    ("ready is never stale", status::ready_is_never_stale),
];

/// Returns what broke an invariant in a history.
pub fn violations(trace: &HistoryTrace) -> Vec<Violation> {
    let found = INVARIANTS
        .iter()
        .flat_map(|(invariant, check)| check(trace).into_iter().map(|what| Violation { invariant, what }));
    found.collect()
}
