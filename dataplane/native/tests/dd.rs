//! Dependency descriptors (AOM "RTP Payload Format For AV1" 1.0, appendix A) from end to end, by the rules of the correctness
//! checklist: a test has the number of its rule.

mod common;
use auralink_native::core::carrier::Carrier;
use auralink_native::core::elements::Ids;
use auralink_native::core::leg_plain::Direction;
use auralink_native::core::mode::Mode;
use auralink_native::core::{OutId, StreamId};
use common::av1::{NOTHING, Read, Shape, meaning, read, stream, unit};
use common::dd::{
    Layered, Place, Said, Spatial, URI, bare, carrying, descriptor, elements, one_layer, said, three_temporal_layers,
    two_spatial_layers,
};
use common::*;
use std::collections::HashSet;

const CAPTURE: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const ORIENTATION: &str = "urn:3gpp:video-orientation";
/// The ids of the two legs.
const IN: u8 = 5;
const OUT: u8 = 9;
/// Ids of an encoder's frames are its source frame's and this.
const MADE: u64 = 1 << 32;

/// Legs whose ids for descriptors these are; 0: none.
fn between(source: u8, target: u8, feedback: bool) -> World {
    carrying_too(Carrier::None, source, target, feedback)
}

fn carrying_too(carrier: Carrier, source: u8, target: u8, feedback: bool) -> World {
    let ids = |id, others: &[(u8, &str)]| {
        let own = [(id, URI)].into_iter().filter(|(id, _)| *id > 0);
        Ids::new(own.chain(others.iter().copied()).map(|(id, uri)| (id, uri.to_owned())))
    };
    let mut from = config(Direction::Receive, feedback, Some(sender()));
    let mut to = config(Direction::Send, feedback, Some(receiver()));
    from.ids = ids(source, &[(2, CAPTURE), (3, ORIENTATION)]);
    to.ids = ids(target, &[(3, CAPTURE), (2, ORIENTATION)]);
    to.carrier = carrier;
    World::between(from, to)
}

fn begin(world: &mut World, mode: Mode, first: &[Vec<u8>]) -> (StreamId, OutId) {
    world.receive_all(first);
    let stream = world.stream();
    let out = world.link(stream);
    world.set_mode(stream, mode);
    (stream, out)
}

/// What left, frame by frame: packets, and what they say.
fn left(world: &World) -> Vec<Vec<(Left, Option<Said>)>> {
    let mut frames = vec![Vec::new()];
    for left in world.media() {
        let marker = left.rtp().marker;
        let said = said(&left, OUT);
        frames.last_mut().unwrap().push((left, said));
        if marker {
            frames.push(Vec::new());
        }
    }
    assert!(frames.pop().unwrap().is_empty());
    frames
}

/// The frames without their header extensions, which are whole and contiguous.
fn frames(world: &World) -> Vec<Read> {
    read(&world.media().iter().map(bare).collect::<Vec<_>>())
}

fn ids(world: &World) -> Vec<u64> {
    frames(world).iter().map(|frame| meaning(&frame.obus).1).collect()
}

/// Each can be decoded from those before it.
fn check(world: &World) {
    let mut decoded = HashSet::new();
    for frame in frames(world) {
        let (key, id, needs) = meaning(&frame.obus);
        assert!(key || decoded.contains(&needs), "frame {id} refers to {needs}, which is not there");
        if key {
            decoded.clear();
        }
        decoded.insert(id);
    }
    assert!(world.media().iter().all(|left| left.bytes.len() <= 1200));
}

/// A frame's number and template, the same in all packets, which say where it starts and ends; the structure, if any, is in
/// the first alone.
fn frame_of(packets: &[(Left, Option<Said>)], extended: &str) -> (u16, u8) {
    let (first, last) = (packets[0].1.clone().expect("a descriptor"), packets.len() - 1);
    for (at, (_, said)) in packets.iter().enumerate() {
        let extended = if at == 0 { extended } else { "" };
        let want = descriptor(at == 0, at == last, first.template, first.number, extended);
        assert_eq!(said.as_ref().map(|said| &said.bytes), Some(&want), "packet {at}");
    }
    (first.number, first.template)
}

fn made(key: bool, id: u64, needs: u64) -> Vec<u8> {
    stream(&unit(Shape::Frame, key, MADE + id, needs, 2500))
}

#[test]
fn rule_14_numbers_keep_their_distance_and_a_structure_is_on_a_keys_first_packet_alone() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    begin(&mut world, Mode::Bypass, &source.frame(0, true, 2500));
    let mut places = vec![Place::Key];
    for id in 1..20 {
        let key = id % 9 == 0;
        places.push(source.place(key));
        world.receive_all(&source.frame(id, key, 300 + 250 * id as usize));
    }
    check(&world);
    let left = left(&world);
    assert_eq!(left.len(), 20);
    for (id, (packets, place)) in left.iter().zip(places).enumerate() {
        let structure = if place == Place::Key { three_temporal_layers(60) } else { String::new() };
        let (number, template) = frame_of(packets, &structure);
        assert_eq!(number, 65_530u16.wrapping_add(id as u16), "the first frame keeps its number");
        assert_eq!(template, (60 + place.template()) % 64);
        assert_eq!(elements(&packets[0].0)[0].0, EXTENSION_ID, "ours is there too");
        let profile = packets[0].0.rtp().extension.unwrap().0;
        assert_eq!(profile, if place == Place::Key { 0x1000 } else { 0xbede }, "more than 16 bytes");
    }
}

#[test]
fn rule_14_where_packets_are_cut_anew_start_and_end_are_where_the_frame_has_them() {
    for mtu in [700, 1180, 1300, 1900] {
        let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
        source.sender.mtu = mtu;
        begin(&mut world, Mode::Bypass, &source.frame(0, true, 9000));
        (1..9).for_each(|id| world.receive_all(&source.frame(id, false, 4000)));
        world.advance_ms(200);
        check(&world);
        for (id, packets) in left(&world).iter().enumerate() {
            frame_of(packets, &if id == 0 { three_temporal_layers(60) } else { String::new() });
        }
    }
}

#[test]
fn rule_14_no_packet_is_of_two_spatial_layers_however_it_is_cut() {
    for mtu in [700, 1900] {
        let (mut source, mut world) = (Spatial::new(), between(IN, OUT, false));
        source.sender.mtu = mtu;
        begin(&mut world, Mode::Bypass, &source.frame(0, true, 5000));
        (1..6).for_each(|id| world.receive_all(&source.frame(id, false, 3000)));
        world.advance_ms(200);
        check(&world);
        let frames = left(&world);
        assert_eq!(frames.len(), 6);
        for (id, packets) in frames.iter().enumerate() {
            let upper = packets.iter().position(|(left, _)| left.rtp().payload[1..3] == [0x34, 8]).unwrap();
            let structure = if id == 0 { two_spatial_layers(0) } else { String::new() };
            let (below, above) = (frame_of(&packets[..upper], &structure), frame_of(&packets[upper..], ""));
            let number = 7 + 2 * id as u16;
            assert_eq!((below.0, above.0), (number, number + 1), "{mtu}");
            assert_eq!((below.1, above.1), if id == 0 { (0, 2) } else { (1, 3) });
        }
    }
}

#[test]
fn rule_14_a_carrier_of_ours_is_within_the_frame_and_its_lowest_layer() {
    for mtu in [700, 1180, 1900] {
        let (mut source, mut world) = (Layered::new(), carrying_too(Carrier::InBand, IN, OUT, false));
        source.sender.mtu = mtu;
        begin(&mut world, Mode::Bypass, &source.frame(0, true, 4000));
        (1..5).for_each(|id| world.receive_all(&source.frame(id, false, 300 + 1000 * id as usize)));
        world.advance_ms(200);
        let numbers: Vec<u16> = left(&world)
            .iter()
            .enumerate()
            .map(|(id, packets)| frame_of(packets, &if id == 0 { three_temporal_layers(60) } else { String::new() }).0)
            .collect();
        assert_eq!(numbers, (0..5).map(|id| 65_530u16.wrapping_add(id)).collect::<Vec<_>>());
        assert!(world.media().iter().all(|left| left.bytes.len() <= 1200));

        let (mut source, mut world) = (Spatial::new(), carrying_too(Carrier::InBand, IN, OUT, false));
        source.sender.mtu = mtu;
        begin(&mut world, Mode::Bypass, &source.frame(0, true, 3000));
        (1..4).for_each(|id| world.receive_all(&source.frame(id, false, 3000)));
        world.advance_ms(200);
        for (id, packets) in left(&world).iter().enumerate() {
            let upper = packets.iter().position(|(left, _)| left.rtp().payload[1..3] == [0x34, 8]).unwrap();
            let structure = if id == 0 { two_spatial_layers(0) } else { String::new() };
            let (below, above) = (frame_of(&packets[..upper], &structure), frame_of(&packets[upper..], ""));
            assert_eq!((below.0, above.0), (7 + 2 * id as u16, 8 + 2 * id as u16), "{mtu}");
        }
    }
}

/// The hole that a stream without N is, closed by what its descriptors say.
#[test]
fn rule_14_a_stream_starts_at_a_key_that_its_descriptor_announces() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    let mut first = source.frame(0, true, 2500);
    let at = first[0].len() - source_payload(&first[0]).len();
    assert_eq!(first[0][at] & 8, 8);
    first[0][at] &= !8;
    begin(&mut world, Mode::Bypass, &first);
    world.receive_all(&source.frame(1, false, 500));
    assert_eq!(ids(&world), [0, 1]);
    assert!(frames(&world)[0].new, "and N is set");
}

fn source_payload(packet: &[u8]) -> &[u8] {
    auralink_native::core::rtp::parse(packet).unwrap().payload
}

/// Frames that are lost, and what goes with them.
#[test]
fn rule_6_a_lost_frame_takes_those_along_that_refer_to_it_and_no_other() {
    let per_frame = 3;
    for lost in 0..15 * per_frame {
        for whole in [false, true] {
            let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
            begin(&mut world, Mode::Bypass, &source.frame(0, true, 2500));
            let (mut at, mut hit) = (0, None);
            for id in 1..16 {
                let place = source.place(false);
                let packets = source.frame(id, false, 2500);
                assert_eq!(packets.len(), per_frame);
                for packet in packets {
                    if at == lost || whole && at / per_frame == lost / per_frame {
                        hit = Some((id, place));
                    } else {
                        world.receive(&packet);
                    }
                    at += 1;
                }
                world.advance_ms(33);
            }
            world.advance_ms(300);
            world.receive_all(&source.frame(16, true, 500));
            world.advance_ms(300);
            check(&world);
            let (hit, place) = hit.unwrap();
            let gone = |id: &u64| match place {
                Place::Early | Place::Late => *id == hit,
                Place::Middle => *id == hit || *id == hit + 1,
                Place::Key | Place::Lowest => *id >= hit && *id < 16,
            };
            let want: Vec<u64> = (0..17).filter(|id| !gone(id)).collect();
            assert_eq!(ids(&world), want, "packet {lost}, all of its frame: {whole}");
            let numbers: Vec<u16> = left(&world).iter().map(|frame| frame[0].1.as_ref().unwrap().number).collect();
            let kept: Vec<u16> = want.iter().map(|id| 65_530u16.wrapping_add(*id as u16)).collect();
            assert_eq!(numbers, kept, "what is gone is gone from the numbers");
        }
    }
}

/// The first packet behind a lost frame of the chain is enough to know that, whatever it belongs to.
#[test]
fn rule_6_a_broken_chain_asks_for_a_key_at_once() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, true));
    begin(&mut world, Mode::Bypass, &source.frame(0, true, 500));
    (1..4).for_each(|id| world.receive_all(&source.frame(id, false, 500)));
    source.frame(4, false, 500);
    world.receive_all(&source.frame(5, false, 500));
    world.advance_ms(251);
    let asked = |world: &World| {
        world.left.iter().any(|left| left.sock == IN_RTCP && left.bytes.windows(2).any(|b| b == [0x81, 206]))
    };
    assert!(asked(&world));
    assert_eq!(ids(&world), [0, 1, 2, 3]);
}

#[test]
fn rule_15_an_encoders_frames_have_one_layer_and_the_numbers_go_on_over_each_switch() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    let (id_of_stream, _) = begin(&mut world, Mode::Compress, &source.frame(0, true, 2500));
    for id in 0..40u64 {
        if id > 0 {
            world.receive_all(&source.frame(id, id % 8 == 0, 2500));
        }
        let (compressed, key) = (id / 8 % 2 == 1, id % 8 == 0);
        let data = made(key, id, if key { NOTHING } else { MADE + id - 1 });
        assert!(world.submit(id_of_stream, id, Some(&*data).filter(|_| compressed), key));
        world.advance_ms(33);
    }
    check(&world);
    let left = left(&world);
    assert_eq!(left.len(), 40);
    let mut offset = 60;
    for (id, packets) in left.iter().enumerate() {
        let (compressed, key) = (id / 8 % 2 == 1, id % 8 == 0);
        if key && id > 0 {
            offset = (offset + if compressed { 5 } else { 2 }) % 64; // behind the templates of the structure before
        }
        let structure = match (key, compressed) {
            (false, _) => String::new(),
            (true, false) => three_temporal_layers(offset),
            (true, true) => one_layer(offset, 640, 360),
        };
        let (number, template) = frame_of(packets, &structure);
        assert_eq!(number, 65_530u16.wrapping_add(id as u16));
        let index = match (key, compressed) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => [Place::Lowest, Place::Early, Place::Middle, Place::Late][id % 4].template(),
        };
        assert_eq!(template, (offset + index) % 64, "frame {id}");
    }
}

#[test]
fn rule_15_an_encoder_has_its_own_where_the_sender_has_none_and_a_leg_without_the_uri_gets_none() {
    for (source_id, target) in [(0, OUT), (IN, 0)] {
        let (mut source, mut world) = (Layered::new(), between(source_id, target, false));
        let (id_of_stream, _) = begin(&mut world, Mode::Compress, &source.frame(0, true, 2500));
        world.receive_all(&source.frame(1, false, 500));
        world.receive_all(&source.frame(2, true, 500));
        assert!(world.submit(id_of_stream, 0, Some(&made(true, 0, NOTHING)), true));
        assert!(world.submit(id_of_stream, 1, Some(&made(false, 1, MADE)), false));
        assert!(world.submit(id_of_stream, 2, None, true));
        check(&world);
        let left = left(&world);
        assert!(left[2].iter().all(|(_, said)| said.is_none()), "what is absent stays absent");
        if target == 0 {
            assert!(left.iter().flatten().all(|(_, said)| said.is_none()));
            continue;
        }
        assert_eq!(frame_of(&left[0], &one_layer(0, 640, 360)), (0, 0));
        assert_eq!(frame_of(&left[1], ""), (1, 1));
    }
}

/// Any codec may have it.
#[test]
fn rule_14_descriptors_of_other_codecs_go_on_too() {
    let (mut source, mut world) = (Sender::new(0, 0), between(IN, OUT, false));
    let mut number = 3;
    let mut described = |packets: Vec<Vec<u8>>, key: bool| {
        number += 1;
        let last = packets.len() - 1;
        let extended = |at| if key && at == 0 { three_temporal_layers(0) } else { String::new() };
        let bytes = |at| descriptor(at == 0, at == last, u8::from(!key), number, &extended(at));
        packets.iter().enumerate().map(|(at, packet)| carrying(packet, &[(IN, &bytes(at))])).collect::<Vec<_>>()
    };
    let first = described(source.key(0, 2500), true);
    begin(&mut world, Mode::Bypass, &first);
    let sets_were_sent_once = described(source.frame(&[idr(1, 500)]), true);
    world.receive_all(&sets_were_sent_once);
    world.receive_all(&described(source.delta(2, 2500), false));
    let left = left(&world);
    assert_eq!(left.iter().map(Vec::len).collect::<Vec<_>>(), [5, 2, 3]);
    assert_eq!(frame_of(&left[0], &three_temporal_layers(0)).0, 4);
    assert_eq!(frame_of(&left[1], &three_temporal_layers(0)).0, 5, "the sets are the first packet");
    assert_eq!(frame_of(&left[2], ""), (6, 1));
}

#[test]
fn rule_14_a_key_that_comes_without_the_structure_leaves_with_the_one_in_force() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    begin(&mut world, Mode::Bypass, &source.frame(0, true, 500));
    source.tells = false;
    world.receive_all(&source.frame(1, true, 500));
    let left = left(&world);
    assert_eq!(frame_of(&left[1], &three_temporal_layers(60)), (65_531, 60));
}

/// Targets that are not sent, own DTIs, differences and chains.
#[test]
fn rule_14_what_a_frame_says_of_itself_stays() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    begin(&mut world, Mode::Bypass, &source.frame(0, true, 500));
    let own = "01111 011 101001 01 0011 00 00000100";
    let packet = &source.sender.frame_on(1, 0, 500)[0];
    world.receive(&carrying(packet, &[(IN, &descriptor(true, true, 62, 65_533, own))]));
    source.tells = false;
    world.receive_all(&source.frame(2, true, 500));
    let left = left(&world);
    assert_eq!(frame_of(&left[1], own), (65_533, 62));
    let repeated = three_temporal_layers(60).replacen("10000", "11000", 1);
    assert_eq!(frame_of(&left[2], &format!("{repeated} 011")).1, 60, "a structure alone would say that all are sent");
}

#[test]
fn rule_17_no_packet_is_above_1200_bytes_with_descriptors_in_either_form() {
    for target in [OUT, 200] {
        for mtu in (1130..1212).step_by(3) {
            for mode in [Mode::Bypass, Mode::Compress] {
                let (mut source, mut world) = (Layered::new(), between(IN, target, false));
                source.sender.mtu = mtu;
                let mut first = source.frame(0, true, 5000);
                let end = first.len() - 1;
                let place = |packet: &[u8], element: (u8, &[u8])| {
                    let descriptor = said_of(packet);
                    carrying(&[&packet[..12], source_payload(packet)].concat(), &[(IN, &descriptor), element])
                };
                first[0] = place(&first[0], (2, &[8; 8]));
                first[end] = place(&first[end], (3, &[1]));
                let (id_of_stream, _) = begin(&mut world, mode, &first);
                world.receive_all(&source.frame(1, false, 3 * (mtu - 30)));
                if mode == Mode::Compress {
                    assert!(world.submit(id_of_stream, 0, Some(&made(true, 0, NOTHING)), true));
                    assert!(world.submit(id_of_stream, 1, Some(&made(false, 1, MADE)), false));
                    assert!(world.media().iter().all(|left| left.bytes.len() <= 1198), "room to resend");
                }
                world.advance_ms(100);
                check(&world);
                assert_eq!(ids(&world).len(), 2);
                let media = world.media();
                let has = |left: &&Left, id: u8| elements(left).iter().any(|(own, _)| *own == id);
                assert!(media.iter().all(|left| has(&left, target)), "each has its descriptor");
                for id in [2, 3, EXTENSION_ID] {
                    let ours = usize::from(id == EXTENSION_ID);
                    assert_eq!(media.iter().filter(|left| has(left, id)).count(), 1 + ours, "{id}: none is lost");
                }
            }
        }
    }
}

/// A packet's descriptor as it came.
fn said_of(packet: &[u8]) -> Vec<u8> {
    let rtp = auralink_native::core::rtp::parse(packet).unwrap();
    let (profile, body) = rtp.extension.unwrap();
    auralink_native::core::ext::find(profile, body, IN).unwrap().to_vec()
}

#[test]
fn rule_24_numbers_and_ids_go_on_over_a_change_of_source() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    let (_, out) = begin(&mut world, Mode::Bypass, &source.frame(0, true, 500));
    (1..5).for_each(|id| world.receive_all(&source.frame(id, false, 500)));
    let mut other = Layered::new();
    (other.sender.ssrc, other.number, other.offset) = (SSRC + 1, 100, 3);
    (0..3).for_each(|id| world.receive_all(&other.frame(id, id == 0, 500))); // a new source has to prove itself
    let successor = world.stream();
    assert_eq!(world.link(successor), out, "the same out");
    world.set_mode(successor, Mode::Bypass);
    (3..6).for_each(|id| world.receive_all(&other.frame(id, false, 500)));
    let left = left(&world);
    assert_eq!(left.len(), 11);
    for (at, packets) in left.iter().enumerate() {
        // The same structure, so the ids stay.
        let structure = if at == 0 || at == 5 { three_temporal_layers(60) } else { String::new() };
        assert_eq!(frame_of(packets, &structure).0, 65_530u16.wrapping_add(at as u16));
    }
}

#[test]
fn layers_go_up_with_their_frames() {
    let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
    let mut tids = vec![0];
    begin(&mut world, Mode::Compress, &source.frame(0, true, 500));
    for id in 1..9 {
        tids.push(source.place(false).tid());
        world.receive_all(&source.frame(id, false, 500));
    }
    let up: Vec<(u8, u8, bool)> = world.frames.iter().map(|frame| (frame.tid, frame.sid, frame.discardable)).collect();
    assert_eq!(up, tids.into_iter().map(|tid| (tid, 0, tid == 2)).collect::<Vec<_>>());
    let (mut source, mut world) = (Spatial::new(), between(IN, OUT, false));
    begin(&mut world, Mode::Compress, &source.frame(0, true, 500));
    assert_eq!((world.frames[0].tid, world.frames[0].sid, world.frames[0].discardable), (0, 1, false));
}

#[test]
fn mangled_descriptors_break_nothing() {
    let mut absent = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let (mut source, mut world) = (Layered::new(), between(IN, OUT, false));
        begin(&mut world, Mode::Bypass, &source.frame(0, true, 2500));
        for id in 1..60 {
            let key = random.below(8) == 0;
            for mut packet in source.frame(id, key, 30 + random.below(4000) as usize) {
                if random.below(4) == 0 {
                    // Its length stays, or payloads would move.
                    let len = usize::from(packet[17]);
                    packet[18 + random.below(len as u64) as usize] = random.next() as u8;
                }
                world.receive(&packet);
            }
            world.advance_ms(33);
        }
        world.advance_ms(300);
        assert_whole(&world.media());
        for frame in left(&world) {
            absent += usize::from(frame[0].1.is_none());
            assert_eq!(frame.iter().filter(|(_, said)| said.is_none()).count() % frame.len(), 0, "all packets or none");
        }
    }
    assert!(absent > 10, "{absent} frames without a descriptor");
}
