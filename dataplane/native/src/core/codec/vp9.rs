//! VP9 over RTP (RFC 9628); the descriptor is `vp9_descriptor`'s.
//!
//! ```text
//! picture       | SID 0: B .. E | SID 1: B .. E | ... E, marker |      one timestamp
//! native out    PictureID = theirs + constant; P_DIFF stays true, for it counts in PictureIDs
//! ours          I? L? F=0, PictureID + 1, one layer; V on the first packet of a key
//! ```
//! All layers of a timestamp are one frame. A key is told by its bitstream beside P = 0, for some senders (FFmpeg) never set
//! P. Whether references are flexible (F) may change at a key only, and so it does: native frames and an encoder's change
//! places there.

use super::vp9_descriptor::{
    BEGINS, Descriptor, ENDS, HAS_ID, INTER, LAYERS, STRUCTURE, descriptor, layer_size, one_layer, parse,
};
use super::vp9_syntax::{Header, MAX_FRAMES, append_index, has_index, header};
use super::{FrameInfo, Head, Limits, Payload, VideoCodec, equal_pieces};
use crate::core::Drop;
use crate::core::numbers::{Numbered, Slots, WIDE};
use crate::core::packet::{Packet, PacketInfo};
use bytes::Bytes;

#[derive(Default)]
pub struct Vp9 {
    /// Of the newest key, in its highest layer.
    size: (u32, u32),
}

/// Packets with their descriptors. `inspect` accepted them, so none is left out.
fn described(packets: &[Packet]) -> impl Iterator<Item = (&Packet, Descriptor)> {
    packets.iter().filter_map(|packet| Some((packet, descriptor(&packet.payload)?)))
}

/// The frames of a picture, one per layer: packets from the one that begins it to the one that ends it.
fn layers(packets: &[Packet]) -> impl Iterator<Item = &[Packet]> {
    packets.split_inclusive(|packet| packet.payload[0] & ENDS != 0)
}

/// The first of `packets` as the beginning of a key.
fn key_size(payload: &[u8], first: &Descriptor) -> Result<Option<(u32, u32)>, Drop> {
    match header(&payload[first.len..]).ok_or(Drop::MalformedPayload)? {
        Header::Key { width, height } if first.sid == 0 && !first.is(INTER) => Ok(Some((width, height))),
        _ => Ok(None),
    }
}

impl VideoCodec for Vp9 {
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop> {
        let descriptor = descriptor(payload).ok_or(Drop::MalformedPayload)?;
        // Of higher layers only the picture before tells whether they are the lowest of theirs.
        let starts_frame = descriptor.is(BEGINS) && descriptor.sid == 0;
        let key = starts_frame && key_size(payload, &descriptor)?.is_some();
        Ok(PacketInfo { starts_frame, key, discardable: Some(false), ..PacketInfo::default() })
    }

    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop> {
        let (mut open, mut highest) = (false, 0);
        for packet in packets {
            let descriptor = descriptor(&packet.payload).ok_or(Drop::MalformedPayload)?;
            if open == descriptor.is(BEGINS) {
                return Err(Drop::MalformedPayload);
            }
            open = !descriptor.is(ENDS);
            highest = descriptor.sid;
        }
        let first = packets.first().and_then(|packet| descriptor(&packet.payload));
        let (Some(first), false) = (first, open) else { return Err(Drop::MalformedPayload) };
        let payload = &packets[0].payload;
        let key = key_size(payload, &first)?;
        if let Some(size) = key {
            self.size = layer_size(&payload[first.structure..first.len], highest).unwrap_or(size);
        }
        let (width, height) = self.size;
        Ok(FrameInfo {
            picture: true,
            key: key.is_some(),
            width,
            height,
            tid: first.numbers.tid.unwrap_or(0),
            sid: highest,
            numbers: first.numbers,
            ..FrameInfo::default()
        })
    }

    fn to_frame(&self, packets: &[Packet], _info: &FrameInfo) -> Vec<u8> {
        let mut out = Vec::with_capacity(packets.iter().map(|packet| packet.payload.len()).sum::<usize>() + 32);
        let mut sizes = Vec::new();
        for layer in layers(packets) {
            let begin = out.len();
            described(layer).for_each(|(packet, d)| out.extend_from_slice(&packet.payload[d.len..]));
            sizes.push((out.len() - begin) as u32);
        }
        if (2..=MAX_FRAMES).contains(&sizes.len()) && !has_index(&out) {
            append_index(&mut out, &sizes);
        }
        out
    }

    fn restamp(&self, packets: &[Packet], _info: &FrameInfo, limits: Limits) -> Vec<Payload> {
        let mut out = Vec::with_capacity(packets.len() + 1);
        let anew = packets.iter().any(|packet| packet.payload.len() > limits.rest);
        for layer in layers(packets) {
            // A sender with a larger MTU: cut its layers as wholes, or every packet would become two.
            let alike = if anew { layer.len() } else { 1 };
            for run in layer.chunks(alike) {
                let limit = if out.is_empty() { limits.first } else { limits.rest };
                cut_run(run, limit, limits.rest, &mut out);
            }
        }
        out
    }

    fn is_layer(&self, packets: &[Packet]) -> bool {
        let is = |packet: Option<&Packet>, flag| packet.is_some_and(|packet| packet.payload[0] & flag != 0);
        is(packets.first(), BEGINS) && is(packets.last(), ENDS)
    }

    fn packetize(&mut self, frame: Bytes, key: bool, native: &FrameInfo, limits: Limits) -> Result<Vec<Payload>, Drop> {
        let size = match header(&frame).ok_or(Drop::BadSubmit)? {
            Header::Key { width, height } => Some((width, height)),
            Header::Other => None,
        };
        if size.is_some() != key {
            return Err(Drop::BadSubmit);
        }
        let (head, structure) = (fresh_head(&native.numbers, key), size.map(one_layer));
        let mut first = head;
        if let Some(structure) = structure {
            first.bytes[0] |= STRUCTURE;
            structure.into_iter().for_each(|byte| first.push(byte));
        }
        let room = Limits { first: limits.first - first.as_slice().len(), rest: limits.rest - head.as_slice().len() };
        let mut out = Vec::with_capacity(frame.len() / room.rest + 2);
        for piece in equal_pieces(frame.len(), room.first, room.rest) {
            let mut head = if piece.start == 0 { first } else { head };
            mark(&mut head, piece.start == 0, piece.end == frame.len());
            out.push(Payload { head, body: frame.slice(piece) });
        }
        Ok(out)
    }
}

/// The descriptor of a frame of one layer, with the numbers that the sender's have. References are those of the structure
/// (F = 0), where layers and TL0PICIDX come together.
fn fresh_head(native: &Numbered, key: bool) -> Head {
    let mut head = Head::new(&[if key { 0 } else { INTER }], Slots::default());
    if let Some(id) = native.id {
        head.bytes[0] |= HAS_ID;
        head.slots.id = head.len;
        head.push(if id.wide { WIDE } else { 0 });
        if id.wide {
            head.push(0);
        }
    }
    if native.tid.is_some() {
        head.bytes[0] |= LAYERS;
        head.push(0);
        head.slots.tl0 = head.len;
        head.push(0);
    }
    head
}

fn mark(head: &mut Head, begins: bool, ends: bool) {
    head.bytes[0] &= !(BEGINS | ENDS);
    head.bytes[0] |= if begins { BEGINS } else { 0 } | if ends { ENDS } else { 0 };
}

/// Packets of one layer's frame, in a row: one stays whole if it fits, else all are cut anew as one.
fn cut_run(run: &[Packet], first: usize, rest: usize, out: &mut Vec<Payload>) {
    let model = &run[0].payload;
    let Some(Descriptor { structure, len, slots, flags, .. }) = parse(model) else { return };
    let ends = run[run.len() - 1].payload[0] & ENDS != 0;
    let mut head = Head::new(&model[..structure], slots);
    // A structure goes in front of the first piece, and its flag with it.
    let content = if let [one] = run {
        one.payload.slice(structure..)
    } else {
        let mut content = model[structure..len].to_vec();
        described(run).for_each(|(packet, d)| content.extend_from_slice(&packet.payload[d.len..]));
        Bytes::from(content)
    };
    let (first, rest) = (first - structure, rest - structure);
    let mut at = 0;
    for piece in equal_pieces(content.len(), first, rest) {
        let end = if at == 0 { piece.end.max((len - structure + 1).min(first)) } else { piece.end };
        if end <= at {
            continue; // all of it is in the first piece, behind a long structure
        }
        mark(&mut head, at == 0 && flags & BEGINS != 0, end == content.len() && ends);
        out.push(Payload { head, body: content.slice(at..end) });
        head.bytes[0] &= !STRUCTURE;
        at = end;
    }
}

/// A packet as two, a structure whole in the first.
pub(super) fn halves(payload: &Payload) -> Option<[Payload; 2]> {
    let Descriptor { structure, len, .. } = parse(&payload.parts().concat())?;
    let in_body = len.saturating_sub(payload.head.as_slice().len());
    let (front, behind) = payload.body.split_at((payload.body.len() / 2).max(in_body + 1));
    let (mut first, mut second) = (payload.head, payload.head);
    first.bytes[0] &= !ENDS;
    second.bytes[0] &= !(BEGINS | STRUCTURE);
    second.len = second.len.min(structure as u8);
    let piece = |head, bytes| Payload { head, body: payload.body.slice_ref(bytes) };
    Some([piece(first, front), piece(second, behind)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{LIMITS, bytes, frame};
    use super::*;
    use proptest::prelude::*;

    /// 352x288.
    const KEY: [u8; 12] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf6, 0x00, 1, 2];
    const INTER_FRAME: [u8; 3] = [0x86, 7, 8];

    #[test]
    fn a_key_is_one_by_descriptor_and_bitstream() {
        let told = |head: &[u8], data: &[u8]| Vp9::default().inspect(&[head, data].concat()).map(|info| info.key);
        assert_eq!(told(&[0x0c], &KEY), Ok(true));
        assert_eq!(told(&[0x4c], &KEY), Ok(false), "P says that it refers to others");
        assert_eq!(told(&[0x0c], &INTER_FRAME), Ok(false), "a sender that never sets P");
        assert_eq!(told(&[0x2c, 0x02, 0], &KEY), Ok(false), "the second layer is not where a key begins");
        assert_eq!(told(&[0x04], &KEY), Ok(false), "nor is the end of a frame");
        assert_eq!(told(&[0x0c], &[0x42, 1]), Err(Drop::MalformedPayload), "no VP9");
        assert_eq!(told(&[0x0c], &[]), Err(Drop::MalformedPayload));
    }

    #[test]
    fn layers_become_a_superframe_of_the_highest_layers_size() {
        let structure = [0x30, 1, 64, 0, 180, 2, 128, 1, 104];
        let payloads = [
            [&[0xaa, 5, 0x00, 9][..], &structure, &KEY].concat(), // B, V
            vec![0xa4, 5, 0x00, 9, 0xaa],                         // E
            [&[0xac, 5, 0x03, 9][..], &INTER_FRAME].concat(),     // SID 1: B, E
        ];
        let mut codec = Vp9::default();
        let packets = frame(&payloads);
        let info = codec.complete(&packets).unwrap();
        assert!(info.key && !info.discardable);
        assert_eq!((info.width, info.height), (640, 360));
        assert_eq!((info.tid, info.sid), (0, 1));
        assert_eq!(codec.to_frame(&packets, &info), [&KEY[..], &[0xaa], &INTER_FRAME, &[0xc1, 13, 3, 0xc1]].concat());
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), payloads);
    }

    #[test]
    fn packets_of_one_layer_from_its_beginning_to_its_end_stand_for_themselves() {
        let is_layer = |payloads: &[[u8; 2]]| Vp9::default().is_layer(&frame(payloads));
        assert!(is_layer(&[[8, 0x86], [0, 1], [4, 1]]) && is_layer(&[[12, 0x86]]));
        assert!(!is_layer(&[[8, 0x86]]) && !is_layer(&[[4, 1]]) && !is_layer(&[]));
        let info = Vp9::default().complete(&frame(&[[0x2c, 0x44, 0, 0x86]])).unwrap();
        assert_eq!((info.tid, info.sid), (2, 2));
    }

    #[test]
    fn a_layer_that_does_not_begin_or_end_is_no_frame() {
        let (begin, middle, end, whole): (&[u8], &[u8], &[u8], &[u8]) = (&[8, 0x86], &[0, 1], &[4, 1], &[12, 0x86]);
        for payloads in [&[middle, end][..], &[begin, middle], &[begin, begin, end], &[whole, end], &[begin, whole]] {
            assert_eq!(Vp9::default().complete(&frame(payloads)), Err(Drop::MalformedPayload), "{payloads:02x?}");
        }
        for payloads in [&[begin, middle, end][..], &[whole], &[whole, begin, end]] {
            assert!(Vp9::default().complete(&frame(payloads)).is_ok());
        }
    }

    #[test]
    fn a_packet_too_long_is_cut_with_its_marks_and_structure_in_place() {
        let structure = [0x10, 1, 64, 0, 180];
        let payload = [&[0x8e, 0x85, 1][..], &structure, &KEY, &[5; 60]].concat();
        let mut codec = Vp9::default();
        let packets = frame(&[&payload]);
        let info = codec.complete(&packets).unwrap();
        let cut = bytes(codec.restamp(&packets, &info, Limits { first: 50, rest: 90 }));
        assert_eq!(cut.iter().map(|payload| payload[0]).collect::<Vec<_>>(), [0x8a, 0x84]);
        assert!(
            cut[0].starts_with(&[0x8a, 0x85, 1, 0x10, 1, 64, 0, 180, 0x82]) && cut[1].starts_with(&[0x84, 0x85, 1, 5])
        );
        assert_eq!(codec.to_frame(&frame(&cut), &info), [&KEY[..], &[5; 60]].concat());
    }

    #[test]
    fn an_encoders_frame_has_one_layer_and_its_structure_on_keys() {
        let numbered = |head: &[u8]| Vp9::default().complete(&frame(&[[head, &INTER_FRAME].concat()])).unwrap();
        let structure: &[u8] = &[0x18, 1, 96, 1, 32, 1, 4, 1];
        let cases: [(&[u8], &[u8], &[u8]); 4] = [
            (&[0x4c], &[0x0e], &[0x4c]),
            (&[0xcc, 5], &[0x8e, 0], &[0xcc, 0]),
            (&[0xec, 0x85, 1, 0x43, 9], &[0xae, 0x80, 0, 0, 0], &[0xec, 0x80, 0, 0, 0]),
            (&[0xfc, 5, 0x43, 2], &[0xae, 0, 0, 0], &[0xec, 0, 0, 0]), // flexible: ours is not
        ];
        for (native, key, inter) in cases {
            let native = numbered(native);
            let submit = |data: &'static [u8], key| {
                bytes(Vp9::default().packetize(Bytes::from_static(data), key, &native, LIMITS).unwrap())
            };
            assert_eq!(submit(&KEY, true), [[key, structure, &KEY].concat()]);
            assert_eq!(submit(&INTER_FRAME, false), [[inter, &INTER_FRAME].concat()]);
        }
        let refused = |data: &'static [u8], key| {
            Vp9::default().packetize(Bytes::from_static(data), key, &FrameInfo::default(), LIMITS).is_err()
        };
        assert!(refused(&KEY, false) && refused(&INTER_FRAME, true) && refused(&[], false) && refused(&[0x42], false));
    }

    proptest! {
        #[test]
        fn nothing_received_panics_and_what_is_accepted_fits(
            payloads in proptest::collection::vec(
                (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)), 1..6),
            first in 40usize..100,
        ) {
            let mut codec = Vp9::default();
            let payloads: Vec<Vec<u8>> = payloads.into_iter().map(|(flags, rest)| [&[flags][..], &rest].concat()).collect();
            // A structure fits into any packet of ours; with these limits only a short one does.
            let short = |payload: &Vec<u8>| descriptor(payload).is_some_and(|d| d.len < 35);
            let accepted: Vec<&Vec<u8>> = payloads.iter().filter(|p| codec.inspect(p).is_ok() && short(p)).collect();
            let packets = frame(&accepted);
            let Ok(info) = codec.complete(&packets) else { return Ok(()) };
            let limits = Limits { first, rest: first + 24 };
            let out = codec.restamp(&packets, &info, limits);
            for (i, payload) in out.iter().enumerate() {
                let limit = if i == 0 { limits.first } else { limits.rest };
                prop_assert!(payload.len() <= limit);
            }
            let again = frame(&bytes(&out));
            prop_assert_eq!(codec.to_frame(&again, &info), codec.to_frame(&packets, &info));
        }

        #[test]
        fn nothing_submitted_panics_and_what_is_accepted_comes_back(
            data in proptest::collection::vec(any::<u8>(), 1..400), key: bool, first in 40usize..100,
        ) {
            let mut codec = Vp9::default();
            let data = if key { [&KEY[..], &data].concat() } else { [&[0x86][..], &data].concat() };
            let limits = Limits { first, rest: first + 24 };
            let out = codec.packetize(data.clone().into(), key, &FrameInfo::default(), limits).unwrap();
            prop_assert!(out.iter().all(|payload| payload.len() <= limits.rest) && out[0].len() <= limits.first);
            let packets = frame(&bytes(&out));
            let info = codec.complete(&packets).unwrap();
            prop_assert_eq!((info.key, codec.to_frame(&packets, &info)), (key, data));
        }
    }
}
