//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// No server decides for longer than this.
const LONGEST: Duration = Duration::from_hours(24);

/// How long a server asks to be left alone; `None` if it can't be read, or is over.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text.get(..64).unwrap_or(text)).ok()?;
        Duration::try_from(date.duration_since(now)).ok()?
    };
    Some(wait.min(LONGEST)).filter(|wait| !wait.is_zero())
}
