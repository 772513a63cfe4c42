//! The JSON of a Docker configuration, read as Go's `encoding/json` reads it for Docker and the kubelet: names of fields in
//! any case, null for what is not given, and of what stands there twice the last.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// What of a Docker configuration is used here.
#[derive(Default)]
pub(super) struct DockerConfig {
    pub(super) auths: BTreeMap<String, Entry>,
    /// The registries that are left to a program (`credHelpers`).
    pub(super) helpers: Vec<String>,
    /// Whether the others are left to one too (`credsStore`).
    pub(super) has_store: bool,
}

/// An entry of `auths`. <https://github.com/docker/cli/blob/master/cli/config/types/authconfig.go>
#[derive(Default)]
pub(super) struct Entry {
    pub(super) auth: SecretString,
    pub(super) username: SecretString,
    pub(super) password: SecretString,
    pub(super) identitytoken: SecretString,
    pub(super) registrytoken: SecretString,
}

impl DockerConfig {
    /// None where it is no JSON, has no `auths`, or has values of another type than the clients take.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        // Go replaces what is not UTF-8.
        let text = String::from_utf8_lossy(json);
        let read: Read = serde_json::from_str::<Option<Read>>(&text).ok()??;
        Some(Self { auths: read.auths?, helpers: read.helpers, has_store: read.has_store })
    }
}

#[derive(Default)]
struct Read {
    auths: Option<BTreeMap<String, Entry>>,
    helpers: Vec<String>,
    has_store: bool,
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(Fields(Self::default()))
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(Fields(Self::default()))
    }
}

/// Reads an object field by field into `T`.
struct Fields<T>(T);

trait TakeField {
    /// Takes the value of the field of that name, in lower case.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: TakeField> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.take(&name.to_ascii_lowercase(), &mut map)?;
        }
        Ok(self.0)
    }
}

impl TakeField for Read {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "auths" => {
                let entries: Option<BTreeMap<String, Option<Entry>>> = map.next_value()?;
                let entries = entries
                    .map(|entries| entries.into_iter().map(|(key, entry)| (key, entry.unwrap_or_default())));
                if let Some(entries) = entries {
                    self.auths.get_or_insert_default().extend(entries);
                }
            }
            // Docker reads these, the kubelet doesn't: of another type they spoil nothing.
            "credhelpers" => {
                if let Value::Object(helpers) = map.next_value()? {
                    let named = helpers.into_iter().filter(|(_, helper)| is_text(helper));
                    self.helpers.extend(named.map(|(key, _)| key));
                }
            }
            "credsstore" => self.has_store = is_text(&map.next_value()?),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl TakeField for Entry {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "auth" => replace(&mut self.auth, map.next_value()?),
            "username" => replace(&mut self.username, map.next_value()?),
            "password" => replace(&mut self.password, map.next_value()?),
            // Unused, but of another type it spoils the file for the kubelet.
            "email" => {
                map.next_value::<Option<String>>()?;
            }
            "identitytoken" => replace(&mut self.identitytoken, text(map.next_value()?)),
            "registrytoken" => replace(&mut self.registrytoken, text(map.next_value()?)),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// In Go, null leaves a field as it was.
fn replace(field: &mut SecretString, value: Option<String>) {
    if let Some(value) = value {
        *field = value.into();
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
