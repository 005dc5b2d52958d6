// SPDX-License-Identifier: Apache-2.0
//! Servers and clients for sockets, for inside a machine; see `tests::load`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;

use anyhow::{Context, Result, bail};
use tests::load::client::{Plan, idle, stress};
use tests::load::forward::{Means, forward};
use tests::load::serve::{serve, serve_bytes};
use tests::load::{Place, bench};

const USAGE: &str = "usage: vsock-load COMMAND
  serve PLACE...                          serve, each place in a thread of its own
  serve-bytes PLACE [each]                one byte and its echo, one connection after the other;
                                          with each: each in a thread of its own
  forward PLACE PLACE buffer|pipe BYTES   the plainest forwarders, to compare with
  stress PLACE CONNECTIONS AT-ONCE MOST [whole]
                                          with whole: no half-closes and no abandoned connections
  idle PLACE COUNT PID                    keep connections; what that process then has
  say PATH MESSAGE...                     send messages to a datagram socket
  bench PLACE to|from BYTES               bytes a second of one stream
  bench PLACE connects COUNT              connections a second
PLACE: vsock:CID:PORT, unix:PATH, bridge:PORT:PATH";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", places @ ..] if !places.is_empty() => {
            let places = places.iter().map(|place| place.parse()).collect::<Result<Vec<Place>>>()?;
            thread::scope(|scope| {
                let served: Vec<_> = places.iter().map(|place| scope.spawn(move || serve(place))).collect();
                for (server, place) in served.into_iter().zip(&places) {
                    let ended = server.join().map_err(|_| anyhow::anyhow!("a server panicked"))?;
                    ended.with_context(|| format!("serving {place}"))?;
                }
                Ok(())
            })
        }
        ["serve-bytes", place, rest @ ..] => Ok(serve_bytes(&place.parse()?, *rest == ["each"])?),
        ["forward", from, to, means @ ("buffer" | "pipe"), size] => {
            let means = if *means == "pipe" { Means::Pipe } else { Means::Buffer };
            Ok(forward(&from.parse()?, &to.parse()?, means(size.parse()?))?)
        }
        ["stress", place, connections, at_once, most, rest @ ..] => {
            let plan = Plan {
                connections: connections.parse()?,
                at_once: at_once.parse()?,
                most: most.parse()?,
                ends: *rest != ["whole"],
            };
            println!("{}", stress(&place.parse()?, plan)?);
            Ok(())
        }
        ["idle", place, count, pid] => {
            let status =
                |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).context("no such process");
            idle(&place.parse()?, count.parse()?, || {
                let private: u64 = status("smaps_rollup")?
                    .lines()
                    .filter(|line| line.starts_with("Private_"))
                    .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                    .sum();
                let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
                println!("connections={count} private={private} descriptors={descriptors}");
                Ok(())
            })
        }
        ["say", path, messages @ ..] => {
            let socket = UnixDatagram::unbound()?;
            messages.iter().try_for_each(|message| socket.send_to(message.as_bytes(), path).map(drop))?;
            Ok(())
        }
        ["bench", place, "connects", count] => {
            println!("{:.1}", bench::connects(&place.parse()?, count.parse()?)?);
            Ok(())
        }
        ["bench", place, way @ ("to" | "from"), bytes] => {
            println!("{:.0}", bench::stream(&place.parse()?, bytes.parse()?, *way == "from")?);
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
