//! The store: every object in its newest state, and every change since the start.
//!
//! A revision is a number that grows by one with each change of any object, as in etcd. Nothing is dropped when the store is
//! compacted; compacted revisions can just not be read any more.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde_json::{Value, json};

use super::resources::ResourceIndex;

/// An object's place in the store.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct StoreKey {
    pub resource: ResourceIndex,
    /// Empty for objects that are in no namespace.
    pub namespace: String,
    pub name: String,
}

impl StoreKey {
    pub fn new(resource: ResourceIndex, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct StoredChange {
    pub revision: u64,
    pub key: StoreKey,
    pub before: Option<Arc<Value>>,
    /// The object; for a deletion, its last state with the revision of the deletion.
    pub object: Arc<Value>,
    pub deleted: bool,
}

/// StoredObjects by their keys.
pub(super) type StoredObjects = BTreeMap<StoreKey, Arc<Value>>;

/// The revision at the start. It isn't mistaken for another number.
const FIRST: u64 = 1000;

#[derive(Clone, Debug)]
pub(super) struct RevisionStore {
    revision: u64,
    /// States before this revision can't be read.
    compacted: u64,
    objects: StoredObjects,
    changes: Vec<StoredChange>,
}

impl RevisionStore {
    pub fn new() -> Self {
        Self { revision: FIRST, compacted: 0, objects: StoredObjects::new(), changes: Vec::new() }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Makes states before the current one unreadable.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
    }

    pub fn get(&self, key: &StoreKey) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Returns the objects of a resource, of one namespace or of all, in order.
    pub fn of<'a>(
        &'a self,
        resource: ResourceIndex,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a StoreKey, &'a Arc<Value>)> {
        let from = StoreKey::new(resource, namespace, "");
        let range = self.objects.range((Bound::Included(from), Bound::Unbounded));
        range.take_while(move |(key, _)| is_in(key, resource, namespace))
    }

    /// Returns all objects.
    pub fn all(&self) -> &StoredObjects {
        &self.objects
    }

    /// Returns the objects of a resource as they were at an earlier revision.
    pub fn at(&self, revision: u64, resource: ResourceIndex, namespace: &str) -> StoredObjects {
        let mut objects: StoredObjects =
            self.of(resource, namespace).map(|(key, object)| (key.clone(), object.clone())).collect();
        let since = self.changes[self.index_after(revision)..].iter().rev();
        for change in since.filter(|change| is_in(&change.key, resource, namespace)) {
            undo(&mut objects, change);
        }
        objects
    }

    /// Stores an object, and returns it with its resource version.
    pub fn put(&mut self, key: StoreKey, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), object.clone());
        self.record(key, before, object.clone(), false);
        object
    }

    /// Removes an object, and returns its last state.
    pub fn remove(&mut self, key: &StoreKey) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let last = Arc::new(last);
        self.record(key.clone(), Some(before), last.clone(), true);
        Some(last)
    }

    fn record(&mut self, key: StoreKey, before: Option<Arc<Value>>, object: Arc<Value>, deleted: bool) {
        self.changes.push(StoredChange { revision: self.revision, key, before, object, deleted });
    }

    /// Returns the position of the first change after a revision.
    pub fn index_after(&self, revision: u64) -> usize {
        self.changes.partition_point(|change| change.revision <= revision)
    }

    /// Returns the changes from a position on.
    pub fn changes_from(&self, index: usize) -> &[StoredChange] {
        self.changes.get(index..).unwrap_or_default()
    }

    /// Returns to an earlier revision, as if etcd was restored from a backup. Later changes never happened.
    pub fn restore(&mut self, revision: u64) {
        let from = self.index_after(revision);
        for change in self.changes.split_off(from).iter().rev() {
            undo(&mut self.objects, change);
        }
        self.revision = revision.min(self.revision);
        self.compacted = self.compacted.min(self.revision);
    }
}

fn undo(objects: &mut StoredObjects, change: &StoredChange) {
    match &change.before {
        Some(before) => objects.insert(change.key.clone(), before.clone()),
        None => objects.remove(&change.key),
    };
}

/// Returns whether an object belongs to a resource, and to a namespace if there is one.
pub(super) fn is_in(key: &StoreKey, resource: ResourceIndex, namespace: &str) -> bool {
    key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StoreKey {
        StoreKey::new(1, "team", name)
    }

    fn names(objects: &StoredObjects) -> Vec<&str> {
        objects.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn earlier_states_can_be_read_and_restored() {
        let mut store = RevisionStore::new();
        store.put(key("a"), json!({"data": 1}));
        store.put(key("b"), json!({}));
        let then = store.revision();
        store.put(key("a"), json!({"data": 2}));
        store.remove(&key("b"));
        store.put(key("c"), json!({}));
        assert_eq!(names(&store.at(then, 1, "")), ["a", "b"]);
        assert_eq!(store.at(then, 1, "team")[&key("a")]["data"], 1);
        assert!(store.at(then, 1, "tea").is_empty());
        store.restore(then);
        assert_eq!((store.revision(), names(store.all())), (then, vec!["a", "b"]));
        assert_eq!(
            store.put(key("c"), json!({}))["metadata"]["resourceVersion"],
            json!((then + 1).to_string())
        );
    }
}
