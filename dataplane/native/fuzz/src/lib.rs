//! A function for each parser, and one for the whole core: whatever bytes come, nothing panics, and what is accepted is
//! what it claims to be. libFuzzer calls them (`fuzz_targets/`), and so does `cargo test` with the seeds and what it makes
//! of them (`tests/fuzz.rs`).

mod shard;

pub use shard::shard;

use auralink_native::core::Time;
use auralink_native::core::codec::{Codec, FrameInfo, Limits, Payload, VideoCodec};
use auralink_native::core::dd::{Described, Descriptor, Judged, Received, Sent, Structure};
use auralink_native::core::demux::{self, Kind};
use auralink_native::core::mode;
use auralink_native::core::packet::{Content, Packet, PacketInfo};
use auralink_native::core::rtp::{self, HEADER_BYTES, Header, MTU_BYTES};
use auralink_native::core::{ext, rtcp};
use bytes::Bytes;
use std::sync::Arc;

pub type Target = fn(&[u8]);
pub const TARGETS: [(&str, Target); 11] = [
    ("rtp", rtp),
    ("rtcp", rtcp),
    ("ext", ext),
    ("dd", dd),
    ("demux", demux),
    ("h264", h264),
    ("h265", h265),
    ("vp8", vp8),
    ("vp9", vp9),
    ("av1", av1),
    ("shard", shard),
];

/// Payload bytes of our packets with our extension (24 bytes alone), and without.
const LIMITS: Limits = Limits { first: MTU_BYTES - HEADER_BYTES - 24 - 2, rest: MTU_BYTES - HEADER_BYTES - 2 };

/// Numbers and bytes that an input consists of; at its end they are zero and short.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn short(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub fn demux(data: &[u8]) {
    let kind = demux::classify(data);
    assert!(kind.is_none() || !data.is_empty());
    if kind == Some(Kind::Rtcp) {
        assert!((192..=223).contains(&data[1]));
    }
}

pub fn rtp(data: &[u8]) {
    let Ok(packet) = rtp::parse(data) else { return };
    let extension = packet.extension.map_or(0, |(_, body)| 4 + body.len());
    assert!(HEADER_BYTES + extension + packet.payload.len() <= data.len());
    let header = Header {
        marker: packet.marker,
        payload_type: packet.payload_type,
        sequence: packet.sequence,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
    };
    let ours = [7; 16];
    let written = rtp::write(&header, &[(14, &ours)], [packet.payload, &[]]);
    let again = rtp::parse(&written).expect("what we write is RTP");
    assert_eq!(
        (again.marker, again.payload_type, again.sequence),
        (packet.marker, packet.payload_type, packet.sequence)
    );
    assert_eq!((again.timestamp, again.ssrc, again.payload), (packet.timestamp, packet.ssrc, packet.payload));
    let found = again.extension.and_then(|(profile, body)| ext::find(profile, body, 14));
    assert_eq!(found, Some(&ours[..]));
}

pub fn rtcp(data: &[u8]) {
    let Ok(packets) = rtcp::parse(data) else { return };
    assert!(packets.len() * 4 <= data.len());
    for packet in packets {
        rewritten(&packet);
    }
}

/// Those that we write ourselves come back as they were.
fn rewritten(packet: &rtcp::Rtcp) {
    use rtcp::Rtcp;
    let mut writer = rtcp::Writer::default();
    let report = matches!(packet, Rtcp::SenderReport { .. } | Rtcp::ReceiverReport { .. });
    if !report {
        writer.receiver_report(1, &[]);
    }
    match packet {
        Rtcp::SenderReport { ssrc, ntp, rtp, packets, octets, blocks } => {
            writer.sender_report(*ssrc, *ntp, *rtp, *packets, *octets, blocks);
        }
        Rtcp::ReceiverReport { ssrc, blocks } => writer.receiver_report(*ssrc, blocks),
        Rtcp::Bye { ssrcs } => writer.bye(ssrcs),
        Rtcp::Pli { sender, media } => writer.pli(*sender, *media),
        Rtcp::ReferenceTime { sender, ntp } => writer.reference_time(*sender, *ntp),
        // A NACK may name a packet twice, an echo come among others, and a FIR is nothing that we write.
        Rtcp::Nack { .. } | Rtcp::SinceReference { .. } | Rtcp::Fir { .. } => return,
    }
    let again = rtcp::parse(&writer.finish()).expect("what we write is RTCP");
    assert_eq!(again.last(), Some(packet));
}

pub fn ext(data: &[u8]) {
    let mut cursor = Cursor(data);
    let profile = [0xbede, 0x1000, 0x100f, cursor.short()][usize::from(cursor.byte() & 3)];
    let id = cursor.byte();
    let body = cursor.0;
    if let Some(found) = ext::find(profile, body, id) {
        assert!(found.len() <= body.len() && found.len() <= 255);
        assert!(profile != 0xbede || (1..=16).contains(&found.len()));
    }
}

/// Descriptors, each behind a byte of what its packet is and one of its length: the lowest bit ends the frame, the next makes
/// it a key, and the next one of an encoder.
pub fn dd(data: &[u8]) {
    let mut cursor = Cursor(data);
    let (mut known, mut told) = (None, None);
    let (mut received, mut sent, mut packets) = (Received::default(), Sent::default(), Vec::new());
    for sequence in 0.. {
        if cursor.is_empty() {
            break;
        }
        let (what, len) = (cursor.byte(), cursor.byte());
        let bytes = cursor.bytes(usize::from(len));
        if let Some(descriptor) = Descriptor::read(bytes, known.as_ref()) {
            known = descriptor.structure.clone().or(known);
            let structure = known.as_ref().expect("it was read");
            let again = descriptor.write(structure).expect("it came in one");
            assert!(again.len() <= bytes.len());
            assert_eq!(Descriptor::read(&again, Some(structure)), Some(descriptor));
        }
        received.arrived(sequence, Some(bytes));
        let content = Content::Media(PacketInfo::default());
        let payload = Bytes::from_static(&[1]);
        let mut packet = Packet { sequence, timestamp: 0, marker: false, arrived: Time(0), payload, content };
        received.read(&mut packet);
        packets.push(packet);
        if what & 1 != 0 {
            let (key, kind) = (what & 2 != 0, if what & 4 != 0 { mode::Kind::Compressed } else { mode::Kind::Native });
            let described = received.frame(&std::mem::take(&mut packets), key);
            if received.judge(described.as_ref(), key) == Judged::Sound
                && let Some(described) = described
                && let Some(out) = sent.frame(&described, kind, key)
            {
                rewritten_descriptors(&described, &out, &mut told);
            }
        }
    }
}

/// A receiver that saw all packets reads what they say.
fn rewritten_descriptors(described: &Described, out: &[Vec<u8>], told: &mut Option<Arc<Structure>>) {
    let mut out = out.iter();
    for part in &described.parts {
        let mut number = None;
        for at in 0..part.packets {
            let bytes = out.next().expect("one for each packet");
            let read = Descriptor::read(bytes, told.as_ref()).expect("what we write can be read");
            assert_eq!((read.start, read.end), (at == 0, at + 1 == part.packets));
            assert_eq!(*number.get_or_insert(read.number), read.number);
            *told = read.structure.or(told.take());
        }
    }
    assert!(out.next().is_none());
}

pub fn h264(data: &[u8]) {
    codec(Codec::H264, data);
}

pub fn h265(data: &[u8]) {
    codec(Codec::H265, data);
}

pub fn vp8(data: &[u8]) {
    codec(Codec::Vp8, data);
}

pub fn vp9(data: &[u8]) {
    codec(Codec::Vp9, data);
}

pub fn av1(data: &[u8]) {
    codec(Codec::Av1, data);
}

/// A stream of received payloads and of submitted frames, each behind a byte of what it is and two of its length:
/// the lowest bit ends the frame, the next makes it one of an encoder and the next says that it is a key.
fn codec(name: Codec, data: &[u8]) {
    let Some(mut codec) = name.video() else { return };
    let mut cursor = Cursor(data);
    let (mut packets, mut native) = (Vec::new(), FrameInfo::default());
    while !cursor.is_empty() {
        let (what, len) = (cursor.byte(), cursor.short());
        let bytes = Bytes::copy_from_slice(cursor.bytes(usize::from(len)));
        if what & 2 != 0 {
            submitted(codec.as_mut(), name, bytes, what & 4 != 0, &native);
            continue;
        }
        if !bytes.is_empty() && codec.inspect(&bytes).is_ok() {
            packets.push(bytes);
        }
        if what & 1 != 0 && !packets.is_empty() {
            native = received(codec.as_mut(), name, &std::mem::take(&mut packets)).unwrap_or(native);
        }
    }
}

fn frame(codec: &dyn VideoCodec, payloads: &[Bytes]) -> Vec<Packet> {
    let packet = |(at, payload): (usize, &Bytes)| Packet {
        sequence: at as u64,
        timestamp: 0,
        marker: at + 1 == payloads.len(),
        arrived: Time(0),
        payload: payload.clone(),
        content: Content::Media(codec.inspect(payload).expect("a payload that is well formed")),
    };
    payloads.iter().enumerate().map(packet).collect()
}

/// What goes out fits, and says the same.
fn received(codec: &mut dyn VideoCodec, name: Codec, payloads: &[Bytes]) -> Option<FrameInfo> {
    let packets = frame(codec, payloads);
    let info = codec.complete(&packets).ok()?;
    if !info.picture {
        return None; // and goes no further
    }
    let whole = codec.to_frame(&packets, &info);
    assert!(!whole.is_empty());
    let sent = fitting(&codec.restamp(&packets, &info, LIMITS));
    let again = frame(codec, &sent);
    // With a state of its own: the frame brings its parameter sets along.
    let mut other = name.video()?;
    let read = other.complete(&again).expect("what we send on is a frame");
    assert_eq!((read.picture, read.key), (info.picture, info.key));
    // Of H.265 it takes the SPS to say that nothing refers to a picture, and only keys bring theirs.
    assert!(read.discardable == info.discardable || name == Codec::H265 && !read.discardable);
    assert_eq!(other.to_frame(&again, &read), whole, "the same frame");
    Some(info)
}

/// What an encoder made comes out of its packets again.
fn submitted(codec: &mut dyn VideoCodec, name: Codec, data: Bytes, key: bool, native: &FrameInfo) {
    let Ok(out) = codec.packetize(data.clone(), key, native, LIMITS) else { return };
    let packets = frame(codec, &fitting(&out));
    let mut other = name.video().expect("a codec of video");
    let read = other.complete(&packets).expect("what we cut is a frame");
    assert!(read.picture);
    assert_eq!(read.key, key);
    let back = other.to_frame(&packets, &read);
    match name {
        Codec::H264 | Codec::H265 => {
            // Parameter sets may have come in between, and start codes are ours.
            let mut out = units(&back).into_iter();
            assert!(units(&data).into_iter().all(|unit| out.any(|other| other == unit)), "every unit, in order");
        }
        Codec::Av1 => {
            // Sizes are ours, and delimiters and padding need not be sent: what came back has neither, and comes back.
            let out = other.packetize(back.clone().into(), key, native, LIMITS).expect("what comes back is a frame");
            let packets = frame(other.as_ref(), &fitting(&out));
            assert_eq!(other.to_frame(&packets, &read), back);
        }
        _ => assert_eq!(back, data),
    }
}

/// The NAL units of an Annex B byte stream, without the zeros that may stand behind each.
fn units(data: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..data.len()).filter(|at| data[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let units = starts.iter().zip(ends).map(|(start, end)| &data[start + 3..end]);
    units
        .map(|unit| &unit[..unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)])
        .filter(|unit| !unit.is_empty())
        .collect()
}

fn fitting(out: &[Payload]) -> Vec<Bytes> {
    assert!(!out.is_empty(), "a frame has packets");
    let bytes = |payload: &Payload| Bytes::from(payload.parts().concat());
    for (at, payload) in out.iter().enumerate() {
        let limit = if at == 0 { LIMITS.first } else { LIMITS.rest };
        assert!(payload.len() > 0 && payload.len() <= limit, "payload {at} has {} bytes", payload.len());
    }
    out.iter().map(bytes).collect()
}
