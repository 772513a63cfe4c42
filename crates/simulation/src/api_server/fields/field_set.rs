//! Sets of fields, in the form of `fieldsV1`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::field_type::FieldType;

/// A set of paths. Each part of a path is written as in `fieldsV1`: `f:NAME`, `k:{KEYS}` or `v:VALUE`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FieldSet {
    /// Whether the path to this node belongs to the set.
    pub member: bool,
    pub children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The set of one path.
    pub fn of(path: &[&str]) -> Self {
        let mut set = Self::default();
        set.insert(path);
        set
    }

    pub fn insert<P: AsRef<str>>(&mut self, path: &[P]) {
        match path {
            [] => self.member = true,
            [first, rest @ ..] => {
                self.children.entry(first.as_ref().to_owned()).or_default().insert(rest);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.member |= other.member;
        for (part, child) in &other.children {
            let merged = all.children.get(part).map_or_else(|| child.clone(), |own| own.union(child));
            all.children.insert(part.clone(), merged);
        }
        all
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let both = self
            .children
            .iter()
            .filter_map(|(part, child)| Some((part.clone(), child.intersection(other.children.get(part)?))));
        Self { member: self.member && other.member, children: both.collect() }.pruned()
    }

    /// Returns the set without the members of the other one.
    pub fn difference(&self, other: &Self) -> Self {
        let rest = self.children.iter().map(|(part, child)| {
            let rest =
                other.children.get(part).map_or_else(|| child.clone(), |those| child.difference(those));
            (part.clone(), rest)
        });
        Self { member: self.member && !other.member, children: rest.collect() }.pruned()
    }

    /// The same, without everything below the other one's members too.
    pub fn without_subtrees(&self, other: &Self) -> Self {
        let kept = self
            .children
            .iter()
            .filter(|(part, _)| other.children.get(*part).is_none_or(|those| !those.member));
        let rest = kept.map(|(part, child)| {
            let rest =
                other.children.get(part).map_or_else(|| child.clone(), |those| child.without_subtrees(those));
            (part.clone(), rest)
        });
        Self { member: self.member, children: rest.collect() }.pruned()
    }

    /// Returns the set with all fields of a struct that have something below them in it.
    pub fn with_named_fields(&self, field_type: &FieldType) -> Self {
        let children = self.children.iter().map(|(part, child)| {
            let name = part.strip_prefix("f:");
            let mut all = child.with_named_fields(field_type.of_part(part));
            all.member |= name.is_some_and(|name| field_type.names(name)) && !child.children.is_empty();
            (part.clone(), all)
        });
        Self { member: self.member, children: children.collect() }
    }

    fn pruned(mut self) -> Self {
        self.children.retain(|_, child| !child.is_empty());
        self
    }

    /// Returns all paths.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, at: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
        for (part, child) in &self.children {
            at.push(part.clone());
            if child.member {
                paths.push(at.clone());
            }
            child.collect(at, paths);
            at.pop();
        }
    }

    /// Returns the set as `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let children = self.children.iter().map(|(part, child)| {
            let mut below = child.to_json();
            if child.member && !child.children.is_empty() {
                below["."] = json!({});
            }
            (part.clone(), below)
        });
        Value::Object(children.collect::<Map<_, _>>())
    }

    /// Reads `fieldsV1`.
    pub fn from_json(fields: &Value) -> Self {
        let children = fields.as_object().into_iter().flatten().filter(|(part, _)| *part != ".");
        let children = children.map(|(part, below)| {
            let mut child = Self::from_json(below);
            child.member = child.children.is_empty() || below.get(".").is_some();
            (part.clone(), child)
        });
        Self { member: false, children: children.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_is_read_and_written_as_fields_v1() {
        let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:type": {}});
        let set = FieldSet::from_json(&fields);
        assert_eq!(set.to_json(), fields);
        let expected =
            [vec!["f:metadata", "f:labels"], vec!["f:metadata", "f:labels", "f:a"], vec!["f:type"]];
        assert_eq!(set.paths(), expected);
    }

    #[test]
    fn differences_and_unions_of_sets() {
        let set = |paths: &[&[&str]]| {
            let mut set = FieldSet::default();
            for path in paths {
                set.insert(path);
            }
            set
        };
        let both = set(&[&["a"], &["a", "b"], &["c"]]);
        assert_eq!(both.difference(&set(&[&["a"]])), set(&[&["a", "b"], &["c"]]));
        assert_eq!(both.without_subtrees(&set(&[&["a"]])), set(&[&["c"]]));
        assert_eq!(both.intersection(&set(&[&["a", "b"], &["d"]])), set(&[&["a", "b"]]));
        assert_eq!(set(&[&["a", "b"]]).union(&set(&[&["a"], &["c"]])), both);
        assert!(both.difference(&both).is_empty());
    }
}
