//! H.265 over RTP (RFC 7798), on one stream and in one session (SRST).
//!
//! A key is a random access point (BLA, IDR or CRA) whose parameter sets, VPS, SPS and PPS, are in the frame or were seen
//! before; the cached ones go in front of those that lack them. Pictures of the type RASL are told from others: they refer
//! to pictures in front of their key, and do not leave where those did not.
//!
//! Decoding order numbers (DONL, DOND) are in a sender's payloads if its sprop-max-don-diff is above 0 (7.1); nothing in the
//! packets tells. A codec made with [`H265::with_order_numbers`] reads them, puts the NAL units of each frame into decoding
//! order and sends them without. Frames themselves come in decoding order: interleaving over frames is not undone.

use super::h265_payload::{Payloads, fragment_of};
use super::h265_syntax::{HEADER_BYTES, Header, NAL_AUD, NAL_VPS, Sps, place, slice_pps, sps};
use super::nal::{self, Joined, Packing, Piece, Unit, cut_units, is_carrier, push_annex_b};
use super::parameter_sets::{ParameterSets, is_whole};
use super::rbsp::annex_b_units;
use super::{FrameInfo, Limits, Payload, VideoCodec};
use crate::core::Drop;
use crate::core::packet::{Packet, PacketInfo};
use bytes::Bytes;

/// PPS, SPS, VPS.
type Sets = ParameterSets<3>;

#[derive(Default)]
pub struct H265 {
    payloads: Payloads,
    received: Sets,
    /// Of the frames that the AI Core made: another encoder, other sets.
    submitted: Sets,
    /// Of the newest key.
    active: Option<Sps>,
    /// Slices of other layers than the base were seen.
    layered: bool,
}

impl H265 {
    /// For a sender whose sprop-max-don-diff is above 0.
    pub fn with_order_numbers() -> H265 {
        H265 { payloads: Payloads { numbered: true }, ..H265::default() }
    }

    /// Packets cannot stay as they are: they are numbered, or sets have to go into the first one, behind its delimiter.
    fn is_cut_anew(&self, packets: &[Packet], info: &FrameInfo) -> bool {
        let mut delimited = None;
        if info.sets_at == 0 && !info.missing_sets.is_empty() {
            let _ = self.payloads.each_piece(&packets[0].payload, &mut |piece, _| {
                delimited.get_or_insert(matches!(piece, Piece::Whole(unit) if is_delimiter(unit)));
            });
        }
        self.payloads.numbered || delimited == Some(true)
    }

    /// The frame's NAL units in decoding order, which they need not be sent in (4.4.1), without carriers.
    fn in_decoding_order(&self, packets: &[Packet], info: &FrameInfo) -> Vec<Bytes> {
        let mut units: Vec<(u16, Vec<u8>)> = Vec::new();
        for packet in packets {
            // `complete` accepted every packet, so there is no error to handle.
            let _ = self.payloads.pieces(&packet.payload, &mut |(piece, _, number)| match piece {
                Piece::Whole(nal) => units.push((number, nal.to_vec())),
                Piece::First(header, bytes) => units.push((number, [&header, bytes].concat())),
                Piece::Next(bytes) => units.iter_mut().last().into_iter().for_each(|(_, unit)| unit.extend(bytes)),
            });
        }
        let first = units.first().map_or(0, |(number, _)| *number);
        units.sort_by_key(|(number, _)| number.wrapping_sub(first) as i16);
        let mut units: Vec<Bytes> = units.into_iter().map(|(_, unit)| unit.into()).collect();
        units.retain(|unit| !is_carrier::<Payloads>(unit));
        let at = units.iter().take_while(|unit| is_delimiter(unit)).count();
        units.splice(at..at, info.missing_sets.iter().cloned());
        units
    }
}

/// Whether a sender of these parameters (SDP's a=fmtp) numbers its NAL units.
pub fn has_order_numbers(fmtp: &str) -> bool {
    let mut parameters = fmtp.split(';').filter_map(|parameter| parameter.split_once('='));
    let found = parameters.rfind(|(name, _)| name.trim().eq_ignore_ascii_case("sprop-max-don-diff"));
    found.is_some_and(|(_, value)| value.trim().parse().is_ok_and(|most: u16| most > 0))
}

fn is_delimiter(unit: &[u8]) -> bool {
    Header::read(unit).is_some_and(|header| header.kind == NAL_AUD)
}

fn note(sets: &mut Sets, nal: &Bytes) {
    if let Some(place) = place(nal).filter(|_| is_whole(nal)) {
        sets.note(place, nal);
    }
}

impl VideoCodec for H265 {
    /// Whether other frames refer to this one a packet does not say: which temporal id is the highest stands in the SPS.
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop> {
        let mut info = PacketInfo::default();
        let mut first = true;
        self.payloads.each_piece(payload, &mut |piece, _| {
            let (header, begins) = match piece {
                Piece::Whole(nal) => (Header::read(nal), true),
                Piece::First(header, _) => (Header::of(header), true),
                Piece::Next(_) => (fragment_of(payload), false),
            };
            let Some(header) = header else { return };
            if first {
                let front = matches!(header.kind, NAL_AUD | NAL_VPS) && header.layer == 0;
                info.starts_frame = begins && front && !self.payloads.numbered;
                first = false;
            }
            info.key |= header.is_base_slice() && header.is_key();
        })?;
        Ok(info)
    }

    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop> {
        let mut frame = Reading::default();
        for (index, packet) in packets.iter().enumerate() {
            let mut pieces = 0;
            self.payloads.each_piece(&packet.payload, &mut |piece, end| {
                pieces += 1;
                frame.read(piece, end);
            })?;
            if frame.units.broken {
                return Err(Drop::MalformedPayload);
            }
            frame.delimiters += usize::from(index == 0 && pieces == 1 && frame.delimited);
        }
        if frame.units.open || frame.mixed {
            return Err(Drop::MalformedPayload);
        }
        let mut info = frame.info();
        self.layered |= frame.layered;
        let Reading { pps, present, base, .. } = frame;
        let needed = if info.key { Some(pps.ok_or(Drop::MalformedPayload)?) } else { None };
        let whole = needed.is_none_or(|pps| present.of(pps).is_some());
        self.received.merge(present);
        if let Some(pps) = needed {
            let sets = self.received.of(pps).ok_or(Drop::NoParameterSets)?;
            self.active = sps(&sets[1][HEADER_BYTES..]);
            if !whole {
                info.missing_sets = sets.into();
            }
        }
        if let Some(active) = self.active {
            (info.width, info.height) = (active.width, active.height);
            info.discardable = !self.layered && base.is_some_and(|base| nobody_refers_to(base, active));
        }
        info.tid = base.map_or(0, |base| base.temporal_id);
        info.may_reorder = self.active.is_none_or(|active| active.may_reorder);
        Ok(info)
    }

    fn to_frame(&self, packets: &[Packet], info: &FrameInfo) -> Vec<u8> {
        match self.is_cut_anew(packets, info) {
            true => {
                let mut out = Vec::new();
                self.in_decoding_order(packets, info).iter().for_each(|unit| push_annex_b(&mut out, &[unit]));
                out
            }
            false => nal::to_frame(&self.payloads, packets, info),
        }
    }

    fn restamp(&self, packets: &[Packet], info: &FrameInfo, limits: Limits) -> Vec<Payload> {
        match self.is_cut_anew(packets, info) {
            true => cut_units::<Payloads>(self.in_decoding_order(packets, info), limits),
            false => nal::restamp(&self.payloads, packets, info, limits),
        }
    }

    fn packetize(
        &mut self,
        frame: Bytes,
        key: bool,
        _native: &FrameInfo,
        limits: Limits,
    ) -> Result<Vec<Payload>, Drop> {
        let mut units: Vec<Bytes> = annex_b_units(&frame).into_iter().map(|unit| frame.slice(unit)).collect();
        self.add_missing_sets(&mut units, key)?;
        Ok(cut_units::<Payloads>(units, limits))
    }
}

/// No picture of its temporal id does, and there is none of a higher one (sps_max_sub_layers_minus1, 7.4.3.2.1).
fn nobody_refers_to(base: Header, active: Sps) -> bool {
    base.is_sub_layer_non_reference() && base.temporal_id == active.highest_temporal_id
}

impl H265 {
    /// The encoder may repeat its sets before every key or only send them once.
    fn add_missing_sets(&mut self, units: &mut Vec<Bytes>, key: bool) -> Result<(), Drop> {
        let mut present = Sets::default();
        let mut base = None;
        for unit in units.iter() {
            let header = Header::read(unit).filter(|header| !header.is_packet()).ok_or(Drop::BadSubmit)?;
            if header.is_base_slice() {
                let (first, _) = *base.get_or_insert((header, unit));
                if first.is_key() != header.is_key() {
                    return Err(Drop::BadSubmit);
                }
            }
            note(&mut present, unit);
        }
        let (header, slice) = base.filter(|(header, _)| header.is_key() == key).ok_or(Drop::BadSubmit)?;
        let pps = slice_pps(header, &slice[HEADER_BYTES..]);
        let whole = pps.is_some_and(|pps| present.of(pps).is_some());
        self.submitted.merge(present);
        if key && !whole {
            let sets = self.submitted.of(pps.ok_or(Drop::BadSubmit)?).ok_or(Drop::NoParameterSets)?;
            let at = usize::from(is_delimiter(&units[0]));
            units.splice(at..at, sets);
        }
        Ok(())
    }
}

/// What the pieces of one frame say, read in order.
#[derive(Default)]
struct Reading {
    units: Joined,
    slices: usize,
    /// Of the first slice of the base layer.
    base: Option<Header>,
    pps: Option<u8>,
    /// Slices of a key, and slices that are none.
    mixed: bool,
    layered: bool,
    present: Sets,
    /// An access unit delimiter was there.
    delimited: bool,
    /// Packets at the front that are one alone.
    delimiters: usize,
}

impl Reading {
    fn read(&mut self, piece: Piece<'_, [u8; HEADER_BYTES]>, end: bool) {
        let (header, payload, whole) = match self.units.push::<Payloads>(piece, end) {
            None => return,
            Some(Unit::ParameterSet(nal)) => return note(&mut self.present, &nal),
            Some(Unit::Other { header, payload, whole }) => (Header::of(header), payload, whole),
        };
        let Some(header) = header else { return };
        self.delimited |= header.kind == NAL_AUD && whole;
        if header.is_slice() {
            self.slices += 1;
            self.layered |= header.layer > 0;
        }
        if header.is_base_slice() {
            let first = *self.base.get_or_insert_with(|| {
                self.pps = slice_pps(header, payload);
                header
            });
            self.mixed |= first.is_key() != header.is_key();
        }
    }

    /// As far as the frame tells by itself.
    fn info(&self) -> FrameInfo {
        FrameInfo {
            picture: self.slices > 0,
            key: self.base.is_some_and(Header::is_key),
            leading: self.base.is_some_and(Header::is_skipped_leading),
            sets_at: self.delimiters,
            ..FrameInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{LIMITS, annex_b, bytes, frame};
    use super::*;
    use proptest::prelude::*;

    /// Of x265: 322x182, B-frames in a temporal layer of their own.
    const VPS: &[u8] = &[
        0x40, 0x01, 0x0c, 0x02, 0xff, 0xff, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x3c, 0x00, 0x00, 0x95, 0x94, 0xac, 0xa0, 0x48,
    ];
    const SPS: &[u8] = &[
        0x42, 0x01, 0x02, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x3c,
        0x00, 0x00, 0xa0, 0x0a, 0x48, 0x0b, 0x9c, 0x95, 0x96, 0x56, 0x52, 0xb2, 0xc9, 0x26, 0x57, 0x80, 0xb4, 0x04,
        0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0x64, 0x20,
    ];
    const PPS: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];
    const AUD: &[u8] = &[0x46, 0x01, 0x50];
    const IDR: &[u8] = &[0x26, 0x01, 0xaf, 0x11, 0x22];
    const CRA: &[u8] = &[0x2a, 0x01, 0xaf, 0x11, 0x22];
    const TRAIL: &[u8] = &[0x02, 0x01, 0xd0, 0x11];

    fn aggregate(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x60, 0x01];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend(*unit);
        }
        out
    }

    fn started() -> H265 {
        let mut codec = H265::default();
        codec.complete(&frame(&[VPS, SPS, PPS, IDR])).unwrap();
        codec
    }

    #[test]
    fn aggregated_and_fragmented_units_come_out_as_one_frame() {
        let mut codec = H265::default();
        let sets = aggregate(&[VPS, SPS, PPS]);
        let packets =
            frame(&[&sets[..], &[0x62, 0x01, 0x93, 0xaf], &[0x62, 0x01, 0x13, 0x11], &[0x62, 0x01, 0x53, 0x22]]);
        let info = codec.complete(&packets).unwrap();
        assert!(info.key && info.may_reorder && !info.discardable && !info.leading && info.missing_sets.is_empty());
        assert_eq!((info.width, info.height), (322, 182));
        assert_eq!(codec.to_frame(&packets, &info), annex_b(&[VPS, SPS, PPS, IDR]));
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS))[0], sets, "sent on as it came");
    }

    #[test]
    fn a_senders_parameters_tell_whether_it_numbers() {
        for (fmtp, told) in [
            ("", false),
            ("sprop-max-don-diff=0", false),
            ("sprop-max-don-diff=2", true),
            ("profile-id=1; sprop-max-don-diff = 32767 ;level-id=93", true),
            ("sprop-max-don-diff", false),
            ("sprop-depack-buf-nalus=2", false),
        ] {
            assert_eq!(has_order_numbers(fmtp), told, "{fmtp}");
        }
    }

    #[test]
    fn every_random_access_point_is_a_key_and_gets_the_sets_it_lacks() {
        for kind in 16..=21 {
            let mut codec = started();
            let slice = [&[kind << 1, 0x01][..], &IDR[2..]].concat();
            let packets = frame(&[AUD, &slice]);
            let info = codec.complete(&packets).unwrap();
            assert!(info.key && codec.inspect(&slice).unwrap().key);
            assert_eq!(info.missing_sets, [VPS, SPS, PPS]);
            assert_eq!(codec.to_frame(&packets, &info), annex_b(&[AUD, VPS, SPS, PPS, &slice]));
            let sets = aggregate(&[VPS, SPS, PPS]);
            assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), [AUD, &sets, &slice]);
            assert_eq!(H265::default().complete(&packets), Err(Drop::NoParameterSets));
        }
        assert_eq!(started().complete(&frame(&[SPS, PPS, IDR])).unwrap().missing_sets.len(), 3, "without VPS");
        assert!(!started().complete(&frame(&[TRAIL])).unwrap().key);
        assert!(!started().complete(&frame(&[&[22 << 1, 1, 0xaf]])).unwrap().key, "reserved");
    }

    #[test]
    fn parameter_sets_in_fragments_are_remembered_too() {
        let mut codec = H265::default();
        let (begin, end) = ([&[0x62, 0x01, 0xa1], &SPS[2..10]].concat(), [&[0x62, 0x01, 0x61], &SPS[10..]].concat());
        let info = codec.complete(&frame(&[VPS, &begin, &end, PPS])).unwrap();
        assert!(!info.picture);
        assert_eq!(codec.complete(&frame(&[IDR])).unwrap().missing_sets, [VPS, SPS, PPS]);
    }

    #[test]
    fn sets_of_layers_above_do_not_replace_the_base_layers() {
        let mut codec = started();
        let above = [&[0x42, 0x09], &SPS[2..]].concat();
        let slice = [0x02, 0x09, 0xd0];
        let info = codec.complete(&frame(&[&above[..], TRAIL, &slice])).unwrap();
        assert!(info.picture && !info.key);
        assert_eq!(codec.complete(&frame(&[IDR])).unwrap().missing_sets, [VPS, SPS, PPS]);
    }

    #[test]
    fn a_picture_is_nobodys_reference_by_type_and_highest_temporal_id_together() {
        let told = |slices: &[&[u8]]| started().complete(&frame(slices)).unwrap().discardable;
        for (kind, temporal_id, discardable) in
            [(0, 1, true), (2, 1, true), (8, 1, true), (0, 0, false), (1, 1, false), (3, 1, false), (16, 1, false)]
        {
            assert_eq!(told(&[&[kind << 1, temporal_id + 1, 0xaf]]), discardable, "type {kind} of {temporal_id}");
        }
        assert_eq!(started().complete(&frame(&[&[2, 3, 0xaf]])).unwrap().tid, 2);
        assert!(!told(&[&[0, 2, 0xaf], &[0, 0x0a, 0xaf]]), "a layer above may refer to it");
        let mut layered = started();
        layered.complete(&frame(&[TRAIL, &[0x02, 0x09, 0xd0]])).unwrap();
        assert!(!layered.complete(&frame(&[&[0, 2, 0xaf]])).unwrap().discardable, "and to what is lost of it");
        assert!(!H265::default().complete(&frame(&[&[0, 2, 0xaf]])).unwrap().discardable, "no key told");
        assert_eq!(started().inspect(&[0, 2, 0xaf]).unwrap().discardable, None);
    }

    #[test]
    fn a_packet_tells_keys_starts_and_nothing_else() {
        let told = |payload: &[u8]| {
            let info = H265::default().inspect(payload).unwrap();
            (info.starts_frame, info.key)
        };
        assert_eq!(told(AUD), (true, false));
        assert_eq!(told(&aggregate(&[VPS, SPS, PPS])), (true, false));
        assert_eq!(told(&aggregate(&[AUD, IDR])), (true, true));
        assert_eq!(told(&aggregate(&[SPS, PPS])), (false, false), "a VPS may be lost");
        assert_eq!(told(CRA), (false, true), "sets may be lost");
        assert_eq!(told(&[0x62, 0x01, 0x13, 1]), (false, true), "the middle of one");
        assert_eq!(told(&[0x64, 0x01, 49 << 1, 0, 0x53, 1]), (false, true), "its end in a PACI");
        assert_eq!(told(&[0x62, 0x01, 0xa0, 1]), (true, false), "a VPS begins");
        assert_eq!(told(&[0x62, 0x01, 0x60, 1]), (false, false), "and ends");
        assert_eq!(told(&[0x2a, 0x09, 0xaf]), (false, false), "of a layer above");
    }

    #[test]
    fn pictures_that_may_refer_to_those_in_front_of_the_key_are_told() {
        let leading = |kind: u8| started().complete(&frame(&[&[kind << 1, 1, 0xd0]])).unwrap().leading;
        assert_eq!((0..16).filter(|kind| leading(*kind)).collect::<Vec<_>>(), [8, 9]);
    }

    #[test]
    fn frames_of_an_encoder_that_sends_its_sets_once_get_them_at_every_key() {
        let mut codec = started();
        let none = FrameInfo::default();
        let refused = codec.packetize(annex_b(&[IDR]).into(), true, &none, LIMITS);
        assert_eq!(refused.unwrap_err(), Drop::NoParameterSets, "the sender's sets are not the encoder's");
        codec.packetize(annex_b(&[VPS, SPS, PPS, IDR]).into(), true, &none, LIMITS).unwrap();
        let again = codec.packetize(annex_b(&[AUD, IDR]).into(), true, &none, LIMITS).unwrap();
        assert_eq!(bytes(again), [aggregate(&[AUD, VPS, SPS, PPS]), IDR.to_vec()]);
    }

    #[test]
    fn the_marker_packet_is_no_aggregate_whatever_follows_the_slices() {
        let (sei, end): (&[u8], &[u8]) = (&[0x50, 0x01, 0x84, 0x80], &[0x48, 0x01]);
        let out = H265::default().packetize(annex_b(&[TRAIL, sei, end]).into(), false, &FrameInfo::default(), LIMITS);
        assert_eq!(bytes(out.unwrap()), [TRAIL, sei, end]);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let refused = |units: &[&[u8]], key| {
            let sets = &[VPS, SPS, PPS][..];
            let data = annex_b(&[sets, units].concat());
            H265::default().packetize(data.into(), key, &FrameInfo::default(), LIMITS).err()
        };
        assert_eq!(refused(&[IDR], true), None);
        let cases: [(&[&[u8]], bool); 7] = [
            (&[], false),                        // sets alone
            (&[IDR], false),                     // a key that is said to be none
            (&[TRAIL], true),                    // and the other way round
            (&[IDR, TRAIL], true),               // two pictures
            (&[TRAIL, &[0x60, 0x01, 1]], false), // a packet's type
            (&[TRAIL, &[0x50]], false),          // half a header
            (&[&[0x26, 0x01]], true),            // a slice without its header
        ];
        for (units, key) in cases {
            assert_eq!(refused(units, key), Some(Drop::BadSubmit), "{units:02x?}");
        }
    }

    #[test]
    fn fragments_that_do_not_follow_each_other_are_no_frame() {
        let [start, next, end]: [&[u8]; 3] = [&[0x62, 1, 0x81, 0xd0], &[0x62, 1, 0x01, 1], &[0x62, 1, 0x41, 1]];
        for payloads in
            [&[start, next][..], &[next, end], &[start, start, end], &[start, TRAIL, end], &[end], &[CRA, TRAIL]]
        {
            assert_eq!(started().complete(&frame(payloads)), Err(Drop::MalformedPayload), "{payloads:02x?}");
        }
        assert!(started().complete(&frame(&[start, next, end])).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_received_panics_and_what_is_accepted_fits(
            payloads in proptest::collection::vec(
                (prop_oneof![Just(0x60u8), Just(0x62), Just(0x64), Just(0x26), any::<u8>()],
                 proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x81), any::<u8>()], 1..200)), 1..6),
            first in 40usize..100,
            numbered: bool,
        ) {
            let mut codec = H265 { payloads: Payloads { numbered }, ..started() };
            let payloads: Vec<Vec<u8>> = payloads.into_iter().map(|(kind, rest)| [&[kind][..], &rest].concat()).collect();
            let accepted: Vec<&Vec<u8>> = payloads.iter().filter(|p| codec.inspect(p).is_ok()).collect();
            let packets = frame(&accepted);
            let Ok(info) = codec.complete(&packets) else { return Ok(()) };
            let data = codec.to_frame(&packets, &info);
            let limits = Limits { first, rest: first + 24 };
            let out = codec.restamp(&packets, &info, limits);
            codec.payloads.numbered = false;
            for (i, payload) in out.iter().enumerate() {
                let limit = if i == 0 { limits.first } else { limits.rest };
                prop_assert!(payload.len() <= limit);
                prop_assert!(codec.inspect(&payload.parts().concat()).is_ok());
            }
            prop_assert_eq!(codec.to_frame(&frame(&bytes(out)), &FrameInfo::default()), data);
        }

        #[test]
        fn nothing_submitted_panics_and_what_is_accepted_parses(
            data in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), any::<u8>()], 0..400), key: bool,
        ) {
            let mut codec = started();
            let limits = Limits { first: 40, rest: 60 };
            let data = [&annex_b(&[VPS, SPS, PPS, if key { IDR } else { TRAIL }]), &data[..]].concat();
            for payload in codec.packetize(data.into(), key, &FrameInfo::default(), limits).unwrap_or_default() {
                prop_assert!(payload.len() <= 60 && codec.inspect(&payload.parts().concat()).is_ok());
            }
        }
    }
}
