//! A row of the table: the hosts, the declared registry, and the expected verdict. Data only.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::hosts::Host;
use crate::spec::Spec;

/// A row of the table.
#[derive(Clone)]
pub struct Row {
    /// The name, as a sentence.
    pub name: String,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The declared registry.
    pub spec: Spec,
    /// The roles of the hosts that the user's credentials may arrive at.
    pub permits: &'static [&'static str],
    /// The verdict.
    pub expected: Verdict,
    /// What messages must say, by condition.
    pub message_contains: Vec<(&'static str, &'static str)>,
    /// How long the server asked to be left alone, where the verdict is transient.
    pub retry_after: Option<Option<Duration>>,
    /// The registry gets this many requests in one validation.
    pub requests: Option<usize>,
    /// `status.tls`: version, subject, issuer and end, separated by bars.
    pub presents: Option<&'static str>,
    /// `status.credentials.expiresAt`.
    pub ends: Option<&'static str>,
    /// No connection may be made to these roles.
    pub untouched: &'static [&'static str],
}

/// Credentials may go to the registry.
pub const REGISTRY: &[&str] = &["registry"];
/// Credentials may go to the token service.
pub const AUTH: &[&str] = &["auth"];
/// Credentials may go to either.
pub const BOTH: &[&str] = &["registry", "auth"];
/// Credentials may go nowhere.
pub const NOWHERE: &[&str] = &[];

/// A row.
pub fn row(
    name: impl Into<String>,
    hosts: Vec<Host>,
    spec: Spec,
    permits: &'static [&'static str],
    expected: &str,
) -> Row {
    let name = name.into();
    let expected = expected.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    Row {
        name,
        hosts,
        spec,
        permits,
        expected,
        message_contains: Vec::new(),
        retry_after: None,
        requests: None,
        presents: None,
        ends: None,
        untouched: &[],
    }
}

impl Row {
    /// Of that topic.
    pub fn under(self, topic: &str) -> Self {
        Self { name: format!("{topic}: {}", self.name), ..self }
    }

    /// The message of that condition holds these words, in which hosts stand in braces.
    pub fn message_contains(mut self, condition: &'static str, words: &'static str) -> Self {
        self.message_contains.push((condition, words));
        self
    }

    /// The server asked to be left alone for so many seconds.
    pub fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(Some(Duration::from_secs(seconds))), ..self }
    }

    /// The server did not say for how long, or nothing that can be kept to.
    pub fn at_will(self) -> Self {
        Self { retry_after: Some(None), ..self }
    }

    /// The registry gets so many requests in one validation.
    pub fn costs(self, requests: usize) -> Self {
        Self { requests: Some(requests), ..self }
    }

    /// The certificate is described so in `status.tls`.
    pub fn presents(self, certificate: &'static str) -> Self {
        Self { presents: Some(certificate), ..self }
    }

    /// The credentials end then, by `status.credentials`.
    pub fn ends(self, at: &'static str) -> Self {
        Self { ends: Some(at), ..self }
    }

    /// No connection may be made to these roles.
    pub fn never_at(self, untouched: &'static [&'static str]) -> Self {
        Self { untouched, ..self }
    }
}

/// The conditions of a verdict, in a row's notation:
///
/// ```text
/// +Resolved +Reachable +Verified -Rejected . = -Rejected stalled
/// ```
///
/// The five layers in their order, by status (`+` True, `-` False, `?` Unknown) and reason, `.` for `?NotAttempted`; behind
/// the equals sign `Ready`, and which of kstatus's two is there: `stalled`, `reconciling`, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub layers: [Line; 5],
    pub ready: Line,
    pub marker: Marker,
}

/// Status and reason of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub status: &'static str,
    pub reason: String,
}

/// Which of kstatus's two conditions is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    None,
    Reconciling,
    Stalled,
}

/// The types of the layers, in their order.
pub const LAYERS: [&str; 5] =
    ["ResolvedRefs", "EndpointReachable", "TLSVerified", "CredentialsValidated", "ContentPathAccessible"];

impl Line {
    /// By the words of a status.
    pub fn new(status: &str, reason: &str) -> Self {
        let status = ["True", "False", "Unknown"].into_iter().find(|known| *known == status).unwrap_or("?");
        Self { status, reason: reason.to_owned() }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status = match text.chars().next() {
            Some('.') if text.len() == 1 => return Ok(Self::new("Unknown", "NotAttempted")),
            Some('+') => "True",
            Some('-') => "False",
            Some('?') => "Unknown",
            _ => return Err(format!("{text} begins with none of + - ?")),
        };
        Ok(Self::new(status, &text[1..]))
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (layers, summary) = text.split_once(" = ").ok_or_else(|| format!("no equals sign in {text}"))?;
        let layers: Vec<Line> = layers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let mut summary = summary.split_whitespace();
        Ok(Self {
            layers: layers.try_into().map_err(|_| format!("not five layers: {text}"))?,
            ready: summary.next().ok_or_else(|| format!("no Ready in {text}"))?.parse()?,
            marker: match summary.next() {
                None => Marker::None,
                Some("reconciling") => Marker::Reconciling,
                Some("stalled") => Marker::Stalled,
                Some(other) => return Err(format!("{other} is no marker")),
            },
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.status, self.reason)
    }
}
