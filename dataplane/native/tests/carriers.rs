//! AuraLink's value in the bitstream itself, beside the header extension or in its stead. What a receiver finds there is
//! read here, by the specifications of the codecs and sharing no code with the crate. A test has the number of its rule.

mod common;
use auralink_native::core::carrier::Carrier;
use auralink_native::core::leg_plain::Direction;
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::{OutId, StreamId};
use common::h265::Picture;
use common::*;

const UUID: [u8; 16] = [0xbc, 0xb8, 0x16, 0x69, 0x19, 0x50, 0x5d, 0x02, 0x87, 0xdc, 0xd7, 0x6c, 0xf5, 0x49, 0xa9, 0x8c];
const AUD: [u8; 2] = [0x09, 0xf0];
/// In front of the picture, and none of ours.
const OTHER_SEI: [u8; 5] = [0x06, 0x06, 0x01, 0xc4, 0x80];

fn world(carrier: Carrier) -> World {
    let mut target = config(Direction::Send, false, Some(receiver()));
    target.carrier = carrier;
    World::between(config(Direction::Receive, false, Some(sender())), target)
}

fn start(world: &mut World, mode: Mode, first: &[Vec<u8>]) -> (StreamId, OutId) {
    world.receive_all(first);
    let stream = world.stream();
    let out = world.link(stream);
    world.set_mode(stream, mode);
    (stream, out)
}

/// What an SEI message of ours says; `payload` is what follows the NAL header.
fn read_sei(payload: &[u8]) -> Option<[u8; 16]> {
    let (mut message, mut zeros) = (Vec::new(), 0);
    for byte in payload {
        if zeros >= 2 && *byte == 3 {
            zeros = 0; // emulation prevention
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        message.push(*byte);
    }
    let ours = message.len() == 35 && message[..2] == [5, 32] && message[2..18] == UUID && message[34] == 0x80;
    ours.then(|| message[18..34].try_into().unwrap())
}

/// A unit's values, and the others in their order; ours must stand in front of the first that `is_picture`.
fn taken_out(
    units: &[Vec<u8>],
    is_picture: impl Fn(&[u8]) -> bool,
    value: impl Fn(&[u8]) -> Option<[u8; 16]>,
) -> (Vec<[u8; 16]>, Vec<Vec<u8>>) {
    let (ours, others): (Vec<usize>, Vec<usize>) = (0..units.len()).partition(|at| value(&units[*at]).is_some());
    let picture = units.iter().position(|unit| is_picture(unit)).expect("a picture");
    assert!(ours.iter().all(|at| at + 1 == picture), "in front of the picture, behind all else: {units:02x?}");
    let values = ours.iter().filter_map(|at| value(&units[*at])).collect();
    (values, others.iter().map(|at| units[*at].clone()).collect())
}

fn h264(units: &[Vec<u8>]) -> (Vec<[u8; 16]>, Vec<Vec<u8>>) {
    let value = |unit: &[u8]| read_sei(&unit[1..]).filter(|_| unit[0] == 6);
    taken_out(units, |unit| matches!(unit[0] & 0x1f, 1..=5 | 14), value)
}

/// The temporal id of the SEI is its picture's, or the first of several pictures would not be decoded without the rest.
fn h265(units: &[Vec<u8>]) -> (Vec<[u8; 16]>, Vec<Vec<u8>>) {
    let slice = units.iter().find(|unit| unit[0] >> 1 < 32).unwrap();
    let value = |unit: &[u8]| read_sei(&unit[2..]).filter(|_| unit[..2] == [39 << 1, slice[1]]);
    taken_out(units, |unit| unit[0] >> 1 < 32, value)
}

fn av1(obus: &[Vec<u8>]) -> (Vec<[u8; 16]>, Vec<Vec<u8>>) {
    let value = |obu: &[u8]| {
        let ours = obu.len() == 35 && obu[..2] == [0x28, 30] && obu[2..18] == UUID && obu[34] == 0x80;
        ours.then(|| obu[18..34].try_into().unwrap())
    };
    taken_out(obus, |obu| matches!(obu[0] >> 3, 3 | 6), value)
}

fn stap(units: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0x78];
    for unit in units {
        out.extend((unit.len() as u16).to_be_bytes());
        out.extend(unit);
    }
    out
}

/// A frame of these payloads.
fn packed(sender: &mut Sender, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (timestamp, end) = (sender.timestamp, payloads.len() - 1);
    sender.timestamp = sender.timestamp.wrapping_add(FRAME_TICKS);
    let mut out = Vec::new();
    for (at, payload) in payloads.iter().enumerate() {
        out.push(packet(SSRC, VIDEO_PT, sender.sequence, timestamp, at == end, payload));
        sender.sequence = sender.sequence.wrapping_add(1);
    }
    out
}

#[test]
fn rule_22_h264_has_it_in_front_of_the_picture_however_its_sender_packed() {
    let key = |id, len| vec![AUD.to_vec(), SPS.to_vec(), PPS.to_vec(), OTHER_SEI.to_vec(), idr(id, len)];
    let prefix = vec![0x6e, 0x40, 0x50, 0x07]; // in front of a slice of an encoder with temporal layers
    let layered = |id| vec![prefix.clone(), predicted(id, 300), prefix.clone(), predicted(id, 40)];
    let frames: [(Vec<Vec<u8>>, bool); 6] = [
        (key(1, 3000), false),
        (key(2, 60), true), // all of it in one packet
        (vec![SPS.to_vec(), PPS.to_vec(), idr(3, 60), idr(3, 70)], true),
        (vec![predicted(4, 5000), predicted(4, 200)], false),
        (layered(5), false),
        (layered(6), true),
    ];
    let mut sender = Sender::new(0, 0);
    let mut world = world(Carrier::InBand);
    start(&mut world, Mode::Bypass, &sender.key(0, 500));
    for (units, together) in &frames {
        let packets = if *together { packed(&mut sender, &[stap(units)]) } else { sender.frame(units) };
        world.receive_all(&packets);
    }
    world.advance_ms(100);
    let seen = world.seen();
    assert_eq!(seen.len(), 7);
    for (at, frame) in seen.iter().enumerate() {
        let (values, others) = h264(&frame.nals);
        assert_eq!(values, [frame.extension.unwrap()], "frame {at}");
        if at > 0 {
            assert_eq!(others, frames[at - 1].0, "frame {at}");
        }
    }
}

#[test]
fn rule_22_frames_of_an_encoder_have_its_value() {
    let mut sender = Sender::new(0, 0);
    let mut world = world(Carrier::InBand);
    let (stream, _) = start(&mut world, Mode::Compress, &sender.key(0, 500));
    world.receive_all(&sender.delta(1, 500));
    let (first, second) = ([SPS.to_vec(), PPS.to_vec(), idr(0, 3000)], [predicted(1, 100)]);
    assert!(world.submit(stream, 0, Some(&annex_b(&first)), true));
    assert!(world.submit(stream, 1, Some(&annex_b(&second)), false));
    world.advance_ms(100);
    let seen = world.seen();
    for (frame, (units, flags)) in seen.iter().zip([(&first[..], 0x02), (&second[..], 0x00)]) {
        let mut value = [1; 16]; // as submitted, but for the flags that the core knows
        value[9] = flags;
        assert_eq!(h264(&frame.nals), (vec![value], units.to_vec()));
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn rule_22_h265_has_it_in_front_of_the_picture_however_its_sender_packed() {
    for format in h265::formats() {
        let mut sender = h265::Sender::new(format);
        let mut world = world(Carrier::InBand);
        start(&mut world, Mode::Bypass, &sender.frame(Picture::Idr, 0, &[], 60));
        for (id, picture, len) in [(1, Picture::Trailing, 2500), (2, Picture::Idr, 2500), (3, Picture::Trailing, 40)] {
            let needs: &[u64] = if picture.key() { &[] } else { &[id - 1] };
            world.receive_all(&sender.frame(picture, id, needs, len));
        }
        world.advance_ms(100);
        let read = h265::read(&world.media());
        assert!(read.len() >= if format.numbered { 2 } else { 4 }, "{format:?}"); // its first key may be lost
        for frame in read {
            let (values, others) = h265(&frame.units);
            assert_eq!(values, [frame.extension.unwrap()], "{format:?}");
            assert_eq!(others, sender.sent[&frame.id()], "{format:?}");
        }
    }
}

#[test]
fn rule_22_av1_has_it_in_front_of_the_picture_however_its_sender_packed() {
    for format in common::av1::formats() {
        for len in [60, 2500] {
            let mut sender = common::av1::Sender::new(format);
            let mut world = world(Carrier::InBand);
            start(&mut world, Mode::Bypass, &sender.frame(0, true, len));
            (1..4).for_each(|id| world.receive_all(&sender.frame(id, id == 2, len)));
            world.advance_ms(100);
            let read = common::av1::read(&world.media());
            assert_eq!(read.len(), 4);
            for (id, unit) in read.iter().enumerate() {
                let (values, others) = av1(&unit.obus);
                assert_eq!(values, [unit.extension.unwrap()], "{format:?}");
                assert_eq!(others, sender.sent[&(id as u64)], "{format:?}");
                assert_eq!(unit.new, id % 2 == 0, "N on the first packet of a key, and there alone");
            }
        }
    }
}

#[test]
fn rule_22_vp8_and_vp9_have_no_place_for_it_and_are_as_without() {
    for format in [vpx::VP8, vpx::VP9] {
        let left = [Carrier::None, Carrier::InBand].map(|carrier| {
            let mut sender = vpx::Sender::new(format);
            let mut world = world(carrier);
            start(&mut world, Mode::Bypass, &sender.frame(0, true, 3000));
            world.receive_all(&sender.frame(1, false, 3000));
            world.advance_ms(100);
            world.media().iter().map(|left| left.rtp().payload.to_vec()).collect::<Vec<_>>()
        });
        assert_eq!(left[0], left[1]);
    }
}

/// The packets that left one bridge, as another gets them.
fn over(world: &World) -> Packets {
    world.media().into_iter().map(|left| left.bytes).collect()
}

type Packets = Vec<Vec<u8>>;

/// Frames of three codecs with carriers, as a bridge in front of us sends them; and without: what it was sent itself.
fn from_a_bridge() -> [(Packets, Packets); 3] {
    let (mut h264, mut h265) = (Sender::new(0, 0), h265::Sender::new(h265::PLAIN));
    let mut av1 = common::av1::Sender::new(common::av1::PLAIN);
    let frames: [Vec<Packets>; 3] = [
        vec![h264.key(0, 3000), h264.delta(1, 500), packed(&mut h264, &[stap(&[AUD.to_vec(), predicted(2, 60)])])],
        vec![h265.frame(Picture::Idr, 0, &[], 3000), h265.frame(Picture::Trailing, 1, &[0], 500)],
        (0..3).map(|id| av1.frame(id, id == 0, 2000)).collect(),
    ];
    frames.map(|frames| {
        let mut world = world(Carrier::InBand);
        start(&mut world, Mode::Bypass, &frames[0]);
        frames[1..].iter().for_each(|frame| world.receive_all(frame));
        world.advance_ms(100);
        (over(&world), frames.concat())
    })
}

/// What Python gets.
fn given(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut world = world(Carrier::None);
    start(&mut world, Mode::Compress, packets);
    world.frames.iter().map(|frame| frame.data.clone()).collect()
}

#[test]
fn rule_22_what_comes_in_with_it_goes_to_the_ai_core_without() {
    for (with, without) in from_a_bridge() {
        let frames = given(&with);
        assert!(frames.len() > 1);
        assert_eq!(frames, given(&without));
    }
}

#[test]
fn rule_22_what_comes_in_with_it_goes_out_with_ours_or_without() {
    let [(in_h264, _), (in_h265, _), (in_av1, _)] = from_a_bridge();
    for carrier in [Carrier::None, Carrier::InBand] {
        let left = [in_h264.clone(), in_h265.clone(), in_av1.clone()].map(|packets| {
            let mut world = world(carrier);
            start(&mut world, Mode::Bypass, &packets);
            world.advance_ms(100);
            world.media()
        });
        let mut found = Vec::new();
        seen(&left[0]).iter().for_each(|frame| found.push((h264(&frame.nals).0, frame.extension)));
        h265::read(&left[1]).iter().for_each(|frame| found.push((h265(&frame.units).0, frame.extension)));
        common::av1::read(&left[2]).iter().for_each(|unit| found.push((av1(&unit.obus).0, unit.extension)));
        assert_eq!(found.len(), 8);
        for (values, extension) in found {
            assert_eq!(values, if carrier == Carrier::None { vec![] } else { vec![extension.unwrap()] });
        }
    }
}

/// Whoever cut our packets anew.
#[test]
fn rule_22_a_carrier_in_fragments_is_left_out_too() {
    let value = [7; 16];
    let sei = [&[0x06, 5, 32][..], &UUID, &value, &[0x80]].concat();
    let mut sender = Sender { mtu: 30, ..Sender::new(0, 0) };
    let first = sender.frame(&[SPS.to_vec(), PPS.to_vec(), sei.clone(), OTHER_SEI.to_vec(), idr(0, 100)]);
    let expected = [SPS.to_vec(), PPS.to_vec(), OTHER_SEI.to_vec(), idr(0, 100)];
    assert_eq!(given(&first), [annex_b(&expected)]);
    let mut world = world(Carrier::None);
    start(&mut world, Mode::Bypass, &first);
    assert_eq!(world.seen()[0].nals, expected);
}

#[test]
fn rule_22_frames_without_the_header_extension_have_no_carrier() {
    let mut sender = Sender::new(0, 0);
    let mut world = world(Carrier::InBand);
    world.receive_all(&sender.key(0, 500));
    let stream = world.stream();
    world.link(stream);
    let policy = Policy { mode: Mode::Bypass, extension: false, degraded: false };
    assert!(world.shard.set_mode(stream, policy, None, world.now()));
    world.settle();
    world.receive_all(&sender.delta(1, 500));
    let frames: Vec<_> = world.seen().into_iter().map(|frame| (frame.extension, frame.nals)).collect();
    let key = vec![SPS.to_vec(), PPS.to_vec(), idr(0, 500)];
    assert_eq!(frames, [(None, key), (None, vec![predicted(1, 500)])]);
}

/// Rule 17 with carriers: `seen` checks the size of every packet.
#[test]
fn rule_17_packets_with_carriers_stay_below_the_mtu_whatever_their_sender_cut() {
    for mtu in (60..1400).step_by(7).chain(1150..1200) {
        let mut sender = Sender { mtu, ..Sender::new(0, 0) };
        let mut world = world(Carrier::InBand);
        start(&mut world, Mode::Bypass, &sender.key(0, 500));
        let sei = slice(0x06, 9, 1100);
        let units = [SPS.to_vec(), sei, PPS.to_vec(), idr(1, 2 * mtu - 3)];
        world.receive_all(&sender.frame(&units));
        let together = [SPS.to_vec(), PPS.to_vec(), slice(0x06, 9, 20 + mtu / 3), idr(2, mtu / 3)];
        world.receive_all(&packed(&mut sender, &[stap(&together)]));
        world.advance_ms(100);
        let seen = world.seen();
        assert_eq!(h264(&seen[1].nals).1, units);
        assert_eq!(h264(&seen[2].nals).1, together);
        assert!(world.media().iter().all(|left| left.bytes.len() <= 1200));
    }
}
