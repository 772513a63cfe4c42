//! The exchange with a registry and its token service: which request comes next, and what the responses mean.
//!
//! A step machine without I/O: [`next`] returns the next question, or the verdict, from the responses so far. Questions become
//! requests ([`Request::of`]), and responses become answers ([`RecordedAnswers`]), by pure functions too. The transport sends.
//!
//! - `account`: validates credentials, by the scheme that the registry asks for.
//! - `anonymous`: validates without credentials: whether the registry or its token service serves anonymous clients.
//! - `decision`: what a decision is made from: the case, and the answers so far.
//! - `errors`: error bodies of registries and token services (OCI, OAuth2).
//! - `evidence`: what proves that credentials are right.
//! - `issue`: gets a token, and repeats the request in another way if the service needs that.
//! - `ping`: `GET /v2/`: whether this is a registry, and which scheme it asks for.
//! - `question`: the requests as values, without secrets.
//! - `recorded_answers`: the questions and answers of a validation.
//! - `reply`: responses, reduced to what decisions need, and failures to get one.
//! - `repository_read`: reads the repository that the spec names, and what that says about the content path.
//! - `request`: builds the HTTP requests, URLs and forms of token requests included, and decides which secret goes where.
//! - `tag_list`: reads the list of tags (OCI distribution-spec, "Listing Tags").
//! - `token_admission`: opens `/v2/` with a token: which scope to ask for, and what a refused token means.

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
use question::Resource;
use reply::{Reply, TokenReply};

use crate::findings::ConnectionFailure;
use crate::host::{Host, HostPort};

pub(crate) use decision::{ExchangeCase, ExchangeFindings};
pub(crate) use question::Question;
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
    if response.is_broken && !suffices { Err(incomplete_body(response)) } else { Ok(reply) }
}

fn token_reply(response: &Response) -> Result<TokenReply, Failure> {
    let suffices = !matches!(response.status, 200..=299);
    if response.is_broken && !suffices {
        Err(incomplete_body(response))
    } else {
        Ok(TokenReply::of(response))
    }
}

fn incomplete_body(response: &Response) -> Failure {
    let nowhere = || HostPort { host: Host::Name(String::new()), port: 0 };
    let server = HostPort::of(&response.url).unwrap_or_else(nowhere);
    Failure { server, cause: FailureCause::Connection(ConnectionFailure::Other) }
}
