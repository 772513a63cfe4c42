//! The text format for metrics, converted from OpenMetrics, which the client library encodes. `metrics` has the metrics.

use std::{borrow::Cow, collections::HashSet};

/// The `Content-Type` of Prometheus' text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Converts to Prometheus' text format: the family of a counter has the name of its samples, with `_total`, and there
/// are no units and no end mark.
pub(super) fn prometheus(openmetrics: &str) -> String {
    let kinds = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = kinds.filter_map(|kind| kind.strip_suffix(" counter")).collect();
    let lines = openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT "));
    let mut text = String::with_capacity(openmetrics.len());
    for line in lines {
        text.push_str(&with_total(line, &counters));
        text.push('\n');
    }
    text
}

fn with_total<'a>(line: &'a str, counters: &HashSet<&str>) -> Cow<'a, str> {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(word), Some(name), Some(rest)) if counters.contains(name) => {
            Cow::Owned(format!("# {word} {name}_total {rest}"))
        }
        _ => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_openmetrics_to_prometheus_text() {
        let openmetrics = "# HELP a_requests Requests by a_requests.\n# TYPE a_requests counter\n\
                           a_requests_total{name=\"x y\"} 1\n# HELP a_wait_seconds Waiting.\n\
                           # TYPE a_wait_seconds gauge\n# UNIT a_wait_seconds seconds\na_wait_seconds 2.0\n# EOF\n";
        let text = "# HELP a_requests_total Requests by a_requests.\n# TYPE a_requests_total counter\n\
                    a_requests_total{name=\"x y\"} 1\n# HELP a_wait_seconds Waiting.\n\
                    # TYPE a_wait_seconds gauge\na_wait_seconds 2.0\n";
        assert_eq!(prometheus(openmetrics), text);
    }
}
