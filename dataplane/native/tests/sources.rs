//! Who is taken for a source, how sources end, and what follows them.

mod common;
use auralink_native::core::SockId;
use auralink_native::core::codec::Media;
use auralink_native::core::leg_plain::{Direction, LegConfig, Sockets};
use auralink_native::core::mode::Mode;
use auralink_native::core::output::Event;
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::source::Senders;
use common::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;

fn started(world: &World) -> usize {
    world.events.iter().filter(|event| matches!(event, Event::StreamStarted { .. })).count()
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], 999))
}

fn bye(ssrc: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.receiver_report(ssrc, &[]);
    writer.bye(&[ssrc]);
    writer.finish()
}

#[test]
fn a_learned_source_loses_none_of_its_first_packets() {
    let mut world = World::with_remote(false, None);
    let mut sender = Sender::new(65_534, 0);
    let packets = sender.key(0, 500);
    world.receive_all(&packets[..2]);
    assert_eq!(started(&world), 0);
    world.receive_all(&packets[2..]);
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    assert_eq!(ids(&world.seen()), [0]);
    assert_eq!(world.drops("probation"), 0);
}

/// Rule 35.
#[test]
fn forged_packets_neither_redirect_nor_disturb() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    for id in 1..50 {
        let packets = sender.delta(id, 2000);
        for packet in &packets {
            world.receive_from(IN_RTP, stranger(), packet);
        }
        world.receive_from(IN_RTCP, stranger(), &bye(SSRC));
        world.receive_all(&packets);
    }
    assert_eq!(ids(&world.seen()), (0..50).collect::<Vec<_>>());
    assert!(world.drops("foreign_source") > 100);
    assert!(world.left.iter().all(|left| left.dst.ip() != stranger().ip()));
    assert_eq!(started(&world), 1);
}

/// Rule 35: the kernel may drop what nobody has a use for, and nothing else.
#[test]
fn sockets_take_anyone_while_a_source_is_learned_and_its_host_alone_while_it_is_there() {
    let mut world = World::with_remote(false, None);
    let opened = world.shard.take_senders();
    assert_eq!((opened[&IN_RTP], opened[&IN_RTCP]), (Senders::Anyone, Senders::Anyone));
    let known = [(OUT_RTP, Senders::Address(receiver())), (OUT_RTCP, Senders::Host(receiver().ip()))];
    assert!(known.iter().all(|(sock, senders)| opened[sock] == *senders));
    let mut camera = Sender::new(0, 0);
    let mut key = camera.key(0, 500);
    let last = key.pop().unwrap();
    world.receive_all(&key);
    assert!(world.shard.take_senders().is_empty(), "on probation");
    world.receive(&last);
    let locked = [(IN_RTCP, Senders::Host(sender().ip())), (IN_RTP, Senders::Address(sender()))];
    let taken = |world: &mut World| world.shard.take_senders().into_iter().collect::<BTreeMap<_, _>>();
    assert_eq!(taken(&mut world), locked.into());
    world.receive_from(IN_RTCP, sender_rtcp(), &bye(SSRC));
    assert_eq!(taken(&mut world), [(IN_RTP, Senders::Anyone), (IN_RTCP, Senders::Anyone)].into());
    world.receive_all(&camera.key(1, 500));
    assert_eq!(taken(&mut world), locked.into());
    world.advance_ms(31_000);
    assert_eq!(taken(&mut world)[&IN_RTP], Senders::Anyone, "silence");
    assert!(world.shard.set_remote(world.source, Media::Video, stranger()));
    let configured = [(IN_RTCP, Senders::Host(stranger().ip())), (IN_RTP, Senders::Address(stranger()))];
    assert_eq!(taken(&mut world), configured.into());

    let mux = LegConfig { rtcp_mux: true, ..config(Direction::Both, false, Some(sender())) };
    let one = Sockets { rtp: SockId(70), rtcp: SockId(70) };
    world.shard.open_leg(mux, &[one, Sockets { rtp: SockId(72), rtcp: SockId(72) }], world.now());
    assert_eq!(taken(&mut world)[&SockId(70)], Senders::Multiplexed(sender()));
}

/// Rule 9.
#[test]
fn a_bye_ends_the_stream_and_its_outs_say_bye() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Bypass, &mut sender);
    world.receive_from(IN_RTCP, sender_rtcp(), &bye(SSRC));
    assert_eq!(world.events.last(), Some(&Event::StreamEnded { stream, reason: "bye" }));
    let last = world.left.last().unwrap();
    assert_eq!((last.sock, last.dst.port()), (OUT_RTCP, receiver().port() + 1));
    assert!(last.bytes.windows(2).any(|pair| pair == [0x81, 203]));
}

fn sender_rtcp() -> SocketAddr {
    SocketAddr::new(sender().ip(), 7777)
}

#[test]
fn thirty_seconds_of_silence_end_a_stream() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Bypass, &mut sender);
    world.advance_ms(29_900);
    assert!(!world.events.contains(&Event::StreamEnded { stream, reason: "silence" }));
    world.advance_ms(200);
    assert!(world.events.contains(&Event::StreamEnded { stream, reason: "silence" }));
}

/// Rules 3 and 9.
#[test]
fn a_new_ssrc_replaces_the_old_and_the_out_goes_on_without_a_seam() {
    let mut sender = Sender::new(0, 0);
    let (mut world, old, out) = World::started(false, Mode::Bypass, &mut sender);
    world.receive_all(&sender.delta(1, 200));
    world.advance_ms(500);
    let mut next = Sender { ssrc: 77, ..Sender::new(40_000, 123_456_789) };
    world.receive_all(&next.key(2, 200));
    let new = world.stream();
    assert!(world.events.contains(&Event::StreamEnded { stream: old, reason: "replaced" }));
    assert_eq!(world.link(new), out, "the same out");
    world.set_mode(new, Mode::Bypass);
    world.receive_all(&next.delta(3, 200));
    let frames = world.seen(); // one SSRC, contiguous
    assert_eq!(ids(&frames), [0, 1, 2, 3]);
    let timestamps: Vec<u32> = frames.iter().map(|frame| frame.timestamp).collect();
    assert_eq!(timestamps, [0, 3000, 3000 + 45_000, 3000 + 45_000 + 3000]);
}

#[test]
fn an_out_nobody_takes_over_says_bye_and_is_forgotten() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    world.advance_ms(61_000);
    assert_eq!(world.shard.stats().get("outs").unwrap().row(3), None);
    assert!(world.left.last().unwrap().bytes.windows(2).any(|pair| pair == [0x81, 203]));
}

#[test]
fn the_receivers_of_a_closed_leg_hear_bye_unless_its_room_goes_on_elsewhere() {
    for bye in [true, false] {
        let mut sender = Sender::new(0, 0);
        let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
        let before = world.left.len();
        for leg in [world.source, world.target] {
            world.shard.close_leg(leg, bye, world.now());
        }
        world.settle();
        let said = world.left[before..].iter().any(|left| left.bytes.windows(2).any(|pair| pair == [0x81, 203]));
        assert_eq!(said, bye);
        assert!(world.shard.leg_ids().is_empty());
        assert_eq!(world.shard.stats().get("outs").unwrap().row(3), None);
    }
}

#[test]
fn a_peer_that_keeps_changing_its_ssrc_starts_a_bounded_number_of_streams() {
    let mut world = World::new(false);
    for ssrc in 1..2000 {
        let mut sender = Sender { ssrc, ..Sender::new(0, 0) };
        world.receive_all(&sender.key(0, 100));
    }
    assert_eq!(started(&world), 16);
    assert!(world.drops("stream_limit") > 1000);
}

/// Rule 9.
#[test]
fn an_ssrc_of_ours_used_by_the_peer_makes_us_take_another() {
    let mut sender = Sender::new(0, 0);
    // One leg both ways: what comes in on it goes out on it.
    let mut world = World::new(false);
    let both = config(auralink_native::core::leg_plain::Direction::Both, false, Some(stranger()));
    let sockets = [30, 32].map(|n| auralink_native::core::leg_plain::Sockets {
        rtp: auralink_native::core::SockId(n),
        rtcp: auralink_native::core::SockId(n + 1),
    });
    world.target = world.shard.open_leg(both, &sockets, world.now());
    world.receive_all(&sender.key(0, 200));
    let stream = world.stream();
    let out = world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    let ours = world.out_stat(out, "ssrc") as u32;
    let mut peer = Sender { ssrc: ours, ..Sender::new(0, 0) };
    let key = peer.key(1, 200);
    key.iter().for_each(|packet| world.receive_from(sockets[0].rtp, stranger(), packet));
    assert_ne!(world.out_stat(out, "ssrc") as u32, ours);
    assert_eq!(started(&world), 2);
}

/// Rule 35.
#[test]
fn nothing_goes_to_an_address_that_is_neither_configured_nor_locked() {
    let mut world = World::new(false);
    let learning = config(auralink_native::core::leg_plain::Direction::Both, false, None);
    let sockets = [30, 32].map(|n| auralink_native::core::leg_plain::Sockets {
        rtp: auralink_native::core::SockId(n),
        rtcp: auralink_native::core::SockId(n + 1),
    });
    world.target = world.shard.open_leg(learning, &sockets, world.now());
    let mut sender = Sender::new(0, 0);
    world.receive_all(&sender.key(0, 200));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    world.receive_all(&sender.delta(1, 200));
    world.advance_ms(2000);
    assert!(world.left.iter().all(|left| left.sock.0 < 30));
    assert_eq!(world.drops("no_remote"), 2);
}

#[test]
fn media_on_a_sending_leg_and_unknown_payload_types_are_counted() {
    let mut world = World::new(false);
    world.receive_from(OUT_RTP, receiver(), &packet(1, VIDEO_PT, 0, 0, true, &idr(1, 50)));
    assert_eq!(world.drops("wrong_direction"), 1);
    world.receive(&packet(1, 97, 0, 0, true, &idr(1, 50)));
    assert_eq!(world.drops("unknown_payload_type"), 1);
}

#[test]
fn a_source_that_numbers_anew_goes_on_at_its_next_key() {
    let mut sender = Sender::new(1000, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    world.receive_all(&sender.delta(1, 2000));
    sender.sequence = 40_000;
    world.receive_all(&sender.delta(2, 2000));
    world.receive_all(&sender.key(3, 2000));
    world.receive_all(&sender.delta(4, 2000));
    assert_eq!(ids(&world.seen()), [0, 1, 3, 4]);
    assert_eq!(world.drops("sequence_jump"), 1);
}

/// Rule 9: a peer, or a switch on the way, that sends back what we send.
#[test]
fn packets_of_ours_that_come_back_are_no_source_and_change_nothing() {
    for remote in [None, Some(stranger())] {
        let mut sender = Sender::new(0, 0);
        let mut world = World::new(false);
        let both = config(auralink_native::core::leg_plain::Direction::Both, false, remote);
        let sockets = [30, 32].map(|n| auralink_native::core::leg_plain::Sockets {
            rtp: auralink_native::core::SockId(n),
            rtcp: auralink_native::core::SockId(n + 1),
        });
        world.target = world.shard.open_leg(both, &sockets, world.now());
        if remote.is_none() {
            let mut peer = Sender { ssrc: 5, ..Sender::new(0, 0) };
            peer.key(9, 200).iter().for_each(|packet| world.receive_from(sockets[0].rtp, stranger(), packet));
        }
        world.receive_all(&sender.key(0, 200));
        let (stream, before) = (world.stream(), started(&world));
        let out = world.link(stream);
        world.set_mode(stream, Mode::Bypass);
        let ours = world.out_stat(out, "ssrc");
        let mut returned = 0;
        for id in 1..100 {
            world.receive_all(&sender.delta(id, 4000));
            for left in std::mem::take(&mut world.left).iter().filter(|left| left.sock == sockets[0].rtp) {
                world.receive_from(sockets[0].rtp, stranger(), &left.bytes);
                returned += 1;
            }
        }
        assert!(returned > 300);
        assert_eq!(world.drops("looped"), returned);
        assert_eq!((world.out_stat(out, "ssrc"), started(&world)), (ours, before));
    }
}

/// Rule 35: a stranger that repeats what the source sends from the first packet on, and one that makes up its own.
#[test]
fn while_a_source_is_learned_strangers_do_not_mix_with_it() {
    let mut world = World::with_remote(true, None);
    let mut sender = Sender::new(100, 0);
    let first = sender.key(0, 500);
    for packet in &first {
        world.receive(packet);
        world.receive_from(IN_RTP, stranger(), &packet[..12]); // the same SSRC and numbers
    }
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    for id in 1..100 {
        let packets = sender.delta(id, 2000);
        packets.iter().for_each(|packet| world.receive_from(IN_RTP, stranger(), packet));
        let mut forged = Sender { ssrc: 0xbad, ..Sender::new(0, 0) };
        forged.key(id, 500).iter().for_each(|packet| world.receive_from(IN_RTP, stranger(), packet));
        world.receive_all(&packets);
        world.advance_ms(33);
    }
    assert_eq!(ids(&world.seen()), (0..100).collect::<Vec<_>>());
    assert!(world.left.iter().all(|left| left.dst.ip() != stranger().ip()));
}

/// A world whose second leg takes media too, with a stream of the first sent on to it.
fn between_two() -> (World, Sender, u32) {
    let source = config(Direction::Receive, true, Some(sender()));
    let target = config(Direction::Both, true, Some(receiver()));
    let (mut world, mut sender) = (World::between(source, target), Sender::new(0, 0));
    world.receive_all(&sender.key(0, 100));
    let stream = world.stream();
    let out = world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    let ssrc = world.out_stat(out, "ssrc") as u32;
    (world, sender, ssrc)
}

fn collide(world: &mut World, ssrc: u32) {
    let mut peer = Sender { ssrc, ..Sender::new(50_000, 77) };
    peer.key(1, 100).iter().for_each(|packet| world.receive_from(OUT_RTP, receiver(), packet));
}

/// Rule 9.
#[test]
fn after_a_collision_nothing_of_the_old_ssrc_follows_its_bye_and_the_new_one_begins_with_a_key() {
    let (mut world, mut sender, old) = between_two();
    world.advance_ms(33);
    world.left.clear();
    world.receive_all(&sender.delta(2, 60_000)); // most of it waits for the pace
    collide(&mut world, old);
    let is_bye = |left: &Left| {
        left.sock == OUT_RTCP && rtcp::parse(&left.bytes).unwrap().iter().any(|p| matches!(p, Rtcp::Bye { .. }))
    };
    let bye = world.left.iter().position(is_bye).expect("a BYE");
    for (id, key) in [(3, false), (4, true), (5, false)] {
        world.advance_ms(33);
        world.receive_all(&if key { sender.key(id, 100) } else { sender.delta(id, 100) });
    }
    world.advance_ms(33);
    let asked = |left: &&Left| {
        left.sock == IN_RTCP && rtcp::parse(&left.bytes).unwrap().iter().any(|p| matches!(p, Rtcp::Pli { .. }))
    };
    assert!(world.left.iter().any(|left| asked(&left)), "the source is asked for a key");
    let behind: Vec<Left> = world.left[bye..].iter().filter(|left| left.sock == OUT_RTP).cloned().collect();
    assert!(behind.iter().all(|left| left.rtp().ssrc != old));
    assert_eq!(ids(&seen(&behind)), [4, 5]);
}

/// Rule 9: RFC 3550 8.2.
#[test]
fn what_was_under_way_of_an_ssrc_that_we_gave_up_is_no_source_when_it_comes_back() {
    let (mut world, mut sender, old) = between_two();
    world.receive_all(&sender.delta(1, 5000));
    let under_way = world.media();
    collide(&mut world, old);
    // The peer takes another, too.
    let mut peer = Sender { ssrc: 5, ..Sender::new(3, 99) };
    peer.key(2, 100).iter().for_each(|packet| world.receive_from(OUT_RTP, receiver(), packet));
    world.events.clear();
    under_way.iter().for_each(|left| world.receive_from(OUT_RTP, receiver(), &left.bytes));
    assert!(world.events.is_empty());
    assert_eq!(world.drops("looped"), under_way.len() as i64);
}
