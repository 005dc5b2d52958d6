// SPDX-License-Identifier: Apache-2.0
//! The document itself, read as Go's `encoding/json` reads it: images depend
//! on what that lets through.
//!
//! Names of fields match whatever their case; of several the last counts;
//! `null` is as if the field were absent; unknown fields are skipped; bytes
//! and escapes that are no text become U+FFFD.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Why user data is not a file tree. It is kept as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
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
    let text = lossy(userdata);
    // The strings below are read as bytes, because only so does serde_json
    // let lone surrogates through; it then lets control characters through as
    // well. This pass over the whole text refuses them, and what follows the
    // document.
    serde_json::from_str::<IgnoredAny>(&text)?;
    Ok(serde_json::from_str::<Option<Entries>>(&text)?.unwrap_or_default())
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
        let mut last: Vec<bool> = self.0.iter().rev().map(|(name, _)| seen.insert(name.clone())).collect();
        let mut keep = std::iter::from_fn(|| last.pop());
        self.0.retain(|_| keep.next().unwrap_or(true));
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of files and directories")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries::default();
                while let Some((Text(name), entry)) = map.next_entry::<Text, Option<Entry>>()? {
                    entries.0.push((name, entry.unwrap_or_default()));
                }
                entries.keep_last();
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Entry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with content or entries")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::default();
                while let Some(Text(field)) = map.next_key()? {
                    match field.to_ascii_lowercase().as_str() {
                        "content" => entry.content = map.next_value::<Option<Text>>()?.map(|text| text.0),
                        "perm" => entry.perm = map.next_value::<Option<Text>>()?.map(|text| text.0),
                        "entries" => match map.next_value::<Option<Entries>>()? {
                            // A second `entries` adds to the first.
                            Some(more) => {
                                let entries = entry.entries.get_or_insert_default();
                                entries.0.extend(more.0);
                                entries.keep_last();
                            }
                            None => entry.entries = None,
                        },
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Object)
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
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    text
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
