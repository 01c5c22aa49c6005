//! The whole core: an input is a series of what may happen to a shard. Most of it builds on packets that are right, so
//! that what is wrong gets far.

use super::Cursor;
use auralink_native::core::carrier::Carrier;
use auralink_native::core::codec::{Codec, Media};
use auralink_native::core::elements::{Ids, VIDEO_ORIENTATION};
use auralink_native::core::leg_plain::{Direction, LegConfig, MediumConfig, PayloadType, Sockets};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::{Event, Output, Transmit};
use auralink_native::core::rtcp::{self, Writer};
use auralink_native::core::rtp::{self, HEADER_BYTES, Header, MTU_BYTES};
use auralink_native::core::shard::{Input, Shard};
use auralink_native::core::srtp::{Config, Keys, Master, Protect, Suite, Unprotect};
use auralink_native::core::{Drop, LegId, Now, OutId, SockId, StreamId, Time};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

const CODECS: [(u8, Codec, u32); 6] = [
    (96, Codec::H264, 90_000),
    (98, Codec::Vp8, 90_000),
    (100, Codec::Vp9, 90_000),
    (102, Codec::H265, 90_000),
    (104, Codec::Av1, 90_000),
    (111, Codec::Opus, 48_000),
];
const VIDEO_CODECS: usize = 5;
const AUDIO: usize = 5;
/// Retransmissions have the payload type of what they repeat and this.
const RTX: u8 = 20;
const RED: u8 = 63;
/// What peers send with, and what we do.
const THEIRS: u8 = 0x35;
const OURS: u8 = 0xca;
/// The sender's, the receiver's and a stranger's addresses.
const HOSTS: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 9, 9, 9]];
const STRANGER: usize = 2;
/// Socket numbers of the two legs: RTP and RTCP of video, then of audio.
const FIRST_SOCKETS: [u64; 2] = [10, 20];
/// One input causes less than this; each timer that is due is served in as many turns.
const MOST_OUTPUTS: usize = 20_000;
const MOST_TURNS: usize = 10_000;
const MOST_STEPS: usize = 2_000;
const VPS: &[u8] = &[0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0x95, 0x94, 9];
const SPS: &[u8] = &[
    0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 0x48, 0x0b, 0x9c, 0x95, 0x96, 0x56,
    0x59, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0, 0, 3, 0, 0x80, 0, 0, 0x0c, 0x84,
];
const PPS: &[u8] = &[0x44, 1, 0xc1, 0x72, 0xb4, 0x62, 0x40];
const KEYS: [&[&[u8]]; 6] = [
    &[
        &[
            0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0xc0, 0xf1,
            0x83,
        ],
        &[0x68, 0xce, 0x3c, 0x80],
        &[0x65, 0x88, 0x84, 0x10, 0x55],
    ],
    &[&[0x90, 0x80, 0x80 | 1, 2, 0x10, 2, 0, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1, 7, 7, 7]],
    &[&[0x8c, 0x80 | 1, 2, 0x82, 0x49, 0x83, 0x42, 0, 0x27, 0xf0, 0x16, 0x7f, 0]],
    &[VPS, SPS, PPS, &[0x26, 1, 0xaf, 0x11, 0x22]],
    &[&[0x28, 9, 8, 0, 0, 0, 0x24, 0xc4, 0xff, 0x67, 0x80, 0x30, 0x10, 1, 2, 3]],
    &[&[0xfc, 1, 2, 3]],
];
const DELTAS: [&[u8]; 6] = [
    &[0x41, 0x88, 0x84, 0x10, 0x66],
    &[0x90, 0x80, 0x80 | 1, 3, 0x31, 2, 0, 8, 8, 8],
    &[0xcc, 0x80 | 1, 3, 0x86, 9, 9],
    &[2, 1, 0xd0, 0x11],
    &[0x10, 0x30, 0x30, 5, 5],
    &[0xfc, 4, 5, 6],
];
const ANSWERS: [[&[u8]; 2]; 6] = [
    [
        &[
            0, 0, 0, 1, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3,
            0xc0, 0xf1, 0x83, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x84, 0x10, 0x77,
        ],
        &[0, 0, 0, 1, 0x41, 0x88, 0x84, 0x10, 0x78],
    ],
    [&[0x10, 2, 0, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1, 6, 6], &[0x31, 2, 0, 5, 5]],
    [&[0x82, 0x49, 0x83, 0x42, 0, 0x27, 0xf0, 0x16, 0x7f, 0, 4], &[0x86, 3, 3]],
    [
        &[
            0, 0, 1, 0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0x95, 0x94, 9,
            0, 0, 1, 0x42, 1, 1, 1, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 0x48, 0x0b, 0x9c,
            0x95, 0x96, 0x56, 0x59, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0, 0, 3, 0, 0x80, 0, 0, 0x0c, 0x84, 0, 0, 1,
            0x44, 1, 0xc1, 0x72, 0xb4, 0x62, 0x40, 0, 0, 1, 0x26, 1, 0xaf, 0x11, 0x33,
        ],
        &[0, 0, 1, 2, 1, 0xd0, 0x12],
    ],
    [&[0x0a, 8, 0, 0, 0, 0x24, 0xc4, 0xff, 0x67, 0x80, 0x32, 4, 0x10, 4, 5, 6], &[0x32, 3, 0x30, 6, 6]],
    [&[], &[]],
];

pub fn shard(data: &[u8]) {
    let mut cursor = Cursor(data);
    let mut room = Room::new(cursor.byte(), Options(cursor.byte()), cursor.short());
    for _ in 0..MOST_STEPS {
        if cursor.is_empty() {
            break;
        }
        room.step(&mut cursor);
        room.settle();
    }
    room.end();
}

/// What the legs agreed on beside.
#[derive(Clone, Copy)]
struct Options(u8);

impl Options {
    fn rtx(self, leg: usize) -> bool {
        self.0 & 1 << leg != 0
    }

    fn red(self, leg: usize) -> bool {
        self.0 & 4 << leg != 0
    }

    fn srtp(self) -> Option<Suite> {
        (self.0 & 0x10 != 0).then_some(Suite::ALL[usize::from(self.0 >> 5 & 1)])
    }

    fn elements(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// The second leg's id of an element is beyond what the form of one byte has.
    fn wide(self) -> bool {
        self.0 & 0x80 != 0
    }
}

fn master(suite: Suite, fill: u8) -> Master {
    Master::new(suite, &vec![fill; suite.master_bytes()]).expect("of its length")
}

/// A packet that left, of which only the sum is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print(u64);

struct Room {
    shard: Shard,
    now: Time,
    wake: Time,
    legs: [LegId; 2],
    /// Of the newest stream of each medium.
    streams: Vec<StreamId>,
    outs: Vec<OutId>,
    /// The newest frame handed up, by stream.
    frames: HashMap<StreamId, u64>,
    sequences: [u16; 2],
    timestamps: [u32; 2],
    ssrcs: [u32; 2],
    codec: usize,
    feedback: bool,
    mux: bool,
    options: Options,
    /// The sender's, of SRTP legs: its own, of the reports of the two peers, and what reads all that leaves.
    keys: Option<Keys>,
    says: [Option<Protect>; 2],
    reads: Option<Unprotect>,
    /// The newest whole numbers of its media and of their retransmissions.
    counted: [Option<u64>; 3],
    rtx: u16,
    /// The newest number of each of our SSRCs, and what was sent under those before.
    sent: HashMap<u32, (u16, HashMap<u16, Print>)>,
}

fn address(host: usize, port: u16) -> SocketAddr {
    SocketAddr::from((HOSTS[host % HOSTS.len()], port))
}

fn print(bytes: &[u8]) -> Print {
    Print(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Codecs are counted twice.
fn carries(settings: u8) -> bool {
    usize::from(settings >> 4) / VIDEO_CODECS % 2 == 1
}

fn config(leg: usize, direction: Direction, settings: u8, options: Options, remote: Option<SocketAddr>) -> LegConfig {
    let payload = |(number, codec, clock_rate): (u8, Codec, u32)| PayloadType {
        number,
        codec,
        clock_rate,
        order_numbers: false,
        rtx: (options.rtx(leg) && codec.media() == Media::Video).then_some(number + RTX),
        red: (options.red(leg) && codec.media() == Media::Audio).then_some(RED),
    };
    let (video, audio) = CODECS.split_at(VIDEO_CODECS);
    let ids = [[3, 5], [if options.wide() { 20 } else { 5 }, 3]][leg];
    let ids = ids.into_iter().zip(["urn:some", VIDEO_ORIENTATION].map(str::to_owned));
    LegConfig {
        name: "leg".into(),
        room: "room".into(),
        direction,
        feedback: settings & 1 != 0,
        rtcp_mux: settings & 2 != 0,
        extension_id: 14,
        ids: if options.elements() { Ids::new(ids) } else { Ids::default() },
        carrier: if carries(settings) { Carrier::InBand } else { Carrier::None },
        media: vec![
            MediumConfig { media: Media::Video, payloads: video.iter().copied().map(payload).collect(), remote },
            MediumConfig { media: Media::Audio, payloads: audio.iter().copied().map(payload).collect(), remote },
        ],
        srtp: options.srtp().map(|suite| Config { rx: master(suite, THEIRS), tx: master(suite, OURS) }),
    }
}

fn sockets(leg: usize, settings: u8) -> [Sockets; 2] {
    let mux = u64::from(settings & 2 == 0);
    [0, 2].map(|above| {
        let rtp = FIRST_SOCKETS[leg] + above;
        Sockets { rtp: SockId(rtp), rtcp: SockId(rtp + mux) }
    })
}

impl Room {
    fn new(settings: u8, options: Options, sequence: u16) -> Room {
        let mut state = u64::from(settings) << 16 | u64::from(sequence);
        let mut shard = Shard::new(Box::new(move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state ^ state >> 29
        }));
        let now = Time::from_millis(1000);
        let learned = settings & 4 != 0;
        let both = if settings & 8 != 0 { [Direction::Both; 2] } else { [Direction::Receive, Direction::Send] };
        let at = Now { mono: now, unix: Duration::from_secs(1_700_000_000) };
        let remote = Some(address(0, 5004)).filter(|_| !learned);
        let receiver = Some(address(1, 6004));
        let source = shard.open_leg(config(0, both[0], settings, options, remote), &sockets(0, settings), at);
        let target = shard.open_leg(config(1, both[1], settings, options, receiver), &sockets(1, settings), at);
        let theirs = || options.srtp().map(|suite| master(suite, THEIRS));
        let mut room = Room {
            shard,
            now,
            wake: Time::NEVER,
            legs: [source, target],
            streams: Vec::new(),
            outs: Vec::new(),
            frames: HashMap::new(),
            sequences: [sequence; 2],
            timestamps: [u32::MAX - 9000; 2],
            ssrcs: [0x1111_2222, 0x3333_4444],
            codec: usize::from(settings >> 4) % VIDEO_CODECS,
            feedback: settings & 1 != 0,
            mux: settings & 2 != 0,
            options,
            keys: theirs().map(|master| Keys::new(&master)),
            says: [(); 2].map(|()| theirs().map(|master| Protect::new(&master))),
            reads: options.srtp().map(|suite| Unprotect::new(&master(suite, OURS))),
            counted: [None; 3],
            rtx: sequence,
            sent: HashMap::new(),
        };
        room.settle();
        room
    }

    fn now(&self) -> Now {
        Now { mono: self.now, unix: Duration::from_secs(1_700_000_000) + (self.now - Time(0)) }
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let what = cursor.byte();
        match what % 16 {
            0 => {
                let (sock, from, len) = (cursor.byte(), cursor.byte(), cursor.short());
                let port = [5004, 6004, 7004][usize::from(from >> 4) % 3];
                let data = cursor.bytes(usize::from(len));
                self.datagram(SockId(u64::from(sock % 24) + 10), address(usize::from(from & 3), port), data);
            }
            1..=3 => self.frame(cursor, what),
            4 | 5 => self.packet(cursor),
            6 => self.rtcp(cursor),
            7..=9 => self.answer(cursor, what),
            10 => self.wait(u64::from(cursor.short() % 2000)),
            11 => self.wait(u64::from(what >> 4) * 7 + 1),
            12 => self.mode(cursor.byte()),
            13 => self.command(cursor),
            14 => {
                let (stream, mode) = (self.stream(0), mode(cursor.byte()));
                self.shard.handle(Input::FrameRefused { stream, mode }, self.now());
            }
            _ if what & 0x10 != 0 => self.again(cursor),
            _ => self.shard.handle(Input::Dropped(Drop::Truncated), self.now()),
        }
    }

    /// A packet of the sender as it is sent; one of the counts says in which whole number.
    fn sends(&mut self, count: usize, packet: BytesMut) {
        let mut packet = packet;
        if let Some(keys) = &self.keys {
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            let newest = self.counted[count].unwrap_or(number.into());
            let step = i64::from(number.wrapping_sub(newest as u16) as i16);
            let index = newest.checked_add_signed(step).unwrap_or(number.into());
            self.counted[count] = Some(newest.max(index));
            keys.protect_rtp(index, &mut packet);
        }
        let sock = FIRST_SOCKETS[0] + if count == 1 { 2 } else { 0 };
        self.datagram(SockId(sock), address(0, 5004), &packet);
    }

    /// A retransmission: of a packet that may never have been, or with an SSRC of ours.
    fn again(&mut self, cursor: &mut Cursor<'_>) {
        let (shape, back, len) = (cursor.byte(), cursor.byte(), cursor.byte());
        let number = self.sequences[0].wrapping_sub(back.into()).to_be_bytes();
        let own = if len > 0 { cursor.bytes(len.into()) } else { DELTAS[self.codec] };
        let ours = self.sent.keys().nth(usize::from(shape >> 4)).copied();
        let ssrc = ours.filter(|_| shape & 1 != 0).unwrap_or(self.ssrcs[0] ^ 0x5555);
        let timestamp = self.timestamps[0].wrapping_sub(u32::from(shape >> 2 & 3) * 3000);
        let payload_type = CODECS[self.codec].0 + RTX;
        let header = Header { marker: shape & 2 != 0, payload_type, sequence: self.rtx, timestamp, ssrc };
        self.rtx = self.rtx.wrapping_add(1);
        let bytes = rtp::write(&header, &[], [&number, own]);
        self.sends(2, bytes);
    }

    fn datagram(&mut self, sock: SockId, src: SocketAddr, data: &[u8]) {
        self.shard.handle(Input::Datagram { sock, src, data }, self.now());
    }

    /// One RTP packet of the sender; `flags` says what of its numbering is odd.
    fn rtp(&mut self, codec: usize, flags: u8, marker: bool, payload: &[u8]) {
        let medium = usize::from(codec == AUDIO);
        let (mut payload_type, ..) = CODECS[codec];
        let mut front = Vec::new();
        if medium == 1 && self.options.red(0) && flags & 0x40 == 0 {
            front = vec![payload_type];
            if flags & 0x80 != 0 {
                front = vec![0x80 | payload_type, 0x0f, 0, 2, payload_type, 7, 7];
            }
            payload_type = RED;
        }
        let sequence = self.sequences[medium];
        let header =
            Header { marker, payload_type, sequence, timestamp: self.timestamps[medium], ssrc: self.ssrcs[medium] };
        let mut elements: Vec<(u8, &[u8])> = Vec::new();
        if flags & 1 != 0 {
            elements.push((14, &[3; 16]));
        }
        if self.options.elements() && flags & 0x40 == 0 {
            elements.extend([(3, &[4; 3][..]), (5, &[1][..])]);
        }
        let bytes = rtp::write(&header, &elements, [&front, payload]);
        self.sequences[medium] = match flags & 0x1e {
            0x02 => sequence,
            0x04 => sequence.wrapping_add(2),
            0x06 => sequence.wrapping_sub(3),
            0x08 => sequence.wrapping_add(2047),
            0x0a => sequence.wrapping_add(30_000),
            _ => sequence.wrapping_add(1),
        };
        if marker {
            let ticks = if flags & 0x20 != 0 { u32::from(flags).wrapping_mul(0x0123_4567) } else { 3000 };
            self.timestamps[medium] = self.timestamps[medium].wrapping_add(ticks);
        }
        self.sends(medium, bytes);
    }

    /// A frame that is right, a long one now and then, and with a packet less.
    fn frame(&mut self, cursor: &mut Cursor<'_>, what: u8) {
        let (shape, len, lost) = (cursor.byte(), cursor.short() % 4000, cursor.byte());
        let codec = if shape & 0x40 != 0 { AUDIO } else { self.codec };
        let mut payloads: Vec<Vec<u8>> = if what % 16 == 1 {
            KEYS[codec].iter().map(|payload| payload.to_vec()).collect()
        } else {
            vec![DELTAS[codec].to_vec()]
        };
        if shape & 1 != 0
            && let Some(last) = payloads.last_mut()
        {
            last.resize(last.len() + usize::from(len), 0x55);
        }
        let end = payloads.len() - 1;
        for (at, payload) in payloads.iter().enumerate() {
            let flags = if usize::from(lost) == at + 1 { 4 } else { 0 };
            self.rtp(codec, flags, at == end && shape & 2 == 0, payload);
            self.settle();
        }
    }

    /// A packet of whatever payload.
    fn packet(&mut self, cursor: &mut Cursor<'_>) {
        let (shape, flags, len) = (cursor.byte(), cursor.byte(), cursor.short() % 1600);
        let payload = cursor.bytes(usize::from(len));
        let codec = if shape & 0x40 != 0 { usize::from(shape & 7) % CODECS.len() } else { self.codec };
        self.rtp(codec, flags, shape & 0x80 != 0, payload);
    }

    /// Compounds of the sender and of the receiver, right but for what they speak of, or with bytes of their own.
    fn rtcp(&mut self, cursor: &mut Cursor<'_>) {
        let (what, about) = (cursor.byte(), cursor.short());
        let ours = self.sent.keys().min().copied().unwrap_or(5);
        let ssrc = if what & 0x20 != 0 { self.ssrcs[0] } else { ours };
        let mut writer = Writer::default();
        match what & 7 {
            0 => writer.sender_report(ssrc, u64::from(about) << 40, u32::from(about) << 8, 1, 1, &[]),
            _ => writer.receiver_report(1, &[]),
        }
        match what & 7 {
            1 => writer.nack(1, ssrc, &(0..64).map(|n| about.wrapping_add(n * 3)).collect::<Vec<u16>>()),
            2 => writer.pli(1, ssrc),
            3 => writer.bye(&[ssrc]),
            _ => {}
        }
        let mut bytes = writer.finish();
        if what & 7 > 4 {
            let words = usize::from(cursor.byte() % 40);
            let mut body = cursor.bytes(4 * words).to_vec();
            body.resize(4 * words, 0);
            bytes.extend([0x80 | (about & 0x3f) as u8, 200 + (about >> 8) as u8 % 8, 0, words as u8]);
            bytes.extend(body);
        }
        let leg = usize::from(what >> 6 & 1);
        if let Some(says) = &mut self.says[leg] {
            assert!(says.rtcp(&mut bytes));
        }
        self.datagram(SockId(FIRST_SOCKETS[leg] + u64::from(!self.mux)), address(leg, [5005, 6005][leg]), &bytes);
    }

    fn answer(&mut self, cursor: &mut Cursor<'_>, what: u8) {
        let (shape, stream) = (cursor.byte(), self.stream(0));
        let newest = self.frames.get(&stream).copied().unwrap_or(0);
        let (id, key) = (newest.saturating_sub(u64::from(shape >> 5)), shape & 1 != 0);
        let ext = (shape & 2 != 0).then_some([shape; 16]);
        if what % 16 == 9 && shape & 0x10 != 0 {
            return self.shard.drop_frame(stream, id, self.now());
        }
        let data = match what % 16 {
            7 => None,
            8 => {
                let mut data = ANSWERS[self.codec][usize::from(!key)].to_vec();
                data.resize(data.len() + usize::from(shape & 0x0c) * 300, 0x66);
                Some(Bytes::from(data))
            }
            _ => {
                let len = usize::from(cursor.short() % 2000);
                Some(Bytes::copy_from_slice(cursor.bytes(len)))
            }
        };
        self.shard.submit(stream, id, data, ext, key, self.now());
    }

    fn mode(&mut self, shape: u8) {
        let policy = Policy { mode: mode(shape), extension: shape & 4 != 0, degraded: shape & 8 != 0 };
        let stream = self.stream(0);
        let newest = self.frames.get(&stream).copied().unwrap_or(0);
        self.shard.set_mode(stream, policy, (shape & 0x10 != 0).then_some(newest + 2), self.now());
    }

    fn command(&mut self, cursor: &mut Cursor<'_>) {
        let (what, now) = (cursor.byte(), self.now());
        let stream = self.stream(usize::from(what >> 4));
        match what % 16 {
            0 => self.shard.hold(stream, now),
            1 => self.shard.request_key(stream, now),
            2 | 3 => self.link(stream, usize::from(what >> 4 & 1)),
            4 => {
                let out = self.outs.get(usize::from(what >> 4)).copied().unwrap_or(OutId(99));
                self.shard.unlink(out, now);
            }
            5 => {
                self.ssrcs[usize::from(what >> 4 & 1)] += 1;
            }
            6 => {
                // An SSRC of ours, used by the peer.
                self.ssrcs[0] = self.sent.keys().min().copied().unwrap_or(7);
            }
            7 => self.codec = usize::from(what >> 4) % VIDEO_CODECS,
            8 => drop(self.shard.set_remote(self.legs[0], Media::ALL[usize::from(what >> 4 & 1)], address(0, 5004))),
            9 => self.shard.close_leg(self.legs[usize::from(what >> 4 & 1)], what & 0x80 != 0, now),
            _ => drop(self.shard.stats()),
        }
    }

    fn link(&mut self, stream: StreamId, leg: usize) {
        if let Ok(out) = self.shard.link(stream, self.legs[leg], self.now())
            && !self.outs.contains(&out)
        {
            self.outs.push(out);
        }
    }

    fn stream(&self, back: usize) -> StreamId {
        self.streams.iter().rev().nth(back).or(self.streams.last()).copied().unwrap_or(StreamId(77))
    }

    fn wait(&mut self, ms: u64) {
        let until = self.now + Duration::from_millis(ms);
        for _ in 0..MOST_TURNS {
            if self.wake > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(self.wake);
            self.shard.handle(Input::Timeout, self.now());
            self.settle();
        }
        panic!("time does not go on");
    }

    fn settle(&mut self) {
        for _ in 0..MOST_OUTPUTS {
            match self.shard.poll() {
                Output::Timeout(at) => {
                    self.wake = at;
                    return;
                }
                Output::Transmit(transmit) => {
                    self.check(&transmit);
                    if let Some(tag) = transmit.last_of {
                        self.shard.handle(Input::Sent(tag), self.now());
                    }
                }
                Output::Frame(frame) => {
                    assert!(!frame.data.is_empty() && frame.first <= frame.last && frame.last <= frame.completed);
                    let before = self.frames.insert(frame.stream, frame.frame_id);
                    assert!(before.is_none_or(|before| before < frame.frame_id), "frames come in order");
                }
                Output::Event(Event::StreamStarted { stream, codec, .. }) => {
                    if codec.media() == Media::Video || self.streams.is_empty() {
                        self.streams.push(stream);
                    } else {
                        self.streams.insert(self.streams.len() - 1, stream);
                    }
                    self.link(stream, 1);
                    self.mode(5);
                }
                Output::Event(_) => {}
            }
        }
        panic!("one input causes output without end");
    }

    fn check(&mut self, Transmit { dst, bytes, .. }: &Transmit) {
        assert_ne!(dst.ip(), address(STRANGER, 0).ip(), "nobody speaks to strangers");
        if (192..=223).contains(&bytes[1]) {
            let mut plain = bytes.to_vec();
            let read = self.reads.as_mut().map_or(Ok(()), |reads| reads.rtcp(bytes, &mut plain));
            assert_eq!(read, Ok(()), "reports are for their receiver");
            rtcp::parse(&plain).expect("what we send is RTCP");
            return;
        }
        let header = rtp::parse(bytes).expect("what we send is RTP");
        let (ssrc, sequence) = (header.ssrc, header.sequence);
        if [CODECS[AUDIO].0, RED].contains(&header.payload_type) {
            return; // audio keeps its source's gaps and sizes
        }
        let print = print(bytes);
        if let Some((last, before)) = self.sent.get(&ssrc)
            && sequence != last.wrapping_add(1)
        {
            assert!(self.feedback && before.get(&sequence) == Some(&print), "numbers are contiguous and used once");
            return;
        }
        let mut plain = bytes.to_vec();
        let read = self.reads.as_mut().map_or(Ok(()), |reads| reads.rtp(bytes, &mut plain));
        assert_eq!(read, Ok(()), "media is for its receiver");
        assert!(plain.len() <= MTU_BYTES && plain.len() > HEADER_BYTES, "{} bytes", plain.len());
        assert!(!rtp::parse(&plain).expect("and RTP inside").payload.is_empty());
        let (last, before) = self.sent.entry(ssrc).or_default();
        *last = sequence;
        before.insert(sequence, print);
    }

    fn end(mut self) {
        self.wait(500);
        drop(self.shard.stats());
        for leg in self.legs {
            self.shard.close_leg(leg, true, self.now());
        }
        self.settle();
        assert!(self.shard.leg_ids().is_empty());
        self.wait(40_000);
    }
}

fn mode(shape: u8) -> Mode {
    [Mode::Bypass, Mode::Compress, Mode::Compress, Mode::Shadow][usize::from(shape & 3)]
}
