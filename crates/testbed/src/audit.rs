//! The API server's audit log: the requests of its clients.
//!
//! Every request is logged once, with its user, its object and its status; the content only of a registry's status, which holds no
//! secret. The line is written just after the response is sent: to find a request of your own, wait for it with
//! [`AuditLog::until`].

use std::fs::File;
use std::future::ready;
use std::io::{BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::eventually::{NotYet, eventually};

/// Metadata of every request, when it has been answered, and each status of a registry that is written.
pub(crate) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [patch]
  resources:
  - {group: registry.spectrocloud.com, resources: [systemregistries/status, tenantregistries/status]}
- level: Metadata
";

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The control plane was started without one.
    #[error("the control plane keeps no audit log: start it with `audit: true`")]
    Off,
    /// The file cannot be read.
    #[error("cannot read the audit log {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A line is not an event.
    #[error("the audit log {path} has a line that is no event: {source}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// `ResponseComplete`, or `ResponseStarted` for a watch that is going on, or `Panic`.
    pub stage: String,
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// The user.
    pub user: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, in the plural; empty for requests such as /readyz.
    pub resource: String,
    /// status, finalizers, token, …; empty for the object itself.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object, or empty.
    pub name: String,
    /// Path and query.
    pub request_uri: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// The time of the request (RFC 3339, microseconds).
    pub received: String,
    /// The time of this stage: for `ResponseComplete`, when the request was answered (RFC 3339, microseconds).
    pub completed: String,
    /// The content of a write of a registry's status; null for all other requests.
    pub content: Value,
}

impl AuditEvent {
    /// Whether the request is a write, whatever its status. A dry run isn't.
    pub fn is_write(&self) -> bool {
        let changes =
            matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        changes && !self.request_uri.contains("dryRun=All")
    }

    /// Whether the request is a write of that user's that was answered.
    pub fn is_write_of(&self, user: &str) -> bool {
        self.is_write() && self.user == user && self.stage == "ResponseComplete"
    }

    /// Whether the request was granted.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// A position in the log. [`AuditLog::since`] reads what comes after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditMark(Vec<u64>);

/// The audit logs of a control plane's API servers.
#[derive(Debug, Clone)]
pub struct AuditLog {
    files: Vec<PathBuf>,
}

impl AuditLog {
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        Self { files }
    }

    /// All requests that have been answered so far, in the order of responses (per API server).
    pub fn events(&self) -> Result<Vec<AuditEvent>, AuditError> {
        self.since(&AuditMark::default())
    }

    /// The current end of the log.
    pub fn mark(&self) -> AuditMark {
        AuditMark(
            self.files.iter().map(|file| std::fs::metadata(file).map_or(0, |meta| meta.len())).collect(),
        )
    }

    /// The log as it stands in the files, for what an [`AuditEvent`] leaves out.
    pub fn text(&self) -> Result<String, AuditError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| AuditError::Read { path: path.clone(), source })
        };
        self.files.iter().map(read).collect()
    }

    /// The requests that have been answered since the mark.
    pub fn since(&self, mark: &AuditMark) -> Result<Vec<AuditEvent>, AuditError> {
        self.read(&mut mark.clone())
    }

    /// Waits until enough of the requests that are meant have been answered since the mark, and returns these. `is_enough` says
    /// what is missing. Each line is read once: the log may grow by megabytes meanwhile.
    pub async fn until(
        &self,
        what: impl Into<String>,
        mark: &AuditMark,
        is_meant: impl Fn(&AuditEvent) -> bool,
        is_enough: impl Fn(&[AuditEvent]) -> Result<(), String>,
    ) -> Result<Vec<AuditEvent>, NotYet> {
        let (mut mark, mut meant) = (mark.clone(), Vec::new());
        let mut look = || {
            let answered = self.read(&mut mark).map_err(|error| error.to_string())?;
            meant.extend(answered.into_iter().filter(&is_meant));
            is_enough(&meant)
        };
        eventually(what, || ready(look())).await?;
        Ok(meant)
    }

    /// The requests that have been answered since the mark, which becomes the end of what was read.
    fn read(&self, mark: &mut AuditMark) -> Result<Vec<AuditEvent>, AuditError> {
        // Of a log that can't be read to its end, nothing counts as read.
        let (mut ends, mut events) = (mark.0.clone(), Vec::new());
        ends.resize(self.files.len(), 0);
        for (file, offset) in self.files.iter().zip(&mut ends) {
            read_from(file, offset, &mut events)?;
        }
        mark.0 = ends;
        Ok(events)
    }

    /// The writes of one user since the mark.
    pub fn writes_since(&self, mark: &AuditMark, user: &str) -> Result<Vec<AuditEvent>, AuditError> {
        let mut events = self.since(mark)?;
        events.retain(|event| event.is_write_of(user));
        Ok(events)
    }
}

/// Adds what comes after the offset, which becomes the end of the last complete line.
fn read_from(path: &Path, offset: &mut u64, events: &mut Vec<AuditEvent>) -> Result<(), AuditError> {
    let unreadable = |source| AuditError::Read { path: path.to_path_buf(), source };
    let file = match File::open(path) {
        // No request has been answered yet.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(unreadable)?,
    };
    let (mut log, mut line) = (BufReader::new(file), Vec::new());
    // The mark is the file's length, which grows page by page while a line is written: a line that had begun is before the mark.
    let mut is_before_mark = *offset > 0;
    let mut position = offset.saturating_sub(1);
    log.seek(SeekFrom::Start(position)).map_err(unreadable)?;
    loop {
        line.clear();
        position += log.read_until(b'\n', &mut line).map_err(unreadable)? as u64;
        if !line.ends_with(b"\n") {
            // An incomplete last line is left for the next call.
            return Ok(());
        }
        if !std::mem::take(&mut is_before_mark) {
            let parsed = serde_json::from_slice::<AuditLine>(&line);
            events.push(
                parsed.map_err(|source| AuditError::Parse { path: path.to_path_buf(), source })?.into(),
            );
        }
        *offset = position;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditLine {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    request_received_timestamp: String,
    #[serde(default)]
    stage_timestamp: String,
    #[serde(default)]
    request_object: Value,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<AuditLine> for AuditEvent {
    fn from(line: AuditLine) -> Self {
        Self {
            stage: line.stage,
            verb: line.verb,
            user: line.user.username,
            user_agent: line.user_agent,
            group: line.object_ref.api_group,
            resource: line.object_ref.resource,
            subresource: line.object_ref.subresource,
            namespace: line.object_ref.namespace,
            name: line.object_ref.name,
            request_uri: line.request_uri,
            code: line.response_status.code,
            received: line.request_received_timestamp,
            completed: line.stage_timestamp,
            content: line.request_object,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::AuditLog;

    #[test]
    fn a_line_that_is_being_written_is_before_the_mark() {
        let line =
            |uri| format!(r#"{{"stage":"ResponseComplete","verb":"get","requestURI":"{uri}"}}"#) + "\n";
        let (first, second, third) = (line("/first"), line("/second-ü"), line("/third"));
        let read = |written: usize| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let log = AuditLog::new(vec![file.path().to_path_buf()]);
            let (before, after) = second.as_bytes().split_at(written);
            file.write_all(first.as_bytes()).unwrap();
            file.write_all(before).unwrap();
            let mark = log.mark();
            let mut since = vec![log.since(&mark).unwrap()];
            let (mut read_on, mut end) = (log.since(&mark).unwrap(), mark.clone());
            for bytes in [after, third.as_bytes()] {
                file.write_all(bytes).unwrap();
                since.push(log.since(&mark).unwrap());
                read_on.extend(log.read(&mut end).unwrap());
            }
            assert_eq!(since.last(), Some(&read_on), "each line once");
            let uris = |events: Vec<super::AuditEvent>| -> Vec<String> {
                events.into_iter().map(|event| event.request_uri).collect()
            };
            since.into_iter().map(uris).collect::<Vec<_>>()
        };
        assert_eq!(read(0), [vec![], vec!["/second-ü"], vec!["/second-ü", "/third"]]);
        for written in 1..=second.len() {
            assert_eq!(
                read(written),
                [vec![], vec![], vec!["/third"]],
                "{written} bytes of the line were written"
            );
        }
    }
}
