//! A bad network between a sender and the shard, the same again for the same seed.

use super::{Random, World};
use auralink_native::core::Time;
use std::time::Duration;

pub struct Network {
    random: Random,
    /// Of a thousand packets.
    pub lost: u64,
    pub late: u64,
    pub doubled: u64,
    /// How late, at most.
    pub jitter_ms: u64,
    under_way: Vec<(Time, u64, Vec<u8>)>,
    sent: u64,
}

impl Network {
    /// Nothing of all, some or a lot, by the seed.
    pub fn new(seed: u64) -> Network {
        let mut random = Random(seed);
        let mut some = |most: u64| [0, most / 4, most][random.below(3) as usize];
        let (lost, late, doubled, jitter_ms) = (some(60), some(200), some(60), 1 + some(120));
        Network { random, lost, late, doubled, jitter_ms, under_way: Vec::new(), sent: 0 }
    }

    /// A frame's packets set out, and a frame's time passes.
    pub fn carry(&mut self, packets: Vec<Vec<u8>>, world: &mut World) {
        for packet in packets {
            self.sent += 1;
            if self.random.below(1000) < self.lost {
                continue;
            }
            let copies = 1 + u64::from(self.random.below(1000) < self.doubled);
            for copy in 0..copies {
                let late = if self.random.below(1000) < self.late { self.random.below(self.jitter_ms) } else { 0 };
                let at = world.now + Duration::from_millis(late + 40 * copy);
                self.under_way.push((at, self.sent, packet.clone()));
            }
        }
        self.deliver(33, world);
    }

    pub fn deliver(&mut self, ms: u64, world: &mut World) {
        let until = world.now + Duration::from_millis(ms);
        self.under_way.sort_by_key(|(at, sent, _)| (*at, *sent));
        let due = self.under_way.iter().take_while(|(at, ..)| *at <= until).count();
        for (at, _, packet) in self.under_way.drain(..due) {
            world.advance_ms((at - world.now).as_millis() as u64);
            world.receive(&packet);
        }
        world.advance_ms((until - world.now).as_millis() as u64);
    }
}
