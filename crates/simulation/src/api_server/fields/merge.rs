//! Merges an applied configuration into an object.

use serde_json::{Map, Value};

use super::{compare::items, field_type::FieldType};

/// Returns `live` with all that `config` says.
pub(super) fn merge(field_type: &FieldType, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    match (live, config) {
        (Some(live), Some(config)) => Some(merge_both(field_type, live, config)),
        (only, None) | (None, only) => only.cloned(),
    }
}

fn merge_both(field_type: &FieldType, live: &Value, config: &Value) -> Value {
    if field_type.is_granular_map(live)
        && let (Value::Object(live), Value::Object(config)) = (live, config)
    {
        return Value::Object(merge_maps(field_type, live, config));
    }
    if field_type.is_granular_list(live) && config.is_array() {
        return Value::Array(merge_lists(field_type, live, config));
    }
    config.clone()
}

fn merge_maps(
    field_type: &FieldType,
    live: &Map<String, Value>,
    config: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = live.clone();
    for (key, value) in config {
        let value = merge(field_type.of_field(key), live.get(key), Some(value));
        merged.insert(key.clone(), value.unwrap_or_default());
    }
    merged
}

/// Merges two lists. Items keep the order of `config` among themselves, and otherwise that of `live`.
fn merge_lists(field_type: &FieldType, live: &Value, config: &Value) -> Vec<Value> {
    let (live, config) = (items(field_type, Some(live)), items(field_type, Some(config)));
    let find = |items: &[(String, &'_ Value)], part: &str| items.iter().position(|(its, _)| its == part);
    let merged = |part: &str| {
        let live = find(&live, part).map(|at| live[at].1);
        let config = find(&config, part).map(|at| config[at].1);
        merge(field_type.of_item(), live, config).unwrap_or_default()
    };
    let mut shared: Vec<&str> =
        config.iter().map(|(part, _)| part.as_str()).filter(|part| find(&live, part).is_some()).collect();
    shared.reverse();
    let (mut out, mut done) = (Vec::new(), Vec::<&str>::new());
    let (mut at_live, mut at_config) = (0, 0);
    while at_live < live.len() || at_config < config.len() {
        if let (Some((from_live, _)), Some((from_config, _))) = (live.get(at_live), config.get(at_config)) {
            if from_live == from_config {
                out.push(merged(from_live));
                done.push(from_live);
                (at_live, at_config) = (at_live + 1, at_config + 1);
                shared.pop();
                continue;
            }
            if find(&config, from_live).is_some() && shared.last().is_some_and(|next| next != from_live) {
                at_live += 1; // it comes later in the configuration
                continue;
            }
        }
        if let Some((part, item)) = live.get(at_live) {
            if find(&config, part).is_none() {
                out.push((*item).clone());
                at_live += 1;
                continue;
            }
            if done.contains(&part.as_str()) {
                at_live += 1;
            }
        }
        if let Some((part, _)) = config.get(at_config) {
            out.push(merged(part));
            done.push(part);
            at_config += 1;
            if shared.last() == Some(&part.as_str()) {
                shared.pop();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_merge_by_key_in_order_of_configuration() {
        let conditions = FieldType::keyed_list("type", FieldType::Untyped);
        let live = json!([{"type": "A", "n": 1}, {"type": "B"}, {"type": "X"}, {"type": "C"}]);
        let config = json!([{"type": "C"}, {"type": "A", "m": 2}, {"type": "D"}]);
        let merged = merge(&conditions, Some(&live), Some(&config)).unwrap();
        let types: Vec<&str> =
            merged.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect();
        let at = |name: &str| types.iter().position(|found| *found == name).unwrap();
        assert_eq!(types.len(), 5);
        assert!(at("C") < at("A") && at("A") < at("D") && at("B") < at("X"));
        assert_eq!(merged[at("A")], json!({"type": "A", "n": 1, "m": 2}));
    }

    #[test]
    fn sets_merge_and_atomic_values_are_replaced() {
        let merged =
            |its: &FieldType, live: Value, config: Value| merge(its, Some(&live), Some(&config)).unwrap();
        assert_eq!(merged(&FieldType::Set, json!(["a", "b"]), json!(["b", "c"])), json!(["a", "b", "c"]));
        assert_eq!(merged(&FieldType::Atomic, json!(["a"]), json!(["b"])), json!(["b"]));
        assert_eq!(merged(&FieldType::map(), json!({"a": 1}), json!({"b": 2})), json!({"a": 1, "b": 2}));
    }
}
