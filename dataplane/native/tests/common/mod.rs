//! A shard in virtual time with a sender on one side and a receiver on the other, neither of which shares code with it.
#![allow(dead_code)] // each test file uses a part

pub mod av1;
pub mod call;
pub mod coding;
pub mod dd;
pub mod h264;
pub mod h265;
pub mod network;
pub mod receiver;
pub mod sound;
pub mod vpx;
pub mod wire;

use auralink_native::core::carrier::Carrier;
use auralink_native::core::codec::{Codec, Media};
use auralink_native::core::elements::Ids;
use auralink_native::core::leg_plain::{Direction, LegConfig, MediumConfig, PayloadType, Sockets};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::{Event, Frame, Output, Transmit};
use auralink_native::core::rtp::{self, Rtp};
use auralink_native::core::shard::{Input, Shard};
use auralink_native::core::{LegId, Now, OutId, SockId, StreamId, Time};
use std::net::SocketAddr;
use std::time::Duration;

pub const SPS: [u8; 24] = [
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
    0x03, 0x03, 0xc0, 0xf1, 0x83,
];
pub const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
pub const VIDEO_PT: u8 = 96;
pub const VP8_PT: u8 = 98;
pub const VP9_PT: u8 = 100;
pub const H265_PT: u8 = 102;
pub const H265_NUMBERED_PT: u8 = 103;
pub const AV1_PT: u8 = 104;
pub const AUDIO_PT: u8 = 111;
pub const SSRC: u32 = 0x1111_2222;
pub const EXTENSION_ID: u8 = 14;
/// Sockets of the sending and of the receiving leg.
pub const IN_RTP: SockId = SockId(10);
pub const IN_RTCP: SockId = SockId(11);
pub const OUT_RTP: SockId = SockId(20);
pub const OUT_RTCP: SockId = SockId(21);
pub const FRAME_TICKS: u32 = 3000;

pub fn sender() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5004))
}

pub fn receiver() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 6004))
}

/// A small generator of its own, so that runs repeat.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// In one of three a packet's front, where it matters, or its length, and of these some again.
pub fn mangle(random: &mut Random, packet: &mut Vec<u8>) {
    while random.below(3) == 0 {
        match random.below(4) {
            0 => packet.truncate(12 + random.below(20) as usize),
            _ => {
                let at = 12 + random.below(12) as usize;
                packet.get_mut(at).into_iter().for_each(|byte| *byte = random.next() as u8);
            }
        }
    }
}

/// Whatever came in: no packet is above the MTU, and their numbers have no hole.
pub fn assert_whole(media: &[Left]) {
    assert!(media.iter().all(|left| left.bytes.len() <= 1200));
    let number = |left: &Left| left.rtp().sequence;
    assert!(media.windows(2).all(|pair| number(&pair[1]) == number(&pair[0]).wrapping_add(1)));
}

/// A slice NAL unit of `len` bytes with `id` in it and no emulation.
pub fn slice(header: u8, id: u64, len: usize) -> Vec<u8> {
    let mut nal = vec![header, 0x88, 0x84]; // first_mb 0, slice type 7, PPS 0
    nal.extend(id.to_be_bytes().iter().flat_map(|b| [0x10 | b >> 4, 0x10 | b & 15]));
    let mut random = Random(id);
    while nal.len() < len {
        nal.push(4 + (random.next() % 250) as u8);
    }
    nal
}

pub fn idr(id: u64, len: usize) -> Vec<u8> {
    slice(0x65, id, len)
}

pub fn predicted(id: u64, len: usize) -> Vec<u8> {
    slice(0x41, id, len)
}

pub fn unreferenced(id: u64, len: usize) -> Vec<u8> {
    slice(0x01, id, len)
}

/// The id that `slice` wrote.
pub fn id_of(nal: &[u8]) -> u64 {
    let digits = &nal[3..19];
    u64::from_be_bytes(std::array::from_fn(|i| digits[2 * i] << 4 | digits[2 * i + 1] & 15))
}

pub fn annex_b(nals: &[Vec<u8>]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1], &nal[..]].concat()).collect()
}

/// A plain RFC 6184 packetiser: single NAL units and FU-As of at most `mtu` bytes of payload.
pub fn payloads(nals: &[Vec<u8>], mtu: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for nal in nals {
        if nal.len() <= mtu {
            out.push(nal.clone());
            continue;
        }
        let pieces: Vec<&[u8]> = nal[1..].chunks(mtu - 2).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let marks = if i == 0 { 0x80 } else { 0 } | if i + 1 == pieces.len() { 0x40 } else { 0 };
            out.push([&[nal[0] & 0xe0 | 28, marks | nal[0] & 0x1f], *piece].concat());
        }
    }
    out
}

/// Takes payloads apart again: the NAL units of one frame. Panics where a receiver would be lost.
pub fn nals(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut open = false;
    for payload in payloads {
        match payload[0] & 0x1f {
            28 => {
                let (start, end) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
                assert!(start != open, "fragments of one NAL unit follow each other");
                assert!(!(start && end));
                if start {
                    out.push(vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
                }
                out.last_mut().unwrap().extend(&payload[2..]);
                open = !end;
            }
            24 => {
                assert!(!open);
                let mut rest = &payload[1..];
                while !rest.is_empty() {
                    let size = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    out.push(rest[2..2 + size].to_vec());
                    rest = &rest[2 + size..];
                }
            }
            _ => {
                assert!(!open);
                out.push(payload.clone());
            }
        }
    }
    assert!(!open, "the last NAL unit is whole");
    out
}

pub fn packet(ssrc: u32, pt: u8, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, u8::from(marker) << 7 | pt];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Numbers its frames' packets.
pub struct Sender {
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub mtu: usize,
}

impl Sender {
    pub fn new(sequence: u16, timestamp: u32) -> Sender {
        Sender { ssrc: SSRC, sequence, timestamp, mtu: 1100 }
    }

    /// The packets of the next frame.
    pub fn frame(&mut self, nals: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let payloads = payloads(nals, self.mtu);
        let end = payloads.len() - 1;
        let timestamp = self.timestamp;
        self.timestamp = self.timestamp.wrapping_add(FRAME_TICKS);
        payloads
            .iter()
            .enumerate()
            .map(|(i, payload)| {
                let bytes = packet(self.ssrc, VIDEO_PT, self.sequence, timestamp, i == end, payload);
                self.sequence = self.sequence.wrapping_add(1);
                bytes
            })
            .collect()
    }

    pub fn key(&mut self, id: u64, len: usize) -> Vec<Vec<u8>> {
        self.frame(&[SPS.to_vec(), PPS.to_vec(), idr(id, len)])
    }

    pub fn delta(&mut self, id: u64, len: usize) -> Vec<Vec<u8>> {
        self.frame(&[predicted(id, len)])
    }
}

/// A packet that left.
#[derive(Clone, Debug)]
pub struct Left {
    pub at: Time,
    pub sock: SockId,
    pub dst: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Left {
    pub fn rtp(&self) -> Rtp<'_> {
        rtp::parse(&self.bytes).unwrap()
    }
}

/// A frame as a receiver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub timestamp: u32,
    pub nals: Vec<Vec<u8>>,
    pub extension: Option<[u8; 16]>,
    pub packets: usize,
}

pub struct World {
    pub shard: Shard,
    pub now: Time,
    pub wake: Time,
    pub left: Vec<Left>,
    pub frames: Vec<Frame>,
    pub events: Vec<Event>,
    pub source: LegId,
    pub target: LegId,
}

pub fn config(direction: Direction, feedback: bool, remote: Option<SocketAddr>) -> LegConfig {
    let video = [
        (VIDEO_PT, Codec::H264),
        (VP8_PT, Codec::Vp8),
        (VP9_PT, Codec::Vp9),
        (H265_PT, Codec::H265),
        (H265_NUMBERED_PT, Codec::H265),
        (AV1_PT, Codec::Av1),
    ];
    let video = video.map(|(number, codec)| PayloadType {
        number,
        codec,
        clock_rate: 90_000,
        order_numbers: number == H265_NUMBERED_PT,
        rtx: None,
        red: None,
    });
    let audio = PayloadType {
        number: AUDIO_PT,
        codec: Codec::Opus,
        clock_rate: 48_000,
        order_numbers: false,
        rtx: None,
        red: None,
    };
    LegConfig {
        name: "leg".into(),
        room: "room".into(),
        direction,
        feedback,
        rtcp_mux: false,
        extension_id: EXTENSION_ID,
        ids: Ids::default(),
        carrier: Carrier::None,
        media: vec![
            MediumConfig { media: Media::Video, payloads: video.to_vec(), remote },
            MediumConfig { media: Media::Audio, payloads: vec![audio], remote },
        ],
        srtp: None,
    }
}

impl World {
    pub fn new(feedback: bool) -> World {
        World::with_remote(feedback, Some(sender()))
    }

    pub fn with_remote(feedback: bool, source_remote: Option<SocketAddr>) -> World {
        let source = config(Direction::Receive, feedback, source_remote);
        World::between(source, config(Direction::Send, feedback, Some(receiver())))
    }

    /// Audio shares the video's addresses and has sockets two above.
    pub fn between(source: LegConfig, target: LegConfig) -> World {
        let mut random = Random(7);
        let mut shard = Shard::new(Box::new(move || random.next()));
        let sockets =
            |first: u64| [0, 2].map(|above| Sockets { rtp: SockId(first + above), rtcp: SockId(first + above + 1) });
        let now = Now { mono: Time::from_millis(1000), unix: Duration::from_secs(1_700_000_000) };
        let source = shard.open_leg(source, &sockets(10), now);
        let target = shard.open_leg(target, &sockets(20), now);
        let mut world = World {
            shard,
            now: now.mono,
            wake: Time::NEVER,
            left: Vec::new(),
            frames: Vec::new(),
            events: Vec::new(),
            source,
            target,
        };
        world.settle();
        world
    }

    /// With a video stream in `mode`, its first key sent by `sender` and an out.
    pub fn started(feedback: bool, mode: Mode, sender: &mut Sender) -> (World, StreamId, OutId) {
        World::started_with(feedback, mode, &sender.key(0, 500))
    }

    /// The same with the first key's packets, whatever the codec.
    pub fn started_with(feedback: bool, mode: Mode, first: &[Vec<u8>]) -> (World, StreamId, OutId) {
        let mut world = World::new(feedback);
        world.receive_all(first);
        let stream = world.stream();
        let out = world.link(stream);
        world.set_mode(stream, mode);
        (world, stream, out)
    }

    pub fn now(&self) -> Now {
        Now { mono: self.now, unix: Duration::from_secs(1_700_000_000) + (self.now - Time(0)) }
    }

    pub fn stream(&self) -> StreamId {
        let started = self.events.iter().rev().find_map(|event| match event {
            Event::StreamStarted { stream, .. } => Some(*stream),
            _ => None,
        });
        started.expect("a stream started")
    }

    pub fn link(&mut self, stream: StreamId) -> OutId {
        let out = self.shard.link(stream, self.target, self.now()).unwrap();
        self.settle();
        out
    }

    pub fn set_mode(&mut self, stream: StreamId, mode: Mode) {
        let policy = Policy { mode, extension: true, degraded: false };
        assert!(self.shard.set_mode(stream, policy, None, self.now()));
        self.settle();
    }

    /// False: this answer, or one that waited behind it, was refused.
    pub fn submit(&mut self, stream: StreamId, frame_id: u64, data: Option<&[u8]>, key: bool) -> bool {
        let ext = data.map(|_| [1; 16]);
        let data = data.map(|data| data.to_vec().into());
        let told = self.events.len();
        self.shard.submit(stream, frame_id, data, ext, key, self.now());
        self.settle();
        !self.events[told..].iter().any(|event| matches!(event, Event::SubmitRefused { .. }))
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.receive_from(IN_RTP, sender(), bytes);
    }

    pub fn receive_from(&mut self, sock: SockId, src: SocketAddr, bytes: &[u8]) {
        self.shard.handle(Input::Datagram { sock, src, data: bytes }, self.now());
        self.settle();
    }

    pub fn receive_all(&mut self, packets: &[Vec<u8>]) {
        packets.iter().for_each(|packet| self.receive(packet));
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance_to(self.now + Duration::from_millis(ms));
    }

    pub fn advance_to(&mut self, until: Time) {
        while self.wake <= until {
            self.now = self.now.max(self.wake);
            let before = self.wake;
            self.shard.handle(Input::Timeout, self.now());
            self.settle();
            assert!(self.wake > before || self.wake > self.now, "time goes on");
        }
        self.now = until;
    }

    pub fn settle(&mut self) {
        loop {
            match self.shard.poll() {
                Output::Transmit(Transmit { sock, dst, bytes, last_of }) => {
                    self.left.push(Left { at: self.now, sock, dst, bytes: bytes.to_vec() });
                    if let Some(tag) = last_of {
                        self.shard.handle(Input::Sent(tag), self.now());
                    }
                }
                Output::Frame(frame) => self.frames.push(frame),
                Output::Event(event) => self.events.push(event),
                Output::Timeout(at) => {
                    self.wake = at;
                    return;
                }
            }
        }
    }

    pub fn media(&self) -> Vec<Left> {
        self.left.iter().filter(|left| left.sock == OUT_RTP).cloned().collect()
    }

    pub fn drops(&self, reason: &str) -> i64 {
        self.shard.stats().get("drops").unwrap().get(reason).and_then(|n| n.int()).unwrap_or(0)
    }

    pub fn out_stat(&self, out: OutId, name: &str) -> i64 {
        self.shard.stats().get("outs").unwrap().row(out.0).unwrap().get(name).unwrap().int().unwrap()
    }

    /// Checks what every receiver relies on, and returns the frames.
    pub fn seen(&self) -> Vec<Seen> {
        seen(&self.media())
    }
}

/// A frame as packets brought it.
#[derive(Clone, Debug)]
pub struct Gathered {
    pub timestamp: u32,
    pub extension: Option<[u8; 16]>,
    pub payloads: Vec<Vec<u8>>,
}

/// One SSRC, contiguous numbers, one timestamp up to each marker, nothing above the MTU, the extension on first packets
/// only.
pub fn gathered(packets: &[Left], payload_type: u8) -> Vec<Gathered> {
    let mut frames = Vec::new();
    let mut gathered: Vec<Vec<u8>> = Vec::new();
    let mut extension = None;
    for (i, left) in packets.iter().enumerate() {
        let rtp = left.rtp();
        assert!(left.bytes.len() <= 1200, "{} bytes", left.bytes.len());
        if i > 0 {
            let before = packets[i - 1].rtp();
            assert_eq!(rtp.sequence, before.sequence.wrapping_add(1), "numbers are contiguous");
            assert_eq!(rtp.ssrc, before.ssrc);
            assert!(gathered.is_empty() || rtp.timestamp == before.timestamp);
        }
        assert_eq!(rtp.payload_type, payload_type);
        match rtp.extension {
            Some((profile, body)) => {
                assert!(gathered.is_empty(), "only a frame's first packet carries the extension");
                assert_eq!((profile, body.len(), body[0]), (0xbede, 20, EXTENSION_ID << 4 | 15));
                extension = Some(body[1..17].try_into().unwrap());
            }
            None if gathered.is_empty() => extension = None,
            None => {}
        }
        gathered.push(rtp.payload.to_vec());
        if rtp.marker {
            let payloads = std::mem::take(&mut gathered);
            frames.push(Gathered { timestamp: rtp.timestamp, extension, payloads });
        }
    }
    frames
}

pub fn seen(packets: &[Left]) -> Vec<Seen> {
    let frames = gathered(packets, VIDEO_PT);
    let seen = |Gathered { timestamp, extension, payloads }: Gathered| Seen {
        timestamp,
        nals: nals(&payloads),
        extension,
        packets: payloads.len(),
    };
    frames.into_iter().map(seen).collect()
}

/// The slice that a frame consists of, by `slice`'s id.
pub fn ids(frames: &[Seen]) -> Vec<u64> {
    frames.iter().map(|frame| id_of(frame.nals.iter().find(|nal| matches!(nal[0] & 0x1f, 1 | 5)).unwrap())).collect()
}
