//! The OBU elements of AV1's packets (AOM "RTP Payload Format For AV1" 1.0, section 4.3 to 4.5): taken apart, and cut.
//!
//! ```text
//! |Z|Y| W |N|-|-|-|  [length] element  [length] element ...
//!  Z: the first one goes on from the packet before; Y: the last one goes on in the next; W: how many there are, and the
//!  last has no length, or 0: each has one (leb128); N: a coded video sequence begins
//! ```

use super::av1_syntax::{header_bytes, is_obu, leb128, leb128_bytes, push_leb128};
use super::{Limits, Payload};
use crate::core::Drop;
use bytes::Bytes;

pub(super) const GOES_ON: u8 = 0x80;
pub(super) const TO_BE_CONTINUED: u8 = 0x40;
pub(super) const COUNT: u8 = 0x30;
pub(super) const NEW_SEQUENCE: u8 = 0x08;

/// W has two bits.
const MOST_COUNTED: usize = 3;
/// An element is not begun at the end of a packet for less than these.
const LEAST_FRAGMENT: usize = 16;

/// One of a packet: an OBU, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub bytes: &'a [u8],
    /// The OBU's header is in it.
    pub begins: bool,
    pub ends: bool,
}

/// Walks over the elements of a packet; nothing is visited behind an error.
pub(super) fn each_element<'a>(payload: &'a [u8], each: &mut dyn FnMut(Element<'a>)) -> Result<(), Drop> {
    let (flags, mut rest) = payload.split_first().ok_or(Drop::MalformedPayload)?;
    let (goes_on, continued, count) = (flags & GOES_ON != 0, flags & TO_BE_CONTINUED != 0, usize::from(flags >> 4 & 3));
    if rest.is_empty() || goes_on && flags & NEW_SEQUENCE != 0 {
        return Err(Drop::MalformedPayload);
    }
    for index in 1.. {
        let with_length = count == 0 || index < count;
        let (len, at) = if with_length { leb128(rest).ok_or(Drop::MalformedPayload)? } else { (rest.len(), 0) };
        let (bytes, behind) = rest[at..].split_at_checked(len).ok_or(Drop::MalformedPayload)?;
        let last = if count == 0 { behind.is_empty() } else { index == count };
        let element = Element { bytes, begins: index > 1 || !goes_on, ends: !(last && continued) };
        if element.begins && !has_header(element) {
            return Err(Drop::MalformedPayload);
        }
        each(element);
        rest = behind;
        if last {
            break;
        }
    }
    Ok(())
}

/// A fragment may be as short as it likes, and even hold nothing, but for the byte that says what the OBU is.
fn has_header(element: Element<'_>) -> bool {
    element.bytes.first().is_some_and(|first| is_obu(*first))
        && (!element.ends || header_bytes(element.bytes[0]) <= element.bytes.len())
}

/// OBUs without their sizes, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub bytes: Vec<u8>,
    pub lens: Vec<usize>,
    /// What [`GOES_ON`], [`TO_BE_CONTINUED`] and [`NEW_SEQUENCE`] say of the first and the last.
    pub flags: u8,
}

impl Units {
    pub fn push(&mut self, parts: [&[u8]; 2]) {
        self.bytes.extend_from_slice(parts[0]);
        self.bytes.extend_from_slice(parts[1]);
        self.lens.push(parts[0].len() + parts[1].len());
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        self.lens.iter().map(move |len| {
            at += len;
            &self.bytes[at - len..at]
        })
    }

    /// In packets: one if they fit into it, else several, as [`super::equal_pieces`] are.
    pub fn cut(&self, limits: Limits, out: &mut Vec<Payload>) {
        let first = if out.is_empty() { limits.first } else { limits.rest };
        let in_front = limits.rest.saturating_sub(first);
        let fits = 1 + length_bytes(&self.lens) + self.bytes.len() <= first;
        // A length for each, and one more for the piece of it that ends a packet of four and more.
        let most: usize = in_front + self.lens.iter().map(|len| len + 2 * leb128_bytes(*len)).sum::<usize>();
        let room = limits.rest - 1;
        let least = in_front + LEAST_FRAGMENT * 2;
        let room = if fits { room } else { most.div_ceil(most.div_ceil(room)).max(least).min(room) };
        let mut packed = Vec::with_capacity(most + most / room + 8);
        let mut ends = Vec::with_capacity(most / room + 2);
        let mut place = Place { unit: 0, done: 0, at: 0 };
        while place.unit < self.lens.len() {
            let begun_in_front = if ends.is_empty() { self.flags & GOES_ON != 0 } else { place.done > 0 };
            let lens = self.fill(&mut place, if ends.is_empty() { room - in_front } else { room });
            let continued = place.done > 0 || place.unit == self.lens.len() && self.flags & TO_BE_CONTINUED != 0;
            let from = place.at - lens.iter().sum::<usize>();
            let new = if ends.is_empty() { self.flags & NEW_SEQUENCE } else { 0 };
            let flags = if begun_in_front { GOES_ON } else { 0 } | if continued { TO_BE_CONTINUED } else { 0 } | new;
            write(flags, &lens, &self.bytes[from..place.at], &mut packed);
            ends.push(packed.len());
        }
        let (packed, mut from) = (Bytes::from(packed), 0);
        for end in ends {
            out.push(Payload::whole(packed.slice(from..end)));
            from = end;
        }
    }

    /// How much of which units the next packet takes, behind its first byte.
    fn fill(&self, place: &mut Place, room: usize) -> Vec<usize> {
        let (mut taken, mut used) = (Vec::new(), 0);
        while place.unit < self.lens.len() {
            let left = self.lens[place.unit] - place.done;
            // The last one has no length, but where W cannot count them.
            let own_length = |len| if taken.len() < MOST_COUNTED { 0 } else { leb128_bytes(len) };
            if used + left + own_length(left) <= room {
                used += left + leb128_bytes(left);
                taken.push(left);
                place.at += left;
                (place.unit, place.done) = (place.unit + 1, 0);
                continue;
            }
            let piece = room.saturating_sub(used + own_length(room));
            if piece >= LEAST_FRAGMENT || taken.is_empty() {
                taken.push(piece);
                place.at += piece;
                place.done += piece;
            }
            break;
        }
        taken
    }
}

/// How far units are cut.
struct Place {
    unit: usize,
    /// Bytes of this unit.
    done: usize,
    /// Bytes of all.
    at: usize,
}

/// What the lengths of elements take in one packet.
fn length_bytes(lens: &[usize]) -> usize {
    let with_length = if lens.len() > MOST_COUNTED { lens.len() } else { lens.len().saturating_sub(1) };
    lens[..with_length].iter().map(|len| leb128_bytes(*len)).sum()
}

fn write(flags: u8, lens: &[usize], mut bytes: &[u8], out: &mut Vec<u8>) {
    let count = if lens.len() > MOST_COUNTED { 0 } else { lens.len() };
    out.push(flags | (count as u8) << 4);
    for (index, len) in lens.iter().enumerate() {
        if count == 0 || index + 1 < count {
            push_leb128(out, *len);
        }
        let (element, behind) = bytes.split_at(*len);
        out.extend_from_slice(element);
        bytes = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Told = Vec<(Vec<u8>, bool, bool)>;

    fn told(payload: &[u8]) -> Result<Told, Drop> {
        let mut out = Vec::new();
        each_element(payload, &mut |e| out.push((e.bytes.to_vec(), e.begins, e.ends)))?;
        Ok(out)
    }

    #[test]
    fn elements_are_found_in_every_layout() {
        let whole = |bytes: &[u8]| (bytes.to_vec(), true, true);
        let cases: [(&[u8], Told); 12] = [
            (&[0x10, 0x30, 1], vec![whole(&[0x30, 1])]),
            (&[0x00, 2, 0x30, 1], vec![whole(&[0x30, 1])]),
            (&[0x20, 1, 0x08, 0x30, 1], vec![whole(&[0x08]), whole(&[0x30, 1])]),
            (&[0x30, 1, 0x08, 2, 0x28, 9, 0x30], vec![whole(&[0x08]), whole(&[0x28, 9]), whole(&[0x30])]),
            (&[0x00, 1, 0x08, 1, 0x28, 1, 0x28, 1, 0x30], [[0x08], [0x28], [0x28], [0x30]].map(|b| whole(&b)).to_vec()),
            (&[0x50, 0x30, 1], vec![(vec![0x30, 1], true, false)]),
            (&[0xd0, 0xff], vec![(vec![0xff], false, false)]),
            (&[0x90, 0xff], vec![(vec![0xff], false, true)]),
            (&[0xe0, 1, 0xff, 0x30], vec![(vec![0xff], false, true), (vec![0x30], true, false)]),
            (&[0xc0, 1, 0xff, 1, 0x30], vec![(vec![0xff], false, true), (vec![0x30], true, false)]),
            (&[0xa0, 0, 0x30, 1], vec![(vec![], false, true), whole(&[0x30, 1])]),
            (&[0x00, 0x82, 0x00, 0x30, 1], vec![whole(&[0x30, 1])]), // a length that is longer than need be
        ];
        for (payload, want) in cases {
            assert_eq!(told(payload), Ok(want), "{payload:02x?}");
        }
    }

    #[test]
    fn malformed_packets_are_told() {
        let cases: [&[u8]; 13] = [
            &[],
            &[0x10],                // no element
            &[0x00, 3, 0x30, 1],    // a length beyond the end
            &[0x20, 3, 0x30, 1],    // the same in front of the last
            &[0x20, 2, 0x30, 1],    // two announced, one there
            &[0x30, 1, 0x08, 0x81], // a length without its end
            &[0x00, 0x80],          // the same, alone
            &[0x98, 0x30, 1],       // a sequence begins, and an OBU goes on
            &[0x10, 0x80],          // forbidden bit
            &[0x10, 0x34],          // an extension without its byte
            &[0x00, 0],             // an OBU of nothing
            &[0x00, 1, 0x30, 0],    // the same behind another
            &[0x60, 1, 0x08],       // one begins with nothing
        ];
        for payload in cases {
            assert_eq!(told(payload), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
    }

    fn units(lens: &[usize], flags: u8) -> Units {
        let mut units = Units { flags, ..Units::default() };
        lens.iter().for_each(|len| units.push([&[0x30], &vec![*len as u8; *len - 1]]));
        units
    }

    fn cut(units: &Units, limits: Limits) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        units.cut(limits, &mut out);
        out.iter().map(|payload| payload.parts().concat()).collect()
    }

    #[test]
    fn what_fits_is_one_packet_and_the_last_element_has_no_length() {
        let limits = Limits { first: 100, rest: 120 };
        assert_eq!(cut(&units(&[3], NEW_SEQUENCE), limits), [[0x18, 0x30, 3, 3]]);
        assert_eq!(cut(&units(&[1, 3], 0), limits), [[0x20, 1, 0x30, 0x30, 3, 3]]);
        assert_eq!(cut(&units(&[1, 1, 2], 0), limits), [[0x30, 1, 0x30, 1, 0x30, 0x30, 2]]);
        assert_eq!(cut(&units(&[1, 1, 1, 2], 0), limits), [[0, 1, 0x30, 1, 0x30, 1, 0x30, 2, 0x30, 2]], "W = 0");
        let flags = GOES_ON | TO_BE_CONTINUED;
        assert_eq!(cut(&units(&[1, 3], flags), limits), [[0xe0, 1, 0x30, 0x30, 3, 3]], "a packet's own pieces stay");
        assert_eq!(cut(&units(&[99], 0), limits)[0].len(), 100);
    }

    #[test]
    fn what_does_not_fit_is_cut_into_packets_alike() {
        let limits = Limits { first: 100, rest: 120 };
        let packets = cut(&units(&[100], NEW_SEQUENCE), limits);
        assert_eq!(packets.iter().map(|packet| packet[0]).collect::<Vec<_>>(), [0x58, 0x90], "N on the first alone");
        let sizes: Vec<usize> = cut(&units(&[11, 900], 0), limits).iter().map(Vec::len).collect();
        assert_eq!(sizes.len(), 8);
        assert!(sizes[1..7].iter().all(|size| *size == sizes[0] + 20) && sizes[7] * 2 > sizes[0], "{sizes:?}");
    }

    #[test]
    fn no_element_is_begun_for_a_few_bytes() {
        let packets = cut(&units(&[40, 60], 0), Limits { first: 60, rest: 60 });
        assert_eq!(packets[0], [&[0x10, 0x30][..], &[40; 39]].concat());
    }

    proptest! {
        #[test]
        fn walking_over_anything_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = told(&payload);
        }

        #[test]
        fn what_is_cut_fits_and_comes_back(lens in proptest::collection::vec(1usize..400, 1..12), first in 40usize..200,
                                           more in 0usize..30, goes_on: bool, continued: bool) {
            let flags = if goes_on { GOES_ON } else { NEW_SEQUENCE } | if continued { TO_BE_CONTINUED } else { 0 };
            let (units, limits) = (units(&lens, flags), Limits { first, rest: first + more });
            let packets = cut(&units, limits);
            let mut back: Vec<Vec<u8>> = Vec::new();
            let mut open = goes_on;
            for (i, packet) in packets.iter().enumerate() {
                let limit = if i == 0 { limits.first } else { limits.rest };
                prop_assert!(packet.len() <= limit);
                prop_assert_eq!(packet[0] & NEW_SEQUENCE != 0, i == 0 && !goes_on);
                for (bytes, begins, ends) in told(packet).unwrap() {
                    prop_assert_eq!(open, !begins);
                    prop_assert!(!bytes.is_empty());
                    if begins || back.is_empty() { back.push(bytes) } else { back.last_mut().unwrap().extend(bytes) }
                    open = !ends;
                }
            }
            prop_assert_eq!(open, continued);
            prop_assert_eq!(back, units.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
        }
    }
}
