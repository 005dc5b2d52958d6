// SPDX-License-Identifier: Apache-2.0
//! Errors that belong to no module of their own.

use std::io;
use std::path::PathBuf;

/// What is wrong with a document, and where, in words that quote nothing of
/// it: serde names the value it did not expect, and that may be a secret.
pub fn json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The last one is serde's: what follows it is our own word and a place.
    match text.rfind(", expected ").and_then(|at| text.get(at..)) {
        Some(expected) if error.is_data() => format!("a value is of the wrong kind{expected}"),
        _ => text,
    }
}

/// Something the identification wanted to look at.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file.
    #[error("{}: cannot read it: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_not_quoted() {
        let told = |text: &str| json(&serde_json::from_str::<Vec<u8>>(text).unwrap_err());
        assert_eq!(
            told(r#"["a secret, expected to stay one"]"#),
            "a value is of the wrong kind, expected u8 at line 1 column 33"
        );
        assert_eq!(told("[1"), "EOF while parsing a list at line 1 column 2");
    }
}
