//! NAL units in RTP payloads (RFC 6184 5.6 to 5.8): taken apart, and cut anew under a limit.

use super::h264_syntax::{is_slice, nal_type};
use super::{Limits, Payload};
use crate::core::Drop;
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

pub(super) const STAP_A: u8 = 24;
pub(super) const FU_A: u8 = 28;
pub(super) const FU_START: u8 = 0x80;
pub(super) const FU_END: u8 = 0x40;
/// Part of a NAL unit, as packets hold it.
pub(super) enum Piece<'a> {
    Whole(&'a [u8]),
    /// The NAL header and the first fragment behind it.
    First(u8, &'a [u8]),
    Next(&'a [u8]),
}

/// The NAL header that a FU-A's two bytes stand for.
pub(super) fn fu_header(payload: &[u8]) -> u8 {
    payload[0] & 0xe0 | payload[1] & 0x1f
}

/// Whether a NAL unit begins so: types 1 to 23, without the forbidden bit (RFC 6184 table 1).
pub(super) fn is_unit_header(header: u8) -> bool {
    header & 0x80 == 0 && (1..=23).contains(&nal_type(header))
}

/// Calls `each(piece, ends a NAL unit)` for what a payload holds; an error if it is not well formed.
pub(super) fn each_piece<'a>(payload: &'a [u8], each: &mut dyn FnMut(Piece<'a>, bool)) -> Result<(), Drop> {
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
            each(if start { Piece::First(fu_header(payload), bytes) } else { Piece::Next(bytes) }, end);
        }
        0 | 30 | 31 => return Err(Drop::MalformedPayload),
        _ => return Err(Drop::UnsupportedPayload),
    }
    Ok(())
}

/// Where a STAP-A's units lie; checked as a whole before any is used.
pub(super) fn stap_units(payload: &[u8]) -> Result<Vec<Range<usize>>, Drop> {
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

/// NAL units as fresh packets. Slices never share one, so the marker packet is no STAP-A.
pub(super) fn cut_units(units: impl IntoIterator<Item = Bytes>, limits: Limits) -> Vec<Payload> {
    let (mut out, mut small) = (Vec::new(), Vec::new());
    for unit in units {
        if is_slice(nal_type(unit[0])) {
            flush(&mut small, limits, &mut out);
            let limit = if out.is_empty() { limits.first } else { limits.rest };
            push_unit(unit, limit, limits.rest, &mut out);
        } else {
            small.push(unit);
        }
    }
    flush(&mut small, limits, &mut out);
    out
}

/// Cuts a received packet that is too long for us; its NAL units stay as they are.
pub(super) fn cut_packet(payload: &Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
    match nal_type(payload[0]) {
        STAP_A => {
            for (index, unit) in stap_units(payload).unwrap_or_default().into_iter().enumerate() {
                push_unit(payload.slice(unit), if index == 0 { first } else { rest }, rest, out);
            }
        }
        FU_A => {
            let marks = payload[1] & (FU_START | FU_END);
            push_fragments(fu_header(payload), &payload.slice(2..), marks, first.min(rest), out);
        }
        _ => push_unit(payload.clone(), first, rest, out),
    }
}

pub(super) fn push_unit(unit: Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
    if unit.len() <= first {
        out.push(Payload::whole(unit));
    } else {
        push_fragments(unit[0], &unit.slice(1..), FU_START | FU_END, first.min(rest), out);
    }
}

/// Fragments of nearly equal size: equal ones leave in one segmented send.
pub(super) fn push_fragments(header: u8, body: &Bytes, marks: u8, limit: usize, out: &mut Vec<Payload>) {
    // With both marks in one fragment it would be no fragment (RFC 6184 5.8).
    let least = if marks == FU_START | FU_END { 2 } else { 1 };
    let count = body.len().div_ceil(limit - 2).max(least);
    let size = body.len().div_ceil(count);
    let mut at = 0;
    while at < body.len() {
        let end = (at + size).min(body.len());
        let start_mark = if at == 0 { marks & FU_START } else { 0 };
        let end_mark = if end == body.len() { marks & FU_END } else { 0 };
        let head = [header & 0xe0 | FU_A, start_mark | end_mark | nal_type(header)];
        out.push(Payload::with_head(head, body.slice(at..end)));
        at = end;
    }
}

pub(super) fn flush(small: &mut Vec<Bytes>, limits: Limits, out: &mut Vec<Payload>) {
    let limit = if out.is_empty() { limits.first } else { limits.rest };
    aggregate(small, limit, limits.rest, out);
    small.clear();
}

/// Units in as few packets as they fit: STAP-A where two or more share one.
pub(super) fn aggregate(units: &[Bytes], first: usize, rest: usize, out: &mut Vec<Payload>) {
    let (mut limit, mut at) = (first, 0);
    while at < units.len() {
        let mut bytes = 1;
        let mut end = at;
        while end < units.len() && bytes + 2 + units[end].len() <= limit {
            bytes += 2 + units[end].len();
            end += 1;
        }
        if end - at >= 2 {
            out.push(Payload::whole(stap_a(&units[at..end], bytes)));
            at = end;
        } else {
            push_unit(units[at].clone(), limit, rest, out);
            at += 1;
        }
        limit = rest;
    }
}

pub(super) fn stap_a(units: &[Bytes], bytes: usize) -> Bytes {
    let nri = units.iter().map(|unit| unit[0] & 0x60).max().unwrap_or(0);
    let mut out = BytesMut::with_capacity(bytes);
    out.put_u8(nri | STAP_A);
    for unit in units {
        out.put_u16(unit.len() as u16); // fits: the packet is below the MTU
        out.put_slice(unit);
    }
    out.freeze()
}
