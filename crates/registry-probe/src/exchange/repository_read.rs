//! The named repository: whether it was read, and what follows for the content path.

use super::decision::{Exchange, ExchangeStep, unavailable};
use super::question::AuthAttempt;
use super::reply::{Failure, Reply, ReplyKind};
use crate::findings::{ConnectionFailure, ContentPathFinding, Inconclusive, Unavailable};
use crate::host::HostPort;
use crate::repository::RepositoryName;

/// The result of reading the named repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RepositoryRead {
    /// No repository is named.
    NotNamed,
    /// Its tags were listed; `tags` is whether there are any.
    Granted { tags: bool },
    /// Its tags were not listed, but its manifest `latest` was served.
    Pulled,
    /// Its tags were refused with this status, and it has no manifest `latest`: whether others can be pulled is unknown.
    NotListed(u16),
    /// 401 or 403.
    Refused(u16),
    /// 404.
    Missing,
    /// A status that neither grants nor refuses.
    Unexpected(u16),
    /// The attempt could not be completed.
    Unavailable { server: HostPort, cause: Unavailable },
}

impl RepositoryRead {
    pub(super) fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }

    /// Whether the registry refused, or answered that there is no such repository.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Missing)
    }

    /// The finding for the content path.
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
    /// Reads the named repository with `attempt`. A refused or unknown list of tags doesn't mean that pulling fails:
    /// pull-only accounts, proxies, and pull-through caches before the first pull have none. One `HEAD` of the manifest
    /// `latest` decides the usual case.
    pub(super) fn read_repository(&self, attempt: &AuthAttempt) -> ExchangeStep<RepositoryRead> {
        let listing = self.read_tags(attempt)?;
        if !listing.is_refused() {
            return Ok(listing);
        }
        let reply = match self.manifest(attempt)? {
            Ok(reply) => reply,
            Err(failure) => return Ok(Self::unavailable_read(failure)),
        };
        Ok(match (&reply.kind, listing) {
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

    /// Whether the manifest is refused to `attempt`. No response doesn't count as a refusal.
    pub(super) fn is_manifest_refused(&self, attempt: &AuthAttempt) -> ExchangeStep<bool> {
        Ok(self.manifest(attempt)?.is_ok_and(|reply| reply.kind.is_denial()))
    }

    /// Reads the list of tags of the named repository with `attempt`.
    pub(super) fn read_tags(&self, attempt: &AuthAttempt) -> ExchangeStep<RepositoryRead> {
        if self.case.repository.is_none() {
            return Ok(RepositoryRead::NotNamed);
        }
        Ok(match self.tags(attempt)? {
            Ok(reply) => self.reading_of(reply),
            Err(failure) => Self::unavailable_read(failure),
        })
    }

    fn reading_of(&self, reply: &Reply) -> RepositoryRead {
        let unavailable = |status| RepositoryRead::Unavailable {
            server: self.server(),
            cause: Unavailable::Status(status),
        };
        match reply.kind {
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

    fn unavailable_read(failure: &Failure) -> RepositoryRead {
        let cause =
            unavailable(failure.cause.clone()).unwrap_or(Unavailable::Connection(ConnectionFailure::Other));
        RepositoryRead::Unavailable { server: failure.server.clone(), cause }
    }
}
