//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest delay that is accepted from a server.
const LONGEST: Duration = Duration::from_hours(24);

/// The delay that a server asks for; `None` if it is invalid or in the past.
pub(super) fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new()
            .relaxed_weekday(true)
            .parse_timestamp(text.get(..64).unwrap_or(text))
            .ok()?;
        Duration::try_from(date.duration_since(now)).ok()?
    };
    Some(wait.min(LONGEST)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Option<u64> {
        let now = "1994-11-06T08:49:00Z".parse().unwrap();
        Some(retry_after(&HeaderValue::from_bytes(text).ok()?, now)?.as_secs())
    }

    #[test]
    fn parses_seconds_and_dates() {
        assert_eq!(read(b"120"), Some(120));
        assert_eq!(read(b" 120 "), Some(120));
        assert_eq!(read(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(37));
        assert_eq!(read(b"86401"), Some(86_400));
        assert_eq!(read(b"18446744073709551616"), Some(86_400));
        assert_eq!(read(b"Sun, 06 Nov 2094 08:49:37 GMT"), Some(86_400));
        for text in [&b"0"[..], b"", b"-1", b"1.5", b"soon", b"Sun, 06 Nov 1994 08:48:37 GMT", b"\xff"] {
            assert_eq!(read(text), None);
        }
    }

    #[test]
    fn parses_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        for unit in ["1", "a", " ", "Sun, "] {
            read(unit.repeat((1 << 20) / unit.len()).as_bytes());
        }
        assert!(started.elapsed() < crate::BOUNDED);
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in any::<Vec<u8>>()) {
            read(&bytes);
        }
    }
}
