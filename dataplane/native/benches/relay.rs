//! The packet core measured, over loopback and in virtual time: `cargo bench --no-default-features --bench relay --
//! [load | capacity | streams | latency | loss | memory] [--NAME=NUMBER...]`; `benchmarks/media` runs them all. Each prints
//! lines of JSON. Without a name: CPU per packet of the whole packet path beside a bare relay, a line per peer:
//!
//! `{"peer": "relay" | "bridge" | "bridge_compress" | "bridge_srtp_cm" | "bridge_srtp_gcm", "packets": n, "cpu_us_per_packet": x, "ratio": to the relay}`
//!
//! A burst is four H.264 frames of 15 packets of 1200 bytes (FU-A); the next one waits until all of it came out. Counted
//! is the CPU time of the forwarding thread alone, by packets received; the median of alternating rounds. The relay
//! receives and sends 64 packets per call and touches none of their bytes. The bridge reorders, assembles, checks,
//! stamps anew and adds the extension (BYPASS), or hands the frame up and cuts what comes back (COMPRESS). It may come out
//! below the relay: it sends a frame's fragments segmented (UDP_SEGMENT), the relay sends packet by packet. With SRTP it
//! also decrypts and encrypts (BYPASS, AES_CM_128_HMAC_SHA1_80 and AEAD_AES_128_GCM).
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // the traffic's own sockets and clock

#[path = "media/capacity.rs"]
mod capacity;
#[path = "media/latency.rs"]
mod latency;
#[path = "media/loss.rs"]
mod loss;
#[path = "media/memory.rs"]
mod memory;
#[path = "media/options.rs"]
mod options;
#[path = "media/pod.rs"]
mod pod;
#[path = "media/streams.rs"]
mod streams;
#[path = "media/traffic.rs"]
mod traffic;

use auralink_native::core::carrier::Carrier;
use auralink_native::core::codec::{Codec, Media};
use auralink_native::core::elements::Ids;
use auralink_native::core::ext;
use auralink_native::core::leg_plain::{Direction, LegConfig, MediumConfig, PayloadType};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::Event;
use auralink_native::core::srtp::{Config, Keys, Master, Suite};
use auralink_native::engine::{Binding, Engine, Item};
use bytes::{Bytes, BytesMut};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use nix::time::{ClockId, clock_gettime};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

const PACKET_BYTES: usize = 1200;
const FRAME_PACKETS: usize = 15;
const BURST_FRAMES: usize = 4;
const BURSTS: usize = 500;
const BATCH: usize = 64;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const SPS: [u8; 24] = [
    0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
    0x03, 0x03, 0xc0, 0xf1, 0x83,
];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

fn main() {
    let options = options::Options::read();
    match options.what.as_str() {
        "" => cpu(options.get("rounds", 5)),
        "load" => capacity::load(&options),
        "capacity" => capacity::run(&options),
        "streams" => streams::run(&options),
        "latency" => latency::run(&options),
        "loss" => loss::run(&options),
        "memory" => memory::run(&options),
        other => panic!("no such measurement: {other}"),
    }
}

fn cpu(rounds: u64) {
    let peers = ["relay", "bridge", "bridge_compress", "bridge_srtp_cm", "bridge_srtp_gcm"];
    let mut results = peers.map(|peer| (peer, Vec::new()));
    for _ in 0..rounds {
        results[0].1.push(relay());
        results[1].1.push(bridge(Mode::Bypass, None));
        results[2].1.push(bridge(Mode::Compress, None));
        results[3].1.push(bridge(Mode::Bypass, Some(Suite::AesCm128HmacSha1)));
        results[4].1.push(bridge(Mode::Bypass, Some(Suite::AeadAes128Gcm)));
    }
    let relay = median(&mut results[0].1);
    for (peer, values) in &mut results {
        let us = median(values);
        let packets = rounds as usize * BURSTS * BURST_FRAMES * FRAME_PACKETS;
        println!(
            "{{\"peer\": \"{peer}\", \"packets\": {packets}, \"cpu_us_per_packet\": {us:.3}, \"ratio\": {:.3}}}",
            us / relay
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((LOCAL, 0)).expect("a loopback socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

/// Puts the calling thread, and those it starts from now on, on one core: 0 forwards, 1 makes the traffic.
fn pin(which: usize) {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let this = nix::unistd::Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the allowed cores");
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
    ALLOWED.get_or_init(|| cores);
    let cores = ALLOWED.get().expect("set above");
    let mut set = CpuSet::new();
    set.set(cores[which % cores.len()]).expect("a core");
    sched_setaffinity(this, &set).expect("pinning");
}

static ALLOWED: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock").into()
}

/// The traffic: frames with running numbers, the first of all a key.
struct Source {
    sequence: u64,
    timestamp: u32,
    keys: Option<Keys>,
}

impl Source {
    fn packet(&mut self, marker: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, u8::from(marker) << 7 | 96];
        packet.extend((self.sequence as u16).to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend([1, 2, 3, 4]);
        packet.extend(payload);
        let mut packet = BytesMut::from(&packet[..]);
        if let Some(keys) = &self.keys {
            keys.protect_rtp(self.sequence, &mut packet);
        }
        self.sequence += 1;
        packet.to_vec()
    }

    fn key(&mut self) -> Vec<Vec<u8>> {
        let packets = vec![
            self.packet(false, &SPS),
            self.packet(false, &PPS),
            self.packet(true, &[0x65, 0x88, 0x84, 0x55, 0x55]),
        ];
        self.timestamp += 3000;
        packets
    }

    fn frame(&mut self) -> Vec<Vec<u8>> {
        let mut payload = vec![0x55; PACKET_BYTES - 12];
        let packets = (0..FRAME_PACKETS).map(|i| {
            let marks = if i == 0 { 0x80 } else { 0 } | if i + 1 == FRAME_PACKETS { 0x40 } else { 0 };
            payload[..4].copy_from_slice(&[0x5c, marks | 1, 0x88, 0x84]);
            self.packet(i + 1 == FRAME_PACKETS, &payload)
        });
        let packets = packets.collect();
        self.timestamp = self.timestamp.wrapping_add(3000);
        packets
    }
}

/// Sends bursts and takes in what comes out; `frames` whole ones each.
fn traffic(to: SocketAddr, sink: &UdpSocket, source: &mut Source, bursts: usize) {
    let out = socket();
    out.connect(to).expect("a local destination");
    traffic_from(&out, sink, source, bursts);
}

fn traffic_from(out: &UdpSocket, sink: &UdpSocket, source: &mut Source, bursts: usize) {
    let mut buffer = [0; 2048];
    for _ in 0..bursts {
        for packet in (0..BURST_FRAMES).flat_map(|_| source.frame()) {
            out.send(&packet).expect("sending");
        }
        let mut frames = 0;
        while frames < BURST_FRAMES {
            let len = sink.recv(&mut buffer).expect("what was sent comes out");
            frames += usize::from(len > 12 && buffer[1] & 0x80 != 0 && buffer[1] & 0x7f == 96);
        }
    }
}

/// Microseconds per packet of a thread that does nothing but receive and send.
fn relay() -> f64 {
    let (inlet, sink) = (socket(), socket());
    let (to, from) = (sink.local_addr().expect("bound"), inlet.local_addr().expect("bound"));
    let stop = Arc::new(AtomicBool::new(false));
    let (result, spent) = channel();
    let stopped = stop.clone();
    pin(0);
    let thread = std::thread::spawn(move || {
        let before = thread_cpu();
        forward(&inlet, to, &stopped);
        result.send(thread_cpu() - before).expect("the main thread waits");
    });
    pin(1);
    traffic(from, &sink, &mut Source { sequence: 0, timestamp: 0, keys: None }, BURSTS);
    stop.store(true, Ordering::Relaxed);
    socket().send_to(&[0], from).expect("a last packet wakes it");
    thread.join().expect("the relay ends");
    per_packet(spent.recv().expect("its time"))
}

fn forward(inlet: &UdpSocket, to: SocketAddr, stop: &AtomicBool) {
    let SocketAddr::V4(to) = to else { unreachable!("bound to 127.0.0.1") };
    let outlet = socket();
    let mut buffers = vec![[0u8; 2048]; BATCH];
    let mut receive = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let mut send = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let addresses = vec![Some(SockaddrIn::from(to)); BATCH];
    while !stop.load(Ordering::Relaxed) {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let received = recvmmsg(inlet.as_raw_fd(), &mut receive, &mut slices, MsgFlags::MSG_WAITFORONE, None);
        let lengths: Vec<usize> = match received {
            Ok(messages) => messages.map(|message| message.bytes).collect(),
            Err(_) => continue, // timeout
        };
        let slices: Vec<[IoSlice<'_>; 1]> =
            lengths.iter().zip(&buffers).map(|(len, buffer)| [IoSlice::new(&buffer[..*len])]).collect();
        let _ = sendmmsg(outlet.as_raw_fd(), &mut send, &slices, &addresses, [], MsgFlags::empty());
    }
}

fn master(suite: Suite) -> Master {
    Master::new(suite, &vec![7; suite.master_bytes()]).expect("a whole key")
}

fn leg(direction: Direction, remote: Option<SocketAddr>, suite: Option<Suite>) -> LegConfig {
    let payload =
        PayloadType { number: 96, codec: Codec::H264, clock_rate: 90_000, order_numbers: false, rtx: None, red: None };
    LegConfig {
        ids: Ids::default(),
        carrier: Carrier::None,
        name: "bench".into(),
        room: "bench".into(),
        direction,
        feedback: false,
        rtcp_mux: false,
        extension_id: 14,
        media: vec![MediumConfig { media: Media::Video, payloads: vec![payload], remote }],
        srtp: suite.map(|suite| Config { rx: master(suite), tx: master(suite) }),
    }
}

/// Microseconds per packet of the engine's thread.
fn bridge(mode: Mode, suite: Option<Suite>) -> f64 {
    let sink = socket();
    pin(0);
    let engine = Arc::new(Engine::start(1).expect("an engine"));
    pin(1);
    let binding = || Binding { ip: LOCAL, ports: vec![0] };
    let open = |config| engine.open_leg(config, binding()).expect("running").expect("ports");
    let inlet = open(leg(Direction::Receive, None, suite));
    let outlet = open(leg(Direction::Send, Some(sink.local_addr().expect("bound")), suite));
    let port = engine.local_ports(inlet).expect("running")[0].1;
    let stop = Arc::new(AtomicBool::new(false));
    let python = {
        let (engine, stop) = (engine.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let items = engine.poll(256);
                if items.is_empty() {
                    std::thread::sleep(Duration::from_micros(100));
                }
                items.into_iter().for_each(|item| answer(&engine, item, outlet, mode));
            }
        })
    };
    let keys = suite.map(|suite| Keys::new(&master(suite)));
    let mut source = Source { sequence: 0, timestamp: 0, keys };
    let out = socket();
    out.connect((LOCAL, port)).expect("a local destination");
    for packet in source.key() {
        out.send(&packet).expect("sending");
    }
    let mut buffer = [0; 2048];
    while {
        sink.recv(&mut buffer).expect("the key comes out");
        buffer[1] & 0x80 == 0
    } {}
    traffic_from(&out, &sink, &mut source, BURSTS / 10); // warm
    let before = engine.cpu_time().expect("running");
    traffic_from(&out, &sink, &mut source, BURSTS);
    let spent = engine.cpu_time().expect("running") - before;
    stop.store(true, Ordering::Relaxed);
    python.join().expect("the answering thread ends");
    engine.close(true);
    per_packet(spent)
}

/// What Python would do: link, set the mode, and give every frame back.
fn answer(engine: &Engine, item: Item, outlet: auralink_native::core::LegId, mode: Mode) {
    match item {
        Item::Event(Event::StreamStarted { stream, .. }) => {
            let policy = Policy { mode, extension: true, degraded: false };
            let linked = engine.call(move |shard, now| {
                shard.link(stream, outlet, now).expect("a leg that sends H.264");
                shard.set_mode(stream, policy, None, now)
            });
            assert!(linked.expect("running"));
        }
        Item::Frame(frame) => {
            let (stream, id, key, data) = (frame.stream, frame.frame_id, frame.key, Bytes::from(frame.data));
            let ext = Some(ext::native(false));
            engine.submit(stream, id, Some(data), ext, key).expect("running");
        }
        Item::Event(Event::SubmitRefused { reason, .. }) => panic!("refused: {}", reason.name()),
        Item::Event(_) => {}
    }
}

fn per_packet(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e6 / (BURSTS * BURST_FRAMES * FRAME_PACKETS) as f64
}
