//! The sound of a call: packets that say which one they are, with the one before in front of them where RED was agreed, and
//! what their receiver relies on.

use super::network::{Conditions, Link};
use super::wire::{Far, IN_AUDIO, Leaves, Near, OUT_AUDIO, Options, RED_PT};
use super::{AUDIO_PT, Left, Random, World, packet, sender};
use auralink_native::core::Time;
use std::collections::HashSet;

const SSRC: u32 = 0x5005_0000;
const TICKS: u32 = 960;
/// Near every wrap.
const FIRST_NUMBER: u16 = 65_400;
const FIRST_TIMESTAMP: u32 = u32::MAX - 100 * TICKS;
/// Packets that a source has to send before it is one.
const MOST_BEFORE_A_SOURCE: u32 = 3;

pub struct Sound {
    options: Options,
    near: Near,
    far: Far,
    link: Link,
    sent: u32,
    /// Distances of numbers and timestamps.
    apart: Option<(u16, u32)>,
    left: HashSet<u32>,
}

impl Sound {
    pub fn new(options: Options, conditions: Conditions, random: &mut Random) -> Sound {
        // What is retransmitted, and what is said of pictures, is theirs.
        let own = Options { rtx: [false; 2], elements: false, ..options };
        let link = Link::new(conditions, random.next());
        Sound { options, near: Near::new(own), far: Far::new(own), link, sent: 0, apart: None, left: HashSet::new() }
    }

    pub fn calms_down(&mut self) {
        self.link.conditions = Conditions { latency: self.link.conditions.latency, ..Conditions::default() };
    }

    pub fn next(&self) -> Option<Time> {
        self.link.next()
    }

    /// The next packet sets out.
    pub fn sends(&mut self, now: Time) {
        let n = self.sent;
        self.sent += 1;
        let (payload_type, payload) =
            if self.options.red[0] { (RED_PT, redundant(n, AUDIO_PT)) } else { (AUDIO_PT, block(n)) };
        let (number, timestamp) =
            (FIRST_NUMBER.wrapping_add(n as u16), FIRST_TIMESTAMP.wrapping_add(n.wrapping_mul(TICKS)));
        let packet = packet(SSRC, payload_type, number, timestamp, false, &payload);
        self.link.send(self.near.sends(&packet), now);
    }

    pub fn deliver(&mut self, world: &mut World) {
        while let Some(packet) = self.link.pop(world.now) {
            world.receive_from(IN_AUDIO, sender(), &packet);
        }
    }

    /// A packet that left: where it stands and what it says is the sender's, and it left once.
    pub fn leaves(&mut self, left: &Left) {
        assert_eq!(left.sock, OUT_AUDIO);
        let Leaves::First(bytes) = self.far.leaves(&left.bytes, false) else { panic!("sound is not sent again") };
        let left = Left { bytes, ..left.clone() };
        let rtp = left.rtp();
        let both = self.options.red == [true; 2];
        let n = u32::from_be_bytes(rtp.payload[rtp.payload.len() - 4..].try_into().unwrap());
        assert_eq!(rtp.payload_type, if both { RED_PT } else { AUDIO_PT });
        assert_eq!(rtp.payload, if both { redundant(n, AUDIO_PT) } else { block(n) }, "sound {n}");
        let apart = (
            rtp.sequence.wrapping_sub(n as u16),
            rtp.timestamp.wrapping_sub(FIRST_TIMESTAMP).wrapping_sub(n.wrapping_mul(TICKS)),
        );
        assert_eq!(*self.apart.get_or_insert(apart), apart, "gaps stay as they are, at sound {n}");
        assert!(self.left.insert(n), "sound {n} left twice");
    }

    /// Over good links since `quiet` all of it came.
    pub fn check(&self, quiet: u32) {
        let missing = (quiet + MOST_BEFORE_A_SOURCE..self.sent).find(|n| !self.left.contains(n));
        assert_eq!(missing, None, "sound {missing:?} of {} never left", self.sent);
    }

    pub fn sent(&self) -> u32 {
        self.sent
    }
}

fn block(n: u32) -> Vec<u8> {
    [&[0xfc; 3][..], &n.to_be_bytes()].concat()
}

/// RFC 2198: the one before in front.
fn redundant(n: u32, payload_type: u8) -> Vec<u8> {
    let before = block(n.wrapping_sub(1));
    let header = TICKS << 10 | before.len() as u32;
    [&[0x80 | payload_type], &header.to_be_bytes()[1..], &[payload_type], &before, &block(n)].concat()
}
