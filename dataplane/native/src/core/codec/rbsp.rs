//! What the bitstreams of H.264 and H.265 have in common: fields behind emulation prevention, Exp-Golomb numbers and the
//! byte stream of annex B. Input is untrusted; whatever cannot be read is None.

use crate::core::bits::Bits;
use std::ops::Range;

/// Enough of a NAL unit to read what is wanted of it.
const READ_BYTES: usize = 256;

/// Bits of a NAL unit's payload, emulation prevention removed (H.264 7.4.1, H.265 7.4.2.2).
pub(super) type Rbsp = Bits<Vec<u8>>;

pub(super) fn rbsp(payload: &[u8]) -> Rbsp {
    Bits::new(unescaped(payload))
}

/// As much of it as is read.
pub(in crate::core) fn unescaped(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len().min(READ_BYTES));
    let mut zeros = 0;
    for &b in payload.iter().take(READ_BYTES) {
        if zeros >= 2 && b == 3 {
            zeros = 0;
            continue;
        }
        zeros = if b == 0 { zeros + 1 } else { 0 };
        bytes.push(b);
    }
    bytes
}

/// With emulation prevention, behind a byte that is not zero.
pub(in crate::core) fn escaped(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() * 3 / 2);
    let mut zeros = 0;
    for &b in payload {
        if zeros >= 2 && b <= 3 {
            bytes.push(3);
            zeros = 0;
        }
        zeros = if b == 0 { zeros + 1 } else { 0 };
        bytes.push(b);
    }
    bytes
}

impl Rbsp {
    /// ue(v), H.264 9.1, H.265 9.2.
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.read(zeros)?)
    }

    /// se(v).
    pub(super) fn se(&mut self) -> Option<i32> {
        let k = i64::from(self.ue()?);
        i32::try_from(if k % 2 == 1 { (k + 1) / 2 } else { -k / 2 }).ok()
    }
}

/// The NAL units of an Annex B byte stream (annex B.1), as ranges without start codes and trailing zeros.
pub(super) fn annex_b_units(data: &[u8]) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    let mut begin = None;
    let mut at = 0;
    while at + 3 <= data.len() {
        if let Some(eight) = data[at..].first_chunk()
            && !has_zero(*eight)
        {
            at += 8; // no start code begins in them
            continue;
        }
        match data[at + 2] {
            1 if data[at] == 0 && data[at + 1] == 0 => {
                push_unit(&mut units, data, begin, at);
                begin = Some(at + 3);
                at += 3;
            }
            0 => at += 1,
            1 => at += 1,
            _ => at += 3,
        }
    }
    push_unit(&mut units, data, begin, data.len());
    units
}

/// Whether one of the bytes is zero: below 1, and its highest bit not set before.
fn has_zero(eight: [u8; 8]) -> bool {
    let word = u64::from_ne_bytes(eight);
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080 != 0
}

fn push_unit(units: &mut Vec<Range<usize>>, data: &[u8], begin: Option<usize>, end: usize) {
    let Some(begin) = begin else { return };
    let mut end = end;
    while end > begin && data[end - 1] == 0 {
        end -= 1;
    }
    if end > begin {
        units.push(begin..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_huge_parameter_set_is_read_no_further_than_its_beginning() {
        assert!(unescaped(&vec![0xff; 2 << 20]).len() <= READ_BYTES);
    }

    #[test]
    fn emulation_prevention_is_no_part_of_a_field() {
        let mut bits = rbsp(&[0, 0, 3, 1, 0, 3, 0, 0, 3]);
        assert_eq!(bits.read(32), Some(0x0000_0100));
        assert_eq!(bits.read(24), Some(0x03_00_00), "a 3 behind one zero stays");
        assert_eq!(bits.read(1), None);
    }

    #[test]
    fn units_are_found_behind_start_codes_of_both_lengths() {
        let data = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0];
        let units: Vec<&[u8]> = annex_b_units(&data).into_iter().map(|r| &data[r]).collect();
        assert_eq!(units, [&[9u8, 0xf0][..], &[0x67, 1], &[0x68]]);
    }

    proptest! {
        #[test]
        fn whatever_is_split_units_are_not_empty(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for unit in annex_b_units(&bytes) {
                prop_assert!(!bytes[unit].is_empty());
            }
        }

        #[test]
        fn units_come_back_as_they_were_joined(units in proptest::collection::vec(proptest::collection::vec(2u8.., 1..20), 1..8)) {
            let mut data = Vec::new();
            for unit in &units {
                data.extend([0, 0, 0, 1]);
                data.extend(unit);
            }
            let found: Vec<Vec<u8>> = annex_b_units(&data).into_iter().map(|r| data[r].to_vec()).collect();
            prop_assert_eq!(found, units);
        }
    }
}
