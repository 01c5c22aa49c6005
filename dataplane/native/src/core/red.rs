//! Redundant audio (RFC 2198): a packet that repeats the ones before it in front of its own. Where both legs speak it, it
//! goes on whole under the payload types of the other leg; else its last, primary, block goes on alone.
//!
//! ```text
//! |F|   block PT  |  timestamp offset         |   block length    |   F = 1: another header follows
//! |0|   block PT  |                                                  the primary block's, the last one
//! ```

use super::Drop;
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

const MORE: u8 = 0x80;
const HEADER_BYTES: usize = 4;
/// Libraries repeat one or two packets; LiveKit's clients too.
const MAX_BLOCKS: usize = 8;

#[derive(Debug)]
struct Block {
    header: usize,
    payload_type: u8,
    bytes: Range<usize>,
}

/// The blocks, the primary one last.
fn blocks(payload: &[u8]) -> Result<Vec<Block>, Drop> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut at, mut bytes) = (0, 0);
    loop {
        let first = *payload.get(at).ok_or(Drop::MalformedPayload)?;
        let payload_type = first & 0x7f;
        if first & MORE == 0 {
            blocks.push(Block { header: at, payload_type, bytes: bytes..bytes });
            at += 1;
            break;
        }
        let header = payload.get(at..at + HEADER_BYTES).ok_or(Drop::MalformedPayload)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]) & 0x3ff);
        blocks.push(Block { header: at, payload_type, bytes: bytes..bytes + length });
        bytes += length;
        at += HEADER_BYTES;
        if blocks.len() == MAX_BLOCKS {
            return Err(Drop::MalformedPayload);
        }
    }
    for block in &mut blocks {
        block.bytes = block.bytes.start + at..block.bytes.end + at;
    }
    let (last, repeated) = (blocks.len() - 1, at + bytes);
    // The primary block has no length: it is what remains. Empty, it would be no sound.
    if repeated >= payload.len() {
        return Err(Drop::MalformedPayload);
    }
    blocks[last].bytes = repeated..payload.len();
    Ok(blocks)
}

/// The primary block, if it is of payload type `codec`.
pub fn primary(payload: &Bytes, codec: u8) -> Result<Bytes, Drop> {
    let blocks = blocks(payload)?;
    let block = blocks.last().filter(|block| block.payload_type == codec).ok_or(Drop::UnsupportedPayload)?;
    Ok(payload.slice(block.bytes.clone()))
}

/// The packet for a leg that has `to` as payload type where it came with `from`; blocks of others are left out.
pub fn renamed(payload: &Bytes, from: u8, to: u8) -> Result<Bytes, Drop> {
    let blocks = blocks(payload)?;
    let kept = || blocks.iter().filter(|block| block.payload_type == from);
    let mut out = BytesMut::with_capacity(payload.len());
    for block in kept() {
        let header = &payload[block.header..];
        out.put_u8(header[0] & MORE | to & 0x7f);
        if header[0] & MORE != 0 {
            out.put_slice(&header[1..HEADER_BYTES]);
        }
    }
    kept().for_each(|block| out.put_slice(&payload[block.bytes.clone()]));
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two repeated blocks, of 3 and 2 bytes, 1920 and 960 ticks old, and a primary one of 4.
    fn packet(types: [u8; 3]) -> Bytes {
        let mut bytes = Vec::new();
        for (payload_type, offset, length) in [(types[0], 1920u32, 3u32), (types[1], 960, 2)] {
            bytes.push(MORE | payload_type);
            bytes.extend(&(offset << 10 | length).to_be_bytes()[1..]);
        }
        bytes.push(types[2]);
        bytes.extend([1, 1, 1, 2, 2, 3, 3, 3, 3]);
        bytes.into()
    }

    #[test]
    fn the_primary_block_is_the_last_one() {
        assert_eq!(primary(&packet([111; 3]), 111).unwrap(), [3, 3, 3, 3][..]);
        assert_eq!(primary(&Bytes::from_static(&[111, 9]), 111).unwrap(), [9][..]);
        assert_eq!(primary(&packet([111, 111, 13]), 111), Err(Drop::UnsupportedPayload));
    }

    #[test]
    fn blocks_get_the_other_legs_payload_type_and_foreign_ones_are_left_out() {
        assert_eq!(renamed(&packet([111; 3]), 111, 97).unwrap(), packet([97; 3]));
        let without = renamed(&packet([13, 111, 111]), 111, 97).unwrap();
        assert_eq!(without, [MORE | 97, 0x0f, 0x00, 2, 97, 2, 2, 3, 3, 3, 3][..]);
    }

    #[test]
    fn blocks_beyond_the_packet_and_empty_ones_are_malformed() {
        for bad in
            [&[][..], &[111], &[MORE | 111, 0, 0], &[MORE | 111, 0, 0, 9, 111, 1], &[MORE | 111, 0, 0, 1, 111, 1]]
        {
            assert_eq!(primary(&Bytes::copy_from_slice(bad), 111), Err(Drop::MalformedPayload), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_the_primary_block_survives_a_new_name(bytes in proptest::collection::vec(prop_oneof![
                Just(111u8), Just(MORE | 111), Just(0), 0u8..8, any::<u8>()], 0..80)) {
            let payload = Bytes::from(bytes);
            if let Ok(block) = primary(&payload, 111) {
                let renamed = renamed(&payload, 111, 63).unwrap();
                prop_assert!(renamed.len() <= payload.len());
                prop_assert_eq!(primary(&renamed, 63).unwrap(), block);
            }
        }
    }
}
