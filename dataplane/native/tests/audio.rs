//! Audio is relayed packet by packet on arrival, gaps and all.

mod common;
use auralink_native::core::{OutId, SockId};
use common::*;

const IN_AUDIO: SockId = SockId(12);
const OUT_AUDIO: SockId = SockId(22);

fn opus(sequence: u16, timestamp: u32, marker: bool) -> Vec<u8> {
    packet(0xaaaa, AUDIO_PT, sequence, timestamp, marker, &sequence.to_be_bytes())
}

fn started(first: u16) -> (World, OutId) {
    let mut world = World::new(false);
    world.receive_from(IN_AUDIO, sender(), &opus(first, 0, true));
    let stream = world.stream();
    let out = world.link(stream);
    (world, out)
}

fn relayed(world: &World) -> Vec<(u16, u32, bool, u16)> {
    let audio = world.left.iter().filter(|left| left.sock == OUT_AUDIO);
    audio
        .map(|left| {
            let rtp = left.rtp();
            assert_eq!(rtp.extension, None, "never on audio");
            assert_eq!(rtp.payload_type, AUDIO_PT);
            let source = u16::from_be_bytes([rtp.payload[0], rtp.payload[1]]);
            (rtp.sequence, rtp.timestamp, rtp.marker, source)
        })
        .collect()
}

/// Rule 16.
#[test]
fn gaps_reordering_markers_and_timestamps_are_kept_over_the_wrap() {
    let (mut world, _) = started(65_530);
    let arrivals = [65_531u16, 65_533, 65_532, 65_535, 2, 3];
    for sequence in arrivals {
        let ticks = u32::from(sequence.wrapping_sub(65_530u16)) * 960;
        world.receive_from(IN_AUDIO, sender(), &opus(sequence, ticks, sequence == 2));
    }
    let relayed = relayed(&world);
    assert_eq!(relayed.len(), arrivals.len());
    let offset = relayed[0].0.wrapping_sub(65_531);
    for ((sequence, timestamp, marker, source), want) in relayed.into_iter().zip(arrivals) {
        assert_eq!((source, sequence), (want, want.wrapping_add(offset)));
        assert_eq!(timestamp, u32::from(want.wrapping_sub(65_530)) * 960);
        assert_eq!(marker, want == 2);
    }
}

#[test]
fn a_packet_leaves_in_the_moment_it_comes() {
    let (mut world, _) = started(0);
    for sequence in 1..100 {
        world.receive_from(IN_AUDIO, sender(), &opus(sequence, u32::from(sequence) * 960, false));
        assert_eq!(relayed(&world).len(), usize::from(sequence));
        world.advance_ms(20);
    }
}

#[test]
fn duplicates_are_dropped_and_audio_before_link_is_counted() {
    let (mut world, _) = started(0);
    for sequence in [1, 1, 2, 1] {
        world.receive_from(IN_AUDIO, sender(), &opus(sequence, 0, false));
    }
    assert_eq!(relayed(&world).len(), 2);
    assert_eq!((world.drops("duplicate"), world.drops("not_linked")), (2, 1));
}

#[test]
fn a_successor_continues_numbers_and_timestamps() {
    let (mut world, out) = started(100);
    world.receive_from(IN_AUDIO, sender(), &opus(101, 960, false));
    world.advance_ms(100);
    for sequence in 5000..5006u16 {
        let bytes = packet(
            0xbbbb,
            AUDIO_PT,
            sequence,
            77_000 + u32::from(sequence - 5000) * 960,
            false,
            &sequence.to_be_bytes(),
        );
        world.receive_from(IN_AUDIO, sender(), &bytes);
        if sequence == 5002 {
            let stream = world.stream();
            assert_eq!(world.link(stream), out);
        }
    }
    let relayed = relayed(&world);
    let first = relayed[0].0;
    let numbers: Vec<u16> = relayed.iter().map(|r| r.0 - first).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(relayed[1].1, 960 + 4800, "by the time that passed");
}

#[test]
fn a_packet_from_before_the_first_takes_no_number_of_the_predecessor() {
    let (mut world, _) = started(100);
    world.receive_from(IN_AUDIO, sender(), &opus(101, 960, false));
    for sequence in [5000, 5001, 5002, 5003, 5001u16] {
        let bytes = packet(0xbbbb, AUDIO_PT, sequence, 0, false, &sequence.to_be_bytes());
        world.receive_from(IN_AUDIO, sender(), &bytes);
        if sequence == 5002 {
            let stream = world.stream();
            world.link(stream);
        }
    }
    let late = packet(0xbbbb, AUDIO_PT, 4999, 0, false, &[0, 0]);
    world.receive_from(IN_AUDIO, sender(), &late);
    let sources: Vec<u16> = relayed(&world).iter().map(|relayed| relayed.3).collect();
    assert_eq!(sources, [101, 5003]);
}

/// Rule 16: a pause without packets is one of time, not of numbers; the first packet after it has the marker.
#[test]
fn a_pause_of_the_source_is_a_pause_of_ours() {
    let (mut world, _) = started(0);
    world.receive_from(IN_AUDIO, sender(), &opus(1, 960, false));
    world.advance_ms(5000);
    world.receive_from(IN_AUDIO, sender(), &opus(2, 250 * 960, true));
    let relayed = relayed(&world);
    assert_eq!(relayed[1].0.wrapping_sub(relayed[0].0), 1);
    assert_eq!((relayed[1].1 - relayed[0].1, relayed[1].2), (249 * 960, true));
}

/// Rules 8 and 16.
#[test]
fn padding_alone_takes_no_number_of_ours() {
    let (mut world, _) = started(65_533);
    for sequence in [65_534u16, 65_535, 0, 1, 3] {
        let mut bytes = opus(sequence, 0, false);
        if sequence % 2 == 1 && sequence != 3 {
            bytes[0] |= 0x20;
            bytes[13] = 2; // both bytes of payload
        }
        world.receive_from(IN_AUDIO, sender(), &bytes);
    }
    let numbers: Vec<(u16, u16)> = relayed(&world).iter().map(|relayed| (relayed.3, relayed.0)).collect();
    let first = numbers[0].1;
    assert_eq!(numbers, [(65_534, first), (0, first + 1), (3, first + 3)], "2 is lost, not left out");
}
