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
pub type Value = [u8; 16];

/// What [`write_alone`] appends: 4 of extension header, 1 of element header, 16, 3 of padding.
pub const ALONE_BYTES: usize = 24;

const ONE_BYTE_PROFILE: u16 = 0xbede;
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

/// An extension that holds this element only, in the one-byte form.
pub fn write_alone(out: &mut BytesMut, id: u8, value: &Value) {
    out.put_u16(ONE_BYTE_PROFILE);
    out.put_u16(5);
    out.put_u8(id << 4 | 15);
    out.put_slice(value);
    out.put_slice(&[0; 3]);
}

/// The bytes of element `id`; understands the one-byte and the two-byte form. None if absent or overrun.
pub fn find(profile: u16, body: &[u8], id: u8) -> Option<&[u8]> {
    let one_byte = match profile {
        ONE_BYTE_PROFILE => true,
        0x1000..=0x100f => false,
        _ => return None,
    };
    let mut at = 0;
    while at < body.len() {
        if body[at] == 0 {
            at += 1; // padding
            continue;
        }
        let (element, len, start) = if one_byte {
            (body[at] >> 4, usize::from(body[at] & 0x0f) + 1, at + 1)
        } else {
            (body[at], usize::from(*body.get(at + 1)?), at + 2)
        };
        if one_byte && element == 15 {
            return None; // RFC 8285 section 4.2: stop
        }
        let bytes = body.get(start..start + len)?;
        if element == id {
            return Some(bytes);
        }
        at = start + len;
    }
    None
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
        write_alone(&mut out, 14, &VECTOR);
        let mut want = vec![0xbe, 0xde, 0x00, 0x05, 0xef];
        want.extend(VECTOR);
        want.extend([0, 0, 0]);
        assert_eq!(out, want);
        assert_eq!(out.len(), ALONE_BYTES);
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
        #[test]
        fn finding_never_panics(profile in prop_oneof![Just(0xbedeu16), Just(0x1000), any::<u16>()], id in 0u8..16,
                                body in proptest::collection::vec(any::<u8>(), 0..40)) {
            find(profile, &body, id);
        }
    }
}
