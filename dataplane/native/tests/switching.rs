//! Native and compressed frames share one output; they change places at keys only.

mod common;
use auralink_native::core::Drop;
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::Event;
use auralink_native::core::shard::Input;
use common::*;
use proptest::prelude::*;

const FALLBACK: u8 = 0x01;
const KEY: u8 = 0x02;
const SWITCH: u8 = 0x04;

fn compressed(id: u64, key: bool) -> Vec<u8> {
    if key { annex_b(&[SPS.to_vec(), PPS.to_vec(), idr(id, 300)]) } else { annex_b(&[predicted(id, 200)]) }
}

/// Rule 26.
#[test]
fn submitted_frames_leave_in_order_with_the_sources_timestamps() {
    let mut sender = Sender::new(0, 4_000_000_000);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    for id in 1..6 {
        world.receive_all(&sender.delta(id, 2000));
    }
    assert!(world.seen().is_empty(), "COMPRESS frames wait for their answer");
    for id in [3, 1, 5, 2, 4, 0] {
        assert!(world.submit(stream, id, Some(&compressed(100 + id, id == 0)), id == 0));
    }
    let frames = world.seen();
    assert_eq!(ids(&frames), [100, 101, 102, 103, 104, 105]);
    for (frame, native) in frames.iter().zip(&world.frames) {
        assert_eq!(frame.timestamp, native.timestamp as u32);
    }
}

#[test]
fn frame_sent_tells_when_the_last_packet_left() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    let large = annex_b(&[SPS.to_vec(), PPS.to_vec(), idr(9, 40_000)]);
    assert!(world.submit(stream, 0, Some(&large), true));
    let told = |world: &World| world.events.iter().any(|e| matches!(e, Event::FrameSent { frame_id: 0, .. }));
    assert!(!told(&world), "the rest is paced");
    let begun = world.now;
    world.advance_ms(40);
    assert!(told(&world));
    let packets = world.media();
    let at_once = packets.iter().filter(|left| left.at == begun).count();
    assert_eq!(at_once, 16);
    assert!((packets.last().unwrap().at - begun).as_millis() <= 17);
    let Some(Event::FrameSent { packets: counted, .. }) = world.events.last() else { panic!() };
    assert_eq!(*counted as usize, packets.len());
}

/// Rule 23.
#[test]
fn a_switch_off_a_key_is_refused_counted_and_leaves_no_gap() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, out) = World::started(false, Mode::Compress, &mut sender);
    (1..5).for_each(|id| world.receive_all(&sender.delta(id, 2000)));
    world.receive_all(&sender.key(5, 2000));
    assert!(world.submit(stream, 0, Some(&compressed(100, true)), true));
    assert!(world.submit(stream, 1, Some(&compressed(101, false)), false));
    assert!(!world.submit(stream, 2, None, false), "native off a key");
    assert!(world.submit(stream, 3, Some(&compressed(103, false)), false), "the compressed run goes on");
    assert!(!world.submit(stream, 4, None, false));
    assert!(world.submit(stream, 5, None, true), "native at a native key");
    assert_eq!(ids(&world.seen()), [100, 101, 103, 5]);
    assert_eq!(world.out_stat(out, "illegal_switch"), 2);
    assert!(!world.submit(stream, 9, None, false), "no such frame");
    assert_eq!(world.drops("unknown_frame"), 1);
}

#[test]
fn the_core_sets_the_flags_it_knows() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    world.receive_all(&sender.delta(1, 2000));
    world.receive_all(&sender.key(2, 2000));
    world.receive_all(&sender.delta(3, 2000));
    world.submit(stream, 0, Some(&compressed(100, true)), true);
    world.submit(stream, 1, Some(&compressed(101, false)), false);
    world.submit(stream, 2, None, true);
    world.submit(stream, 3, None, false);
    let flags: Vec<u8> = world.seen().iter().map(|frame| frame.extension.unwrap()[9] & 7).collect();
    assert_eq!(flags, [KEY, 0, FALLBACK | KEY | SWITCH, FALLBACK]);
    let native = world.seen()[2].extension.unwrap();
    assert_eq!(native, [1, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0x07, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn bypass_carries_the_extension_only_where_a_policy_is_on() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Bypass, &mut sender);
    let policy = |extension, degraded| Policy { mode: Mode::Bypass, extension, degraded };
    world.shard.set_mode(stream, policy(false, false), None, world.now());
    world.receive_all(&sender.delta(1, 2000));
    world.shard.set_mode(stream, policy(true, true), None, world.now());
    world.receive_all(&sender.delta(2, 2000));
    let flags: Vec<Option<u8>> = world.seen().iter().map(|frame| frame.extension.map(|ext| ext[9])).collect();
    assert_eq!(flags, [Some(0x03), None, Some(0x21)]);
}

#[test]
fn shadow_sends_native_at_once_and_a_copy_to_python() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Shadow, &mut sender);
    world.receive_all(&sender.delta(1, 2000));
    assert_eq!(ids(&world.seen()), [0, 1]);
    assert_eq!(
        world.frames.iter().map(|f| (f.frame_id, f.mode)).collect::<Vec<_>>(),
        [(0, Mode::Shadow), (1, Mode::Shadow)]
    );
}

#[test]
fn hold_sends_nothing_until_a_mode_starts_at_a_key() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    world.receive_all(&sender.delta(1, 2000));
    world.shard.hold(stream, world.now());
    world.settle();
    assert!(!world.submit(stream, 0, Some(&compressed(100, true)), true), "what was in flight is gone");
    world.receive_all(&sender.key(2, 2000));
    world.set_mode(stream, Mode::Bypass);
    world.receive_all(&sender.delta(3, 2000));
    world.receive_all(&sender.key(4, 2000));
    assert_eq!(ids(&world.seen()), [4]);
    assert!(world.events.contains(&Event::ModeApplied { stream, mode: Mode::Bypass, frame_id: 4 }));
}

#[test]
fn seventeen_unanswered_frames_fail_the_stream_once() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    (1..40).for_each(|id| world.receive_all(&sender.delta(id, 200)));
    let failures = world.events.iter().filter(|e| matches!(e, Event::StreamFailed { .. })).count();
    assert_eq!(failures, 1);
    assert_eq!(world.frames.len(), 16);
    world.set_mode(stream, Mode::Bypass);
    world.receive_all(&sender.delta(40, 200));
    world.receive_all(&sender.key(41, 200));
    assert_eq!(ids(&world.seen()), [41]);
}

#[test]
fn an_out_linked_in_mid_stream_starts_at_a_key() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, first) = World::started(false, Mode::Compress, &mut sender);
    world.submit(stream, 0, Some(&compressed(100, true)), true);
    world.shard.unlink(first, world.now());
    world.left.clear();
    let second = world.link(stream);
    assert!(world.events.contains(&Event::OutNeedsKey { out: second, stream }));
    world.receive_all(&sender.delta(1, 200));
    world.receive_all(&sender.delta(2, 200));
    assert!(world.submit(stream, 1, Some(&compressed(101, false)), false));
    assert!(world.submit(stream, 2, Some(&compressed(102, true)), true), "an IDR of the encoder's own");
    assert_eq!(ids(&world.seen()), [102]);
    assert_eq!(world.drops("out_needs_key"), 1);
}

#[test]
fn frames_from_the_first_key_wait_for_link_and_mode() {
    let mut sender = Sender::new(0, 0);
    let mut world = World::new(false);
    world.receive_all(&sender.key(0, 200));
    (1..10).for_each(|id| world.receive_all(&sender.delta(id, 200)));
    let stream = world.stream();
    world.set_mode(stream, Mode::Bypass);
    world.link(stream);
    assert_eq!(ids(&world.seen()), (0..10).collect::<Vec<_>>());
}

#[test]
fn an_answer_that_is_no_frame_is_refused() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    (1..4).for_each(|id| world.receive_all(&sender.delta(id, 200)));
    assert!(!world.submit(stream, 0, Some(b"not a frame"), true));
    assert!(!world.submit(stream, 1, Some(&annex_b(&[SPS.to_vec()])), true));
    assert!(!world.submit(stream, 2, Some(&compressed(1, false)), true), "no IDR in a key");
    assert!(!world.submit(stream, 3, Some(&vec![0; 3 << 20]), true));
    assert_eq!(world.drops("bad_submit"), 4);
    assert!(world.seen().is_empty());
}

/// Rule 23. Whoever submits hears of a refusal later than it happens, and may have submitted the next frame by then.
#[test]
fn what_refers_to_a_refused_answer_is_refused_until_a_key_and_each_is_told() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    (1..6).for_each(|id| world.receive_all(&sender.delta(id, 200)));
    world.submit(stream, 0, Some(&compressed(100, true)), true);
    world.submit(stream, 2, Some(&compressed(102, false)), false); // waits for the one before
    world.submit(stream, 1, Some(b"not a frame"), false);
    world.submit(stream, 3, None, false);
    world.submit(stream, 4, Some(&compressed(104, true)), true);
    world.submit(stream, 5, Some(&compressed(105, false)), false);
    assert_eq!(ids(&world.seen()), [100, 104, 105]);
    let refused: Vec<_> = world.events.iter().filter(|e| matches!(e, Event::SubmitRefused { .. })).collect();
    let told = |frame_id, native, reason| Event::SubmitRefused { stream, frame_id, native, reason };
    let expected =
        [told(1, false, Drop::BadSubmit), told(2, false, Drop::IllegalSwitch), told(3, true, Drop::IllegalSwitch)];
    assert_eq!(refused, expected.iter().collect::<Vec<_>>());
}

#[test]
fn lost_commands_fail_their_stream_even_while_it_is_held() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    world.shard.hold(stream, world.now());
    world.shard.handle(Input::CommandsLost { stream, commands: 3 }, world.now());
    world.settle();
    assert!(matches!(world.events.last(), Some(Event::StreamFailed { .. })));
    assert_eq!(world.drops("command_overflow"), 3);
    world.set_mode(stream, Mode::Bypass);
    world.receive_all(&sender.key(1, 200));
    assert_eq!(ids(&world.seen()), [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Native,
    Compressed { own_key: bool },
    Dropped,
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    let step = prop_oneof![
        3 => Just(Step::Native),
        4 => any::<bool>().prop_map(|own_key| Step::Compressed { own_key }),
        1 => Just(Step::Dropped),
    ];
    proptest::collection::vec((prop::bool::weighted(0.2), step), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever Python answers: every frame that leaves can be decoded from those that left before it.
    #[test]
    fn no_answer_breaks_the_picture(steps in steps()) {
        let mut sender = Sender::new(65_500, u32::MAX - 30_000);
        let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
        world.submit(stream, 0, None, true);
        for (i, (key, step)) in steps.iter().enumerate() {
            let id = i as u64 + 1;
            world.receive_all(&if *key { sender.key(id, 1500) } else { sender.delta(id, 1500) });
            match step {
                Step::Native => { world.submit(stream, id, None, *key); }
                Step::Compressed { own_key } => {
                    world.submit(stream, id, Some(&compressed(1000 + id, *own_key)), *own_key);
                }
                Step::Dropped => { world.shard.drop_frame(stream, id, world.now()); world.settle(); }
            }
            world.advance_ms(33);
        }
        let frames = world.seen(); // contiguous numbers, one SSRC, under the MTU
        let mut last = None;
        for (id, frame) in ids(&frames).into_iter().zip(&frames) {
            let (key, native) = (frame.nals.len() > 1, id < 1000);
            if !key {
                let (last_id, last_native): (u64, bool) = last.unwrap();
                prop_assert_eq!(native, last_native, "kind changes on keys only");
                prop_assert!(!native || id == last_id + 1, "a native frame follows its reference");
            }
            prop_assert_eq!(frame.extension.unwrap()[9] & FALLBACK != 0, native);
            last = Some((id, native));
        }
        prop_assert_eq!(ids(&frames)[0], 0);
    }
}
