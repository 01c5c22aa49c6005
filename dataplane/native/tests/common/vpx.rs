//! VP8 and VP9 as a sender packs them and a receiver takes them apart, by the RFCs and sharing no code with the crate. The
//! pictures are no pictures, but each says which one it is and which one it needs.

use super::coding::{Coding, MADE, Meaning, NOTHING};
use super::{FRAME_TICKS, Gathered, Left, Random, SSRC, VP8_PT, VP9_PT, gathered, packet};
use std::collections::HashMap;

/// What a sender puts into its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub vp9: bool,
    /// PictureID: None absent, Some(true) 15 bits.
    pub wide: Option<bool>,
    /// Three temporal layers, and TL0PICIDX where the format has one.
    pub temporal: bool,
    /// VP9: spatial layers, and references by P_DIFF instead of by structure.
    pub spatial: u8,
    pub flexible: bool,
}

pub const VP8: Format = Format { vp9: false, wide: None, temporal: false, spatial: 1, flexible: false };
pub const VP9: Format = Format { vp9: true, ..VP8 };

/// Every descriptor that a sender may write.
pub fn formats() -> Vec<Format> {
    let mut out = Vec::new();
    for wide in [None, Some(false), Some(true)] {
        for temporal in [false, true] {
            out.push(Format { wide, temporal, ..VP8 });
            for spatial in [1, 3] {
                out.push(Format { wide, temporal, spatial, ..VP9 });
                if wide.is_some() {
                    out.push(Format { wide, temporal, spatial, flexible: true, ..VP9 });
                }
            }
        }
    }
    out
}

impl Format {
    pub fn payload_type(self) -> u8 {
        if self.vp9 { VP9_PT } else { VP8_PT }
    }

    pub fn layered(self) -> bool {
        self.temporal || self.spatial > 1
    }

    pub fn id_mask(self) -> u16 {
        if self.wide == Some(true) { 0x7fff } else { 0x7f }
    }
}

/// The bytes of one layer's frame: what a decoder would need of it, and a tail.
pub fn data(vp9: bool, key: bool, id: u64, needs: u64, len: usize) -> Vec<u8> {
    let mut out = match (vp9, key) {
        (false, true) => vec![0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01],
        (false, false) => vec![0x31, 0x02, 0x00],
        (true, true) => vec![0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x7f, 0x00],
        (true, false) => vec![0x86],
    };
    out.extend(id.to_be_bytes());
    out.extend(needs.to_be_bytes());
    let mut random = Random(id);
    while out.len() < len {
        out.push(random.next() as u8 & 0x7f); // no superframe index by accident
    }
    out
}

/// Id and need that `data` wrote.
pub fn meaning(vp9: bool, data: &[u8]) -> (bool, u64, u64) {
    let key = if vp9 { data[0] & 4 == 0 } else { data[0] & 1 == 0 };
    let at = match (vp9, key) {
        (_, true) => 10,
        (false, false) => 3,
        (true, false) => 1,
    };
    let number = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
    (key, number(at), number(at + 8))
}

pub struct Sender {
    pub format: Format,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub mtu: usize,
    pub picture: u16,
    pub tl0: u8,
    since_key: u64,
    /// The newest frame of each temporal layer, and its picture.
    newest: [(u64, u16); 3],
    /// What was sent, by id: a layer's frame each.
    pub sent: HashMap<u64, Vec<Vec<u8>>>,
    /// PictureID and TL0PICIDX of each.
    pub numbers: HashMap<u64, (u16, u8)>,
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
            picture: format.id_mask() - 20,
            tl0: 250,
            since_key: 0,
            newest: [(NOTHING, 0); 3],
            sent: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// The packets of the next frame, each layer of `len` bytes.
    pub fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        self.since_key = if key { 0 } else { self.since_key + 1 };
        let tid = if self.format.temporal { [0, 2, 1, 2][self.since_key as usize % 4] } else { 0u8 };
        self.picture = self.picture.wrapping_add(1) & self.format.id_mask();
        self.tl0 = self.tl0.wrapping_add(u8::from(tid == 0));
        // The newest frame of the layers below, or of its own if there is none.
        let below = usize::from(tid.max(1));
        let reference = *self.newest[..below].iter().max_by_key(|(id, _)| id.wrapping_add(1)).unwrap();
        let needs = if key { NOTHING } else { reference.0 };
        if key {
            self.newest = [(NOTHING, 0); 3];
        }
        self.newest[usize::from(tid)] = (id, self.picture);
        let layers: Vec<Vec<u8>> =
            (0..self.format.spatial).map(|sid| data(self.format.vp9, key && sid == 0, id, needs, len)).collect();
        let distance = self.picture.wrapping_sub(reference.1) & self.format.id_mask();
        let mut payloads = Vec::new();
        for (sid, layer) in layers.iter().enumerate() {
            let room = self.mtu - 40; // of a descriptor
            let count = layer.len().div_ceil(room);
            for (i, piece) in layer.chunks(room).enumerate() {
                let (begins, ends) = (i == 0, i + 1 == count);
                let head = match self.format.vp9 {
                    false => self.vp8_head(tid, begins),
                    true => self.vp9_head(key, tid, sid as u8, distance as u8, begins, ends),
                };
                payloads.push([&head[..], piece].concat());
            }
        }
        self.sent.insert(id, layers);
        self.numbers.insert(id, (self.picture, self.tl0));
        self.packets(&payloads)
    }

    fn packets(&mut self, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (timestamp, end) = (self.timestamp, payloads.len() - 1);
        self.timestamp = timestamp.wrapping_add(FRAME_TICKS);
        let mut out = Vec::new();
        for (i, payload) in payloads.iter().enumerate() {
            out.push(packet(self.ssrc, self.format.payload_type(), self.sequence, timestamp, i == end, payload));
            self.sequence = self.sequence.wrapping_add(1);
        }
        out
    }

    fn id_bytes(&self) -> Vec<u8> {
        match self.format.wide {
            None => vec![],
            Some(false) => vec![self.picture as u8],
            Some(true) => (0x8000 | self.picture).to_be_bytes().to_vec(),
        }
    }

    fn vp8_head(&self, tid: u8, begins: bool) -> Vec<u8> {
        // Nothing refers to the highest temporal layer.
        let first = if tid == 2 { 0x20 } else { 0 } | if begins { 0x10 } else { 0 };
        let has = if self.format.wide.is_some() { 0x80 } else { 0 } | if self.format.temporal { 0x60 } else { 0 };
        if has == 0 {
            return vec![first];
        }
        let mut head = [&[first | 0x80, has][..], &self.id_bytes()].concat();
        if self.format.temporal {
            head.extend([self.tl0, tid << 6]);
        }
        head
    }

    fn vp9_head(&self, key: bool, tid: u8, sid: u8, distance: u8, begins: bool, ends: bool) -> Vec<u8> {
        let format = self.format;
        let structured = key && sid == 0 && begins && !format.flexible;
        let flags = [
            (format.wide.is_some(), 0x80),
            (!key, 0x40),
            (format.layered(), 0x20),
            (format.flexible, 0x10),
            (begins, 0x08),
            (ends, 0x04),
            (structured, 0x02),
        ];
        let mut head = vec![flags.iter().map(|(set, flag)| if *set { *flag } else { 0u8 }).sum()];
        head.extend(self.id_bytes());
        if format.layered() {
            head.push(tid << 5 | sid << 1 | u8::from(sid > 0));
            if !format.flexible {
                head.push(self.tl0);
            }
        }
        if format.flexible && !key {
            head.push(distance << 1);
        }
        if structured {
            head.push((format.spatial - 1) << 5 | 0x10);
            (0..format.spatial).for_each(|_| head.extend([0x02, 0x80, 0x01, 0x68]));
        }
        head
    }
}

/// A frame as a receiver sees it.
#[derive(Clone, Debug)]
pub struct Read {
    pub timestamp: u32,
    pub extension: Option<[u8; 16]>,
    pub packets: usize,
    /// PictureID and whether it has 15 bits.
    pub picture: Option<(u16, bool)>,
    pub tl0: Option<u8>,
    pub tid: Option<u8>,
    pub non_reference: bool,
    /// VP9: P, F, V and the last P_DIFF.
    pub inter: bool,
    pub flexible: bool,
    pub structure: Option<Vec<u8>>,
    pub distance: Option<u8>,
    /// A frame per spatial layer.
    pub layers: Vec<Vec<u8>>,
}

impl Read {
    /// Is it a key, which one, and which it needs, by its bytes.
    pub fn meaning(&self, vp9: bool) -> (bool, u64, u64) {
        meaning(vp9, &self.layers[0])
    }
}

impl Coding for Sender {
    fn payload_type(&self) -> u8 {
        self.format.payload_type()
    }

    fn timestamp(&self) -> u32 {
        self.timestamp
    }

    fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>> {
        Sender::frame(self, id, key, len)
    }

    fn made(&mut self, Meaning { key, id, needs }: Meaning, len: usize) -> Vec<u8> {
        data(self.format.vp9, key, id, needs, len)
    }

    fn read(&self, frame: &Gathered) -> Meaning {
        let (key, id, needs) = one(self.format, frame).meaning(self.format.vp9);
        Meaning { key, id, needs }
    }

    fn check(&self, frames: &[Gathered]) {
        check(&frames.iter().map(|frame| one(self.format, frame)).collect::<Vec<_>>(), self);
    }
}

/// What left, taken apart. Panics where a receiver would be lost.
pub fn read(format: Format, packets: &[Left]) -> Vec<Read> {
    gathered(packets, format.payload_type()).iter().map(|frame| one(format, frame)).collect()
}

/// A frame per spatial layer.
pub fn layers(format: Format, frame: &Gathered) -> Vec<Vec<u8>> {
    one(format, frame).layers
}

fn one(format: Format, frame: &Gathered) -> Read {
    let Gathered { timestamp, extension, payloads } = frame;
    let mut out: Option<Read> = None;
    let mut open = false;
    for payload in payloads {
        let (head, begins, ends, rest) = if format.vp9 { vp9(payload) } else { vp8(payload) };
        assert!(!rest.is_empty());
        let frame = out.get_or_insert_with(|| Read {
            timestamp: *timestamp,
            extension: *extension,
            packets: payloads.len(),
            ..head.clone()
        });
        assert_eq!((head.picture, head.tl0, head.tid), (frame.picture, frame.tl0, frame.tid), "on every packet");
        assert_eq!((head.inter, head.flexible), (frame.inter, frame.flexible));
        assert!(head.structure.is_none() || (begins && frame.layers.is_empty()), "on the first packet alone");
        if format.vp9 {
            assert_ne!(open, begins, "a layer's frame begins where the one before ended");
            open = !ends;
        } else {
            assert_eq!(begins, frame.layers.is_empty(), "a frame begins once");
        }
        if begins {
            frame.layers.push(Vec::new());
        }
        frame.layers.last_mut().unwrap().extend(rest);
    }
    assert!(!open, "the last layer ends");
    out.unwrap()
}

fn blank() -> Read {
    Read {
        timestamp: 0,
        extension: None,
        packets: 0,
        picture: None,
        tl0: None,
        tid: None,
        non_reference: false,
        inter: false,
        flexible: false,
        structure: None,
        distance: None,
        layers: Vec::new(),
    }
}

fn number(payload: &[u8], at: &mut usize) -> (u16, bool) {
    let first = payload[*at];
    *at += 1;
    if first & 0x80 == 0 {
        return (u16::from(first), false);
    }
    *at += 1;
    (u16::from(first & 0x7f) << 8 | u16::from(payload[*at - 1]), true)
}

fn byte(payload: &[u8], at: &mut usize) -> u8 {
    *at += 1;
    payload[*at - 1]
}

fn vp8(payload: &[u8]) -> (Read, bool, bool, &[u8]) {
    let (mut head, mut at) = (blank(), 1);
    if payload[0] & 0x80 != 0 {
        let has = byte(payload, &mut at);
        head.picture = (has & 0x80 != 0).then(|| number(payload, &mut at));
        head.tl0 = (has & 0x40 != 0).then(|| byte(payload, &mut at));
        head.tid = (has & 0x30 != 0).then(|| byte(payload, &mut at) >> 6);
    }
    head.non_reference = payload[0] & 0x20 != 0;
    (head, payload[0] & 0x17 == 0x10, false, &payload[at..])
}

fn vp9(payload: &[u8]) -> (Read, bool, bool, &[u8]) {
    let (mut head, mut at, flags) = (blank(), 1, payload[0]);
    head.inter = flags & 0x40 != 0;
    head.flexible = flags & 0x10 != 0;
    head.picture = (flags & 0x80 != 0).then(|| number(payload, &mut at));
    if flags & 0x20 != 0 {
        head.tid = Some(byte(payload, &mut at) >> 5);
        head.tl0 = (!head.flexible).then(|| byte(payload, &mut at));
    }
    while head.inter && head.flexible {
        let distance = byte(payload, &mut at);
        head.distance = Some(distance >> 1);
        if distance & 1 == 0 {
            break;
        }
    }
    if flags & 2 != 0 {
        let begin = at;
        let first = byte(payload, &mut at);
        at += if first & 0x10 != 0 { 4 * (usize::from(first >> 5) + 1) } else { 0 };
        let pictures = if first & 0x08 != 0 { byte(payload, &mut at) } else { 0 };
        for _ in 0..pictures {
            let references = byte(payload, &mut at) >> 2 & 3;
            at += usize::from(references);
        }
        head.structure = Some(payload[begin..at].to_vec());
    }
    (head, flags & 8 != 0, flags & 4 != 0, &payload[at..])
}

/// What every receiver relies on: each frame is whole, can be decoded from those before it, and is numbered so that
/// nothing seems to be missing.
pub fn check(frames: &[Read], sender: &Sender) {
    let format = sender.format;
    let mut decoded: HashMap<u64, u16> = HashMap::new();
    for (i, frame) in frames.iter().enumerate() {
        let (key, id, needs) = frame.meaning(format.vp9);
        let native = id < MADE;
        if key {
            decoded.clear();
        } else {
            assert!(decoded.contains_key(&needs), "{format:?}: frame {id} refers to {needs}, which is not there");
        }
        assert_eq!(frame.picture.map(|(_, wide)| wide), format.wide, "absent stays absent, and so does the width");
        let number = frame.picture.map_or(0, |(number, _)| number);
        if let Some(distance) = frame.distance {
            let referred = number.wrapping_sub(u16::from(distance)) & format.id_mask();
            assert_eq!(referred, decoded[&needs], "P_DIFF names the picture that it named at the sender");
        }
        decoded.insert(id, number);
        if native {
            assert_eq!(Some(&frame.layers), sender.sent.get(&id), "frame {id} is as it was sent, in all its layers");
        } else {
            check_one_layer(frame, format, key);
        }
        let Some(before) = i.checked_sub(1).map(|at| &frames[at]) else { continue };
        check_step(before, frame, sender);
    }
}

fn check_one_layer(frame: &Read, format: Format, key: bool) {
    assert_eq!((frame.layers.len(), frame.flexible, frame.non_reference), (1, false, false));
    let layered = format.layered();
    assert_eq!(frame.tid, layered.then_some(0));
    assert_eq!(frame.tl0.is_some(), layered);
    if format.vp9 {
        assert_eq!(frame.inter, !key);
        assert_eq!(frame.structure.as_deref(), key.then_some(&[0x18, 0x02, 0x80, 0x01, 0x68, 1, 4, 1][..]));
    }
}

/// From one frame to the next: VP8 counts frames, native VP9 keeps the sender's distances, an encoder's frames count.
fn check_step(before: &Read, frame: &Read, sender: &Sender) {
    let format = sender.format;
    let ((_, last, _), (_, id, _)) = (before.meaning(format.vp9), frame.meaning(format.vp9));
    let kept = format.vp9 && last < MADE && id < MADE;
    let (of_last, of_this) = (sender.numbers.get(&last), sender.numbers.get(&id));
    let lowest = frame.tid.unwrap_or(0) == 0;
    let (mut pictures, mut bases) = (1, u8::from(lowest));
    if let (true, Some(last), Some(this)) = (kept, of_last, of_this) {
        (pictures, bases) = (this.0.wrapping_sub(last.0) & format.id_mask(), this.1.wrapping_sub(last.1));
    }
    if let (Some((last, _)), Some((this, _))) = (before.picture, frame.picture) {
        assert_eq!(this.wrapping_sub(last) & format.id_mask(), pictures, "{format:?}: PictureID of {id} after {last}");
    }
    if let (Some(last), Some(this)) = (before.tl0, frame.tl0) {
        assert_eq!(this.wrapping_sub(last), bases, "{format:?}: TL0PICIDX of {id}");
    }
    if before.flexible != frame.flexible {
        assert!(!frame.inter, "F changes at a key only");
    }
    let ticks = frame.timestamp.wrapping_sub(before.timestamp);
    assert!((1..1 << 31).contains(&ticks), "timestamps go on");
}
