//! RTP header extensions (RFC 8285) and the 16-byte element of AuraLink.
//!
//! ```text
//! |       0xBE    |    0xDE       |         length = 5 words      |
//! |  ID   | L=15  |   version 1   |  ratio saved, 1/1000          |
//! |  quality, 1/1000              |  model hash                   :
//! :                               |   flags       |  reserved ... |
//! ```

use bytes::{BufMut, BytesMut};

/// The element's 16 bytes, without its RFC 8285 header byte.
pub type Value = [u8; VALUE_BYTES];

pub const VALUE_BYTES: usize = 16;

const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;
const MAX_ONE_BYTE_ID: u8 = 14;
const MAX_ONE_BYTE_VALUE: usize = 16;
const VERSION: u8 = 1;
const QUALITY_FULL: u16 = 1000;
const FLAGS_AT: usize = 9;

pub const FLAG_FALLBACK: u8 = 0x01;
pub const FLAG_KEY: u8 = 0x02;
pub const FLAG_SWITCH: u8 = 0x04;
pub const FLAG_DEGRADED: u8 = 0x20;
/// What the core knows better than the caller of `submit`.
const FLAGS_OF_CORE: u8 = FLAG_FALLBACK | FLAG_KEY | FLAG_SWITCH;

/// The value of a frame that the core sends native by itself: nothing saved, full quality, no model.
pub fn native(degraded: bool) -> Value {
    let mut value = [0; 16];
    value[0] = VERSION;
    value[3..5].copy_from_slice(&QUALITY_FULL.to_be_bytes());
    value[FLAGS_AT] = if degraded { FLAG_DEGRADED } else { 0 };
    value
}

/// Sets the flags that depend on how the frame leaves, whoever made the rest.
pub fn set_flags(value: &mut Value, fallback: bool, key: bool, switched: bool) {
    let mut flags = value[FLAGS_AT] & !FLAGS_OF_CORE;
    for (set, flag) in [(fallback, FLAG_FALLBACK), (key, FLAG_KEY), (switched, FLAG_SWITCH)] {
        flags |= if set { flag } else { 0 };
    }
    value[FLAGS_AT] = flags;
}

/// Whether all of it fits the one-byte form; else the whole packet has the two-byte form (RFC 8285 section 4.1.2).
fn one_byte(elements: &[(u8, &[u8])]) -> bool {
    let fits = |(id, value): &(u8, &[u8])| *id <= MAX_ONE_BYTE_ID && (1..=MAX_ONE_BYTE_VALUE).contains(&value.len());
    elements.iter().all(fits)
}

/// Bytes of a header extension with these elements; 0 without any.
pub fn bytes(elements: &[(u8, &[u8])]) -> usize {
    if elements.is_empty() {
        return 0;
    }
    let header = if one_byte(elements) { 1 } else { 2 };
    4 + elements.iter().map(|(_, value)| header + value.len()).sum::<usize>().next_multiple_of(4)
}

/// A header extension with these elements (ids from 1 on, values of at most 255 bytes), in the one-byte form if it can be.
pub fn write(out: &mut BytesMut, elements: &[(u8, &[u8])]) {
    let (one_byte, end) = (one_byte(elements), out.len() + bytes(elements));
    out.put_u16(if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE });
    out.put_u16((bytes(elements) / 4 - 1) as u16);
    for (id, value) in elements {
        if one_byte {
            out.put_u8(id << 4 | (value.len() - 1) as u8);
        } else {
            out.put_slice(&[*id, value.len() as u8]);
        }
        out.put_slice(value);
    }
    out.resize(end, 0);
}

/// The elements of a header extension with their ids, in either form. Ends where they overrun it.
pub fn each(profile: u16, body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let one_byte = profile == ONE_BYTE_PROFILE;
    let known = one_byte || (TWO_BYTE_PROFILE..=0x100f).contains(&profile);
    let mut rest = if known { body } else { &[] };
    std::iter::from_fn(move || {
        while let [0, behind @ ..] = rest {
            rest = behind; // padding
        }
        let first = *rest.first()?;
        let (id, len, start) = if one_byte {
            (first >> 4, usize::from(first & 0x0f) + 1, 1)
        } else {
            (first, usize::from(*rest.get(1)?), 2)
        };
        if one_byte && id > MAX_ONE_BYTE_ID {
            rest = &[];
            return None; // RFC 8285 section 4.2: stop
        }
        let Some(value) = rest.get(start..start + len) else {
            rest = &[];
            return None;
        };
        rest = &rest[start + len..];
        Some((id, value))
    })
}

/// The bytes of element `id`. None if absent or overrun.
pub fn find(profile: u16, body: &[u8], id: u8) -> Option<&[u8]> {
    each(profile, body).find(|(element, _)| *element == id).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ratio 0.4, quality 0.92, model `encodec`.
    const VECTOR: Value = [0x01, 0x01, 0x90, 0x03, 0x98, 0xa0, 0x31, 0x85, 0x0d, 0, 0, 0, 0, 0, 0, 0];

    /// Rule 18.
    #[test]
    fn alone_with_id_14_it_is_the_24_bytes_of_the_vector() {
        let mut out = BytesMut::new();
        write(&mut out, &[(14, &VECTOR)]);
        let mut want = vec![0xbe, 0xde, 0x00, 0x05, 0xef];
        want.extend(VECTOR);
        want.extend([0, 0, 0]);
        assert_eq!(out, want);
        assert_eq!(out.len(), bytes(&[(14, &VECTOR)]));
    }

    /// Rule 18: an id above 14, a value above 16 bytes and an empty one take all elements into the two-byte form.
    #[test]
    fn what_does_not_fit_one_byte_headers_puts_the_packet_into_the_two_byte_form() {
        for (id, value) in [(15, &[7u8; 2][..]), (3, &[7; 17]), (3, &[])] {
            let mut out = BytesMut::new();
            write(&mut out, &[(14, &VECTOR), (id, value)]);
            assert_eq!(out[..2], [0x10, 0x00]);
            assert_eq!(out[4..6], [14, 16]);
            assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) * 4 + 4, out.len());
            assert_eq!(each(0x1000, &out[4..]).collect::<Vec<_>>(), [(14, &VECTOR[..]), (id, value)]);
        }
    }

    #[test]
    fn a_native_value_says_nothing_saved_and_full_quality() {
        let mut value = native(true);
        set_flags(&mut value, true, true, true);
        assert_eq!(value, [1, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x27, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_core_replaces_its_own_flags_and_keeps_the_others() {
        let mut value = VECTOR;
        value[9] = 0xff;
        set_flags(&mut value, false, true, false);
        assert_eq!(value[9], 0xfa);
    }

    /// Rule 18.
    #[test]
    fn id_15_stops_and_zero_pads() {
        assert_eq!(find(0xbede, &[0, 0, 0x10, 0xaa], 1), Some(&[0xaa][..]));
        assert_eq!(find(0xbede, &[0xf0, 0xaa, 0x10, 0xbb], 1), None);
    }

    #[test]
    fn the_two_byte_form_is_read_too() {
        assert_eq!(find(0x1000, &[3, 0, 14, 2, 7, 8], 14), Some(&[7, 8][..]));
    }

    proptest! {
        /// Rule 18.
        #[test]
        fn elements_come_back_as_they_were_written(elements in proptest::collection::vec(
                (prop_oneof![1u8..15, 1u8..=255], proptest::collection::vec(any::<u8>(), 1..40)), 1..5)) {
            let elements: Vec<(u8, &[u8])> = elements.iter().map(|(id, value)| (*id, &value[..])).collect();
            let mut out = BytesMut::new();
            write(&mut out, &elements);
            prop_assert_eq!(out.len(), bytes(&elements));
            prop_assert_eq!(out.len() % 4, 0);
            let profile = u16::from_be_bytes([out[0], out[1]]);
            prop_assert_eq!(each(profile, &out[4..]).collect::<Vec<_>>(), elements);
        }

        #[test]
        fn finding_never_panics(profile in prop_oneof![Just(0xbedeu16), Just(0x1000), any::<u16>()], id in 0u8..16,
                                body in proptest::collection::vec(any::<u8>(), 0..40)) {
            find(profile, &body, id);
        }
    }
}
