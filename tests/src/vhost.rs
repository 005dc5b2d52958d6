// SPDX-License-Identifier: Apache-2.0
//! The host's side of a machine's vsock: the program `vhost-device-vsock`,
//! which is the device that QEMU shows the guest.
//!
//! A port of the guest is reached through one unix socket
//! ([`Device::guest`]); a connection of the guest to a port of the host
//! arrives at a unix socket of that port ([`Device::host`]). The program knows
//! no half-close: an end of one side closes the connection.

use std::fs::{self, File};
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use socket2::Socket;

use crate::load::Place;
use crate::machine::Machine;
use crate::paths;

/// The guest's address. Only the device looks at it, and there is one guest.
const CID: u32 = 3;

/// The socket of the device itself, and that of the guest's ports.
const DEVICE: &str = "device";
const PORTS: &str = "ports";

/// A device, for one machine. It ends when this is dropped.
#[derive(Debug)]
pub struct Device {
    name: String,
    folder: PathBuf,
    /// A socket's path has 108 bytes, and a working copy may lie deep: paths
    /// go by this open folder.
    handle: File,
    child: Child,
}

impl Device {
    /// Starts it, for the machine `name`.
    pub fn start(name: &str) -> Result<Self> {
        let program = paths::target().join("tools/bin/vhost-device-vsock").canonicalize();
        let program = program.context("vhost-device-vsock is missing: run `make tools`")?;
        let name = format!("{name}-vsock");
        let folder = paths::fresh_folder(&name)?;
        let handle = File::open(&folder)?;
        let log = File::create(folder.join("log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.args(["--vm", &format!("guest-cid={CID},socket={DEVICE},uds-path={PORTS}")]);
        let child = command.current_dir(&folder).stdout(log.try_clone()?).stderr(log).spawn()?;
        let device = Self { name, folder, handle, child };
        // Asking it would be taken for QEMU.
        let start = Instant::now();
        while !device.folder.join(DEVICE).exists() {
            ensure!(start.elapsed() < Duration::from_secs(20), "no device after 20 s: {}", device.log());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(device)
    }

    /// The machine with this device: memory that another process can map, and
    /// the device's socket, from the folder of the machine.
    pub fn attach(&self, machine: Machine) -> Machine {
        let memory = format!("memory-backend-memfd,id=shared,size={}M,share=on", machine.mebibytes());
        let socket = format!("socket,id=vsock,path=../{}/{DEVICE}", self.name);
        let words = ["-object", &memory, "-machine", "memory-backend=shared", "-chardev", &socket];
        machine.qemu(&words).qemu(&["-device", "vhost-user-vsock-pci,chardev=vsock"])
    }

    /// A port of the guest.
    pub fn guest(&self, port: u32) -> Place {
        Place::Bridge(port, self.path(PORTS))
    }

    /// A port of the host: what listens there, for the guest to connect to.
    pub fn host(&self, port: u32) -> Place {
        Place::Unix(self.path(&format!("{PORTS}_{port}")))
    }

    /// A unix socket `file` in the device's folder that leads to a port of the
    /// guest, for programs that do not know what `CONNECT` is.
    pub fn bridge(&self, file: &str, port: u32) -> Result<()> {
        let listener = UnixListener::bind(self.path(file))?;
        let guest = self.guest(port);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let guest = guest.clone();
                thread::spawn(move || join(&Socket::from(client), &guest.connect()?));
            }
        });
        Ok(())
    }

    /// The device's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the program has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn path(&self, file: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{file}", self.handle.as_raw_fd()).into()
    }
}

/// Copies both ways until both have ended.
fn join(one: &Socket, other: &Socket) -> io::Result<()> {
    thread::scope(|scope| {
        for (mut from, mut to) in [(one, other), (other, one)] {
            scope.spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
    Ok(())
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
