// SPDX-License-Identifier: Apache-2.0
//! Memory for bytes under way. A connection has some only while it holds bytes
//! that the other end does not take; all others share what the pool has.

/// How much one buffer holds, in bytes. As much as a vsock or unix socket
/// queues by default, so that one turn can empty the one and fill the other;
/// see docs/vsudd.md for what other sizes cost.
pub const CAPACITY: usize = 256 * 1024;

/// How much memory all buffers in use may take before new ones are small.
/// Connections whose receivers are stuck keep theirs: without an end to it,
/// whoever may connect could have all of a machine's memory.
pub const PLENTY: usize = 16 * 1024 * 1024;

/// How much a buffer holds when there are that many.
pub const SMALL: usize = 4096;

/// How many empty buffers are kept for the next use.
const SPARE: usize = 4;

/// Bytes that were read and are still to be written.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Bytes still to be written.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first of the pending bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Forgets all pending bytes.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Where more bytes can be read to.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Says how many bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Moves the pending bytes to the front: all the room is behind them.
    pub fn compact(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Leaves this much space before the bytes to come. For an empty buffer.
    pub fn reserve(&mut self, count: usize) {
        (self.start, self.end) = (count, count);
    }

    /// Puts bytes into the space before the pending ones.
    pub fn prepend(&mut self, head: &[u8]) {
        let start = self.start.saturating_sub(head.len());
        if let Some(space) = self.bytes.get_mut(start..self.start).filter(|space| space.len() == head.len()) {
            space.copy_from_slice(head);
            self.start = start;
        }
    }
}

/// Empty buffers.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Vec<Buffer>,
    /// What those in use take, in bytes.
    used: usize,
}

impl Pool {
    /// An empty buffer of full size, for messages, which have to fit.
    pub fn take(&mut self) -> Buffer {
        let buffer = self.spare.pop().unwrap_or_else(|| Buffer::new(CAPACITY));
        self.used += buffer.bytes.len();
        buffer
    }

    /// An empty buffer for bytes, which go through one of any size: a small
    /// one when much is in use.
    pub fn take_any(&mut self) -> Buffer {
        if self.used < PLENTY {
            return self.take();
        }
        self.used += SMALL;
        Buffer::new(SMALL)
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Buffer) {
        self.used -= buffer.bytes.len();
        if self.spare.len() < SPARE && buffer.bytes.len() == CAPACITY {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.filled(bytes.len());
    }

    #[test]
    fn bytes_go_through_in_order() {
        let mut buffer = Pool::default().take();
        assert_eq!(buffer.room().len(), CAPACITY);
        put(&mut buffer, b"abcd");
        buffer.consume(1);
        put(&mut buffer, b"e");
        assert_eq!(buffer.pending(), b"bcde");
        buffer.compact();
        assert_eq!(buffer.pending(), b"bcde");
        assert_eq!(buffer.room().len(), CAPACITY - 4);
        buffer.consume(4);
        assert!(buffer.is_empty() && buffer.room().len() == CAPACITY);
    }

    #[test]
    fn a_header_goes_before_what_was_read() {
        let mut buffer = Pool::default().take();
        buffer.reserve(7);
        put(&mut buffer, b"abc");
        buffer.prepend(b"3 ");
        assert_eq!(buffer.pending(), b"3 abc");
    }

    #[test]
    fn a_few_buffers_are_kept_and_come_back_empty() {
        let mut pool = Pool::default();
        let mut buffers: Vec<Buffer> = (0..SPARE + 3).map(|_| pool.take()).collect();
        buffers.iter_mut().for_each(|buffer| put(buffer, b"old"));
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!((pool.spare.len(), pool.used), (SPARE, 0));
        assert!(pool.take().is_empty());
    }
    #[test]
    fn when_much_is_in_use_buffers_are_small() {
        let mut pool = Pool::default();
        let mut buffers: Vec<Buffer> = (0..PLENTY / CAPACITY).map(|_| pool.take_any()).collect();
        assert_eq!(pool.take_any().room().len(), SMALL);
        assert_eq!(pool.take().room().len(), CAPACITY, "a message has to fit");
        pool.used = PLENTY;
        pool.give(buffers.pop().unwrap());
        assert_eq!(pool.take_any().room().len(), CAPACITY);
    }
}
