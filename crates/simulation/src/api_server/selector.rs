//! Label and field selectors.

use serde_json::Value;

use super::refusal::ApiFailure;

/// Which objects of a list or a watch are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectSelector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug)]
enum LabelRequirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    pointer: String,
    value: String,
    equal: bool,
}

impl ObjectSelector {
    pub fn parse(labels: &str, fields: &str) -> Result<Self, ApiFailure> {
        let labels = split(labels).into_iter().map(label_requirement).collect::<Result<_, _>>()?;
        let fields = split(fields).into_iter().map(field_requirement).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| requirement.matches(object))
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &Value) -> bool {
        let of = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => of(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(key, values) => of(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Self::Exists(key) => of(key).is_some(),
            Self::Missing(key) => of(key).is_none(),
        }
    }
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let found = object.pointer(&self.pointer).and_then(Value::as_str).unwrap_or_default();
        (found == self.value) == self.equal
    }
}

/// Splits at commas outside of parentheses.
fn split(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, character) in selector.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(selector[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(selector[from..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn label_requirement(part: &str) -> Result<LabelRequirement, ApiFailure> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let key = |key: &str| key.trim().to_owned();
    if let Some((name, value)) = part.split_once("!=") {
        return Ok(LabelRequirement::NotIn(key(name), one(value)));
    }
    if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(LabelRequirement::In(key(name), one(value)));
    }
    if let Some((name, values)) = part.split_once(" notin ") {
        return Ok(LabelRequirement::NotIn(key(name), values_of(values)));
    }
    if let Some((name, values)) = part.split_once(" in ") {
        return Ok(LabelRequirement::In(key(name), values_of(values)));
    }
    match part.strip_prefix('!') {
        Some(name) => Ok(LabelRequirement::Missing(key(name))),
        None if part.contains([' ', '(', ')']) => Err(ApiFailure::unknown(&format!("label selector {part}"))),
        None => Ok(LabelRequirement::Exists(key(part))),
    }
}

fn values_of(list: &str) -> Vec<String> {
    let list = list.trim().trim_start_matches('(').trim_end_matches(')');
    list.split(',').map(|value| value.trim().to_owned()).collect()
}

/// Every resource has these two fields, and no other is used.
fn field_requirement(part: &str) -> Result<FieldRequirement, ApiFailure> {
    let unequal = part.split_once("!=").map(|(field, value)| (field, value, false));
    let equal =
        || part.split_once("==").or_else(|| part.split_once('=')).map(|(field, value)| (field, value, true));
    match unequal.or_else(equal) {
        Some((field @ ("metadata.name" | "metadata.namespace"), value, equal)) => {
            let pointer = format!("/{}", field.replace('.', "/"));
            Ok(FieldRequirement { pointer, value: value.to_owned(), equal })
        }
        _ => Err(ApiFailure::unknown(&format!("field selector {part}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let object = json!({"metadata": {"name": "x", "labels": {"a": "1", "empty": ""}}});
        for (selector, expected) in [
            ("", true),
            ("a", true),
            ("!a", false),
            ("a=1", true),
            ("a==2", false),
            ("a!=1", false),
            ("b!=1", true),
            ("a in (1, 2)", true),
            ("a notin (1,2)", false),
            ("empty,empty!=", false),
            ("a,!b", true),
        ] {
            let parsed = ObjectSelector::parse(selector, "").unwrap();
            assert_eq!(parsed.matches(&object), expected, "{selector}");
        }
        assert_eq!(ObjectSelector::parse("a(", "").unwrap_err().code(), 501);
    }

    #[test]
    fn field_selectors_match_name_and_namespace() {
        let object = json!({"metadata": {"name": "x"}});
        assert!(ObjectSelector::parse("", "metadata.name=x").unwrap().matches(&object));
        assert!(!ObjectSelector::parse("", "metadata.name!=x").unwrap().matches(&object));
        assert_eq!(ObjectSelector::parse("", "status.phase=Active").unwrap_err().code(), 501);
    }
}
