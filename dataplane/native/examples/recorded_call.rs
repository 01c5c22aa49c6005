//! Recorded frames in a call over links that lose 2 %, in virtual time, with switches between two encodings of the same
//! pictures; what left is written for a decoder to judge. The caller is `tests/integration/test_dataplane_decode.py`.
//!
//!     recorded_call CODEC NATIVE COMPRESSED FRAMES SEED OUT
//!
//! A frame in NATIVE and COMPRESSED: one byte, 1 for a key, four of length (big-endian), the bytes. In OUT: four bytes of
//! the picture's number, one, 1 for native, four of length, the bytes. The recordings go round until there are FRAMES.

#[path = "../tests/common/mod.rs"]
mod common;

use common::call::carried;
use common::coding::{Coding, MADE, Meaning, NOTHING};
use common::network::{Conditions, Loss};
use common::vpx::{Format, VP8, VP9, layers};
use common::{AV1_PT, FRAME_TICKS, Gathered, H265_PT, Sender, VIDEO_PT, VP8_PT, VP9_PT};
use common::{annex_b, av1, h265, nals, packet, payloads};
use std::time::Duration;

const LOST_OF_A_THOUSAND: u64 = 20;
const BURST: u64 = 3;

#[derive(Clone)]
struct Frame {
    key: bool,
    data: Vec<u8>,
}

/// Two encodings of the same pictures, with keys at the same places.
struct Recorded {
    codec: String,
    native: Vec<Frame>,
    compressed: Vec<Frame>,
    sender: Sender,
    first: u32,
    picture: u16,
}

fn frames(path: &str) -> Vec<Frame> {
    let data = std::fs::read(path).expect("a recording");
    let (mut at, mut out) = (0, Vec::new());
    while at < data.len() {
        let len = u32::from_be_bytes(data[at + 1..at + 5].try_into().unwrap()) as usize;
        out.push(Frame { key: data[at] == 1, data: data[at + 5..at + 5 + len].to_vec() });
        at += 5 + len;
    }
    out
}

/// The NAL units behind start codes.
fn units(data: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..data.len().saturating_sub(2)).filter(|at| data[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &data[start + 3..end];
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        unit[..unit.len() - zeros].to_vec()
    };
    starts.iter().zip(ends).map(unit).collect()
}

impl Recorded {
    fn format(&self) -> Format {
        Format { wide: Some(true), ..if self.codec == "VP9" { VP9 } else { VP8 } }
    }

    fn payloads(&self, frame: &Frame) -> Vec<Vec<u8>> {
        let room = self.sender.mtu - 4;
        let [high, low] = (0x8000 | self.picture).to_be_bytes();
        let last = frame.data.len().div_ceil(room) - 1;
        let piece = |(at, piece): (usize, &[u8])| {
            let (begins, ends) = (at == 0, at == last);
            let flag = |set: bool, flag: u8| if set { flag } else { 0 };
            let head = match self.codec.as_str() {
                "VP8" => vec![0x80 | flag(begins, 0x10), 0x80, high, low],
                _ => vec![0x80 | flag(!frame.key, 0x40) | flag(begins, 0x08) | flag(ends, 0x04), high, low],
            };
            [&head[..], piece].concat()
        };
        match self.codec.as_str() {
            "H264" => payloads(&units(&frame.data), self.sender.mtu),
            "H265" => h265::Sender::new(h265::PLAIN).payloads(&units(&frame.data)),
            "AV1" => av1::Sender::new(av1::PLAIN).payloads(&av1::obus(&frame.data), frame.key),
            _ => frame.data.chunks(room).enumerate().map(piece).collect(),
        }
    }

    /// The bytes that a decoder gets.
    fn data(&self, frame: &Gathered) -> Vec<u8> {
        match self.codec.as_str() {
            "H264" => annex_b(&nals(&frame.payloads)),
            "H265" => annex_b(&h265::one(frame.clone()).units),
            "AV1" => av1::stream(&av1::one(frame.clone()).obus),
            _ => layers(self.format(), frame).concat(),
        }
    }

    fn is(&self, data: &[u8], frame: &Frame) -> bool {
        match self.codec.as_str() {
            "H264" | "H265" => units(data) == units(&frame.data),
            "AV1" => av1::obus(data) == av1::obus(&frame.data),
            _ => data == frame.data,
        }
    }

    fn at(frames: &[Frame], id: u64) -> &Frame {
        &frames[(id % frames.len() as u64) as usize]
    }
}

impl Coding for Recorded {
    fn payload_type(&self) -> u8 {
        match self.codec.as_str() {
            "H264" => VIDEO_PT,
            "H265" => H265_PT,
            "AV1" => AV1_PT,
            "VP8" => VP8_PT,
            _ => VP9_PT,
        }
    }

    fn timestamp(&self) -> u32 {
        self.sender.timestamp
    }

    fn frame(&mut self, id: u64, _key: bool, _len: usize) -> Vec<Vec<u8>> {
        let payloads = self.payloads(Recorded::at(&self.native, id));
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
        let payload_type = self.payload_type();
        let (sender, end) = (&mut self.sender, payloads.len() - 1);
        let timestamp = sender.timestamp;
        sender.timestamp = timestamp.wrapping_add(FRAME_TICKS);
        let stamp = |(at, payload): (usize, &Vec<u8>)| {
            let sequence = sender.sequence;
            sender.sequence = sequence.wrapping_add(1);
            packet(sender.ssrc, payload_type, sequence, timestamp, at == end, payload)
        };
        payloads.iter().enumerate().map(stamp).collect()
    }

    fn keys_at_will(&self) -> bool {
        false
    }

    fn encodes(&self, Meaning { key, id, needs }: Meaning) -> bool {
        key || needs == id - 1
    }

    fn made(&mut self, meaning: Meaning, _len: usize) -> Vec<u8> {
        Recorded::at(&self.compressed, meaning.id - MADE).data.clone()
    }

    fn read(&self, frame: &Gathered) -> Meaning {
        let id = u64::from(frame.timestamp.wrapping_sub(self.first) / FRAME_TICKS);
        let (data, native) = (self.data(frame), Recorded::at(&self.native, id));
        if self.is(&data, native) {
            return Meaning { key: native.key, id, needs: if native.key { NOTHING } else { id - 1 } };
        }
        let made = Recorded::at(&self.compressed, id);
        assert!(self.is(&data, made), "picture {id} is one of the two");
        let id = MADE + id;
        Meaning { key: made.key, id, needs: if made.key { NOTHING } else { id - 1 } }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [codec, native, compressed, count, seed, out] = &arguments[..] else {
        panic!("recorded_call CODEC NATIVE COMPRESSED FRAMES SEED OUT")
    };
    let recorded = || {
        let sender = Sender::new(65_000, u32::MAX - 1_000_000);
        let (native, compressed) = (frames(native), frames(compressed));
        let keys = |frames: &[Frame]| frames.iter().map(|frame| frame.key).collect::<Vec<_>>();
        assert!(keys(&native) == keys(&compressed), "keys stand at the same places");
        let same = native.iter().zip(&compressed).any(|(one, other)| one.data == other.data);
        assert!(!same, "frames tell which of the two they are");
        Recorded { codec: codec.clone(), native, compressed, first: sender.timestamp, sender, picture: 32_000 }
    };
    let link = Conditions {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        loss: Loss::bursts(LOST_OF_A_THOUSAND, BURST),
        ..Conditions::default()
    };
    let seed = seed.parse().expect("a seed");
    let (outcome, left) = carried(Box::new(recorded()), link, count.parse().expect("a number"), seed);
    let (reader, mut bytes) = (recorded(), Vec::new());
    for (meaning, frame) in &left {
        let (data, native) = (reader.data(frame), meaning.id < MADE);
        bytes.extend(((meaning.id % MADE) as u32).to_be_bytes());
        bytes.push(u8::from(native));
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
    }
    std::fs::write(out, bytes).expect("written");
    println!("{outcome:?}");
}
