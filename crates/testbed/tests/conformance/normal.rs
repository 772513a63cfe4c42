//! Makes transcripts comparable: uids, versions and times are replaced by what is the same on both sides.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{call::Call, side::Answer};

/// Fields that are not compared, because the operator reads none of them, and why they differ.
const IGNORED: [&str; 1] = [
    // Its values are those of the real server's build.
    "/gitVersion",
];

/// What was said, in order.
#[derive(Debug, Default)]
pub struct Transcript {
    entries: Vec<Entry>,
    aliases: Vec<(String, String)>,
}

#[derive(Debug)]
struct Entry {
    what: String,
    code: u16,
    body: Value,
}

impl Transcript {
    pub fn add(&mut self, call: &Call, answer: &Answer) {
        let what = format!("{} {} by {}", call.method, call.path, call.user);
        let body =
            if call.code_only { json!({"reason": answer.body["reason"]}) } else { answer.body.clone() };
        self.entries.push(Entry { what, code: answer.code, body });
    }

    pub fn note(&mut self, what: &str, code: u16, picked: &Value) {
        self.entries.push(Entry { what: what.to_owned(), code, body: picked.clone() });
    }

    pub fn add_event(&mut self, path: &str, event: &Value) {
        self.entries.push(Entry { what: format!("event of {path}"), code: 0, body: event.clone() });
    }

    pub fn alias(&mut self, text: &str, alias: &str) {
        self.aliases.push((text.to_owned(), alias.to_owned()));
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entries with all that differs by nature replaced.
    fn normal(&self) -> Vec<(String, u16, Value)> {
        let names = Names::of(self);
        let entry = |entry: &Entry| {
            (names.aliased(&entry.what), entry.code, names.value(&without_list_version(&entry.body)))
        };
        self.entries.iter().map(entry).collect()
    }
}

/// What stands for uids and versions.
struct Names {
    words: BTreeMap<String, String>,
    aliases: Vec<(String, String)>,
}

impl Names {
    fn of(transcript: &Transcript) -> Self {
        let (mut uids, mut versions) = (Vec::new(), BTreeSet::new());
        for entry in &transcript.entries {
            collect(&without_list_version(&entry.body), &mut uids, &mut versions);
        }
        let uids = uids.into_iter().enumerate().map(|(number, uid)| (uid, format!("uid-{number}")));
        let versions = versions.into_iter().enumerate();
        let versions = versions.map(|(number, version)| (version.to_string(), format!("version-{number}")));
        Self { words: versions.chain(uids).collect(), aliases: transcript.aliases.clone() }
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => json!(self.text(text)),
            Value::Array(list) => list.iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => {
                let kept = map.iter().filter(|(_, value)| !value.is_null());
                kept.map(|(key, value)| (self.text(key), self.value(value))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn aliased(&self, text: &str) -> String {
        self.aliases.iter().fold(text.to_owned(), |text, (its, alias)| text.replace(its, alias))
    }

    /// Replaces whole words, and the parts for which the scenario named an alias.
    fn text(&self, text: &str) -> String {
        let text = self.aliased(text);
        let mut out = String::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == ':' || c == '.';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            out.push_str(&self.word(word));
            let mut characters = after.chars();
            out.extend(characters.next());
            rest = characters.as_str();
        }
        out
    }

    fn word(&self, word: &str) -> String {
        let bare = word.trim_end_matches([':', '.']);
        let mark = &word[bare.len()..];
        if is_time(bare) {
            return format!("time{mark}");
        }
        self.words.get(bare).map_or_else(|| word.to_owned(), |name| format!("{name}{mark}"))
    }
}

fn is_time(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    digits >= 14 && word.ends_with('Z') && word.contains('T') && word.matches('-').count() == 2
}

/// A list and a bookmark have the newest revision of the whole store, which other clients change too.
fn without_list_version(body: &Value) -> Value {
    let mut body = body.clone();
    if body.get("items").is_some() {
        clear_list(&mut body);
    }
    if body["type"] == "BOOKMARK" {
        body["object"]["metadata"]["resourceVersion"] = json!("newest");
    }
    body
}

fn clear_list(list: &mut Value) {
    let Some(metadata) = list["metadata"].as_object_mut() else { return };
    metadata.insert("resourceVersion".to_owned(), json!("newest"));
    let token = metadata.remove("continue").filter(|token| token != "");
    if token.is_some() {
        metadata.insert("continue".to_owned(), json!("token"));
    }
}

/// Finds uids in the order of their first use, and versions.
fn collect(value: &Value, uids: &mut Vec<String>, versions: &mut BTreeSet<u64>) {
    match value {
        Value::Object(map) => {
            if let Some(uid) = map.get("uid").and_then(Value::as_str).filter(|uid| uid.len() == 36)
                && !uids.iter().any(|known| known == uid)
            {
                uids.push(uid.to_owned());
            }
            let version = map.get("resourceVersion").and_then(Value::as_str);
            versions.extend(version.and_then(|version| version.parse::<u64>().ok()));
            for value in map.values() {
                collect(value, uids, versions);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, uids, versions)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns how two transcripts differ, one line each.
pub fn differences(real: &Transcript, simulated: &Transcript) -> Vec<String> {
    let (real, simulated) = (real.normal(), simulated.normal());
    let mut lines = Vec::new();
    for (number, (real, simulated)) in real.iter().zip(&simulated).enumerate() {
        let mut found = Vec::new();
        if real.1 != simulated.1 {
            found.push(format!("code {} ≠ {}", real.1, simulated.1));
        }
        compare("", &real.2, &simulated.2, &mut found);
        if real.0 != simulated.0 {
            found.push(format!("another request: {}", simulated.0));
        }
        if !found.is_empty() {
            lines.push(format!("{number}: {}\n    {}", real.0, found.join("\n    ")));
        }
    }
    if real.len() != simulated.len() {
        lines.push(format!("{} ≠ {} answers", real.len(), simulated.len()));
    }
    lines
}

fn compare(path: &str, real: &Value, simulated: &Value, found: &mut Vec<String>) {
    match (real, simulated) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}/{key}"), &of(left), &of(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (at, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}/{at}"), left, right, found);
            }
        }
        _ if real != simulated && !IGNORED.contains(&path) => {
            found.push(format!("{path}: {real} ≠ {simulated}"));
        }
        _ => {}
    }
}
