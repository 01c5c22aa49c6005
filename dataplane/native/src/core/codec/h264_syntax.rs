//! As much of the H.264 bitstream (ITU-T H.264 7.3) as the payload format needs: which parameter sets a slice refers
//! to, and the size of the picture. Input is untrusted; whatever cannot be read is None.

pub const NAL_SLICE: u8 = 1;
pub const NAL_IDR: u8 = 5;
pub const NAL_SEI: u8 = 6;
pub const NAL_SPS: u8 = 7;
pub const NAL_PPS: u8 = 8;
pub const NAL_AUD: u8 = 9;

/// Enough of a NAL unit to read what is wanted of it.
const READ_BYTES: usize = 256;

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

/// Bits of a NAL unit's payload, emulation prevention removed (7.4.1).
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn new(payload: &[u8]) -> Bits {
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
        Bits { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn bits(&mut self, n: u32) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | self.bit()?))
    }

    /// ue(v), 9.1.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// se(v).
    fn se(&mut self) -> Option<i32> {
        let k = i64::from(self.ue()?);
        i32::try_from(if k % 2 == 1 { (k + 1) / 2 } else { -k / 2 }).ok()
    }
}

/// pic_parameter_set_id of a slice; `payload` is what follows the NAL header, its beginning is enough.
pub fn slice_pps(payload: &[u8]) -> Option<u8> {
    let mut bits = Bits::new(&payload[..payload.len().min(24)]);
    bits.ue()?; // first_mb_in_slice
    bits.ue()?; // slice_type
    u8::try_from(bits.ue()?).ok()
}

/// (pic_parameter_set_id, seq_parameter_set_id).
pub fn pps_ids(payload: &[u8]) -> Option<(u8, u8)> {
    let mut bits = Bits::new(&payload[..payload.len().min(24)]);
    let pps = u8::try_from(bits.ue()?).ok()?;
    let sps = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
    Some((pps, sps))
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
    let mut bits = Bits::new(payload);
    let profile = bits.bits(8)?;
    bits.bits(16)?; // constraint flags, level
    let id = u8::try_from(bits.ue()?).ok().filter(|id| *id < 32)?;
    let mut chroma = 1;
    let mut separate_planes = false;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.ue()?;
        separate_planes = chroma == 3 && bits.bit()? == 1;
        skip_high_profile_fields(&mut bits, chroma)?;
    }
    bits.ue()?; // log2_max_frame_num
    let decoding_order = skip_order_count(&mut bits)?;
    bits.ue()?; // max_num_ref_frames
    bits.bit()?;
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

fn skip_high_profile_fields(bits: &mut Bits, chroma: u32) -> Option<()> {
    bits.ue()?; // bit depths
    bits.ue()?;
    bits.bit()?;
    if bits.bit()? == 1 {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? == 1 {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(())
}

/// pic_order_cnt_type and what belongs to it; true for type 2, whose output order is decoding order.
fn skip_order_count(bits: &mut Bits) -> Option<bool> {
    let order_type = bits.ue()?;
    match order_type {
        0 => drop(bits.ue()?),
        1 => {
            bits.bit()?;
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
fn picture_size(bits: &mut Bits, sub_w: u32, sub_h: u32) -> Option<(u32, u32)> {
    let width_mbs = bits.ue()?.checked_add(1)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frame_mbs_only = bits.bit()?;
    if frame_mbs_only == 0 {
        bits.bit()?;
    }
    bits.bit()?;
    let mut crop = [0; 4];
    if bits.bit()? == 1 {
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
fn vui_reorders(bits: &mut Bits) -> Option<bool> {
    if bits.bit()? == 0 {
        return Some(true); // no VUI: nothing is promised
    }
    if bits.bit()? == 1 && bits.bits(8)? == 255 {
        bits.bits(32)?; // the aspect ratio written out
    }
    if bits.bit()? == 1 {
        bits.bit()?; // overscan
    }
    if bits.bit()? == 1 {
        bits.bits(4)?; // video signal type
        if bits.bit()? == 1 {
            bits.bits(24)?;
        }
    }
    if bits.bit()? == 1 {
        bits.ue()?; // chroma location
        bits.ue()?;
    }
    if bits.bit()? == 1 {
        bits.bits(32)?; // timing
        bits.bits(32)?;
        bits.bit()?;
    }
    let nal = skip_hypothetical_decoder(bits)?;
    let vcl = skip_hypothetical_decoder(bits)?;
    if nal || vcl {
        bits.bit()?;
    }
    bits.bit()?; // pic_struct_present
    if bits.bit()? == 0 {
        return Some(true); // no bitstream restriction
    }
    bits.bit()?;
    for _ in 0..4 {
        bits.ue()?;
    }
    Some(bits.ue()? > 0)
}

/// E.1.2; whether it is there.
fn skip_hypothetical_decoder(bits: &mut Bits) -> Option<bool> {
    if bits.bit()? == 0 {
        return Some(false);
    }
    let schedules = bits.ue()?.checked_add(1).filter(|count| *count <= 32)?;
    bits.bits(8)?;
    for _ in 0..schedules {
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    bits.bits(20)?;
    Some(true)
}

fn skip_scaling_list(bits: &mut Bits, size: usize) -> Option<()> {
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

/// The NAL units of an Annex B byte stream (annex B.1), as ranges without start codes and trailing zeros.
pub fn annex_b_units(data: &[u8]) -> Vec<std::ops::Range<usize>> {
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

fn push_unit(units: &mut Vec<std::ops::Range<usize>>, data: &[u8], begin: Option<usize>, end: usize) {
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

    #[test]
    fn a_huge_parameter_set_is_read_no_further_than_its_beginning() {
        // High, picture order type 1 with 2^31 - 2 offsets, then megabytes of ones: each a se(v) of 0.
        let mut set = vec![100, 0, 31, 0xad, 0x40 | 0x3f];
        set.resize(2 << 20, 0xff);
        assert!(Bits::new(&set).bytes.len() <= READ_BYTES);
        sps(&set);
    }

    #[test]
    fn units_are_found_behind_start_codes_of_both_lengths() {
        let data = [0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0];
        let units: Vec<&[u8]> = annex_b_units(&data).into_iter().map(|r| &data[r]).collect();
        assert_eq!(units, [&[9u8, 0xf0][..], &[0x67, 1], &[0x68]]);
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            sps(&bytes);
            pps_ids(&bytes);
            slice_pps(&bytes);
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
