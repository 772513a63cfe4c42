//! Who is signed in: one-time code, sessions, and their ends. Pure: `now` and random names are arguments.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    draft::Drafts,
    user::{SignIn, UserClient},
};

/// A session ends when it isn't used for that long.
const IDLE: SignedDuration = SignedDuration::from_mins(30);
/// A session ends after that time, used or not.
const LONGEST: SignedDuration = SignedDuration::from_hours(8);
/// How many sessions there are at most.
const MOST_SESSIONS: usize = 100;
/// How many validations a session may start in [`VALIDATIONS_WITHIN`].
const MOST_VALIDATIONS: usize = 20;
const VALIDATIONS_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// The way in, once: a code, and what the one who has it is signed in with.
pub struct Door {
    code: String,
    sign_in: SignIn,
}

impl Door {
    /// Opens for `code`.
    pub fn new(code: String, sign_in: SignIn) -> Self {
        Self { code, sign_in }
    }

    /// Whether that is the code. Takes the same time for every code of the same length.
    pub fn opens_for(&self, code: &str) -> bool {
        verify_slices_are_equal(self.code.as_bytes(), code.as_bytes()).is_ok()
    }

    /// What the holder of the code is signed in with.
    pub fn sign_in(&self) -> SignIn {
        self.sign_in.clone()
    }
}

/// A signed-in user.
pub struct Session<U = UserClient> {
    /// The user's way to the API server.
    pub user: U,
    /// The user's name, as the API server says it.
    pub name: String,
    /// Forms that were begun.
    pub drafts: Drafts,
    began: Timestamp,
    used: Timestamp,
    validations: VecDeque<Timestamp>,
}

impl<U> Session<U> {
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used) >= IDLE || now.duration_since(self.began) >= LONGEST
    }

    /// Counts a validation, unless there were too many in the last minute.
    pub fn may_validate(&mut self, now: Timestamp) -> bool {
        self.validations.retain(|at| now.duration_since(*at) < VALIDATIONS_WITHIN);
        let may = self.validations.len() < MOST_VALIDATIONS;
        if may {
            self.validations.push_back(now);
        }
        may
    }
}

/// All sessions, by their ids.
pub struct Sessions<U = UserClient>(HashMap<String, Session<U>>);

impl<U> Default for Sessions<U> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<U> Sessions<U> {
    /// Begins a session under a new id; `false` if there are too many.
    pub fn begin(&mut self, id: String, user: U, name: String, now: Timestamp) -> bool {
        self.sweep(now);
        if self.0.len() >= MOST_SESSIONS {
            return false;
        }
        let drafts = Drafts::default();
        self.0
            .insert(id, Session { user, name, drafts, began: now, used: now, validations: VecDeque::new() });
        true
    }

    /// The session with that id, which is used now.
    pub fn find(&mut self, id: &str, now: Timestamp) -> Option<&mut Session<U>> {
        if self.0.get(id)?.is_over(now) {
            self.0.remove(id);
        }
        let session = self.0.get_mut(id)?;
        session.used = now;
        Some(session)
    }

    /// The session with that id, which isn't used by being looked at: a page that waits for changes keeps nobody signed in.
    pub fn peek(&self, id: &str, now: Timestamp) -> Option<&Session<U>> {
        self.0.get(id).filter(|session| !session.is_over(now))
    }

    /// Forgets all sessions that have ended, with their clients and passwords.
    pub fn sweep(&mut self, now: Timestamp) {
        self.0.retain(|_, session| !session.is_over(now));
    }

    /// Ends a session.
    pub fn end(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn one() -> Sessions<()> {
        let mut sessions = Sessions::default();
        assert!(sessions.begin("id".to_owned(), (), "ann".to_owned(), at(0)));
        sessions
    }

    #[test]
    fn ends_after_half_an_hour_without_use() {
        let mut sessions = one();
        assert!(sessions.find("id", at(29)).is_some());
        assert!(sessions.find("id", at(58)).is_some(), "it was used meanwhile");
        assert!(sessions.find("id", at(88)).is_none());
        assert!(sessions.find("id", at(58)).is_none(), "it is gone, and doesn't come back");
    }

    #[test]
    fn waiting_for_changes_is_no_use() {
        let mut sessions = one();
        assert!(sessions.peek("id", at(29)).is_some());
        assert!(sessions.peek("id", at(30)).is_none());
        assert!(sessions.find("id", at(30)).is_none());
    }

    #[test]
    fn sweep_forgets_ended_sessions_only() {
        let mut sessions = one();
        sessions.sweep(at(29));
        assert_eq!(sessions.0.len(), 1);
        sessions.sweep(at(30));
        assert!(sessions.0.is_empty());
    }

    #[test]
    fn ends_after_eight_hours_of_use() {
        let mut sessions = one();
        for minutes in (0..480).step_by(20) {
            assert!(sessions.find("id", at(minutes)).is_some(), "{minutes}");
        }
        assert!(sessions.find("id", at(480)).is_none());
    }

    #[test]
    fn is_found_by_its_id_only() {
        let mut sessions = one();
        for other in ["", "i", "ID", "id "] {
            assert!(sessions.find(other, at(0)).is_none(), "{other:?}");
        }
        sessions.end("id");
        assert!(sessions.find("id", at(0)).is_none());
    }

    #[test]
    fn has_a_bound_that_ended_sessions_don_t_count_for() {
        let mut sessions = Sessions::default();
        for number in 0..MOST_SESSIONS {
            assert!(sessions.begin(number.to_string(), (), String::new(), at(0)));
        }
        assert!(!sessions.begin("more".to_owned(), (), String::new(), at(29)));
        assert!(sessions.begin("more".to_owned(), (), String::new(), at(30)));
    }

    #[test]
    fn twenty_first_validation_in_a_minute_is_refused() {
        let mut sessions = one();
        let session = sessions.find("id", at(0)).unwrap();
        assert!((0..20).all(|_| session.may_validate(at(0))));
        assert!(!session.may_validate(at(0)));
        assert!(session.may_validate(at(1)));
    }
}
