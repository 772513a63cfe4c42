//! Durations as kubectl prints them: `7s`, `3m20s`, `5h`, `12d`.

use k8s_openapi::jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Returns the time from `then` to `now`; `0s` if `then` is in the future.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    in_words(now.duration_since(then).as_secs())
}

/// Returns the time until `then`, or that it has passed.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    let left = then.duration_since(now).as_secs();
    if left < 0 { format!("{} ago", in_words(-left)) } else { format!("in {}", in_words(left)) }
}

/// Formats like `HumanDuration` of `k8s.io/apimachinery`: the longer the duration, the coarser.
fn in_words(seconds: i64) -> String {
    let both = |unit, (large, small)| {
        let (whole, rest) = (seconds / unit, seconds % unit);
        let parts = if unit == MINUTE { rest } else { rest * small_per(unit) / unit };
        if parts == 0 { format!("{whole}{large}") } else { format!("{whole}{large}{parts}{small}") }
    };
    match seconds {
        ..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => both(MINUTE, ('m', 's')),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => both(HOUR, ('h', 'm')),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => both(DAY, ('d', 'h')),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// Returns how many of the next smaller unit make one.
fn small_per(unit: i64) -> i64 {
    if unit == HOUR { 60 } else { 24 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_ages_as_kubectl_does() {
        for (seconds, words) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3600, "60m"),
            (3 * HOUR + 5 * MINUTE, "3h5m"),
            (20 * HOUR, "20h"),
            (3 * DAY + 2 * HOUR, "3d2h"),
            (100 * DAY, "100d"),
            (3 * YEAR, "3y"),
        ] {
            assert_eq!(in_words(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn formats_past_times() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(until(at(100), at(40)), "in 60s");
        assert_eq!(until(at(40), at(100)), "60s ago");
    }
}
