//! H.265's payloads (RFC 7798 4.4): single NAL units, aggregation packets, fragmentation units, and any of these in a PACI.
//!
//! ```text
//! single NAL unit (4.4.1)   | header, type 0..47 | DONL? | NAL unit's payload ...
//! AP (4.4.2)                | header, type 48    | DONL? | size | NAL unit | DOND? | size | NAL unit | ...
//! FU (4.4.3)                | header, type 49    |S|E| type, 6 bits | DONL? | fragment ...     DONL: if S
//! PACI (4.4.4)              | header, type 50    |A| type, 6 bits | size, 5 bits |F0|F1|F2|Y| extension | payload ...
//! ```
//! All headers have the layout of a NAL unit's. The sizes of an AP have 16 bits, of a PACI's extension 5. A PACI carries a
//! payload of another type, whose header is the PACI's with the type (and A for F) that stands behind it.

use super::Payload;
use super::h265_syntax::{HEADER_BYTES, Header, NAL_SEI};
use super::nal::{FU_END, FU_START, Packing, Piece, push_fragments, push_unit};
use crate::core::{Drop, be16};
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;

const AP: u8 = 48;
const FU: u8 = 49;
const PACI: u8 = 50;
const FU_HEADER_BYTES: usize = HEADER_BYTES + 1;
const PACI_HEADER_BYTES: usize = HEADER_BYTES + 2;
const DONL_BYTES: usize = 2;

/// Whether payloads have decoding order numbers: where the sender's sprop-max-don-diff is above 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Payloads {
    pub(super) numbered: bool,
}

/// A piece, whether a NAL unit ends with it, and the unit's decoding order number where it begins (0 without them).
pub(super) type NumberedPiece<'a> = (Piece<'a, [u8; HEADER_BYTES]>, bool, u16);

impl Payloads {
    /// What a payload holds; an error if it is not well formed.
    pub(super) fn pieces<'a>(self, payload: &'a [u8], each: &mut dyn FnMut(NumberedPiece<'a>)) -> Result<(), Drop> {
        let header = Header::read(payload).ok_or(Drop::MalformedPayload)?;
        match header.kind {
            ..AP => self.single(header, payload, each),
            AP => self.aggregated(payload, each),
            FU => self.fragment(header, payload, each),
            PACI => {
                let (inner, at) = paci(payload)?;
                match inner.kind {
                    ..AP => self.single(inner, &payload[at - HEADER_BYTES..], each),
                    AP => self.aggregated(&payload[at - HEADER_BYTES..], each),
                    FU => self.fragment(inner, &payload[at - HEADER_BYTES..], each),
                    _ => Err(Drop::MalformedPayload), // not in one another (4.4.4)
                }
            }
            _ => Err(Drop::UnsupportedPayload),
        }
    }

    /// `header` is that of `payload`, whatever its first bytes are.
    fn single<'a>(
        self,
        header: Header,
        payload: &'a [u8],
        each: &mut dyn FnMut(NumberedPiece<'a>),
    ) -> Result<(), Drop> {
        let mut at = HEADER_BYTES;
        let number = self.number(payload, &mut at)?;
        each((Piece::First(header.bytes(), &payload[at..]), true, number));
        Ok(())
    }

    fn aggregated<'a>(self, payload: &'a [u8], each: &mut dyn FnMut(NumberedPiece<'a>)) -> Result<(), Drop> {
        for (unit, number) in self.units(payload)? {
            each((Piece::Whole(&payload[unit]), true, number));
        }
        Ok(())
    }

    fn fragment<'a>(
        self,
        header: Header,
        payload: &'a [u8],
        each: &mut dyn FnMut(NumberedPiece<'a>),
    ) -> Result<(), Drop> {
        let (unit, marks) = fragmented(header, payload)?;
        let (start, end) = (marks & FU_START != 0, marks & FU_END != 0);
        let mut at = FU_HEADER_BYTES;
        let number = if start { self.number(payload, &mut at)? } else { 0 };
        let bytes = &payload[at..];
        if bytes.is_empty() {
            return Err(Drop::MalformedPayload);
        }
        each((if start { Piece::First(unit.bytes(), bytes) } else { Piece::Next(bytes) }, end, number));
        Ok(())
    }

    /// DONL, where there is one.
    fn number(self, payload: &[u8], at: &mut usize) -> Result<u16, Drop> {
        if !self.numbered {
            return Ok(0);
        }
        *at += DONL_BYTES;
        if payload.len() < *at {
            return Err(Drop::MalformedPayload);
        }
        Ok(be16(payload, *at - DONL_BYTES))
    }

    /// Where an AP's units lie, and their numbers; checked as a whole before any is used.
    fn units(self, payload: &[u8]) -> Result<Vec<(Range<usize>, u16)>, Drop> {
        let mut units = Vec::new();
        let mut at = HEADER_BYTES;
        let mut number = self.number(payload, &mut at)?;
        while at < payload.len() {
            if self.numbered && !units.is_empty() {
                number = number.wrapping_add(u16::from(payload[at]) + 1); // DOND
                at += 1;
            }
            let size = payload.get(at..at + 2).ok_or(Drop::MalformedPayload)?;
            let (begin, size) = (at + 2, usize::from(be16(size, 0)));
            let unit = payload.get(begin..begin + size).ok_or(Drop::MalformedPayload)?;
            if Header::read(unit).is_none_or(|header| header.is_packet()) {
                return Err(Drop::MalformedPayload);
            }
            units.push((begin..begin + size, number));
            at = begin + size;
        }
        if units.is_empty() { Err(Drop::MalformedPayload) } else { Ok(units) }
    }
}

/// The header of the payload in a PACI, and where that goes on behind its header.
fn paci(payload: &[u8]) -> Result<(Header, usize), Drop> {
    let (Some(header), true) = (Header::read(payload), payload.len() >= PACI_HEADER_BYTES) else {
        return Err(Drop::MalformedPayload);
    };
    let fields = be16(payload, HEADER_BYTES);
    let at = PACI_HEADER_BYTES + usize::from(fields >> 4 & 0x1f);
    if fields & 0x8000 != 0 || at >= payload.len() {
        return Err(Drop::MalformedPayload);
    }
    Ok((Header { kind: (fields >> 9 & 0x3f) as u8, ..header }, at))
}

/// The header of the unit that a FU is of, and its marks.
fn fragmented(header: Header, payload: &[u8]) -> Result<(Header, u8), Drop> {
    let fu = *payload.get(HEADER_BYTES).ok_or(Drop::MalformedPayload)?;
    let (kind, marks) = (fu & 0x3f, fu & (FU_START | FU_END));
    if kind >= AP || marks == FU_START | FU_END {
        return Err(Drop::MalformedPayload);
    }
    Ok((Header { kind, ..header }, marks))
}

/// The header of the unit that a well-formed payload has a fragment of.
pub(super) fn fragment_of(payload: &[u8]) -> Option<Header> {
    let payload = unpacked(payload);
    fragmented(Header::read(&payload)?, &payload).ok().map(|(unit, _)| unit)
}

/// Without the PACI around it, whose extension counts the sender's pictures (4.5): a receiver would miss those that did not
/// leave.
fn unpacked(payload: &[u8]) -> Cow<'_, [u8]> {
    match (Header::read(payload), paci(payload)) {
        (Some(Header { kind: PACI, .. }), Ok((inner, at))) => [&inner.bytes(), &payload[at..]].concat().into(),
        _ => payload.into(),
    }
}

impl Packing for Payloads {
    type Header = [u8; HEADER_BYTES];
    type FragmentHeader = [u8; FU_HEADER_BYTES];

    fn header(unit: &[u8]) -> [u8; HEADER_BYTES] {
        [unit[0], unit[1]]
    }

    fn is_slice(unit: &[u8]) -> bool {
        Header::read(unit).is_some_and(Header::is_slice)
    }

    fn is_parameter_set(header: [u8; HEADER_BYTES]) -> bool {
        Header::of(header).is_some_and(Header::is_parameter_set)
    }

    fn is_sei(header: [u8; HEADER_BYTES]) -> bool {
        Header::of(header).is_some_and(|header| header.kind == NAL_SEI)
    }

    /// Of no lower temporal id than its picture (H.265 7.4.2.2).
    fn sei_header(picture: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let temporal_id = Header::of(picture).map_or(0, |header| header.temporal_id);
        Header { kind: NAL_SEI, layer: 0, temporal_id }.bytes()
    }

    fn begins_picture(header: [u8; HEADER_BYTES]) -> bool {
        Header::of(header).is_some_and(Header::is_slice)
    }

    fn is_aggregate(header: [u8; HEADER_BYTES]) -> bool {
        Header::of(header).is_some_and(|header| header.kind == AP)
    }

    /// With the lowest layer and temporal id of its units (4.4.2).
    fn aggregate_header(units: &[Bytes]) -> [u8; HEADER_BYTES] {
        let headers = || units.iter().filter_map(|unit| Header::read(unit));
        let layer = headers().map(|header| header.layer).min().unwrap_or(0);
        let temporal_id = headers().map(|header| header.temporal_id).min().unwrap_or(0);
        Header { kind: AP, layer, temporal_id }.bytes()
    }

    fn fragment_header(header: [u8; HEADER_BYTES], marks: u8) -> [u8; FU_HEADER_BYTES] {
        let [first, second] = header;
        [first & 0x81 | FU << 1, second, marks | first >> 1 & 0x3f]
    }

    fn each_piece<'a>(
        &self,
        payload: &'a [u8],
        each: &mut dyn FnMut(Piece<'a, [u8; HEADER_BYTES]>, bool),
    ) -> Result<(), Drop> {
        self.pieces(payload, &mut |(piece, end, _)| each(piece, end))
    }

    fn plain(&self, payload: &Bytes) -> Bytes {
        match unpacked(payload) {
            Cow::Borrowed(_) => payload.clone(),
            Cow::Owned(inner) => inner.into(),
        }
    }

    /// One without decoding order numbers.
    fn cut_packet(&self, payload: &Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
        let Some(header) = Header::read(payload) else { return };
        match header.kind {
            AP => {
                for (index, (unit, _)) in self.units(payload).unwrap_or_default().into_iter().enumerate() {
                    push_unit::<Self>(payload.slice(unit), if index == 0 { first } else { rest }, rest, out);
                }
            }
            FU => {
                let Ok((unit, marks)) = fragmented(header, payload) else { return };
                let body = payload.slice(FU_HEADER_BYTES..);
                push_fragments::<Self>(unit.bytes(), &body, marks, (first, rest), out);
            }
            _ => push_unit::<Self>(payload.clone(), first, rest, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: [u8; 4] = [0x02, 0x01, 0xd0, 0x11];

    /// NAL units, their numbers, and fragments as they are: what begins, goes on, ends.
    fn read(numbered: bool, payload: &[u8]) -> Result<Vec<(Vec<u8>, bool, u16)>, Drop> {
        let mut out = Vec::new();
        Payloads { numbered }.pieces(payload, &mut |(piece, end, number)| {
            let bytes = match piece {
                Piece::Whole(nal) => nal.to_vec(),
                Piece::First(header, bytes) => [&header, bytes].concat(),
                Piece::Next(bytes) => bytes.to_vec(),
            };
            out.push((bytes, end, number));
        })?;
        Ok(out)
    }

    #[test]
    fn every_layout_is_read_with_and_without_order_numbers() {
        type Case<'a> = (&'a [u8], &'a [u8], &'a [(&'a [u8], bool, u16)]);
        let cases: [Case<'_>; 5] = [
            (&SLICE, &[0x02, 0x01, 0x12, 0x34, 0xd0, 0x11], &[(&SLICE, true, 0x1234)]),
            (
                // AP: an AUD and a slice, 256 numbers apart
                &[0x60, 0x01, 0, 3, 0x46, 0x01, 0x50, 0, 4, 0x02, 0x01, 0xd0, 0x11],
                &[0x60, 0x01, 0xff, 0x80, 0, 3, 0x46, 0x01, 0x50, 0xff, 0, 4, 0x02, 0x01, 0xd0, 0x11],
                &[(&[0x46, 0x01, 0x50], true, 0xff80), (&SLICE, true, 0x0080)],
            ),
            (&[0x62, 0x01, 0x81, 0xd0], &[0x62, 0x01, 0x81, 0, 9, 0xd0], &[(&[0x02, 0x01, 0xd0], false, 9)]),
            (&[0x62, 0x01, 0x01, 0x11], &[0x62, 0x01, 0x01, 0x11], &[(&[0x11], false, 0)]),
            (&[0x62, 0x01, 0x41, 0x11], &[0x62, 0x01, 0x41, 0x11], &[(&[0x11], true, 0)]),
        ];
        for (plain, numbered, pieces) in cases {
            let expected = |with: bool| -> Vec<(Vec<u8>, bool, u16)> {
                pieces.iter().map(|(bytes, end, number)| (bytes.to_vec(), *end, number * u16::from(with))).collect()
            };
            assert_eq!(read(false, plain).unwrap(), expected(false), "{plain:02x?}");
            assert_eq!(read(true, numbered).unwrap(), expected(true), "{numbered:02x?}");
            // and each in a PACI: its type behind the A bit, three bytes of TSCI (4.5)
            for (with, payload) in [(false, plain), (true, numbered)] {
                let kind = payload[0] >> 1;
                let fields = (u16::from(kind) << 9 | 3 << 4 | 0x08).to_be_bytes();
                let paci = [&[0x64, payload[1]], &fields[..], &[7, 8, 9], &payload[2..]].concat();
                assert_eq!(read(with, &paci).unwrap(), expected(with), "{paci:02x?}");
                assert_eq!(Payloads { numbered: with }.plain(&paci.into()), payload);
            }
        }
    }

    #[test]
    fn malformed_payloads_are_told() {
        let cases: [&[u8]; 20] = [
            &[],
            &[0x02],
            &[0x82, 0x01, 1],                                           // forbidden bit
            &[0x02, 0x00, 1],                                           // temporal id + 1 is 0
            &[0x60, 0x01],                                              // AP without units
            &[0x60, 0x01, 0, 0],                                        // an empty unit
            &[0x60, 0x01, 0, 1, 0x02],                                  // half a header
            &[0x60, 0x01, 0, 5, 0x02, 0x01, 1],                         // a unit beyond the end
            &[0x60, 0x01, 0, 3, 0x02, 0x01, 1, 0],                      // half a size
            &[0x60, 0x01, 0, 6, 0x60, 0x01, 0, 2, 0x02, 0x01],          // an AP in an AP
            &[0x60, 0x01, 0, 4, 0x62, 0x01, 0x81, 1],                   // a FU in an AP
            &[0x62, 0x01],                                              // FU without its header
            &[0x62, 0x01, 0x81],                                        // nor bytes
            &[0x62, 0x01, 0xc1, 1],                                     // both marks
            &[0x62, 0x01, 0xb0, 1],                                     // a fragment of an AP
            &[0x64, 0x01, 0x02],                                        // half a PACI
            &[0x64, 0x01, 0x02, 0x30, 7, 8, 9],                         // nothing behind its extension
            &[0x64, 0x01, 0x02, 0xf0, 7, 8, 9],                         // an extension beyond the end
            &[0x64, 0x01, 0x82, 0x00, 1],                               // A: the forbidden bit inside
            &[0x64, 0x01, 50 << 1, 0x00, 0x64, 0x01, 0x02, 0x00, 1, 1], // a PACI in a PACI
        ];
        for payload in cases {
            assert_eq!(read(false, payload), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
        let numbered: [&[u8]; 4] = [
            &[0x02, 0x01, 1],                               // half a number
            &[0x60, 0x01, 0],                               // the same in an AP
            &[0x60, 0x01, 0, 1, 0, 3, 0x46, 0x01, 0x50, 5], // a difference and no unit
            &[0x62, 0x01, 0x81, 0, 9],                      // a fragment of nothing
        ];
        for payload in numbered {
            assert_eq!(read(true, payload), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
        for kind in 51..64 {
            assert_eq!(read(false, &[kind << 1, 0x01, 1, 2]), Err(Drop::UnsupportedPayload), "type {kind}");
        }
    }

    #[test]
    fn an_aggregate_has_the_lowest_layer_and_temporal_id_of_its_units() {
        let unit = |kind, layer, temporal_id| Bytes::copy_from_slice(&Header { kind, layer, temporal_id }.bytes());
        assert_eq!(
            Payloads::aggregate_header(&[unit(39, 3, 2), unit(39, 40, 1)]),
            Header { kind: AP, layer: 3, temporal_id: 1 }.bytes()
        );
    }

    #[test]
    fn packets_that_are_too_long_are_cut_into_the_same_units() {
        let unit = [&[0x03, 0x0a][..], &[5; 98]].concat(); // layer 33, temporal id 1
        let fragments =
            [[&[0x63, 0x0a, 0x81][..], &unit[2..50]].concat(), [&[0x63, 0x0a, 0x41][..], &unit[50..]].concat()];
        let aggregate = [&[0x61, 0x0a, 0, 100][..], &unit, &[0, 3, 0x46, 0x01, 0x50]].concat();
        for (payloads, also) in [(&[unit.clone()][..], &[][..]), (&fragments, &[]), (&[aggregate], &[0x46, 0x01, 0x50])]
        {
            let mut cut = Vec::new();
            for payload in payloads {
                Payloads::default().cut_packet(&payload.clone().into(), 20, 30, &mut cut);
            }
            let mut joined = Vec::new();
            for (index, payload) in cut.iter().enumerate() {
                let payload = payload.parts().concat();
                assert!(payload.len() <= 30 && (index > 0 || payload.len() <= 20));
                read(false, &payload).unwrap().into_iter().for_each(|(bytes, ..)| joined.extend(bytes));
            }
            assert_eq!(joined, [&unit, also].concat());
        }
    }
}
