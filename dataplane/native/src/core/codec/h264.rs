//! H.264 over RTP (RFC 6184), packetization mode 1.
//!
//! ```text
//! single NAL unit (5.6)   | F|NRI|type 1..23 | ...
//! STAP-A (5.7.1)          | F|NRI|24 | size | NAL | size | NAL | ...
//! FU-A (5.8)              | F|NRI|28 | S|E|R|type | fragment ...
//! ```
//! A key is an IDR picture whose parameter sets are in the frame or were seen before; the cached ones go in front of
//! those that lack them, so that a receiver may start at any key.

use super::h264_payload::{NonInterleaved, fu_header, is_unit_header};
use super::h264_syntax::{NAL_AUD, NAL_IDR, NAL_SPS, Sps, discardable, is_slice, nal_type, place, slice_pps, sps};
use super::nal::{self, Joined, Packing, Piece, Unit, cut_units};
use super::parameter_sets::{ParameterSets, is_whole};
use super::rbsp::annex_b_units;
use super::{FrameInfo, Limits, Payload, VideoCodec};
use crate::core::Drop;
use crate::core::packet::{Packet, PacketInfo};
use bytes::Bytes;

#[derive(Default)]
pub struct H264 {
    received: Sets,
    /// Of the frames that the AI Core made: another encoder, other sets.
    submitted: Sets,
}

/// SPS and PPS.
#[derive(Default)]
struct Sets {
    cached: ParameterSets<2>,
    newest: Option<Sps>,
}

impl Sets {
    /// `nal` may be any unit.
    fn note(&mut self, nal: &Bytes) {
        let Some(place) = place(nal).filter(|_| is_whole(nal)) else { return };
        if nal_type(nal[0]) == NAL_SPS {
            self.newest = sps(&nal[1..]);
        }
        self.cached.note(place, nal);
    }

    fn merge(&mut self, newer: Sets) {
        self.newest = newer.newest.or(self.newest);
        self.cached.merge(newer.cached);
    }

    fn of(&self, pps: u8) -> Option<[Bytes; 2]> {
        self.cached.of(pps)
    }
}

impl VideoCodec for H264 {
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop> {
        let mut info = PacketInfo::default();
        let mut first = true;
        NonInterleaved.each_piece(payload, &mut |piece, _| {
            let (header, begins) = match piece {
                Piece::Whole(nal) => (nal[0], true),
                Piece::First([header], _) => (header, true),
                Piece::Next(_) => (fu_header(payload), false),
            };
            let nal = nal_type(header);
            if first {
                info.starts_frame = begins && matches!(nal, NAL_AUD | NAL_SPS);
                first = false;
            }
            if is_slice(nal) {
                info.key |= nal == NAL_IDR;
                info.discardable = Some(discardable(header) && info.discardable.unwrap_or(true));
            }
        })?;
        Ok(info)
    }

    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop> {
        let mut frame = Reading::default();
        for (index, packet) in packets.iter().enumerate() {
            let first_and_short = index == 0 && packet.payload.len() <= 2;
            NonInterleaved.each_piece(&packet.payload, &mut |piece, end| frame.read(piece, end, first_and_short))?;
            if frame.units.broken {
                return Err(Drop::MalformedPayload);
            }
        }
        if frame.units.open {
            return Err(Drop::MalformedPayload);
        }
        let mut info = frame.info();
        let Reading { idr_pps, present, .. } = frame;
        let complete = |pps| present.of(pps).is_some();
        let needs = idr_pps.map(|pps| pps.filter(|pps| !complete(*pps)));
        self.received.merge(present);
        match needs {
            Some(Some(pps)) => info.missing_sets = self.received.of(pps).ok_or(Drop::NoParameterSets)?.into(),
            Some(None) if idr_pps == Some(None) => return Err(Drop::MalformedPayload),
            _ => {}
        }
        (info.width, info.height) = self.received.newest.map_or((0, 0), |set| (set.width, set.height));
        info.may_reorder = self.received.newest.is_none_or(|set| set.may_reorder);
        Ok(info)
    }

    fn to_frame(&self, packets: &[Packet], info: &FrameInfo) -> Vec<u8> {
        nal::to_frame(&NonInterleaved, packets, info)
    }

    fn restamp(&self, packets: &[Packet], info: &FrameInfo, limits: Limits) -> Vec<Payload> {
        nal::restamp(&NonInterleaved, packets, info, limits)
    }

    fn packetize(
        &mut self,
        frame: Bytes,
        key: bool,
        _native: &FrameInfo,
        limits: Limits,
    ) -> Result<Vec<Payload>, Drop> {
        let mut units: Vec<Bytes> = annex_b_units(&frame).into_iter().map(|unit| frame.slice(unit)).collect();
        // A unit of another type would be a STAP or FU to whoever gets the packet.
        if !units.iter().any(|unit| is_slice(nal_type(unit[0]))) || !units.iter().all(|unit| is_unit_header(unit[0])) {
            return Err(Drop::BadSubmit);
        }
        self.add_missing_sets(&mut units, key)?;
        Ok(cut_units::<NonInterleaved>(units, limits))
    }
}

impl H264 {
    /// The encoder may repeat its sets before every IDR or only send them once.
    fn add_missing_sets(&mut self, units: &mut Vec<Bytes>, key: bool) -> Result<(), Drop> {
        let mut present = Sets::default();
        units.iter().for_each(|unit| present.note(unit));
        let idr = units.iter().find(|unit| nal_type(unit[0]) == NAL_IDR);
        if key != idr.is_some() {
            return Err(Drop::BadSubmit);
        }
        let pps = idr.map(|unit| slice_pps(&unit[1..]).ok_or(Drop::BadSubmit)).transpose()?;
        let complete = pps.is_none_or(|pps| present.of(pps).is_some());
        self.submitted.merge(present);
        if let (Some(pps), false) = (pps, complete) {
            let sets = self.submitted.of(pps).ok_or(Drop::NoParameterSets)?;
            let at = usize::from(nal_type(units[0][0]) == NAL_AUD);
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
    /// Slices that others refer to.
    kept: usize,
    /// Of the first IDR slice; None in it: unreadable.
    idr_pps: Option<Option<u8>>,
    present: Sets,
    /// Packets at the front that are an access unit delimiter alone.
    delimiters: usize,
}

impl Reading {
    /// `first_and_short`: the packet is the frame's first, and has room for a delimiter at most.
    fn read(&mut self, piece: Piece<'_, [u8; 1]>, end: bool, first_and_short: bool) {
        match self.units.push::<NonInterleaved>(piece, end) {
            None => {}
            Some(Unit::ParameterSet(nal)) => self.present.note(&nal),
            Some(Unit::Other { header: [header], payload, whole }) => match nal_type(header) {
                NAL_AUD if whole && first_and_short => self.delimiters = 1,
                nal if is_slice(nal) => {
                    self.slices += 1;
                    self.kept += usize::from(!discardable(header));
                    if nal == NAL_IDR && self.idr_pps.is_none() {
                        self.idr_pps = Some(slice_pps(payload));
                    }
                }
                _ => {}
            },
        }
    }

    /// As far as the frame tells by itself.
    fn info(&self) -> FrameInfo {
        FrameInfo {
            picture: self.slices > 0,
            key: self.idr_pps.is_some(),
            discardable: self.slices > 0 && self.kept == 0,
            sets_at: self.delimiters,
            ..FrameInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, LIMITS, annex_b, bytes};
    use super::*;
    use proptest::prelude::*;

    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83,
    ];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x11, 0x22];

    fn frame(payloads: &[&[u8]]) -> Vec<Packet> {
        testing::frame(payloads)
    }

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x78];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend(*unit);
        }
        out
    }

    #[test]
    fn aggregated_and_fragmented_units_come_out_as_one_frame() {
        let mut codec = H264::default();
        let sets = stap(&[SPS, PPS]);
        let packets = frame(&[&sets, &[0x7c, 0x85, 0x88, 0x84], &[0x7c, 0x05, 0x11], &[0x7c, 0x45, 0x22]]);
        let info = codec.complete(&packets).unwrap();
        assert!(info.key && !info.discardable && info.missing_sets.is_empty());
        assert_eq!((info.width, info.height), (1280, 720));
        assert_eq!(codec.to_frame(&packets, &info), annex_b(&[SPS, PPS, IDR]));
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS))[0], sets, "sent on as it came");
    }

    #[test]
    fn parameter_sets_in_fragments_are_remembered_too() {
        let mut codec = H264::default();
        let (begin, end) = ([&[0x7c, 0x87], &SPS[1..10]].concat(), [&[0x7c, 0x47], &SPS[10..]].concat());
        codec.complete(&frame(&[&begin, &end, PPS])).unwrap();
        let info = codec.complete(&frame(&[IDR])).unwrap();
        assert_eq!(info.missing_sets, [SPS, PPS]);
    }

    #[test]
    fn missing_sets_leave_as_one_packet_in_front() {
        let mut codec = H264::default();
        codec.complete(&frame(&[SPS, PPS, IDR])).unwrap();
        let packets = frame(&[IDR]);
        let info = codec.complete(&packets).unwrap();
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), [stap(&[SPS, PPS]), IDR.to_vec()]);
    }

    #[test]
    fn frames_of_an_encoder_that_sends_its_sets_once_get_them_at_every_key() {
        let mut codec = H264::default();
        codec.packetize(annex_b(&[SPS, PPS, IDR]).into(), true, &FrameInfo::default(), LIMITS).unwrap();
        let aud: &[u8] = &[9, 0xf0];
        let again = codec.packetize(annex_b(&[aud, IDR]).into(), true, &FrameInfo::default(), LIMITS).unwrap();
        assert_eq!(bytes(again), [stap(&[aud, SPS, PPS]), IDR.to_vec()]);
    }

    #[test]
    fn the_encoders_sets_and_the_senders_are_never_mixed() {
        let mut codec = H264::default();
        codec.complete(&frame(&[SPS, PPS, IDR])).unwrap();
        let refused = codec.packetize(annex_b(&[IDR]).into(), true, &FrameInfo::default(), LIMITS);
        assert_eq!(refused.unwrap_err(), Drop::NoParameterSets);
    }

    #[test]
    fn packet_types_of_the_interleaved_mode_are_unsupported() {
        for kind in [25, 26, 27, 29] {
            let payload = [0x60 | kind, 0, 3, 0x65, 0x88, 0x84];
            assert_eq!(H264::default().inspect(&payload), Err(Drop::UnsupportedPayload), "type {kind}");
        }
    }

    #[test]
    fn malformed_payloads_are_told() {
        let cases: [&[u8]; 10] = [
            &[],
            &[0x80 | 0x61, 1],               // forbidden bit
            &[0x60],                         // type 0
            &[0x7c, 0x85],                   // FU-A without bytes
            &[0x7c, 0xc5, 1],                // both marks
            &[0x7c, 0x9c, 1],                // a fragment of a fragment
            &[0x78],                         // STAP-A without units
            &[0x78, 0, 0],                   // an empty unit
            &[0x78, 0, 5, 0x61, 1],          // a unit beyond the end
            &[0x78, 0, 1, 0x61, 0, 1, 0x78], // an aggregate in an aggregate
        ];
        for payload in cases {
            assert_eq!(H264::default().inspect(payload), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
    }

    #[test]
    fn fragments_that_do_not_follow_each_other_are_no_frame() {
        let (start, next, end): (&[u8], &[u8], &[u8]) = (&[0x5c, 0x81, 0x88], &[0x5c, 0x01, 1], &[0x5c, 0x41, 1]);
        for payloads in [&[start, next][..], &[next, end], &[start, start, end], &[start, IDR, end], &[end]] {
            assert_eq!(H264::default().complete(&frame(payloads)), Err(Drop::MalformedPayload));
        }
        assert!(H264::default().complete(&frame(&[start, next, end])).is_ok());
    }

    #[test]
    fn a_submitted_unit_that_would_be_an_aggregate_or_a_fragment_in_a_packet_is_refused() {
        for header in [0, 24, 28, 31, 0x80 | 1] {
            let data = annex_b(&[&[0x41, 0x88, 0x84], &[header, 0x88, 0x84]]);
            let out = H264::default().packetize(data.into(), false, &FrameInfo::default(), LIMITS);
            assert_eq!(out.map(|_| ()), Err(Drop::BadSubmit), "{header:#x}");
        }
    }

    #[test]
    fn what_looks_like_a_start_code_inside_of_a_unit_does_not_cut_it() {
        let unit = [&[0x41, 0x88, 0x84, 0, 0, 1, 0x1c, 0x45, 9][..], &[7; 1500]].concat();
        let packets = frame(&[&unit]);
        let mut codec = H264::default();
        let info = codec.complete(&packets).unwrap();
        let out = bytes(codec.restamp(&packets, &info, LIMITS));
        let fragments = out.iter().flat_map(|payload| payload[2..].to_vec()).collect::<Vec<u8>>();
        assert!(out.iter().all(|payload| payload[0] & 0x1f == 28), "fragments of one unit");
        assert_eq!(fragments, unit[1..]);
    }

    proptest! {
        #[test]
        fn nothing_received_panics_and_what_is_accepted_fits(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
            first in 40usize..100,
        ) {
            let mut codec = H264::default();
            codec.complete(&frame(&[SPS, PPS, IDR])).unwrap();
            let accepted: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).filter(|p| codec.inspect(p).is_ok()).collect();
            let packets = frame(&accepted);
            if let Ok(info) = codec.complete(&packets) {
                codec.to_frame(&packets, &info);
                let limits = Limits { first, rest: first + 24 };
                for (i, payload) in codec.restamp(&packets, &info, limits).iter().enumerate() {
                    let limit = if i == 0 { limits.first } else { limits.rest };
                    prop_assert!(payload.len() <= limit);
                    prop_assert!(codec.inspect(&payload.parts().concat()).is_ok());
                }
            }
        }

        #[test]
        fn nothing_submitted_panics_and_what_is_accepted_parses(
            data in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..400), key: bool,
        ) {
            let mut codec = H264::default();
            for payload in codec.packetize(data.into(), key, &FrameInfo::default(), Limits { first: 40, rest: 60 }).unwrap_or_default() {
                prop_assert!(payload.len() <= 60);
            }
        }
    }
}
