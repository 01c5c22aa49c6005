//! What of AV1's bitstream tells keys, sizes and the units of one picture ("AV1 Bitstream & Decoding Process
//! Specification", sections 4.10.5, 5.3, 5.5 and 5.9.2).
//!
//! ```text
//! OBU header            |0| type |X|S|-|      X: an extension byte follows, S: a size (leb128) follows both
//!            if X       |TID|SID|-|
//! sequence header       | profile | still | reduced | timing ... | operating points ... | bits of width and height |
//!                       | greatest width - 1 | greatest height - 1 |
//! frame header          | shows an old one | type, 0: key | shown |
//! ```

use crate::core::bits::Bits;

pub(super) const SEQUENCE_HEADER: u8 = 1;
pub(super) const TEMPORAL_DELIMITER: u8 = 2;
pub(super) const FRAME_HEADER: u8 = 3;
pub(super) const METADATA: u8 = 5;
pub(super) const TILE_LIST: u8 = 8;
pub(super) const FRAME: u8 = 6;
pub(super) const PADDING: u8 = 15;

const FORBIDDEN: u8 = 0x80;
const EXTENSION: u8 = 0x04;
pub(super) const HAS_SIZE: u8 = 0x02;

const KEY_FRAME: u32 = 0;
/// A size takes eight bytes at most and stays below 2^32 (4.10.5).
const MAX_LEB128_BYTES: usize = 8;

/// More of a sequence header than its size ever lies behind: 32 operating points of 89 bits, and 228 around them.
pub(super) const SEQUENCE_HEADER_BYTES: usize = 385;

pub(super) fn obu_type(header: u8) -> u8 {
    header >> 3 & 15
}

pub(super) fn is_obu(header: u8) -> bool {
    header & FORBIDDEN == 0
}

/// Bytes of an OBU header, without a size.
pub(super) fn header_bytes(header: u8) -> usize {
    if header & EXTENSION != 0 { 2 } else { 1 }
}

/// Temporal and spatial layer, 0 without the extension.
pub(super) fn layers(header: &[u8]) -> (u8, u8) {
    header.get(1).map_or((0, 0), |extension| (extension >> 5, extension >> 3 & 3))
}

/// What RTP does not carry: the packets say where a temporal unit ends, tile lists are excluded, padding is nothing.
pub(super) fn is_left_out(header: u8) -> bool {
    matches!(obu_type(header), TEMPORAL_DELIMITER | TILE_LIST | PADDING)
}

/// A number and the bytes it takes.
pub(super) fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(MAX_LEB128_BYTES).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()? as usize, i + 1));
        }
    }
    None
}

pub(super) fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn leb128_bytes(value: usize) -> usize {
    value.max(1).ilog2() as usize / 7 + 1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub width: u32,
    pub height: u32,
    /// Every frame is a key, and its header does not say so.
    pub reduced: bool,
}

/// Reads a sequence header behind its OBU header; [`SEQUENCE_HEADER_BYTES`] of it are enough.
pub(super) fn sequence(payload: &[u8]) -> Option<Sequence> {
    let mut bits = Bits::new(payload);
    bits.read(3 + 1)?; // profile, still picture
    let reduced = bits.flag()?;
    if reduced {
        bits.read(5)?;
    } else {
        skip_operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
    Some(Sequence { width: bits.read(width_bits)? + 1, height: bits.read(height_bits)? + 1, reduced })
}

fn skip_operating_points(bits: &mut Bits<&[u8]>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.read(32)?;
        bits.read(32)?;
        if bits.flag()? {
            skip_uvlc(bits)?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.read(5)? + 1);
            bits.read(32)?;
            bits.read(5 + 5)?;
        }
    }
    let with_display_delay = bits.flag()?;
    for _ in 0..bits.read(5)? + 1 {
        bits.read(12)?;
        if bits.read(5)? > 7 {
            bits.read(1)?; // tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.read(delay_bits)?;
            bits.read(delay_bits)?;
            bits.read(1)?;
        }
        if with_display_delay && bits.flag()? {
            bits.read(4)?;
        }
    }
    Some(())
}

/// 4.10.3: as many bits behind the first 1 as zeros in front of it.
fn skip_uvlc(bits: &mut Bits<&[u8]>) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
    }
    if zeros < 32 {
        bits.read(zeros)?;
    }
    Some(())
}

/// Of a frame header's first byte: is it a key that is shown? `reduced`: see [`Sequence`].
pub(super) fn is_shown_key(first: u8, reduced: bool) -> bool {
    let (shows_an_old_one, kind, shown) = (first & 0x80 != 0, u32::from(first >> 5 & 3), first & 0x10 != 0);
    reduced || !shows_an_old_one && kind == KEY_FRAME && shown
}

/// An OBU of a low-overhead stream (5.2): its header without the size, and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obu<'a> {
    pub header: &'a [u8],
    pub payload: &'a [u8],
}

/// An OBU's header, its size if it tells one, and what is behind both.
pub(super) fn opened(bytes: &[u8]) -> Option<(&[u8], Option<usize>, &[u8])> {
    let first = *bytes.first().filter(|first| is_obu(**first))?;
    let (header, rest) = bytes.split_at_checked(header_bytes(first))?;
    if first & HAS_SIZE == 0 {
        return Some((header, None, rest));
    }
    let (size, at) = leb128(rest)?;
    Some((header, Some(size), &rest[at..]))
}

/// Reads the OBU in front, and what is behind it. One without a size takes all there is.
pub(super) fn obu(bytes: &[u8]) -> Option<(Obu<'_>, &[u8])> {
    let (header, size, rest) = opened(bytes)?;
    let (payload, behind) = rest.split_at_checked(size.unwrap_or(rest.len()))?;
    Some((Obu { header, payload }, behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes bit by bit, what `Bits` reads.
    fn packed(fields: &[(u32, u32)]) -> Vec<u8> {
        let bits: Vec<u8> =
            fields.iter().flat_map(|(value, n)| (0..*n).rev().map(move |i| (value >> i & 1) as u8)).collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << (7 - i))).collect()
    }

    /// 10 and 9 bits for 640 x 360, as an encoder writes them.
    const SIZE: [(u32, u32); 4] = [(9, 4), (8, 4), (639, 10), (359, 9)];
    const WANT: Sequence = Sequence { width: 640, height: 360, reduced: false };

    #[test]
    fn the_size_is_found_behind_whatever_the_flags_announce() {
        let plain = [(0, 3 + 1 + 1), (0, 1), (0, 1), (0, 5), (0, 12), (4, 5)];
        let tier = [(0, 3 + 1 + 1), (0, 1), (0, 1), (0, 5), (0, 12), (8, 5), (1, 1)];
        let reduced = [(0, 3), (3, 2), (4, 5)];
        // timing with two zeros of uvlc, a model of 3 bits, display delay, two operating points of which one has both
        let all = [
            (0, 3 + 1 + 1),
            (1, 1),
            (u32::MAX, 32),
            (90_000, 32),
            (1, 1),
            (0b0_0101, 5),
            (1, 1),
            (2, 5),
            (7, 32),
            (0, 10),
            (1, 1),
            (1, 5),
            (0x101, 12),
            (9, 5),
            (0, 1),
            (1, 1),
            (5, 3),
            (6, 3),
            (1, 1),
            (1, 1),
            (9, 4),
            (0x103, 12),
            (3, 5),
            (0, 1),
            (0, 1),
        ];
        for (front, reduced) in [(&plain[..], false), (&tier, false), (&reduced, true), (&all, false)] {
            let bytes = packed(&[front, &SIZE].concat());
            assert_eq!(sequence(&bytes), Some(Sequence { reduced, ..WANT }));
            for end in 0..bytes.len() - 1 {
                assert_eq!(sequence(&bytes[..end]), None, "{end} bytes");
            }
        }
    }

    #[test]
    fn the_longest_sequence_header_fits_into_what_is_kept_of_it() {
        let mut fields =
            vec![(0, 5), (1, 1), (0, 32), (0, 32), (1, 1), (1, 32), (0, 31), (1, 1), (31, 5), (0, 32), (0, 10)];
        fields.extend([(1, 1), (31, 5)]);
        for _ in 0..32 {
            fields.extend([(0, 12), (31, 5), (1, 1), (1, 1), (1, 32), (1, 32), (1, 1), (1, 1), (15, 4)]);
        }
        fields.extend([(15, 4), (15, 4), (65_535, 16), (65_535, 16)]);
        let bytes = packed(&fields);
        assert_eq!(sequence(&bytes), Some(Sequence { width: 65_536, height: 65_536, reduced: false }));
        assert!(bytes.len() <= SEQUENCE_HEADER_BYTES, "{} bytes", bytes.len());
    }

    #[test]
    fn a_key_is_one_that_is_shown_and_new() {
        for (first, key) in [(0x10, true), (0x00, false), (0x30, false), (0x50, false), (0x90, false), (0xff, false)] {
            assert_eq!(is_shown_key(first, false), key, "{first:02x}");
        }
        assert!(is_shown_key(0xff, true));
    }

    #[test]
    fn sizes_are_read_as_they_are_written_and_have_a_bound() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 28, u32::MAX as usize] {
            let mut bytes = Vec::new();
            push_leb128(&mut bytes, value);
            assert_eq!((leb128(&bytes), leb128_bytes(value)), (Some((value, bytes.len())), bytes.len()));
        }
        assert_eq!(leb128(&[0x85, 0x80, 0x00]), Some((5, 3)), "longer than need be");
        for bytes in [&[][..], &[0x80], &[0x80; 8], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            assert_eq!(leb128(bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn units_stand_one_behind_the_other() {
        let (one, rest) = obu(&[0x0a, 2, 7, 8, 0x36, 0x68, 1, 9, 0x30, 5]).unwrap();
        assert_eq!((one, rest), (Obu { header: &[0x0a], payload: &[7, 8] }, &[0x36, 0x68, 1, 9, 0x30, 5][..]));
        let (two, rest) = obu(rest).unwrap();
        assert_eq!((two, rest), (Obu { header: &[0x36, 0x68], payload: &[9] }, &[0x30, 5][..]));
        assert_eq!(obu(rest), Some((Obu { header: &[0x30], payload: &[5] }, &[][..])), "no size: to the end");
        for bytes in [&[][..], &[0x8a, 0], &[0x0a], &[0x0a, 1], &[0x34], &[0x36, 0]] {
            assert_eq!(obu(bytes), None, "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            sequence(&bytes);
            leb128(&bytes);
            let mut rest = &bytes[..];
            while let Some((_, behind)) = obu(rest).filter(|_| !rest.is_empty()) {
                prop_assert!(behind.len() < rest.len());
                rest = behind;
            }
        }
    }
}
