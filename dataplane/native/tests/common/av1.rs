//! AV1 as a sender packs it and a receiver takes it apart, by the payload format and sharing no code with the crate. The
//! pictures are no pictures, but each says which one it is and which one it needs.

use super::coding::{Coding, Meaning};
use super::{AV1_PT, FRAME_TICKS, Gathered, Left, Random, SSRC, gathered, packet};
use std::collections::HashMap;

pub const NOTHING: u64 = u64::MAX;

/// 640 x 360.
pub const SEQUENCE_HEADER: [u8; 9] = [0x08, 0x00, 0x00, 0x00, 0x24, 0xc4, 0xff, 0x67, 0x80];

/// Of what a temporal unit's picture consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Frame,
    /// A frame header and six tile groups, some metadata in front.
    Tiles,
    /// A frame for each of two spatial layers.
    Layers,
}

/// How a sender packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub shape: Shape,
    /// W says how many elements there are, where it can.
    pub counted: bool,
    /// OBUs share packets.
    pub aggregated: bool,
    /// With what should not be sent: OBUs have their sizes, a temporal delimiter is in front, padding behind.
    pub wordy: bool,
}

pub const PLAIN: Format = Format { shape: Shape::Frame, counted: true, aggregated: true, wordy: false };

pub fn formats() -> Vec<Format> {
    let mut out = Vec::new();
    for shape in [Shape::Frame, Shape::Tiles, Shape::Layers] {
        for bits in 0..8 {
            let is = |bit: u8| bits & bit != 0;
            out.push(Format { shape, counted: is(1), aggregated: is(2), wordy: is(4) });
        }
    }
    out
}

/// The OBUs of one temporal unit, without sizes: what a decoder would need, and a tail, `len` bytes of picture in all.
pub fn unit(shape: Shape, key: bool, id: u64, needs: u64, len: usize) -> Vec<Vec<u8>> {
    let mut out = if key { vec![SEQUENCE_HEADER.to_vec()] } else { Vec::new() };
    let mut random = Random(id);
    let mut tail = |obu: &mut Vec<u8>, len: usize| (0..len).for_each(|_| obu.push(random.next() as u8));
    let meaning = [&[if key { 0x10 } else { 0x30 }][..], &id.to_be_bytes(), &needs.to_be_bytes()].concat();
    match shape {
        Shape::Frame => {
            out.push([&[0x30][..], &meaning].concat());
            tail(out.last_mut().unwrap(), len.saturating_sub(18));
        }
        Shape::Tiles => {
            out.push(vec![0x28, 4, 1, 2, 3]);
            out.push([&[0x18][..], &meaning].concat());
            for _ in 0..6 {
                out.push(vec![0x20]);
                tail(out.last_mut().unwrap(), len / 6 + 1);
            }
        }
        Shape::Layers => {
            for layer in 0..2 {
                out.push([&[0x34, layer << 3][..], &meaning].concat());
                tail(out.last_mut().unwrap(), len / 2);
            }
        }
    }
    out
}

/// Is it a key, which one and which does it need?
pub fn meaning(unit: &[Vec<u8>]) -> (bool, u64, u64) {
    let frame = unit.iter().find(|obu| matches!(obu[0] >> 3, 3 | 6)).expect("a frame");
    let at = if frame[0] & 4 != 0 { 2 } else { 1 };
    let number = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
    (frame[at] == 0x10, number(at + 1), number(at + 9))
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        out.push(value as u8 & 0x7f | if value > 0x7f { 0x80 } else { 0 });
        value >>= 7;
        if value == 0 {
            return out;
        }
    }
}

fn read_leb128(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

/// The OBUs of a stream without their sizes, delimiters and padding left out.
pub fn obus(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        let (head, header) = (stream[at], if stream[at] & 4 != 0 { 2 } else { 1 });
        assert_ne!(head & 2, 0, "has a size");
        let mut body = at + header;
        let len = read_leb128(stream, &mut body);
        let mut obu = stream[at..at + header].to_vec();
        obu[0] &= !2;
        obu.extend(&stream[body..body + len]);
        if ![2, 15].contains(&(head >> 3)) {
            out.push(obu);
        }
        at = body + len;
    }
    out
}

fn sized(obu: &[u8]) -> Vec<u8> {
    let header = if obu[0] & 4 != 0 { 2 } else { 1 };
    let mut out = obu[..header].to_vec();
    out[0] |= 2;
    out.extend(leb128(obu.len() - header));
    out.extend(&obu[header..]);
    out
}

/// What an AI Core gets and gives.
pub fn stream(unit: &[Vec<u8>]) -> Vec<u8> {
    unit.iter().flat_map(|obu| sized(obu)).collect()
}

pub struct Sender {
    pub format: Format,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub mtu: usize,
    last: u64,
    /// What was sent, by id, without what should not be.
    pub sent: HashMap<u64, Vec<Vec<u8>>>,
}

impl Sender {
    /// Near every wrap.
    pub fn new(format: Format) -> Sender {
        let timestamp = u32::MAX - 50 * FRAME_TICKS;
        Sender { format, ssrc: SSRC, sequence: 65_500, timestamp, mtu: 1100, last: NOTHING, sent: HashMap::new() }
    }

    /// The packets of the next temporal unit, which refers to the one before.
    pub fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        let needs = if key { NOTHING } else { self.last };
        self.last = id;
        self.frame_on(id, needs, len)
    }

    /// The same with a reference of the caller's choice; a key needs nothing.
    pub fn frame_on(&mut self, id: u64, needs: u64, len: usize) -> Vec<Vec<u8>> {
        let key = needs == NOTHING;
        let obus = unit(self.format.shape, key, id, needs, len);
        let mut wordy: Vec<Vec<u8>> = obus.clone();
        if self.format.wordy {
            wordy = [vec![0x10]].iter().chain(&obus).chain(&[vec![0x78, 0, 0, 0x80]]).map(|obu| sized(obu)).collect();
        }
        self.sent.insert(id, obus);
        let payloads = self.payloads(&wordy, key);
        let (timestamp, end) = (self.timestamp, payloads.len() - 1);
        self.timestamp = timestamp.wrapping_add(FRAME_TICKS);
        let mut out = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            out.push(packet(self.ssrc, AV1_PT, self.sequence, timestamp, i == end, payload));
            self.sequence = self.sequence.wrapping_add(1);
        }
        out
    }

    /// OBUs in packets; `key` is told by N.
    pub fn payloads(&self, obus: &[Vec<u8>], key: bool) -> Vec<Vec<u8>> {
        let room = self.mtu - 20;
        // Elements of each packet: bytes, and whether they begin and end their OBU.
        let mut packets: Vec<Vec<(&[u8], bool, bool)>> = Vec::new();
        let mut used = room;
        for obu in obus {
            if !self.format.aggregated || used + 8 > room {
                packets.push(Vec::new());
                used = 0;
            }
            let mut rest = &obu[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(room - used));
                packets.last_mut().unwrap().push((piece, rest.len() == obu.len(), behind.is_empty()));
                used += piece.len() + 3;
                rest = behind;
                if !rest.is_empty() {
                    packets.push(Vec::new());
                    used = 0;
                }
            }
        }
        packets.iter().enumerate().map(|(i, elements)| self.payload(elements, key && i == 0)).collect()
    }

    fn payload(&self, elements: &[(&[u8], bool, bool)], new: bool) -> Vec<u8> {
        let count = if self.format.counted && elements.len() < 4 { elements.len() } else { 0 };
        let (goes_on, continued) = (!elements[0].1, !elements[elements.len() - 1].2);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut out = vec![flag(goes_on, 0x80) | flag(continued, 0x40) | (count as u8) << 4 | flag(new, 0x08)];
        for (i, (bytes, ..)) in elements.iter().enumerate() {
            if count == 0 || i + 1 < count {
                out.extend(leb128(bytes.len()));
            }
            out.extend(*bytes);
        }
        out
    }
}

impl Coding for Sender {
    fn payload_type(&self) -> u8 {
        AV1_PT
    }

    fn timestamp(&self) -> u32 {
        self.timestamp
    }

    fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        Sender::frame(self, id, key, len)
    }

    fn made(&mut self, Meaning { key, id, needs }: Meaning, len: usize) -> Vec<u8> {
        let obus = unit(Shape::Frame, key, id, needs, len);
        let data = stream(&obus);
        self.sent.insert(id, obus);
        data
    }

    fn read(&self, frame: &Gathered) -> Meaning {
        let read = one(frame.clone());
        let (key, id, needs) = meaning(&read.obus);
        assert_eq!(read.new, key, "a coded video sequence begins at each key");
        assert_eq!(Some(&read.obus), self.sent.get(&id), "frame {id} is as it was sent");
        Meaning { key, id, needs }
    }
}

/// A temporal unit as a receiver sees it.
#[derive(Clone, Debug)]
pub struct Read {
    pub timestamp: u32,
    pub extension: Option<[u8; 16]>,
    pub packets: usize,
    /// N.
    pub new: bool,
    /// Without sizes, for they have none.
    pub obus: Vec<Vec<u8>>,
}

/// What left, taken apart. Panics where a receiver would be lost.
pub fn read(packets: &[Left]) -> Vec<Read> {
    gathered(packets, AV1_PT).into_iter().map(one).collect()
}

pub fn one(Gathered { timestamp, extension, payloads }: Gathered) -> Read {
    let mut obus: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for (i, payload) in payloads.iter().enumerate() {
        let (flags, mut at) = (payload[0], 1);
        assert_eq!(flags & 7, 0, "reserved bits");
        assert_eq!(flags & 0x80 != 0, open, "Z says what Y of the packet before said");
        assert!(i == 0 || flags & 8 == 0, "N is for the first packet");
        let count = usize::from(flags >> 4 & 3);
        let mut index = 0;
        while at < payload.len() {
            index += 1;
            let len = if index == count { payload.len() - at } else { read_leb128(payload, &mut at) };
            let element = &payload[at..at + len];
            assert!(!element.is_empty());
            at += len;
            if !std::mem::take(&mut open) {
                assert_eq!(element[0] & 0x82, 0, "no size, nor a forbidden bit");
                assert!(![2, 8, 15].contains(&(element[0] >> 3)), "nothing that need not be sent");
                obus.push(Vec::new());
            }
            obus.last_mut().unwrap().extend(element);
        }
        assert!(count == 0 || count == index, "as many elements as W says");
        open = flags & 0x40 != 0;
    }
    assert!(!open, "the last OBU ends");
    Read { timestamp, extension, packets: payloads.len(), new: payloads[0][0] & 8 != 0, obus }
}
