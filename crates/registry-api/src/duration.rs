//! Durations as written in manifests. Owns the syntax; the schema's rules have the bounds.

use std::{str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in the syntax of Go's `time.ParseDuration` (`10m`, `1h30m`), as usual in Kubernetes.
///
/// Keeps the spelling, so that the schema's default is `10m` and not `600s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDuration {
    text: Box<str>,
    value: Duration,
}

impl GoDuration {
    /// Creates a duration that is known at compile time, for the schema's defaults.
    pub(crate) fn literal(text: &str, seconds: u64) -> Self {
        Self { text: text.into(), value: Duration::from_secs(seconds) }
    }

    /// Returns the duration.
    pub fn get(&self) -> Duration {
        self.value
    }
}

impl FromStr for GoDuration {
    type Err = kube::core::duration::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = text.parse::<kube::core::Duration>()?.into();
        Ok(Self { text: text.into(), value })
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 16})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_keeps_its_spelling() {
        let parsed: GoDuration = serde_json::from_str(r#""1h30m""#).unwrap();
        assert_eq!(parsed.get(), Duration::from_mins(90));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), r#""1h30m""#);
    }

    #[test]
    fn literal_defaults_match_their_spelling() {
        for literal in [GoDuration::literal("10m", 600), GoDuration::literal("30s", 30)] {
            assert_eq!(literal.text.parse(), Ok(literal));
        }
    }

    #[test]
    fn rejects_number_without_unit() {
        assert!("10".parse::<GoDuration>().is_err());
    }
}
