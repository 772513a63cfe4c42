//! The exchange: which requests are sent to a registry and its token service, in which order, and what the answers
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
    /// The next question.
    Ask(Box<Question>),
    /// The verdict.
    Done(Box<ExchangeFindings>),
}

/// Decides what is next, from the answers so far.
pub(crate) fn next(case: &ExchangeCase<'_>, answers: &RecordedAnswers) -> Next {
    match decide(&Exchange { case, answers }) {
        Ok(verdict) => Next::Done(Box::new(verdict)),
        Err(ExchangeStop::Decided(verdict)) => Next::Done(verdict),
        Err(ExchangeStop::Ask(question)) => Next::Ask(question),
    }
}

fn decide(exchange: &Exchange<'_>) -> ExchangeStep<ExchangeFindings> {
    let ping = exchange.ping()?;
    match exchange.case.credentials {
        Some(credentials) => exchange.account(&ping, credentials),
        None => exchange.anonymous(&ping),
    }
}

impl RecordedAnswers {
    /// Records the response, or the failure, for a question.
    pub(crate) fn note(&mut self, question: Question, outcome: Result<&Response, Failure>) {
        match question {
            Question::Registry(resource, attempt) => {
                self.note_registry(
                    resource,
                    attempt,
                    outcome.and_then(|response| registry_reply(resource, response)),
                );
            }
            Question::Token(request) => self.note_token(request, outcome.and_then(token_reply)),
        }
    }
}

/// Interprets a response. One with an incomplete body counts if clients look at its status and headers only.
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
