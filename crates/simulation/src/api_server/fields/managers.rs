//! The field managers of an object, in `metadata.managedFields`.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Value, json};

use super::{
    compare::{Difference, fields_of},
    field_set::FieldSet,
    field_type::FieldType,
    merge::merge,
    remove::remove,
};
use crate::api_server::refusal::ApiFailure;

/// Fields that nobody owns: those that identify the object, and those that the API server sets.
const UNOWNED: [&[&str]; 10] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

const MANAGED_FIELDS: &str = "managedFields";

/// A write, as the field managers see it.
pub(in crate::api_server) struct FieldWrite<'a> {
    pub field_type: &'a FieldType,
    pub api_version: &'a str,
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Fields at the top that this write doesn't change.
    pub ignored: &'a [&'a str],
    pub time: &'a str,
}

/// Identifies an entry of `managedFields`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct FieldManager {
    operation: String,
    manager: String,
    api_version: String,
    subresource: String,
}

#[derive(Clone, Debug, Default)]
struct OwnedSet {
    fields: FieldSet,
    time: Option<String>,
}

type FieldManagers = BTreeMap<FieldManager, OwnedSet>;

/// Returns the object after an update, which is no apply, with its field managers. `live` is `{}` for a new object.
pub(in crate::api_server) fn updated(write: &FieldWrite<'_>, live: &Value, mut new: Value) -> Value {
    let mut managers = managers_after_request(write, live, &new);
    take_managed_fields(&mut new);
    let is_new = live["metadata"].get("uid").is_none();
    if managers.is_empty() && !is_new {
        return new; // not tracked until it is applied
    }
    // The managed fields, which are removed in `new`, have no owner.
    let difference = Difference::between(write.field_type, live, &new).without(&write.ignored_set());
    let own = write.field_manager("Update");
    let changed = difference.changed();
    for owned in managers.values_mut() {
        owned.fields = owned.fields.difference(&changed).difference(&difference.removed);
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    let taken = changed.without_subtrees(&write.ignored_set()).difference(&UNOWNED_SET);
    if !taken.is_empty() {
        let owned = managers.entry(own).or_default();
        owned.fields = owned.fields.union(&taken);
        owned.time = Some(write.time.to_owned());
    }
    set_managed_fields(&mut new, &managers);
    new
}

/// Returns the object after an apply, with its field managers. `live` is `{}` for a new object.
pub(in crate::api_server) fn applied(
    write: &FieldWrite<'_>,
    live: &Value,
    config: &Value,
    force: bool,
) -> Result<Value, ApiFailure> {
    let mut managers = managers_before_apply(write, live);
    let live = without_managed_fields(live);
    let merged = merge(write.field_type, Some(&live), Some(config)).unwrap_or_default();
    let own = write.field_manager("Apply");
    let last = managers.get(&own).cloned().unwrap_or_default();
    let set = fields_of(write.field_type, config).without_subtrees(&write.ignored_set());
    managers.insert(own.clone(), OwnedSet { fields: set, time: last.time.clone() });
    let new = prune(write.field_type, merged, &managers, &last.fields);
    let difference = Difference::between(write.field_type, &live, &new).without(&write.ignored_set());
    take_from_others(&mut managers, &own, &difference, force)?;
    let mut new = new;
    if let Some(owned) = managers.get_mut(&own) {
        owned.fields = owned.fields.difference(&UNOWNED_SET);
        if new != live {
            owned.time = Some(write.time.to_owned());
        }
    }
    managers.retain(|_, owned| !owned.fields.is_empty());
    set_managed_fields(&mut new, &managers);
    Ok(new)
}

/// What an object without managers has belongs to a manager of its own.
fn managers_before_apply(write: &FieldWrite<'_>, live: &Value) -> FieldManagers {
    let managers = read_managed_fields(&live["metadata"]["managedFields"]);
    if !managers.is_empty() || live["metadata"].get("uid").is_none() {
        return managers;
    }
    let before = FieldWrite { manager: "before-first-apply", subresource: "", ..*write };
    let owned = updated(&before, &json!({}), live.clone());
    read_managed_fields(&owned["metadata"]["managedFields"])
}

/// Removes what the last apply set and this one doesn't, unless another manager owns it.
fn prune(field_type: &FieldType, merged: Value, managers: &FieldManagers, last: &FieldSet) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &FieldSet| set.with_named_fields(field_type);
    let named_fields_of = |object: &Value| named(&fields_of(field_type, object));
    let without = |set: &FieldSet| remove(field_type, &merged, set).unwrap_or_else(|| json!({}));
    let owned = managers.values().fold(FieldSet::default(), |all, owned| all.union(&owned.fields));
    let (all, last, owned) = (named_fields_of(&merged), named(last), named(&owned));
    let pruned = without(&last);
    let pruned = without(&all.difference(&named_fields_of(&pruned)).difference(&owned));
    without(&all.difference(&named_fields_of(&pruned)).intersection(&last))
}

fn take_from_others(
    managers: &mut FieldManagers,
    own: &FieldManager,
    difference: &Difference,
    force: bool,
) -> Result<(), ApiFailure> {
    let changed = difference.changed();
    let mut conflicts = Vec::new();
    for (manager, owned) in managers.iter_mut().filter(|(manager, _)| *manager != own) {
        let conflict = owned.fields.intersection(&changed);
        let name = manager.described();
        conflicts.extend(conflict.paths().iter().map(|path| (name.clone(), written(path))));
        owned.fields = owned.fields.difference(&conflict).difference(&difference.removed);
    }
    if force || conflicts.is_empty() { Ok(()) } else { Err(ApiFailure::apply_conflict(&conflicts)) }
}

/// Returns a path as in messages.
fn written(path: &[String]) -> String {
    let part = |part: &String| match part.split_once(':') {
        Some(("k", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            let keys = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
            format!("[{}]", keys.collect::<Vec<_>>().join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, name)) => format!(".{name}"),
        None => part.clone(),
    };
    path.iter().map(part).collect()
}

impl FieldWrite<'_> {
    fn field_manager(&self, operation: &str) -> FieldManager {
        FieldManager {
            operation: operation.to_owned(),
            manager: self.manager.to_owned(),
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    fn ignored_set(&self) -> FieldSet {
        self.ignored.iter().fold(FieldSet::default(), |all, field| all.union(&FieldSet::of(&[*field])))
    }
}

impl FieldManager {
    /// Returns the manager as in messages, which would name the time too, but the API server doesn't know it there.
    fn described(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text = format!("{text} with subresource {:?}", self.subresource);
        }
        if self.operation == "Apply" { text } else { format!("{text} using {}", self.api_version) }
    }
}

static UNOWNED_SET: LazyLock<FieldSet> =
    LazyLock::new(|| UNOWNED.iter().fold(FieldSet::default(), |all, path| all.union(&FieldSet::of(path))));

/// A request to the object itself may replace the managed fields; `[{}]` removes them.
fn managers_after_request(write: &FieldWrite<'_>, live: &Value, new: &Value) -> FieldManagers {
    let sent = &new["metadata"]["managedFields"];
    let is_reset = sent.as_array().is_some_and(|list| list.len() == 1 && list[0] == json!({}));
    let managers = read_managed_fields(sent);
    match () {
        () if write.subresource.is_empty() && is_reset => FieldManagers::new(),
        () if write.subresource.is_empty() && !managers.is_empty() => managers,
        () => read_managed_fields(&live["metadata"]["managedFields"]),
    }
}

fn read_managed_fields(entries: &Value) -> FieldManagers {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let read = |entry: &Value| {
        let manager = FieldManager {
            operation: text(entry, "operation"),
            manager: text(entry, "manager"),
            api_version: text(entry, "apiVersion"),
            subresource: text(entry, "subresource"),
        };
        let time = entry["time"].as_str().map(str::to_owned);
        (manager, OwnedSet { fields: FieldSet::from_json(&entry["fieldsV1"]), time })
    };
    let entries = entries.as_array().into_iter().flatten().filter(|entry| entry.get("fieldsV1").is_some());
    entries.map(read).collect()
}

fn set_managed_fields(object: &mut Value, managers: &FieldManagers) {
    if managers.is_empty() {
        return take_managed_fields(object);
    }
    let mut sorted: Vec<(&FieldManager, &OwnedSet)> = managers.iter().collect();
    sorted.sort_by_key(|(manager, owned)| (manager.operation.clone(), owned.time.clone()));
    let entry = |(manager, owned): (&FieldManager, &OwnedSet)| {
        let mut entry = json!({
            "manager": manager.manager, "operation": manager.operation, "apiVersion": manager.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": owned.fields.to_json(),
        });
        if let Some(time) = &owned.time {
            entry["time"] = json!(time);
        }
        if !manager.subresource.is_empty() {
            entry["subresource"] = json!(manager.subresource);
        }
        entry
    };
    object["metadata"]["managedFields"] = sorted.into_iter().map(entry).collect();
}

fn take_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

/// Returns the object without its managed fields, which are most of it.
fn without_managed_fields(object: &Value) -> Value {
    let Some(fields) = object.as_object() else { return object.clone() };
    let of_metadata = |metadata: &Value| {
        let kept = metadata.as_object().into_iter().flatten().filter(|(field, _)| *field != MANAGED_FIELDS);
        Value::Object(kept.map(|(field, value)| (field.clone(), value.clone())).collect())
    };
    let kept = fields.iter().map(|(field, value)| {
        let is_metadata = field == "metadata" && value.is_object();
        (field.clone(), if is_metadata { of_metadata(value) } else { value.clone() })
    });
    Value::Object(kept.collect())
}

/// Returns whether two objects differ in nothing but the times of their managed fields.
pub(in crate::api_server) fn differ_in_times_only(before: &Value, after: &Value) -> bool {
    let of = MANAGED_FIELDS;
    same_without("metadata", before, after)
        && same_without(of, &before["metadata"], &after["metadata"])
        && same_entries(&before["metadata"][of], &after["metadata"][of])
}

/// Whether two objects have the same fields but for one.
fn same_without(field: &str, one: &Value, other: &Value) -> bool {
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => {
            let is_other = |(name, _): &(&String, &Value)| *name != field;
            one.iter().filter(is_other).eq(other.iter().filter(is_other))
        }
        _ => one == other,
    }
}

/// Whether two lists of managed fields differ in their times only.
fn same_entries(one: &Value, other: &Value) -> bool {
    match (one.as_array(), other.as_array()) {
        (Some(one), Some(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| same_without("time", one, other))
        }
        _ => one == other,
    }
}
