//! The exchange: what is asked of a registry and its token service, in which order, and what the answers
//! mean.
//!
//! A step machine without I/O: [`next`] says which question comes next, or the verdict, from the answers so
//! far. The questions become requests ([`Request::of`]), and the responses answers ([`Seen`]), by pure
//! functions too. Sending is the transport's part.

mod account;
mod anonymous;
mod entry;
mod evidence;
mod inquiry;
mod issue;
mod opening;
mod question;
mod reading;
mod reply;
mod request;
mod seen;
#[cfg(test)]
mod tests;

use inquiry::{Inquiry, Step, Stop};
use question::Question;
use reply::{Reply, TokenReply};

pub(crate) use inquiry::{Case, Verdict};
pub(crate) use reply::{Failure, FailureCause, Response};
pub(crate) use request::Request;
pub(crate) use seen::Seen;

/// What comes next in a validation.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask this.
    Ask(Box<Question>),
    /// All is said.
    Done(Box<Verdict>),
}

/// Decides, from what has been seen so far.
pub(crate) fn next(case: &Case<'_>, seen: &Seen) -> Next {
    match decide(&Inquiry { case, seen }) {
        Ok(verdict) => Next::Done(Box::new(verdict)),
        Err(Stop::Decided(verdict)) => Next::Done(verdict),
        Err(Stop::Ask(question)) => Next::Ask(question),
    }
}

fn decide(inquiry: &Inquiry<'_>) -> Step<Verdict> {
    let opening = inquiry.opening()?;
    match inquiry.case.credentials {
        Some(credentials) => inquiry.account(&opening, credentials),
        None => inquiry.anonymous(&opening),
    }
}

impl Seen {
    /// Notes what came back for a question.
    pub(crate) fn note(&mut self, question: Question, outcome: Result<&Response, Failure>) {
        match question {
            Question::Registry(resource, pass) => self.note_registry(resource, pass, outcome.map(Reply::of)),
            Question::Token(request) => self.note_token(request, outcome.map(TokenReply::of)),
        }
    }
}
