//! Where a carrier stands among a frame's packets: in front of its picture, and behind whatever else is in front of that.
//! `carrier` says what it is; an out is the caller.

use super::av1_elements::{Element, GOES_ON, NEW_SEQUENCE, TO_BE_CONTINUED, Units, each_element};
use super::av1_syntax::{FRAME, FRAME_HEADER, METADATA, obu_type};
use super::h264_payload::NonInterleaved;
use super::h265_payload::Payloads;
use super::nal::{Packing, Piece, aggregate};
use super::{Codec, Limits, Payload};
use crate::core::carrier;
use crate::core::ext::Value;
use bytes::Bytes;

/// Enough of a fragment to see of what it is.
const FRONT_BYTES: usize = 4;

impl Codec {
    /// The packets of a frame, with `value` in band. None: the format has no place for it.
    pub fn carrying(self, payloads: &[Payload], value: &Value, limits: Limits) -> Option<Vec<Payload>> {
        match self {
            Codec::H264 => with_sei(&NonInterleaved, payloads, value, limits),
            Codec::H265 => with_sei(&Payloads::default(), payloads, value, limits),
            Codec::Av1 => with_metadata(payloads, &carrier::metadata(value), limits),
            Codec::Vp8 | Codec::Vp9 | Codec::Opus => None,
        }
    }
}

fn with_sei<P: Packing>(packing: &P, payloads: &[Payload], value: &Value, limits: Limits) -> Option<Vec<Payload>> {
    payloads.iter().enumerate().find_map(|(at, payload)| {
        let bytes = front(payload);
        let (mut units, mut in_front, mut picture) = (Vec::new(), 0, None);
        let begun = packing.each_piece(&bytes, &mut |piece, _| {
            let header = match piece {
                Piece::Whole(unit) => {
                    units.push(bytes.slice_ref(unit));
                    P::header(unit)
                }
                Piece::First(header, _) => header,
                Piece::Next(_) => return,
            };
            if picture.is_none() && P::begins_picture(header) {
                picture = Some(header);
            }
            in_front += usize::from(picture.is_none());
        });
        let picture = picture.filter(|_| begun.is_ok())?;
        let sei = carrier::sei(P::sei_header(picture).as_ref(), value);
        let mut out = payloads[..at].to_vec();
        if in_front == 0 {
            out.extend([Payload::whole(sei), payload.clone()]);
        } else {
            let behind = units.split_off(in_front);
            units.push(sei);
            let limit = if at == 0 { limits.first } else { limits.rest };
            aggregate::<P>(&units, limit, limits.rest, &mut out);
            aggregate::<P>(&behind, limits.rest, limits.rest, &mut out);
        }
        out.extend_from_slice(&payloads[at + 1..]);
        Some(out)
    })
}

/// A payload in one piece, or the beginning of a fragment.
fn front(payload: &Payload) -> Bytes {
    match payload.parts() {
        [[], _] => payload.body.clone(),
        [head, body] => [head, &body[..body.len().min(FRONT_BYTES)]].concat().into(),
    }
}

/// With a metadata OBU, whose payload this is, in front of the frame.
pub(super) fn with_metadata(payloads: &[Payload], metadata: &[u8], limits: Limits) -> Option<Vec<Payload>> {
    payloads.iter().enumerate().find_map(|(at, payload)| {
        let bytes = payload.parts().concat();
        let mut elements = Vec::new();
        each_element(&bytes, &mut |element| elements.push(element)).ok()?;
        let is_frame = |one: &Element| one.begins && matches!(obu_type(one.bytes[0]), FRAME | FRAME_HEADER);
        let behind = elements.split_off(elements.iter().position(is_frame)?);
        let units = |elements: &[Element], flags| {
            let mut units = Units { flags: bytes[0] & flags, ..Units::default() };
            elements.iter().for_each(|element| units.push([element.bytes, &[]]));
            units
        };
        let mut out = payloads[..at].to_vec();
        let mut in_front = units(&elements, GOES_ON | NEW_SEQUENCE);
        in_front.push([&[METADATA << 3], metadata]);
        in_front.cut(limits, &mut out);
        if elements.is_empty() && bytes[0] & NEW_SEQUENCE == 0 {
            out.push(payload.clone());
        } else {
            units(&behind, TO_BE_CONTINUED).cut(limits, &mut out);
        }
        out.extend_from_slice(&payloads[at + 1..]);
        Some(out)
    })
}
