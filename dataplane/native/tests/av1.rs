//! AV1 (AOM "RTP Payload Format For AV1" 1.0) from end to end, by the rules of the correctness checklist: a test has the
//! number of its rule. Every way in which a sender may pack goes through each.

mod common;
use auralink_native::core::mode::Mode;
use auralink_native::core::rtcp::Writer;
use auralink_native::core::{OutId, StreamId};
use common::av1::{NOTHING, PLAIN, Read, Sender, Shape, formats, meaning, read, stream, unit};
use common::network::Network;
use common::*;
use std::collections::HashSet;

/// Ids of an encoder's frames are its source frame's and this.
const MADE: u64 = 1 << 32;

fn started(mode: Mode, sender: &mut Sender) -> (World, StreamId, OutId) {
    World::started_with(false, mode, &sender.frame(0, true, 500))
}

fn made(key: bool, id: u64, needs: u64, len: usize) -> Vec<Vec<u8>> {
    unit(Shape::Frame, key, MADE + id, needs, len)
}

/// What every receiver relies on: each unit is whole and as its encoder made it, and can be decoded from those before it.
fn check(frames: &[Read], sender: &Sender) {
    let mut decoded = HashSet::new();
    for (i, frame) in frames.iter().enumerate() {
        let (key, id, needs) = meaning(&frame.obus);
        assert_eq!(frame.new, key, "a coded video sequence begins at each key");
        if key {
            decoded.clear();
        } else {
            assert!(decoded.contains(&needs), "{:?}: frame {id} refers to {needs}, which is not there", sender.format);
        }
        decoded.insert(id);
        if id < MADE {
            assert_eq!(Some(&frame.obus), sender.sent.get(&id), "frame {id} is as it was sent");
        }
        if let Some(before) = i.checked_sub(1).map(|at| &frames[at]) {
            let ticks = frame.timestamp.wrapping_sub(before.timestamp);
            assert!((1..1 << 31).contains(&ticks), "timestamps go on");
        }
    }
}

fn ids(frames: &[Read]) -> Vec<u64> {
    frames.iter().map(|frame| meaning(&frame.obus).1).collect()
}

fn frames(world: &World) -> Vec<Read> {
    read(&world.media())
}

#[test]
fn rule_4_a_frame_leaves_on_its_marker_and_no_time_passes() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(Mode::Bypass, &mut sender);
        let begun = world.now;
        for id in 1..30 {
            let packets = sender.frame(id, id % 10 == 0, 3000);
            let (last, rest) = packets.split_last().unwrap();
            world.receive_all(rest);
            assert_eq!(frames(&world).len(), id as usize);
            world.receive(last);
            assert_eq!(frames(&world).len(), id as usize + 1, "{format:?}");
        }
        assert_eq!(world.now, begun);
        check(&frames(&world), &sender);
    }
}

#[test]
fn rule_6_whichever_packet_is_lost_no_frame_leaves_whose_reference_is_not_there() {
    for format in formats() {
        let mut count = Sender::new(format);
        let total: usize = (0..12).map(|id| count.frame(id, id % 6 == 0, 2500).len()).sum();
        for lost in 0..total {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(Mode::Bypass, &mut sender);
            let (mut at, mut hit) = (0, 0);
            for id in 1..13 {
                for packet in sender.frame(id, id % 6 == 0, 2500) {
                    if at != lost {
                        world.receive(&packet);
                    } else {
                        hit = id;
                    }
                    at += 1;
                }
                world.advance_ms(33);
            }
            world.advance_ms(300);
            let frames = frames(&world);
            check(&frames, &sender);
            // Nothing but the frame that lost it and those up to the next key.
            let gone = |id: &u64| hit > 0 && *id >= hit && *id < hit - hit % 6 + 6;
            assert_eq!(ids(&frames), (0..13).filter(|id| !gone(id)).collect::<Vec<_>>(), "{format:?}: {lost} lost");
        }
    }
}

#[test]
fn rule_14_elements_come_out_whole_over_any_network_and_however_they_were_packed() {
    for format in formats() {
        let (mut left, mut perfect) = (0, 0);
        for seed in 0..12 {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(Mode::Bypass, &mut sender);
            let mut network = Network::new(seed);
            for id in 1..120 {
                let packets = sender.frame(id, id % 25 == 0, 60 + (id as usize * 37 % 2000));
                network.carry(packets, &mut world);
            }
            network.deliver(500, &mut world);
            let frames = frames(&world);
            check(&frames, &sender);
            left += frames.len();
            perfect += usize::from(frames.len() == 120);
        }
        println!("{format:?}: {left} of 1440 frames, {perfect} of 12 runs without a loss");
        assert!(perfect > 0 && left < 1440, "{format:?}: some runs lose something, some nothing");
    }
}

#[test]
fn rule_14_packets_that_are_as_they_should_be_stay_as_they_are() {
    for format in formats().into_iter().filter(|format| !format.wordy) {
        let mut sender = Sender::new(format);
        let first = sender.frame(0, true, 4000);
        let (mut world, ..) = World::started_with(false, Mode::Bypass, &first);
        let sent = [first, sender.frame(1, false, 4000)].concat();
        world.receive_all(&sent[sent.len() / 2..]);
        world.advance_ms(100);
        let left: Vec<Vec<u8>> = world.media().iter().map(|left| left.rtp().payload.to_vec()).collect();
        let payloads: Vec<Vec<u8>> = sent.iter().map(|packet| packet[12..].to_vec()).collect();
        assert_eq!(left, payloads, "{format:?}");
    }
}

/// The AI Core gets a low-overhead stream (bitstream specification 5.2) without temporal delimiters.
#[test]
fn rule_14_a_temporal_unit_goes_up_with_sizes_and_without_a_delimiter() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, ..) = started(Mode::Compress, &mut sender);
        world.receive_all(&sender.frame(1, false, 2500));
        assert_eq!(world.frames.len(), 2);
        for (id, up) in world.frames.iter().enumerate() {
            assert_eq!((up.key, up.width, up.height, up.discardable), (id == 0, 640, 360, false));
            assert_eq!(up.data, stream(&sender.sent[&(id as u64)]), "{format:?}");
        }
    }
}

#[test]
fn rule_15_an_encoders_units_leave_as_it_made_them_whatever_layers_the_sender_has() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, id_of_stream, _) = started(Mode::Compress, &mut sender);
        let mut answers = Vec::new();
        for id in 0..12 {
            if id > 0 {
                world.receive_all(&sender.frame(id, false, 2500));
            }
            let needs = if id == 0 { NOTHING } else { MADE + id - 1 };
            answers.push(made(id == 0, id, needs, 2500));
            let delimited = [&[0x12, 0][..], &stream(&answers[id as usize])].concat();
            assert!(world.submit(id_of_stream, id, Some(&delimited), id == 0), "{format:?}");
        }
        let frames = frames(&world);
        check(&frames, &sender);
        assert_eq!(frames.iter().map(|frame| frame.obus.clone()).collect::<Vec<_>>(), answers);
        for (frame, up) in frames.iter().zip(&world.frames) {
            assert_eq!(frame.timestamp, up.timestamp as u32);
        }
    }
}

#[test]
fn rule_17_no_packet_is_above_1200_bytes_and_ours_leave_room_to_resend() {
    for format in formats() {
        for mtu in [600, 1160, 1188, 1200, 1228, 1460, 1900] {
            let mut sender = Sender::new(format);
            let (mut world, ..) = started(Mode::Bypass, &mut sender);
            sender.mtu = mtu;
            for (id, len) in [(1, 40), (2, mtu - 60), (3, mtu - 40), (4, 7000), (5, 60_000)] {
                world.receive_all(&sender.frame(id, id == 4, len));
                world.advance_ms(100);
            }
            let frames = frames(&world); // below the MTU, the extension on first packets
            check(&frames, &sender);
            assert_eq!(frames.len(), 6);
            let most = 60_000usize.div_ceil(mtu.min(1190) - 40) + 10;
            assert!(frames[5].packets <= most, "{format:?}, {mtu}: {} packets", frames[5].packets);
        }
    }
    for len in [30, 1130, 1140, 1141, 1142, 1150, 1160, 1170, 1180, 5000, 100_000] {
        let mut sender = Sender::new(PLAIN);
        let (mut world, stream_id, _) = started(Mode::Compress, &mut sender);
        let answer = made(true, 0, NOTHING, len);
        assert!(world.submit(stream_id, 0, Some(&stream(&answer)), true));
        world.advance_ms(100);
        assert!(world.media().iter().all(|left| left.bytes.len() <= 1198));
        let frames = frames(&world);
        assert_eq!(frames[0].obus, answer);
        assert!(frames[0].packets <= len / 1150 + 1, "{len}: {} packets", frames[0].packets);
    }
}

#[test]
fn rule_19_the_extension_is_on_first_packets_only_and_the_same_when_resent() {
    let mut sender = Sender::new(PLAIN);
    let first = sender.frame(0, true, 5000);
    let (mut world, stream_id, _) = World::started_with(true, Mode::Compress, &first);
    assert!(world.submit(stream_id, 0, Some(&stream(&made(true, 0, NOTHING, 5000))), true));
    world.advance_ms(100);
    let sent = world.media();
    assert!(frames(&world)[0].extension.is_some());
    let mut writer = Writer::default();
    writer.receiver_report(1, &[]);
    writer.nack(1, sent[0].rtp().ssrc, &[sent[0].rtp().sequence, sent[1].rtp().sequence]);
    world.left.clear();
    world.receive_from(OUT_RTCP, receiver(), &writer.finish());
    let again: Vec<Vec<u8>> = world.media().into_iter().map(|left| left.bytes).collect();
    assert_eq!(again, [sent[0].bytes.clone(), sent[1].bytes.clone()]);
}

/// Whatever is answered, over whatever network.
#[test]
fn rule_23_native_and_compressed_change_places_at_keys_only() {
    for format in formats() {
        let mut switches = 0;
        for seed in 0..4 {
            let mut random = Random(seed);
            let mut sender = Sender::new(format);
            let (mut world, stream_id, out) = started(Mode::Compress, &mut sender);
            let mut network = Network::new(seed);
            let (mut answered, mut last_made) = (0, NOTHING);
            for id in 1..150 {
                let packets = sender.frame(id, random.below(12) == 0, 200 + random.below(2000) as usize);
                network.carry(packets, &mut world);
                let up: Vec<(u64, bool)> = world.frames[answered..].iter().map(|f| (f.frame_id, f.key)).collect();
                answered += up.len();
                for frame in up {
                    answer(&mut world, stream_id, &mut random, frame, &mut last_made);
                }
            }
            let frames = frames(&world);
            check(&frames, &sender);
            let native: Vec<bool> = ids(&frames).iter().map(|id| *id < MADE).collect();
            switches += native.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(world.out_stat(out, "illegal_switch") > 0, "the core refused something");
        }
        assert!(switches > 10, "{format:?}: {switches} switches");
    }
}

/// Native, ours with or without a key of its own, or nothing.
fn answer(world: &mut World, stream_id: StreamId, random: &mut Random, (id, key): (u64, bool), last_made: &mut u64) {
    match random.below(8) {
        0 => {
            world.shard.drop_frame(stream_id, id, world.now());
            world.settle();
        }
        1..=3 => {
            world.submit(stream_id, id, None, key);
        }
        _ => {
            let own_key = key || *last_made == NOTHING || random.below(8) == 0;
            let needs = if own_key { NOTHING } else { *last_made };
            // An encoder hears of what did not leave, and goes on from its last frame that did.
            if world.submit(stream_id, id, Some(&stream(&made(own_key, id, needs, 1500))), own_key) {
                *last_made = MADE + id;
            }
        }
    }
}

#[test]
fn rule_24_timestamps_and_ssrc_go_on_over_switches_and_a_change_of_source() {
    for format in formats() {
        let mut sender = Sender::new(format);
        let (mut world, stream_id, out) = started(Mode::Compress, &mut sender);
        let mut last_made = NOTHING;
        for id in 0..60u64 {
            let key = id % 10 == 0;
            if id > 0 {
                world.receive_all(&sender.frame(id, key, 1500));
            }
            let data = stream(&made(key, id, if key { NOTHING } else { last_made }, 1500));
            last_made = MADE + id;
            assert!(world.submit(stream_id, id, if id / 20 != 1 { None } else { Some(&data) }, key));
            world.advance_ms(33);
        }
        let before = frames(&world);
        check(&before, &sender);
        assert_eq!(before.len(), 60);

        let mut other = Sender::new(format);
        (other.ssrc, other.timestamp) = (SSRC + 1, 5);
        (0..3).for_each(|id| world.receive_all(&other.frame(id, id == 0, 1500))); // a new source has to prove itself
        let successor = world.stream();
        assert_eq!(world.link(successor), out, "the same out");
        world.set_mode(successor, Mode::Bypass);
        (3..8).for_each(|id| world.receive_all(&other.frame(id, false, 1500)));
        let all = frames(&world); // one SSRC, contiguous
        check(&all[60..], &other);
        assert_eq!(all.len(), 68);
        assert!((1..1 << 31).contains(&all[60].timestamp.wrapping_sub(all[59].timestamp)));
    }
}

#[test]
fn a_stream_starts_at_a_key_that_n_announces() {
    let mut sender = Sender::new(PLAIN);
    let mut first = sender.frame(0, true, 500);
    first[0][12] &= !8;
    let (mut world, ..) = World::started_with(false, Mode::Bypass, &first);
    world.receive_all(&sender.frame(1, false, 500));
    assert!(frames(&world).is_empty());
    world.receive_all(&sender.frame(2, true, 500));
    world.receive_all(&sender.frame(3, false, 500));
    assert_eq!(ids(&frames(&world)), [2, 3]);
    assert_eq!(world.drops("awaiting_key"), 1, "whether the first packet began a unit was not to be seen");
}

#[test]
fn malformed_payloads_are_counted_and_cost_the_frame_they_belong_to() {
    let mut sender = Sender::new(PLAIN);
    let (mut world, ..) = started(Mode::Bypass, &mut sender);
    for (id, payload) in [(1, &[0x98, 0x30, 1][..]), (3, &[0x00, 0x80]), (5, &[0x10, 0xb0, 0])] {
        world.receive(&packet(sender.ssrc, AV1_PT, sender.sequence, sender.timestamp, true, payload));
        sender.sequence = sender.sequence.wrapping_add(1);
        sender.timestamp = sender.timestamp.wrapping_add(FRAME_TICKS);
        world.receive_all(&sender.frame(id, false, 500));
        world.receive_all(&sender.frame(id + 1, true, 500));
    }
    assert_eq!(world.drops("malformed_payload"), 3);
    assert_eq!(ids(&frames(&world)), [0, 2, 4, 6]);
}

#[test]
fn mangled_packets_and_answers_break_nothing() {
    let (mut malformed, mut refused) = (0, 0);
    for format in formats() {
        for seed in 0..4 {
            let mut random = Random(seed);
            let mut sender = Sender::new(format);
            let (mut world, stream_id, _) = started(Mode::Compress, &mut sender);
            for id in 1..60 {
                for mut packet in sender.frame(id, random.below(10) == 0, 30 + random.below(2500) as usize) {
                    mangle(&mut random, &mut packet);
                    world.receive(&packet);
                }
                let newest = world.frames.last().map_or(0, |frame| frame.frame_id);
                let mut data = stream(&made(random.below(2) == 0, id, NOTHING, 1 + random.below(3000) as usize));
                data[random.below(10) as usize] = random.next() as u8;
                let data = Some(&*data).filter(|_| random.below(2) == 0);
                world.submit(stream_id, newest, data, random.below(2) == 0);
                world.advance_ms(33);
            }
            world.advance_ms(300);
            malformed += world.drops("malformed_payload");
            refused += world.drops("bad_submit");
            assert_whole(&world.media());
        }
    }
    assert!(malformed > 1000 && refused > 100, "{malformed} payloads, {refused} answers");
}
