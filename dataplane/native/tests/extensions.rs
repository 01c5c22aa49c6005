//! Header extensions that are not ours: kept by URI over legs whose ids differ, within the MTU.

mod common;
use auralink_native::core::elements::Ids;
use auralink_native::core::ext;
use auralink_native::core::leg_plain::Direction;
use auralink_native::core::mode::Mode;
use auralink_native::core::{SockId, StreamId};
use common::*;

const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const ORIENTATION: &str = "urn:3gpp:video-orientation";
const CAPTURE: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const IN_AUDIO: SockId = SockId(12);
const OUT_AUDIO: SockId = SockId(22);

fn ids(ids: &[(u8, &str)]) -> Ids {
    Ids::new(ids.iter().map(|(id, uri)| (*id, (*uri).to_owned())))
}

fn between(source: &[(u8, &str)], target: &[(u8, &str)]) -> World {
    let mut from = config(Direction::Receive, true, Some(sender()));
    let mut to = config(Direction::Send, true, Some(receiver()));
    (from.ids, to.ids, to.extension_id) = (ids(source), ids(target), 3);
    World::between(from, to)
}

fn start(world: &mut World, mode: Mode, first: &[Vec<u8>]) -> StreamId {
    world.receive_all(first);
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, mode);
    stream
}

/// A packet with elements in the one-byte form.
fn carrying(packet: &[u8], elements: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body: Vec<u8> = Vec::new();
    for (id, value) in elements {
        body.push(id << 4 | (value.len() - 1) as u8);
        body.extend(*value);
    }
    body.resize(body.len().next_multiple_of(4), 0);
    let mut bytes = packet[..12].to_vec();
    bytes[0] |= 0x10;
    bytes.extend([0xbe, 0xde, 0, (body.len() / 4) as u8]);
    [bytes, body, packet[12..].to_vec()].concat()
}

fn elements(left: &Left) -> (u16, Vec<(u8, Vec<u8>)>) {
    let Some((profile, body)) = left.rtp().extension else { return (0, Vec::new()) };
    (profile, ext::each(profile, body).map(|(id, value)| (id, value.to_vec())).collect())
}

/// Rule 20.
#[test]
fn ids_that_two_legs_use_the_other_way_round_are_swapped_and_what_is_of_one_hop_stays_behind() {
    let mut world = between(&[(1, LEVEL), (2, CAPTURE), (4, MID)], &[(2, LEVEL), (1, CAPTURE), (4, MID)]);
    let plain = packet(0xaaaa, AUDIO_PT, 1, 960, false, &[7]);
    world.receive_from(IN_AUDIO, sender(), &plain);
    let stream = world.stream();
    world.link(stream);
    let mut next = plain.clone();
    next[3] = 2;
    world.receive_from(IN_AUDIO, sender(), &carrying(&next, &[(1, &[0x85]), (2, &[9; 8]), (4, b"a"), (9, &[1])]));
    let left = world.left.iter().find(|left| left.sock == OUT_AUDIO).unwrap();
    assert_eq!(elements(left), (0xbede, vec![(2, vec![0x85]), (1, vec![9; 8])]));
    assert_eq!(left.rtp().payload, [7]);
}

/// Rules 19 and 20: ours and the capture time on the first packet, the orientation on the last, native or compressed.
#[test]
fn a_frames_elements_are_on_its_first_packet_and_its_orientation_on_the_last() {
    for mode in [Mode::Bypass, Mode::Compress] {
        let mut sender = Sender::new(0, 0);
        let mut world = between(&[(1, ORIENTATION), (2, CAPTURE)], &[(1, CAPTURE), (2, ORIENTATION)]);
        let stream = start(&mut world, mode, &sender.key(0, 500));
        let mut frame = sender.key(1, 3000);
        let end = frame.len() - 1;
        frame[0] = carrying(&frame[0], &[(2, &[8; 8])]);
        frame[end] = carrying(&frame[end], &[(1, &[0x03])]);
        world.receive_all(&frame);
        world.receive_all(&sender.delta(2, 500));
        if mode == Mode::Compress {
            for id in 0..3 {
                let key = [SPS.to_vec(), PPS.to_vec(), idr(id, 3000)];
                let frame = if id < 2 { annex_b(&key) } else { annex_b(&[predicted(id, 3000)]) };
                assert!(world.submit(stream, id, Some(&frame), id < 2));
            }
        }
        world.advance_ms(100);
        let media = world.media();
        let mut frames: Vec<Vec<&Left>> = vec![Vec::new()];
        for left in &media {
            frames.last_mut().unwrap().push(left);
            if left.rtp().marker {
                frames.push(Vec::new());
            }
        }
        let with = &frames[1];
        let (first, last) = (elements(with[0]).1, elements(with[with.len() - 1]).1);
        assert_eq!((first[0].0, first[0].1.len(), &first[1..]), (3, 16, &[(1, vec![8; 8])][..]), "{mode:?}");
        assert_eq!(last, [(2, vec![0x03])], "{mode:?}");
        assert!(with[1..with.len() - 1].iter().all(|left| left.rtp().extension.is_none()));
        for other in [&frames[0], &frames[2]] {
            assert_eq!(elements(other[0]).1.len(), 1, "ours alone");
        }
    }
}

/// Rule 18.
#[test]
fn an_id_above_14_puts_the_packet_that_has_it_into_the_two_byte_form() {
    let mut sender = Sender::new(0, 0);
    let mut world = between(&[(2, CAPTURE)], &[(20, CAPTURE)]);
    start(&mut world, Mode::Bypass, &sender.key(0, 500));
    let mut frame = sender.delta(1, 500);
    frame[0] = carrying(&frame[0], &[(2, &[8; 8])]);
    world.receive_all(&frame);
    let (profile, found) = elements(world.media().last().unwrap());
    assert_eq!((profile, found[0].0, &found[1]), (0x1000, 3, &(20, vec![8; 8])));
    world.receive_all(&sender.delta(2, 500));
    assert_eq!(elements(world.media().last().unwrap()).0, 0xbede);
}

/// Rule 17.
#[test]
fn frames_with_elements_stay_below_the_mtu_whatever_their_sender_cut() {
    for mtu in 1120..1200 {
        let mut sender = Sender { mtu, ..Sender::new(0, 0) };
        let mut world = between(&[(1, ORIENTATION), (2, CAPTURE)], &[(15, CAPTURE), (16, ORIENTATION)]);
        start(&mut world, Mode::Bypass, &sender.key(0, 500));
        let nals = [predicted(1, 2 * mtu - 3)]; // the last packet is full, too
        let mut frame = sender.frame(&nals);
        let end = frame.len() - 1;
        frame[0] = carrying(&frame[0], &[(2, &[8; 8])]);
        frame[end] = carrying(&frame[end], &[(1, &[0x03])]);
        world.receive_all(&frame);
        let media = world.media();
        let packets: Vec<&Left> = media.iter().filter(|left| left.rtp().timestamp == FRAME_TICKS).collect();
        assert!(packets.iter().all(|left| left.bytes.len() <= 1200));
        let carried: usize = packets.iter().map(|left| elements(left).1.len()).sum();
        assert_eq!(carried, 3, "none is lost for want of room");
        let payloads: Vec<Vec<u8>> = packets.iter().map(|left| left.rtp().payload.to_vec()).collect();
        assert_eq!(common::nals(&payloads), nals);
    }
}

/// Elements of a frame that never became whole are those of no other frame, and what is remembered is bounded.
#[test]
fn elements_of_lost_frames_are_forgotten() {
    let mut sender = Sender::new(0, 0);
    let mut world = between(&[(2, CAPTURE)], &[(1, CAPTURE)]);
    start(&mut world, Mode::Bypass, &sender.key(0, 500));
    let mut broken = sender.delta(1, 3000);
    broken[0] = carrying(&broken[0], &[(2, &[8; 8])]);
    broken.remove(1);
    world.receive_all(&broken);
    world.receive_all(&sender.key(2, 500));
    world.advance_ms(300);
    let media = world.media();
    assert_eq!(ids_of(&media), [0, 2]);
    assert!(media.iter().all(|left| elements(left).1.iter().all(|(id, _)| *id == 3)), "ours alone");
}

/// The slices of the frames, by `slice`'s id.
fn ids_of(media: &[Left]) -> Vec<u64> {
    media.iter().filter(|left| left.rtp().marker).map(|left| id_of(left.rtp().payload)).collect()
}

/// Rule 17: with the other leg's ids the elements take more room than the sender left.
#[test]
fn red_that_would_be_above_1200_bytes_leaves_as_its_primary_block() {
    const CAPTURE: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    let ids = |a, b| Ids::new([(a, LEVEL.to_owned()), (b, CAPTURE.to_owned())]);
    let mut source = config(Direction::Receive, false, Some(sender()));
    let mut target = config(Direction::Send, false, Some(receiver()));
    (source.ids, target.ids) = (ids(1, 2), ids(20, 21));
    (source.media[1].payloads[0].red, target.media[1].payloads[0].red) = (Some(63), Some(113));
    let mut world = World::between(source, target);
    let red = |number: u16| {
        let mut packet = packet(0xaaaa, 63, number, u32::from(number) * 960, false, &[]);
        packet[0] |= 0x10;
        packet.extend([0xbe, 0xde, 0, 3, 0x10, 0x85, 0x27, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        packet.push(0x80 | AUDIO_PT);
        packet.extend(&(960u32 << 10 | 580).to_be_bytes()[1..]);
        packet.push(AUDIO_PT);
        packet.resize(1200, 7);
        packet
    };
    world.receive_from(SockId(12), sender(), &red(1));
    let stream = world.stream();
    world.link(stream);
    world.receive_from(SockId(12), sender(), &red(2));
    let left: Vec<&Left> = world.left.iter().filter(|left| left.sock == SockId(22)).collect();
    assert!(!left.is_empty());
    for left in left {
        assert!(left.bytes.len() <= 1200);
        assert_eq!(left.rtp().payload_type, AUDIO_PT);
    }
}
