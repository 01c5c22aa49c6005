//! What of VP9's bitstream tells keys, sizes and the frames of one picture ("VP9 Bitstream & Decoding Process
//! Specification", sections 6.2, 7.2 and annex B).
//!
//! ```text
//! uncompressed header   |1 0| profile: low, high | shows an old one | inter | shown | resilient |
//!              if key   | 49 83 42 | color ... | width - 1 | height - 1 |      16 bits each
//! superframe index      |1 1 0| bytes - 1 | frames - 1 | size of each ... | the same byte again |
//! ```

use crate::core::bits::Bits;

const SYNC_CODE: u32 = 0x49_83_42;
const INDEX_MARK: u8 = 0xc0;
const COLORS_RGB: u32 = 7;
/// Of a superframe.
pub(super) const MAX_FRAMES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Key {
        width: u32,
        height: u32,
    },
    /// Refers to frames before it, or is one of them again.
    Other,
}

/// Reads the header at the front of a frame. None: no VP9 begins like this.
pub(super) fn header(frame: &[u8]) -> Option<Header> {
    let mut bits = Bits::new(frame);
    if bits.read(2)? != 2 {
        return None;
    }
    let profile = bits.read(1)? | bits.read(1)? << 1;
    if profile == 3 {
        bits.read(1)?;
    }
    let shows_an_old_one = bits.read(1)? == 1;
    if shows_an_old_one || bits.read(1)? == 1 {
        return Some(Header::Other);
    }
    bits.read(2)?;
    if bits.read(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        bits.read(1)?; // 10 or 12 bits
    }
    let with_subsampling = profile == 1 || profile == 3;
    if bits.read(3)? != COLORS_RGB {
        bits.read(if with_subsampling { 4 } else { 1 })?;
    } else if with_subsampling {
        bits.read(1)?;
    }
    Some(Header::Key { width: bits.read(16)? + 1, height: bits.read(16)? + 1 })
}

/// Whether the bytes end in a superframe index.
pub(super) fn has_index(data: &[u8]) -> bool {
    let Some(mark) = data.last().filter(|mark| **mark & 0xe0 == INDEX_MARK) else { return false };
    let (size, frames) = (usize::from(mark >> 3 & 3) + 1, usize::from(mark & 7) + 1);
    data.len().checked_sub(2 + size * frames).is_some_and(|at| data[at] == *mark)
}

/// Makes frames that stand one behind the other a superframe: a decoder finds the second only by its index.
pub(super) fn append_index(data: &mut Vec<u8>, sizes: &[u32]) {
    let bytes = sizes.iter().map(|size| size.checked_ilog2().map_or(1, |bit| bit / 8 + 1)).max().unwrap_or(1);
    let mark = INDEX_MARK | (bytes as u8 - 1) << 3 | (sizes.len() as u8 - 1);
    data.push(mark);
    for size in sizes {
        data.extend_from_slice(&size.to_le_bytes()[..bytes as usize]);
    }
    data.push(mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of libvpx: profile 0, 352x288.
    const KEY: [u8; 10] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf6, 0x00];

    #[test]
    fn a_key_tells_its_size() {
        assert_eq!(header(&KEY), Some(Header::Key { width: 352, height: 288 }));
        for end in 0..KEY.len() - 1 {
            assert_eq!(header(&KEY[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn other_frames_are_no_keys_and_other_bytes_no_frames() {
        assert_eq!(header(&[0x86, 0x00]), Some(Header::Other));
        assert_eq!(header(&[0x88]), Some(Header::Other), "an old frame shown");
        assert_eq!(header(&[0x42, 0x49, 0x83, 0x42]), None);
        assert_eq!(header(&[0x82, 0x49, 0x83, 0x43, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn deeper_colors_move_the_size() {
        // profile 2: one bit of depth more; RGB in profile 1: no range, one reserved bit
        let shifted = |front: u64, bits: u32| -> Vec<u8> {
            let size = u128::from(front) << 32 | 0x015f_011f;
            (size << (128 - 32 - bits)).to_be_bytes().to_vec()
        };
        let sync = 0x49_83_42_u64;
        let size = Some(Header::Key { width: 352, height: 288 });
        assert_eq!(header(&shifted((0b1001_0010 << 24 | sync) << 5, 37)), size, "profile 2");
        assert_eq!(header(&shifted((0b1010_0010 << 24 | sync) << 4 | 0b1110, 36)), size, "profile 1, RGB");
        assert_eq!(header(&shifted((0b1010_0010 << 24 | sync) << 7, 39)), size, "profile 1, with subsampling");
    }

    #[test]
    fn an_index_that_we_write_is_one() {
        for sizes in [&[1u32, 2][..], &[300, 5, 70_000], &[0, 1]] {
            let mut data = vec![0; sizes.iter().sum::<u32>() as usize];
            assert!(!has_index(&data));
            let before = data.len();
            append_index(&mut data, sizes);
            assert!(has_index(&data) && data.len() > before);
        }
        assert!(!has_index(&[]));
        assert!(!has_index(&[0xc0]), "the mark alone");
    }
}
