// SPDX-License-Identifier: Apache-2.0
//! A kernel's configuration, as text.

use std::collections::HashMap;

/// What a configuration says of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `y`
    BuiltIn,
    /// `m`
    Module,
    /// A text or number, without quotes.
    Text(&'a str),
    /// `is not set`, or not mentioned: the two are the same to the kernel.
    Unset,
}

/// A configuration: `CONFIG_NAME=value` lines.
#[derive(Debug, Default)]
pub struct Config {
    /// The kernel's version, from the comment at the top, such as `6.1.192`.
    pub version: Option<String>,
    options: HashMap<String, String>,
}

impl Config {
    /// Reads the text; `None` when not one line of it is an option's.
    pub fn parse(text: &str) -> Option<Self> {
        let mut config = Self::default();
        let mut options = 0;
        for line in text.lines().map(str::trim) {
            if let Some(option) = line.strip_prefix("CONFIG_") {
                let Some((name, value)) = option.split_once('=') else { continue };
                config.options.insert(name.to_owned(), value.trim_matches('"').to_owned());
                options += 1;
            } else if line.starts_with("# CONFIG_") && line.ends_with(" is not set") {
                options += 1;
            } else if config.version.is_none() {
                config.version = version(line);
            }
        }
        (options > 0).then_some(config)
    }

    /// The value of an option, named without `CONFIG_`.
    pub fn get(&self, name: &str) -> Value<'_> {
        match self.options.get(name).map(String::as_str) {
            None | Some("n") => Value::Unset,
            Some("y") => Value::BuiltIn,
            Some("m") => Value::Module,
            Some(text) => Value::Text(text),
        }
    }

    /// Major and minor number of the kernel's version.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.version.as_deref()?.split('.').map(|part| {
            let digits = part.split(|character: char| !character.is_ascii_digit()).next().unwrap_or(part);
            digits.parse::<u32>().ok()
        });
        Some((numbers.next()??, numbers.next()??))
    }
}

/// `# Linux/x86 6.1.192 Kernel Configuration`
fn version(line: &str) -> Option<String> {
    let line = line.strip_prefix("# Linux/")?.strip_suffix(" Kernel Configuration")?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_line() {
        let text = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.12.117+deb13 Kernel Configuration\n#\n\
                    CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"/sbin/x\"\nCONFIG_E=0x10\nCONFIG_F=\"\"\nCONFIG_G=n\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.version.as_deref(), Some("6.12.117+deb13"));
        assert_eq!(config.release(), Some((6, 12)));
        let expected = [
            ("A", Value::BuiltIn),
            ("B", Value::Module),
            ("C", Value::Unset),
            ("D", Value::Text("/sbin/x")),
            ("E", Value::Text("0x10")),
            ("F", Value::Text("")),
            ("G", Value::Unset),
            ("NEVER_HEARD_OF", Value::Unset),
        ];
        for (name, value) in expected {
            assert_eq!(config.get(name), value, "{name}");
        }
    }

    #[test]
    fn other_text_is_no_configuration() {
        assert!(Config::parse("").is_none());
        assert!(Config::parse("# comment\nconfig=1\nCONFIG_\n").is_none());
        assert_eq!(Config::parse("# CONFIG_A is not set").unwrap().release(), None);
        assert_eq!(
            Config::parse("# Linux/arm64 7.0-rc1 Kernel Configuration\nCONFIG_A=y").unwrap().release(),
            Some((7, 0))
        );
    }
}
