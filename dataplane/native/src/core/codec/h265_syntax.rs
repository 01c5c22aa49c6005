//! As much of the H.265 bitstream (ITU-T H.265 7.3) as the payload format needs: what a NAL unit is, which parameter sets a
//! slice refers to, and the size and order of pictures. Input is untrusted; whatever cannot be read is None.
//!
//! ```text
//! NAL unit header (7.3.1.2)   |F| type, 6 bits | layer, 6 bits | temporal id + 1, 3 bits |
//! ```

use super::parameter_sets::Place;
use super::rbsp::{Rbsp, rbsp};

pub(super) const HEADER_BYTES: usize = 2;

const RASL_N: u8 = 8;
const RASL_R: u8 = 9;
const FIRST_IRAP: u8 = 16;
const LAST_IRAP: u8 = 21;
/// Reserved ones included: their slices have a field more.
const LAST_RESERVED_IRAP: u8 = 23;
const LAST_VCL: u8 = 31;
pub(super) const NAL_VPS: u8 = 32;
pub(super) const NAL_SPS: u8 = 33;
pub(super) const NAL_PPS: u8 = 34;
pub(super) const NAL_AUD: u8 = 35;
/// In front of its picture.
pub(super) const NAL_SEI: u8 = 39;
/// Of the types that the bitstream leaves to others.
const FIRST_PACKET: u8 = 48;

/// A NAL unit's, or a payload's, which has the same layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) layer: u8,
    pub(super) temporal_id: u8,
}

impl Header {
    /// None: too short, the forbidden bit, or a temporal id that is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let bytes: [u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        Header::of(bytes)
    }

    pub(super) fn of([first, second]: [u8; HEADER_BYTES]) -> Option<Header> {
        let (layer, temporal) = ((first & 1) << 5 | second >> 3, second & 7);
        if first & 0x80 != 0 || temporal == 0 {
            return None;
        }
        Some(Header { kind: first >> 1, layer, temporal_id: temporal - 1 })
    }

    pub(super) fn bytes(self) -> [u8; HEADER_BYTES] {
        [self.kind << 1 | self.layer >> 5, self.layer << 3 | (self.temporal_id + 1)]
    }

    /// Part of a picture, of whichever layer.
    pub(super) fn is_slice(self) -> bool {
        self.kind <= LAST_VCL
    }

    /// Part of a picture that every decoder decodes; the layers above it are extensions (annexes F to H).
    pub(super) fn is_base_slice(self) -> bool {
        self.is_slice() && self.layer == 0
    }

    /// A random access point: BLA, IDR or CRA.
    pub(super) fn is_key(self) -> bool {
        (FIRST_IRAP..=LAST_IRAP).contains(&self.kind)
    }

    /// A random access skipped leading picture: it may refer to pictures in front of the key that it follows.
    pub(super) fn is_skipped_leading(self) -> bool {
        matches!(self.kind, RASL_N | RASL_R)
    }

    /// A sub-layer non-reference picture: no other of its temporal id refers to it. Types with even numbers below 16
    /// (7.4.2.2, table 7-1).
    pub(super) fn is_sub_layer_non_reference(self) -> bool {
        self.kind < FIRST_IRAP && self.kind.is_multiple_of(2)
    }

    /// No NAL unit, but a packet's layout (RFC 7798 4.4).
    pub(super) fn is_packet(self) -> bool {
        self.kind >= FIRST_PACKET
    }

    pub(super) fn is_parameter_set(self) -> bool {
        (NAL_VPS..=NAL_PPS).contains(&self.kind)
    }
}

/// slice_pic_parameter_set_id (7.3.6.1), the same in all slices of a picture. `payload` is what follows the NAL header, its
/// beginning is enough.
pub(super) fn slice_pps(header: Header, payload: &[u8]) -> Option<u8> {
    let mut bits = rbsp(&payload[..payload.len().min(8)]);
    bits.read(1)?; // first_slice_segment_in_pic_flag
    if (FIRST_IRAP..=LAST_RESERVED_IRAP).contains(&header.kind) {
        bits.read(1)?; // no_output_of_prior_pics_flag
    }
    below(&mut bits, 64)
}

/// Where a NAL unit belongs that is a parameter set of the base layer: PPS are of kind 0, SPS 1, VPS 2.
pub(super) fn place(nal: &[u8]) -> Option<Place> {
    let header = Header::read(nal).filter(|header| header.layer == 0)?;
    let payload = &nal[HEADER_BYTES..];
    match header.kind {
        NAL_VPS => Some(Place { kind: 2, id: payload.first()? >> 4, refers_to: 0 }),
        NAL_SPS => sps(payload).map(|set| Place { kind: 1, id: set.id, refers_to: set.vps }),
        NAL_PPS => {
            let mut bits = rbsp(&payload[..payload.len().min(24)]);
            Some(Place { kind: 0, id: below(&mut bits, 64)?, refers_to: below(&mut bits, 16)? })
        }
        _ => None,
    }
}

fn below(bits: &mut Rbsp, bound: u32) -> Option<u8> {
    bits.ue().filter(|id| *id < bound).map(|id| id as u8)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    pub(super) id: u8,
    pub(super) vps: u8,
    /// Of the picture that is shown.
    pub(super) width: u32,
    pub(super) height: u32,
    /// Pictures may be shown in another order than they are sent.
    pub(super) may_reorder: bool,
    /// That a picture may have.
    pub(super) highest_temporal_id: u8,
}

/// 7.3.2.2.1, up to sps_max_num_reorder_pics; `payload` is what follows the NAL header.
pub(super) fn sps(payload: &[u8]) -> Option<Sps> {
    let mut bits = rbsp(payload);
    let vps = bits.read(4)? as u8;
    let highest_temporal_id = bits.read(3).filter(|highest| *highest < 7)?;
    bits.read(1)?; // temporal id nesting
    skip_profile_tier_level(&mut bits, highest_temporal_id)?;
    let id = below(&mut bits, 16)?;
    let (width, height) = picture_size(&mut bits)?;
    bits.ue()?; // bit depths
    bits.ue()?;
    bits.ue()?; // log2_max_pic_order_cnt_lsb
    let told = if bits.read(1)? == 1 { highest_temporal_id + 1 } else { 1 };
    let mut reordered = 0;
    for _ in 0..told {
        bits.ue()?; // max_dec_pic_buffering
        reordered = bits.ue()?; // the last one is of all sub-layers together
        bits.ue()?; // max_latency_increase
    }
    let highest_temporal_id = highest_temporal_id as u8;
    Some(Sps { id, vps, width, height, may_reorder: reordered > 0, highest_temporal_id })
}

const PROFILE_BITS: u32 = 88;
const LEVEL_BITS: u32 = 8;

/// 7.3.3.
fn skip_profile_tier_level(bits: &mut Rbsp, highest_temporal_id: u32) -> Option<()> {
    skip(bits, PROFILE_BITS + LEVEL_BITS)?;
    let mut present = 0;
    for _ in 0..highest_temporal_id {
        present += PROFILE_BITS * bits.read(1)?;
        present += LEVEL_BITS * bits.read(1)?;
    }
    if highest_temporal_id > 0 {
        skip(bits, 2 * (8 - highest_temporal_id))?; // alignment
    }
    skip(bits, present)
}

fn skip(bits: &mut Rbsp, count: u32) -> Option<()> {
    (0..count).try_for_each(|_| bits.read(1).map(|_| ()))
}

/// From chroma_format_idc to the conformance window.
fn picture_size(bits: &mut Rbsp) -> Option<(u32, u32)> {
    let chroma = bits.ue().filter(|chroma| *chroma <= 3)?;
    if chroma == 3 {
        bits.read(1)?; // separate_colour_plane
    }
    let (width, height) = (bits.ue()?, bits.ue()?);
    let mut window = [0; 4];
    if bits.read(1)? == 1 {
        for side in &mut window {
            *side = bits.ue()?;
        }
    }
    let [left, right, top, bottom] = window;
    let (across, down) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let shown = |of: u32, unit: u32, one: u32, other: u32| {
        of.checked_sub(one.checked_add(other)?.checked_mul(unit)?).filter(|side| *side > 0)
    };
    Some((shown(width, across, left, right)?, shown(height, down, top, bottom)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unhex(set: &str) -> Vec<u8> {
        (0..set.len()).step_by(2).map(|at| u8::from_str_radix(&set[at..at + 2], 16).unwrap()).collect()
    }

    /// SPS of x265 through FFmpeg: 322x182 with bframes=0; bframes=3; bframes=3:temporal-layers=1. 320x180 in 4:4:4.
    #[test]
    fn an_encoders_set_tells_size_order_and_sub_layers() {
        for (set, size, may_reorder, highest_temporal_id) in [
            (
                "42010101600000030090000003000003003ca00a480b9c95964a924caf016808000003000800000300c840",
                (322, 182),
                false,
                0,
            ),
            (
                "42010101600000030090000003000003003ca00a480b9c9596565924caf0168080000003008000000c84",
                (322, 182),
                true,
                0,
            ),
            (
                "42010201600000030090000003000003003c0000a00a480b9c95965652b2c9265780b4040000030004000003006420",
                (322, 182),
                true,
                1,
            ),
            ("4201010408000003009e0800000300003c9001410173e5cb2b349265780b4040000003004000000642", (320, 180), true, 0),
        ] {
            let (width, height) = size;
            let told = Sps { id: 0, vps: 0, width, height, may_reorder, highest_temporal_id };
            let set = unhex(set);
            assert_eq!(sps(&set[2..]), Some(told));
            assert_eq!(place(&set), Some(Place { kind: 1, id: 0, refers_to: 0 }));
            assert_eq!(sps(&set[2..20]), None, "cut off");
        }
    }

    #[test]
    fn sets_say_where_they_belong() {
        let vps = unhex("40010c01ffff01600000030090000003000003003c928090");
        assert_eq!(place(&vps), Some(Place { kind: 2, id: 0, refers_to: 0 }));
        let pps = unhex("4401c172b46240");
        assert_eq!(place(&pps), Some(Place { kind: 0, id: 0, refers_to: 0 }));
        // ue(v) 3 and ue(v) 2
        assert_eq!(place(&[0x44, 0x01, 0b0010_0011, 0x80]), Some(Place { kind: 0, id: 3, refers_to: 2 }));
        assert_eq!(place(&[0x44, 0x09, 0b0010_0011, 0x80]), None, "of layer 1");
        assert_eq!(place(&[0x28, 0x01, 0xaf]), None, "a slice");
    }

    #[test]
    fn a_header_comes_back_as_it_was_read() {
        for bytes in [[0x40, 0x01], [0x02, 0x01], [0x2b, 0xff], [0x00, 0x0a]] {
            assert_eq!(Header::of(bytes).unwrap().bytes(), bytes);
        }
        assert_eq!(Header::of([0x2b, 0xff]), Some(Header { kind: 21, layer: 63, temporal_id: 6 }));
        assert_eq!(Header::of([0xa8, 0x01]), None, "the forbidden bit");
        assert_eq!(Header::of([0x28, 0x00]), None, "temporal id + 1 is 0");
        assert_eq!(Header::read(&[0x28]), None);
    }

    #[test]
    fn the_type_says_what_a_picture_is_to_others() {
        let of = |kind: u8| Header { kind, layer: 0, temporal_id: 0 };
        let those = |is: fn(Header) -> bool| (0..64).filter(|kind| is(of(*kind))).collect::<Vec<u8>>();
        assert_eq!(those(Header::is_key), [16, 17, 18, 19, 20, 21]);
        assert_eq!(those(Header::is_skipped_leading), [8, 9]);
        assert_eq!(those(Header::is_sub_layer_non_reference), [0, 2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(those(Header::is_parameter_set), [32, 33, 34]);
        assert_eq!(those(Header::is_slice).len(), 32);
    }

    #[test]
    fn a_slice_names_its_set_behind_the_flags_of_its_type() {
        let [idr, trailing] = [19, 1].map(|kind| Header { kind, layer: 0, temporal_id: 0 });
        assert_eq!(slice_pps(idr, &[0b1010_0000]), Some(0));
        assert_eq!(slice_pps(idr, &[0b1100_1000]), Some(3));
        assert_eq!(slice_pps(trailing, &[0b1001_0000]), Some(3));
        assert_eq!(slice_pps(trailing, &[0b1000_0001, 0b0000_0100]), None, "64 is above the bound");
        assert_eq!(slice_pps(idr, &[]), None);
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 2..300)) {
            sps(&bytes);
            place(&bytes);
            place(&[&[0x42, 0x01], &bytes[..]].concat());
            if let Some(header) = Header::read(&bytes) {
                slice_pps(header, &bytes[2..]);
            }
        }
    }
}
