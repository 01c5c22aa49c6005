//! As much of the H.264 bitstream (ITU-T H.264 7.3) as the payload format needs: which parameter sets a slice refers
//! to, and the size of the picture. Input is untrusted; whatever cannot be read is None.

use super::parameter_sets::Place;
use super::rbsp::{Rbsp, rbsp};

pub const NAL_SLICE: u8 = 1;
pub const NAL_IDR: u8 = 5;
pub const NAL_SEI: u8 = 6;
pub const NAL_SPS: u8 = 7;
pub const NAL_PPS: u8 = 8;
pub const NAL_AUD: u8 = 9;
/// In front of each slice of an encoder with temporal layers (annex G); nothing stands between the two.
pub const NAL_PREFIX: u8 = 14;

pub fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// nal_ref_idc 0: nothing references this.
pub fn discardable(header: u8) -> bool {
    header & 0x60 == 0
}

pub fn is_slice(nal: u8) -> bool {
    (NAL_SLICE..=NAL_IDR).contains(&nal)
}

/// pic_parameter_set_id of a slice; `payload` is what follows the NAL header, its beginning is enough.
pub fn slice_pps(payload: &[u8]) -> Option<u8> {
    let mut bits = rbsp(&payload[..payload.len().min(24)]);
    bits.ue()?; // first_mb_in_slice
    bits.ue()?; // slice_type
    u8::try_from(bits.ue()?).ok()
}

/// (pic_parameter_set_id, seq_parameter_set_id).
pub fn pps_ids(payload: &[u8]) -> Option<(u8, u8)> {
    let mut bits = rbsp(&payload[..payload.len().min(24)]);
    let pps = u8::try_from(bits.ue()?).ok()?;
    let sps = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
    Some((pps, sps))
}

/// Where a NAL unit belongs that is a parameter set: PPS are of kind 0, SPS of kind 1.
pub(super) fn place(nal: &[u8]) -> Option<Place> {
    match nal_type(nal[0]) {
        NAL_SPS => sps(&nal[1..]).map(|set| Place { kind: 1, id: set.id, refers_to: 0 }),
        NAL_PPS => pps_ids(&nal[1..]).map(|(id, sps)| Place { kind: 0, id, refers_to: sps }),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    pub id: u8,
    pub width: u32,
    pub height: u32,
    /// Pictures may be shown in another order than they are sent (B slices); true where the set does not say.
    pub may_reorder: bool,
}

const BASELINE: u32 = 66;

/// 7.3.2.1.1, and of the VUI (E.1.1) what it says of reordering.
pub fn sps(payload: &[u8]) -> Option<Sps> {
    let mut bits = rbsp(payload);
    let profile = bits.read(8)?;
    bits.read(16)?; // constraint flags, level
    let id = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
    let mut chroma = 1;
    let mut separate_planes = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.ue()?;
        separate_planes = chroma == 3 && bits.read(1)? == 1;
        skip_high_profile_fields(&mut bits, chroma)?;
    }
    bits.ue()?; // log2_max_frame_num
    let decoding_order = skip_order_count(&mut bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.read(1)?;
    let (sub_w, sub_h) = match chroma {
        _ if separate_planes => (1, 1),
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (width, height) = picture_size(&mut bits, sub_w, sub_h)?;
    let may_reorder = profile != BASELINE && !decoding_order && vui_reorders(&mut bits).unwrap_or(true);
    Some(Sps { id, width, height, may_reorder })
}

fn skip_high_profile_fields(bits: &mut Rbsp, chroma: u32) -> Option<()> {
    bits.ue()?; // bit depths
    bits.ue()?;
    bits.read(1)?;
    if bits.read(1)? == 1 {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.read(1)? == 1 {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(())
}

/// pic_order_cnt_type and what belongs to it; true for type 2, whose output order is decoding order.
fn skip_order_count(bits: &mut Rbsp) -> Option<bool> {
    let order_type = bits.ue()?;
    match order_type {
        0 => drop(bits.ue()?),
        1 => {
            bits.read(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(order_type == 2)
}

/// Pixels after cropping; `sub_w`, `sub_h`: of the chroma format (table 6-1).
fn picture_size(bits: &mut Rbsp, sub_w: u32, sub_h: u32) -> Option<(u32, u32)> {
    let width_mbs = bits.ue()?.checked_add(1)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frame_mbs_only = bits.read(1)?;
    if frame_mbs_only == 0 {
        bits.read(1)?;
    }
    bits.read(1)?;
    let mut crop = [0; 4];
    if bits.read(1)? == 1 {
        for side in &mut crop {
            *side = bits.ue()?;
        }
    }
    let field = 2 - frame_mbs_only;
    let width = width_mbs.checked_mul(16)?.checked_sub(sub_w * crop[0].checked_add(crop[1])?.min(1 << 16))?;
    let height = height_units
        .checked_mul(16 * field)?
        .checked_sub(sub_h * field * crop[2].checked_add(crop[3])?.min(1 << 16))?;
    Some((width, height))
}

/// E.1.1 up to max_num_reorder_frames.
fn vui_reorders(bits: &mut Rbsp) -> Option<bool> {
    if bits.read(1)? == 0 {
        return Some(true); // no VUI: nothing is promised
    }
    if bits.read(1)? == 1 && bits.read(8)? == 255 {
        bits.read(32)?; // the aspect ratio written out
    }
    if bits.read(1)? == 1 {
        bits.read(1)?; // overscan
    }
    if bits.read(1)? == 1 {
        bits.read(4)?; // video signal type
        if bits.read(1)? == 1 {
            bits.read(24)?;
        }
    }
    if bits.read(1)? == 1 {
        bits.ue()?; // chroma location
        bits.ue()?;
    }
    if bits.read(1)? == 1 {
        bits.read(32)?; // timing
        bits.read(32)?;
        bits.read(1)?;
    }
    let nal = skip_hypothetical_decoder(bits)?;
    let vcl = skip_hypothetical_decoder(bits)?;
    if nal || vcl {
        bits.read(1)?;
    }
    bits.read(1)?; // pic_struct_present
    if bits.read(1)? == 0 {
        return Some(true); // no bitstream restriction
    }
    bits.read(1)?;
    for _ in 0..4 {
        bits.ue()?;
    }
    Some(bits.ue()? > 0)
}

/// E.1.2; whether it is there.
fn skip_hypothetical_decoder(bits: &mut Rbsp) -> Option<bool> {
    if bits.read(1)? == 0 {
        return Some(false);
    }
    let schedules = bits.ue()?.checked_add(1).filter(|count| *count <= 32)?;
    bits.read(8)?;
    for _ in 0..schedules {
        bits.ue()?;
        bits.ue()?;
        bits.read(1)?;
    }
    bits.read(20)?;
    Some(true)
}

fn skip_scaling_list(bits: &mut Rbsp, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, 1280x720, High, level 3.1.
    pub const SPS_720P: [u8; 24] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83,
    ];

    #[test]
    fn the_size_of_a_picture_is_read() {
        assert_eq!(sps(&SPS_720P[1..]), Some(Sps { id: 0, width: 1280, height: 720, may_reorder: true }));
    }

    /// SPS of x264 through FFmpeg, 322x182: -profile:v baseline; high -bf 0; main -bf 2; high -bf 3 with NAL HRD.
    #[test]
    fn an_encoders_set_says_whether_it_reorders() {
        for (set, reorders) in [
            ("6742c00dd901519e226c0440000003004000000c83c50a92", false),
            ("6764000dacb202a33c44d808800000030080000019078a1524", false),
            ("674d400deca0a8cf11360220000003002000000641e28532c0", true),
            ("6764000dacd941519e226c0440000003004000000c9808007a10001e84a4c30078a14cb0", true),
        ] {
            let bytes: Vec<u8> =
                (0..set.len()).step_by(2).map(|at| u8::from_str_radix(&set[at..at + 2], 16).unwrap()).collect();
            let parsed = sps(&bytes[1..]).unwrap();
            assert_eq!((parsed.width, parsed.height, parsed.may_reorder), (322, 182, reorders), "{set}");
        }
    }

    #[test]
    fn a_set_that_promises_nothing_may_reorder() {
        assert!(sps(&SPS_720P[1..16]).unwrap().may_reorder, "cut off within its VUI");
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            sps(&bytes);
            pps_ids(&bytes);
            slice_pps(&bytes);
        }
    }
}
