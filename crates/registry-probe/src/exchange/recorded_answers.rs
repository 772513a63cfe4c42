//! The answers so far in one validation.

use super::question::{AuthAttempt, Question, Resource, TokenPrincipal, TokenRequest};
use super::reply::{Failure, Reply, TokenReply};
use crate::token::IssuedToken;

/// Either the recorded answer, or the question to ask first.
pub(crate) type Ask<T> = Result<T, Box<Question>>;

/// Answers, by question.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecordedAnswers {
    registry: Vec<((Resource, AuthAttempt), Result<Reply, Failure>)>,
    tokens: Vec<(TokenRequest, Result<TokenReply, Failure>)>,
}

impl RecordedAnswers {
    /// The registry's answer, or the question to it.
    pub(crate) fn registry(
        &self,
        resource: Resource,
        attempt: &AuthAttempt,
    ) -> Ask<Result<&Reply, &Failure>> {
        let found = self.registry.iter().find(|((of, with), _)| *of == resource && with == attempt);
        let (_, answer) = found.ok_or_else(|| Box::new(Question::Registry(resource, attempt.clone())))?;
        Ok(answer.as_ref())
    }

    /// The token service's answer, or the question to it.
    pub(crate) fn token(&self, request: &TokenRequest) -> Ask<Result<&TokenReply, &Failure>> {
        let found = self.tokens.iter().find(|(asked, _)| asked == request);
        let (_, answer) = found.ok_or_else(|| Box::new(Question::Token(request.clone())))?;
        Ok(answer.as_ref())
    }

    /// The token that was issued for a request.
    pub(crate) fn issued(&self, request: &TokenRequest) -> Option<&IssuedToken> {
        match self.tokens.iter().find(|(asked, _)| asked == request)? {
            (_, Ok(TokenReply::Issued(token))) => Some(token),
            (_, Ok(_) | Err(_)) => None,
        }
    }

    /// Whether the token service refused the account a token and said that the credentials have expired.
    pub(crate) fn service_says_expired(&self) -> bool {
        let mut own = self.tokens.iter().filter(|(request, _)| request.principal == TokenPrincipal::Account);
        own.any(|(_, answer)| matches!(answer, Ok(TokenReply::Refused { says_expired: true, .. })))
    }

    pub(crate) fn note_registry(
        &mut self,
        resource: Resource,
        attempt: AuthAttempt,
        answer: Result<Reply, Failure>,
    ) {
        self.registry.push(((resource, attempt), answer));
    }

    pub(crate) fn note_token(&mut self, request: TokenRequest, answer: Result<TokenReply, Failure>) {
        self.tokens.push((request, answer));
    }
}
