// SPDX-License-Identifier: Apache-2.0
//! What to boot: a description that becomes QEMU's command line.

use std::path::{Path, PathBuf};
use std::process::Command;

const QEMU: &str = "qemu-system-x86_64";

/// A machine: two emulated processors, 1 GiB of memory, no network, the
/// kernel's console on the first serial port and the control channel (see
/// [`crate::control`]) on the second.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    append: Vec<String>,
    memory: u32,
    disks: Vec<PathBuf>,
    extra: Vec<String>,
    reboots: bool,
    panics: bool,
    temporary: Vec<PathBuf>,
}

impl Machine {
    /// A machine that boots `kernel` and, where there is one, `initrd`. The kernel
    /// does not try whether its timer works: it takes a timer that does not tick
    /// within a moment for a broken one, and panics, where a busy host has given
    /// the machine no time in it.
    pub fn new(kernel: &Path, initrd: Option<&Path>) -> Self {
        Self {
            kernel: kernel.to_owned(),
            initrd: initrd.map(Path::to_owned),
            append: ["console=ttyS0", "panic=-1", "no_timer_check"].map(str::to_owned).into(),
            memory: 1024,
            disks: Vec::new(),
            extra: Vec::new(),
            reboots: false,
            panics: false,
            temporary: Vec::new(),
        }
    }

    /// Adds words to the kernel's command line.
    pub fn append(mut self, words: &str) -> Self {
        self.append.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Its memory in MiB.
    pub(crate) fn mebibytes(&self) -> u32 {
        self.memory
    }

    /// Adds a raw disk image as the next virtio disk: /dev/vda, /dev/vdb, …
    pub fn disk(mut self, image: &Path) -> Self {
        self.disks.push(image.to_owned());
        self
    }

    /// Adds words to QEMU's command line: `-device i6300esb`, `-smbios type=1,…`.
    pub fn qemu(mut self, words: &[&str]) -> Self {
        self.extra.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Lets the machine start again when it reboots; otherwise a reboot ends it.
    pub fn reboots(mut self) -> Self {
        self.reboots = true;
        self
    }

    /// Does not take a kernel panic for the end of the test: it is what the
    /// test wants to see.
    pub fn panics(mut self) -> Self {
        self.panics = true;
        self
    }

    /// Takes over files that are of no use once the test has passed.
    pub(crate) fn temporary(mut self, files: &[PathBuf]) -> Self {
        self.temporary.extend_from_slice(files);
        self
    }

    /// Keeps them all the same: the machine boots again.
    pub fn keep(mut self) -> Self {
        self.temporary.clear();
        self
    }

    /// Removes those files.
    pub(crate) fn remove_temporary(&self) {
        for file in &self.temporary {
            // What is left over is overwritten by the next run.
            let _ = std::fs::remove_file(file);
        }
    }

    /// Whether a panic is expected.
    pub(crate) fn may_panic(&self) -> bool {
        self.panics
    }

    /// QEMU's words. `control` is the second serial port, a socket.
    fn words(&self, control: &str) -> Vec<String> {
        let mut words: Vec<String> = [
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-nographic",
            "-monitor",
            "none",
            "-nic",
            "none",
            "-serial",
            "stdio",
            "-serial",
            control,
        ]
        .map(str::to_owned)
        .into();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("-m", self.memory.to_string());
        option("-kernel", self.kernel.display().to_string());
        if let Some(initrd) = &self.initrd {
            option("-initrd", initrd.display().to_string());
        }
        option("-append", self.append.join(" "));
        for disk in &self.disks {
            option("-drive", format!("file={},format=raw,if=virtio", disk.display()));
        }
        words.extend(self.extra.iter().cloned());
        if !self.reboots {
            words.push("-no-reboot".into());
        }
        words
    }

    /// The command to run: QEMU, told to end with the thread that started it,
    /// however that ends. The control channel is the socket `control` in the
    /// working directory.
    pub(crate) fn command(&self, control: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args(self.words(&format!("unix:{control}")));
        command
    }

    /// The same for a person at a terminal.
    pub fn by_hand(&self) -> String {
        let words = self.words("null");
        let quoted = words.iter().map(|word| match word.contains([' ', '(', '|']) {
            true => format!("'{word}'"),
            false => word.clone(),
        });
        std::iter::once(QEMU.to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_becomes_qemus_words() {
        let machine = Machine::new(Path::new("k"), Some(Path::new("i")))
            .append("quiet  x=1")
            .memory(512)
            .disk(Path::new("d"))
            .qemu(&["-device", "i6300esb"]);
        assert_eq!(
            machine.by_hand(),
            "qemu-system-x86_64 -accel tcg,thread=multi -smp 2 -nographic -monitor none -nic none \
             -serial stdio -serial null -m 512 -kernel k -initrd i \
             -append 'console=ttyS0 panic=-1 no_timer_check quiet x=1' -drive file=d,format=raw,if=virtio \
             -device i6300esb -no-reboot"
        );
        assert!(!machine.reboots().by_hand().contains("-no-reboot"));
    }
}
