//! What is kept of a form between two of its submissions: the secrets, which never go back into a page, and whether exactly this
//! form was validated. Pure.

use std::collections::VecDeque;

use secrecy::SecretString;

/// How many forms are kept for a session; the oldest goes first.
const MOST_DRAFTS: usize = 8;

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

/// The drafts of a session, by names that can't be guessed.
#[derive(Debug, Default)]
pub struct Drafts(VecDeque<(String, FormDraft)>);

impl Drafts {
    /// The draft of that name; an empty one if there is none.
    pub fn get(&self, name: &str) -> FormDraft {
        self.0.iter().find(|(known, _)| known == name).map(|(_, draft)| draft.clone()).unwrap_or_default()
    }

    /// Keeps a draft.
    pub fn keep(&mut self, name: &str, draft: FormDraft) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            drafts.keep(&number.to_string(), draft());
        }
        assert!(drafts.get("0").kept.is_none());
        assert!(drafts.get("1").kept.is_some());
    }

    #[test]
    fn drafts_of_an_earlier_session_come_first() {
        let (mut drafts, mut earlier) = (Drafts::default(), Drafts::default());
        for name in ["both", "earlier"] {
            earlier.keep(name, draft());
        }
        for name in ["both", "own"] {
            drafts.keep(name, FormDraft::default());
        }
        drafts.take_over(earlier);
        let kept = |name| drafts.get(name).kept.is_some();
        assert!(kept("earlier") && !kept("both") && !kept("own"));
        assert_eq!(drafts.0.len(), 3);
    }

    #[test]
    fn is_forgotten_with_its_secret() {
        let mut drafts = Drafts::default();
        drafts.keep("a", draft());
        drafts.keep("a", FormDraft::default());
        assert!(drafts.get("a").kept.is_none());
        drafts.keep("a", draft());
        drafts.forget("a");
        assert!(drafts.get("a").validated.is_none());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", draft()).contains("HUSH"));
    }
}
