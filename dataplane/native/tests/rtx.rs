//! Retransmission in a stream of its own (RFC 4588), in and out, and redundant audio (RFC 2198) between legs that have it
//! and legs that do not.

mod common;
use auralink_native::core::leg_plain::{Direction, LegConfig, Sockets};
use auralink_native::core::mode::Mode;
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::{OutId, SockId, StreamId};
use common::*;

const RTX_PT: u8 = 97;
const RTX_SSRC: u32 = 0x9999;
const RED_PT: u8 = 63;
const IN_AUDIO: SockId = SockId(12);
const OUT_AUDIO: SockId = SockId(22);

/// A world whose legs have RTX for H.264 where told.
fn started(rtx_in: bool, rtx_out: bool, sender: &mut Sender) -> (World, StreamId, OutId) {
    let with = |mut config: LegConfig, with: bool| {
        config.media[0].payloads[0].rtx = with.then_some(RTX_PT);
        config
    };
    let source = with(config(Direction::Receive, true, Some(common::sender())), rtx_in);
    let target = with(config(Direction::Send, true, Some(receiver())), rtx_out);
    let mut world = World::between(source, target);
    world.receive_all(&sender.key(0, 500));
    let stream = world.stream();
    let out = world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    (world, stream, out)
}

/// A packet as its retransmission.
fn again(original: &[u8], sequence: u16) -> Vec<u8> {
    let payload = [&original[2..4], &original[12..]].concat();
    let timestamp = u32::from_be_bytes(original[4..8].try_into().unwrap());
    packet(RTX_SSRC, RTX_PT, sequence, timestamp, original[1] & 0x80 != 0, &payload)
}

fn stream_stat(world: &World, stream: StreamId, name: &str) -> i64 {
    world.shard.stats().get("streams").unwrap().row(stream.0).unwrap().get(name).unwrap().int().unwrap()
}

/// Rule 7.
#[test]
fn a_retransmission_heals_the_frame_and_a_second_copy_or_a_late_one_is_counted() {
    let mut sender = Sender::new(65_530, 0);
    let (mut world, stream, _) = started(true, false, &mut sender);
    let packets = sender.delta(1, 8000);
    packets.iter().enumerate().filter(|(i, _)| *i != 3).for_each(|(_, packet)| world.receive(packet));
    assert_eq!(ids(&world.seen()), [0]);
    world.receive(&again(&packets[3], 700));
    assert_eq!(ids(&world.seen()), [0, 1], "no time passes");
    world.receive(&packets[3]);
    world.receive(&again(&packets[3], 701));
    assert_eq!((world.drops("duplicate"), stream_stat(&world, stream, "repaired_packets")), (2, 1));
    let lost = sender.delta(2, 100);
    world.receive_all(&sender.key(3, 500));
    world.advance_ms(300);
    world.receive(&again(&lost[0], 702));
    assert_eq!((world.drops("late"), ids(&world.seen()).len()), (1, 3));
}

#[test]
fn reports_go_on_to_call_a_packet_lost_that_came_again_in_a_stream_of_its_own() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = started(true, false, &mut sender);
    let packets = sender.delta(1, 8000);
    packets.iter().enumerate().filter(|(i, _)| *i != 3).for_each(|(_, packet)| world.receive(packet));
    world.receive(&again(&packets[3], 700));
    world.advance_ms(1000);
    let report = world.left.iter().rev().find(|left| left.sock == IN_RTCP).unwrap();
    let Rtcp::ReceiverReport { blocks, .. } = rtcp::parse(&report.bytes).unwrap().remove(0) else { panic!() };
    assert_eq!(blocks[0].lost, 1);
}

/// Rules 8 and 35: padding of the stream, a number never sent, strangers, and our own packets.
#[test]
fn what_is_no_repair_of_the_source_changes_nothing() {
    let mut sender = Sender::new(100, 0);
    let (mut world, stream, _) = started(true, false, &mut sender);
    let packets = sender.delta(1, 2000);
    world.receive(&packet(RTX_SSRC, RTX_PT, 1, 0, false, &[]));
    let foreign = again(&packets[0], 2);
    world.receive_from(IN_RTP, std::net::SocketAddr::from(([10, 9, 9, 9], 999)), &foreign);
    assert_eq!(world.drops("foreign_source"), 1);
    for sequence in [20_000u16, 20_001, 20_002, 40_000, 40_001] {
        let mut never = packets[0].clone();
        never[2..4].copy_from_slice(&sequence.to_be_bytes());
        world.receive(&again(&never, sequence));
    }
    world.receive_all(&packets);
    assert_eq!(ids(&world.seen()), [0, 1]);
    assert_eq!((stream_stat(&world, stream, "repaired_packets"), world.drops("late")), (0, 5));
    let mut unlocked = World::between(
        {
            let mut config = config(Direction::Receive, true, None);
            config.media[0].payloads[0].rtx = Some(RTX_PT);
            config
        },
        config(Direction::Send, true, Some(receiver())),
    );
    (0..9).for_each(|sequence| unlocked.receive(&again(&packets[0], sequence)));
    assert!(unlocked.events.is_empty());
    assert_eq!(unlocked.drops("unknown_ssrc"), 9);
}

/// Rules 17, 19 and 31.
#[test]
fn a_nack_is_answered_in_a_stream_of_its_own_with_the_original_number_in_front() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, out) = started(false, true, &mut sender);
    world.receive_all(&sender.delta(1, 8000));
    let sent = world.media();
    let ssrc = sent[0].rtp().ssrc;
    let mut wanted = Vec::new();
    for left in &sent {
        wanted.push(left.rtp().sequence);
    }
    let mut writer = Writer::default();
    writer.receiver_report(9, &[]);
    writer.nack(9, ssrc, &wanted);
    world.left.clear();
    world.receive_from(OUT_RTCP, receiver(), &writer.finish());
    let repairs = world.media();
    assert_eq!(repairs.len(), sent.len());
    let first = repairs[0].rtp();
    assert!(first.ssrc != ssrc && first.sequence < 1 << 15);
    for (index, (repair, original)) in repairs.iter().zip(&sent).enumerate() {
        let (rtx, rtp) = (repair.rtp(), original.rtp());
        assert_eq!((rtx.payload_type, rtx.ssrc), (RTX_PT, first.ssrc));
        assert_eq!(rtx.sequence, first.sequence + index as u16);
        assert_eq!((rtx.timestamp, rtx.marker, rtx.extension), (rtp.timestamp, rtp.marker, rtp.extension));
        assert_eq!(rtx.payload, [&rtp.sequence.to_be_bytes()[..], rtp.payload].concat());
        assert!(repair.bytes.len() <= 1200);
    }
    assert_eq!(world.out_stat(out, "packets"), sent.len() as i64, "the stream itself goes on where it was");
    world.receive_all(&sender.delta(2, 500));
    assert_eq!(world.media().last().unwrap().rtp().sequence, wanted.last().unwrap().wrapping_add(1));
    // Reports name both streams alike, and both say goodbye.
    world.left.clear();
    world.advance_ms(1100);
    let reports: Vec<u32> = world
        .left
        .iter()
        .filter(|left| left.sock == OUT_RTCP)
        .flat_map(|left| rtcp::parse(&left.bytes).unwrap())
        .filter_map(|packet| match packet {
            Rtcp::SenderReport { ssrc, .. } => Some(ssrc),
            _ => None,
        })
        .collect();
    assert!(reports.contains(&ssrc) && reports.contains(&first.ssrc), "{reports:?}");
    world.shard.unlink(out, world.now());
    world.settle();
    let last = rtcp::parse(&world.left.last().unwrap().bytes).unwrap().pop();
    assert_eq!(last, Some(Rtcp::Bye { ssrcs: vec![ssrc, first.ssrc] }));
}

/// Rule 17.
#[test]
fn a_packet_without_room_for_the_original_number_goes_again_as_it_was() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = started(false, true, &mut sender);
    sender.mtu = 1188;
    world.receive_all(&sender.delta(1, 8000));
    let sent = world.media();
    let full = sent.iter().find(|left| left.bytes.len() == 1200).unwrap();
    let mut writer = Writer::default();
    writer.receiver_report(9, &[]);
    writer.nack(9, full.rtp().ssrc, &[full.rtp().sequence]);
    world.left.clear();
    world.receive_from(OUT_RTCP, receiver(), &writer.finish());
    assert_eq!(world.media()[0].bytes, full.bytes);
}

// ---- RED ------------------------------------------------------------------------------------------------------------

/// A source with RED 63 around Opus 111, and a leg with Opus 96 and RED where told.
fn audio(red_out: Option<u8>, red_in: bool) -> World {
    let mut source = config(Direction::Receive, false, Some(common::sender()));
    source.media[1].payloads[0].red = red_in.then_some(RED_PT);
    let mut target = config(Direction::Send, false, Some(receiver()));
    (target.media[1].payloads[0].number, target.media[1].payloads[0].red) = (96, red_out);
    World::between(source, target)
}

/// Packet `n` with the one before in front of it.
fn redundant(n: u8) -> Vec<u8> {
    let mut payload = vec![0x80 | AUDIO_PT];
    payload.extend(&(960u32 << 10 | 2).to_be_bytes()[1..]);
    payload.extend([AUDIO_PT, n - 1, n - 1, n, n, n]);
    packet(0xaaaa, RED_PT, u16::from(n), u32::from(n) * 960, false, &payload)
}

fn sound(world: &World) -> Vec<(u8, u16, Vec<u8>)> {
    let left = world.left.iter().filter(|left| left.sock == OUT_AUDIO);
    left.map(|left| (left.rtp().payload_type, left.rtp().sequence, left.rtp().payload.to_vec())).collect()
}

fn relay(world: &mut World, numbers: impl Iterator<Item = u8>) {
    for n in numbers {
        world.receive_from(IN_AUDIO, common::sender(), &redundant(n));
        if world.left.is_empty() && n == 1 {
            let stream = world.stream();
            world.link(stream);
        }
    }
}

/// Rule 16.
#[test]
fn red_goes_on_under_the_other_legs_payload_types_gaps_and_all() {
    let mut world = audio(Some(113), true);
    relay(&mut world, (1..20).filter(|n| n % 5 != 0));
    let sound = sound(&world);
    assert_eq!(sound.len(), 15);
    for ((payload_type, sequence, payload), n) in sound.iter().zip((2..20u8).filter(|n| n % 5 != 0)) {
        assert_eq!((*payload_type, sequence.wrapping_sub(world_first(&world))), (113, u16::from(n) - 2));
        assert_eq!(payload[..], [0x80 | 96, 0x0f, 0x00, 2, 96, n - 1, n - 1, n, n, n]);
    }
}

fn world_first(world: &World) -> u16 {
    sound(world)[0].1
}

/// Rule 16.
#[test]
fn a_leg_without_red_gets_the_primary_block_and_plain_sound_passes_red_legs_as_it_is() {
    let mut world = audio(None, true);
    relay(&mut world, 1..5);
    let blocks: Vec<(u8, Vec<u8>)> = sound(&world).into_iter().map(|(pt, _, payload)| (pt, payload)).collect();
    assert_eq!(blocks, [(96, vec![2; 3]), (96, vec![3; 3]), (96, vec![4; 3])]);
    world.receive_from(IN_AUDIO, common::sender(), &packet(0xaaaa, RED_PT, 5, 4800, false, &[0x80 | AUDIO_PT, 1]));
    assert_eq!((world.drops("malformed_payload"), sound(&world).len()), (1, 3));
    let mut world = audio(Some(113), true);
    relay(&mut world, 1..2);
    world.receive_from(IN_AUDIO, common::sender(), &packet(0xaaaa, AUDIO_PT, 2, 1920, false, &[5]));
    assert_eq!(sound(&world).pop().unwrap().2, [5]);
    let mut world = audio(Some(113), false);
    relay(&mut world, 2..5);
    assert_eq!(world.drops("unknown_payload_type"), 3, "a leg that has not agreed to RED");
}

#[test]
fn two_legs_of_one_room_each_get_the_form_they_agreed_to() {
    let mut world = audio(Some(113), true);
    let sockets = [50, 52].map(|n| Sockets { rtp: SockId(n), rtcp: SockId(n + 1) });
    let plain = world.shard.open_leg(config(Direction::Send, false, Some(receiver())), &sockets, world.now());
    relay(&mut world, 1..2);
    world.shard.link(world.stream(), plain, world.now()).unwrap();
    world.receive_from(IN_AUDIO, common::sender(), &redundant(2));
    let on = |sock| world.left.iter().find(|left| left.sock == sock).unwrap().rtp().payload.len();
    assert_eq!((on(OUT_AUDIO), on(SockId(52))), (10, 3));
}

/// Rule 9: the numbers of two sources may be the same.
#[test]
fn late_retransmissions_of_a_former_source_repair_nothing_of_the_next_one() {
    let mut a = Sender::new(100, 0);
    let (mut world, stream, _) = started(true, false, &mut a);
    let lossy = |world: &mut World, packets: &[Vec<u8>], lost: usize| {
        packets.iter().enumerate().filter(|(at, _)| *at != lost).for_each(|(_, packet)| world.receive(packet));
    };
    let packets = a.delta(1, 5000);
    lossy(&mut world, &packets, 2);
    world.receive(&again(&packets[2], 700));
    assert_eq!(stream_stat(&world, stream, "repaired_packets"), 1);
    // Another SSRC goes on with the same numbers.
    let late = a.delta(2, 5000);
    let mut b = Sender { ssrc: SSRC + 1, ..Sender::new(a.sequence - late.len() as u16, a.timestamp) };
    let key = b.key(3, 5000);
    lossy(&mut world, &key, 4);
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    assert_eq!(key[4][2..4], late[4][2..4]);
    world.receive(&again(&late[4], 701));
    assert_eq!((world.drops("late"), stream_stat(&world, stream, "repaired_packets")), (1, 0));
    let mut own = again(&key[4], 9);
    own[8..12].copy_from_slice(&0x7777u32.to_be_bytes());
    world.receive(&own);
    assert_eq!((ids(&world.seen()), stream_stat(&world, stream, "repaired_packets")), (vec![0, 1, 3], 1));
    // And back: its own are repairs again, those of the other not.
    let mut back = Sender { ssrc: SSRC, ..Sender::new(b.sequence, b.timestamp) };
    let key = back.key(4, 5000);
    lossy(&mut world, &key, 4);
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    own[12..14].copy_from_slice(&key[4][2..4]);
    world.receive(&own);
    assert_eq!(world.drops("late"), 2);
    world.receive(&again(&key[4], 702));
    assert_eq!(ids(&world.seen()), [0, 1, 3, 4]);
}

/// Rule 9: a leg both ways, on which the peer's retransmissions happen to have an SSRC of ours.
#[test]
fn an_ssrc_of_ours_that_the_peers_retransmissions_use_is_given_up_and_they_repair() {
    let both = |remote| {
        let mut config = config(Direction::Both, true, Some(remote));
        config.media[0].payloads[0].rtx = Some(RTX_PT);
        config
    };
    let mut sender = Sender::new(500, 0);
    for media in [false, true] {
        let mut world = World::between(both(common::sender()), both(receiver()));
        world.receive_all(&sender.key(0, 500));
        let stream = world.stream();
        let out = world.link(stream);
        world.set_mode(stream, Mode::Bypass);
        // What its own peer sends goes back to the sender on the first leg.
        let mut other = Sender { ssrc: 0xabcd, ..Sender::new(9, 0) };
        let to_sender =
            |world: &World| world.left.iter().filter(|left| left.sock == IN_RTP).cloned().collect::<Vec<_>>();
        other.key(1, 3000).iter().for_each(|packet| world.receive_from(OUT_RTP, receiver(), packet));
        let back = world.stream();
        let to = world.shard.link(back, world.source, world.now()).unwrap();
        world.set_mode(back, Mode::Bypass);
        let sent = to_sender(&world);
        let ours = sent[0].rtp();
        let mut nack = Writer::default();
        nack.receiver_report(SSRC, &[]);
        nack.nack(SSRC, ours.ssrc, &[ours.sequence]);
        world.receive_from(IN_RTCP, common::sender(), &nack.finish());
        let repair = to_sender(&world).pop().unwrap();
        assert_eq!(repair.rtp().payload_type, RTX_PT);
        let taken = if media { ours.ssrc } else { repair.rtp().ssrc };

        let packets = sender.delta(2, 5000);
        packets.iter().enumerate().filter(|(at, _)| *at != 2).for_each(|(_, packet)| world.receive(packet));
        world.receive(&repair.bytes);
        assert_eq!((world.drops("looped"), ids(&world.seen())), (1, vec![0]), "ours that came back");
        let mut own = again(&packets[2], repair.rtp().sequence.wrapping_add(20_000));
        own[8..12].copy_from_slice(&taken.to_be_bytes());
        let before = world.left.len();
        world.receive(&own);
        assert_eq!((world.drops("looped"), ids(&world.seen())), (1, vec![0, 2]));
        let said = world.left[before..].iter().filter(|left| left.sock == IN_RTCP);
        let said: Vec<Rtcp> = said.flat_map(|left| rtcp::parse(&left.bytes).unwrap()).collect();
        let gone = if media { vec![ours.ssrc, repair.rtp().ssrc] } else { vec![taken] };
        assert!(said.contains(&Rtcp::Bye { ssrcs: gone.clone() }), "{said:?}");
        // A second one of it repairs too, although the SSRC was ours just now.
        let packets = sender.delta(3, 5000);
        packets.iter().enumerate().filter(|(at, _)| *at != 1).for_each(|(_, packet)| world.receive(packet));
        let mut own = again(&packets[1], 3);
        own[8..12].copy_from_slice(&taken.to_be_bytes());
        world.receive(&own);
        assert_eq!(ids(&world.seen()), [0, 2, 3]);
        // We go on under another; only what repeats media has one where only that collided.
        let delta = if media { other.key(4, 500) } else { other.delta(4, 500) };
        world.left.clear();
        delta.iter().for_each(|packet| world.receive_from(OUT_RTP, receiver(), packet));
        let next = to_sender(&world)[0].clone();
        assert_eq!(next.rtp().ssrc != ours.ssrc, media);
        let mut nack = Writer::default();
        nack.receiver_report(SSRC, &[]);
        nack.nack(SSRC, next.rtp().ssrc, &[next.rtp().sequence]);
        world.receive_from(IN_RTCP, common::sender(), &nack.finish());
        assert!(!gone.contains(&to_sender(&world).pop().unwrap().rtp().ssrc));
        assert!(world.out_stat(to, "packets") > 0 && world.out_stat(out, "packets") > 0);
    }
}

/// Rule 6.
#[test]
fn an_empty_retransmission_closes_no_hole() {
    let mut sender = Sender::new(1000, 0);
    let (mut world, ..) = started(true, false, &mut sender);
    let packets = sender.delta(1, 5000);
    packets.iter().enumerate().filter(|(at, _)| *at != 2).for_each(|(_, packet)| world.receive(packet));
    let timestamp = u32::from_be_bytes(packets[2][4..8].try_into().unwrap());
    world.receive(&packet(RTX_SSRC, RTX_PT, 700, timestamp, false, &packets[2][2..4]));
    assert_eq!(ids(&world.seen()), [0]);
    world.receive(&again(&packets[2], 701));
    assert_eq!(ids(&world.seen()), [0, 1]);
}
