//! The parts of a JSON schema that documentation needs. Properties keep their order.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

/// A schema or a part of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Schema {
    /// The description.
    pub description: String,
    /// The type, such as `string`, or several types.
    #[serde(rename = "type")]
    pub kind: Value,
    /// The default. An absent default differs from `null`.
    #[serde(deserialize_with = "present")]
    pub default: Option<Value>,
    /// The allowed values.
    #[serde(rename = "enum")]
    pub choices: Vec<Value>,
    /// The properties of an object.
    pub properties: Properties,
    /// The required properties.
    pub required: Vec<String>,
    /// The items of a list.
    pub items: Option<Box<Schema>>,
    /// The format: `date-time`, `int64`.
    pub format: Option<String>,
}

/// Properties in their order.
#[derive(Clone, Debug, Default)]
pub struct Properties(pub Vec<(String, Schema)>);

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Properties;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut properties = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    properties.push(entry);
                }
                Ok(Properties(properties))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Schema {
    /// Returns the type as text: `string`, `list of string`, `Always or Never`.
    pub fn kind(&self) -> String {
        if !self.choices.is_empty() {
            let choices = self.choices.iter().filter(|choice| choice.as_str() != Some(""));
            return choices.map(|choice| format!("`{}`", plain(choice))).collect::<Vec<_>>().join(" or ");
        }
        match (&self.kind, &self.items) {
            (Value::String(kind), Some(items)) if kind == "array" => format!("list of {}", items.kind()),
            (Value::String(kind), _) => self.format.clone().unwrap_or_else(|| kind.clone()),
            (Value::Array(kinds), _) => {
                let kinds = kinds.iter().map(plain).filter(|kind| kind != "null");
                kinds.collect::<Vec<_>>().join(" or ")
            }
            _ => "any".to_owned(),
        }
    }
}

/// Returns a value without the quotes of a string.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
