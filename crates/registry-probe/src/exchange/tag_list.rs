//! The list of tags (OCI distribution-spec, "Listing Tags"), read as Go's clients read it: field names in any case, `null`
//! for an absent value, other fields ignored.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The content of a successful response to a request for tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantedList {
    /// A list of tags with at least one.
    Tags,
    /// A list of tags with none.
    NoTags,
    /// Something else than a list of tags.
    Other,
}

impl GrantedList {
    /// Reads a complete or truncated body: some registries ignore `n=`, and Google's list every manifest before the tags.
    pub(super) fn of(body: &[u8]) -> Self {
        // Like Go, this replaces invalid UTF-8.
        let text = String::from_utf8_lossy(body);
        let mut list = TagList::default();
        let mut input = serde_json::Deserializer::from_str(&text);
        let read = (&mut list).deserialize(&mut input).and_then(|()| input.end());
        match read {
            Ok(()) if list.has_tag => Self::Tags,
            Ok(()) if list.is_named || list.has_tags_field => Self::NoTags,
            Err(error) if error.is_eof() && list.is_one_already() => Self::Tags,
            _ => Self::Other,
        }
    }
}

/// The fields that were read before the text ended.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one field that was seen, or not")]
struct TagList {
    is_named: bool,
    has_tags_field: bool,
    has_tag: bool,
    /// Google's field.
    has_manifest: bool,
    has_unknown_field: bool,
}

impl TagList {
    /// Whether the part that was read is certainly a list of tags.
    fn is_one_already(&self) -> bool {
        self.has_tag || (self.has_manifest && !self.has_unknown_field)
    }
}

impl<'de> DeserializeSeed<'de> for &mut TagList {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut TagList {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match name.to_ascii_lowercase().as_str() {
                "tags" => {
                    (self.has_tags_field, self.has_tag) = (true, false);
                    map.next_value_seed(FirstText(&mut self.has_tag))?;
                }
                "name" => self.is_named |= map.next_value::<Option<String>>()?.is_some(),
                "manifest" => map.next_value_seed(FirstField(&mut self.has_manifest))?,
                "child" => drop(map.next_value::<IgnoredAny>()?),
                _ => {
                    self.has_unknown_field = true;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Records that a list has a string as soon as the first is read.
struct FirstText<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for FirstText<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FirstText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(text) = list.next_element::<Option<String>>()? {
            *self.0 |= text.is_some();
        }
        Ok(())
    }
}

/// Records that an object has a field as soon as the first is read.
struct FirstField<'a>(&'a mut bool);

impl<'de> DeserializeSeed<'de> for FirstField<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FirstField<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<String>()?.is_some() {
            *self.0 = true;
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
