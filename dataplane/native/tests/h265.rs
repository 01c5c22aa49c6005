//! H.265 (RFC 7798) from end to end, by the rules of the correctness checklist: a test has the number of its rule. Every
//! layout that a sender may pack pictures in goes through each.

mod common;
use auralink_native::core::leg_plain::{Direction, Sockets};
use auralink_native::core::mode::Mode;
use auralink_native::core::output::Event;
use auralink_native::core::rtcp::Writer;
use auralink_native::core::{OutId, SockId, StreamId};
use common::h265::{AUD, Format, NOTHING, PLAIN, PPS, Picture, Read, SPS, Sender, VPS, formats, meaning, read, slice};
use common::network::Network;
use common::*;
use std::collections::HashSet;

/// Ids of an encoder's frames are its source frame's and this.
const MADE: u64 = 1 << 32;
/// A picture in front of the first that was sent.
const BEFORE: u64 = 1 << 40;
const APART: u64 = 10;

/// A sender's pictures: after each CRA two that refer to what is in front of it, then two in three that others refer to.
struct Camera {
    sender: Sender,
    newest: u64,
    before_key: u64,
    since_key: u64,
}

impl Camera {
    fn new(format: Format) -> Camera {
        Camera { sender: Sender::new(format), newest: BEFORE, before_key: BEFORE, since_key: 0 }
    }

    fn picture(&mut self, id: u64, key: Option<Picture>, len: usize) -> Vec<Vec<u8>> {
        self.since_key = if key.is_some() { 0 } else { self.since_key + 1 };
        let leads = matches!(self.since_key, 1 | 2) && self.before_key != NOTHING;
        let (picture, needs) = match key {
            Some(key) => (key, vec![]),
            None if leads && self.since_key == 1 => (Picture::SkippedLeading, vec![self.before_key, self.newest]),
            None if leads => (Picture::SkippedLeading, vec![id - 1, self.newest]),
            None if self.since_key % 3 == 1 => (Picture::Unreferenced, vec![self.newest]),
            None => (Picture::Trailing, vec![self.newest]),
        };
        match picture {
            Picture::Idr => (self.before_key, self.newest) = (NOTHING, id),
            Picture::Cra => (self.before_key, self.newest) = (self.newest, id),
            Picture::Trailing => self.newest = id,
            Picture::Unreferenced | Picture::SkippedLeading => {}
        }
        self.sender.frame(picture, id, &needs, len)
    }

    /// A CRA now and then, and an IDR every third time.
    fn next(&mut self, id: u64, len: usize) -> Vec<Vec<u8>> {
        let key = if id % (3 * APART) == 2 * APART { Picture::Idr } else { Picture::Cra };
        self.picture(id, id.is_multiple_of(APART).then_some(key), len)
    }
}

fn started(format: Format, mode: Mode) -> (Camera, World, StreamId, OutId) {
    let mut camera = Camera::new(format);
    let mut first = vec![];
    if format.numbered {
        // What is sent first need not be decoded first: a frame begins where another ended.
        first.extend(camera.sender.frame(Picture::Trailing, BEFORE, &[], 60));
    }
    first.extend(camera.next(0, 500));
    let (world, stream, out) = World::started_with(false, mode, &first);
    (camera, world, stream, out)
}

fn made(key: bool, id: u64, needs: u64, len: usize) -> Vec<u8> {
    let picture = if key { Picture::Idr } else { Picture::Trailing };
    let needs = if key { vec![] } else { vec![needs] };
    let slice = slice(picture, MADE + id, &needs, len);
    if key { annex_b(&[VPS.to_vec(), SPS.to_vec(), PPS.to_vec(), slice]) } else { annex_b(&[slice]) }
}

/// What every receiver relies on: each frame is whole, its references were decoded, keys have their sets, time goes on.
fn check(frames: &[Read], sender: &Sender) {
    let mut decoded: HashSet<u64> = HashSet::new();
    let mut last: Option<u32> = None;
    for frame in frames {
        let (kind, id, needs) = frame.meaning();
        let key = (16..22).contains(&kind);
        if kind == 19 {
            decoded.clear();
        }
        for need in needs {
            assert!(decoded.contains(&need), "{:?}: frame {id} refers to {need}, which is not there", sender.format);
        }
        decoded.insert(id);
        let first = frame.units.iter().position(|unit| unit[0] >> 1 < 32).unwrap();
        let sets = [&VPS[..], &SPS, &PPS];
        assert!(!key || sets.iter().all(|set| frame.units[..first].iter().any(|unit| unit == set)), "sets before keys");
        if id < MADE && sender.sets {
            let mut sent = &sender.sent[&id][..];
            if frame.units[0] != AUD && sent[0] == AUD {
                sent = &sent[1..]; // a delimiter that was lost is no loss
            }
            assert_eq!(frame.units, sent, "frame {id} is as it was sent");
        }
        let ticks = frame.timestamp.wrapping_sub(last.unwrap_or(frame.timestamp.wrapping_sub(1)));
        assert!((1..1 << 31).contains(&ticks), "timestamps go on");
        last = Some(frame.timestamp);
    }
}

fn frames(world: &World) -> Vec<Read> {
    read(&world.media())
}

fn ids(frames: &[Read]) -> Vec<u64> {
    frames.iter().map(Read::id).collect()
}

/// Without the two that lead the first key.
fn all_but_the_first_leading(count: u64) -> Vec<u64> {
    (0..count).filter(|id| !matches!(id, 1 | 2)).collect()
}

#[test]
fn rule_4_a_frame_leaves_on_its_marker_and_no_time_passes() {
    for format in formats() {
        let (mut camera, mut world, ..) = started(format, Mode::Bypass);
        let begun = world.now;
        for id in 1..40 {
            let packets = camera.next(id, 3000);
            let (last, rest) = packets.split_last().unwrap();
            world.receive_all(rest);
            let before = frames(&world).len();
            world.receive(last);
            assert_eq!(frames(&world).len(), before + usize::from(id > 2), "{format:?}, frame {id}");
        }
        assert_eq!(world.now, begun);
        check(&frames(&world), &camera.sender);
        assert_eq!(ids(&frames(&world)), all_but_the_first_leading(40));
    }
}

#[test]
fn rule_6_whichever_packet_is_lost_no_frame_leaves_whose_reference_is_not_there() {
    for format in formats() {
        let len = if format.slices > 1 { 700 } else { 2100 };
        let total: usize = {
            let mut camera = Camera::new(format);
            (0..33).map(|id| camera.next(id, if id > 0 { len } else { 500 }).len()).sum()
        };
        let mut led = 0;
        for lost in 0..total {
            let (mut camera, mut world, ..) = started(format, Mode::Bypass);
            let mut at = 0;
            for id in 1..33 {
                for packet in camera.next(id, len) {
                    if at != lost {
                        world.receive(&packet);
                    }
                    at += 1;
                }
                world.advance_ms(33);
            }
            world.advance_ms(300);
            let frames = frames(&world);
            check(&frames, &camera.sender);
            let left = ids(&frames);
            assert!(left.len() >= 18, "{format:?}: packet {lost} lost: {left:?}");
            led += left.iter().filter(|id| **id % APART == 1).count();
        }
        assert!(led > total, "pictures that lead a key leave where nothing is missing: {led}");
    }
}

/// With what a real network does to packets; and rule 3.
#[test]
fn rule_11_over_a_bad_network_what_leaves_is_whole_and_can_be_decoded() {
    for format in formats() {
        let (mut left, mut perfect) = (0, 0);
        for seed in 0..12 {
            let (mut camera, mut world, ..) = started(format, Mode::Bypass);
            let mut network = Network::new(seed);
            for id in 1..200 {
                let packets = camera.next(id, 300 + (id as usize * 37 % 1500));
                network.carry(packets, &mut world);
            }
            network.deliver(500, &mut world);
            let frames = frames(&world);
            check(&frames, &camera.sender);
            assert!(frames.len() > 15, "{format:?}, seed {seed}: {} frames", frames.len());
            left += frames.len();
            perfect += usize::from(frames.len() == 198);
        }
        println!("{format:?}: {left} of 2376 frames, {perfect} of 12 runs without a loss");
        assert!(perfect > 0 && left < 2376, "{format:?}: some runs lose something, some nothing");
    }
}

/// Whatever they came in and in whichever order, NAL units leave in decoding order in packets without numbers.
#[test]
fn rule_11_the_ai_core_gets_every_layout_as_the_same_bytes() {
    for format in formats() {
        let (mut camera, mut world, ..) = started(format, Mode::Compress);
        (1..25).for_each(|id| {
            world.receive_all(&camera.next(id, 2500));
            world.submit(world.stream(), world.frames.last().unwrap().frame_id, None, false);
        });
        assert_eq!(world.frames.len(), 23);
        for (up, id) in world.frames.iter().zip(all_but_the_first_leading(25)) {
            assert_eq!(up.data, annex_b(&camera.sender.sent[&id]), "{format:?}, frame {id}");
            assert_eq!((up.key, up.width, up.height, up.may_reorder), (id % APART == 0, 322, 182, true));
            assert_eq!(up.discardable, meaning(camera.sender.sent[&id].last().unwrap()).0 == 0);
        }
    }
}

#[test]
fn rule_11_sets_that_came_once_go_in_front_of_every_later_key() {
    for format in formats() {
        let (mut camera, mut world, ..) = started(format, Mode::Bypass);
        camera.sender.sets = false;
        (1..25).for_each(|id| world.receive_all(&camera.next(id, 2500)));
        let frames = frames(&world);
        check(&frames, &camera.sender);
        let delimiters = if format.delimited { vec![AUD.to_vec()] } else { vec![] };
        let sets = [VPS.to_vec(), SPS.to_vec(), PPS.to_vec()].to_vec();
        let slices = &camera.sender.sent[&20][delimiters.len()..];
        let key = &frames.iter().find(|frame| frame.id() == 20).unwrap().units;
        assert_eq!(key, &[&delimiters[..], &sets, slices].concat(), "{format:?}");
    }
}

#[test]
fn a_key_whose_sets_never_came_is_no_start() {
    let mut camera = Camera::new(PLAIN);
    camera.sender.sets = false;
    let mut world = World::new(false);
    (0..11).for_each(|id| world.receive_all(&camera.next(id, 2000)));
    assert_eq!(world.drops("no_parameter_sets"), 1, "the other may have begun before");
    camera.sender.sets = true;
    world.receive_all(&camera.next(20, 2000));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    assert_eq!(ids(&frames(&world)), [20]);
}

#[test]
fn pictures_that_lead_a_key_leave_unless_something_in_front_of_it_did_not() {
    let (mut camera, mut world, ..) = started(PLAIN, Mode::Bypass);
    for id in 1..35 {
        let packets = camera.next(id, 500);
        if id != 28 {
            world.receive_all(&packets);
        }
        world.advance_ms(100);
    }
    let left = ids(&frames(&world));
    check(&frames(&world), &camera.sender);
    let expected = (0..35).filter(|id| !matches!(id, 1 | 2 | 28 | 29 | 31 | 32));
    assert_eq!(left, expected.collect::<Vec<u64>>());
    assert_eq!(world.drops("leading_picture"), 4);
    assert!(left.contains(&11) && left.contains(&12));
}

#[test]
fn pictures_that_lead_the_key_of_a_switch_do_not_leave() {
    let (mut camera, mut world, stream, _) = started(PLAIN, Mode::Compress);
    let mut frame_id = 0;
    for id in 0..35u64 {
        if id > 0 {
            world.receive_all(&camera.next(id, 500));
        }
        if matches!(id, 1 | 2) {
            continue; // did not come up
        }
        let compressed = (10..30).contains(&id);
        let data = made(id % APART == 0, id, (MADE + id).wrapping_sub(1), 500);
        world.submit(stream, frame_id, compressed.then_some(&data[..]), id % APART == 0);
        frame_id += 1;
    }
    let frames = frames(&world);
    check(&frames, &camera.sender);
    let native: Vec<u64> = ids(&frames).into_iter().filter(|id| *id < MADE).collect();
    assert_eq!(native, (0..10).chain(30..35).filter(|id| !matches!(id, 1 | 2 | 31 | 32)).collect::<Vec<_>>());
}

#[test]
fn an_out_that_starts_in_the_middle_starts_without_the_pictures_that_lead_its_key() {
    let (mut camera, mut world, stream, _) = started(PLAIN, Mode::Bypass);
    (1..5).for_each(|id| world.receive_all(&camera.next(id, 500)));
    let sockets = [30, 32].map(|first| Sockets { rtp: SockId(first), rtcp: SockId(first + 1) });
    let config = config(Direction::Send, false, Some(receiver()));
    let leg = world.shard.open_leg(config, &sockets, world.now());
    world.shard.link(stream, leg, world.now()).unwrap();
    (5..35).for_each(|id| world.receive_all(&camera.next(id, 500)));
    let those = |sock| world.left.iter().filter(|left| left.sock == SockId(sock)).cloned().collect::<Vec<_>>();
    let second = read(&those(30));
    check(&second, &camera.sender);
    assert_eq!(ids(&second), (10..35).filter(|id| !matches!(id, 11 | 12)).collect::<Vec<u64>>());
    assert_eq!(ids(&read(&those(20))), all_but_the_first_leading(35), "the other out has them");
}

/// The stream's type and temporal layers say it together.
#[test]
fn a_picture_that_is_nobodys_reference_may_stay_away() {
    for format in formats() {
        let (mut camera, mut world, stream, _) = started(format, Mode::Compress);
        let mut dropped = 0;
        for id in 1..100 {
            world.receive_all(&camera.next(id, 800));
            for at in 0..world.frames.len() {
                let (frame_id, key, discardable) =
                    (world.frames[at].frame_id, world.frames[at].key, world.frames[at].discardable);
                if discardable {
                    dropped += 1;
                    world.shard.drop_frame(stream, frame_id, world.now());
                    world.settle();
                } else {
                    assert!(world.submit(stream, frame_id, None, key), "{format:?}: {id}");
                }
            }
            world.frames.clear();
        }
        check(&frames(&world), &camera.sender);
        assert_eq!((dropped, frames(&world).len()), (23, 75), "{format:?}");
    }
}

#[test]
fn rule_17_no_packet_is_above_1200_bytes_and_ours_leave_room_to_resend() {
    for format in formats() {
        for mtu in [600, 1160, 1188, 1200, 1228, 1460, 1900] {
            let (mut camera, mut world, ..) = started(format, Mode::Bypass);
            camera.sender.mtu = mtu;
            for (at, len) in [40, mtu - 60, mtu - 12, mtu - 2, 7000, 60_000].into_iter().enumerate() {
                world.receive_all(&camera.picture(3 + at as u64, (at == 4).then_some(Picture::Idr), len.max(60)));
                world.advance_ms(100);
            }
            let frames = frames(&world); // below the MTU, the extension on first packets
            check(&frames, &camera.sender);
            let last = frames.last().unwrap();
            assert_eq!(last.id(), 8, "{format:?}, {mtu}");
            let most = format.slices * (60_000usize.div_ceil(mtu.min(1180) - 12) + 1) + 2;
            assert!(last.packets <= most, "{format:?}, {mtu}: {} packets", last.packets);
        }
    }
    for len in [60, 1140, 1141, 1142, 1150, 1160, 1170, 1180, 5000, 100_000] {
        let (_, mut world, stream, _) = started(PLAIN, Mode::Compress);
        assert!(world.submit(stream, 0, Some(&made(true, 0, NOTHING, len)), true));
        world.advance_ms(100);
        let packets = world.media();
        assert!(packets.iter().all(|left| left.bytes.len() <= 1198));
        assert_eq!(annex_b(&frames(&world)[0].units), made(true, 0, NOTHING, len));
        assert_ne!(packets.last().unwrap().rtp().payload[0] >> 1, 48, "the marker packet is no AP");
    }
}

#[test]
fn rule_19_the_extension_is_on_first_packets_only_and_the_same_when_resent() {
    let first = Camera::new(PLAIN).next(0, 5000);
    let (mut world, stream, _) = World::started_with(true, Mode::Compress, &first);
    assert!(world.submit(stream, 0, Some(&made(true, 0, NOTHING, 5000)), true));
    world.advance_ms(100);
    let sent = world.media();
    assert!(frames(&world)[0].extension.is_some());
    let ssrc = sent[0].rtp().ssrc;
    let mut writer = Writer::default();
    writer.receiver_report(1, &[]);
    writer.nack(1, ssrc, &[sent[0].rtp().sequence, sent[1].rtp().sequence]);
    world.left.clear();
    world.receive_from(OUT_RTCP, receiver(), &writer.finish());
    let again: Vec<Vec<u8>> = world.media().into_iter().map(|left| left.bytes).collect();
    assert_eq!(again, [sent[0].bytes.clone(), sent[1].bytes.clone()]);
}

/// Whatever is answered, over whatever network.
#[test]
fn rule_23_native_and_compressed_change_places_at_keys_only() {
    for format in formats() {
        let (mut switches, mut refused) = (0, 0);
        for seed in 0..8 {
            let mut random = Random(seed);
            let (mut camera, mut world, stream, out) = started(format, Mode::Compress);
            let mut network = Network::new(seed);
            let (mut answered, mut last_made) = (0, NOTHING);
            for id in 1..150 {
                let packets = camera.next(id, 200 + random.below(2000) as usize);
                network.carry(packets, &mut world);
                let up: Vec<(u64, bool)> =
                    world.frames[answered..].iter().map(|frame| (frame.frame_id, frame.key)).collect();
                answered += up.len();
                for (frame_id, key) in up {
                    answer(&mut world, stream, &mut random, (frame_id, key), &mut last_made);
                }
                assert!(!world.events.iter().any(|event| matches!(event, Event::StreamFailed { .. })));
            }
            let frames = frames(&world);
            check(&frames, &camera.sender);
            let native: Vec<bool> = frames.iter().map(|frame| frame.id() < MADE).collect();
            switches += native.windows(2).filter(|pair| pair[0] != pair[1]).count();
            refused += world.out_stat(out, "illegal_switch");
        }
        assert!(switches > 20 && refused > 8, "{format:?}: {switches} switches, {refused} refused");
    }
}

/// Native, ours with or without a key of its own, or nothing.
fn answer(world: &mut World, stream: StreamId, random: &mut Random, (id, key): (u64, bool), last_made: &mut u64) {
    match random.below(8) {
        0 => {
            world.shard.drop_frame(stream, id, world.now());
            world.settle();
        }
        1..=3 => {
            world.submit(stream, id, None, key);
        }
        _ => {
            let own_key = key || *last_made == NOTHING || random.below(8) == 0;
            // An encoder hears of what did not leave, and goes on from its last frame that did.
            if world.submit(stream, id, Some(&made(own_key, id, *last_made, 1500)), own_key) {
                *last_made = MADE + id;
            }
        }
    }
}

#[test]
fn rule_24_numbers_timestamps_and_ssrc_go_on_over_switches_and_a_change_of_source() {
    for format in formats() {
        let (mut camera, mut world, stream, out) = started(format, Mode::Compress);
        for id in 0..60u64 {
            let key = id % APART == 0;
            if id > 0 {
                world.receive_all(&camera.picture(id, key.then_some(Picture::Idr), 1500));
            }
            let Some(up) = world.frames.pop() else { continue };
            let data = made(key, id, (MADE + id).wrapping_sub(1), 1500);
            world.submit(stream, up.frame_id, if id / 20 == 1 { Some(&data) } else { None }, key);
            world.advance_ms(33);
        }
        let before = frames(&world);
        check(&before, &camera.sender);
        assert_eq!(before.len(), 58);

        let mut other = Camera::new(format);
        (other.sender.ssrc, other.sender.timestamp) = (SSRC + 1, 5);
        if format.numbered {
            world.receive_all(&other.sender.frame(Picture::Trailing, BEFORE, &[], 60));
        }
        // A new source has to prove itself.
        (0..3).for_each(|id| world.receive_all(&other.picture(id, (id == 0).then_some(Picture::Idr), 1500)));
        let successor = world.stream();
        assert_eq!(world.link(successor), out, "the same out");
        world.set_mode(successor, Mode::Bypass);
        (3..8).for_each(|id| world.receive_all(&other.picture(id, None, 1500)));
        let all = frames(&world); // one SSRC, contiguous
        check(&all[58..], &other.sender);
        assert_eq!(all.len(), 58 + 8);
        assert!((1..1 << 31).contains(&all[58].timestamp.wrapping_sub(before[57].timestamp)));
    }
}

#[test]
fn malformed_payloads_are_counted_and_cost_the_frame_they_belong_to() {
    let (mut camera, mut world, ..) = started(PLAIN, Mode::Bypass);
    for (payload, reason) in [(&[0x62, 0x01][..], "malformed_payload"), (&[0x7e, 0x01, 1], "unsupported_payload")] {
        let sender = &mut camera.sender;
        let bad = packet(sender.ssrc, H265_PT, sender.sequence, sender.timestamp, true, payload);
        sender.sequence = sender.sequence.wrapping_add(1);
        sender.timestamp = sender.timestamp.wrapping_add(FRAME_TICKS);
        world.receive(&bad);
        assert_eq!(world.drops(reason), 1);
    }
    world.receive_all(&camera.picture(3, None, 500));
    world.receive_all(&camera.picture(4, Some(Picture::Idr), 500));
    assert_eq!(ids(&frames(&world)), [0, 4]);
}

#[test]
fn mangled_packets_and_answers_break_nothing() {
    for format in formats() {
        let (mut malformed, mut refused) = (0, 0);
        for seed in 0..12 {
            let mut random = Random(seed);
            let (mut camera, mut world, stream, _) = started(format, Mode::Compress);
            for id in 1..60 {
                for mut packet in camera.next(id, 60 + random.below(2500) as usize) {
                    mangle(&mut random, &mut packet);
                    world.receive(&packet);
                }
                let newest = world.frames.last().map_or(0, |frame| frame.frame_id);
                let mut data = made(random.below(2) == 0, id, NOTHING, 60 + random.below(3000) as usize);
                data[random.below(10) as usize] = random.next() as u8;
                let data = (random.below(2) == 0).then_some(&data[..]);
                world.submit(stream, newest, data, random.below(2) == 0);
                world.advance_ms(33);
            }
            world.advance_ms(300);
            malformed += world.drops("malformed_payload");
            refused += world.drops("bad_submit");
            assert_whole(&world.media());
        }
        assert!(malformed > 0 && refused > 0, "{format:?}: {malformed}, {refused}");
    }
}

/// The payload type says which; a stream keeps to the one that it began with.
#[test]
fn packets_with_numbers_in_a_stream_without_and_the_other_way_round_are_counted_and_change_nothing() {
    for numbered in [false, true] {
        let format = |numbered| Format { numbered, ..PLAIN };
        let mut camera = Camera::new(format(numbered));
        let first = camera.next(0, 500);
        let (mut world, ..) = World::started_with(false, Mode::Bypass, &first);
        if numbered {
            // Its first key may begin with a slice of the picture before: nothing says that it does not.
            world.receive_all(&camera.picture(10, Some(Picture::Idr), 500));
        }
        let before = frames(&world).len();
        for id in 11..20 {
            let mut other = Camera::new(format(!numbered));
            (other.sender.sequence, other.sender.timestamp) = (camera.sender.sequence, camera.sender.timestamp);
            world.receive_all(&other.picture(id, Some(Picture::Idr), 800));
            world.receive_all(&camera.picture(id, Some(Picture::Idr), 800));
        }
        let frames = frames(&world);
        check(&frames[before..], &camera.sender);
        assert_eq!(ids(&frames[before..]), (11..20).collect::<Vec<u64>>(), "numbered: {numbered}");
        assert!(world.drops("unknown_payload_type") >= 9);
    }
}
