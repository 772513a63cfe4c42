//! The fields of an object, and how two objects differ.

use serde_json::Value;

use super::{
    field_set::FieldSet,
    field_type::{FieldType, empty},
};

/// How one object differs from another.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Difference {
    /// Compares two objects.
    pub fn between(field_type: &FieldType, before: &Value, after: &Value) -> Self {
        let mut difference = Self::default();
        difference.compare(field_type, Some(before), Some(after), &mut Vec::new());
        difference
    }

    /// Returns the fields that have another value than before.
    pub fn changed(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// Leaves out some fields with all that is below them.
    pub fn without(self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.without_subtrees(ignored),
            modified: self.modified.without_subtrees(ignored),
            removed: self.removed.without_subtrees(ignored),
        }
    }

    fn compare(
        &mut self,
        field_type: &FieldType,
        before: Option<&Value>,
        after: Option<&Value>,
        path: &mut Vec<String>,
    ) {
        if before == after {
            return;
        }
        let maps = [before, after].into_iter().flatten().all(|value| field_type.is_granular_map(value));
        let lists = [before, after].into_iter().flatten().all(|value| field_type.is_granular_list(value));
        let is_leaf = !(maps || lists) || (is_empty(before) && is_empty(after));
        match (before, after) {
            (None, None) => return,
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(before), Some(after)) if is_leaf && before != after => self.modified.insert(path),
            (Some(_), Some(_)) => {}
        }
        if is_leaf {
            return;
        }
        if maps {
            self.compare_maps(field_type, before.unwrap_or(empty()), after.unwrap_or(empty()), path);
        } else {
            self.compare_lists(field_type, before, after, path);
        }
    }

    fn compare_maps(
        &mut self,
        field_type: &FieldType,
        before: &Value,
        after: &Value,
        path: &mut Vec<String>,
    ) {
        let keys =
            |value: &Value| value.as_object().into_iter().flat_map(|map| map.keys()).cloned().collect();
        let mut all: Vec<String> = keys(before);
        let more: Vec<String> = keys(after);
        all.extend(more.into_iter().filter(|key| before.get(key).is_none()));
        for key in all {
            path.push(format!("f:{key}"));
            self.compare(field_type.of_field(&key), before.get(&key), after.get(&key), path);
            path.pop();
        }
    }

    fn compare_lists(
        &mut self,
        field_type: &FieldType,
        before: Option<&Value>,
        after: Option<&Value>,
        path: &mut Vec<String>,
    ) {
        let (before, after) = (items(field_type, before), items(field_type, after));
        let find = |items: &[(String, &'_ Value)], part: &str| items.iter().position(|(its, _)| its == part);
        for (part, item) in &before {
            path.push(part.clone());
            let other = find(&after, part).map(|at| after[at].1);
            self.compare(field_type.of_item(), Some(item), other, path);
            path.pop();
        }
        for (part, item) in after.iter().filter(|(part, _)| find(&before, part).is_none()) {
            path.push(part.clone());
            self.compare(field_type.of_item(), None, Some(item), path);
            path.pop();
        }
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
        None => true,
    }
}

/// Returns the items of a list with their parts of a path.
pub(super) fn items<'a>(field_type: &FieldType, list: Option<&'a Value>) -> Vec<(String, &'a Value)> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|item| (field_type.item_part(item), item)).collect()
}

/// Returns the fields that an object has.
pub(super) fn fields_of(field_type: &FieldType, object: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(field_type, object, &mut set);
    set
}

fn collect(field_type: &FieldType, value: &Value, set: &mut FieldSet) {
    if field_type.is_granular_map(value) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let below = set.children.entry(format!("f:{key}")).or_default();
            collect(field_type.of_field(key), value, below);
            below.member |=
                value.as_object().is_some_and(serde_json::Map::is_empty) || !field_type.names(key);
        }
        set.children.retain(|_, child| !child.is_empty());
    } else if field_type.is_granular_list(value) {
        for (part, item) in items(field_type, Some(value)) {
            let below = set.children.entry(part).or_default();
            collect(field_type.of_item(), item, below);
            below.member = true;
        }
    } else {
        set.member = true;
    }
}
