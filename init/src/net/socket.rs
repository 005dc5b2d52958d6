// SPDX-License-Identifier: Apache-2.0
//! The socket: framing, acknowledgements, errors. Source: netlink(7) and the
//! kernel's Documentation/userspace-api/netlink/intro.rst.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NetlinkBuffer, NetlinkHeader, NlasIterator,
};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;
use crate::sys::namespace::inside_network;

/// `NLMSG_HDRLEN` of `<linux/netlink.h>`, in bytes.
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` of `<linux/netlink.h>`.
const ERROR_TEXT: u16 = 1;
/// `RTNLGRP_LINK` of `<linux/rtnetlink.h>`: news about links.
const LINK_NEWS: u32 = 1;

/// A conversation with the network part of the kernel, in one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
}

impl Netlink {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            let port = socket.bind_auto()?.port_number();
            Ok(Self { socket, port, sequence: 0 })
        };
        let netlink = open().map_err(failed("open a socket"))?;
        // Linux 4.12; an older kernel gives the error number alone.
        let _ = netlink.socket.set_ext_ack(true);
        let _ = netlink.socket.set_cap_ack(true);
        Ok(netlink)
    }

    /// In the network namespace `namespace`. The caller stays where it is:
    /// a socket belongs to the namespace it was opened in for ever.
    ///
    /// # Errors
    /// The namespace cannot be entered, or no socket to be had.
    pub fn open_in(namespace: BorrowedFd<'_>) -> Result<Self, Error> {
        inside_network(namespace, || Ok(Self::open()))
            .map_err(failed("enter the network namespace"))
            .and_then(|result| result)
    }

    /// Sends a request and waits until the kernel has carried it out.
    /// Returns the payloads of what it answered.
    pub(super) fn request(
        &mut self,
        what: &str,
        message_type: u16,
        flags: u16,
        payload: &impl Emitable,
    ) -> Result<Vec<Vec<u8>>, Error> {
        loop {
            self.send(message_type, flags, payload)?;
            // A dump that was overtaken by a change is asked for again.
            if let Some(answers) = self.receive(what)? {
                return Ok(answers);
            }
        }
    }

    fn send(&mut self, message_type: u16, flags: u16, payload: &impl Emitable) -> Result<(), Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0; HEADER + payload.buffer_len()];
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        header.message_type = message_type;
        // A dump ends with a message of its own.
        let end = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
        header.flags = NLM_F_REQUEST | flags | end;
        header.sequence_number = self.sequence;
        if let Some((head, body)) = bytes.split_at_mut_checked(HEADER) {
            header.emit(head);
            payload.emit(body);
        }
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(failed("send"))?;
        Ok(())
    }

    fn receive(&mut self, what: &str) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let unreadable = |problem: String| Error::Answer { request: what.to_owned(), problem };
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            let datagram = match self.socket.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(failed("receive")(source)),
            };
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkBuffer::new_checked(rest).map_err(|error| unreadable(error.to_string()))?;
                let length = message.length().next_multiple_of(4) as usize;
                rest = rest.get(length..).unwrap_or_default();
                // News that nobody asked for, or what is left of an earlier request.
                if message.sequence_number() != self.sequence || message.port_number() != self.port {
                    continue;
                }
                whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        let answer = Verdict::parse(&message)
                            .ok_or_else(|| unreadable("an error without a number".to_owned()))?;
                        if answer.errno == 0 {
                            return Ok(whole.then_some(answers));
                        }
                        return Err(Error::Refused {
                            request: what.to_owned(),
                            source: io::Error::from_raw_os_error(answer.errno),
                            explanation: answer.explanation,
                        });
                    }
                    _ => answers.push(message.payload().to_vec()),
                }
            }
        }
    }

    /// From now on news about links make the socket readable.
    pub(super) fn watch_links(&mut self) -> Result<(), Error> {
        self.socket.add_membership(LINK_NEWS).map_err(failed("subscribe to news about links"))
    }

    /// Throws away what can be read now: it was only to wake us up.
    pub(super) fn discard_news(&mut self) {
        let mut bytes = Vec::with_capacity(8192);
        while self.socket.recv(&mut bytes, libc::MSG_DONTWAIT).is_ok() {
            bytes.clear();
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn failed(tried: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Socket { tried, source }
}

/// How a request ended.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// 0 if it was carried out.
    errno: i32,
    /// The kernel's words.
    explanation: Option<String>,
}

impl Verdict {
    /// From `NLMSG_ERROR` or `NLMSG_DONE`: a negated error number; in an
    /// error, the header of the request (and the rest of it unless capped);
    /// then attributes, if the flags say so.
    fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<Self> {
        let payload = message.payload();
        let (number, rest) = payload.split_first_chunk()?;
        let errno = i32::from_ne_bytes(*number).wrapping_neg();
        let copied = match message.message_type() {
            NLMSG_DONE => 0,
            _ if message.flags() & NLM_F_CAPPED != 0 => HEADER,
            _ => NetlinkBuffer::new_checked(rest).ok()?.length().next_multiple_of(4) as usize,
        };
        let attributes = rest.get(copied..).filter(|_| message.flags() & NLM_F_ACK_TLVS != 0);
        let mut attributes = NlasIterator::new(attributes.unwrap_or_default()).flatten();
        let text = attributes.find(|attribute| attribute.kind() == ERROR_TEXT);
        let explanation = text.map(|text| super::link::text(text.value()));
        Some(Self { errno, explanation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u16, body: &[&[u8]]) -> Vec<u8> {
        let body = body.concat();
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_kernels_words_are_found_behind_the_copied_request() {
        let errno = (-95i32).to_ne_bytes();
        // A request of 20 bytes, and the attribute "no".
        let request = [&20u32.to_ne_bytes()[..], &[0; 16]].concat();
        let words = [&7u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), b"no\0\0"].concat();
        let expected = Verdict { errno: 95, explanation: Some("no".to_owned()) };

        let whole = message(NLM_F_ACK_TLVS, &[&errno, &request, &words]);
        assert_eq!(Verdict::parse(&NetlinkBuffer::new(&whole)).unwrap(), expected);
        let capped = message(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[&errno, &request[..16], &words]);
        assert_eq!(Verdict::parse(&NetlinkBuffer::new(&capped)).unwrap(), expected);
        let silent = message(NLM_F_CAPPED, &[&errno, &request[..16]]);
        assert_eq!(Verdict::parse(&NetlinkBuffer::new(&silent)).unwrap().explanation, None);
    }

    #[test]
    fn an_error_cut_short_is_no_verdict() {
        assert_eq!(Verdict::parse(&NetlinkBuffer::new(&message(0, &[&[1, 2]]))), None);
    }
}
