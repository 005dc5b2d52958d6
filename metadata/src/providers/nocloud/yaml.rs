// SPDX-License-Identifier: Apache-2.0
//! A YAML document as a tree, without what makes YAML dangerous: no aliases,
//! no tags, a limit on depth and size.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};

const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 10_000;

/// A value. Scalars are text, whatever they may mean: `1` and `"1"` are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The value of a key of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The text of a scalar; `None` for an empty one and for `null`.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) if !matches!(text.as_str(), "" | "~" | "null") => Some(text),
            _ => None,
        }
    }

    /// Every text in it, however deep.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self {
            Self::Scalar(_) => self.text().into_iter().collect(),
            Self::List(list) => list.iter().flat_map(Self::texts).collect(),
            Self::Map(map) => map.values().flat_map(Self::texts).collect(),
        }
    }
}

/// Reads the first document of a text. JSON is YAML too.
pub(super) fn parse(text: &str) -> Result<Option<Value>, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let at = |reason: &str| format!("line {}: {reason}", span.start.line());
        match event {
            Event::Alias(_) => return Err(at("aliases are not allowed")),
            Event::Scalar(text, ..) => builder.value(Value::Scalar(text.into_owned())),
            Event::SequenceStart(..) => builder.open.push(Open::List(Vec::new())),
            Event::MappingStart(..) => builder.open.push(Open::Map(BTreeMap::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => builder.close(),
            Event::DocumentEnd => break,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
        builder.nodes += 1;
        if builder.open.len() > MAX_DEPTH || builder.nodes > MAX_NODES {
            return Err(at("too deep or too large"));
        }
    }
    Ok(builder.done)
}

/// A collection that is not at its end.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(BTreeMap<String, Value>, Option<String>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    done: Option<Value>,
    nodes: usize,
}

impl Builder {
    fn value(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => drop(map.insert(key, value)),
                // A collection as a key: nobody asks for its value.
                None => *key = Some(value.text().unwrap_or_default().to_owned()),
            },
        }
    }

    fn close(&mut self) {
        match self.open.pop() {
            Some(Open::List(list)) => self.value(Value::List(list)),
            Some(Open::Map(map, _)) => self.value(Value::Map(map)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_shapes() {
        let text =
            "# c\ninstance-id: iid-1\nlocal-hostname: \"h\"\npublic-keys:\n  - k 1\n  - k 2\nnumber: 7\n";
        let value = parse(text).unwrap().unwrap();
        assert_eq!(value.get("instance-id").unwrap().text(), Some("iid-1"));
        assert_eq!(value.get("number").unwrap().text(), Some("7"));
        assert_eq!(value.get("public-keys").unwrap().texts(), ["k 1", "k 2"]);
        let json = parse(r#"{"a": {"b": ["x", null, "y"]}}"#).unwrap().unwrap();
        assert_eq!(json.get("a").unwrap().texts(), ["x", "y"]);
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("just text").unwrap().unwrap().get("x"), None);
    }

    #[test]
    fn what_is_dangerous_is_refused() {
        assert!(parse("a: &x [1]\nb: *x\n").unwrap_err().contains("aliases"));
        assert!(parse(&"[".repeat(100)).is_err());
        assert!(parse(&"- a\n".repeat(20_000)).unwrap_err().contains("too large"));
        assert!(parse("a: [\n").is_err());
        assert!(parse("a: b: c").is_err());
    }
}
