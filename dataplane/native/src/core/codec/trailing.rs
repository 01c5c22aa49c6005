//! A trailer among a frame's packets: wholly in the one with the marker, which is no aggregate; of AV1 in a metadata OBU.
//! `trailer` says what it is.

use super::h264_payload::NonInterleaved;
use super::h265_payload::Payloads;
use super::in_band::with_metadata;
use super::nal::Packing;
use super::{Codec, Limits, Payload, vp8, vp9};
use crate::core::trailer::METADATA_TYPE;
use bytes::Bytes;

impl Codec {
    /// The packets of a frame, with these bytes as its trailer. None: a frame has no place for them.
    pub fn trailing(self, payloads: &[Payload], trailer: &[u8], limits: Limits) -> Option<Vec<Payload>> {
        if self == Codec::Av1 {
            return with_metadata(payloads, &[&[METADATA_TYPE], trailer].concat(), limits);
        }
        let (last, front) = payloads.split_last()?;
        let limit = if front.is_empty() { limits.first } else { limits.rest };
        let room = limit.checked_sub(trailer.len())?;
        let mut out = front.to_vec();
        match self {
            Codec::H264 => cut_units(&NonInterleaved, last, room, &mut out),
            Codec::H265 => cut_units(&Payloads::default(), last, room, &mut out),
            Codec::Vp8 if last.len() > room => out.extend(vp8::halves(last)),
            Codec::Vp9 if last.len() > room => out.extend(vp9::halves(last)?),
            Codec::Vp8 | Codec::Vp9 => out.push(last.clone()),
            Codec::Av1 | Codec::Opus => return None,
        }
        let marked = out.last_mut()?;
        marked.body = [&marked.body[..], trailer].concat().into();
        Some(out)
    }
}

/// Packets of at most `room` bytes, the last one no aggregate.
fn cut_units<P: Packing>(packing: &P, last: &Payload, room: usize, out: &mut Vec<Payload>) {
    let whole: Bytes = match last.parts() {
        [[], _] => last.body.clone(),
        parts => parts.concat().into(),
    };
    if whole.len() > room || P::is_aggregate(P::header(&whole)) {
        packing.cut_packet(&whole, room, room, out);
    } else {
        out.push(last.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{LIMITS, bytes};
    use super::*;
    use crate::core::trailer::{Trailer, stripped};

    const VALUE: [u8; 16] = [1; 16];

    fn trailer() -> Vec<u8> {
        Trailer::default().with(&VALUE).written()
    }

    /// With the trailer and after a server has taken it off.
    fn attached(codec: Codec, payloads: &[Payload]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let out = codec.trailing(payloads, &trailer(), LIMITS).unwrap();
        let with = bytes(&out);
        for (at, payload) in with.iter().enumerate() {
            assert!(payload.len() <= if at == 0 { LIMITS.first } else { LIMITS.rest }, "{} bytes", payload.len());
        }
        let (last, front) = with.split_last().unwrap();
        assert!(last.ends_with(&trailer()), "all of it in the marker packet");
        let mut without = front.to_vec();
        without.push(stripped(&Bytes::copy_from_slice(last)).to_vec());
        (with, without)
    }

    fn whole(payload: &[u8]) -> Payload {
        Payload::whole(Bytes::copy_from_slice(payload))
    }

    #[test]
    fn rule_21_an_aggregate_is_taken_apart_and_a_unit_that_is_too_long_cut() {
        let (first, second) = ([0x65, 0x88, 1], [0x65, 0x88, 2, 3]);
        let together = [&[0x78, 0, 3][..], &first, &[0, 4], &second].concat();
        assert_eq!(attached(Codec::H264, &[whole(&together)]).1, [&first[..], &second]);
        let (first, second) = ([0x26, 0x01, 0xaf, 1], [0x26, 0x01, 0xaf, 2, 3]);
        let together = [&[0x60, 0x01, 0, 4][..], &first, &[0, 5], &second].concat();
        assert_eq!(attached(Codec::H265, &[whole(&together)]).1, [&first[..], &second]);
        for len in [1139, 1140, 1162] {
            let unit = [&[0x41][..], &vec![7; len - 1]].concat();
            let (_, without) = attached(Codec::H264, &[whole(&unit)]);
            let joined: Vec<u8> = match &without[..] {
                [one] => one.clone(),
                fragments => {
                    assert_eq!((fragments[0][1], fragments[1][1], fragments.len()), (0x81, 0x41, 2));
                    [&[0x41], &fragments[0][2..], &fragments[1][2..]].concat()
                }
            };
            assert_eq!((joined, without.len()), (unit, if len > 1139 { 2 } else { 1 }));
        }
        let end = Payload::with_head(&[0x5c, 0x41], vec![7; 1180].into());
        let (_, without) = attached(Codec::H264, &[whole(&[0x5c, 0x81, 7]), end]);
        assert_eq!(without.iter().map(|fragment| fragment[1]).collect::<Vec<_>>(), [0x81, 0x01, 0x41]);
    }

    #[test]
    fn rule_21_pictures_of_vp8_and_vp9_are_cut_where_the_last_packet_is_full() {
        for len in [40, 1150] {
            let head = [0x90, 0x80, 0x05];
            let (_, without) = attached(Codec::Vp8, &[Payload::with_head(&head, vec![7; len].into())]);
            let joined: usize = without.iter().map(|payload| payload.len() - 3).sum();
            assert_eq!(joined, len);
            let starts: Vec<u8> = without.iter().map(|payload| payload[0]).collect();
            assert_eq!(starts, if len == 40 { vec![0x90] } else { vec![0x90, 0x80] });
        }
        // B, E and V; a structure of 1000 bytes and more in front of the picture
        let structure: Vec<u8> = [&[0x08, 255][..], &[0x0c, 1, 2, 3].repeat(255)].concat();
        for structure in [&[][..], &[0x08, 1, 0x00], &structure] {
            let flags = 0x8c | if structure.is_empty() { 0 } else { 0x02 };
            let body = [structure, &vec![9; 1155 - structure.len()]].concat();
            let (_, without) = attached(Codec::Vp9, &[Payload::with_head(&[flags, 0x05], body.clone().into())]);
            let [first, second] = &without[..] else { panic!("two packets") };
            assert_eq!((first[0], second[0]), (flags & !0x04, 0x84), "begins, ends");
            assert!(first.len() > 2 + structure.len());
            assert_eq!([&first[2..], &second[2..]].concat(), body);
        }
    }

    #[test]
    fn rule_21_av1_has_it_as_metadata_behind_the_sequence_header() {
        let (sequence, frame) = ([0x08, 0, 0, 0, 0x24, 0xc4, 0xff, 0x67, 0x80], [0x30, 0x10, 1, 2]);
        let unit = [&[0x28, 9][..], &sequence, &frame].concat();
        let out = bytes(Codec::Av1.trailing(&[whole(&unit)], &trailer(), LIMITS).unwrap());
        let metadata = [&[0x28, 31][..], &trailer()].concat();
        assert_eq!(out, [[&[0x28, 9][..], &sequence, &metadata].concat(), [&[0x10][..], &frame].concat()]);
    }
}
