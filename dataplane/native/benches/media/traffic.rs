//! What the measurements send and take in: cameras that send H.264 frames, and a sink that reads as little of each packet
//! as it can, so that one core feeds and empties a bridge that works on another.
//!
//! A frame's packets leave in one call and are cut by the kernel (UDP_SEGMENT), as they do from browsers and phones.

use super::{LOCAL, PPS, SPS, leg};
use auralink_native::core::leg_plain::Direction;
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::Event;
use auralink_native::core::stats::Value;
use auralink_native::core::{LegId, StreamId};
use auralink_native::engine::{Binding, Engine, Item};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::collections::{HashMap, HashSet};
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

pub const FRAMES_PER_S: u32 = 30;
pub const FRAME_TICKS: u32 = 90_000 / FRAMES_PER_S;
/// Payload of a full packet: with header and extension it stays below 1200 bytes, so no bridge has to cut it.
pub const PAYLOAD_BYTES: usize = 1158;
const HEADER_BYTES: usize = 12;
/// 720p at 2.5 Mb/s and 30 frames a second: a key of five times the size of the others every two seconds.
pub const DELTA_BYTES: usize = 9766;
pub const KEY_BYTES: usize = 5 * DELTA_BYTES;
pub const KEY_EVERY: u64 = 60;
/// Between the first timestamps of two cameras, so that a timestamp tells whose frame it is.
pub const CAMERA_TICKS: u32 = 20_000_000;
const SINK_BATCH: usize = 64;
/// Of a packet, what the sink looks at.
const SEEN_BYTES: usize = 16;
const BUFFER_BYTES: usize = 64 << 20;
const TO_START: Duration = Duration::from_secs(10);

/// CLOCK_REALTIME, which the kernel stamps arrivals with.
pub fn realtime() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).expect("the clock").into()
}

/// One sender of video.
pub struct Camera {
    pub ssrc: u32,
    sequence: u16,
    timestamp: u32,
    frames: u64,
    keys: bool,
    /// Of a full packet, header included.
    packet_bytes: usize,
    to: SockaddrIn,
}

impl Camera {
    /// `keys`: every [`KEY_EVERY`] frames one of [`KEY_BYTES`]; else all but the first are alike.
    pub fn new(number: u32, to: SocketAddr, keys: bool) -> Camera {
        let SocketAddr::V4(to) = to else { unreachable!("all of it is on 127.0.0.1") };
        let phase = u64::from(number) % KEY_EVERY; // keys of many cameras do not come together
        let (packet_bytes, to) = (HEADER_BYTES + PAYLOAD_BYTES, to.into());
        Camera {
            ssrc: number + 1,
            sequence: 0,
            timestamp: number.wrapping_mul(CAMERA_TICKS),
            frames: phase,
            keys,
            packet_bytes,
            to,
        }
    }

    /// Full packets of this size, header included.
    pub fn with_packets_of(mut self, bytes: usize) -> Camera {
        self.packet_bytes = bytes;
        self
    }

    /// The first key, small and with its parameter sets, packet by packet: three of them prove a source.
    pub fn begin(&mut self, out: &UdpSocket) {
        for (last, payload) in [(false, &SPS[..]), (false, &PPS[..]), (true, &[0x65, 0x88, 0x84, 0x55, 0x55][..])] {
            let mut packet = vec![0; HEADER_BYTES];
            self.header(&mut packet, last);
            packet.extend(payload);
            sendmsg(out.as_raw_fd(), &[IoSlice::new(&packet)], &[], MsgFlags::empty(), Some(&self.to))
                .expect("sending");
        }
        self.timestamp = self.timestamp.wrapping_add(FRAME_TICKS);
    }

    /// Sends the next frame; returns its timestamp and packets.
    pub fn frame(&mut self, out: &UdpSocket, buffer: &mut Vec<u8>) -> (u32, usize) {
        self.frames += 1;
        let key = self.keys && self.frames.is_multiple_of(KEY_EVERY);
        let bytes = if key { KEY_BYTES } else { DELTA_BYTES };
        self.sized(out, buffer, key, bytes)
    }

    /// A frame of so many payload bytes as FU-A fragments (RFC 6184 5.8).
    pub fn sized(&mut self, out: &UdpSocket, buffer: &mut Vec<u8>, key: bool, bytes: usize) -> (u32, usize) {
        let packets = bytes.div_ceil(self.packet_bytes - HEADER_BYTES);
        buffer.resize(packets * HEADER_BYTES + bytes, 0x55);
        for (index, packet) in buffer.chunks_mut(self.packet_bytes).enumerate() {
            let marks = if index == 0 { 0x80 } else { 0 } | if index + 1 == packets { 0x40 } else { 0 };
            self.header(packet, index + 1 == packets);
            let fragment = [0x5c, marks | if key { 5 } else { 1 }, 0x88, 0x84];
            packet[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&fragment);
        }
        let control = [ControlMessage::UdpGsoSegments(&(self.packet_bytes as u16))];
        for run in buffer.chunks(32 * self.packet_bytes) {
            sendmsg(out.as_raw_fd(), &[IoSlice::new(run)], &control, MsgFlags::empty(), Some(&self.to))
                .expect("sending");
        }
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(FRAME_TICKS);
        (timestamp, packets)
    }

    fn header(&mut self, packet: &mut [u8], marker: bool) {
        packet[0] = 0x80;
        packet[1] = u8::from(marker) << 7 | 96;
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// What the sink sees of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub marker: bool,
    /// When the kernel had it.
    pub at: Option<Duration>,
}

/// A receive buffer as large as the kernel grants: beyond net.core.rmem_max only with CAP_NET_ADMIN. What is lost without
/// counts as lost.
pub fn roomy(socket: &UdpSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &BUFFER_BYTES);
    }
}

/// Where a bridge's packets end.
pub struct Sink {
    socket: UdpSocket,
    headers: MultiHeaders<SockaddrIn>,
    buffers: Vec<[u8; SEEN_BYTES]>,
}

impl Sink {
    pub fn new(stamped: bool) -> Sink {
        let socket = UdpSocket::bind((LOCAL, 0)).expect("a loopback socket");
        Sink::of(socket, stamped)
    }

    pub fn of(socket: UdpSocket, stamped: bool) -> Sink {
        roomy(&socket);
        let control = stamped.then(|| {
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("timestamps");
            nix::cmsg_space!(TimeSpec)
        });
        let headers = MultiHeaders::preallocate(SINK_BATCH, control);
        Sink { socket, headers, buffers: vec![[0; SEEN_BYTES]; SINK_BATCH] }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Sleeps until something is there, or for a while.
    pub fn wait(&self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let _ = self.socket.peek(&mut [0]);
    }

    /// Video that waits, at most a batch of it; returns how many packets.
    pub fn take(&mut self, mut each: impl FnMut(Arrival)) -> usize {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = self.buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(messages) = recvmmsg(self.socket.as_raw_fd(), &mut self.headers, &mut slices, flags, None) else {
            return 0;
        };
        let mut count = 0;
        for message in messages {
            let at = message.cmsgs().ok().and_then(|mut found| {
                found.find_map(|one| match one {
                    ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
                    _ => None,
                })
            });
            let bytes = message.iovs().next().unwrap_or_default();
            if bytes.len() < 12 || bytes[1] & 0x7f != 96 {
                continue; // RTCP
            }
            let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
            each(Arrival { sequence, timestamp: word(4), ssrc: word(8), marker: bytes[1] & 0x80 != 0, at });
            count += 1;
        }
        count
    }
}

/// Counts what arrives: frames by their markers, and holes in each stream's numbers.
#[derive(Default)]
pub struct Tally {
    pub packets: u64,
    pub frames: u64,
    pub holes: u64,
    next: HashMap<u32, u16>,
}

impl Tally {
    pub fn count(&mut self, arrival: Arrival) {
        self.packets += 1;
        self.frames += u64::from(arrival.marker);
        let next = self.next.insert(arrival.ssrc, arrival.sequence.wrapping_add(1));
        self.holes += u64::from(next.is_some_and(|next| next != arrival.sequence));
    }
}

/// A leg in and a leg out per camera, linked, each with one small key through.
pub struct Bridge {
    pub engine: Engine,
    pub cameras: Vec<Camera>,
}

impl Bridge {
    /// `feedback`: NACKs are answered, so copies of three seconds are kept. The core's thread has the first core, the caller's the second.
    pub fn start(count: u32, sink: &mut Sink, out: &UdpSocket, keys: bool, feedback: bool) -> Bridge {
        super::pin(0);
        let engine = Engine::start(1).expect("an engine");
        super::pin(1);
        let mut cameras = Vec::new();
        let mut outlets = HashMap::new();
        for number in 0..count {
            let open = |direction, remote| {
                let mut config = leg(direction, remote, None);
                (config.feedback, config.rtcp_mux) = (feedback, true);
                engine.open_leg(config, Binding { ip: LOCAL, ports: vec![0] }).expect("running").expect("a port")
            };
            let inlet = open(Direction::Receive, None);
            outlets.insert(inlet, open(Direction::Send, Some(sink.address())));
            let port = engine.local_ports(inlet).expect("running")[0].1;
            cameras.push(Camera::new(number, SocketAddr::new(LOCAL, port), keys));
        }
        let mut bridge = Bridge { engine, cameras };
        bridge.link(outlets, sink, out);
        bridge
    }

    fn link(&mut self, outlets: HashMap<LegId, LegId>, sink: &mut Sink, out: &UdpSocket) {
        let (mut begun, mut arrived) = (0, HashSet::new());
        let started = Instant::now();
        while arrived.len() < self.cameras.len() {
            if begun < self.cameras.len() && begun < arrived.len() + 32 {
                self.cameras[begun].begin(out);
                begun += 1;
            }
            for item in self.engine.poll(256) {
                if let Item::Event(Event::StreamStarted { leg, stream, .. }) = item {
                    self.native(stream, outlets[&leg]);
                }
            }
            sink.take(|arrival| {
                if arrival.marker {
                    arrived.insert(arrival.ssrc);
                }
            });
            assert!(started.elapsed() < TO_START, "{} of {} streams started", arrived.len(), self.cameras.len());
        }
    }

    fn native(&self, stream: StreamId, outlet: LegId) {
        let policy = Policy { mode: Mode::Bypass, extension: true, degraded: false };
        let linked = self.engine.call(move |shard, now| {
            shard.link(stream, outlet, now).expect("a leg that sends H.264");
            shard.set_mode(stream, policy, None, now)
        });
        assert!(linked.expect("running"));
    }

    /// Everything that the core dropped.
    pub fn drops(&self) -> i64 {
        match self.engine.stats().expect("running").get("drops") {
            Some(Value::Map(reasons)) => reasons.iter().filter_map(|(_, count)| count.int()).sum(),
            _ => 0,
        }
    }
}

/// When each of many cameras sends its next frame: evenly over the frame interval.
pub struct Schedule {
    began: Instant,
    sent: u64,
    cameras: u64,
}

impl Schedule {
    pub fn new(cameras: usize) -> Schedule {
        Schedule { began: Instant::now(), sent: 0, cameras: cameras as u64 }
    }

    /// The camera whose turn it is, and how late it is.
    pub fn due(&mut self) -> Option<(usize, Duration)> {
        let at = Duration::from_nanos(1_000_000_000 * self.sent / u64::from(FRAMES_PER_S) / self.cameras);
        let late = self.began.elapsed().checked_sub(at)?;
        let camera = self.sent % self.cameras;
        self.sent += 1;
        Some((camera as usize, late))
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// More sockets than a shell's usual 1024.
pub fn many_sockets() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most);
    }
}
