//! The text formats for metrics: which one a client accepts, and the conversion of the newer one to the older one.
//! `metrics` has the metrics.

use std::{borrow::Cow, collections::HashSet};

/// A text format for metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Prometheus' own text format, which every client can read.
    Prometheus,
    /// OpenMetrics 1.0, for clients that request it.
    OpenMetrics,
}

impl Format {
    /// Returns the format for an `Accept` header.
    pub fn wanted(accept: &str) -> Self {
        let openmetrics = weight(accept, "application/openmetrics-text");
        if openmetrics > 0.0 && openmetrics >= weight(accept, "text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Returns the `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Converts OpenMetrics text to this format.
    pub fn of_openmetrics(self, text: String) -> String {
        match self {
            Self::Prometheus => prometheus(&text),
            Self::OpenMetrics => text,
        }
    }
}

/// Returns the weight of a media type in an `Accept` header, from 0 to 1; 0 if it isn't there.
fn weight(accept: &str, media_type: &str) -> f32 {
    let weights = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
        weight.filter(|_| named)
    });
    weights.fold(0.0, f32::max)
}

/// Converts to Prometheus' text format: the family of a counter has the name of its samples, with `_total`, and there
/// are no units and no end mark.
fn prometheus(openmetrics: &str) -> String {
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
    fn serves_openmetrics_on_request() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                            version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in ["application/openmetrics-text", "Application/OpenMetrics-Text; q=0.1", prometheus_2] {
            assert_eq!(Format::wanted(accept), Format::OpenMetrics, "{accept}");
        }
        let later = "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4";
        for accept in ["", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0", later] {
            assert_eq!(Format::wanted(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn converts_openmetrics_to_prometheus_text() {
        let openmetrics = "# HELP a_requests Requests by a_requests.\n# TYPE a_requests counter\n\
                           a_requests_total{name=\"x y\"} 1\n# HELP a_wait_seconds Waiting.\n\
                           # TYPE a_wait_seconds gauge\n# UNIT a_wait_seconds seconds\na_wait_seconds 2.0\n# EOF\n";
        let text = "# HELP a_requests_total Requests by a_requests.\n# TYPE a_requests_total counter\n\
                    a_requests_total{name=\"x y\"} 1\n# HELP a_wait_seconds Waiting.\n\
                    # TYPE a_wait_seconds gauge\na_wait_seconds 2.0\n";
        assert_eq!(Format::Prometheus.of_openmetrics(openmetrics.to_owned()), text);
        assert_eq!(Format::OpenMetrics.of_openmetrics(openmetrics.to_owned()), openmetrics);
    }
}
