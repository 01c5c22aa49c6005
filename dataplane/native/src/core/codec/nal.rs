//! NAL units in RTP payloads, as far as RFC 6184 and RFC 7798 say the same: units whole, aggregated or in fragments, taken
//! apart and cut anew under a limit. What differs is a [`Packing`].

use super::parameter_sets::extend_bounded;
use super::{FrameInfo, Limits, Payload, pieces};
use crate::core::Drop;
use crate::core::carrier;
use crate::core::packet::Packet;
use bytes::{BufMut, Bytes, BytesMut};

pub(super) const FU_START: u8 = 0x80;
pub(super) const FU_END: u8 = 0x40;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Of a unit's size in an aggregate.
const SIZE_BYTES: usize = 2;

/// Part of a NAL unit, as packets hold it.
pub(super) enum Piece<'a, H> {
    Whole(&'a [u8]),
    /// The NAL header and the first fragment behind it.
    First(H, &'a [u8]),
    Next(&'a [u8]),
}

/// How a payload format writes NAL units into packets.
pub(super) trait Packing {
    /// A NAL unit's header, and an aggregate's.
    type Header: AsRef<[u8]> + Copy;

    /// In front of a fragment.
    type FragmentHeader: AsRef<[u8]>;

    /// Of units that have at least this many bytes.
    fn header(unit: &[u8]) -> Self::Header;

    /// Part of a picture.
    fn is_slice(unit: &[u8]) -> bool;

    fn is_parameter_set(header: Self::Header) -> bool;

    fn is_sei(header: Self::Header) -> bool;

    /// Of an SEI unit in front of a picture whose first unit has this header.
    fn sei_header(picture: Self::Header) -> Self::Header;

    /// A slice, or what belongs to one and stands in front of it: no SEI comes behind it.
    fn begins_picture(header: Self::Header) -> bool;

    fn is_aggregate(header: Self::Header) -> bool;

    fn aggregate_header(units: &[Bytes]) -> Self::Header;

    /// With [`FU_START`], [`FU_END`] or neither.
    fn fragment_header(header: Self::Header, marks: u8) -> Self::FragmentHeader;

    /// Calls `each(piece, ends a NAL unit)` for what a payload holds; an error if it is not well formed.
    fn each_piece<'a>(
        &self,
        payload: &'a [u8],
        each: &mut dyn FnMut(Piece<'a, Self::Header>, bool),
    ) -> Result<(), Drop>;

    /// The payload as we send it on: without what says something of the sender's packets only.
    fn plain(&self, payload: &Bytes) -> Bytes {
        payload.clone()
    }

    /// Cuts a received packet that is too long for us; its NAL units stay as they are.
    fn cut_packet(&self, payload: &Bytes, first: usize, rest: usize, out: &mut Vec<Payload>);
}

fn header_bytes<P: Packing>() -> usize {
    size_of::<P::Header>()
}

/// What the pieces of one frame become, read in order.
#[derive(Default)]
pub(super) struct Joined {
    /// A NAL unit has begun and not ended.
    pub(super) open: bool,
    /// A unit ended that had not begun, or began before the last had ended.
    pub(super) broken: bool,
    /// The parameter set that is open.
    fragment: Option<Vec<u8>>,
}

/// A unit as far as it is of interest.
pub(super) enum Unit<'a, H> {
    ParameterSet(Bytes),
    /// Any other, as it begins; `whole`: and as it ends.
    Other {
        header: H,
        payload: &'a [u8],
        whole: bool,
    },
}

impl Joined {
    pub(super) fn push<'a, P: Packing>(
        &mut self,
        piece: Piece<'a, P::Header>,
        end: bool,
    ) -> Option<Unit<'a, P::Header>> {
        let (header, payload) = match piece {
            Piece::Whole(nal) => (P::header(nal), &nal[header_bytes::<P>()..]),
            Piece::First(header, payload) => (header, payload),
            Piece::Next(bytes) => return self.go_on(bytes, end),
        };
        self.broken |= self.open;
        self.open = !end;
        if !P::is_parameter_set(header) {
            return Some(Unit::Other { header, payload, whole: end });
        }
        let mut set = header.as_ref().to_vec();
        extend_bounded(&mut set, payload);
        if end {
            return Some(Unit::ParameterSet(set.into()));
        }
        self.fragment = Some(set);
        None
    }

    fn go_on<'a, H>(&mut self, bytes: &[u8], end: bool) -> Option<Unit<'a, H>> {
        self.broken |= !self.open;
        self.open &= !end;
        if let Some(set) = self.fragment.as_mut() {
            extend_bounded(set, bytes);
        }
        let set = if end { self.fragment.take() } else { None };
        set.map(|set| Unit::ParameterSet(set.into()))
    }
}

/// Whether a unit carries AuraLink's value, and nothing else.
pub(super) fn is_carrier<P: Packing>(unit: &[u8]) -> bool {
    let Some(payload) = unit.get(header_bytes::<P>()..) else { return false };
    P::is_sei(P::header(unit)) && carrier::read_sei(payload).is_some()
}

/// Whether there may be a carrier, for only a whole unit tells.
fn may_carry<P: Packing>(packing: &P, packets: &[Packet]) -> bool {
    let mut found = false;
    for packet in packets {
        // `complete` accepted every packet, so there is no error to handle.
        let _ = packing.each_piece(&packet.payload, &mut |piece, end| match piece {
            Piece::Whole(unit) => found |= is_carrier::<P>(unit),
            Piece::First(header, bytes) => found |= P::is_sei(header) && (!end || carrier::read_sei(bytes).is_some()),
            Piece::Next(_) => {}
        });
    }
    found
}

/// The frame as an Annex B byte stream, without carriers.
pub(super) fn to_frame<P: Packing>(packing: &P, packets: &[Packet], info: &FrameInfo) -> Vec<u8> {
    let bytes: usize = packets.iter().map(|p| p.payload.len() + START_CODE.len()).sum();
    let mut out = Vec::with_capacity(bytes + 64);
    if may_carry(packing, packets) {
        let units = units(packing, packets, info).into_iter().filter(|unit| !is_carrier::<P>(unit));
        units.for_each(|unit| push_annex_b(&mut out, &[&unit]));
        return out;
    }
    for (index, packet) in packets.iter().enumerate() {
        if index == info.sets_at {
            info.missing_sets.iter().for_each(|set| push_annex_b(&mut out, &[set]));
        }
        // `complete` accepted every packet, so there is no error to handle.
        let _ = packing.each_piece(&packet.payload, &mut |piece, _| match piece {
            Piece::Whole(nal) => push_annex_b(&mut out, &[nal]),
            Piece::First(header, bytes) => push_annex_b(&mut out, &[header.as_ref(), bytes]),
            Piece::Next(bytes) => out.extend_from_slice(bytes),
        });
    }
    out
}

pub(super) fn push_annex_b(out: &mut Vec<u8>, unit: &[&[u8]]) {
    out.extend_from_slice(&START_CODE);
    unit.iter().for_each(|part| out.extend_from_slice(part));
}

/// The frame's own packets; only what exceeds the limits is cut anew.
pub(super) fn restamp<P: Packing>(packing: &P, packets: &[Packet], info: &FrameInfo, limits: Limits) -> Vec<Payload> {
    if packets.iter().any(|packet| packet.payload.len() > limits.rest) || may_carry(packing, packets) {
        // A sender with a larger MTU: cut the frame as a whole, or every packet would become two. Or one that is a bridge.
        return cut_units::<P>(units(packing, packets, info), limits);
    }
    let mut out = Vec::with_capacity(packets.len() + 2);
    for (index, packet) in packets.iter().enumerate() {
        if index == info.sets_at && !info.missing_sets.is_empty() {
            let limit = if out.is_empty() { limits.first } else { limits.rest };
            aggregate::<P>(&info.missing_sets, limit, limits.rest, &mut out);
        }
        let limit = if out.is_empty() { limits.first } else { limits.rest };
        let payload = packing.plain(&packet.payload);
        if payload.len() <= limit {
            out.push(Payload::whole(payload));
        } else {
            packing.cut_packet(&payload, limit, limits.rest, &mut out);
        }
    }
    out
}

/// The frame's NAL units, joined. What they hold is not looked at: a start code in one, which is no bitstream, splits none.
fn units<P: Packing>(packing: &P, packets: &[Packet], info: &FrameInfo) -> Vec<Bytes> {
    let mut bytes = Vec::with_capacity(packets.iter().map(|packet| packet.payload.len()).sum::<usize>() + 64);
    let mut begins = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        if index == info.sets_at {
            for set in &info.missing_sets {
                begins.push(bytes.len());
                bytes.extend_from_slice(set);
            }
        }
        let _ = packing.each_piece(&packet.payload, &mut |piece, _| {
            if !matches!(piece, Piece::Next(_)) {
                begins.push(bytes.len());
            }
            match piece {
                Piece::Whole(nal) => bytes.extend_from_slice(nal),
                Piece::First(header, rest) => [header.as_ref(), rest].iter().for_each(|b| bytes.extend_from_slice(b)),
                Piece::Next(rest) => bytes.extend_from_slice(rest),
            }
        });
    }
    let bytes = Bytes::from(bytes);
    let ends = begins.iter().skip(1).copied().chain([bytes.len()]);
    begins.iter().zip(ends).map(|(begin, end)| bytes.slice(*begin..end)).collect()
}

/// NAL units as fresh packets, without carriers. Slices never share one, nor does what follows them, so the marker packet
/// is no aggregate.
pub(super) fn cut_units<P: Packing>(units: impl IntoIterator<Item = Bytes>, limits: Limits) -> Vec<Payload> {
    let (mut out, mut small) = (Vec::new(), Vec::new());
    let mut sliced = false;
    for unit in units {
        if is_carrier::<P>(&unit) {
            continue;
        }
        if P::is_slice(&unit) {
            sliced = true;
            flush::<P>(&mut small, limits, &mut out);
            let limit = if out.is_empty() { limits.first } else { limits.rest };
            push_unit::<P>(unit, limit, limits.rest, &mut out);
        } else {
            small.push(unit);
        }
    }
    if sliced {
        small.drain(..).for_each(|unit| push_unit::<P>(unit, limits.rest, limits.rest, &mut out));
    }
    flush::<P>(&mut small, limits, &mut out);
    out
}

pub(super) fn push_unit<P: Packing>(unit: Bytes, first: usize, rest: usize, out: &mut Vec<Payload>) {
    if unit.len() <= first {
        out.push(Payload::whole(unit));
    } else {
        let body = unit.slice(header_bytes::<P>()..);
        push_fragments::<P>(P::header(&unit), &body, FU_START | FU_END, (first, rest), out);
    }
}

/// Fragments of one unit, or of a part of one. `limits`: of the first packet and of the others.
pub(super) fn push_fragments<P: Packing>(
    header: P::Header,
    body: &Bytes,
    marks: u8,
    (first, rest): (usize, usize),
    out: &mut Vec<Payload>,
) {
    // With both marks in one fragment it would be no fragment (RFC 6184 5.8, RFC 7798 4.4.3).
    let least = if marks == FU_START | FU_END { 2 } else { 1 };
    let own = size_of::<P::FragmentHeader>();
    for piece in pieces(body.len(), first - own, rest - own, least) {
        let start_mark = if piece.start == 0 { marks & FU_START } else { 0 };
        let end_mark = if piece.end == body.len() { marks & FU_END } else { 0 };
        let head = P::fragment_header(header, start_mark | end_mark);
        out.push(Payload::with_head(head.as_ref(), body.slice(piece)));
    }
}

fn flush<P: Packing>(small: &mut Vec<Bytes>, limits: Limits, out: &mut Vec<Payload>) {
    let limit = if out.is_empty() { limits.first } else { limits.rest };
    aggregate::<P>(small, limit, limits.rest, out);
    small.clear();
}

/// Units in as few packets as they fit: aggregated where two or more share one.
pub(super) fn aggregate<P: Packing>(units: &[Bytes], first: usize, rest: usize, out: &mut Vec<Payload>) {
    let (mut limit, mut at) = (first, 0);
    while at < units.len() {
        let mut bytes = header_bytes::<P>();
        let mut end = at;
        while end < units.len() && bytes + SIZE_BYTES + units[end].len() <= limit {
            bytes += SIZE_BYTES + units[end].len();
            end += 1;
        }
        if end - at >= 2 {
            out.push(Payload::whole(aggregated::<P>(&units[at..end], bytes)));
            at = end;
        } else {
            push_unit::<P>(units[at].clone(), limit, rest, out);
            at += 1;
        }
        limit = rest;
    }
}

fn aggregated<P: Packing>(units: &[Bytes], bytes: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes);
    out.put_slice(P::aggregate_header(units).as_ref());
    for unit in units {
        out.put_u16(unit.len() as u16); // fits: the packet is below the MTU
        out.put_slice(unit);
    }
    out.freeze()
}
