//! What a stranger sends as fast as it can costs live streams no frame, and neither memory nor events grow with it.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // the traffic's own sockets and clock

mod common;
use auralink_native::core::codec::{Codec, Media};
use auralink_native::core::leg_plain::{Direction, LegConfig};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::{Event, Transmit};
use auralink_native::core::rtcp::Writer;
use auralink_native::core::srtp::{Config, Keys, Master, Suite};
use auralink_native::core::{LegId, SockId, StreamId};
use auralink_native::engine::socket::{Batches, Socket};
use auralink_native::engine::{Binding, Engine, Item};
use bytes::BytesMut;
use common::{Random, SSRC, Sender, VIDEO_PT, config, idr, packet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Not the peers' host.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FRAMES: u64 = 90;
const FRAME_BYTES: usize = 9000;
const FRAME_EVERY: Duration = Duration::from_millis(33);
/// Of one kind for one port in a row.
const RUN: usize = 64;
const MOST_GROWTH_BYTES: u64 = 8 << 20;
/// Streams that a medium starts in ten seconds, whoever sends what: each begins and ends.
const MOST_EVENTS: usize = 2 * 16;

/// One sender, the leg that it sends to, and who gets what it sends.
struct Live {
    name: &'static str,
    peer: UdpSocket,
    sink: Socket,
    ports: [u16; 2],
    sender: Sender,
    keys: Option<(Keys, u64)>,
    sent: u64,
    numbers: Vec<u16>,
    markers: u64,
}

fn master() -> Master {
    Master::new(Suite::AesCm128HmacSha1, &[5; 30]).unwrap()
}

fn open(engine: &Engine, config: LegConfig) -> (LegId, u16) {
    let leg = engine.open_leg(config, Binding { ip: LOCAL, ports: vec![0, 0] }).unwrap().unwrap();
    let ports = engine.local_ports(leg).unwrap();
    (leg, ports.iter().find(|(media, _)| *media == Media::Video).unwrap().1)
}

impl Live {
    /// Linked, with its first key through.
    fn start(engine: &Engine, name: &'static str, change: impl FnOnce(&mut LegConfig, SocketAddr)) -> Live {
        let (peer, sink) = (UdpSocket::bind((LOCAL, 0)).unwrap(), Socket::bind(LOCAL, 0).unwrap());
        let mut inward = config(Direction::Receive, true, None);
        change(&mut inward, peer.local_addr().unwrap());
        let keys = inward.srtp.as_ref().map(|srtp| (Keys::new(&srtp.rx), 0));
        let mux = inward.rtcp_mux;
        let (_, port) = open(engine, inward);
        let (outlet, _) = open(engine, config(Direction::Send, false, Some((LOCAL, sink.port()).into())));
        peer.connect((LOCAL, port)).unwrap();
        let ports = [port, if mux { port } else { port + 1 }];
        let sender = Sender::new(0, 0);
        let mut live = Live { name, peer, sink, ports, sender, keys, sent: 0, numbers: vec![], markers: 0 };
        live.frame(true);
        let stream = started(engine);
        let policy = Policy { mode: Mode::Bypass, extension: true, degraded: false };
        let linked = engine.call(move |shard, now| {
            shard.link(stream, outlet, now).unwrap();
            shard.set_mode(stream, policy, None, now)
        });
        assert!(linked.unwrap());
        live
    }

    fn frame(&mut self, key: bool) {
        let sent = self.sent;
        let packets = if key { self.sender.key(sent, FRAME_BYTES) } else { self.sender.delta(sent, FRAME_BYTES) };
        for packet in packets {
            let mut packet = BytesMut::from(&packet[..]);
            if let Some((keys, index)) = &mut self.keys {
                keys.protect_rtp(*index, &mut packet);
                *index += 1;
            }
            self.peer.send(&packet).unwrap();
        }
        self.sent += 1;
    }

    /// Takes in what came out.
    fn drain(&mut self, batches: &mut Batches) {
        let mut more = true;
        while std::mem::take(&mut more) {
            let each = |(_, data): (SocketAddr, Option<&[u8]>)| {
                more = true;
                let bytes = data.expect("nothing is that long");
                if !(192..224).contains(&bytes[1]) {
                    self.numbers.push(u16::from_be_bytes([bytes[2], bytes[3]]));
                    self.markers += u64::from(bytes[1] >> 7);
                }
            };
            batches.receive(&self.sink, each).unwrap();
        }
    }
}

fn started(engine: &Engine) -> StreamId {
    for _ in 0..500 {
        for item in engine.poll(10) {
            if let Item::Event(Event::StreamStarted { stream, codec: Codec::H264, .. }) = item {
                return stream;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no stream within 5 s");
}

/// Bytes of all kinds, of one length: runs of them leave with one call.
fn kinds(random: &mut Random) -> Vec<Vec<Vec<u8>>> {
    let number = |random: &mut Random| random.next() as u16;
    let compound = |write: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::default();
        writer.receiver_report(SSRC, &[]);
        write(&mut writer);
        writer.finish()
    };
    let noise = |random: &mut Random| (0..100).map(|_| random.next() as u8).collect::<Vec<u8>>();
    let rtp = |ssrc: u32, sequence: u16| packet(ssrc, VIDEO_PT, sequence, 3000, true, &idr(7, 200));
    let run = |make: &mut dyn FnMut(u64) -> Vec<u8>| (0..RUN as u64).map(make).collect::<Vec<_>>();
    let first = number(random);
    vec![
        run(&mut |_| noise(random)),
        run(&mut |_| vec![0x80]),
        run(&mut |_| rtp(SSRC, number(random))),
        run(&mut |n| rtp(SSRC, n as u16)),
        run(&mut |_| rtp(random.next() as u32, number(random))),
        // A new source every three packets.
        run(&mut |n| rtp(0x5000 + (n / 3) as u32, first.wrapping_add((n % 3) as u16))),
        run(&mut |_| compound(&|writer| writer.bye(&[SSRC]))),
        run(&mut |n| compound(&|writer| writer.nack(1, n as u32, &[1, 2, 3]))),
        run(&mut |n| compound(&|writer| writer.pli(1, n as u32))),
        run(&mut |n| compound(&|writer| writer.sender_report(n as u32, n << 32, 1, 1, 1, &[]))),
    ]
}

/// Sends until told to stop; returns how many it sent.
fn flood(ports: &[u16], stop: &AtomicBool, sent: &AtomicU64) {
    let (socket, mut batches, mut random) = (Socket::bind(STRANGER, 0).unwrap(), Batches::default(), Random(3));
    let kinds = kinds(&mut random);
    let runs: Vec<Vec<Transmit>> = ports
        .iter()
        .flat_map(|port| kinds.iter().map(move |kind| (port, kind)))
        .map(|(port, kind)| {
            let dst = SocketAddr::new(LOCAL, *port);
            let packet =
                |bytes: &Vec<u8>| Transmit { sock: SockId(0), dst, bytes: bytes.clone().into(), last_of: None };
            kind.iter().map(packet).collect()
        })
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for run in &runs {
            batches.send(&socket, run);
            sent.fetch_add(run.len() as u64, Ordering::Relaxed);
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn dropped(engine: &Engine, reason: &str) -> i64 {
    let stats = engine.stats().unwrap();
    stats.get("drops").unwrap().get(reason).and_then(|n| n.int()).unwrap_or(0)
}

/// A learned source, one that is configured and multiplexes, and an encrypted one; beside them a leg whose source is
/// still to come, which the stranger may become. The flood goes to the ports of all.
#[test]
fn a_flood_of_garbage_costs_live_streams_no_frame_and_the_pod_no_memory() {
    let (engine, mut batches) = (Engine::start(1).unwrap(), Batches::default());
    let mut lives = [
        Live::start(&engine, "learned", |_, _| {}),
        Live::start(&engine, "configured", |config, peer| {
            config.rtcp_mux = true;
            config.media[0].remote = Some(peer);
        }),
        Live::start(&engine, "encrypted", |config, _| config.srtp = Some(Config { rx: master(), tx: master() })),
    ];
    let (_, waiting) = open(&engine, config(Direction::Receive, true, None));
    let ports: Vec<u16> = lives.iter().flat_map(|live| live.ports).chain([waiting, waiting + 1]).collect();
    let (stop, flooded) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let flooding = {
        let (stop, flooded) = (stop.clone(), flooded.clone());
        std::thread::spawn(move || flood(&ports, &stop, &flooded))
    };
    std::thread::sleep(Duration::from_millis(200));
    let (before, begun, cpu) = (resident_bytes(), Instant::now(), engine.cpu_time().unwrap());
    let mut events = 0;
    for number in 1..=FRAMES as u32 {
        for live in &mut lives {
            live.frame(false);
            live.drain(&mut batches);
        }
        events += engine.poll(1000).len();
        std::thread::sleep((FRAME_EVERY * number).saturating_sub(begun.elapsed()));
    }
    let (took, spent, grown) =
        (begun.elapsed(), engine.cpu_time().unwrap() - cpu, resident_bytes().saturating_sub(before));
    stop.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let rate = flooded.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    println!(
        "{rate:.0} datagrams/s beside 3 streams; engine {spent:.1?} of {took:.1?}; {grown} bytes, {events} events"
    );
    for live in &mut lives {
        live.drain(&mut batches);
        let lost = live.sent - live.markers;
        println!("{}: {lost} of {} frames lost", live.name, live.sent);
    }
    for live in &lives {
        assert_eq!(live.markers, live.sent, "{}", live.name);
        assert!(live.numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{}", live.name);
    }
    assert!(grown < MOST_GROWTH_BYTES, "{grown} bytes more");
    assert!(events <= MOST_EVENTS, "{events} events");
    assert!(dropped(&engine, "kernel_dropped") > 10_000, "strangers where the peer is known");
    assert!(dropped(&engine, "malformed") > 1000, "and the others are looked at");
}
