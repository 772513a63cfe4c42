//! How much users may use at once and in a minute. Pure: `now` is an argument.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How many validations a user may start in [`WITHIN`], in all of the user's sessions.
const MOST_VALIDATIONS: usize = 20;
const WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// When each user's newest validations began, by the users' names.
#[derive(Debug, Default)]
pub struct ValidationBudget(HashMap<String, VecDeque<Timestamp>>);

impl ValidationBudget {
    /// Counts a validation, unless the user began too many in the last minute.
    pub fn take(&mut self, user: &str, now: Timestamp) -> bool {
        self.0.retain(|_, begun| {
            begun.retain(|at| now.duration_since(*at) < WITHIN);
            !begun.is_empty()
        });
        let begun = self.0.entry(user.to_owned()).or_default();
        let may = begun.len() < MOST_VALIDATIONS;
        if may {
            begun.push_back(now);
        }
        may
    }
}

/// How often each key is in use: a session's validations, or its pages that wait.
#[derive(Clone, Debug, Default)]
pub struct KeyedTurns(Arc<Mutex<HashMap<String, usize>>>);

/// A use of a key, until it is dropped.
#[derive(Debug)]
pub struct KeyedTurn {
    turns: KeyedTurns,
    key: String,
}

impl KeyedTurns {
    /// One more use of a key; none if it is used that often already.
    pub fn take(&self, key: &str, most: usize) -> Option<KeyedTurn> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry(key.to_owned()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(KeyedTurn { turns: self.clone(), key: key.to_owned() })
    }
}

impl Drop for KeyedTurn {
    fn drop(&mut self) {
        let mut uses = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = uses.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                uses.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn twenty_first_validation_in_a_minute_is_refused() {
        let mut budget = ValidationBudget::default();
        assert!((0..20).all(|_| budget.take("ann", at(0))));
        assert!(!budget.take("ann", at(59)));
        assert!(budget.take("bob", at(59)), "another user has another budget");
        assert!(budget.take("ann", at(60)));
        assert!(budget.take("ann", at(200)));
        assert_eq!(budget.0.len(), 1, "bob is forgotten");
    }

    #[test]
    fn turns_end_when_dropped() {
        let turns = KeyedTurns::default();
        let one = turns.take("a", 1).unwrap();
        assert!(turns.take("a", 1).is_none());
        assert!(turns.take("b", 1).is_some());
        drop(one);
        assert!(turns.0.lock().unwrap().is_empty());
        assert!(turns.take("a", 1).is_some());
    }
}
