//! What the schema says about merging: which lists have keys, and what is replaced as a whole.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How a value is merged.
#[derive(Clone, Debug)]
pub(in crate::api_server) enum FieldType {
    /// Replaced as a whole.
    Atomic,
    /// A map with fixed fields.
    Struct(BTreeMap<String, FieldType>),
    /// A map with any keys.
    Map(Box<FieldType>),
    /// A list of objects that are identified by these fields.
    KeyedList(Vec<String>, Box<FieldType>),
    /// A list without duplicates.
    Set,
    /// Not in the schema: maps are merged, lists are replaced.
    Untyped,
}

static UNTYPED: FieldType = FieldType::Untyped;
static ATOMIC: FieldType = FieldType::Atomic;

impl FieldType {
    /// A struct with these fields.
    pub fn fields<const N: usize>(fields: [(&str, FieldType); N]) -> Self {
        Self::Struct(fields.map(|(name, its)| (name.to_owned(), its)).into())
    }

    /// A map of values that are replaced as a whole.
    pub fn map() -> Self {
        Self::Map(Box::new(Self::Atomic))
    }

    /// A list of structs with one key.
    pub fn keyed_list(key: &str, item: Self) -> Self {
        Self::KeyedList(vec![key.to_owned()], Box::new(item))
    }

    /// Returns whether a value is merged key by key.
    pub(super) fn is_granular_map(&self, value: &Value) -> bool {
        value.is_object() && matches!(self, Self::Struct(_) | Self::Map(_) | Self::Untyped)
    }

    /// Returns whether a value is merged item by item.
    pub(super) fn is_granular_list(&self, value: &Value) -> bool {
        value.is_array() && matches!(self, Self::KeyedList(..) | Self::Set)
    }

    /// Returns whether it is a struct with that field.
    pub(super) fn names(&self, field: &str) -> bool {
        matches!(self, Self::Struct(fields) if fields.contains_key(field))
    }

    /// Returns the type below a part of a path.
    pub(super) fn of_part(&self, part: &str) -> &Self {
        match part.strip_prefix("f:") {
            Some(field) => self.of_field(field),
            None => self.of_item(),
        }
    }

    pub(super) fn of_field(&self, field: &str) -> &Self {
        match self {
            Self::Struct(fields) => fields.get(field).unwrap_or(&UNTYPED),
            Self::Map(value) => value,
            Self::Atomic | Self::KeyedList(..) | Self::Set | Self::Untyped => &UNTYPED,
        }
    }

    pub(super) fn of_item(&self) -> &Self {
        match self {
            Self::KeyedList(_, item) => item,
            Self::Atomic | Self::Struct(_) | Self::Map(_) | Self::Set | Self::Untyped => &ATOMIC,
        }
    }

    /// Returns the part of a path for an item of a list.
    pub(super) fn item_part(&self, item: &Value) -> String {
        match self {
            Self::KeyedList(keys, _) => {
                let keys = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                format!("k:{}", Value::Object(keys.collect()))
            }
            _ => format!("v:{item}"),
        }
    }

    /// Returns what a CustomResourceDefinition's schema says.
    pub fn of_schema(schema: &Value) -> Self {
        let is = |key: &str, value: &str| schema.get(key).is_some_and(|found| found == value);
        if is("x-kubernetes-map-type", "atomic") || is("x-kubernetes-list-type", "atomic") {
            return Self::Atomic;
        }
        match schema["type"].as_str() {
            Some("object") => Self::of_object_schema(schema),
            Some("array") if is("x-kubernetes-list-type", "set") => Self::Set,
            Some("array") if is("x-kubernetes-list-type", "map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                let keys = keys.filter_map(|key| key.as_str().map(str::to_owned)).collect();
                Self::KeyedList(keys, Box::new(Self::of_schema(&schema["items"])))
            }
            _ => Self::Atomic,
        }
    }

    fn of_object_schema(schema: &Value) -> Self {
        if let Some(properties) = schema["properties"].as_object() {
            let fields = properties.iter().map(|(name, schema)| (name.clone(), Self::of_schema(schema)));
            return Self::Struct(fields.collect());
        }
        match schema.get("additionalProperties") {
            Some(values) if values.is_object() => Self::Map(Box::new(Self::of_schema(values))),
            _ => Self::Untyped,
        }
    }

    /// Returns the type of an object of a kind with these fields besides `metadata`.
    pub fn object<const N: usize>(fields: [(&str, FieldType); N]) -> Self {
        Self::fields(fields).with_metadata()
    }

    /// Adds what every object has.
    pub fn with_metadata(self) -> Self {
        let Self::Struct(mut fields) = self else { return self };
        for scalar in ["apiVersion", "kind"] {
            fields.insert(scalar.to_owned(), Self::Atomic);
        }
        fields.insert("metadata".to_owned(), metadata());
        Self::Struct(fields)
    }
}

fn metadata() -> FieldType {
    const SCALARS: [&str; 9] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let mut fields: BTreeMap<String, FieldType> =
        SCALARS.iter().map(|name| ((*name).to_owned(), FieldType::Atomic)).collect();
    fields.insert("labels".to_owned(), FieldType::map());
    fields.insert("annotations".to_owned(), FieldType::map());
    fields.insert("finalizers".to_owned(), FieldType::Set);
    fields.insert("ownerReferences".to_owned(), FieldType::keyed_list("uid", FieldType::Atomic));
    fields.insert("managedFields".to_owned(), FieldType::Atomic);
    FieldType::Struct(fields)
}

/// Returns the value `{}`, for a map that is not there.
pub(super) fn empty() -> &'static Value {
    static EMPTY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({}));
    &EMPTY
}
