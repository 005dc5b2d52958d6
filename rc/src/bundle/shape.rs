// SPDX-License-Identifier: Apache-2.0
//! Lists where an object belongs. serde takes a list for a struct, its fields
//! by position; whoever wrote one meant something else.

use serde_json::Value;

/// What is to be an object in `config.json`; `*` stands for each element.
pub(super) const CONFIG: &[&str] = &["", "root", "process", "linux", "linux.namespaces.*"];

/// The same for `runtime.json`.
pub(super) const RUNTIME: &[&str] = &["", "mounts.*", "interfaces.*", "bindNS"];

/// The first place in `value` that has a list instead of an object, if any.
pub(super) fn problem(value: &Value, objects: &[&str]) -> Option<String> {
    objects.iter().find_map(|path| {
        let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
        find(value, &steps, String::new())
    })
}

fn find(value: &Value, steps: &[&str], at: String) -> Option<String> {
    match steps.split_first() {
        None if !value.is_array() => None,
        None if at.is_empty() => Some("a list where an object belongs".to_owned()),
        None => Some(format!("{at}: a list where an object belongs")),
        Some((&"*", rest)) => {
            let mut elements = value.as_array()?.iter().enumerate();
            elements.find_map(|(index, element)| find(element, rest, format!("{at}[{index}]")))
        }
        Some((key, rest)) => {
            let dot = if at.is_empty() { "" } else { "." };
            find(value.get(key)?, rest, format!("{at}{dot}{key}"))
        }
    }
}
