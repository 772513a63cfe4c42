//! Who is signed in: one-time code, sessions, and their ends. Pure: `now` and random names are arguments.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    bearer_token::TokenDigest,
    draft::Drafts,
    user::{SignIn, UserClient},
};

/// A session ends when it isn't used for that long.
const IDLE: SignedDuration = SignedDuration::from_mins(30);
/// A session ends after that time, used or not.
const LONGEST: SignedDuration = SignedDuration::from_hours(8);
/// How many sessions there are at most; the one that wasn't used for the longest time ends for a new one.
const MOST_SESSIONS: usize = 1_000;
/// How many sessions a user has at most, likewise.
const MOST_OF_A_USER: usize = 10;

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
    /// The token that the user signed in with; none on the user's own machine.
    pub token: Option<TokenDigest>,
    /// Forms that were begun.
    pub drafts: Drafts,
    ends: Timestamp,
    used: Timestamp,
}

impl<U> Session<U> {
    /// A session that begins now.
    pub fn new(user: U, name: String, now: Timestamp) -> Self {
        Self { user, name, token: None, drafts: Drafts::default(), ends: now + LONGEST, used: now }
    }

    /// A session that belongs to a token, and ends with it.
    #[must_use]
    pub fn with_token(self, token: TokenDigest, expires: Option<Timestamp>) -> Self {
        let ends = expires.map_or(self.ends, |expires| expires.min(self.ends));
        Self { token: Some(token), ends, ..self }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used) >= IDLE || now >= self.ends
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
    /// Begins a session under a new id.
    pub fn begin(&mut self, id: String, session: Session<U>, now: Timestamp) {
        self.sweep(now);
        self.make_room(MOST_OF_A_USER, |other| other.name == session.name);
        self.make_room(MOST_SESSIONS, |_| true);
        self.0.insert(id, session);
    }

    /// Ends the session that wasn't used for the longest time, if there are too many of those.
    fn make_room(&mut self, most: usize, counts: impl Fn(&Session<U>) -> bool) {
        let counted = || self.0.iter().filter(|(_, session)| counts(session));
        if counted().count() >= most
            && let Some((oldest, _)) = counted().min_by_key(|(_, session)| session.used)
        {
            let oldest = oldest.clone();
            self.end(&oldest);
        }
    }

    /// The id of the session that its token has by now, or begins it under a new id: requests with a renewed token come in parallel.
    pub fn begin_unless_begun(&mut self, id: String, session: Session<U>, now: Timestamp) -> String {
        if let Some(begun) = session.token.and_then(|token| self.of_token(&token, now)) {
            return begun.to_owned();
        }
        self.begin(id.clone(), session, now);
        id
    }

    /// The id of a token's session.
    pub fn of_token(&self, token: &TokenDigest, now: Timestamp) -> Option<&str> {
        let mut sessions = self.0.iter();
        let is_of_token = |session: &Session<U>| session.token.as_ref() == Some(token);
        sessions.find(|(_, session)| is_of_token(session) && !session.is_over(now)).map(|(id, _)| id.as_str())
    }

    /// How many there are, with those that have ended since the last sweep.
    pub fn count(&self) -> usize {
        self.0.len()
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

    /// Ends a session, whose forms go on in another one of the same user.
    pub fn replace(&mut self, old: &str, new: &str) {
        if let Some(old) = self.0.remove(old)
            && let Some(new) = self.0.get_mut(new).filter(|new| new.name == old.name)
        {
            new.drafts.take_over(old.drafts);
        }
    }

    /// Ends a session.
    pub fn end(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::simulated_name;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn begin(sessions: &mut Sessions<()>, id: &str, name: &str, minutes: i64) {
        let session = Session::new((), name.to_owned(), at(minutes));
        sessions.begin(id.to_owned(), session, at(minutes));
    }

    fn one() -> Sessions<()> {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "id", "ann", 0);
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
    fn oldest_of_all_sessions_ends_for_a_new_one() {
        let mut sessions = one();
        for number in 1..MOST_SESSIONS {
            begin(&mut sessions, &number.to_string(), &number.to_string(), 1);
        }
        assert!(sessions.peek("id", at(1)).is_some());
        begin(&mut sessions, "more", "bob", 2);
        assert!(sessions.peek("more", at(2)).is_some() && sessions.peek("id", at(2)).is_none());
        assert_eq!(sessions.count(), MOST_SESSIONS);
        begin(&mut sessions, "only", "bob", 60);
        assert_eq!(sessions.count(), 1, "ended sessions don't count");
    }

    #[test]
    fn token_has_one_session() {
        let mut sessions = Sessions::default();
        let mut enter = |id: &str, token, minutes| {
            let session = Session::new((), "ann".to_owned(), at(minutes)).with_token([token; 32], None);
            sessions.begin_unless_begun(id.to_owned(), session, at(minutes))
        };
        assert_eq!(enter("first", 1, 0), "first");
        assert_eq!(enter("second", 1, 1), "first");
        assert_eq!(enter("other", 2, 1), "other");
        assert_eq!(enter("later", 1, 40), "later", "the first has ended");
        assert_eq!(sessions.of_token(&[1; 32], at(41)), Some("later"));
    }

    #[test]
    fn oldest_session_of_a_user_ends_for_a_new_one() {
        let mut sessions = one();
        begin(&mut sessions, "other", "bob", 0);
        for number in 1..MOST_OF_A_USER {
            begin(&mut sessions, &number.to_string(), "ann", 1);
        }
        assert!(sessions.find("id", at(2)).is_some(), "it is used now");
        begin(&mut sessions, "new", "ann", 3);
        assert!(sessions.find("id", at(4)).is_some() && sessions.find("other", at(4)).is_some());
        assert_eq!(sessions.count(), MOST_OF_A_USER + 1);
    }

    #[test]
    fn forms_go_on_after_a_renewed_token() {
        let draft = || crate::draft::FormDraft {
            kept: None,
            validated: Some([1; 32]),
            ..crate::draft::FormDraft::default()
        };
        let (mut sessions, form) = (one(), simulated_name("form"));
        sessions.find("id", at(0)).unwrap().drafts.keep(&form, draft());
        begin(&mut sessions, "new", "ann", 0);
        begin(&mut sessions, "bobs", "bob", 0);
        sessions.replace("id", "new");
        assert!(sessions.peek("id", at(0)).is_none());
        assert!(sessions.peek("new", at(0)).unwrap().drafts.get(&form).validated.is_some());
        sessions.replace("new", "bobs");
        assert!(sessions.peek("bobs", at(0)).unwrap().drafts.get(&form).validated.is_none());
    }

    #[test]
    fn ends_with_its_token() {
        for (expires, last) in [(Some(at(10)), 9), (None, 29), (Some(at(100)), 29)] {
            let mut sessions = Sessions::default();
            let session = Session::new((), "ann".to_owned(), at(0)).with_token([1; 32], expires);
            sessions.begin("id".to_owned(), session, at(0));
            assert!(sessions.peek("id", at(last)).is_some(), "{expires:?}");
            assert!(sessions.peek("id", at(last + 1)).is_none(), "{expires:?}");
        }
    }
}
