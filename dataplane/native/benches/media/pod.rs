//! The packet core without sockets and clock: what a pod does with a room of streams in virtual time, native mode.

use super::leg;
use auralink_native::core::leg_plain::{Direction, Sockets};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::{Event, Output, Transmit};
use auralink_native::core::shard::{Input, Shard};
use auralink_native::core::{LegId, Now, SockId, Time};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Small and seeded, so that runs repeat (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

pub struct Pod {
    shard: Shard,
    outlets: HashMap<LegId, LegId>,
    pub wake: Time,
    /// What left since the caller looked.
    pub sent: Vec<Transmit>,
}

pub fn sender(stream: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 10_000 + stream as u16))
}

pub fn receiver(stream: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 10_000 + stream as u16))
}

/// Our socket towards a stream's sender.
pub fn inlet(stream: u64) -> SockId {
    SockId(2 * stream)
}

/// Our socket towards its receiver.
pub fn outlet(stream: u64) -> SockId {
    SockId(2 * stream + 1)
}

pub fn at(time: Time) -> Now {
    Now { mono: time, unix: Duration::from_secs(1_700_000_000) + (time - Time(0)) }
}

impl Pod {
    /// A pair of legs per stream, NACKs on both.
    pub fn new(streams: u64, seed: u64) -> Pod {
        let mut random = Random(seed);
        let mut shard = Shard::new(Box::new(move || random.next()));
        let mut outlets = HashMap::new();
        for stream in 0..streams {
            let mut open = |direction, remote, sock| {
                let mut config = leg(direction, Some(remote), None);
                (config.feedback, config.rtcp_mux) = (true, true);
                shard.open_leg(config, &[Sockets { rtp: sock, rtcp: sock }], at(Time(0)))
            };
            let from = open(Direction::Receive, sender(stream), inlet(stream));
            outlets.insert(from, open(Direction::Send, receiver(stream), outlet(stream)));
        }
        let mut pod = Pod { shard, outlets, wake: Time::NEVER, sent: Vec::new() };
        pod.settle(Time(0));
        pod
    }

    pub fn receive(&mut self, sock: SockId, src: SocketAddr, data: &[u8], now: Time) {
        self.shard.handle(Input::Datagram { sock, src, data }, at(now));
        self.settle(now);
    }

    pub fn timeout(&mut self, now: Time) {
        self.shard.handle(Input::Timeout, at(now));
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        loop {
            match self.shard.poll() {
                Output::Transmit(mut packet) => {
                    if let Some(tag) = packet.last_of.take() {
                        self.shard.handle(Input::Sent(tag), at(now));
                    }
                    self.sent.push(packet);
                }
                Output::Event(Event::StreamStarted { leg, stream, .. }) => {
                    let policy = Policy { mode: Mode::Bypass, extension: true, degraded: false };
                    self.shard.link(stream, self.outlets[&leg], at(now)).expect("a leg that sends H.264");
                    assert!(self.shard.set_mode(stream, policy, None, at(now)));
                }
                Output::Event(_) | Output::Frame(_) => {}
                Output::Timeout(wake) => {
                    self.wake = wake;
                    return;
                }
            }
        }
    }
}
