// SPDX-License-Identifier: Apache-2.0
//! Messages to the hypervisor over the backdoor port: a request in, an answer
//! out, four bytes a call.
//!
//! Source: open-vm-tools, `lib/message/message.c` and `guest_msg_def.h`. The
//! faster way with string instructions is not used: what is read here is at
//! most some ten thousand calls.

use init::sys::backdoor::{Backdoor, Registers};

/// `GETVERSION`, which proves that somebody answers.
const GET_VERSION: u32 = 10;
/// Command of the message channel.
const MESSAGE: u32 = 30;
/// "RPCI", with the wish for a cookie that ties the channel to this process.
const OPEN_RPCI: u32 = 0x4943_5052 | 0x8000_0000;
/// How often a message that a snapshot or a migration cut off is repeated.
const ATTEMPTS: usize = 3;

/// Steps of a message, in the upper half of ECX.
mod step {
    pub(super) const OPEN: u32 = 0;
    pub(super) const SEND_SIZE: u32 = 1;
    pub(super) const SEND: u32 = 2;
    pub(super) const RECEIVE_SIZE: u32 = 3;
    pub(super) const RECEIVE: u32 = 4;
    pub(super) const RECEIVED: u32 = 5;
    pub(super) const CLOSE: u32 = 6;
}

/// Bits of the answer in the upper half of ECX.
const SUCCESS: u32 = 0x1;
const HAS_MESSAGE: u32 = 0x2;
const CHECKPOINT: u32 = 0x10;

/// Who answers calls: the hypervisor, or a test.
pub(super) trait Port {
    fn call(&mut self, registers: Registers) -> Registers;
}

impl Port for Backdoor {
    fn call(&mut self, registers: Registers) -> Registers {
        Self::call(self, registers)
    }
}

/// Why a message did not get through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RpcError {
    /// Nobody answers at the port.
    #[error("the hypervisor does not answer")]
    Silent,
    /// The hypervisor ended the message.
    #[error("the hypervisor refused to {0}")]
    Refused(&'static str),
    /// A snapshot came between, several times.
    #[error("the message was interrupted by snapshots")]
    Interrupted,
    /// More than is read.
    #[error("the answer has {0} bytes, more than are read")]
    TooLarge(u32),
}

/// An open channel to the hypervisor.
pub(super) struct Rpc<P> {
    port: P,
}

struct Channel {
    id: u32,
    cookie: (u32, u32),
}

impl<P: Port> Rpc<P> {
    /// Finds out whether somebody answers.
    pub(super) fn new(mut port: P) -> Result<Self, RpcError> {
        let answer = port.call(Registers { ebx: !0, ecx: GET_VERSION, ..Registers::default() });
        // The version in EAX and the magic number in EBX.
        if answer.ebx != 0x564D_5868 || answer.eax == u32::MAX {
            return Err(RpcError::Silent);
        }
        Ok(Self { port })
    }

    /// Sends a request and returns the answer, of at most `limit` bytes.
    pub(super) fn request(&mut self, text: &str, limit: usize) -> Result<Vec<u8>, RpcError> {
        for _ in 0..ATTEMPTS {
            let channel = self.open()?;
            let result = self.exchange(&channel, text.as_bytes(), limit);
            self.step(&channel, step::CLOSE, 0);
            match result {
                Err(RpcError::Interrupted) => {}
                result => return result,
            }
        }
        Err(RpcError::Interrupted)
    }

    fn open(&mut self) -> Result<Channel, RpcError> {
        let ecx = step::OPEN << 16 | MESSAGE;
        let answer = self.port.call(Registers { ebx: OPEN_RPCI, ecx, ..Registers::default() });
        if answer.ecx >> 16 & SUCCESS == 0 {
            return Err(RpcError::Refused("open a channel"));
        }
        Ok(Channel { id: answer.edx & 0xFFFF_0000, cookie: (answer.esi, answer.edi) })
    }

    fn step(&mut self, channel: &Channel, step: u32, ebx: u32) -> Registers {
        let (esi, edi) = channel.cookie;
        self.port.call(Registers { ebx, ecx: step << 16 | MESSAGE, edx: channel.id, esi, edi, eax: 0 })
    }

    fn checked(
        &mut self,
        channel: &Channel,
        step: u32,
        ebx: u32,
        what: &'static str,
    ) -> Result<Registers, RpcError> {
        let answer = self.step(channel, step, ebx);
        match answer.ecx >> 16 {
            status if status & SUCCESS != 0 => Ok(answer),
            status if status & CHECKPOINT != 0 => Err(RpcError::Interrupted),
            _ => Err(RpcError::Refused(what)),
        }
    }

    fn exchange(&mut self, channel: &Channel, request: &[u8], limit: usize) -> Result<Vec<u8>, RpcError> {
        let length = u32::try_from(request.len()).map_err(|_| RpcError::Refused("take the request"))?;
        self.checked(channel, step::SEND_SIZE, length, "take the request")?;
        for chunk in request.chunks(4) {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
            self.checked(channel, step::SEND, word, "take the request")?;
        }
        let size = self.checked(channel, step::RECEIVE_SIZE, 0, "answer")?;
        if size.ecx >> 16 & HAS_MESSAGE == 0 {
            return Ok(Vec::new());
        }
        let left = usize::try_from(size.ebx).ok().filter(|left| *left <= limit);
        let length = left.ok_or(RpcError::TooLarge(size.ebx))?;
        let mut answer = Vec::with_capacity(length);
        while answer.len() < length {
            let word = self.checked(channel, step::RECEIVE, SUCCESS, "give the answer")?.ebx;
            answer.extend(word.to_le_bytes().iter().take(length - answer.len()));
        }
        self.checked(channel, step::RECEIVED, SUCCESS, "end the answer")?;
        Ok(answer)
    }
}
