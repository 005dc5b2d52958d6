// SPDX-License-Identifier: Apache-2.0
//! Connections by number. A number whose connection is gone never finds the
//! one that took its place: epoll(7) may still report on the old one.

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its place.
    pub slot: u32,
    /// How many were kept there before; wraps at [`Key::GENERATIONS`].
    pub generation: u32,
}

impl Key {
    /// One more than the highest generation: an epoll token has 24 bits for it.
    pub const GENERATIONS: u32 = 1 << 24;
    /// One more than the highest slot, for the same reason.
    pub const SLOTS: u32 = 1 << 24;
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Things by [`Key`].
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// How many things there are.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps one more; none when all slots are taken.
    pub fn insert(&mut self, value: T) -> Option<Key> {
        if let Some(slot) = self.free.pop() {
            let place = self.slots.get_mut(slot as usize)?;
            place.value = Some(value);
            return Some(Key { slot, generation: place.generation });
        }
        let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot < Key::SLOTS)?;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Some(Key { slot, generation: 0 })
    }

    /// What is kept there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// Gives it up.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % Key::GENERATIONS;
        self.free.push(key.slot);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert("a").unwrap();
        let second = slab.insert("b").unwrap();
        assert_eq!(slab.remove(first), Some("a"));
        assert_eq!((slab.remove(first), slab.count()), (None, 1));
        let third = slab.insert("c").unwrap();
        assert_eq!((third.slot, third.generation), (first.slot, 1));
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get_mut(third), Some(&mut "c"));
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
    }

    #[test]
    fn slots_are_used_again() {
        let mut slab = Slab::default();
        for number in 0..10_000 {
            let key = slab.insert(number).unwrap();
            assert_eq!(slab.remove(key), Some(number));
        }
        assert_eq!((slab.slots.len(), slab.count()), (1, 0));
    }
}
