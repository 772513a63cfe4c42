//! What is kept of a form between two of its submissions: the secrets, which never go back into a page, and whether exactly this
//! form was validated. Pure.

use std::collections::VecDeque;

use secrecy::SecretString;

/// How many forms are kept for a session; the oldest goes first.
const MOST_DRAFTS: usize = 8;
/// The length of a draft's name: 32 random bytes in base64url.
const NAME: usize = 43;
/// The longest secret, in bytes. A Secret may have 1 MiB, but no password or key is that long.
pub const LONGEST_SECRET: usize = 8 * 1024;

/// A digest of everything that a form says.
pub type FormDigest = [u8; 32];

/// A secret that was typed, and the server that it was typed for.
#[derive(Clone, Debug)]
pub struct KeptSecret {
    /// The secret.
    pub secret: SecretString,
    /// The server; for another one it has to be typed again.
    pub server: String,
}

/// What is kept of one form.
#[derive(Clone, Debug, Default)]
pub struct FormDraft {
    /// The password, or the secret access key.
    pub kept: Option<KeptSecret>,
    /// The form that was validated.
    pub validated: Option<FormDigest>,
    /// The name of the Secret that a registry no longer uses since this form was confirmed; empty for none.
    pub unused_secret: String,
}

/// Returns whether the console can have made that name. Browsers may send others, of any length.
pub fn is_draft_name(name: &str) -> bool {
    name.len() == NAME && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The drafts of a session, by names that can't be guessed.
#[derive(Debug, Default)]
pub struct Drafts(VecDeque<(String, FormDraft)>);

impl Drafts {
    /// The draft of that name; an empty one if there is none.
    pub fn get(&self, name: &str) -> FormDraft {
        self.0.iter().find(|(known, _)| known == name).map(|(_, draft)| draft.clone()).unwrap_or_default()
    }

    /// Keeps a draft, if its name is one.
    pub fn keep(&mut self, name: &str, draft: FormDraft) {
        if !is_draft_name(name) {
            return;
        }
        self.forget(name);
        if self.0.len() >= MOST_DRAFTS {
            self.0.pop_front();
        }
        self.0.push_back((name.to_owned(), draft));
    }

    /// Takes over the drafts of an earlier session. Of two with the same name, its own stays.
    pub fn take_over(&mut self, earlier: Self) {
        for (name, draft) in std::mem::replace(self, earlier).0 {
            self.keep(&name, draft);
        }
    }

    /// Forgets a draft, with its secrets.
    pub fn forget(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}

/// For tests: the name of a draft that begins so.
#[cfg(test)]
pub fn simulated_name(start: &str) -> String {
    format!("{start:_<NAME$}")
}

#[cfg(test)]
mod tests {
    use super::{simulated_name as name, *};

    fn draft() -> FormDraft {
        let secret = SecretString::from("HUSH");
        FormDraft {
            kept: Some(KeptSecret { secret, server: "r:443".to_owned() }),
            validated: Some([1; 32]),
            unused_secret: String::new(),
        }
    }

    #[test]
    fn oldest_goes_first() {
        let mut drafts = Drafts::default();
        for number in 0..=MOST_DRAFTS {
            drafts.keep(&name(&number.to_string()), draft());
        }
        assert!(drafts.get(&name("0")).kept.is_none());
        assert!(drafts.get(&name("1")).kept.is_some());
    }

    #[test]
    fn other_names_keep_nothing() {
        let mut drafts = Drafts::default();
        let edge = crate::edge::Edge { now: crate::simulated::epoch, random: || Some([255; 32]) };
        assert!(is_draft_name(&edge.unguessable().unwrap()));
        for other in [String::new(), name("a") + "a", name("a b"), name("<"), "a".repeat(100_000)] {
            drafts.keep(&other, draft());
        }
        assert!(drafts.0.is_empty());
    }

    #[test]
    fn drafts_of_an_earlier_session_come_first() {
        let (mut drafts, mut earlier) = (Drafts::default(), Drafts::default());
        for start in ["both", "earlier"] {
            earlier.keep(&name(start), draft());
        }
        for start in ["both", "own"] {
            drafts.keep(&name(start), FormDraft::default());
        }
        drafts.take_over(earlier);
        let kept = |start| drafts.get(&name(start)).kept.is_some();
        assert!(kept("earlier") && !kept("both") && !kept("own"));
        assert_eq!(drafts.0.len(), 3);
    }

    #[test]
    fn is_forgotten_with_its_secret() {
        let mut drafts = Drafts::default();
        let name = name("a");
        drafts.keep(&name, draft());
        drafts.keep(&name, FormDraft::default());
        assert!(drafts.get(&name).kept.is_none());
        drafts.keep(&name, draft());
        assert!(drafts.get(&name).kept.is_some());
        drafts.forget(&name);
        assert!(drafts.get(&name).validated.is_none());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", draft()).contains("HUSH"));
    }
}
