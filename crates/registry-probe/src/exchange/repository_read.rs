//! The named repository: was it read, and what does that say of the content path?

use super::decision::{Exchange, ExchangeStep, unavailable};
use super::question::Pass;
use super::reply::{Failure, Reply, ReplyKind};
use crate::findings::{ConnectionFailure, ContentPathFinding, Inconclusive, Unavailable};
use crate::host::HostPort;
use crate::repository::RepositoryName;

/// How the named repository was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RepositoryRead {
    /// No repository is named.
    NotNamed,
    /// Its tags were listed; whether there were any.
    Granted { tags: bool },
    /// Its tags were not listed, but its manifest `latest` was served.
    Pulled,
    /// Its tags were refused with this status, and it has no manifest `latest`: whether others can be pulled is open.
    NotListed(u16),
    /// 401 or 403.
    Refused(u16),
    /// 404.
    Missing,
    /// Neither yes nor no.
    Unexpected(u16),
    /// It could not be tried to the end.
    Unavailable { server: HostPort, cause: Unavailable },
}

impl RepositoryRead {
    pub(super) fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }

    /// The registry said no: by refusal, or by denying that there is such a repository.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Missing)
    }

    /// What it says of the content path.
    pub(super) fn finding(&self, repository: Option<&RepositoryName>) -> ContentPathFinding {
        let Some(repository) = repository.cloned() else {
            return ContentPathFinding::Inconclusive(Inconclusive::NoRepositoryNamed);
        };
        match self.clone() {
            Self::NotNamed => ContentPathFinding::NotAttempted,
            Self::Granted { tags: true } | Self::Pulled => ContentPathFinding::Accessible { repository },
            Self::NotListed(status) => {
                ContentPathFinding::Inconclusive(Inconclusive::NotListed { repository, status })
            }
            Self::Granted { tags: false } => {
                ContentPathFinding::Inconclusive(Inconclusive::NoTags { repository })
            }
            Self::Refused(status) => ContentPathFinding::Denied { repository, status },
            Self::Missing => ContentPathFinding::NotFound { repository },
            Self::Unexpected(status) => {
                ContentPathFinding::Inconclusive(Inconclusive::UnexpectedStatus { repository, status })
            }
            Self::Unavailable { server, cause } => {
                ContentPathFinding::Inconclusive(Inconclusive::Unavailable { repository, server, cause })
            }
        }
    }
}

impl Exchange<'_> {
    /// Whether the named repository can be pulled from with `pass`. A refused or unknown list of tags alone does not say so:
    /// accounts that may pull only, proxies and pull-through caches before the first pull have none. One `HEAD` of the manifest
    /// `latest` settles it for the usual case.
    pub(super) fn pulling(&self, pass: &Pass) -> ExchangeStep<RepositoryRead> {
        let listing = self.reading(pass)?;
        if !listing.is_refused() {
            return Ok(listing);
        }
        let reply = match self.manifest(pass)? {
            Ok(reply) => reply,
            Err(failure) => return Ok(Self::unread(failure)),
        };
        Ok(match (&reply.said, listing) {
            (ReplyKind::Granted(_) | ReplyKind::Page, _) if reply.is_manifest => RepositoryRead::Pulled,
            (ReplyKind::NotFound, RepositoryRead::Refused(status)) => RepositoryRead::NotListed(status),
            (ReplyKind::Unauthorized | ReplyKind::Forbidden | ReplyKind::NotFound, listing) => listing,
            (
                ReplyKind::Granted(_)
                | ReplyKind::Page
                | ReplyKind::Throttled
                | ReplyKind::Fault(_)
                | ReplyKind::Redirect { .. }
                | ReplyKind::WantsTls
                | ReplyKind::Other(_),
                _,
            ) => self.reading_of(reply),
        })
    }

    /// Whether the manifest is refused to `pass`. Not where there is no answer: that proves nothing.
    pub(super) fn is_kept_from_pulling(&self, pass: &Pass) -> ExchangeStep<bool> {
        Ok(self.manifest(pass)?.is_ok_and(|reply| reply.said.is_denial()))
    }

    /// Reads the list of tags of the named repository with `pass`.
    pub(super) fn reading(&self, pass: &Pass) -> ExchangeStep<RepositoryRead> {
        if self.case.repository.is_none() {
            return Ok(RepositoryRead::NotNamed);
        }
        Ok(match self.tags(pass)? {
            Ok(reply) => self.reading_of(reply),
            Err(failure) => Self::unread(failure),
        })
    }

    fn reading_of(&self, reply: &Reply) -> RepositoryRead {
        let unavailable = |status| RepositoryRead::Unavailable {
            server: self.server(),
            cause: Unavailable::Status(status),
        };
        match reply.said {
            ReplyKind::Granted(_) if reply.is_tag_list() => {
                RepositoryRead::Granted { tags: reply.lists_tags() }
            }
            ReplyKind::Granted(_) | ReplyKind::Page => RepositoryRead::Unexpected(200),
            ReplyKind::Unauthorized => RepositoryRead::Refused(401),
            ReplyKind::Forbidden => RepositoryRead::Refused(403),
            ReplyKind::NotFound => RepositoryRead::Missing,
            ReplyKind::Throttled => unavailable(429),
            ReplyKind::Fault(status) => unavailable(status),
            ReplyKind::Redirect { status, .. } | ReplyKind::Other(status) => {
                RepositoryRead::Unexpected(status)
            }
            ReplyKind::WantsTls => RepositoryRead::Unexpected(400),
        }
    }

    fn unread(failure: &Failure) -> RepositoryRead {
        let cause =
            unavailable(failure.cause.clone()).unwrap_or(Unavailable::Connection(ConnectionFailure::Other));
        RepositoryRead::Unavailable { server: failure.server.clone(), cause }
    }
}
