//! A sender of H.264 with the habits that senders have: parameter sets with each key or seldom, together or apart,
//! delimiters, several slices, frames that nothing refers to.

use super::coding::{Coding, Meaning, NOTHING};
use super::{Gathered, PPS, Random, SPS, Sender, VIDEO_PT, annex_b, id_of, nals, packet, payloads, slice};
use std::collections::HashMap;

const IDR: u8 = 0x65;
const PREDICTED: u8 = 0x41;
const UNREFERENCED: u8 = 0x01;
const DELIMITER: [u8; 2] = [0x09, 0xf0];
/// Every so manieth key at least has parameter sets.
pub const SETS_SELDOM: u64 = 3;

pub struct Source {
    sender: Sender,
    /// Parameter sets go with every so manieth key.
    sets_each: u64,
    keys: u64,
    together: bool,
    delimiters: bool,
    slices: usize,
    /// Nothing refers to every other frame.
    unreferenced: bool,
    /// The newest frame that others may refer to.
    newest: u64,
    since_key: u64,
    /// What each frame refers to, and its NAL units but for parameter sets.
    frames: HashMap<u64, (u64, Vec<Vec<u8>>)>,
}

impl Source {
    pub fn new(random: &mut Random) -> Source {
        let mut flip = || random.below(2) == 0;
        let (together, delimiters, unreferenced) = (flip(), flip(), flip());
        let sets_each = 1 + random.below(SETS_SELDOM);
        let slices = 1 + random.below(3) as usize;
        let sender = Sender::new(65_500, u32::MAX - 100_000);
        let frames = HashMap::new();
        Source {
            sender,
            sets_each,
            keys: 0,
            together,
            delimiters,
            slices,
            unreferenced,
            newest: NOTHING,
            since_key: 0,
            frames,
        }
    }

    fn payloads(&self, key: bool, units: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut out = payloads(units, self.sender.mtu);
        if key && self.keys.is_multiple_of(self.sets_each) {
            let sets = if self.together { vec![aggregated(&[&SPS, &PPS])] } else { vec![SPS.to_vec(), PPS.to_vec()] };
            let at = usize::from(self.delimiters);
            out.splice(at..at, sets);
        }
        out
    }
}

/// A STAP-A (RFC 6184 section 5.7.1).
fn aggregated(units: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0x78];
    for unit in units {
        out.extend((unit.len() as u16).to_be_bytes());
        out.extend(*unit);
    }
    out
}

impl Coding for Source {
    fn payload_type(&self) -> u8 {
        VIDEO_PT
    }

    fn timestamp(&self) -> u32 {
        self.sender.timestamp
    }

    fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        self.since_key = if key { 0 } else { self.since_key + 1 };
        let kept = key || !self.unreferenced || self.since_key.is_multiple_of(2);
        let header = if key { IDR } else { [UNREFERENCED, PREDICTED][usize::from(kept)] };
        let mut units: Vec<Vec<u8>> = (0..self.slices).map(|_| slice(header, id, len / self.slices)).collect();
        if self.delimiters {
            units.insert(0, DELIMITER.to_vec());
        }
        let payloads = self.payloads(key, &units);
        self.keys += u64::from(key);
        self.frames.insert(id, (if key { NOTHING } else { self.newest }, units));
        self.newest = if kept { id } else { self.newest };
        let (sender, end) = (&mut self.sender, payloads.len() - 1);
        let timestamp = sender.timestamp;
        sender.timestamp = timestamp.wrapping_add(super::FRAME_TICKS);
        let stamp = |(at, payload): (usize, &Vec<u8>)| {
            let sequence = sender.sequence;
            sender.sequence = sequence.wrapping_add(1);
            packet(sender.ssrc, VIDEO_PT, sequence, timestamp, at == end, payload)
        };
        payloads.iter().enumerate().map(stamp).collect()
    }

    fn made(&mut self, Meaning { key, id, needs }: Meaning, len: usize) -> Vec<u8> {
        let unit = slice(if key { IDR } else { PREDICTED }, id, len);
        self.frames.insert(id, (needs, vec![unit.clone()]));
        if key { annex_b(&[SPS.to_vec(), PPS.to_vec(), unit]) } else { annex_b(&[unit]) }
    }

    fn read(&self, frame: &Gathered) -> Meaning {
        let (sets, units): (Vec<_>, Vec<_>) =
            nals(&frame.payloads).into_iter().partition(|nal| matches!(nal[0] & 0x1f, 7 | 8));
        let slice = units.iter().find(|nal| matches!(nal[0] & 0x1f, 1 | 5)).expect("a frame has a slice");
        let (key, id) = (slice[0] & 0x1f == 5, id_of(slice));
        assert_eq!(sets.len(), if key { 2 } else { 0 }, "parameter sets in front of keys, and of those only");
        let (needs, sent) = &self.frames[&id];
        // A delimiter may be lost in front of the first frame that leaves; what else is lost takes its frame along.
        let delimiters = sent.len() - units.len().min(sent.len());
        let all_there = delimiters <= usize::from(self.delimiters) && units == sent[delimiters..];
        assert!(all_there, "frame {id} is as it was sent");
        Meaning { key, id, needs: *needs }
    }
}
