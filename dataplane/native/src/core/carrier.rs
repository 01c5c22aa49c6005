//! AuraLink's 16 bytes in the bitstream itself, for receivers behind somebody who forwards no header extension: a message
//! of H.264 and H.265 (user data unregistered, ITU-T H.264 D.1.7, H.265 D.2.7), a metadata OBU of AV1 (bitstream
//! specification 5.8). A decoder passes over both.
//!
//! ```text
//! SEI NAL unit | NAL header | type 5 | size 32 | UUID, 16 bytes | value, 16 bytes | 80 |   with emulation prevention
//! metadata OBU | OBU header | type 30 |          UUID, 16 bytes | value, 16 bytes | 80 |
//! ```
//! `codec` puts them in front of a frame's picture, once per out that has a [`Carrier`], and leaves those out that come in:
//! they tell of the frame as somebody in front of us sent it.

use super::codec::rbsp::{escaped, unescaped};
use super::ext::{VALUE_BYTES, Value};
use bytes::Bytes;

/// What else takes the value along, beside the header extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    #[default]
    None,
    InBand,
}

/// bcb81669-1950-5d02-87dc-d76cf549a98c
const UUID: [u8; 16] = [0xbc, 0xb8, 0x16, 0x69, 0x19, 0x50, 0x5d, 0x02, 0x87, 0xdc, 0xd7, 0x6c, 0xf5, 0x49, 0xa9, 0x8c];
const MESSAGE_BYTES: usize = UUID.len() + VALUE_BYTES;
/// rbsp_trailing_bits, trailing_bits: a one, and zeros up to the end of the byte.
const TRAILING: u8 = 0x80;

const SEI_USER_DATA: u8 = 5;
const SEI_FRONT: [u8; 2] = [SEI_USER_DATA, MESSAGE_BYTES as u8];

/// One that nobody registers (6 to 31).
const METADATA_TYPE: u8 = 30;

/// An SEI NAL unit behind `header`, which is its format's.
pub fn sei(header: &[u8], value: &Value) -> Bytes {
    let message = [&SEI_FRONT[..], &UUID, value, &[TRAILING]].concat();
    Bytes::from([header, &escaped(&message)].concat())
}

/// What an SEI NAL unit says that is a carrier and nothing else; `payload` is what follows the NAL header.
pub fn read_sei(payload: &[u8]) -> Option<Value> {
    let message = unescaped(payload.strip_prefix(&SEI_FRONT)?);
    told(message.strip_suffix(&[TRAILING])?)
}

/// The payload of a metadata OBU.
pub fn metadata(value: &Value) -> Vec<u8> {
    [&[METADATA_TYPE][..], &UUID, value, &[TRAILING]].concat()
}

/// What the payload of a metadata OBU says that is a carrier.
pub fn read_metadata(payload: &[u8]) -> Option<Value> {
    told(payload.strip_prefix(&[METADATA_TYPE])?.strip_suffix(&[TRAILING])?)
}

fn told(message: &[u8]) -> Option<Value> {
    message.strip_prefix(&UUID)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Nothing saved, full quality, a key.
    const VALUE: Value = [1, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0];

    #[test]
    fn rule_22_sei_and_metadata_are_these_bytes() {
        let uuid = "bcb8166919505d0287dcd76cf549a98c";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let escaped = "0100000303e800000300000302000003000003000080";
        assert_eq!(hex(&sei(&[0x06], &VALUE)), format!("060520{uuid}{escaped}"));
        assert_eq!(hex(&sei(&[0x4e, 0x01], &VALUE)), format!("4e010520{uuid}{escaped}"));
        assert_eq!(hex(&metadata(&VALUE)), format!("1e{uuid}{}80", hex(&VALUE)));
    }

    #[test]
    fn rule_22_other_messages_are_none_of_ours() {
        let ours = sei(&[], &VALUE);
        for (at, byte) in [(0, 4), (1, 33), (2, 0xbd), (17, 0)] {
            let mut other = ours.to_vec();
            other[at] = byte;
            assert_eq!(read_sei(&other), None, "byte {at}");
        }
        let two = [&ours[..ours.len() - 1], &[1, 1, 7, 0x80]].concat();
        for other in [&ours[..ours.len() - 1], &ours[..20], &[], &two] {
            assert_eq!(read_sei(other), None);
        }
        let ours = metadata(&VALUE);
        for other in [&ours[..ours.len() - 1], &[4], &[], &[&[31], &ours[1..]].concat()] {
            assert_eq!(read_metadata(other), None);
        }
    }

    proptest! {
        #[test]
        fn rule_22_every_value_comes_back_and_looks_like_no_start_code(
            value in proptest::array::uniform16(prop_oneof![3 => Just(0u8), 1 => 0u8..4, 1 => any::<u8>()]),
        ) {
            let unit = sei(&[0x4e, 0x01], &value);
            prop_assert!(unit.windows(3).all(|three| three[0] != 0 || three[1] != 0 || three[2] > 2));
            prop_assert_eq!(read_sei(&unit[2..]), Some(value));
            prop_assert_eq!(read_metadata(&metadata(&value)), Some(value));
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(3), any::<u8>()], 0..80)) {
            let _ = (read_sei(&bytes), read_metadata(&bytes), read_sei(&[&SEI_FRONT[..], &bytes].concat()));
        }
    }
}
