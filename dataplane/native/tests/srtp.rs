//! Encrypted legs (rule 34): rollover counts, replays, sources that come back, and that what does not authenticate
//! changes nothing. The peers' packets are made with the crate's own keys, which RFC vectors check; against other
//! implementations it stands in `tests/integration/test_dataplane_srtp.py`.

mod common;
use auralink_native::core::leg_plain::{Direction, LegConfig, Sockets};
use auralink_native::core::mode::Mode;
use auralink_native::core::output::Event;
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::srtp::{Config, Keys, MAX_SOURCES, Master, Protect, Suite, Unprotect};
use auralink_native::core::{Drop, SockId};
use bytes::BytesMut;
use common::*;
use std::net::SocketAddr;

fn master(suite: Suite, fill: u8) -> Master {
    let bytes: Vec<u8> = (0..suite.master_bytes()).map(|n| fill ^ n as u8).collect();
    Master::new(suite, &bytes).unwrap()
}

/// What the peer sends with, and what we send with.
const THEIRS: u8 = 0x35;
const OURS: u8 = 0xca;

/// A world whose legs are encrypted.
fn world(suite: Suite, feedback: bool, remote: Option<SocketAddr>) -> World {
    let mut world = World::with_remote(feedback, remote);
    for leg in [world.source, world.target] {
        world.shard.close_leg(leg, true, world.now());
    }
    let srtp = || Some(Config { rx: master(suite, THEIRS), tx: master(suite, OURS) });
    let sockets = |n: u64| [n, n + 2].map(|n| Sockets { rtp: SockId(n), rtcp: SockId(n + 1) });
    let inward = LegConfig { srtp: srtp(), ..common::config(Direction::Receive, feedback, remote) };
    let outward = LegConfig { srtp: srtp(), ..common::config(Direction::Send, feedback, Some(receiver())) };
    world.source = world.shard.open_leg(inward, &sockets(10), world.now());
    world.target = world.shard.open_leg(outward, &sockets(20), world.now());
    world.settle();
    world
}

/// A sender that counts its packets beyond 16 bits and encrypts them.
struct Peer {
    keys: Keys,
    sender: Sender,
    /// Of the next packet.
    index: u64,
}

impl Peer {
    fn new(suite: Suite, ssrc: u32, index: u64) -> Peer {
        let sender = Sender { ssrc, mtu: 200, ..Sender::new(index as u16, 0) };
        Peer { keys: Keys::new(&master(suite, THEIRS)), sender, index }
    }

    fn protect(&mut self, packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let keys = &self.keys;
        let protected = packets.iter().zip(self.index..).map(|(packet, index)| protect(keys, index, packet)).collect();
        self.index += packets.len() as u64;
        protected
    }

    fn key(&mut self, id: u64) -> Vec<Vec<u8>> {
        let packets = self.sender.key(id, 800);
        self.protect(packets)
    }

    fn delta(&mut self, id: u64) -> Vec<Vec<u8>> {
        let packets = self.sender.delta(id, 800);
        self.protect(packets)
    }
}

fn protect(keys: &Keys, index: u64, packet: &[u8]) -> Vec<u8> {
    let mut packet = BytesMut::from(packet);
    keys.protect_rtp(index, &mut packet);
    packet.to_vec()
}

/// With the first key received, linked and passed on.
fn started(suite: Suite, index: u64) -> (World, Peer) {
    let (mut world, mut peer) = (world(suite, false, Some(sender())), Peer::new(suite, SSRC, index));
    world.receive_all(&peer.key(0));
    start(&mut world);
    (world, peer)
}

fn start(world: &mut World) {
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
}

/// The frames as our peer sees them who has the key; all that left must be for him.
fn decrypted(world: &World, suite: Suite) -> Vec<Seen> {
    let mut unprotect = Unprotect::new(&master(suite, OURS));
    let packets: Vec<Left> = world
        .media()
        .into_iter()
        .map(|left| {
            let mut bytes = Vec::new();
            unprotect.rtp(&left.bytes, &mut bytes).unwrap();
            assert_eq!(left.bytes.len(), bytes.len() + suite.tag_bytes());
            Left { bytes, ..left }
        })
        .collect();
    seen(&packets)
}

fn streams_started(world: &World) -> usize {
    world.events.iter().filter(|event| matches!(event, Event::StreamStarted { .. })).count()
}

#[test]
fn both_sides_count_on_over_two_wraps() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = started(suite, 65_000);
        peer.sender.mtu = 60;
        let mut id = 0;
        while peer.index < 2 * 65_536 + 100 {
            id += 1;
            world.receive_all(&peer.delta(id));
            world.advance_ms(33);
        }
        let frames = decrypted(&world, suite);
        assert_eq!(ids(&frames), (0..=id).collect::<Vec<_>>());
        assert!(world.media().len() > 65_536, "ours wraps too");
        assert_eq!((world.drops("srtp_unauthentic"), world.drops("srtp_replayed")), (0, 0));
    }
}

#[test]
fn packets_reordered_over_the_wrap_belong_to_their_own_count() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = started(suite, 65_536 - 8);
        let mut packets: Vec<Vec<u8>> = (1..4).flat_map(|id| peer.delta(id)).collect();
        packets.chunks_mut(4).for_each(<[_]>::reverse);
        world.receive_all(&packets);
        world.advance_ms(33);
        assert_eq!(ids(&decrypted(&world, suite)), [0, 1, 2, 3]);
    }
}

#[test]
fn a_replayed_packet_is_counted_and_goes_no_further() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = started(suite, 65_500);
        let first = peer.delta(1);
        world.receive_all(&first);
        let left = world.media().len();
        world.receive_all(&first);
        assert_eq!(world.drops("srtp_replayed"), first.len() as i64);
        // Behind the window, and at a sequence number that the source has yet to reach in the next count.
        for id in 2..500 {
            world.receive_all(&peer.delta(id));
            world.advance_ms(33);
        }
        assert!(peer.index > 65_536 + 1024);
        let before = (world.media().len(), world.drops("srtp_replayed") + world.drops("srtp_unauthentic"));
        world.receive_all(&first);
        let after = (world.media().len(), world.drops("srtp_replayed") + world.drops("srtp_unauthentic"));
        assert_eq!(after, (before.0, before.1 + first.len() as i64));
        assert!(before.0 > left);
        assert_eq!(ids(&decrypted(&world, suite)), (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn a_source_that_comes_back_goes_on_in_its_count_and_its_past_stays_replayed() {
    for suite in Suite::ALL {
        let (mut world, mut a) = started(suite, 3 * 65_536 - 4);
        let first = a.delta(1);
        world.receive_all(&first);
        let mut b = Peer::new(suite, 0xb0b, 77);
        world.receive_all(&b.key(2));
        world.advance_ms(33);
        assert_eq!(streams_started(&world), 2);
        world.receive_all(&first);
        assert_eq!(world.drops("srtp_replayed"), first.len() as i64, "while B is there A's past is told apart");
        world.receive_all(&a.key(3));
        world.advance_ms(33);
        assert_eq!(streams_started(&world), 3);
        world.receive_all(&first);
        assert_eq!(world.drops("srtp_replayed"), 2 * first.len() as i64);
        assert_eq!(world.drops("srtp_unauthentic"), 0, "A's count was kept");
        assert_eq!(streams_started(&world), 3);
    }
}

#[test]
fn forged_packets_beside_a_live_stream_cost_no_frame_and_change_nothing() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = started(suite, 65_400);
        let wrong = Keys::new(&master(suite, 0x77));
        let mut random = Random(1);
        let mut forged = 0;
        for id in 1..60 {
            for packet in peer.delta(id) {
                let (anywhere, next) = (random.next() as u16, peer.index as u16);
                for (ssrc, sequence) in [(SSRC, anywhere), (SSRC, next), (random.next() as u32, 5)] {
                    let clear = common::packet(ssrc, VIDEO_PT, sequence, 0, true, &slice(0x41, id, 300));
                    world.receive(&protect(&wrong, sequence.into(), &clear));
                    world.receive(&clear);
                    forged += 2;
                }
                let mut mangled = packet.clone();
                mangled[20] ^= 1;
                world.receive(&mangled);
                forged += 1;
                world.receive(&packet);
                world.receive(&packet);
            }
            world.advance_ms(33);
        }
        assert_eq!(ids(&decrypted(&world, suite)), (0..60).collect::<Vec<_>>());
        let repeated = (peer.index - 65_400) as i64 - 7; // the first key was sent once
        let (replayed, unauthentic) = (world.drops("srtp_replayed"), world.drops("srtp_unauthentic"));
        assert_eq!(replayed + unauthentic, forged + repeated);
        assert!(replayed >= repeated);
        assert_eq!(streams_started(&world), 1);
    }
}

#[test]
fn only_what_authenticates_is_learned_and_strangers_are_not_even_looked_at() {
    for suite in Suite::ALL {
        let mut world = world(suite, false, None);
        let stranger = SocketAddr::from(([9, 9, 9, 9], 9));
        let wrong = Keys::new(&master(suite, 0x77));
        for sequence in 0..20u16 {
            let clear = common::packet(7, VIDEO_PT, sequence, 0, true, &idr(1, 100));
            world.receive_from(IN_RTP, stranger, &clear);
            world.receive_from(IN_RTP, stranger, &protect(&wrong, sequence.into(), &clear));
        }
        assert_eq!((streams_started(&world), world.drops("srtp_unauthentic")), (0, 40));
        let mut peer = Peer::new(suite, SSRC, 9);
        world.receive_all(&peer.key(0));
        assert_eq!(streams_started(&world), 1);
        let copied = peer.delta(1);
        copied.iter().for_each(|packet| world.receive_from(IN_RTP, stranger, packet));
        assert_eq!(world.drops("foreign_source"), copied.len() as i64);
        start(&mut world);
        world.receive_all(&copied);
        assert_eq!(ids(&decrypted(&world, suite)), [0, 1], "another's copy of them used nothing up");
    }
}

#[test]
fn a_source_that_sent_for_weeks_before_we_came_is_found() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = (world(suite, false, Some(sender())), Peer::new(suite, SSRC, 5000 << 16 | 40_000));
        let mut frames = 0;
        while streams_started(&world) == 0 {
            world.receive_all(&peer.key(frames));
            world.advance_ms(33);
            frames += 1;
            assert!(frames < 5000 / 8, "eight counts per packet are tried");
        }
        start(&mut world);
        world.receive_all(&peer.key(frames));
        let unauthentic = world.drops("srtp_unauthentic");
        world.receive_all(&peer.delta(frames + 1));
        assert_eq!(ids(&decrypted(&world, suite)).last(), Some(&(frames + 1)));
        assert_eq!(world.drops("srtp_unauthentic"), unauthentic, "from then on its count is known");
    }
}

#[test]
fn a_source_unheard_for_more_than_half_a_count_is_found_again_and_its_past_is_not() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = started(suite, 10);
        let past = peer.delta(1);
        world.receive_all(&past);
        for _ in 0..3 {
            peer.index += 65_536;
            peer.sender.sequence = peer.index as u16;
        }
        world.receive_all(&peer.key(2));
        world.advance_ms(33);
        world.receive_all(&past);
        assert_eq!(ids(&decrypted(&world, suite)), [0, 1, 2]);
        assert_eq!(world.drops("srtp_unauthentic"), past.len() as i64);
    }
}

#[test]
fn reports_and_feedback_are_encrypted_and_a_forged_bye_ends_nothing() {
    for suite in Suite::ALL {
        let (mut world, mut peer) = (world(suite, true, Some(sender())), Peer::new(suite, SSRC, 0));
        let mut theirs = Protect::new(&master(suite, THEIRS));
        world.receive_all(&peer.key(0));
        start(&mut world);
        let sent = world.media();
        let mut bye = Writer::default();
        bye.receiver_report(SSRC, &[]);
        bye.bye(&[SSRC]);
        let bye = bye.finish();
        let mut wrong = bye.clone();
        assert!(Protect::new(&master(suite, 0x77)).rtcp(&mut wrong));
        world.receive_from(IN_RTCP, sender(), &wrong);
        world.receive_from(IN_RTCP, sender(), &[&bye[..], &[0; 20]].concat());
        assert_eq!((world.drops("srtp_unauthentic"), world.drops("malformed")), (1, 1));

        let mut nack = Writer::default();
        nack.receiver_report(9, &[]);
        nack.nack(9, sent[0].rtp().ssrc, &[sent[0].rtp().sequence]);
        let mut nack = nack.finish();
        assert!(theirs.rtcp(&mut nack));
        world.receive_from(OUT_RTCP, receiver(), &nack);
        assert_eq!(world.media().last().unwrap().bytes, sent[0].bytes, "the very packet, not another under its number");
        world.receive_from(OUT_RTCP, receiver(), &nack);
        assert_eq!(world.drops("srtp_replayed"), 1);

        world.advance_ms(3000);
        let mut unprotect = Unprotect::new(&master(suite, OURS));
        let reports = world.left.iter().filter(|left| left.sock == OUT_RTCP).map(|left| {
            let mut plain = Vec::new();
            unprotect.rtcp(&left.bytes, &mut plain).unwrap();
            rtcp::parse(&plain).unwrap()
        });
        let ours = sent[0].rtp().ssrc;
        let reports: Vec<Vec<Rtcp>> = reports.collect();
        assert!(reports.len() >= 3);
        assert!(reports.iter().all(|one| matches!(one[0], Rtcp::SenderReport { ssrc, .. } if ssrc == ours)));

        let mut authentic = bye;
        assert!(theirs.rtcp(&mut authentic));
        world.receive_from(IN_RTCP, sender(), &authentic);
        assert!(world.events.iter().any(|event| matches!(event, Event::StreamEnded { reason: "bye", .. })));
    }
}

#[test]
fn what_is_remembered_of_sources_is_bounded_and_the_stalest_makes_room() {
    let suite = Suite::AeadAes128Gcm;
    let (keys, mut unprotect) = (Keys::new(&master(suite, THEIRS)), Unprotect::new(&master(suite, THEIRS)));
    let mut plain = Vec::new();
    let packet = |ssrc: u32| protect(&keys, 5, &common::packet(ssrc, VIDEO_PT, 5, 0, true, &[1; 20]));
    for ssrc in 0..=MAX_SOURCES as u32 {
        assert_eq!(unprotect.rtp(&packet(ssrc), &mut plain), Ok(()));
    }
    assert_eq!(unprotect.rtp(&packet(1), &mut plain), Err(Drop::SrtpReplayed));
    assert_eq!(unprotect.rtp(&packet(MAX_SOURCES as u32), &mut plain), Err(Drop::SrtpReplayed));
    assert_eq!(unprotect.rtp(&packet(0), &mut plain), Ok(()), "forgotten");
}

#[test]
fn packets_too_short_for_header_and_tag_are_malformed() {
    for suite in Suite::ALL {
        let mut unprotect = Unprotect::new(&master(suite, THEIRS));
        let mut plain = Vec::new();
        let packet = packet(1, VIDEO_PT, 0, 0, true, &[]);
        for tail in 0..suite.tag_bytes() {
            let short = [&packet[..], &vec![0; tail]].concat();
            assert_eq!(unprotect.rtp(&short, &mut plain), Err(Drop::Malformed));
            let short = [&[0x80, 201, 0, 1, 1, 2, 3, 4][..], &vec![0; tail + 3]].concat();
            assert_eq!(unprotect.rtcp(&short, &mut plain), Err(Drop::Malformed));
        }
        let mut extended = packet.clone();
        extended[0] |= 0x1f; // 15 CSRCs and an extension that are not there
        extended.extend([0xff; 30]);
        assert_eq!(unprotect.rtp(&extended, &mut plain), Err(Drop::Malformed));
    }
}

/// Rule 31: what is answered in a retransmission stream has an index of its own, and what has no room for that is the very
/// packet again.
#[test]
fn a_nack_is_answered_encrypted_with_retransmissions_of_their_own_numbers() {
    for suite in Suite::ALL {
        let mut sender = Sender { mtu: 1188, ..Sender::new(0, 0) };
        let encrypted = Config { rx: master(suite, THEIRS), tx: master(suite, OURS) };
        let mut target = LegConfig { srtp: Some(encrypted), ..common::config(Direction::Send, true, Some(receiver())) };
        target.media[0].payloads[0].rtx = Some(97);
        let source = common::config(Direction::Receive, true, Some(common::sender()));
        let mut world = World::between(source, target);
        world.receive_all(&sender.key(0, 500));
        let stream = world.stream();
        world.link(stream);
        world.set_mode(stream, Mode::Bypass);
        world.left.clear();
        world.receive_all(&sender.delta(1, 3000));
        let sent = world.media();
        assert!(sent.iter().any(|left| left.bytes.len() == 1200 + suite.tag_bytes()), "one without room");
        let mut unprotect = Unprotect::new(&master(suite, OURS));
        let mut plain = |left: &Left| {
            let mut bytes = Vec::new();
            unprotect.rtp(&left.bytes, &mut bytes).map(|()| Left { bytes, ..left.clone() })
        };
        let originals: Vec<Left> = sent.iter().map(|left| plain(left).unwrap()).collect();
        let wanted: Vec<u16> = originals.iter().map(|left| left.rtp().sequence).collect();
        let mut writer = Writer::default();
        writer.receiver_report(9, &[]);
        writer.nack(9, originals[0].rtp().ssrc, &wanted);
        let mut nack = writer.finish();
        assert!(Protect::new(&master(suite, THEIRS)).rtcp(&mut nack));
        world.left.clear();
        world.receive_from(OUT_RTCP, receiver(), &nack);
        world.advance_ms(20);
        let repairs: Vec<(Left, Result<Left, Drop>)> =
            world.media().into_iter().map(|left| (left.clone(), plain(&left))).collect();
        assert_eq!(repairs.len(), sent.len());
        for (original, encrypted) in originals.iter().zip(&sent) {
            let again = repairs.iter().find(|(left, _)| left.bytes == encrypted.bytes);
            if original.bytes.len() == 1200 {
                let (_, read) = again.expect("as it was");
                assert_eq!(read.as_ref().err(), Some(&Drop::SrtpReplayed), "its receiver has it");
                continue;
            }
            assert!(again.is_none());
            let number = original.rtp().sequence.to_be_bytes();
            let mut found = repairs.iter().filter_map(|(_, read)| read.as_ref().ok());
            let repair = found.find(|left| left.rtp().payload.starts_with(&number)).expect("a retransmission").rtp();
            assert_eq!((repair.payload_type, &repair.payload[2..]), (97, original.rtp().payload));
            assert_ne!(repair.ssrc, original.rtp().ssrc);
        }
    }
}

/// The index that a receiver takes a packet to have which knows no more than RFC 3711 3.3.1.
fn index_by_rfc(highest: Option<u64>, sequence: u16) -> u64 {
    let Some(highest) = highest else { return u64::from(sequence) };
    highest.wrapping_add_signed(i64::from(sequence.wrapping_sub(highest as u16) as i16))
}

/// Rules 16 and 34.
#[test]
fn sound_that_numbers_anew_goes_on_for_receivers_that_guess_by_the_rfc() {
    let suite = Suite::AesCm128HmacSha1;
    let target = LegConfig {
        srtp: Some(Config { rx: master(suite, THEIRS), tx: master(suite, OURS) }),
        ..common::config(Direction::Send, false, Some(receiver()))
    };
    let mut world = World::between(common::config(Direction::Receive, false, Some(sender())), target);
    let opus = |number: u16| packet(0xaaaa, AUDIO_PT, number, u32::from(number) * 960, false, &[1, 2, 3]);
    world.receive_from(SockId(12), sender(), &opus(100));
    let stream = world.stream();
    world.link(stream);
    (101..150).chain(40_000..40_050).for_each(|number| world.receive_from(SockId(12), sender(), &opus(number)));
    let (mut unprotect, mut highest, mut count) = (Unprotect::new(&master(suite, OURS)), None, 0);
    for left in world.left.iter().filter(|left| left.sock == SockId(22)) {
        let mut plain = Vec::new();
        unprotect.rtp(&left.bytes, &mut plain).unwrap();
        let index = index_by_rfc(highest, u16::from_be_bytes([plain[2], plain[3]]));
        assert_eq!(protect(&Keys::new(&master(suite, OURS)), index, &plain), left.bytes, "at {index}");
        highest = highest.max(Some(index));
        count += 1;
    }
    assert!(count > 90, "{count}");
}
