// SPDX-License-Identifier: Apache-2.0
//! How much of a container's output is kept: annotations, and defaults from
//! the kernel's command line.

use init::cmdline::Cmdline;

/// What a container's logs may take, both streams and all their files together.
pub const SIZE: u64 = 10 * MIB;

/// How many files a stream has, the one that is written to among them.
pub const FILES: u32 = 3;

/// The least and the most that can be asked for.
const SIZES: std::ops::RangeInclusive<u64> = 64 * KIB..=1 << 40;
const COUNTS: std::ops::RangeInclusive<u32> = 1..=100;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The annotation and the word of the command line for the size.
pub const SIZE_KEY: &str = "lkinit.log-size";

/// The same for the number of files.
pub const FILES_KEY: &str = "lkinit.log-files";

/// The limits of one stream's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most that one file holds, in bytes.
    pub bytes: u64,
    /// How many files there are at most.
    pub files: u32,
}

impl Limits {
    /// Half of the container's size for each of its two streams, in so many files.
    pub fn new(size: u64, files: u32) -> Self {
        Self { bytes: size / 2 / u64::from(files.max(1)), files: files.max(1) }
    }

    /// The limits of what has no annotations.
    pub fn of_machine(cmdline: &Cmdline) -> Self {
        Self::of_container(|_| None, cmdline).0
    }

    /// What the command line says of them that cannot be read, a line each.
    pub fn problems(cmdline: &Cmdline) -> Vec<String> {
        let words = |key: &str| cmdline.get(key);
        Self::of_container(words, &Cmdline::default()).1
    }

    /// The limits of a container. The second value says what of its
    /// annotations could not be read, and what is used instead.
    pub fn of_container<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        cmdline: &'a Cmdline,
    ) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let size =
            value(SIZE_KEY, &annotation, cmdline, size, SIZE, "a size from 64K on, as 10M", &mut problems);
        let count = |text: &str| text.parse().ok().filter(|count| COUNTS.contains(count));
        let files =
            value(FILES_KEY, &annotation, cmdline, count, FILES, "a number from 1 to 100", &mut problems);
        (Self::new(size, files), problems)
    }
}

/// The first of annotation, command line and default that can be read.
fn value<'a, T: Copy>(
    key: &str,
    annotation: &impl Fn(&str) -> Option<&'a str>,
    cmdline: &Cmdline,
    parse: impl Fn(&str) -> Option<T>,
    usual: T,
    wanted: &str,
    problems: &mut Vec<String>,
) -> T {
    for (text, told) in [(annotation(key), true), (cmdline.get(key), false)] {
        let Some(text) = text else { continue };
        match parse(text) {
            Some(value) => return value,
            None if told => problems.push(format!("{key}={text:?}: not {wanted}; using the default")),
            // Once for the machine: Limits::problems.
            None => {}
        }
    }
    usual
}

/// Bytes: a number, alone or with `K`, `M` or `G` behind it (powers of 1024).
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, KIB),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, MIB),
            None => text.strip_suffix(['G', 'g']).map_or((text, 1), |digits| (digits, KIB * MIB)),
        },
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| SIZES.contains(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("10M"), Some(10 * MIB));
        assert_eq!(size("64k"), Some(65536));
        assert_eq!(size("1G"), Some(1 << 30));
        assert_eq!(size("100000"), Some(100_000));
        for wrong in ["", "M", "10MB", "-1", "63K", "99999999999G"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_annotation_goes_before_the_command_line() {
        let cmdline = Cmdline::parse("lkinit.log-size=1M lkinit.log-files=2");
        let (limits, problems) = Limits::of_container(|key| (key == SIZE_KEY).then_some("4M"), &cmdline);
        assert_eq!((limits, problems.len()), (Limits { bytes: MIB, files: 2 }, 0));
        assert_eq!(Limits::of_machine(&Cmdline::default()), Limits { bytes: 10 * MIB / 6, files: 3 });
    }

    #[test]
    fn what_cannot_be_read_is_said_and_left_out() {
        let cmdline = Cmdline::parse("lkinit.log-files=0");
        let (limits, problems) = Limits::of_container(|key| (key == SIZE_KEY).then_some("big"), &cmdline);
        assert_eq!(limits, Limits::new(SIZE, FILES));
        let expected = ["lkinit.log-size=\"big\": not a size from 64K on, as 10M; using the default"];
        assert_eq!(problems, expected, "the machine's own mistake is not each container's");
        let expected = ["lkinit.log-files=\"0\": not a number from 1 to 100; using the default"];
        assert_eq!(Limits::problems(&cmdline), expected);
    }
}
