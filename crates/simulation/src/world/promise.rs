//! Until when a registry must be as it should: from when each thing that it depends on is as it is now.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    cast::CastRegistry,
    registries::{ServerRecord, http::base64},
};

/// How long a change takes that a watch shows: two seconds, and a validation that is retried.
pub const SHOWN: Duration = Duration::from_secs(5);
/// How long a validation may be under way.
const UNDER_WAY: Duration = Duration::from_secs(12);
/// How long after a correction of a status that another client overwrote the next one comes, at the latest.
const BETWEEN_CORRECTIONS: Duration = Duration::from_secs(10);
/// How long a replica that starts waits for the Lease of one that ended.
const TAKE_OVER: Duration = Duration::from_secs(30);
/// How long a Secret of another owner may be looked for after it is gone.
const FOREIGN: Duration = Duration::from_secs(70);

/// When what registries depend on changed.
#[derive(Debug, Default)]
pub struct InputChanges {
    /// By registry: its inputs, and since when they have been so.
    inputs: BTreeMap<&'static str, (Value, Duration)>,
    /// When a Secret of another owner was seen last, by namespace and name.
    foreign: BTreeMap<(String, String), Duration>,
    /// By registry: when another client overwrote its status last, and whether it did so shortly before too.
    overwritten: BTreeMap<&'static str, (Duration, bool)>,
    /// When the operator's clock was set back last.
    pub set_back: Option<Duration>,
    /// When the operator's clock was set ahead last.
    pub set_ahead: Option<Duration>,
}

impl InputChanges {
    /// Takes the inputs of a registry at a time. Returns since when they have been so.
    pub fn observe(&mut self, registry: &CastRegistry, inputs: Value, now: Duration) -> Duration {
        match self.inputs.get(registry.name) {
            Some((known, since)) if *known == inputs => *since,
            _ => {
                self.inputs.insert(registry.name, (inputs, now));
                now
            }
        }
    }

    /// Notes that another client overwrote the status of a registry.
    pub fn note_overwritten(&mut self, registry: &CastRegistry, now: Duration) {
        let before = self.overwritten.get(registry.name).map(|(at, _)| *at);
        let again = before.is_some_and(|before| now.saturating_sub(before) < 2 * BETWEEN_CORRECTIONS);
        self.overwritten.insert(registry.name, (now, again));
    }

    /// Returns when a status that another client overwrote again and again is corrected; zero if none did.
    pub fn corrected(&self, registry: &CastRegistry) -> Duration {
        match self.overwritten.get(registry.name) {
            Some((at, true)) => *at + BETWEEN_CORRECTIONS,
            Some((_, false)) | None => Duration::ZERO,
        }
    }

    /// Notes that a Secret of another owner exists.
    pub fn note_foreign(&mut self, namespace: &str, name: &str, now: Duration) {
        self.foreign.insert((namespace.to_owned(), name.to_owned()), now);
    }

    /// Whether a Secret of another owner exists there, or did a moment ago.
    pub fn was_foreign(&self, namespace: &str, name: &str, now: Duration) -> bool {
        let seen = self.foreign.get(&(namespace.to_owned(), name.to_owned()));
        seen.is_some_and(|seen| now.saturating_sub(*seen) < FOREIGN)
    }
}

/// Returns what a verdict depends on besides the registry's server.
pub fn inputs(object: Option<&Value>, secret: Option<&Value>, is_permitted: bool) -> Value {
    let Some(object) = object else { return Value::Null };
    let of = |pointer: &str| object.pointer(pointer).cloned().unwrap_or_default();
    let content = secret.map(|secret| json!([secret["type"], secret["data"]]));
    json!([of("/metadata/uid"), of("/spec"), asked(object), content, is_permitted])
}

fn asked(object: &Value) -> &Value {
    &object["metadata"]["annotations"][registry_api::REQUESTED_AT]
}

/// What decides when a registry is as it should be.
#[derive(Clone, Copy, Debug)]
pub struct PromiseCase<'a> {
    /// The registry.
    pub registry: &'a CastRegistry,
    /// Whether its verdict depends on its server.
    pub needs_server: bool,
    /// Since when its inputs have been so.
    pub inputs: Duration,
    /// When its status is corrected that another client overwrote again and again; zero if none did.
    pub corrected: Duration,
    /// When its server changed last.
    pub server: Option<Duration>,
    /// How often its password was rejected there since it was accepted, and when last.
    pub rejected: (u32, Duration),
    /// When a replica started last.
    pub started: Duration,
    /// When the operator's clock was set back last.
    pub set_back: Option<Duration>,
    /// When the operator's clock was set ahead last.
    pub set_ahead: Option<Duration>,
    /// Whether the password is right now.
    pub is_right: bool,
}

/// Returns when a registry must be as it should be.
pub fn due(case: PromiseCase<'_>) -> Duration {
    let PromiseCase {
        registry,
        needs_server,
        inputs,
        corrected,
        server,
        rejected,
        started,
        set_back,
        set_ahead,
        is_right,
    } = case;
    let shown = inputs.max(corrected) + SHOWN;
    if !needs_server {
        return shown;
    }
    let is_newest = server.is_none_or(|server| server + UNDER_WAY <= inputs);
    let validated = if is_newest { shown } else { shown.max(server.unwrap_or_default() + again(registry)) };
    if rejected.0 == 0 || (!is_right && is_newest) {
        return validated;
    }
    // Of what the clock skipped, a replica that starts assumes that there were tries, so the pause may be an hour.
    if set_ahead.is_some_and(|at| at >= rejected.1 && started >= at) {
        return Duration::MAX;
    }
    // A pause begins again when it is found that the clock was set back.
    let is_set_back = set_back.is_some_and(|at| at >= rejected.1);
    let tried = tried_again(rejected, started);
    validated.max(if is_set_back { tried_again((rejected.0, tried), started) } else { tried })
}

/// How long it takes until a registry is validated again, at the latest.
pub fn again(registry: &CastRegistry) -> Duration {
    Duration::from_mins(registry.interval).mul_f64(1.1) + Duration::from_secs(20)
}

/// Returns when a password that was rejected so often, the last time then, has been tried again. Of tries that were due before a replica
/// started and leads, the operator assumes that they were made.
fn tried_again((mut times, last): (u32, Duration), started: Duration) -> Duration {
    let (mut earliest, mut latest) = (last, last);
    loop {
        let minutes = 1_u32 << times.saturating_sub(1).min(6);
        let pause = Duration::from_mins(minutes.min(60).into());
        earliest += pause;
        latest += pause.mul_f64(1.1) + UNDER_WAY;
        if started <= last || earliest > started + TAKE_OVER {
            return latest;
        }
        times += 1;
    }
}

/// Returns how often a user's password was rejected by a host since it was accepted, and when last.
pub fn rejections(records: &[ServerRecord], host: &str, login: &(String, String)) -> (u32, Duration) {
    let mut rejected = (0, Duration::ZERO);
    let shown = Some(format!("Basic {}", base64(&format!("{}:{}", login.0, login.1))));
    let tries = records.iter().filter(|record| record.host == host);
    for record in tries.filter(|record| record.request.authorization == shown) {
        rejected = match record.status {
            Some(200) => (0, Duration::ZERO),
            // A server counts a try though its answer may not arrive.
            _ => (rejected.0 + 1, record.at),
        };
    }
    rejected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::REGISTRIES;

    fn case() -> PromiseCase<'static> {
        PromiseCase {
            registry: &REGISTRIES[0],
            needs_server: true,
            inputs: Duration::from_mins(10),
            corrected: Duration::ZERO,
            server: None,
            rejected: (0, Duration::ZERO),
            started: Duration::ZERO,
            set_back: None,
            set_ahead: None,
            is_right: true,
        }
    }

    #[test]
    fn waits_only_for_what_the_operator_cannot_see() {
        let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
        assert_eq!(due(case()), minute * 10 + second * 5);
        let server = Some(minute * 11);
        assert_eq!(due(PromiseCase { server, ..case() }), minute * 11 + second * 86, "it is validated again");
        assert_eq!(due(PromiseCase { server, needs_server: false, ..case() }), minute * 10 + second * 5);
        let before = Some(minute * 9);
        assert_eq!(due(PromiseCase { server: before, ..case() }), minute * 10 + second * 5);
        let rejected = (3, minute * 9);
        assert!(due(PromiseCase { rejected, ..case() }) > minute * 13, "the password waits");
        assert_eq!(due(PromiseCase { rejected, is_right: false, ..case() }), minute * 10 + second * 5);
        let once = PromiseCase { rejected: (1, minute * 9), ..case() };
        assert!(due(once) < minute * 11, "after the pause");
        let meanwhile = due(PromiseCase { started: minute * 10, ..once });
        assert!(meanwhile > minute * 12 && meanwhile < minute * 13, "a try was due while no replica led");
        assert_eq!(due(PromiseCase { started: minute * 9, ..once }), due(once));
        let set_back = Some(minute * 10);
        assert!(
            due(PromiseCase { rejected, set_back, ..case() }) > minute * 17,
            "and its pause begins again"
        );
    }

    #[test]
    fn waits_for_the_correction_of_a_second_overwritten_status() {
        let (registry, second) = (&REGISTRIES[0], Duration::from_secs(1));
        let mut changes = InputChanges::default();
        let mut corrected = |at| {
            changes.note_overwritten(registry, second * at);
            changes.corrected(registry)
        };
        assert_eq!(
            [corrected(1), corrected(4), corrected(30)],
            [Duration::ZERO, second * 14, Duration::ZERO]
        );
        let overwritten = PromiseCase { corrected: second * 700, ..case() };
        assert_eq!(due(overwritten), second * 705);
        assert_eq!(due(PromiseCase { needs_server: false, ..overwritten }), second * 705);
    }

    #[test]
    fn knows_since_when_inputs_are_the_same() {
        let mut changes = InputChanges::default();
        let mut at = |value: i32, second| {
            changes.observe(&REGISTRIES[0], json!(value), Duration::from_secs(second)).as_secs()
        };
        assert_eq!([at(1, 1), at(1, 2), at(2, 3), at(2, 9)], [1, 1, 3, 3]);
    }
}
