//! Dependency descriptors as a sender writes them, field by field as the specification lists them (AOM "RTP Payload Format
//! For AV1" 1.0, appendix A.8.2), sharing no code with the crate.

use super::av1::{Format, NOTHING, PLAIN, Sender, Shape};
use super::{Left, packet};
use auralink_native::core::ext;

pub const URI: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Bits as a string; spaces are for the reader.
pub fn bytes(bits: &str) -> Vec<u8> {
    let bits: Vec<u8> = bits.bytes().filter(|bit| matches!(bit, b'0' | b'1')).map(|bit| bit - b'0').collect();
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << (7 - i))).collect()
}

/// A descriptor: S and E, template id, frame number, and what is behind the mandatory fields.
pub fn descriptor(start: bool, end: bool, template: u8, number: u16, extended: &str) -> Vec<u8> {
    bytes(&format!("{}{} {:06b} {number:016b} {extended}", u8::from(start), u8::from(end), template % 64))
}

/// The structure of L1T3 (A.10.2.1) behind its flags: three targets, five templates, a chain, 1280 x 720.
pub fn three_temporal_layers(offset: u8) -> String {
    format!(
        "10000 {:06b} 00010 00 01 01 00 11 101010 101010 100100 010000 010000 \
         0 100110 100010 100000 100000 01 0000 0100 0010 0001 0011 1 0000010011111111 0000001011001111",
        offset % 64
    )
}

/// The same of two spatial layers, where the upper one needs the lower one: two targets, no chains, no sizes.
pub fn two_spatial_layers(offset: u8) -> String {
    format!("10000 {:06b} 00001 00 10 00 11 1010 1010 0010 0011 0 100010 100000 10000 100010 0 0", offset % 64)
}

/// That of one layer, which a frame of an encoder has: one target, two templates, a chain, and a size.
pub fn one_layer(offset: u8, width: u32, height: u32) -> String {
    let (width, height) = (width - 1, height - 1);
    format!("10000 {:06b} 00000 00 11 10 10 0 100000 1 0000 0001 1 {width:016b} {height:016b}", offset % 64)
}

/// Puts elements into a packet, in the two-byte form.
pub fn carrying(packet: &[u8], elements: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body: Vec<u8> =
        elements.iter().flat_map(|(id, value)| [&[*id, value.len() as u8][..], *value].concat()).collect();
    body.resize(body.len().next_multiple_of(4), 0);
    let mut bytes = packet[..12].to_vec();
    bytes[0] |= 0x10;
    bytes.extend([0x10, 0x00, 0, (body.len() / 4) as u8]);
    [bytes, body, packet[12..].to_vec()].concat()
}

pub fn elements(left: &Left) -> Vec<(u8, Vec<u8>)> {
    let Some((profile, body)) = left.rtp().extension else { return Vec::new() };
    ext::each(profile, body).map(|(id, value)| (id, value.to_vec())).collect()
}

/// The same packet without its header extension.
pub fn bare(left: &Left) -> Left {
    let rtp = left.rtp();
    let bytes = packet(rtp.ssrc, rtp.payload_type, rtp.sequence, rtp.timestamp, rtp.marker, rtp.payload);
    Left { bytes, ..left.clone() }
}

/// A descriptor that left, as far as every packet says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub start: bool,
    pub end: bool,
    pub template: u8,
    pub number: u16,
    /// All of it.
    pub bytes: Vec<u8>,
}

pub fn said(left: &Left, id: u8) -> Option<Said> {
    let (_, bytes) = elements(left).into_iter().find(|(own, _)| *own == id)?;
    let number = u16::from_be_bytes([bytes[1], bytes[2]]);
    let (start, end) = (bytes[0] & 0x80 != 0, bytes[0] & 0x40 != 0);
    Some(Said { start, end, template: bytes[0] & 0x3f, number, bytes })
}

/// What a frame is in the four of L1T3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Key,
    Lowest,
    /// Of the highest layer, behind the lowest one.
    Early,
    Middle,
    /// Of the highest layer, behind the middle one.
    Late,
}

impl Place {
    pub fn template(self) -> u8 {
        match self {
            Place::Key => 0,
            Place::Lowest => 1,
            Place::Middle => 2,
            Place::Early => 3,
            Place::Late => 4,
        }
    }

    pub fn tid(self) -> u8 {
        [0, 0, 1, 2, 2][usize::from(self.template())]
    }

    /// Frames back to the one that it refers to.
    fn back(self) -> u64 {
        match self {
            Place::Key | Place::Lowest => 4,
            Place::Middle => 2,
            Place::Early | Place::Late => 1,
        }
    }
}

/// A sender of AV1 in three temporal layers whose packets have descriptors of id [`Layered::id`].
pub struct Layered {
    pub sender: Sender,
    pub id: u8,
    pub offset: u8,
    pub number: u16,
    /// Its structure goes along with keys.
    pub tells: bool,
    since_key: u64,
}

impl Layered {
    pub fn new() -> Layered {
        Layered { sender: Sender::new(PLAIN), id: 5, offset: 60, number: 65_530, tells: true, since_key: 0 }
    }

    pub fn place(&self, key: bool) -> Place {
        if key {
            return Place::Key;
        }
        [Place::Lowest, Place::Early, Place::Middle, Place::Late][(self.since_key % 4) as usize]
    }

    /// The packets of the next frame.
    pub fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        let place = self.place(key);
        self.since_key = if key { 1 } else { self.since_key + 1 };
        let needs = if key { NOTHING } else { id - place.back() };
        let packets = self.sender.frame_on(id, needs, len);
        let (number, last) = (self.number, packets.len() - 1);
        self.number = number.wrapping_add(1);
        let described = packets.iter().enumerate().map(|(at, packet)| {
            let tells = key && at == 0 && self.tells;
            let extended = if tells { three_temporal_layers(self.offset) } else { String::new() };
            let template = self.offset.wrapping_add(place.template());
            carrying(packet, &[(self.id, &descriptor(at == 0, at == last, template, number, &extended))])
        });
        described.collect()
    }
}

/// Of two spatial layers: every packet is of one, and has a number of its own layer's frame.
pub struct Spatial {
    pub sender: Sender,
    pub id: u8,
    pub number: u16,
}

impl Spatial {
    pub fn new() -> Spatial {
        let format = Format { shape: Shape::Layers, aggregated: false, ..PLAIN };
        Spatial { sender: Sender::new(format), id: 5, number: 7 }
    }

    pub fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        let packets = self.sender.frame(id, key, len);
        let upper = packets.iter().position(|packet| packet[12] & 0x80 == 0 && packet[13..15] == [0x34, 8]).unwrap();
        let number = self.number;
        self.number = number.wrapping_add(2);
        let described = packets.iter().enumerate().map(|(at, packet)| {
            let layer = u8::from(at >= upper);
            let (start, end) = (at == 0 || at == upper, at + 1 == upper || at + 1 == packets.len());
            let extended = if key && at == 0 { two_spatial_layers(0) } else { String::new() };
            let template = layer * 2 + u8::from(!key);
            let descriptor = descriptor(start, end, template, number.wrapping_add(u16::from(layer)), &extended);
            carrying(packet, &[(self.id, &descriptor)])
        });
        described.collect()
    }
}
