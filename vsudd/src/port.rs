// SPDX-License-Identifier: Apache-2.0
//! vsock ports, written as numbers or as Hyper-V service identifiers.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A vsock port. `VMADDR_PORT_ANY` (all ones) is none: vsock(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(u32);

/// What follows the port in a Hyper-V service identifier that stands for a
/// vsock port (Linux, `net/vmw_vsock/hyperv_transport.c`): the first of its
/// five groups is the port in hexadecimal.
const TEMPLATE: &str = "facb-11e6-bd58-64006a7986d3";

/// Why a text is no port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// Neither a number nor five groups of hexadecimal digits.
    #[error("\"{0}\" is no vsock port: give a number from 0 to 4294967294 or a GUID")]
    Form(String),
    /// A GUID, but not one that has a vsock port.
    #[error("GUID {0} has no vsock port: only XXXXXXXX-{TEMPLATE} has one")]
    Template(String),
}

impl Port {
    /// A port by its number; none for `VMADDR_PORT_ANY`.
    pub const fn new(number: u32) -> Option<Self> {
        if number == u32::MAX { None } else { Some(Self(number)) }
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Port {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Form(text.to_owned());
        let number = if let Some((head, rest)) = text.split_once('-') {
            if !is_guid(text) {
                return Err(wrong());
            }
            if !rest.eq_ignore_ascii_case(TEMPLATE) {
                return Err(Error::Template(text.to_owned()));
            }
            u32::from_str_radix(head, 16)
        } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse()
        } else {
            return Err(wrong());
        };
        number.ok().and_then(Self::new).ok_or_else(wrong)
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_and_guids() {
        let port = |text: &str| text.parse::<Port>().map(Port::number);
        assert_eq!(port("0"), Ok(0));
        assert_eq!(port("4294967294"), Ok(u32::MAX - 1));
        // What LinuxKit's documentation calls guest.00000946 is port 2374.
        assert_eq!(port("00000946-facb-11e6-bd58-64006a7986d3"), Ok(2374));
        assert_eq!(port("C0FFEE00-FACB-11E6-BD58-64006A7986D3"), Ok(0xc0ff_ee00));
    }

    #[test]
    fn what_is_no_port() {
        for text in
            ["", "-1", "+1", " 1", "1x", "0x10", "4294967295", "99999999999", "1-2", "-", "------------"]
        {
            assert_eq!(text.parse::<Port>(), Err(Error::Form(text.to_owned())), "{text}");
        }
        let any = "ffffffff-facb-11e6-bd58-64006a7986d3";
        assert_eq!(any.parse::<Port>(), Err(Error::Form(any.to_owned())));
        // Docker's own service, before there were ports.
        let other = "23a432c2-537a-4291-bcb5-d62504644739";
        assert_eq!(other.parse::<Port>(), Err(Error::Template(other.to_owned())));
    }

    proptest! {
        #[test]
        fn every_port_reads_back_in_both_forms(number in 0..u32::MAX) {
            let port = Port::new(number);
            prop_assert_eq!(number.to_string().parse().ok(), port);
            prop_assert_eq!(format!("{number:08x}-{TEMPLATE}").parse().ok(), port);
            prop_assert_eq!(format!("{number:08X}-{}", TEMPLATE.to_uppercase()).parse().ok(), port);
        }

        #[test]
        fn any_text_is_a_port_or_a_complaint_about_that_text(text in "\\PC*") {
            match text.parse::<Port>() {
                Ok(port) => prop_assert!(port.number() != u32::MAX),
                Err(error) => prop_assert!(error.to_string().contains(&text)),
            }
        }

        #[test]
        fn texts_near_a_guid(text in "[0-9a-gA-F]{7,9}(-[0-9a-f]{3,5}){3}-[0-9a-f]{11,13}") {
            let _ = text.parse::<Port>();
        }
    }
}
