//! The JSON of a Docker configuration, read as Go's `encoding/json` reads it for Docker and the kubelet: names of fields in
//! any case, null for an absent value, and the last of duplicate values.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The parts of a Docker configuration that are used here.
#[derive(Default)]
pub(super) struct DockerConfig {
    pub(super) auths: BTreeMap<String, AuthEntry>,
    /// The registries that have a credential helper (`credHelpers`).
    pub(super) helpers: Vec<String>,
    /// Whether the other registries use a credential store (`credsStore`).
    pub(super) has_store: bool,
}

/// An entry of `auths`. <https://github.com/docker/cli/blob/master/cli/config/types/authconfig.go>
#[derive(Default)]
pub(super) struct AuthEntry {
    pub(super) auth: SecretString,
    pub(super) username: SecretString,
    pub(super) password: SecretString,
    pub(super) identitytoken: SecretString,
    pub(super) registrytoken: SecretString,
}

impl DockerConfig {
    /// Parses a configuration. `None` if it isn't JSON, has no `auths`, or has values of a type that clients reject.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let text = without_lone_surrogates(&replaced(json));
        let read: Read = serde_json::from_str::<Option<Read>>(&text).ok()??;
        Some(Self { auths: read.auths?, helpers: read.helpers, has_store: read.has_store })
    }
}

/// Replaces each byte that is not UTF-8 with U+FFFD, as Go does.
fn replaced(json: &[u8]) -> String {
    json.utf8_chunks().fold(String::with_capacity(json.len()), |mut text, chunk| {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        text
    })
}

/// The JSON with each lone escaped surrogate (`\ud800`) replaced with U+FFFD, as Go reads it.
fn without_lone_surrogates(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let (escape, behind) =
            match (surrogate(after, 0xd8), after.get(5..).and_then(|it| it.strip_prefix('\\'))) {
                (true, Some(second)) if surrogate(second, 0xdc) => after.split_at(11),
                (is_first, _) if is_first || surrogate(after, 0xdc) => {
                    ("ufffd", after.get(5..).unwrap_or_default())
                }
                _ => after.split_at(after.chars().next().map_or(0, char::len_utf8)),
            };
        text.push('\\');
        text.push_str(escape);
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// Whether a UTF-16 surrogate follows: the high one starts at 0xd8, the low one at 0xdc.
fn surrogate(escape: &str, from: u16) -> bool {
    let digits = escape.strip_prefix('u').and_then(|digits| digits.get(..4));
    let value = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    value.is_some_and(|value| (from..from + 4).contains(&(value >> 8)))
}

/// The name of a field folded as Go compares it: in lower case, with the two non-ASCII letters that fold to ASCII.
fn folded(name: &str) -> String {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

#[derive(Default)]
struct Read {
    auths: Option<BTreeMap<String, AuthEntry>>,
    helpers: Vec<String>,
    has_store: bool,
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(ObjectFields(Self::default()))
    }
}

impl<'de> Deserialize<'de> for AuthEntry {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(ObjectFields(Self::default()))
    }
}

/// Reads an object field by field into `T`.
struct ObjectFields<T>(T);

trait TakeField {
    /// Reads the value of the field `name`, which is in lower case.
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<'de, T: TakeField> Visitor<'de> for ObjectFields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.take(&folded(&name), &mut map)?;
        }
        Ok(self.0)
    }
}

impl TakeField for Read {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "auths" => {
                let entries: Option<BTreeMap<String, Option<AuthEntry>>> = map.next_value()?;
                // In Go, null empties a map, and a further object is merged into it.
                self.auths = entries.map(|entries| {
                    let entries = entries.into_iter().map(|(key, entry)| (key, entry.unwrap_or_default()));
                    self.auths.take().unwrap_or_default().into_iter().chain(entries).collect()
                });
            }
            // Not used, but the kubelet rejects the file if they have another type.
            "httpheaders" => {
                map.next_value::<Option<BTreeMap<String, Option<String>>>>()?;
            }
            // Docker reads these and the kubelet doesn't, so another type is no error.
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

impl TakeField for AuthEntry {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "auth" => replace(&mut self.auth, map.next_value()?),
            "username" => replace(&mut self.username, map.next_value()?),
            "password" => replace(&mut self.password, map.next_value()?),
            // Not used, but the kubelet rejects the file if it has another type.
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

/// Sets a field. Null leaves it unchanged, as in Go.
fn replace(field: &mut SecretString, value: Option<String>) {
    if let Some(value) = value {
        *field = value.into();
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "another crate's enum")]
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}
