//! The engine's own promises: it idles, it is bounded towards Python, and a fault of ours ends legs, not the process.
#![allow(clippy::disallowed_types)] // the traffic's own socket

mod common;
use auralink_native::core::codec::Media;
use auralink_native::core::leg_plain::{Direction, LegConfig};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::Event;
use auralink_native::core::rtcp::Writer;
use auralink_native::core::rtp;
use auralink_native::core::srtp::{Config, Master, Suite};
use auralink_native::core::stats::Value;
use auralink_native::core::{LegId, StreamId};
use auralink_native::engine::{Binding, Engine, Item, Stopped, inbox};
use bytes::Bytes;
use common::{SSRC, Sender, config};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::time::Duration;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn open(engine: &Engine, direction: Direction, remote: Option<SocketAddr>) -> LegId {
    open_at(engine, LOCAL, config(direction, false, remote))
}

fn open_at(engine: &Engine, ip: IpAddr, config: LegConfig) -> LegId {
    engine.open_leg(config, Binding { ip, ports: vec![0, 0] }).unwrap().unwrap()
}

fn video_port(engine: &Engine, leg: LegId) -> u16 {
    let ports = engine.local_ports(leg).unwrap();
    ports.iter().find(|(media, _)| *media == Media::Video).unwrap().1
}

fn send(peer: &UdpSocket, packets: &[Vec<u8>]) {
    for packet in packets {
        peer.send(packet).unwrap();
    }
}

/// Waits for a stream and sends it to `outlet`.
fn link(engine: &Engine, outlet: LegId, mode: Mode) {
    let stream = eventually(|| {
        engine.poll(1).into_iter().find_map(|item| match item {
            Item::Event(Event::StreamStarted { stream, .. }) => Some(stream),
            _ => None,
        })
    });
    let policy = Policy { mode, extension: true, degraded: false };
    engine
        .call(move |shard, now| {
            shard.link(stream, outlet, now).unwrap();
            shard.set_mode(stream, policy, None, now)
        })
        .unwrap();
}

/// Asks until `check` holds; the engine's thread works meanwhile.
fn eventually<T>(mut check: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = check() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 5 s");
}

#[test]
fn an_idle_engine_uses_no_time() {
    let engine = Engine::start(1).unwrap();
    open(&engine, Direction::Both, Some(SocketAddr::new(LOCAL, 9)));
    let before = engine.cpu_time().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let used = engine.cpu_time().unwrap() - before;
    assert!(used < Duration::from_millis(10), "{used:?}");
}

/// Packets of ours that somebody recorded would authenticate as the peer's.
#[test]
fn an_encrypted_leg_that_sends_and_receives_with_one_key_is_refused() {
    let engine = Engine::start(1).unwrap();
    let open = |direction, suites: [(Suite, u8); 2]| {
        let [rx, tx] = suites.map(|(suite, fill)| Master::new(suite, &vec![fill; suite.master_bytes()]).unwrap());
        let config = LegConfig { srtp: Some(Config { rx, tx }), ..config(direction, true, None) };
        engine.open_leg(config, Binding { ip: LOCAL, ports: vec![0, 0] }).unwrap()
    };
    for suite in Suite::ALL {
        let refused = open(Direction::Both, [(suite, 7), (suite, 7)]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
        assert!(refused.to_string().starts_with("srtp.tx: must differ"), "{refused}");
        assert!(open(Direction::Both, [(suite, 7), (suite, 8)]).is_ok());
        assert!(open(Direction::Receive, [(suite, 7), (suite, 7)]).is_ok());
        assert!(open(Direction::Send, [(suite, 7), (suite, 7)]).is_ok());
    }
}

/// Rule 35.
#[test]
fn what_strangers_send_to_a_configured_peers_port_is_dropped_by_the_kernel_from_the_first_packet_on() {
    let engine = Engine::start(1).unwrap();
    let leg =
        open_at(&engine, Ipv6Addr::UNSPECIFIED.into(), config(Direction::Receive, false, Some((LOCAL, 9).into())));
    let stranger = UdpSocket::bind((LOCAL, 0)).unwrap();
    stranger.connect((LOCAL, video_port(&engine, leg))).unwrap();
    send(&stranger, &vec![vec![0x80; 100]; 50]);
    let expected = Value::Map(vec![("kernel_dropped".into(), Value::Int(50))]);
    assert_eq!(engine.stats().unwrap().get("drops"), Some(&expected));
}

#[test]
fn a_fault_fails_every_leg_and_later_calls_say_stopped() {
    let engine = Engine::start(1).unwrap();
    let legs = [open(&engine, Direction::Receive, None), open(&engine, Direction::Receive, None)];
    assert_eq!(engine.call(|_, _| panic!("a fault of ours")), Err::<(), _>(Stopped));
    let mut failed = Vec::new();
    eventually(|| {
        failed.extend(engine.poll(10).into_iter().filter_map(|item| match item {
            Item::Event(Event::LegFailed { leg, .. }) => Some(leg),
            _ => None,
        }));
        (failed.len() == 2).then_some(())
    });
    assert_eq!(failed, legs);
    assert_eq!(engine.stats(), Err(Stopped));
    engine.close(true);
}

#[test]
fn what_python_does_not_fetch_is_bounded_and_counted() {
    let engine = Engine::start(1).unwrap();
    let inlet = open(&engine, Direction::Receive, None);
    let sink = UdpSocket::bind((LOCAL, 0)).unwrap();
    let outlet = open(&engine, Direction::Send, Some(sink.local_addr().unwrap()));
    let peer = UdpSocket::bind((LOCAL, 0)).unwrap();
    peer.connect((LOCAL, video_port(&engine, inlet))).unwrap();
    let mut sender = Sender::new(0, 0);
    send(&peer, &sender.key(0, 100));
    link(&engine, outlet, Mode::Shadow);
    const KEPT: usize = 1024;
    const SENT: i64 = 1500;
    for id in 1..SENT {
        send(&peer, &sender.delta(id as _, 100));
        if id % 50 == 0 {
            engine.stats().unwrap(); // lets it catch up
        }
    }
    // All of them have arrived before any is fetched: what is fetched makes room.
    eventually(|| {
        let refused = engine.stats().unwrap().get("drops")?.get("shadow_overflow")?.int()?;
        (refused == SENT - KEPT as i64).then_some(())
    });
    let frames = std::iter::from_fn(|| Some(engine.poll(100)).filter(|items| !items.is_empty()))
        .flatten()
        .filter(|item| matches!(item, Item::Frame(_)))
        .count();
    assert_eq!(frames, KEPT);
}

#[test]
fn answers_wait_for_nobody_and_those_without_room_fail_their_streams() {
    let engine = Engine::start(1).unwrap();
    let (held, holds) = channel();
    let (release, released) = channel::<()>();
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            engine.call(move |_, _| {
                held.send(()).unwrap();
                released.recv().unwrap();
            })
        });
        holds.recv().unwrap();
        // The thread is busy until it is released, below: whoever waited for it would wait for ever.
        for id in 0..inbox::MAX_COMMANDS as u64 {
            engine.submit(StreamId(7), id, None, None, false).unwrap();
        }
        engine.hold(StreamId(8)).unwrap();
        engine.request_key(StreamId(9)).unwrap();
        release.send(()).unwrap();
        busy.join().unwrap().unwrap();
    });
    let lost = eventually(|| engine.stats().unwrap().get("drops")?.get("command_overflow")?.int());
    assert_eq!(lost, 2);
    let refused = |item: &Item| matches!(item, Item::Event(Event::SubmitRefused { .. }));
    assert_eq!(engine.poll(usize::MAX).iter().filter(|item| refused(item)).count(), inbox::MAX_COMMANDS);
}

#[test]
fn answers_that_wait_are_bounded_in_bytes_and_give_room_again() {
    let engine = Engine::start(1).unwrap();
    let answer = Bytes::from(vec![0; inbox::MAX_BYTES / 2 + 1]);
    for round in 1..4 {
        let (release, released) = channel::<()>();
        std::thread::scope(|scope| {
            let (held, holds) = channel();
            scope.spawn(|| {
                engine.call(move |_, _| {
                    held.send(()).unwrap();
                    released.recv().unwrap();
                })
            });
            holds.recv().unwrap();
            engine.submit(StreamId(7), 0, Some(answer.clone()), None, false).unwrap();
            engine.submit(StreamId(7), 1, Some(answer.clone()), None, false).unwrap();
            release.send(()).unwrap();
        });
        let counted = |reason| engine.stats().unwrap().get("drops")?.get(reason)?.int();
        eventually(|| (counted("command_overflow") == Some(round)).then_some(()));
        assert_eq!(counted("unknown_frame"), Some(round), "the other one had room");
    }
}

/// The next datagram that is no RTCP.
fn media(sink: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    loop {
        let size = sink.recv(&mut buffer).expect("media within 5 s");
        if !(192..224).contains(&buffer[1]) {
            return buffer[..size].to_vec();
        }
    }
}

#[test]
fn legs_on_every_address_learn_and_serve_peers_of_either_family() {
    for local in [LOCAL, Ipv6Addr::LOCALHOST.into()] {
        let Ok(peer) = UdpSocket::bind((local, 0)) else { continue }; // this machine has no ::1
        let sink = UdpSocket::bind((local, 0)).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let engine = Engine::start(1).unwrap();
        let every = Ipv6Addr::UNSPECIFIED.into();
        let inlet = open_at(&engine, every, config(Direction::Receive, true, None));
        let outlet = open_at(&engine, every, config(Direction::Send, true, Some(sink.local_addr().unwrap())));
        let (into, out) = (video_port(&engine, inlet), video_port(&engine, outlet));
        peer.connect((local, into)).unwrap();
        let mut sender = Sender::new(0, 0);
        send(&peer, &sender.key(0, 100));
        link(&engine, outlet, Mode::Bypass);
        let first = media(&sink);
        // RTCP of both peers, from ports of its own: known by the address.
        let beside = UdpSocket::bind((local, 0)).unwrap();
        let mut report = Writer::default();
        report.sender_report(SSRC, 5 << 32, 0, 0, 0, &[]);
        beside.send_to(&report.finish(), (local, into + 1)).unwrap();
        let parsed = rtp::parse(&first).unwrap();
        let mut nack = Writer::default();
        nack.receiver_report(9, &[]);
        nack.nack(9, parsed.ssrc, &[parsed.sequence]);
        beside.send_to(&nack.finish(), (local, out + 1)).unwrap();
        eventually(|| (media(&sink) == first).then_some(()));
        let stats = engine.stats().unwrap();
        assert_eq!(stats.get("drops"), Some(&Value::Map(vec![])));
        let learned = stats.get("legs").unwrap().row(inlet.0).unwrap().get("video").unwrap().get("remote").unwrap();
        assert_eq!(*learned, Value::Text(peer.local_addr().unwrap().to_string()));
    }
}

#[test]
fn rooms_live_on_threads_of_their_own_and_share_neither_ids_nor_streams() {
    let engine = Engine::start(2).unwrap();
    let sink = UdpSocket::bind((LOCAL, 0)).unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let leg = |room: &str, direction, remote| {
        let config = LegConfig { room: room.to_owned(), ..config(direction, false, remote) };
        open_at(&engine, LOCAL, config)
    };
    let to = Some(sink.local_addr().unwrap());
    let rooms = ["a", "b"].map(|room| [leg(room, Direction::Receive, None), leg(room, Direction::Send, to)]);
    let mut streams = Vec::new();
    for [inlet, _] in rooms {
        let peer = UdpSocket::bind((LOCAL, 0)).unwrap();
        peer.connect((LOCAL, video_port(&engine, inlet))).unwrap();
        send(&peer, &Sender::new(0, 0).key(0, 100));
        streams.push(eventually(|| {
            engine.poll(1).into_iter().find_map(|item| match item {
                Item::Event(Event::StreamStarted { stream, .. }) => Some(stream),
                _ => None,
            })
        }));
    }
    let ids: BTreeSet<u64> = rooms.iter().flatten().map(|leg| leg.0).chain(streams.iter().map(|id| id.0)).collect();
    assert_eq!(ids.len(), 6);
    assert_eq!(
        engine.link(streams[0], rooms[1][1]).unwrap(),
        Err(format!("stream {} and leg {} are of different rooms", streams[0].0, rooms[1][1].0))
    );
    for (stream, [_, outlet]) in streams.iter().zip(rooms) {
        engine.link(*stream, outlet).unwrap().unwrap();
        engine.set_mode(*stream, Policy { mode: Mode::Bypass, extension: true, degraded: false }, None).unwrap();
        media(&sink);
    }
    let rows = |of: &str| match engine.stats().unwrap().get(of) {
        Some(Value::Table(rows)) => rows.len(),
        _ => 0,
    };
    assert_eq!((rows("legs"), rows("streams"), rows("outs")), (4, 2, 2));
    // One thread's end is not the other's.
    assert_eq!(engine.call(|_, _| panic!("a fault of ours")), Err::<(), _>(Stopped));
    let failed = eventually(|| {
        engine.poll(1).into_iter().find_map(|item| match item {
            Item::Event(Event::LegFailed { leg, .. }) => Some(leg),
            _ => None,
        })
    });
    assert!(rooms[0].contains(&failed));
    assert_eq!(engine.local_ports(rooms[0][0]), Err(Stopped));
    assert!(!engine.local_ports(rooms[1][0]).unwrap().is_empty());
}
