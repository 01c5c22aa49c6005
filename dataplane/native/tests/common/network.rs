//! Links that misbehave, in virtual time and the same again for the same seed.
//!
//! A packet passes, in this order: a queue of bounded length in front of a bounded rate, a loss that comes in bursts, a
//! copy of it sometimes, and its time on the way. Packets stay in order but for those that are late.

use super::{Random, World};
use auralink_native::core::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Shares are of a thousand packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    pub latency: Duration,
    /// Longer than that by so much at most, in order.
    pub jitter: Duration,
    /// Packets that others overtake, and by how much they are later at most.
    pub late: u64,
    pub lateness: Duration,
    pub doubled: u64,
    pub loss: Loss,
    pub rate: Option<Rate>,
}

/// Gilbert and Elliott's two states: a packet is lost with a probability that the state has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    pub good: u64,
    pub bad: u64,
    /// From the good state into the bad one, and back.
    pub worsens: u64,
    pub recovers: u64,
}

/// What does not fit into the queue is lost.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub bytes_per_s: u64,
    pub queue_bytes: u64,
}

impl Loss {
    /// Each packet for itself.
    pub fn even(share: u64) -> Loss {
        Loss { good: share, ..Loss::default() }
    }

    /// About `share` of all packets, most of them in bursts of about `burst`.
    pub fn bursts(share: u64, burst: u64) -> Loss {
        Loss { good: share / 10, bad: 900, worsens: share / burst + 1, recovers: 1000 / burst }
    }
}

impl Conditions {
    /// Of everything nothing, some or a lot.
    pub fn drawn(random: &mut Random) -> Conditions {
        let ms = Duration::from_millis;
        let mut some = |most: u64| [0, most / 4, most][random.below(3) as usize];
        let (latency, jitter, late, lateness) = (ms(some(80)), ms(some(20)), some(200), ms(1 + some(120)));
        let (doubled, share, bursts) = (some(60), some(60), some(8));
        let loss = if bursts == 0 { Loss::even(share) } else { Loss::bursts(share, bursts) };
        let rate = (random.below(4) == 0)
            .then(|| Rate { bytes_per_s: 60_000 + random.below(500_000), queue_bytes: 6_000 + random.below(60_000) });
        Conditions { latency, jitter, late, lateness, doubled, loss, rate }
    }
}

/// One direction.
pub struct Link {
    pub conditions: Conditions,
    random: Random,
    /// The loss is in its bad state.
    bad: bool,
    /// When the rate has room again.
    free: Time,
    /// When the last packet in order arrives.
    last: Time,
    under_way: BTreeMap<(Time, u64), Vec<u8>>,
    sent: u64,
    pub lost: u64,
}

impl Link {
    pub fn new(conditions: Conditions, seed: u64) -> Link {
        let under_way = BTreeMap::new();
        Link { conditions, random: Random(seed), bad: false, free: Time(0), last: Time(0), under_way, sent: 0, lost: 0 }
    }

    pub fn send(&mut self, packet: Vec<u8>, now: Time) {
        let Some(out) = self.leaves_queue(packet.len() as u64, now) else {
            self.lost += 1;
            return;
        };
        if self.loses() {
            self.lost += 1;
            return;
        }
        let copies = 1 + u64::from(self.chance(self.conditions.doubled));
        for copy in 0..copies {
            let mut at = out + self.conditions.latency + self.up_to(self.conditions.jitter);
            if copy == 1 || self.chance(self.conditions.late) {
                at = at + self.up_to(self.conditions.lateness);
            } else {
                at = at.max(self.last);
                self.last = at;
            }
            self.sent += 1;
            self.under_way.insert((at, self.sent), packet.clone());
        }
    }

    /// What has arrived.
    pub fn pop(&mut self, now: Time) -> Option<Vec<u8>> {
        if self.next()? > now {
            return None;
        }
        self.under_way.pop_first().map(|(_, packet)| packet)
    }

    /// When the next packet arrives.
    pub fn next(&self) -> Option<Time> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    fn leaves_queue(&mut self, bytes: u64, now: Time) -> Option<Time> {
        let Some(Rate { bytes_per_s, queue_bytes }) = self.conditions.rate else { return Some(now) };
        let waiting = (self.free - now).as_nanos() as u64 * bytes_per_s / 1_000_000_000;
        if waiting + bytes > queue_bytes {
            return None;
        }
        self.free = self.free.max(now) + Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_s);
        Some(self.free)
    }

    fn loses(&mut self) -> bool {
        let Loss { good, bad, worsens, recovers } = self.conditions.loss;
        let turns = self.chance(if self.bad { recovers } else { worsens });
        self.bad ^= turns;
        self.chance(if self.bad { bad } else { good })
    }

    fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.random.below(1000) < of_a_thousand
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.random.below(most.as_nanos() as u64 + 1))
    }
}

/// A link between a sender and the shard, and a frame each 33 ms.
pub struct Network {
    pub link: Link,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        let mut random = Random(seed);
        let conditions = Conditions { rate: None, ..Conditions::drawn(&mut random) };
        Network { link: Link::new(conditions, random.next()) }
    }

    /// A frame's packets set out, and a frame's time passes.
    pub fn carry(&mut self, packets: Vec<Vec<u8>>, world: &mut World) {
        packets.into_iter().for_each(|packet| self.link.send(packet, world.now));
        self.deliver(33, world);
    }

    pub fn deliver(&mut self, ms: u64, world: &mut World) {
        let until = world.now + Duration::from_millis(ms);
        while let Some(at) = self.link.next().filter(|at| *at <= until) {
            world.advance_to(at);
            self.link.pop(at).into_iter().for_each(|packet| world.receive(&packet));
        }
        world.advance_to(until);
    }
}
