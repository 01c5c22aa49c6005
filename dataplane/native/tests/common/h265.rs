//! H.265 as a sender packs it and a receiver takes it apart, by RFC 7798 and sharing no code with the crate. The pictures
//! are no pictures, but each says which one it is and which one it needs.

use super::coding::{Coding, Meaning};
use super::{FRAME_TICKS, Gathered, H265_NUMBERED_PT, H265_PT, Left, Random, SSRC, annex_b, gathered, packet};
use std::collections::HashMap;

pub const NOTHING: u64 = u64::MAX;

pub const VPS: [u8; 24] = [
    0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03,
    0x00, 0x3c, 0x95, 0x94, 0x09,
];
/// Of x265: 322x182, one temporal layer, B-frames.
pub const SPS: [u8; 42] = [
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c, 0xa0,
    0x0a, 0x48, 0x0b, 0x9c, 0x95, 0x96, 0x56, 0x59, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80,
    0x00, 0x00, 0x0c, 0x84,
];
pub const PPS: [u8; 7] = [0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];
pub const SEI: [u8; 6] = [0x4e, 0x01, 0x05, 0x01, 0x55, 0x80];
pub const AUD: [u8; 3] = [0x46, 0x01, 0x50];

/// What a picture is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    Idr,
    Cra,
    /// TRAIL_R, TRAIL_N: the second is nobody's reference.
    Trailing,
    Unreferenced,
    /// RASL_R.
    SkippedLeading,
}

impl Picture {
    fn kind(self) -> u8 {
        match self {
            Picture::Idr => 19,
            Picture::Cra => 21,
            Picture::Trailing => 1,
            Picture::Unreferenced => 0,
            Picture::SkippedLeading => 9,
        }
    }

    pub fn key(self) -> bool {
        matches!(self, Picture::Idr | Picture::Cra)
    }
}

/// A slice of `len` bytes that says which picture it is of and which ones that needs, without emulation.
pub fn slice(picture: Picture, id: u64, needs: &[u64], len: usize) -> Vec<u8> {
    let first = if picture.key() { 0xaf } else { 0xd0 }; // PPS 0
    let mut nal = vec![picture.kind() << 1, 0x01, first, 0x10 + needs.len() as u8];
    for number in [id].iter().chain(needs) {
        nal.extend(number.to_be_bytes().iter().flat_map(|b| [0x10 | b >> 4, 0x10 | b & 15]));
    }
    let mut random = Random(id);
    while nal.len() < len {
        nal.push(4 + (random.next() % 250) as u8);
    }
    nal
}

/// Type, id and needs that `slice` wrote.
pub fn meaning(nal: &[u8]) -> (u8, u64, Vec<u64>) {
    let number = |at: usize| {
        let digits = &nal[4 + 16 * at..][..16];
        u64::from_be_bytes(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1] & 15))
    };
    let needs = usize::from(nal[3] - 0x10);
    (nal[0] >> 1, number(0), (1..=needs).map(number).collect())
}

/// How a sender packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Decoding order numbers, and slices sent before what is decoded before them.
    pub numbered: bool,
    /// What is small shares a packet.
    pub aggregates: bool,
    /// Every payload in a PACI with TSCI.
    pub paci: bool,
    /// Slices per picture.
    pub slices: usize,
    /// An AUD in front of each picture.
    pub delimited: bool,
}

pub const PLAIN: Format = Format { numbered: false, aggregates: false, paci: false, slices: 1, delimited: false };

pub fn formats() -> Vec<Format> {
    let mut out = Vec::new();
    for numbered in [false, true] {
        for aggregates in [false, true] {
            for paci in [false, true] {
                for (slices, delimited) in [(1, false), (3, true)] {
                    out.push(Format { numbered, aggregates, paci, slices, delimited });
                }
            }
        }
    }
    out
}

pub struct Sender {
    pub format: Format,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub mtu: usize,
    /// Parameter sets in front of keys.
    pub sets: bool,
    order: u16,
    /// The newest picture, of those that a call is made of.
    newest: u64,
    /// What was sent, by id: the NAL units in decoding order.
    pub sent: HashMap<u64, Vec<Vec<u8>>>,
}

impl Sender {
    /// Near every wrap.
    pub fn new(format: Format) -> Sender {
        Sender {
            format,
            ssrc: SSRC,
            sequence: 65_500,
            timestamp: u32::MAX - 50 * FRAME_TICKS,
            mtu: 1100,
            sets: true,
            order: 65_500,
            newest: NOTHING,
            sent: HashMap::new(),
        }
    }

    /// The packets of the next picture, each slice of `len` bytes.
    pub fn frame(&mut self, picture: Picture, id: u64, needs: &[u64], len: usize) -> Vec<Vec<u8>> {
        let mut units = Vec::new();
        if self.format.delimited {
            units.push(AUD.to_vec());
        }
        if picture.key() && self.sets {
            units.extend([VPS.to_vec(), SPS.to_vec(), PPS.to_vec(), SEI.to_vec()]);
        }
        (0..self.format.slices).for_each(|at| units.push(slice(picture, id, needs, len + at)));
        let payloads = self.payloads(&units);
        self.sent.insert(id, units);
        self.packets(&payloads)
    }

    /// The NAL units of one picture in packets.
    pub fn payloads(&mut self, units: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut numbered: Vec<(u16, &Vec<u8>)> = Vec::new();
        for unit in units {
            numbered.push((self.order, unit));
            self.order = self.order.wrapping_add(1);
        }
        if self.format.numbered && self.format.slices > 1 {
            numbered.rotate_right(1); // the last slice first
        }
        let room = self.mtu - 12; // of what stands in front
        let mut out = Vec::new();
        let mut small: Vec<(u16, &Vec<u8>)> = Vec::new();
        for (number, unit) in numbered {
            let held: usize = small.iter().map(|(_, unit)| unit.len() + 3).sum();
            let follows = small.last().is_none_or(|(last, _)| *last < number);
            if self.format.aggregates && held + unit.len() + 3 <= room && follows {
                small.push((number, unit));
                continue;
            }
            self.aggregate(&mut small, &mut out);
            self.alone(number, unit, room, &mut out);
        }
        self.aggregate(&mut small, &mut out);
        if self.format.paci {
            out = out.iter().map(|payload| paci(payload)).collect();
        }
        out
    }

    fn donl(&self, number: u16) -> Vec<u8> {
        if self.format.numbered { number.to_be_bytes().to_vec() } else { vec![] }
    }

    fn alone(&self, number: u16, unit: &[u8], room: usize, out: &mut Vec<Vec<u8>>) {
        if unit.len() - 2 <= room {
            out.push([&unit[..2], &self.donl(number), &unit[2..]].concat());
            return; // a fragment is never the first and the last (4.4.3)
        }
        let pieces: Vec<&[u8]> = unit[2..].chunks(room).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let marks = if i == 0 { 0x80 } else { 0 } | if i + 1 == pieces.len() { 0x40 } else { 0 };
            let donl = if i == 0 { self.donl(number) } else { vec![] };
            out.push([&[49 << 1, unit[1], marks | unit[0] >> 1], &donl[..], piece].concat());
        }
    }

    fn aggregate(&self, units: &mut Vec<(u16, &Vec<u8>)>, out: &mut Vec<Vec<u8>>) {
        if let [(number, unit)] = units[..] {
            out.push([&unit[..2], &self.donl(number), &unit[2..]].concat());
        } else if let Some((first, _)) = units.first() {
            let mut payload = [&[48 << 1, 1], &self.donl(*first)[..]].concat();
            for (i, (number, unit)) in units.iter().enumerate() {
                if self.format.numbered && i > 0 {
                    payload.push((number - units[i - 1].0 - 1) as u8);
                }
                payload.extend((unit.len() as u16).to_be_bytes());
                payload.extend(*unit);
            }
            out.push(payload);
        }
        units.clear();
    }

    fn packets(&mut self, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (timestamp, end) = (self.timestamp, payloads.len() - 1);
        self.timestamp = timestamp.wrapping_add(FRAME_TICKS);
        let payload_type = if self.format.numbered { H265_NUMBERED_PT } else { H265_PT };
        let mut out = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            out.push(packet(self.ssrc, payload_type, self.sequence, timestamp, i == end, payload));
            self.sequence = self.sequence.wrapping_add(1);
        }
        out
    }
}

/// Each picture refers to the one before.
impl Coding for Sender {
    fn payload_type(&self) -> u8 {
        H265_PT
    }

    fn timestamp(&self) -> u32 {
        self.timestamp
    }

    fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        let (picture, needs) = if key { (Picture::Idr, vec![]) } else { (Picture::Trailing, vec![self.newest]) };
        self.newest = id;
        Sender::frame(self, picture, id, &needs, len / self.format.slices)
    }

    fn made(&mut self, Meaning { key, id, needs }: Meaning, len: usize) -> Vec<u8> {
        let (picture, needs) = if key { (Picture::Idr, vec![]) } else { (Picture::Trailing, vec![needs]) };
        let slice = slice(picture, id, &needs, len);
        let units = if key { vec![VPS.to_vec(), SPS.to_vec(), PPS.to_vec(), slice] } else { vec![slice] };
        self.sent.insert(id, units.clone());
        annex_b(&units)
    }

    fn read(&self, frame: &Gathered) -> Meaning {
        let read = one(frame.clone());
        let (kind, id, needs) = read.meaning();
        let sent = &self.sent[&id];
        // A delimiter may be lost in front of the first frame that leaves; what else is lost takes its frame along.
        let delimiter = usize::from(sent[0] == AUD && read.units[0] != AUD);
        assert_eq!(read.units, sent[delimiter..], "frame {id} is as it was sent");
        Meaning { key: (16..22).contains(&kind), id, needs: needs.first().copied().unwrap_or(NOTHING) }
    }
}

/// The payload in a PACI with TSCI: three bytes, F0 set.
fn paci(payload: &[u8]) -> Vec<u8> {
    let fields = (u16::from(payload[0] >> 1) << 9 | 3 << 4 | 1 << 3).to_be_bytes();
    [&[50 << 1, payload[1]], &fields[..], &[1, 2, 0xc0], &payload[2..]].concat()
}

/// A frame as a receiver sees it.
#[derive(Clone, Debug)]
pub struct Read {
    pub timestamp: u32,
    pub extension: Option<[u8; 16]>,
    pub packets: usize,
    pub units: Vec<Vec<u8>>,
}

impl Read {
    /// Type, id and needs of its picture, which all slices agree on.
    pub fn meaning(&self) -> (u8, u64, Vec<u64>) {
        let mut slices = self.units.iter().filter(|unit| unit[0] >> 1 < 32).map(|unit| meaning(unit));
        let first = slices.next().unwrap();
        assert!(slices.all(|other| other == first));
        first
    }

    pub fn id(&self) -> u64 {
        self.meaning().1
    }
}

/// What left, taken apart. Panics where a receiver would be lost.
pub fn read(packets: &[Left]) -> Vec<Read> {
    gathered(packets, H265_PT).into_iter().map(one).collect()
}

pub fn one(Gathered { timestamp, extension, payloads }: Gathered) -> Read {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for payload in &payloads {
        assert_eq!(payload[0] & 0x80, 0);
        assert_ne!(payload[1] & 7, 0);
        match payload[0] >> 1 {
            48 => {
                assert!(!open);
                let mut rest = &payload[2..];
                let before = units.len();
                while !rest.is_empty() {
                    let size = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    units.push(rest[2..2 + size].to_vec());
                    rest = &rest[2 + size..];
                }
                assert!(units.len() >= before + 2);
            }
            49 => {
                let (start, end) = (payload[2] & 0x80 != 0, payload[2] & 0x40 != 0);
                assert!(start != open, "fragments of one NAL unit follow each other");
                assert!(!(start && end) && payload.len() > 3);
                if start {
                    units.push(vec![payload[0] & 0x81 | (payload[2] & 0x3f) << 1, payload[1]]);
                }
                units.last_mut().unwrap().extend(&payload[3..]);
                open = !end;
            }
            kind => {
                assert!(kind < 48 && !open);
                units.push(payload.clone());
            }
        }
    }
    assert!(!open, "the last NAL unit is whole");
    Read { timestamp, extension, packets: payloads.len(), units }
}
