//! Packets become frames, complete and in order, or nothing before the next key.

mod common;
use auralink_native::core::mode::Mode;
use common::network::{Conditions, Loss, Network};
use common::*;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Rules 3 and 4.
#[test]
fn a_native_frame_leaves_on_its_marker_with_its_timestamp_and_nal_units() {
    let mut sender = Sender::new(65530, u32::MAX - 1000);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    for id in 1..20 {
        let timestamp = sender.timestamp;
        let packets = sender.delta(id, 3000);
        let (last, first) = packets.split_last().unwrap();
        world.receive_all(first);
        let before = world.media().len();
        world.receive(last);
        assert!(world.media().len() > before, "no time passes between marker and release");
        let frame = world.seen().pop().unwrap();
        assert_eq!((frame.timestamp, frame.nals), (timestamp, vec![predicted(id, 3000)]));
    }
    let frames = world.seen();
    assert_eq!(frames[0].nals, [SPS.to_vec(), PPS.to_vec(), idr(0, 500)]);
    assert!(world.media()[0].rtp().sequence < 1 << 15);
}

#[test]
fn packets_that_fit_are_sent_on_one_for_one() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    let packets = sender.delta(1, 8000);
    world.receive_all(&packets);
    let frame = world.seen().pop().unwrap();
    assert_eq!(frame.packets, packets.len());
}

#[test]
fn a_first_packet_too_long_for_the_extension_is_cut_and_the_others_are_kept() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    sender.mtu = 1180;
    let packets = sender.delta(1, 8000);
    world.receive_all(&packets);
    let frame = world.seen().pop().unwrap();
    assert_eq!(frame.nals, [predicted(1, 8000)]);
    assert_eq!(frame.packets, packets.len() + 1);
}

#[test]
fn packets_of_a_larger_mtu_are_cut_as_a_frame_not_doubled() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    sender.mtu = 1460;
    world.receive_all(&sender.delta(1, 14000));
    let frame = world.seen().pop().unwrap();
    assert_eq!(frame.nals, [predicted(1, 14000)]);
    assert_eq!(frame.packets, (14000usize + 24).div_ceil(1186));
}

#[test]
fn parameter_sets_sent_once_go_before_every_later_key() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    world.receive_all(&sender.frame(&[idr(1, 2000)]));
    let aud = vec![0x09, 0xf0];
    world.receive_all(&sender.frame(&[aud.clone(), idr(2, 100)]));
    let frames = world.seen();
    assert_eq!(frames[1].nals, [SPS.to_vec(), PPS.to_vec(), idr(1, 2000)]);
    assert_eq!(frames[2].nals, [aud, SPS.to_vec(), PPS.to_vec(), idr(2, 100)]);
}

#[test]
fn a_key_whose_parameter_sets_never_came_is_no_start() {
    let mut sender = Sender::new(0, 0);
    let mut world = World::new(false);
    world.receive_all(&sender.frame(&[idr(1, 2000)]));
    world.receive_all(&sender.frame(&[idr(2, 2000)]));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    assert!(world.seen().is_empty());
    assert!(world.drops("no_parameter_sets") > 0);
    world.receive_all(&sender.key(3, 2000));
    assert_eq!(ids(&world.seen()), [3]);
}

#[test]
fn parameter_sets_on_their_own_are_remembered_and_are_no_frame() {
    let mut sender = Sender::new(0, 0);
    let mut world = World::new(false);
    world.receive_all(&sender.frame(&[SPS.to_vec(), PPS.to_vec()]));
    world.receive_all(&sender.frame(&[idr(1, 2000)]));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    assert_eq!(world.seen()[0].nals, [SPS.to_vec(), PPS.to_vec(), idr(1, 2000)]);
    assert_eq!(world.drops("no_picture"), 1);
}

#[test]
fn frames_for_python_are_annex_b_with_sets_before_keys() {
    let mut sender = Sender::new(0, 7);
    let (mut world, _, _) = World::started(false, Mode::Compress, &mut sender);
    world.receive_all(&sender.frame(&[idr(1, 3000)]));
    world.receive_all(&sender.frame(&[unreferenced(2, 300)]));
    let datas: Vec<_> = world.frames.iter().map(|frame| frame.data.clone()).collect();
    assert_eq!(datas[1], annex_b(&[SPS.to_vec(), PPS.to_vec(), idr(1, 3000)]));
    assert_eq!(datas[2], annex_b(&[unreferenced(2, 300)]));
    let frame = &world.frames[2];
    assert_eq!((frame.width, frame.height, frame.timestamp, frame.frame_id), (1280, 720, 6007, 2));
    assert!(frame.discardable && !frame.key);
}

#[test]
fn after_an_unrepaired_loss_nothing_leaves_before_the_next_key() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    world.receive_all(&sender.delta(1, 3000));
    let broken = sender.delta(2, 3000);
    world.receive(&broken[0]);
    world.receive(&broken[2]);
    world.receive_all(&sender.delta(3, 3000));
    assert_eq!(ids(&world.seen()), [0, 1]);
    world.advance_ms(250);
    world.receive_all(&sender.delta(4, 3000));
    world.receive_all(&sender.key(5, 3000));
    world.receive_all(&sender.delta(6, 3000));
    assert_eq!(ids(&world.seen()), [0, 1, 5, 6]);
    assert!(world.drops("incomplete") > 0 && world.drops("awaiting_key") > 0);
}

/// Rule 5.
#[test]
fn a_gap_is_abandoned_within_250_ms_and_a_key_behind_it_leaves_then() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    let lost = sender.delta(1, 100);
    drop(lost);
    world.receive_all(&sender.key(2, 3000));
    assert_eq!(ids(&world.seen()), [0]);
    let since = world.now;
    world.advance_ms(300);
    let frames = world.media();
    assert_eq!(ids(&world.seen()), [0, 2]);
    assert!(frames.last().unwrap().at - since <= Duration::from_millis(250));
}

/// Rule 6.
#[test]
fn whichever_packet_is_lost_no_incomplete_frame_leaves() {
    let total: usize = {
        let mut sender = Sender::new(0, 0);
        (0..12).map(|id| if id % 6 == 0 { sender.key(id, 2500) } else { sender.delta(id, 2500) }.len()).sum()
    };
    for lost in 0..total {
        let mut sender = Sender::new(0, 0);
        let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
        let mut at = 0;
        for id in 1..13 {
            let packets = if id % 6 == 0 { sender.key(id, 2500) } else { sender.delta(id, 2500) };
            for packet in packets {
                if at != lost {
                    world.receive(&packet);
                }
                at += 1;
            }
            world.advance_ms(33);
        }
        world.advance_ms(300);
        let mut expected_next = 0;
        for (id, frame) in ids(&world.seen()).into_iter().zip(world.seen()) {
            let key = frame.nals.iter().any(|nal| nal[0] & 0x1f == 5);
            assert!(key || id == expected_next, "packet {lost} lost: frame {id} references a missing one");
            expected_next = id + 1;
        }
    }
}

/// Rule 1: 200,000 packets with 3 % loss, reordering, duplicates, late packets, wraps of number and timestamp.
#[test]
fn a_bad_network_yields_contiguous_numbers_and_decodable_frames_only() {
    let mut random = Random(42);
    let mut sender = Sender::new(60_000, u32::MAX - 3000 * 200);
    sender.mtu = 300;
    let (mut world, _, out) = World::started(false, Mode::Bypass, &mut sender);
    let mut sent: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
    sent.insert(sender.timestamp.wrapping_sub(FRAME_TICKS), vec![SPS.to_vec(), PPS.to_vec(), idr(0, 500)]);
    let ms = Duration::from_millis;
    let (late, lateness, doubled) = (50, ms(130), 20);
    let mut network = Network::new(42);
    network.link.conditions = Conditions { loss: Loss::even(30), late, lateness, doubled, ..Conditions::default() };
    let mut packets = 0;
    for id in 1.. {
        if packets > 200_000 {
            break;
        }
        let len = 100 + random.below(2700) as usize;
        let nals = if id % 12 == 0 { vec![SPS.to_vec(), PPS.to_vec(), idr(id, len)] } else { vec![predicted(id, len)] };
        sent.insert(sender.timestamp, nals.clone());
        let frame = sender.frame(&nals);
        packets += frame.len();
        network.carry(frame, &mut world);
    }
    let frames = world.seen();
    assert!(frames.len() > 5000, "{} frames", frames.len());
    assert_eq!(world.out_stat(out, "frames"), frames.len() as i64);
    let mut seen = HashSet::new();
    let mut expected_next = u64::MAX;
    for (id, frame) in ids(&frames).into_iter().zip(&frames) {
        assert_eq!(Some(&frame.nals), sent.get(&frame.timestamp), "frame {id} is whole");
        let key = frame.nals.len() > 1;
        assert!(key || id == expected_next, "frame {id} references a missing one");
        assert!(seen.insert(id));
        expected_next = id + 1;
    }
    for reason in ["duplicate", "late", "incomplete", "awaiting_key"] {
        assert!(world.drops(reason) > 0, "{reason}");
    }
}

/// Rule 7.
#[test]
fn doubles_and_late_packets_are_counted_and_put_nothing_out() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    let (lost, key, delta) = (sender.delta(1, 100), sender.key(2, 3000), sender.delta(3, 3000));
    world.receive_all(&key);
    world.receive_all(&delta);
    world.receive_all(&delta); // behind a gap
    world.advance_ms(300); // given up
    world.receive_all(&delta); // released
    world.receive_all(&lost); // its NACK was answered too late
    assert_eq!(ids(&world.seen()), [0, 2, 3]);
    assert_eq!((world.drops("duplicate"), world.drops("late")), (2 * delta.len() as i64, 1));
}

/// The packet with `bytes` of padding behind it.
fn padded(mut packet: Vec<u8>, bytes: u8) -> Vec<u8> {
    packet[0] |= 0x20;
    packet.extend(vec![0; usize::from(bytes) - 1]);
    packet.push(bytes);
    packet
}

/// Rule 8.
#[test]
fn padding_is_cut_off_and_padding_alone_takes_no_number_and_holds_nothing_up() {
    let mut sender = Sender::new(65_533, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    for id in 1..20 {
        let timestamp = sender.timestamp.wrapping_sub(FRAME_TICKS);
        let alone = packet(SSRC, VIDEO_PT, sender.sequence, timestamp, false, &[]);
        sender.sequence = sender.sequence.wrapping_add(1);
        world.receive(&padded(alone, [1, 255][id as usize % 2]));
        let packets: Vec<Vec<u8>> = sender.delta(id, 2500).into_iter().map(|packet| padded(packet, 4)).collect();
        world.receive_all(&packets);
    }
    let frames = world.seen();
    assert_eq!(ids(&frames), (0..20).collect::<Vec<_>>());
    assert!((1..20).all(|id| frames[id as usize].nals == [predicted(id, 2500)]));
    world.advance_ms(100);
    assert!(world.left.iter().all(|left| !left.bytes.windows(2).any(|pair| pair == [0x81, 205])), "nothing is missing");
}

/// Rule 8.
#[test]
fn a_probe_of_ssrc_zero_is_no_source() {
    for remote in [None, Some(common::sender())] {
        let mut world = World::with_remote(false, remote);
        for sequence in 0..10 {
            world.receive(&padded(packet(0, VIDEO_PT, sequence, 0, false, &[]), 200));
        }
        assert!(world.events.is_empty(), "{:?}", world.events);
        assert_eq!(world.drops("probe"), 10);
    }
}
