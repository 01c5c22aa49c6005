//! VP8 over RTP (RFC 7741).
//!
//! ```text
//! payload descriptor (4.2)  |X|R|N|S|R| PID |      S: a partition begins, PID: which one, N: nothing refers to this frame
//!                    if X   |I|L|T|K|  RSV  |
//!                    if I   |M| PictureID   |      and eight bits more if M
//!                    if L   |   TL0PICIDX   |
//!               if T or K   |TID|Y| KEYIDX  |
//! payload header (4.3)      |Size0|H| VER |P|      begins the first partition; P = 0: a key
//!                           |    Size1, Size2    |
//!                    if key | 9d 01 2a | width | height |      14 bits each, little-endian, and 2 of scale
//! ```
//! A frame starts with its partition 0, so that its first packet tells by itself. Packets of the sender stay as they are
//! but for the numbers; what is cut anew is cut as one partition, which 4.4 leaves to the packetiser.

use super::{FrameInfo, Head, Limits, Payload, VideoCodec, equal_pieces};
use crate::core::Drop;
use crate::core::numbers::{Id, Numbered, Slots, WIDE};
use crate::core::packet::{Packet, PacketInfo};
use bytes::Bytes;

const EXTENDED: u8 = 0x80;
const NON_REFERENCE: u8 = 0x20;
const START: u8 = 0x10;
const PARTITION: u8 = 0x07;
const HAS_ID: u8 = 0x80;
const HAS_TL0: u8 = 0x40;
const HAS_TID: u8 = 0x20;
const HAS_KEYIDX: u8 = 0x10;

const KEY_HEADER_BYTES: usize = 10;
const FRAME_TAG_BYTES: usize = 3;
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

#[derive(Default)]
pub struct Vp8 {
    /// Of the newest key.
    size: (u32, u32),
}

struct Descriptor {
    len: usize,
    starts_frame: bool,
    non_reference: bool,
    numbers: Numbered,
    slots: Slots,
}

/// None: not well formed, or nothing behind it.
fn descriptor(payload: &[u8]) -> Option<Descriptor> {
    parse(payload).filter(|descriptor| descriptor.len < payload.len())
}

fn parse(payload: &[u8]) -> Option<Descriptor> {
    let first = *payload.first()?;
    let (mut at, mut slots, mut numbers) = (1, Slots::default(), Numbered::default());
    if first & EXTENDED != 0 {
        let has = *payload.get(1)?;
        at = 2;
        if has & HAS_ID != 0 {
            let id = Id::read(payload.get(at..)?)?;
            (numbers.id, slots.id) = (Some(id), at as u8);
            at += id.bytes();
        }
        if has & HAS_TL0 != 0 {
            (numbers.tl0, slots.tl0) = (Some(*payload.get(at)?), at as u8);
            at += 1;
        }
        if has & (HAS_TID | HAS_KEYIDX) != 0 {
            let layer = *payload.get(at)?;
            numbers.tid = (has & HAS_TID != 0).then_some(layer >> 6);
            at += 1;
        }
    }
    let starts_frame = first & START != 0 && first & PARTITION == 0;
    let non_reference = first & NON_REFERENCE != 0;
    Some(Descriptor { len: at, starts_frame, non_reference, numbers, slots })
}

/// Of a frame's first bytes: its size if it is a key, None if it is another. An error if it is neither.
fn key_size(frame: &[u8]) -> Result<Option<(u32, u32)>, Drop> {
    if frame.len() < FRAME_TAG_BYTES {
        return Err(Drop::MalformedPayload);
    }
    if !is_key(frame[0]) {
        return Ok(None);
    }
    if frame.len() < KEY_HEADER_BYTES || frame[3..6] != START_CODE {
        return Err(Drop::MalformedPayload);
    }
    let side = |at: usize| u32::from(u16::from_le_bytes([frame[at], frame[at + 1]]) & 0x3fff);
    Ok(Some((side(6), side(8))))
}

fn is_key(first: u8) -> bool {
    first & 1 == 0
}

/// What packets carry behind their descriptors. `complete` or `inspect` accepted them, so there is no error to handle.
fn contents(packets: &[Packet]) -> impl Iterator<Item = &[u8]> {
    packets.iter().map(|packet| descriptor(&packet.payload).map_or(&[][..], |d| &packet.payload[d.len..]))
}

fn gathered(packets: &[Packet]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packets.iter().map(|packet| packet.payload.len()).sum());
    contents(packets).for_each(|content| out.extend_from_slice(content));
    out
}

impl VideoCodec for Vp8 {
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop> {
        let descriptor = descriptor(payload).ok_or(Drop::MalformedPayload)?;
        let key = descriptor.starts_frame && is_key(payload[descriptor.len]);
        Ok(PacketInfo {
            starts_frame: descriptor.starts_frame,
            key,
            discardable: Some(descriptor.non_reference && !key),
            picture: descriptor.numbers.id,
            intact: false,
        })
    }

    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop> {
        let first = descriptor(&packets[0].payload).ok_or(Drop::MalformedPayload)?;
        let starts = |packet: &Packet| descriptor(&packet.payload).is_none_or(|d| d.starts_frame);
        if !first.starts_frame || packets[1..].iter().any(starts) {
            return Err(Drop::MalformedPayload);
        }
        let mut header = [0; KEY_HEADER_BYTES];
        let mut len = 0;
        for byte in contents(packets).flatten().take(KEY_HEADER_BYTES) {
            header[len] = *byte;
            len += 1;
        }
        let key = key_size(&header[..len])?;
        self.size = key.unwrap_or(self.size);
        Ok(FrameInfo {
            picture: true,
            key: key.is_some(),
            discardable: first.non_reference && key.is_none(),
            width: self.size.0,
            height: self.size.1,
            tid: first.numbers.tid.unwrap_or(0),
            numbers: first.numbers,
            ..FrameInfo::default()
        })
    }

    fn to_frame(&self, packets: &[Packet], _info: &FrameInfo) -> Vec<u8> {
        gathered(packets)
    }

    fn restamp(&self, packets: &[Packet], _info: &FrameInfo, limits: Limits) -> Vec<Payload> {
        let layout = |packet: &Packet| {
            descriptor(&packet.payload).map(|d| (d.slots, d.numbers.id.map(|id| id.wide), d.numbers.tid.is_some()))
        };
        let as_the_first = |packet: &Packet| layout(packet) == layout(&packets[0]);
        let mut out = Vec::with_capacity(packets.len() + 1);
        if packets.iter().any(|packet| packet.payload.len() > limits.rest || !as_the_first(packet)) {
            // A sender with a larger MTU: cut the frame as a whole, or every packet would become two. Or one that numbers
            // some of its packets only.
            cut(&packets[0].payload, Bytes::from(gathered(packets)), limits.first, limits.rest, &mut out);
            return out;
        }
        for packet in packets {
            let limit = if out.is_empty() { limits.first } else { limits.rest };
            let Some(Descriptor { len, .. }) = descriptor(&packet.payload) else { continue };
            cut(&packet.payload, packet.payload.slice(len..), limit, limits.rest, &mut out);
        }
        out
    }

    fn packetize(&mut self, frame: Bytes, key: bool, native: &FrameInfo, limits: Limits) -> Result<Vec<Payload>, Drop> {
        if key_size(&frame).map_err(|_| Drop::BadSubmit)?.is_some() != key {
            return Err(Drop::BadSubmit);
        }
        let head = fresh_head(&native.numbers);
        let mut out = Vec::with_capacity(frame.len() / limits.rest + 2);
        cut(head.as_slice(), frame, limits.first, limits.rest, &mut out);
        Ok(out)
    }
}

/// The descriptor of a frame of one layer, with the numbers that the sender's have.
fn fresh_head(native: &Numbered) -> Head {
    let mut head = Head::new(&[START, 0], Slots::default());
    let mut has = 0;
    if let Some(id) = native.id {
        has |= HAS_ID;
        head.push(if id.wide { WIDE } else { 0 });
        if id.wide {
            head.push(0);
        }
    }
    if native.tl0.is_some() {
        has |= HAS_TL0;
        head.push(0);
    }
    if native.tid.is_some() {
        has |= HAS_TID;
        head.push(0);
    }
    if has == 0 {
        return Head::new(&[START], Slots::default());
    }
    head.bytes[0] |= EXTENDED;
    head.bytes[1] = has;
    head
}

/// `content` in packets like `model`: whole if it fits, else in pieces of one partition.
fn cut(model: &[u8], content: Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
    let Some(Descriptor { len, slots, .. }) = parse(model) else { return };
    let mut head = Head::new(&model[..len], slots);
    for piece in equal_pieces(content.len(), first - len, rest - len) {
        out.push(Payload { head, body: content.slice(piece) });
        head.bytes[0] &= !START;
    }
}

/// A packet as two.
pub(super) fn halves(payload: &Payload) -> [Payload; 2] {
    let (head, mut rest) = (payload.head, payload.head);
    rest.bytes[0] &= !START;
    let (first, second) = (payload.body.slice(..payload.body.len() / 2), payload.body.slice(payload.body.len() / 2..));
    [Payload { head, body: first }, Payload { head: rest, body: second }]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, LIMITS, bytes, packet};
    use super::*;
    use proptest::prelude::*;

    /// 640x360, scale bits set that are no part of it.
    const KEY: [u8; 12] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0xc1, 1, 2];
    const DELTA: [u8; 5] = [0x31, 0x02, 0x00, 7, 8];

    fn frame(payloads: &[&[u8]]) -> Vec<Packet> {
        testing::frame(payloads)
    }

    #[test]
    fn every_field_of_the_descriptor_is_read_where_the_flags_say() {
        let id = |number, wide| Some(Id { number, wide });
        type Case = (&'static [u8], usize, Option<Id>, Option<u8>, Option<u8>);
        let cases: [Case; 7] = [
            (&[0x10, 0xff], 1, None, None, None),
            (&[0x90, 0x00, 0xff], 2, None, None, None),
            (&[0x90, 0x80, 0x12, 0xff], 3, id(0x12, false), None, None),
            (&[0x90, 0x80, 0x92, 0x34, 0xff], 4, id(0x1234, true), None, None),
            (&[0x90, 0x60, 0x07, 0x60, 0xff], 4, None, Some(7), Some(1)),
            (&[0x90, 0x10, 0xff, 0xff], 3, None, None, None),
            (&[0x90, 0xf0, 0x80, 0x01, 0x09, 0x9f, 0xff], 6, id(1, true), Some(9), Some(2)),
        ];
        for (payload, len, id, tl0, tid) in cases {
            let d = descriptor(payload).unwrap();
            assert_eq!((d.len, d.numbers.id, d.numbers.tl0, d.numbers.tid), (len, id, tl0, tid), "{payload:02x?}");
        }
    }

    #[test]
    fn malformed_payloads_are_told() {
        let cases: [&[u8]; 8] = [
            &[],
            &[0x10],                         // nothing behind the descriptor
            &[0x90],                         // X without its byte
            &[0x90, 0x80],                   // I without its number
            &[0x90, 0x80, 0x80],             // half of 15 bits
            &[0x90, 0xc0, 0x01],             // L without TL0PICIDX
            &[0x90, 0xe0, 0x01, 0x02],       // T without its byte
            &[0x90, 0xe0, 0x81, 0x02, 3, 4], // all of it, and no more
        ];
        for payload in cases {
            assert_eq!(Vp8::default().inspect(payload), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
    }

    #[test]
    fn a_packet_tells_start_key_and_what_nothing_refers_to() {
        let told = |payload: &[u8]| Vp8::default().inspect(payload).unwrap();
        let info = |starts_frame, key, discardable| PacketInfo {
            starts_frame,
            key,
            discardable: Some(discardable),
            ..PacketInfo::default()
        };
        assert_eq!(told(&[0x10, 0x10]), info(true, true, false));
        assert_eq!(told(&[0x10, 0x11]), info(true, false, false));
        assert_eq!(told(&[0x30, 0x11]), info(true, false, true));
        assert_eq!(told(&[0x30, 0x10]), info(true, true, false), "a key is never discardable");
        assert_eq!(told(&[0x00, 0x10]), info(false, false, false));
        assert_eq!(told(&[0x11, 0x10]), info(false, false, false), "the start of partition 1");
        assert_eq!(told(&[0x90, 0x80, 5, 0x11]).picture, Some(Id { number: 5, wide: false }));
        assert_eq!(told(&[0xd8, 0x0f, 0x11]), info(true, false, false), "reserved bits mean nothing");
    }

    #[test]
    fn a_key_brings_its_size_and_later_frames_keep_it() {
        let mut codec = Vp8::default();
        let key =
            codec.complete(&frame(&[&[&[0x10][..], &KEY[..4]].concat(), &[&[0x00], &KEY[4..]].concat()])).unwrap();
        assert!(key.key && key.picture && !key.may_reorder);
        assert!(!codec.complete(&frame(&[&[&[0x30][..], &KEY].concat()])).unwrap().discardable, "whatever N says");
        assert_eq!((key.width, key.height), (640, 360));
        let delta = codec.complete(&frame(&[&[&[0x10][..], &DELTA].concat()])).unwrap();
        assert_eq!((delta.key, delta.width, delta.height, delta.tid), (false, 640, 360, 0));
        let layered = codec.complete(&frame(&[&[&[0x90, 0x20, 0x80][..], &DELTA].concat()])).unwrap();
        assert_eq!((layered.tid, layered.sid), (2, 0));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let head = |first: u8, rest: &[u8]| [&[first], rest].concat();
        let mut odd = KEY;
        odd[3] = 0x9e;
        let cases: [&[Vec<u8>]; 6] = [
            &[head(0x00, &DELTA)],                     // no start
            &[head(0x11, &DELTA)],                     // starts with partition 1
            &[head(0x10, &DELTA), head(0x10, &DELTA)], // two starts
            &[head(0x10, &DELTA[..2])],                // half a frame tag
            &[head(0x10, &KEY[..9])],                  // a key without its size
            &[head(0x10, &odd)],                       // nor its start code
        ];
        for payloads in cases {
            let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
            assert_eq!(Vp8::default().complete(&frame(&payloads)), Err(Drop::MalformedPayload), "{payloads:02x?}");
        }
    }

    #[test]
    fn packets_that_fit_stay_as_they_are_partitions_and_all() {
        let payloads: [&[u8]; 3] = [
            &[0x90, 0xf0, 0x80, 1, 9, 0x9f, 0x31, 2, 0, 4],
            &[0x91, 0xf0, 0x80, 1, 9, 0x9f, 5],
            &[0x82, 0xf0, 0x80, 1, 9, 0x9f, 6],
        ];
        let mut codec = Vp8::default();
        let packets = frame(&payloads);
        let info = codec.complete(&packets).unwrap();
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), payloads);
        assert_eq!(codec.to_frame(&packets, &info), [0x31, 2, 0, 4, 5, 6]);
    }

    #[test]
    fn an_encoders_frame_has_the_fields_of_the_senders_and_one_layer() {
        let numbered = |has: u8, fields: &[u8]| {
            let payload = [&[0x90, has], fields, &DELTA].concat();
            Vp8::default().complete(&frame(&[&payload])).unwrap()
        };
        let plain = Vp8::default().complete(&frame(&[&[&[0x10][..], &DELTA].concat()])).unwrap();
        let cases: [(FrameInfo, &[u8]); 5] = [
            (plain, &[0x10]),
            (numbered(0, &[]), &[0x10]),
            (numbered(0x80, &[5]), &[0x90, 0x80, 0]),
            (numbered(0x80, &[0x85, 1]), &[0x90, 0x80, 0x80, 0]),
            (numbered(0xf0, &[0x85, 1, 7, 0xbf]), &[0x90, 0xe0, 0x80, 0, 0, 0]),
        ];
        for (native, head) in cases {
            let out = Vp8::default().packetize(Bytes::from_static(&DELTA), false, &native, LIMITS).unwrap();
            assert_eq!(bytes(&out), [[head, &DELTA].concat()]);
        }
    }

    #[test]
    fn an_answer_that_is_not_what_it_says_is_refused() {
        let submit = |data: &[u8], key| {
            Vp8::default().packetize(Bytes::copy_from_slice(data), key, &FrameInfo::default(), LIMITS).map(|_| ())
        };
        assert_eq!(submit(&KEY, true), Ok(()));
        assert_eq!(submit(&DELTA, false), Ok(()));
        for (data, key) in [(&KEY[..], false), (&DELTA[..], true), (&KEY[..8], true), (&[0x31, 2], false), (&[], false)]
        {
            assert_eq!(submit(data, key), Err(Drop::BadSubmit));
        }
    }

    proptest! {
        #[test]
        fn nothing_received_panics_and_what_is_accepted_fits(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
            first in 40usize..100,
        ) {
            let mut codec = Vp8::default();
            let accepted: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).filter(|p| codec.inspect(p).is_ok()).collect();
            let packets = frame(&accepted);
            if packets.is_empty() { return Ok(()); }
            if let Ok(info) = codec.complete(&packets) {
                let limits = Limits { first, rest: first + 24 };
                let out = codec.restamp(&packets, &info, limits);
                for (i, payload) in out.iter().enumerate() {
                    let limit = if i == 0 { limits.first } else { limits.rest };
                    prop_assert!(payload.len() <= limit);
                }
                let again: Vec<Packet> = bytes(&out).iter().map(|payload| packet(payload)).collect();
                prop_assert_eq!(codec.to_frame(&again, &info), codec.to_frame(&packets, &info));
                prop_assert_eq!(codec.complete(&again), Ok(info));
            }
        }

        #[test]
        fn nothing_submitted_panics_and_what_is_accepted_comes_back(
            data in proptest::collection::vec(any::<u8>(), 0..400), key: bool, first in 40usize..100,
        ) {
            let mut codec = Vp8::default();
            let data: Vec<u8> = if key && data.len() > 9 { [&KEY[..], &data].concat() } else { data };
            let limits = Limits { first, rest: first + 24 };
            if let Ok(out) = codec.packetize(data.clone().into(), key, &FrameInfo::default(), limits) {
                prop_assert!(out.iter().all(|payload| payload.len() <= limits.rest) && out[0].len() <= limits.first);
                let packets: Vec<Packet> = bytes(&out).iter().map(|payload| packet(payload)).collect();
                let info = codec.complete(&packets).unwrap();
                prop_assert_eq!((info.key, codec.to_frame(&packets, &info)), (key, data));
            }
        }
    }
}
