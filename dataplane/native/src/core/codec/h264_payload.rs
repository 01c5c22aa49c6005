//! H.264's payloads (RFC 6184 5.6 to 5.8): single NAL units, STAP-A, FU-A.

use super::Payload;
use super::h264_syntax::{NAL_PPS, NAL_PREFIX, NAL_SEI, NAL_SPS, is_slice, nal_type};
use super::nal::{FU_END, FU_START, Packing, Piece, push_fragments, push_unit};
use crate::core::Drop;
use bytes::Bytes;
use std::ops::Range;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

pub(super) struct NonInterleaved;

/// The NAL header that a FU-A's two bytes stand for.
pub(super) fn fu_header(payload: &[u8]) -> u8 {
    payload[0] & 0xe0 | payload[1] & 0x1f
}

/// Whether a NAL unit begins so: types 1 to 23, without the forbidden bit (RFC 6184 table 1).
pub(super) fn is_unit_header(header: u8) -> bool {
    header & 0x80 == 0 && (1..=23).contains(&nal_type(header))
}

impl Packing for NonInterleaved {
    type Header = [u8; 1];
    type FragmentHeader = [u8; 2];

    fn header(unit: &[u8]) -> [u8; 1] {
        [unit[0]]
    }

    fn is_slice(unit: &[u8]) -> bool {
        is_slice(nal_type(unit[0]))
    }

    fn is_parameter_set([header]: [u8; 1]) -> bool {
        matches!(nal_type(header), NAL_SPS | NAL_PPS)
    }

    fn is_sei([header]: [u8; 1]) -> bool {
        nal_type(header) == NAL_SEI
    }

    fn sei_header(_picture: [u8; 1]) -> [u8; 1] {
        [NAL_SEI]
    }

    fn begins_picture([header]: [u8; 1]) -> bool {
        is_slice(nal_type(header)) || nal_type(header) == NAL_PREFIX
    }

    fn is_aggregate([header]: [u8; 1]) -> bool {
        nal_type(header) == STAP_A
    }

    fn aggregate_header(units: &[Bytes]) -> [u8; 1] {
        let nri = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
        [nri | STAP_A]
    }

    fn fragment_header([header]: [u8; 1], marks: u8) -> [u8; 2] {
        [header & 0xe0 | FU_A, marks | nal_type(header)]
    }

    fn each_piece<'a>(&self, payload: &'a [u8], each: &mut dyn FnMut(Piece<'a, [u8; 1]>, bool)) -> Result<(), Drop> {
        let header = *payload.first().ok_or(Drop::MalformedPayload)?;
        if header & 0x80 != 0 {
            return Err(Drop::MalformedPayload); // forbidden_zero_bit
        }
        match nal_type(header) {
            1..=23 => each(Piece::Whole(payload), true),
            STAP_A => {
                for unit in stap_units(payload)? {
                    each(Piece::Whole(&payload[unit]), true);
                }
            }
            FU_A => {
                let fu = *payload.get(1).ok_or(Drop::MalformedPayload)?;
                let (start, end) = (fu & FU_START != 0, fu & FU_END != 0);
                if payload.len() < 3 || start && end || !(1..=23).contains(&nal_type(fu)) {
                    return Err(Drop::MalformedPayload);
                }
                let bytes = &payload[2..];
                each(if start { Piece::First([fu_header(payload)], bytes) } else { Piece::Next(bytes) }, end);
            }
            0 | 30 | 31 => return Err(Drop::MalformedPayload),
            _ => return Err(Drop::UnsupportedPayload),
        }
        Ok(())
    }

    fn cut_packet(&self, payload: &Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
        match nal_type(payload[0]) {
            STAP_A => {
                for (index, unit) in stap_units(payload).unwrap_or_default().into_iter().enumerate() {
                    push_unit::<Self>(payload.slice(unit), if index == 0 { first } else { rest }, rest, out);
                }
            }
            FU_A => {
                let marks = payload[1] & (FU_START | FU_END);
                push_fragments::<Self>([fu_header(payload)], &payload.slice(2..), marks, (first, rest), out);
            }
            _ => push_unit::<Self>(payload.clone(), first, rest, out),
        }
    }
}

/// Where a STAP-A's units lie; checked as a whole before any is used.
fn stap_units(payload: &[u8]) -> Result<Vec<Range<usize>>, Drop> {
    let mut units = Vec::new();
    let mut at = 1;
    while at < payload.len() {
        let size = payload.get(at..at + 2).ok_or(Drop::MalformedPayload)?;
        let (begin, size) = (at + 2, usize::from(u16::from_be_bytes([size[0], size[1]])));
        let unit = payload.get(begin..begin + size).ok_or(Drop::MalformedPayload)?;
        if unit.first().is_none_or(|header| !is_unit_header(*header)) {
            return Err(Drop::MalformedPayload);
        }
        units.push(begin..begin + size);
        at = begin + size;
    }
    if units.is_empty() { Err(Drop::MalformedPayload) } else { Ok(units) }
}
