//! Removes fields from an object.

use serde_json::Value;

use super::{compare::items, field_set::FieldSet, field_type::FieldType};

/// Returns the value without the fields in the set; `None` if nothing remains.
pub(super) fn remove(field_type: &FieldType, value: &Value, set: &FieldSet) -> Option<Value> {
    if set.children.is_empty() {
        return Some(value.clone());
    }
    if field_type.is_granular_map(value) {
        return remove_keys(field_type, value, set);
    }
    if field_type.is_granular_list(value) {
        return remove_items(field_type, value, set);
    }
    Some(value.clone())
}

fn remove_keys(field_type: &FieldType, value: &Value, set: &FieldSet) -> Option<Value> {
    let map = value.as_object()?;
    let kept = map.iter().filter_map(|(key, value)| match set.children.get(&format!("f:{key}")) {
        Some(below) if below.member => None,
        Some(below) => Some((key.clone(), remove(field_type.of_field(key), value, below)?)),
        None => Some((key.clone(), value.clone())),
    });
    let kept: serde_json::Map<String, Value> = kept.collect();
    (!kept.is_empty() || map.is_empty()).then_some(Value::Object(kept))
}

fn remove_items(field_type: &FieldType, value: &Value, set: &FieldSet) -> Option<Value> {
    let all = items(field_type, Some(value));
    let kept = all.iter().filter_map(|(part, item)| match set.children.get(part) {
        Some(below) if below.member => None,
        Some(below) => remove(field_type.of_item(), item, below),
        None => Some((*item).clone()),
    });
    let kept: Vec<Value> = kept.collect();
    (!kept.is_empty() || all.is_empty()).then_some(Value::Array(kept))
}
