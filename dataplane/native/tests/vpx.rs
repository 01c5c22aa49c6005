//! VP8 (RFC 7741) and VP9 (RFC 9628) from end to end, by the rules of the correctness checklist: a test has the number of
//! its rule. Every descriptor that a sender may write goes through each.

mod common;
use auralink_native::core::mode::Mode;
use auralink_native::core::rtcp::Writer;
use auralink_native::core::{StreamId, Time};
use common::coding::{MADE, NOTHING};
use common::network::Network;
use common::vpx::{Format, Read, Sender, VP8, VP9, check, data, formats, read};
use common::*;

fn started(format: Format, mode: Mode, sender: &mut Sender) -> (World, StreamId, auralink_native::core::OutId) {
    assert_eq!(sender.format, format);
    World::started_with(false, mode, &sender.frame(0, true, 500))
}

fn made(format: Format, key: bool, id: u64, needs: u64, len: usize) -> Vec<u8> {
    data(format.vp9, key, MADE + id, needs, len)
}

fn ids(frames: &[Read], format: Format) -> Vec<u64> {
    frames.iter().map(|frame| frame.meaning(format.vp9).1).collect()
}

fn frames(world: &World, format: Format) -> Vec<Read> {
    read(format, &world.media())
}

#[test]
fn rule_4_a_frame_leaves_on_its_marker_and_no_time_passes() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
        let begun = world.now;
        for id in 1..30 {
            let packets = sender.frame(id, false, 3000);
            let (last, rest) = packets.split_last().unwrap();
            world.receive_all(rest);
            assert_eq!(frames(&world, format).len(), id as usize);
            world.receive(last);
            assert_eq!(frames(&world, format).len(), id as usize + 1, "{format:?}");
        }
        assert_eq!(world.now, begun);
        let frames = frames(&world, format);
        check(&frames, &sender);
        assert_eq!(
            frames[0].picture.map(|(id, _)| id),
            format.wide.map(|_| sender.numbers[&0].0),
            "as the sender began"
        );
    }
}

#[test]
fn rule_6_whichever_packet_is_lost_no_frame_leaves_whose_reference_is_not_there() {
    for format in formats() {
        let len = if format.spatial > 1 { 1300 } else { 2500 };
        let total: usize = (0..12).map(|id| Sender::new(format).frame(id, id % 6 == 0, len).len()).sum();
        let mut skipped_alone = 0;
        for lost in 0..total {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
            let mut at = 0;
            for id in 1..13 {
                for packet in sender.frame(id, id % 6 == 0, len) {
                    if at != lost {
                        world.receive(&packet);
                    }
                    at += 1;
                }
                world.advance_ms(33);
            }
            world.advance_ms(300);
            let frames = frames(&world, format);
            check(&frames, &sender);
            assert!(frames.len() >= 6, "{format:?}: packet {lost} lost: {:?}", ids(&frames, format));
            let left = ids(&frames, format);
            skipped_alone += (1..11).filter(|id| id % 6 < 5 && !left.contains(id) && left.contains(&(id + 1))).count();
        }
        // The middle of VP8's highest temporal layer, which nothing refers to.
        assert_eq!(skipped_alone > 0, format.temporal && !format.vp9, "{format:?}");
    }
}

#[test]
fn rule_6_a_numbered_picture_that_nothing_refers_to_is_lost_alone() {
    let format = Format { wide: Some(false), temporal: true, ..VP8 };
    for (len, lost) in [(2500, 0), (2500, 1), (2500, 2), (1500, 0), (1500, 1)] {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
        for id in 1..200 {
            let mut packets = sender.frame(id, false, len);
            if id % 4 == 1 {
                packets.remove(lost); // of the highest temporal layer
            }
            world.receive_all(&packets);
            world.advance_ms(100);
        }
        let frames = frames(&world, format);
        check(&frames, &sender);
        assert_eq!(frames.len(), 150, "{len} bytes, packet {lost}");
        assert_eq!(world.drops("awaiting_key"), 0);
    }
}

/// Rule 12 for VP8, rule 13 for VP9, and rule 3 for both.
fn permutations(of: impl Fn(&Format) -> bool) {
    for format in formats().into_iter().filter(of) {
        let (mut left, mut perfect) = (0, 0);
        for seed in 0..12 {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
            let mut network = Network::new(seed);
            for id in 1..200 {
                let key = id % 25 == 0;
                let packets = sender.frame(id, key, 600 + (id as usize * 37 % 1500));
                network.carry(packets, &mut world);
            }
            network.deliver(500, &mut world);
            let frames = frames(&world, format);
            check(&frames, &sender);
            assert!(frames.len() > 8, "{format:?}, seed {seed}: {} frames", frames.len());
            left += frames.len();
            perfect += usize::from(frames.len() == 200);
        }
        println!("{format:?}: {left} of 2400 frames, {perfect} of 12 runs without a loss");
        assert!(perfect > 0 && left < 2400, "{format:?}: some runs lose something, some nothing");
    }
}

#[test]
fn rule_12_vp8_numbers_have_no_hole_in_either_width_and_what_is_absent_stays_absent() {
    permutations(|format| !format.vp9);
}

#[test]
fn rule_13_vp9_pictures_keep_their_distances_and_superframes_their_layers() {
    permutations(|format| format.vp9);
}

#[test]
fn rule_12_a_sender_that_numbers_some_packets_only_is_numbered_on_every_packet() {
    let mut sender = Sender::new(Format { wide: Some(true), ..VP8 });
    let (mut world, ..) = started(sender.format, Mode::Bypass, &mut sender);
    let mut packets = sender.frame(1, false, 3000);
    for packet in &mut packets[1..] {
        packet.splice(12..16, [0u8]); // X and what it announced
    }
    world.receive_all(&packets);
    let frames = frames(&world, sender.format); // which checks every packet
    check(&frames, &sender);
    assert_eq!(frames.len(), 2);
}

#[test]
fn rule_15_an_encoders_frames_are_described_as_the_one_layer_they_are() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, stream, _) = started(format, Mode::Compress, &mut sender);
        for id in 0..12 {
            if id > 0 {
                world.receive_all(&sender.frame(id, false, 2500));
            }
            let needs = if id == 0 { NOTHING } else { MADE + id - 1 };
            assert!(world.submit(stream, id, Some(&made(format, id == 0, id, needs, 2500)), id == 0), "{format:?}");
        }
        let frames = frames(&world, format);
        assert_eq!(frames.len(), 12);
        check(&frames, &sender);
        for (frame, up) in frames.iter().zip(&world.frames) {
            assert_eq!(frame.timestamp, up.timestamp as u32);
            assert_eq!((up.width, up.height), (640, 360));
        }
    }
}

/// The AI Core gets the bare VP8 frame, and of VP9 all layers as one superframe.
#[test]
fn rule_13_all_layers_of_a_timestamp_go_up_as_one_superframe() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(format, Mode::Compress, &mut sender);
        world.receive_all(&sender.frame(1, false, 2500));
        for (id, up) in world.frames.iter().enumerate() {
            let layers = &sender.sent[&(id as u64)];
            let data = layers.concat();
            assert_eq!(up.key, id == 0);
            if layers.len() == 1 {
                assert_eq!(up.data, data);
                continue;
            }
            let (content, index) = up.data.split_at(data.len());
            assert_eq!(content, data);
            assert_eq!((index[0] & 0xe0, index[0] & 7, index.last()), (0xc0, 2, Some(&index[0])), "three frames");
            let bytes = usize::from(index[0] >> 3 & 3) + 1;
            let sizes: Vec<usize> = index[1..index.len() - 1]
                .chunks(bytes)
                .map(|size| size.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
                .collect();
            assert_eq!(sizes, layers.iter().map(Vec::len).collect::<Vec<_>>());
        }
    }
}

#[test]
fn rule_17_no_packet_is_above_1200_bytes_and_ours_leave_room_to_resend() {
    for format in formats() {
        for mtu in [600, 1160, 1188, 1200, 1228, 1460, 1900] {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
            sender.mtu = mtu;
            for (id, len) in [(1, 40), (2, mtu - 60), (3, mtu - 40), (4, 7000), (5, 60_000)] {
                world.receive_all(&sender.frame(id, id == 4, len));
                world.advance_ms(100);
            }
            let frames = frames(&world, format); // below the MTU, the extension on first packets
            check(&frames, &sender);
            assert_eq!(frames.len(), 6);
            let most = usize::from(format.spatial) * 60_000usize.div_ceil(mtu.min(1190) - 40) + 1;
            assert!(frames[5].packets <= most, "{format:?}, {mtu}: {} packets", frames[5].packets);
        }
        for len in [30, 1140, 1141, 1142, 1150, 1160, 1170, 1180, 5000, 100_000] {
            let mut sender = Sender::new(format);
            let (mut world, stream, _) = started(format, Mode::Compress, &mut sender);
            assert!(world.submit(stream, 0, Some(&made(format, true, 0, NOTHING, len)), true));
            world.advance_ms(100);
            assert!(world.media().iter().all(|left| left.bytes.len() <= 1198));
            assert_eq!(frames(&world, format)[0].layers, [made(format, true, 0, NOTHING, len)]);
        }
    }
}

#[test]
fn rule_19_the_extension_is_on_first_packets_only_and_the_same_when_resent() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let first = sender.frame(0, true, 5000);
        let (mut world, stream, _) = World::started_with(true, Mode::Compress, &first);
        assert!(world.submit(stream, 0, Some(&made(format, true, 0, NOTHING, 5000)), true));
        world.advance_ms(100);
        let sent = world.media();
        assert!(frames(&world, format)[0].extension.is_some());
        let ssrc = sent[0].rtp().ssrc;
        let mut writer = Writer::default();
        writer.receiver_report(1, &[]);
        writer.nack(1, ssrc, &[sent[0].rtp().sequence, sent[1].rtp().sequence]);
        world.left.clear();
        world.receive_from(OUT_RTCP, receiver(), &writer.finish());
        let again: Vec<Vec<u8>> = world.media().into_iter().map(|left| left.bytes).collect();
        assert_eq!(again, [sent[0].bytes.clone(), sent[1].bytes.clone()], "{format:?}");
    }
}

/// Whatever is answered, over whatever network.
#[test]
fn rule_23_native_and_compressed_change_places_at_keys_only() {
    for format in formats() {
        let mut switches = 0;
        for seed in 0..6 {
            let mut random = Random(seed);
            let mut sender = Sender::new(format);
            let (mut world, stream, out) = started(format, Mode::Compress, &mut sender);
            let mut network = Network::new(seed);
            let (mut answered, mut last_made) = (0, NOTHING);
            for id in 1..150 {
                let packets = sender.frame(id, random.below(12) == 0, 200 + random.below(2000) as usize);
                network.carry(packets, &mut world);
                let up: Vec<(u64, bool)> =
                    world.frames[answered..].iter().map(|frame| (frame.frame_id, frame.key)).collect();
                answered += up.len();
                for (frame_id, key) in up {
                    answer(&mut world, stream, format, &mut random, (frame_id, key), &mut last_made);
                }
                if world
                    .events
                    .iter()
                    .any(|event| matches!(event, auralink_native::core::output::Event::StreamFailed { .. }))
                {
                    panic!("nothing was left unanswered");
                }
            }
            let frames = frames(&world, format);
            check(&frames, &sender);
            let native: Vec<bool> = frames.iter().map(|frame| frame.meaning(format.vp9).1 < MADE).collect();
            switches += native.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(world.out_stat(out, "illegal_switch") > 0, "the core refused something");
        }
        assert!(switches > 20, "{format:?}: {switches} switches");
    }
}

/// Native, ours with or without a key of its own, or nothing.
fn answer(
    world: &mut World,
    stream: StreamId,
    format: Format,
    random: &mut Random,
    (id, key): (u64, bool),
    last_made: &mut u64,
) {
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
            let needs = if own_key { NOTHING } else { *last_made };
            // An encoder hears of what did not leave, and goes on from its last frame that did.
            if world.submit(stream, id, Some(&made(format, own_key, id, needs, 1500)), own_key) {
                *last_made = MADE + id;
            }
        }
    }
}

#[test]
fn rule_24_numbers_timestamps_and_ssrc_go_on_over_switches_and_a_change_of_source() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, stream, out) = started(format, Mode::Compress, &mut sender);
        let mut last_made = NOTHING;
        for id in 0..60u64 {
            let key = id % 10 == 0;
            if id > 0 {
                world.receive_all(&sender.frame(id, key, 1500));
            }
            let native = id / 20 != 1; // and at the end, so that the next source has distances of its own
            let data = made(format, key, id, if key { NOTHING } else { last_made }, 1500);
            last_made = MADE + id;
            assert!(world.submit(stream, id, if native { None } else { Some(&data) }, key));
            world.advance_ms(33);
        }
        let frames_before = frames(&world, format);
        check(&frames_before, &sender);
        assert_eq!(frames_before.len(), 60);
        let before = frames_before.last().unwrap().clone();

        let mut other = Sender::new(format);
        (other.ssrc, other.picture, other.tl0, other.timestamp) = (SSRC + 1, 17, 99, 5);
        (0..3).for_each(|id| world.receive_all(&other.frame(id, id == 0, 1500))); // a new source has to prove itself
        let successor = world.stream();
        assert_eq!(world.link(successor), out, "the same out");
        world.set_mode(successor, Mode::Bypass);
        (3..8).for_each(|id| world.receive_all(&other.frame(id, false, 1500)));
        let all = frames(&world, format); // one SSRC, contiguous
        let after = &all[60..];
        check(after, &other);
        assert_eq!(after.len(), 8);
        let step =
            |this: Option<u16>, last: Option<u16>, mask: u16| this.zip(last).map(|(t, l)| t.wrapping_sub(l) & mask);
        let number = |frame: &Read| frame.picture.map(|(number, _)| number);
        assert_eq!(step(number(&after[0]), number(&before), format.id_mask()), format.wide.map(|_| 1), "{format:?}");
        if let (Some(this), Some(last)) = (after[0].tl0, before.tl0) {
            assert_eq!(this.wrapping_sub(last), 1, "{format:?}");
        }
        assert!((1..1 << 31).contains(&after[0].timestamp.wrapping_sub(before.timestamp)));
    }
}

#[test]
fn malformed_payloads_are_counted_and_cost_the_frame_they_belong_to() {
    for format in [VP8, VP9] {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(format, Mode::Bypass, &mut sender);
        let bad = packet(sender.ssrc, format.payload_type(), sender.sequence, sender.timestamp, true, &[0x90]);
        sender.sequence = sender.sequence.wrapping_add(1);
        sender.timestamp = sender.timestamp.wrapping_add(FRAME_TICKS);
        world.receive(&bad);
        world.receive_all(&sender.frame(1, false, 500));
        world.receive_all(&sender.frame(2, true, 500));
        assert_eq!(world.drops("malformed_payload"), 1);
        assert_eq!(ids(&frames(&world, format), format), [0, 2]);
        assert!(world.now > Time(0));
    }
}

#[test]
fn mangled_packets_and_answers_break_nothing() {
    for format in formats() {
        for seed in 0..12 {
            let mut random = Random(seed);
            let mut sender = Sender::new(format);
            let (mut world, stream, _) = started(format, Mode::Compress, &mut sender);
            for id in 1..60 {
                for mut packet in sender.frame(id, random.below(10) == 0, 30 + random.below(2500) as usize) {
                    mangle(&mut random, &mut packet);
                    world.receive(&packet);
                }
                let newest = world.frames.last().map_or(0, |frame| frame.frame_id);
                let mut data = made(format, random.below(2) == 0, id, NOTHING, 1 + random.below(3000) as usize);
                data[random.below(10).min(8) as usize] = random.next() as u8;
                world.submit(
                    stream,
                    newest,
                    Some(&data).filter(|_| random.below(2) == 0).map(|data| &**data),
                    random.below(2) == 0,
                );
                world.advance_ms(33);
            }
            world.advance_ms(300);
            assert!(world.drops("malformed_payload") > 0 && world.drops("bad_submit") > 0);
            assert_whole(&world.media());
        }
    }
}
