//! The exchange: what is asked of a registry and its token service, in which order, and what the answers
//! mean.
//!
//! A step machine without I/O: [`next`] says which question comes next, or the verdict, from the answers so
//! far. The questions become requests ([`Request::of`]), and the responses answers ([`RecordedAnswers`]), by pure
//! functions too. Sending is the transport's part.

mod account;
mod anonymous;
mod decision;
mod errors;
mod evidence;
mod issue;
mod ping;
mod question;
mod recorded_answers;
mod reply;
mod repository_read;
mod request;
mod tag_list;
#[cfg(test)]
mod tests;
mod token_admission;

use decision::{Exchange, ExchangeStep, ExchangeStop};
use question::{Question, Resource};
use reply::{Reply, TokenReply};

use crate::findings::ConnectionFailure;
use crate::host::{Host, HostPort};

pub(crate) use decision::{ExchangeCase, ExchangeFindings};
pub(crate) use recorded_answers::RecordedAnswers;
pub(crate) use reply::{Failure, FailureCause, Response};
pub(crate) use request::Request;

/// What comes next in a validation.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask this.
    Ask(Box<Question>),
    /// All is said.
    Done(Box<ExchangeFindings>),
}

/// Decides, from what has been seen so far.
pub(crate) fn next(case: &ExchangeCase<'_>, seen: &RecordedAnswers) -> Next {
    match decide(&Exchange { case, seen }) {
        Ok(verdict) => Next::Done(Box::new(verdict)),
        Err(ExchangeStop::Decided(verdict)) => Next::Done(verdict),
        Err(ExchangeStop::Ask(question)) => Next::Ask(question),
    }
}

fn decide(inquiry: &Exchange<'_>) -> ExchangeStep<ExchangeFindings> {
    let opening = inquiry.opening()?;
    match inquiry.case.credentials {
        Some(credentials) => inquiry.account(&opening, credentials),
        None => inquiry.anonymous(&opening),
    }
}

impl RecordedAnswers {
    /// Notes what came back for a question.
    pub(crate) fn note(&mut self, question: Question, outcome: Result<&Response, Failure>) {
        match question {
            Question::Registry(resource, pass) => {
                self.note_registry(
                    resource,
                    pass,
                    outcome.and_then(|response| registry_reply(resource, response)),
                );
            }
            Question::Token(request) => self.note_token(request, outcome.and_then(token_reply)),
        }
    }
}

/// A response whose body broke off counts where status and headers say all that clients look at.
fn registry_reply(resource: Resource, response: &Response) -> Result<Reply, Failure> {
    let reply = Reply::of(response);
    let suffices = match resource {
        Resource::Api => reply.has_sign,
        Resource::Tags => reply.is_tag_list() || !matches!(response.status, 200..=299),
        Resource::Manifest => true,
    };
    if response.is_broken && !suffices { Err(broken_off(response)) } else { Ok(reply) }
}

fn token_reply(response: &Response) -> Result<TokenReply, Failure> {
    let suffices = !matches!(response.status, 200..=299);
    if response.is_broken && !suffices { Err(broken_off(response)) } else { Ok(TokenReply::of(response)) }
}

fn broken_off(response: &Response) -> Failure {
    let nowhere = || HostPort { host: Host::Name(String::new()), port: 0 };
    let server = HostPort::of(&response.url).unwrap_or_else(nowhere);
    Failure { server, cause: FailureCause::Connection(ConnectionFailure::Other) }
}
