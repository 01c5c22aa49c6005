//! The payload descriptor of VP9 (RFC 9628 section 4.2), read with all its bounds.
//!
//! ```text
//!               |I|P|L|F|B|E|V|Z|      P: refers to earlier pictures, B, E: a layer's frame begins, ends
//!        if I   |M| PictureID   |      and eight bits more if M
//!        if L   |TID|U| SID |D  |      temporal and spatial layer
//! if L, not F   |   TL0PICIDX   |
//!  if P and F   |   P_DIFF    |N|      up to three, as long as N
//!        if V   |N_S|Y|G|-|-|-|        scalability structure, then
//!                 if Y   | WIDTH, HEIGHT |   16 bits each, for N_S + 1 layers
//!                 if G   |N_G| and for each of N_G  |TID|U| R |-|-|  | P_DIFF | R times
//! ```

use crate::core::be16;
use crate::core::numbers::{Id, Numbered, Slots};

pub(super) const HAS_ID: u8 = 0x80;
pub(super) const INTER: u8 = 0x40;
pub(super) const LAYERS: u8 = 0x20;
pub(super) const FLEXIBLE: u8 = 0x10;
pub(super) const BEGINS: u8 = 0x08;
pub(super) const ENDS: u8 = 0x04;
pub(super) const STRUCTURE: u8 = 0x02;
const SIZES: u8 = 0x10;
const GROUP: u8 = 0x08;
const MAX_REFERENCES: usize = 3;

pub(super) struct Descriptor {
    pub len: usize,
    /// Where the scalability structure begins; `len` without one.
    pub structure: usize,
    pub flags: u8,
    pub numbers: Numbered,
    pub slots: Slots,
    /// Spatial layer.
    pub sid: u8,
}

impl Descriptor {
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// None: not well formed, or nothing behind it.
pub(super) fn descriptor(payload: &[u8]) -> Option<Descriptor> {
    parse(payload).filter(|descriptor| descriptor.len < payload.len())
}

/// The descriptor that `bytes` begin with.
pub(super) fn parse(bytes: &[u8]) -> Option<Descriptor> {
    let flags = *bytes.first()?;
    let (mut at, mut slots, mut sid) = (1, Slots::default(), 0);
    let mut numbers = Numbered { by_distance: true, ..Numbered::default() };
    if flags & HAS_ID != 0 {
        let id = Id::read(bytes.get(at..)?)?;
        (numbers.id, slots.id) = (Some(id), at as u8);
        at += id.bytes();
    }
    // Without a PictureID receivers ignore F, for there is nothing to be distant from.
    let flexible = flags & FLEXIBLE != 0 && flags & HAS_ID != 0;
    if flags & LAYERS != 0 {
        let layer = *bytes.get(at)?;
        (numbers.tid, sid) = (Some(layer >> 5), layer >> 1 & 7);
        at += 1;
        if !flexible {
            (numbers.tl0, slots.tl0) = (Some(*bytes.get(at)?), at as u8);
            at += 1;
        }
    }
    if flexible && flags & INTER != 0 {
        at += references(bytes.get(at..)?)?;
    }
    let structure = at;
    if flags & STRUCTURE != 0 {
        at += structure_bytes(bytes.get(at..)?)?;
    }
    Some(Descriptor { len: at, structure, flags, numbers, slots, sid })
}

/// How many distances stand there.
fn references(bytes: &[u8]) -> Option<usize> {
    let last = bytes.iter().take(MAX_REFERENCES).position(|distance| distance & 1 == 0)?;
    Some(last + 1)
}

/// How long a scalability structure is; None if it ends early.
fn structure_bytes(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let mut at = 1;
    if first & SIZES != 0 {
        at += 4 * (usize::from(first >> 5) + 1);
    }
    if first & GROUP != 0 {
        let pictures = *bytes.get(at)?;
        at += 1;
        for _ in 0..pictures {
            at += 1 + usize::from(bytes.get(at)? >> 2 & 3);
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// The size of spatial layer `sid`, where a structure tells it.
pub(super) fn layer_size(structure: &[u8], sid: u8) -> Option<(u32, u32)> {
    let first = *structure.first()?;
    let at = 1 + 4 * usize::from(sid);
    if first & SIZES == 0 || sid > first >> 5 || structure.len() < at + 4 {
        return None;
    }
    Some((u32::from(be16(structure, at)), u32::from(be16(structure, at + 2))))
}

/// The structure of a stream with one layer, where each picture refers to the one before.
pub(super) fn one_layer((width, height): (u32, u32)) -> [u8; 8] {
    let ([w1, w0], [h1, h0]) = ((width as u16).to_be_bytes(), (height as u16).to_be_bytes());
    [SIZES | GROUP, w1, w0, h1, h0, 1, 1 << 2, 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u16, wide: bool) -> Option<Id> {
        Some(Id { number, wide })
    }

    #[test]
    fn every_field_is_read_where_the_flags_say() {
        type Case = (&'static [u8], usize, usize, Option<Id>, Option<u8>, Option<u8>, u8);
        let cases: [Case; 9] = [
            (&[0x0c, 9], 1, 1, None, None, None, 0),
            (&[0x8c, 0x05, 9], 2, 2, id(5, false), None, None, 0),
            (&[0x8c, 0x85, 0x01, 9], 3, 3, id(0x501, true), None, None, 0),
            (&[0xac, 0x85, 0x01, 0x45, 0x07, 9], 5, 5, id(0x501, true), Some(7), Some(2), 2),
            (&[0xbc, 0x85, 0x01, 0x45, 9], 4, 4, id(0x501, true), None, Some(2), 2), // flexible key
            (&[0xfc, 0x05, 0x20, 0x03, 0x05, 0x06, 9], 6, 6, id(5, false), None, Some(1), 0), // three distances
            (&[0x7c, 0x20, 0x08, 9], 3, 3, None, Some(8), Some(1), 0),               // F without I is no F
            (&[0x0e, 0x00, 9], 2, 1, None, None, None, 0),
            (&[0x0e, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x48, 1, 2, 9], 16, 1, None, None, None, 0),
        ];
        for (payload, len, structure, id, tl0, tid, sid) in cases {
            let d = descriptor(payload).unwrap();
            assert_eq!((d.len, d.structure, d.sid), (len, structure, sid), "{payload:02x?}");
            assert_eq!((d.numbers.id, d.numbers.tl0, d.numbers.tid), (id, tl0, tid), "{payload:02x?}");
        }
    }

    #[test]
    fn what_ends_early_is_no_descriptor() {
        let cases: [&[u8]; 12] = [
            &[],
            &[0x0c],                      // nothing behind it
            &[0x80],                      // I
            &[0x80, 0x80],                // half of 15 bits
            &[0xa0, 1],                   // L
            &[0xa0, 1, 0],                // TL0PICIDX
            &[0xd0, 1],                   // P_DIFF
            &[0xd0, 1, 3, 5],             // more of them announced
            &[0xd0, 1, 3, 5, 7, 9, 9, 9], // and more than three
            &[0x02],                      // V
            &[0x02, 0x30, 1, 2, 3, 4, 5], // half a size
            &[0x02, 0x08, 2, 0x0c, 1, 2], // a picture without its references
        ];
        for payload in cases {
            assert!(descriptor(payload).is_none(), "{payload:02x?}");
        }
    }

    #[test]
    fn a_structure_of_our_own_reads_back() {
        let ours = one_layer((1280, 720));
        assert_eq!(structure_bytes(&ours), Some(ours.len()));
        assert_eq!(layer_size(&ours, 0), Some((1280, 720)));
        assert_eq!(layer_size(&ours, 1), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_all_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 0..60), sid: u8) {
            if let Some(d) = descriptor(&bytes) {
                prop_assert!(d.structure <= d.len && d.len < bytes.len());
                prop_assert!(usize::from(d.slots.id.max(d.slots.tl0)) < d.structure);
                layer_size(&bytes[d.structure..d.len], sid);
            }
        }
    }
}
