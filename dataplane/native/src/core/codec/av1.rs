//! AV1 over RTP (AOM "RTP Payload Format For AV1" 1.0); the packets are `av1_elements`', the bitstream `av1_syntax`'s.
//!
//! ```text
//! temporal unit | OBU | OBU ... | all of one timestamp, marker on the last packet
//! AI Core       each OBU with its size, no temporal delimiter (section 5.2 of the bitstream specification)
//! out           no OBU with a size; neither temporal delimiters nor tile lists nor padding
//! ```
//! A key is a temporal unit that says that a coded video sequence begins (N = 1, or its dependency descriptor does), has a
//! sequence header and shows a key frame first. Its pictures refer to each other by what the bitstream says, so there is nothing to number.

use super::av1_elements::{COUNT, Element, GOES_ON, NEW_SEQUENCE, TO_BE_CONTINUED, Units, each_element};
use super::av1_syntax::{
    FRAME, FRAME_HEADER, HAS_SIZE, METADATA, Obu, SEQUENCE_HEADER, SEQUENCE_HEADER_BYTES, Sequence, TEMPORAL_DELIMITER,
    header_bytes, is_left_out, is_shown_key, layers, obu, obu_type, opened, push_leb128, sequence,
};
use super::{FrameInfo, Head, Limits, Payload, VideoCodec};
use crate::core::Drop;
use crate::core::carrier;
use crate::core::numbers::Slots;
use crate::core::packet::{Content, Packet, PacketInfo};
use bytes::Bytes;

/// Kept of an OBU to see what it is: header, size and the whole of a sequence header.
const FRONT_BYTES: usize = 2 + 8 + SEQUENCE_HEADER_BYTES;

#[derive(Default)]
pub struct Av1 {
    /// Of the newest key.
    size: (u32, u32),
}

impl VideoCodec for Av1 {
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop> {
        let (mut delimited, mut sequence) = (false, false);
        let mut first = true;
        each_element(payload, &mut |element| {
            let kind = if element.begins { obu_type(element.bytes[0]) } else { 0 };
            delimited |= first && kind == TEMPORAL_DELIMITER;
            sequence |= kind == SEQUENCE_HEADER;
            first = false;
        })?;
        let new = payload[0] & NEW_SEQUENCE != 0;
        Ok(PacketInfo {
            starts_frame: new || delimited,
            key: new && sequence,
            discardable: Some(false),
            ..PacketInfo::default()
        })
    }

    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop> {
        let mut unit = Reading::default();
        for packet in packets {
            each_element(&packet.payload, &mut |element| unit.read(element))?;
        }
        if unit.broken || unit.open {
            return Err(Drop::MalformedPayload);
        }
        let told = matches!(packets[0].content, Content::Media(PacketInfo { key: true, .. }));
        let new = told || packets[0].payload[0] & NEW_SEQUENCE != 0;
        let key = unit.contents.key().filter(|_| new);
        if let Some(Sequence { width, height, .. }) = key {
            self.size = (width, height);
        }
        let (width, height) = self.size;
        let Contents { frames, tid, sid, .. } = unit.contents;
        Ok(FrameInfo { picture: frames > 0, key: key.is_some(), width, height, tid, sid, ..FrameInfo::default() })
    }

    fn to_frame(&self, packets: &[Packet], _info: &FrameInfo) -> Vec<u8> {
        let units = gathered(packets);
        let mut out = Vec::with_capacity(units.bytes.len() + 4 * units.lens.len());
        for unit in units.iter() {
            let (header, payload) = unit.split_at(header_bytes(unit[0]));
            out.push(header[0] | HAS_SIZE);
            out.extend_from_slice(&header[1..]);
            push_leb128(&mut out, payload.len());
            out.extend_from_slice(payload);
        }
        out
    }

    fn restamp(&self, packets: &[Packet], info: &FrameInfo, limits: Limits) -> Vec<Payload> {
        let new = |index: usize| if info.key && index == 0 { NEW_SEQUENCE } else { 0 };
        let mut out = Vec::with_capacity(packets.len() + 1);
        if packets.iter().any(|packet| packet.payload.len() > limits.rest || !is_as_ours(&packet.payload)) {
            // A sender with a larger MTU: cut the unit as a whole, or every packet would become two. Or one that sends
            // what need not be sent.
            Units { flags: new(0), ..gathered(packets) }.cut(limits, &mut out);
            return out;
        }
        for (index, packet) in packets.iter().enumerate() {
            let flags = packet.payload[0] & (GOES_ON | TO_BE_CONTINUED);
            if packet.payload.len() <= if index == 0 { limits.first } else { limits.rest } {
                let head = [flags | packet.payload[0] & COUNT | new(index)];
                out.push(Payload { head: Head::new(&head, Slots::default()), body: packet.payload.slice(1..) });
                continue;
            }
            let mut units = Units { flags: flags | new(index), ..Units::default() };
            // `complete` accepted every packet, so there is no error to handle.
            let _ = each_element(&packet.payload, &mut |element| units.push([element.bytes, &[]]));
            units.cut(limits, &mut out);
        }
        out
    }

    /// No OBU lies in two of them.
    fn is_layer(&self, packets: &[Packet]) -> bool {
        let is = |packet: Option<&Packet>, flag| packet.is_some_and(|packet| packet.payload[0] & flag != 0);
        !packets.is_empty() && !is(packets.first(), GOES_ON) && !is(packets.last(), TO_BE_CONTINUED)
    }

    fn packetize(
        &mut self,
        frame: Bytes,
        key: bool,
        _native: &FrameInfo,
        limits: Limits,
    ) -> Result<Vec<Payload>, Drop> {
        let mut units = Units { flags: if key { NEW_SEQUENCE } else { 0 }, ..Units::default() };
        let mut contents = Contents::default();
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let (obu, behind) = obu(rest).ok_or(Drop::BadSubmit)?;
            contents.note(obu.header, obu.payload).ok_or(Drop::BadSubmit)?;
            push(&mut units, obu);
            rest = behind;
        }
        if contents.frames == 0 || contents.key().is_some() != key {
            return Err(Drop::BadSubmit);
        }
        let mut out = Vec::with_capacity(frame.len() / limits.first.min(limits.rest) + 2);
        units.cut(limits, &mut out);
        Ok(out)
    }
}

/// Whether a packet may go on as it came: nothing in it that is left out, and no OBU with a size.
fn is_as_ours(payload: &[u8]) -> bool {
    let mut as_ours = true;
    let walked = each_element(payload, &mut |element| {
        as_ours &= !element.begins || !may_be_left_out(&element) && element.bytes[0] & HAS_SIZE == 0;
    });
    as_ours && walked.is_ok()
}

/// Of an OBU without a size; only a whole one tells what it is metadata of.
fn may_be_left_out(element: &Element<'_>) -> bool {
    let (header, payload) = element.bytes.split_at(header_bytes(element.bytes[0]).min(element.bytes.len()));
    is_left_out(header[0]) || obu_type(header[0]) == METADATA && !element.ends || is_carrier(header, payload)
}

/// AuraLink's value, of the frame as somebody in front of us sent it.
fn is_carrier(header: &[u8], payload: &[u8]) -> bool {
    obu_type(header[0]) == METADATA && carrier::read_metadata(payload).is_some()
}

fn push(units: &mut Units, Obu { header, payload }: Obu<'_>) {
    if !is_left_out(header[0]) && !is_carrier(header, payload) {
        units.push([header, payload]);
        let at = units.bytes.len() - header.len() - payload.len();
        units.bytes[at] &= !HAS_SIZE;
    }
}

/// A unit's OBUs, as they go out.
fn gathered(packets: &[Packet]) -> Units {
    let (mut units, mut fragments) = (Units::default(), Vec::new());
    for packet in packets {
        // `complete` accepted every packet and what they are together, so there is no error to handle.
        let _ = each_element(&packet.payload, &mut |element| {
            if element.begins && element.ends {
                obu(element.bytes).into_iter().for_each(|(obu, _)| push(&mut units, obu));
                return;
            }
            fragments.extend_from_slice(element.bytes);
            if element.ends {
                obu(&fragments).into_iter().for_each(|(obu, _)| push(&mut units, obu));
                fragments.clear();
            }
        });
    }
    units
}

/// What the OBUs of a temporal unit say.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    frames: usize,
    sequence: Option<Sequence>,
    /// The first frame does.
    shows_a_key: bool,
    /// The highest layers of its frames.
    tid: u8,
    sid: u8,
}

impl Contents {
    /// None: it is not what its type says. The end of a long payload may be missing.
    fn note(&mut self, header: &[u8], payload: &[u8]) -> Option<()> {
        match obu_type(header[0]) {
            SEQUENCE_HEADER => self.sequence = self.sequence.or(Some(sequence(payload)?)),
            FRAME | FRAME_HEADER => {
                let reduced = self.sequence.is_some_and(|sequence| sequence.reduced);
                self.shows_a_key |= self.frames == 0 && is_shown_key(*payload.first()?, reduced);
                self.frames += 1;
                let (tid, sid) = layers(header);
                (self.tid, self.sid) = (self.tid.max(tid), self.sid.max(sid));
            }
            _ => {}
        }
        Some(())
    }

    /// What a decoder may begin with.
    fn key(&self) -> Option<Sequence> {
        self.sequence.filter(|_| self.shows_a_key)
    }
}

/// A temporal unit, read element by element.
#[derive(Default)]
struct Reading {
    contents: Contents,
    /// The beginning of the OBU that goes on.
    front: Vec<u8>,
    /// All of it.
    len: usize,
    open: bool,
    /// An OBU goes on that had not begun, or does not where it should, or is not what it says.
    broken: bool,
}

impl Reading {
    fn read(&mut self, element: Element<'_>) {
        self.broken |= element.begins == self.open;
        self.open = !element.ends;
        if element.begins && element.ends {
            return self.judge(element.bytes, element.bytes.len());
        }
        if element.begins {
            self.front.clear();
            self.len = 0;
        }
        let room = FRONT_BYTES - self.front.len();
        self.front.extend_from_slice(&element.bytes[..room.min(element.bytes.len())]);
        self.len += element.bytes.len();
        if element.ends {
            let front = std::mem::take(&mut self.front);
            self.judge(&front, self.len);
            self.front = front;
        }
    }

    /// `front`: the beginning of an OBU of `len` bytes, or all of it.
    fn judge(&mut self, front: &[u8], len: usize) {
        let sound = opened(front).and_then(|(header, size, payload)| {
            let told = size.map(|size| size.checked_add(front.len() - payload.len()));
            told.is_none_or(|told| told == Some(len)).then(|| self.contents.note(header, payload))?
        });
        self.broken |= sound.is_none();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{LIMITS, bytes, frame};
    use super::*;
    use proptest::prelude::*;

    /// 640x360.
    const SEQUENCE: [u8; 9] = [0x08, 0x00, 0x00, 0x00, 0x24, 0xc4, 0xff, 0x67, 0x80];
    const KEY: [u8; 4] = [0x30, 0x10, 1, 2];
    const INTER: [u8; 4] = [0x30, 0x30, 3, 4];

    /// Two elements, the second without a length.
    fn two(flags: u8, one: &[u8], two: &[u8]) -> Vec<u8> {
        [&[flags | 0x20, one.len() as u8][..], one, two].concat()
    }

    /// An OBU with its size.
    fn sized(obu: &[u8]) -> Vec<u8> {
        [&[obu[0] | HAS_SIZE, obu.len() as u8 - 1][..], &obu[1..]].concat()
    }

    #[test]
    fn a_packet_tells_where_a_unit_starts_and_whether_a_sequence_does() {
        let told = |payload: &[u8]| Av1::default().inspect(payload).map(|info| (info.starts_frame, info.key));
        assert_eq!(told(&two(0x08, &SEQUENCE, &KEY)), Ok((true, true)));
        assert_eq!(told(&two(0x00, &SEQUENCE, &KEY)), Ok((false, false)), "a sequence header that begins none");
        assert_eq!(told(&[0x18, 0x30, 0x10]), Ok((true, false)), "none that could begin one");
        assert_eq!(told(&two(0x00, &[0x10], &INTER)), Ok((true, false)), "a temporal delimiter");
        assert_eq!(told(&two(0x80, &[0x10], &INTER)), Ok((false, false)), "no OBU begins there");
        assert_eq!(told(&[0x10, 0x30, 0x30]), Ok((false, false)));
        assert_eq!(told(&[0x10, 0x80]), Err(Drop::MalformedPayload));
    }

    #[test]
    fn a_key_is_one_by_n_sequence_header_and_frame_header() {
        let told = |payloads: &[Vec<u8>]| Av1::default().complete(&frame(payloads)).unwrap();
        let key = told(&[two(0x08, &SEQUENCE, &KEY)]);
        assert!(key.key && key.picture && !key.discardable && !key.may_reorder);
        assert_eq!((key.width, key.height), (640, 360));
        assert!(told(&[two(0x48, &SEQUENCE, &KEY[..1]), [&[0x90], &KEY[1..]].concat()]).key, "in fragments");
        let in_two = [[&[0x58], &SEQUENCE[..5]].concat(), two(0x80, &SEQUENCE[5..], &KEY)];
        assert!(told(&in_two).key, "its sequence header too");
        for other in [two(0x00, &SEQUENCE, &KEY), two(0x08, &SEQUENCE, &INTER), [&[0x18][..], &KEY].concat()] {
            assert!(!told(&[other]).key);
        }
        let hidden = [&[0x38, 9][..], &SEQUENCE, &[2, 0x30, 0x00], &KEY].concat();
        assert!(!told(&[hidden]).key, "a hidden frame is the first");
        assert!(!told(&[[&[0x18][..], &SEQUENCE].concat()]).picture);
    }

    #[test]
    fn the_highest_layers_of_a_units_frames_are_told() {
        let layered = |obu: &[u8], layers: u8| [&[obu[0] | 4, layers], &obu[1..]].concat();
        let told = |payload: Vec<u8>| Av1::default().complete(&frame(&[payload])).map(|info| (info.tid, info.sid));
        assert_eq!(told([&[0x10][..], &INTER].concat()), Ok((0, 0)));
        assert_eq!(told(two(0x00, &layered(&INTER, 0x40), &layered(&INTER, 0x50))), Ok((2, 2)));
        assert_eq!(told(two(0x00, &layered(&[0x28, 1], 0xf8), &layered(&INTER, 0x20))), Ok((1, 0)), "not of metadata");
    }

    #[test]
    fn packets_in_which_no_obu_goes_on_stand_for_themselves() {
        let is_layer = |payloads: &[&[u8]]| Av1::default().is_layer(&frame(payloads));
        let (begin, end, whole): (&[u8], &[u8], &[u8]) = (&[0x50, 0x30, 0x30], &[0x90, 1], &[0x10, 0x30, 0x30]);
        assert!(is_layer(&[begin, end]) && is_layer(&[whole]) && is_layer(&[whole, begin, end]));
        assert!(!is_layer(&[begin]) && !is_layer(&[end, whole]) && !is_layer(&[]));
    }

    #[test]
    fn a_key_needs_no_n_where_its_packet_is_known_to_begin_a_sequence() {
        let mut packets = frame(&[two(0x00, &SEQUENCE, &KEY)]);
        packets[0].content = Content::Media(PacketInfo { key: true, ..PacketInfo::default() });
        let mut codec = Av1::default();
        let info = codec.complete(&packets).unwrap();
        assert!(info.key);
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), [two(0x08, &SEQUENCE, &KEY)]);
    }

    #[test]
    fn later_units_keep_the_size_of_the_key() {
        let mut codec = Av1::default();
        codec.complete(&frame(&[two(0x08, &SEQUENCE, &KEY)])).unwrap();
        let inter = codec.complete(&frame(&[[&[0x10][..], &INTER].concat()])).unwrap();
        assert_eq!((inter.key, inter.width, inter.height), (false, 640, 360));
    }

    #[test]
    fn fragments_that_do_not_follow_each_other_are_no_unit() {
        let (begin, middle, end, whole): (&[u8], &[u8], &[u8], &[u8]) =
            (&[0x50, 0x30, 0x30], &[0xd0, 1], &[0x90, 1], &[0x10, 0x30, 0x30]);
        for payloads in [&[middle, end][..], &[begin, middle], &[begin, begin, end], &[whole, end], &[begin, whole]] {
            assert_eq!(Av1::default().complete(&frame(payloads)), Err(Drop::MalformedPayload), "{payloads:02x?}");
        }
        for payloads in [&[begin, middle, end][..], &[begin, &[0xd0, 0x00][..1].repeat(2), end], &[whole, begin, end]] {
            assert!(Av1::default().complete(&frame(payloads)).is_ok(), "{payloads:02x?}");
        }
    }

    #[test]
    fn a_unit_that_is_not_what_it_says_is_refused() {
        let cases: [&[u8]; 5] = [
            &[0x10, 0x30],                // a frame without a byte
            &[0x18, 0x08, 0x00, 0x00],    // a sequence header that ends early
            &[0x10, 0x32, 3, 0x30, 1],    // a size beyond the element
            &[0x10, 0x32, 1, 0x30, 1],    // or short of it
            &[0x10, 0x32, 0x80, 0x80, 1], // or without an end
        ];
        for payload in cases {
            assert_eq!(Av1::default().complete(&frame(&[payload])), Err(Drop::MalformedPayload), "{payload:02x?}");
        }
    }

    #[test]
    fn the_ai_core_gets_sizes_and_nothing_that_delimits() {
        let unit = [sized(&SEQUENCE), sized(&KEY)].concat();
        let delimited = [&[0x08, 1, 0x10, 9][..], &SEQUENCE, &[3, 0x78, 0, 0, 4], &KEY].concat();
        let with_sizes = [two(0x48, &sized(&SEQUENCE), &sized(&KEY)[..1]), [&[0x90], &sized(&KEY)[1..]].concat()];
        for payloads in [vec![two(0x08, &SEQUENCE, &KEY)], vec![delimited], with_sizes.to_vec()] {
            let mut codec = Av1::default();
            let packets = frame(&payloads);
            let info = codec.complete(&packets).unwrap();
            assert!(info.key, "{payloads:02x?}");
            assert_eq!(codec.to_frame(&packets, &info), unit);
        }
    }

    #[test]
    fn packets_without_sizes_and_delimiters_stay_as_they_are() {
        let payloads = [two(0x48, &SEQUENCE, &KEY[..2]), [&[0xd0], &KEY[2..3]].concat(), two(0x80, &KEY[3..], &INTER)];
        let mut codec = Av1::default();
        let packets = frame(&payloads);
        let info = codec.complete(&packets).unwrap();
        assert_eq!(bytes(codec.restamp(&packets, &info, LIMITS)), payloads);
    }

    #[test]
    fn n_is_on_the_first_packet_of_a_key_and_reserved_bits_on_none() {
        let restamped = |payloads: &[Vec<u8>]| {
            let mut codec = Av1::default();
            let packets = frame(payloads);
            let info = codec.complete(&packets).unwrap();
            bytes(codec.restamp(&packets, &info, LIMITS))
        };
        let rest = |flags: u8| [&[flags][..], &INTER].concat();
        assert_eq!(restamped(&[two(0x0f, &SEQUENCE, &KEY), rest(0x1f)]), [two(0x08, &SEQUENCE, &KEY), rest(0x10)]);
        assert_eq!(restamped(&[rest(0x18)]), [rest(0x10)], "no key, whatever it says");
    }

    #[test]
    fn what_need_not_be_sent_is_cut_out() {
        let payloads = [
            [&[0x08, 2, 0x12, 0, 10][..], &sized(&SEQUENCE), &[5], &sized(&KEY)].concat(),
            two(0x00, &[0x40, 1], &INTER), // a tile list
            vec![0x10, 0x78, 0, 0],        // padding
        ];
        let mut codec = Av1::default();
        let packets = frame(&payloads);
        let info = codec.complete(&packets).unwrap();
        let out = bytes(codec.restamp(&packets, &info, LIMITS));
        assert_eq!(out, [[&[0x38, 9][..], &SEQUENCE, &[4], &KEY, &INTER].concat()]);
    }

    #[test]
    fn a_packet_too_long_for_the_extension_is_cut_alone() {
        let payloads =
            [two(0x48, &SEQUENCE, &[&KEY[..], &[7; 60]].concat()), [&[0xd0][..], &[8; 70]].concat(), vec![0x90, 9]];
        let mut codec = Av1::default();
        let packets = frame(&payloads);
        let info = codec.complete(&packets).unwrap();
        let out = bytes(codec.restamp(&packets, &info, Limits { first: 60, rest: 90 }));
        assert_eq!(out.iter().map(|payload| payload[0]).collect::<Vec<_>>(), [0x68, 0xd0, 0xd0, 0x90]);
        assert_eq!(out[2..], payloads[1..]);
        assert_eq!(codec.to_frame(&frame(&out), &info), codec.to_frame(&packets, &info));
    }

    #[test]
    fn an_encoders_unit_leaves_without_sizes_and_an_answer_that_is_not_what_it_says_is_refused() {
        let submit = |data: &[u8], key| {
            let out = Av1::default().packetize(Bytes::copy_from_slice(data), key, &FrameInfo::default(), LIMITS);
            out.map(|out| bytes(&out))
        };
        let key = [&[0x12, 0][..], &sized(&SEQUENCE), &sized(&KEY)].concat();
        assert_eq!(submit(&key, true), Ok(vec![two(0x08, &SEQUENCE, &KEY)]));
        assert_eq!(submit(&sized(&INTER), false), Ok(vec![[&[0x10][..], &INTER].concat()]));
        let refused: [(&[u8], bool); 8] = [
            (&key, false),
            (&sized(&INTER), true),
            (&sized(&KEY), true), // no sequence header
            (&sized(&SEQUENCE), false),
            (&key[..key.len() - 1], true),
            (&[], false),
            (&[0x80], false),
            (&[0x12, 0], false),
        ];
        for (data, key) in refused {
            assert_eq!(submit(data, key), Err(Drop::BadSubmit), "{data:02x?}");
        }
    }

    /// Payloads that are often nearly sound.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let odd = proptest::collection::vec(any::<u8>(), 0..200);
        let element = proptest::collection::vec(prop_oneof![Just(0x30u8), Just(0x32), Just(0x10), 0u8..40], 1..90);
        let sound = (any::<u8>(), proptest::collection::vec(element, 1..5)).prop_map(|(flags, elements)| {
            let lengths = elements.iter().flat_map(|e| [&[e.len() as u8][..], e].concat());
            [flags & 0xc8].into_iter().chain(lengths).collect()
        });
        prop_oneof![odd, sound]
    }

    proptest! {
        #[test]
        fn nothing_received_panics_and_what_is_accepted_fits(
            payloads in proptest::collection::vec(payload(), 1..6), first in 40usize..100,
        ) {
            let mut codec = Av1::default();
            let accepted: Vec<&Vec<u8>> = payloads.iter().filter(|p| codec.inspect(p).is_ok()).collect();
            let packets = frame(&accepted);
            let info = if packets.is_empty() { return Ok(()) } else { codec.complete(&packets) };
            let Ok(info) = info else { return Ok(()) };
            if !info.picture { return Ok(()) }
            let limits = Limits { first, rest: first + 24 };
            let out = codec.restamp(&packets, &info, limits);
            prop_assert!(!out.is_empty());
            for (i, payload) in out.iter().enumerate() {
                let limit = if i == 0 { limits.first } else { limits.rest };
                prop_assert!(payload.len() <= limit);
            }
            let again = frame(&bytes(&out));
            prop_assert_eq!(codec.to_frame(&again, &info), codec.to_frame(&packets, &info));
            prop_assert_eq!(codec.complete(&again), Ok(info.clone()));
            let unit = Bytes::from(codec.to_frame(&packets, &info));
            if let Ok(out) = codec.packetize(unit.clone(), info.key, &info, limits) {
                prop_assert_eq!(codec.to_frame(&frame(&bytes(&out)), &info), unit);
            }
        }

        #[test]
        fn nothing_submitted_panics_and_what_is_accepted_comes_back(
            data in proptest::collection::vec(prop_oneof![Just(0x32u8), 0u8..40, any::<u8>()], 0..400), key: bool,
            first in 40usize..100,
        ) {
            let mut codec = Av1::default();
            let data = if key { [sized(&SEQUENCE), sized(&KEY), data].concat() } else { data };
            let limits = Limits { first, rest: first + 24 };
            if let Ok(out) = codec.packetize(data.into(), key, &FrameInfo::default(), limits) {
                prop_assert!(out.iter().all(|payload| payload.len() <= limits.rest) && out[0].len() <= limits.first);
                prop_assert_eq!(codec.complete(&frame(&bytes(&out))).map(|info| (info.picture, info.key)), Ok((true, key)));
            }
        }
    }
}
