// SPDX-License-Identifier: Apache-2.0
//! A host talks to the guest agent through its virtio-serial port, and has the
//! guest shut down.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::examples::image;
use tests::inside::Inside as _;
use tests::vm::Vm;

/// The host's end of the port.
struct Agent {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Agent {
    fn connect(vm: &Vm) -> Result<Self> {
        // A socket's path has 108 bytes: by the open folder it is short.
        let folder = File::open(vm.folder())?;
        let stream = UnixStream::connect(format!("/proc/self/fd/{}/qga", folder.as_raw_fd()))?;
        stream.set_read_timeout(Some(Duration::from_secs(240)))?;
        Ok(Self { reader: BufReader::new(stream.try_clone()?), stream })
    }

    fn send(&mut self, request: &Value) -> Result<()> {
        Ok(writeln!(self.stream, "{request}")?)
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        self.send(request)?;
        let mut line = String::new();
        self.reader.read_line(&mut line).with_context(|| format!("waiting for the answer to {request}"))?;
        let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(answer.get("error").is_none(), "{request}: {answer}");
        Ok(answer["return"].clone())
    }
}

#[test]
fn a_host_pings_the_agent_and_has_it_shut_the_guest_down() -> Result<()> {
    let name = "example-qemu-ga";
    // The agent's port is the second one here: it is found by its name.
    let port = [
        "-device",
        "virtio-serial",
        "-chardev",
        "null,id=other",
        "-device",
        "virtserialport,chardev=other,name=org.example.other",
        "-chardev",
        "socket,path=qga,server=on,wait=off,id=qga",
        "-device",
        "virtserialport,chardev=qga,name=org.qemu.guest_agent.0",
    ];
    Vm::run(name, image("qemu-ga")?.machine(name)?.qemu(&port), |vm| {
        vm.expect("^lkinit: .* service qemu-ga: running")?;
        let mut agent = Agent::connect(vm)?;
        vm.check("it answers", |_| {
            let sync = agent.ask(&json!({"execute": "guest-sync", "arguments": {"id": 4711}}))?;
            ensure!(sync == json!(4711), "{sync}");
            ensure!(agent.ask(&json!({"execute": "guest-ping"}))? == json!({}));
            Ok(())
        });
        vm.check("it tells of the machine, not of its container", |_| {
            let interfaces = agent.ask(&json!({"execute": "guest-network-get-interfaces"}))?;
            ensure!(interfaces[0]["name"] == "lo", "{interfaces}");
            let name = agent.ask(&json!({"execute": "guest-get-host-name"}))?;
            ensure!(name["host-name"].as_str().is_some_and(|name| !name.is_empty()), "{name}");
            Ok(())
        });
        vm.check("a command it refuses is an error, and it goes on", |_| {
            let refused = agent.ask(&json!({"execute": "guest-nonesuch"}));
            ensure!(refused.is_err(), "{refused:?}");
            ensure!(agent.ask(&json!({"execute": "guest-ping"}))? == json!({}));
            Ok(())
        });
        agent.send(&json!({"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}))?;
        vm.expect("^lkinit: .* shutdown: poweroff now")?;
        vm.wait_end()?;
        Ok(())
    })
}

/// On a machine without the port the service is done, and not restarted for ever.
#[test]
fn without_a_port_the_agent_ends_in_peace() -> Result<()> {
    let name = "example-qemu-ga-none";
    Vm::run(name, image("qemu-ga")?.machine(name)?, |vm| {
        vm.expect("^lkinit: .* service qemu-ga: running")?;
        let said = vm.until("grep . /var/log/qemu-ga.log")?;
        ensure!(said.contains("no virtio-serial port called org.qemu.guest_agent.0"), "{said}");
        vm.until("service status | grep '^qemu-ga ' | grep -v running")?;
        // Long enough for a restart.
        vm.sh("sleep 3")?;
        ensure!(vm.sh("wc -l </var/log/qemu-ga.log")?.trim() == "1", "it was started again");
        Ok(())
    })
}
