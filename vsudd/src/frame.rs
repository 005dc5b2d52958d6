// SPDX-License-Identifier: Apache-2.0
//! Messages in a stream: octet counting, RFC 6587 section 3.4.1. Each message
//! has its length in decimal and a blank before it. An empty message is `0 `,
//! which that RFC has no use for and datagram sockets do.

use thiserror::Error;

use crate::buffer;

/// The longest header there is: six digits and a blank.
pub const HEADER: usize = 7;

/// The longest message, in bytes: more than a datagram socket carries unless
/// `net.core.wmem_max` was raised.
pub const LONGEST: usize = buffer::CAPACITY - HEADER;

/// What is no header. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stream has no message where one should begin: a length of at most {LONGEST} and a blank")]
pub struct Malformed;

/// A message that is there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message.
    pub message: &'a [u8],
    /// Its length with the header.
    pub length: usize,
}

/// The header of a message of this length.
pub fn header(length: usize) -> String {
    format!("{length} ")
}

/// The first message, when all of it is there.
///
/// # Errors
/// When no message can come of these bytes, whatever follows them.
pub fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits >= HEADER {
        return Err(Malformed);
    }
    let (number, rest) = bytes.split_at_checked(digits).ok_or(Malformed)?;
    let Some((blank, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let length: usize =
        std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).ok_or(Malformed)?;
    if *blank != b' ' || length > LONGEST {
        return Err(Malformed);
    }
    Ok(rest.get(..length).map(|message| Frame { message, length: digits + 1 + length }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_and_what_is_none() {
        let message =
            |bytes: &'static [u8]| first(bytes).map(|frame| frame.map(|frame| (frame.message, frame.length)));
        assert_eq!(message(b""), Ok(None));
        assert_eq!(message(b"12"), Ok(None));
        assert_eq!(message(b"3 ab"), Ok(None));
        assert_eq!(message(b"3 abc7 "), Ok(Some((&b"abc"[..], 5))));
        assert_eq!(message(b"0 "), Ok(Some((&b""[..], 2))));
        for bytes in [&b" "[..], b"x", b"3x", b"-1 ", b"1234567", b"999999 ", b"<13>"] {
            assert_eq!(first(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(header(LONGEST).len(), HEADER);
        assert!(header(LONGEST + HEADER).len() == HEADER, "six digits are enough for the whole buffer");
    }

    proptest! {
        #[test]
        fn what_is_framed_reads_back(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend(header(message.len()).bytes());
                stream.extend(message);
            }
            let mut rest = &stream[..];
            for message in &messages {
                let frame = first(rest).unwrap().unwrap();
                prop_assert_eq!(frame.message, &message[..]);
                rest = &rest[frame.length..];
            }
            prop_assert_eq!(rest, b"");
        }

        #[test]
        fn a_part_of_a_message_is_never_malformed(message in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..400_usize) {
            let mut stream = header(message.len()).into_bytes();
            stream.extend(&message);
            stream.truncate(cut);
            let frame = first(&stream).unwrap();
            prop_assert_eq!(frame.is_some(), cut >= header(message.len()).len() + message.len());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(frame)) = first(&bytes) {
                prop_assert!(frame.length <= bytes.len());
            }
        }
    }
}
