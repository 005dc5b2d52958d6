// SPDX-License-Identifier: Apache-2.0
//! The kernel's messages about devices (`kobject_uevent_env()` in
//! lib/kobject_uevent.c): `ACTION@DEVPATH`, then `KEY=VALUE`, each ended by a
//! zero byte.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use init::sys::uevent::{Received, UeventSocket};

/// Where messages come from.
pub trait UeventSource: Send + Sync {
    /// Takes the next message, without waiting for one.
    ///
    /// # Errors
    /// The kernel's.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received>;

    /// What polls readable when there is a message.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

impl UeventSource for UeventSocket {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        UeventSocket::receive(self, buffer)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// `add`, `remove`, `change`, `bind`, ...
    pub action: &'a str,
    /// The device's directory under `/sys`.
    pub devpath: &'a str,
    /// What a driver for the device would match, if there can be one.
    pub modalias: Option<&'a str>,
    /// Whether someone asked for the message by writing to the device's
    /// `uevent` file, so that nothing is new (`SYNTH_UUID`, Linux 4.13).
    pub synthetic: bool,
}

impl<'a> Uevent<'a> {
    /// Takes a message apart. None if it is not one of the kernel's.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut fields = message.split(|byte| *byte == 0);
        let (action, devpath) = std::str::from_utf8(fields.next()?).ok()?.split_once('@')?;
        // A name that a device has given itself may be in any encoding.
        let fields = fields.filter_map(|field| std::str::from_utf8(field).ok());
        let mut uevent = Self { action, devpath, modalias: None, synthetic: false };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "MODALIAS" if !value.is_empty() => uevent.modalias = Some(value),
                "SYNTH_UUID" => uevent.synthetic = true,
                _ => {}
            }
        }
        Some(uevent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_comes() {
        let message = b"add@/devices/pci0000:00/0000:00:03.0/virtio0\0ACTION=add\0\
            DEVPATH=/devices/pci0000:00/0000:00:03.0/virtio0\0SUBSYSTEM=virtio\0\
            MODALIAS=virtio:d00000002v00001AF4\0SEQNUM=1234\0";
        let uevent = Uevent::parse(message).unwrap();
        assert_eq!((uevent.action, uevent.devpath), ("add", "/devices/pci0000:00/0000:00:03.0/virtio0"));
        assert_eq!(uevent.modalias, Some("virtio:d00000002v00001AF4"));
        assert!(!uevent.synthetic);
    }

    #[test]
    fn messages_without_a_modalias_and_others() {
        let uevent =
            Uevent::parse(b"add@/devices/virtual/tty/tty1\0ACTION=add\0MODALIAS=\0SYNTH_UUID=0\0").unwrap();
        assert!(uevent.synthetic && uevent.modalias.is_none());
        let odd = b"add@/devices/hid0\0ACTION=add\0HID_NAME=\xb5Board\0MODALIAS=hid:b0003\0";
        assert_eq!(Uevent::parse(odd).unwrap().modalias, Some("hid:b0003"));
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(Uevent::parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Uevent::parse(&bytes);
        }
    }
}
