// SPDX-License-Identifier: Apache-2.0
//! The document itself, read as Go's `encoding/json` reads it: images depend
//! on what that lets through.
//!
//! Names of fields match whatever their case; of several the last counts;
//! `null` is as if the field were absent; unknown fields are skipped; bytes
//! and escapes that are no text become U+FFFD.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::errors;

/// Most entries one document may have before the last of each name is chosen:
/// an entry takes more memory than text.
const MAX_ENTRIES: usize = 16_384;

/// Why user data is not a file tree. It is kept as it is, and not quoted.
#[derive(Debug, thiserror::Error)]
#[error("{}", errors::json(.0))]
pub struct NotATree(#[from] serde_json::Error);

/// The entries of a directory, in the order of the document, each name once.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<(String, Entry)>);

/// A file or a directory, before anything is made of it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) content: Option<String>,
    pub(super) entries: Option<Entries>,
    pub(super) perm: Option<String>,
}

pub(super) fn parse(userdata: &[u8]) -> Result<Entries, NotATree> {
    // The strings below are read as bytes, because only so does serde_json
    // let lone surrogates through; it then lets control characters through as
    // well. This pass over the whole text refuses them, and what follows the
    // document; and it takes no memory for what is something else altogether.
    serde_json::from_slice::<IgnoredAny>(userdata)?;
    let text = lossy(userdata);
    let count = Counter::default();
    let mut reader = serde_json::Deserializer::from_str(&text);
    Ok(Object(&count).deserialize(&mut reader)?.unwrap_or_default())
}

/// How many entries have been read.
#[derive(Default)]
struct Counter(Cell<usize>);

impl Counter {
    fn one_more<E: de::Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > MAX_ENTRIES {
            return Err(E::custom(format_args!("more than {MAX_ENTRIES} entries")));
        }
        Ok(())
    }
}

impl IntoIterator for Entries {
    type Item = (String, Entry);
    type IntoIter = std::vec::IntoIter<Self::Item>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Entries {
    /// Keeps the last of each name, in its own place.
    fn keep_last(&mut self) {
        let mut seen = std::collections::HashSet::new();
        let mut last: Vec<bool> = self.0.iter().rev().map(|(name, _)| seen.insert(name.as_str())).collect();
        let mut keep = std::iter::from_fn(|| last.pop());
        self.0.retain(|_| keep.next().unwrap_or(true));
    }
}

/// A JSON object, or `null`, which becomes entries.
struct Object<'a>(&'a Counter);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Option<Entries>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Option<Entries>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of files and directories")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Entries::default();
        while let Some(Text(name)) = map.next_key()? {
            self.0.one_more()?;
            entries.0.push((name, map.next_value_seed(Field(self.0))?));
        }
        entries.keep_last();
        Ok(Some(entries))
    }
}

/// A JSON object, or `null`, which becomes one entry.
struct Field<'a>(&'a Counter);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Entry;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Entry;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with content or entries")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Entry, E> {
        Ok(Entry::default())
    }
    fn visit_none<E: de::Error>(self) -> Result<Entry, E> {
        Ok(Entry::default())
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut entry = Entry::default();
        while let Some(Text(field)) = map.next_key()? {
            match field.to_ascii_lowercase().as_str() {
                "content" => entry.content = map.next_value::<Option<Text>>()?.map(|text| text.0),
                "perm" => entry.perm = map.next_value::<Option<Text>>()?.map(|text| text.0),
                "entries" => match map.next_value_seed(Object(self.0))? {
                    // A second `entries` adds to the first.
                    Some(more) => entry.entries.get_or_insert_default().0.extend(more.0),
                    None => entry.entries = None,
                },
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Once, at the end: there may be any number of `entries`.
        entry.entries.iter_mut().for_each(Entries::keep_last);
        Ok(entry)
    }
}

/// A string in which lone surrogates have become U+FFFD.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(lossy_surrogates(bytes)))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// UTF-8 with one U+FFFD for each byte that is none.
fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    Cow::Owned(text)
}

/// The same where the only bytes that are no UTF-8 are lone surrogates: three
/// bytes each, of which the first alone (0xED) can begin a character. One
/// U+FFFD stands for the three.
fn lossy_surrogates(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if chunk.invalid().first() == Some(&0xED) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}
