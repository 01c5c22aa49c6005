//! RTCP in both directions: reports, key requests, retransmission.

mod common;
use auralink_native::core::leg_plain::{Direction, Sockets};
use auralink_native::core::mode::{Mode, Policy};
use auralink_native::core::output::Event;
use auralink_native::core::reports::Ntp;
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::{OutId, SockId, Time};
use common::receiver::Receiver;
use common::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn fed_back(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.receiver_report(99, &[]);
    write(&mut writer);
    writer.finish()
}

fn fir(sender: u32, media: u32, number: u8) -> Vec<u8> {
    let mut bytes = fed_back(|_| {});
    bytes.extend([0x84, 206, 0, 4]);
    for word in [sender, 0, media, u32::from(number) << 24] {
        bytes.extend(word.to_be_bytes());
    }
    bytes
}

/// RTCP that left on one of the sockets.
fn sent(world: &World, sock: auralink_native::core::SockId) -> Vec<(u64, Rtcp)> {
    let on = world.left.iter().filter(|left| left.sock == sock);
    on.flat_map(|left| {
        let ms = (left.at - Time::from_millis(1000)).as_millis() as u64;
        rtcp::parse(&left.bytes).unwrap().into_iter().map(move |packet| (ms, packet))
    })
    .collect()
}

fn plis(world: &World) -> Vec<u64> {
    let upstream = sent(world, IN_RTCP).into_iter();
    upstream.filter(|(_, packet)| matches!(packet, Rtcp::Pli { media: SSRC, .. })).map(|(ms, _)| ms).collect()
}

fn out_ssrc(world: &World) -> u32 {
    world.media()[0].rtp().ssrc
}

fn from_receiver(world: &mut World, bytes: &[u8]) {
    world.receive_from(OUT_RTCP, receiver(), bytes);
}

#[test]
fn a_missing_packet_is_asked_for_and_its_frame_healed() {
    let mut sender = Sender::new(65_530, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    let packets = sender.delta(1, 8000);
    for (i, packet) in packets.iter().enumerate() {
        if i != 2 {
            world.receive(packet);
        }
    }
    world.advance_ms(6);
    let missing = u16::from_be_bytes([packets[2][2], packets[2][3]]);
    let asked = sent(&world, IN_RTCP)
        .into_iter()
        .any(|(_, p)| matches!(p, Rtcp::Nack { media: SSRC, lost, .. } if lost == [missing]));
    assert!(asked);
    world.receive(&packets[2]);
    assert_eq!(ids(&world.seen()), [0, 1]);
    world.receive(&packets[2]);
    assert_eq!(world.drops("duplicate"), 1);
}

#[test]
fn without_feedback_nothing_is_asked_and_the_wish_is_counted() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Bypass, &mut sender);
    sender.delta(1, 3000);
    world.receive_all(&sender.delta(2, 3000));
    world.advance_ms(900);
    world.shard.request_key(stream, world.now());
    world.settle();
    assert!(sent(&world, IN_RTCP).iter().all(|(_, p)| matches!(p, Rtcp::ReceiverReport { .. })));
    assert_eq!(world.drops("key_request_unsupported"), 1, "one wish, however often it is made");
}

/// Rule 27.
#[test]
fn a_lost_reference_asks_for_a_key_until_it_comes_at_a_bounded_rate() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    sender.delta(1, 500);
    for id in 2..900 {
        world.receive_all(&sender.delta(id, 500));
        world.advance_ms(33);
    }
    let asked = plis(&world);
    assert!(asked[0] <= 250, "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{asked:?}");
    for window in asked.windows(4) {
        assert!(window[3] - window[0] >= 10_000, "at most three in ten seconds: {asked:?}");
    }
    assert!(asked.len() >= 6);
    world.receive_all(&sender.key(900, 500));
    world.advance_ms(20_000);
    assert_eq!(plis(&world), asked, "a key ends it");
}

/// Rule 28.
#[test]
fn a_receivers_key_request_goes_upstream_in_bypass_and_to_python_in_compress() {
    for mode in [Mode::Bypass, Mode::Compress] {
        let mut sender = Sender::new(0, 0);
        let (mut world, stream, out) = World::started(true, mode, &mut sender);
        world.submit(stream, 0, None, true);
        let media = out_ssrc(&world);
        from_receiver(&mut world, &fed_back(|w| w.pli(99, media)));
        from_receiver(&mut world, &fed_back(|w| w.pli(99, media)));
        let told = world.events.iter().filter(|e| **e == Event::KeyRequested { out, stream }).count();
        let (upstream, python) = if mode == Mode::Bypass { (1, 0) } else { (0, 1) };
        assert_eq!((plis(&world).len(), told), (upstream, python), "{mode:?}");
        world.advance_ms(600);
        from_receiver(&mut world, &fed_back(|w| w.pli(99, media)));
        let told = world.events.iter().filter(|e| **e == Event::KeyRequested { out, stream }).count();
        assert_eq!(told, 2 * python, "one per half second");
    }
}

/// Rule 29.
#[test]
fn a_repeated_fir_is_one_request() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(true, Mode::Compress, &mut sender);
    world.submit(stream, 0, None, true);
    let media = out_ssrc(&world);
    for (number, at_ms) in [(1, 0), (1, 600), (1, 600), (2, 600)] {
        world.advance_ms(at_ms);
        from_receiver(&mut world, &fir(99, media, number));
    }
    assert_eq!(world.events.iter().filter(|e| matches!(e, Event::KeyRequested { .. })).count(), 2);
}

/// Rules 19 and 31.
#[test]
fn a_receivers_nack_is_answered_with_the_same_packet_once_per_round_trip_and_never_passed_on() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    world.receive_all(&sender.delta(1, 8000));
    let packets = world.media();
    let wanted = packets[5].rtp().sequence;
    let media = out_ssrc(&world);
    from_receiver(&mut world, &fed_back(|w| w.nack(99, media, &[wanted])));
    from_receiver(&mut world, &fed_back(|w| w.nack(99, media, &[wanted, wanted.wrapping_add(5000)])));
    let again: Vec<_> = world.media().split_off(packets.len());
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].bytes, packets[5].bytes, "extension and all");
    assert!(!sent(&world, IN_RTCP).iter().any(|(_, p)| matches!(p, Rtcp::Nack { .. })));
}

/// What left reaches the receiver, but for what is lost: it learns so from the next that it gets.
fn pass_on(world: &mut World, receiver: &mut Receiver, mut lose: impl FnMut() -> bool) {
    let media = std::mem::take(&mut world.left).into_iter().filter(|left| left.sock == OUT_RTP);
    media.filter(|_| !lose()).for_each(|left| receiver.take(left));
    while receiver.ordered().is_some() {}
}

fn ask(world: &mut World, receiver: &mut Receiver, ssrc: u32) {
    let lost = receiver.asks(world.now);
    if !lost.is_empty() {
        from_receiver(world, &fed_back(|w| w.nack(99, ssrc, &lost)));
    }
}

/// 30 frames a second of `bytes` each for `seconds`, taken by `receiver`, whose losses `lose` says by the millisecond.
fn lossy_call(bytes: usize, seconds: u64, mut lose: impl FnMut(u64) -> bool) -> (World, OutId, Receiver) {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, out) = World::started(true, Mode::Bypass, &mut sender);
    let (ssrc, mut receiver) = (out_ssrc(&world), Receiver::default());
    for ms in 1..seconds * 1000 {
        if ms % 33 == 0 {
            world.receive_all(&sender.delta(ms, bytes));
        }
        world.advance_ms(1);
        pass_on(&mut world, &mut receiver, || lose(ms));
        ask(&mut world, &mut receiver, ssrc);
    }
    for _ in 0..500 {
        world.advance_ms(1);
        pass_on(&mut world, &mut receiver, || false);
        ask(&mut world, &mut receiver, ssrc);
    }
    (world, out, receiver)
}

const FOUR_MEGABITS: usize = 4_000_000 / 8 * 33 / 1000;

/// Rule 31.
#[test]
fn ten_percent_loss_behind_us_is_repaired_in_full_and_the_source_hears_of_none() {
    let mut random = Random(10);
    let (world, out, receiver) = lossy_call(FOUR_MEGABITS / 4, 20, |_| random.below(100) < 10);
    assert!(world.out_stat(out, "resent_packets") > 200);
    assert!(receiver.is_whole());
    assert_eq!(receiver.received as i64, world.out_stat(out, "packets"));
    assert!(!sent(&world, IN_RTCP).iter().any(|(_, p)| matches!(p, Rtcp::Nack { .. })));
}

/// Rule 2: 5 % of what the source sends is lost, resent packets too, and it is 20 ms away.
#[test]
fn what_is_lost_in_front_of_us_is_asked_for_by_us_and_no_receiver_misses_anything() {
    let mut sender = Sender::new(60_000, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    let (mut random, mut receiver) = (Random(2), Receiver::default());
    let (mut kept, mut under_way, mut media) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut asked = 0;
    for ms in 1..20_000 {
        let packets = if ms % 33 == 0 && ms < 19_000 { sender.delta(ms / 33, 4000) } else { Vec::new() };
        for packet in packets {
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            kept.insert(sequence, packet.clone());
            under_way.push((ms + 20, packet));
        }
        for (_, packet) in under_way.extract_if(.., |(at, _)| *at <= ms) {
            if random.below(100) >= 5 {
                world.receive(&packet);
            }
        }
        world.advance_ms(1);
        for (_, packet) in sent(&world, IN_RTCP) {
            let Rtcp::Nack { lost, .. } = packet else { continue };
            asked += lost.len();
            under_way.extend(lost.iter().filter_map(|sequence| Some((ms + 40, kept.get(sequence)?.clone()))));
        }
        media.extend(world.media());
        pass_on(&mut world, &mut receiver, || false);
        assert!(receiver.is_whole(), "at {ms} ms");
    }
    assert!(asked > 100, "{asked}");
    assert_eq!(ids(&seen(&media)), (0..19_000 / 33 + 1).collect::<Vec<_>>());
}

#[test]
fn five_percent_loss_at_four_megabits_is_repaired_in_full() {
    let mut random = Random(5);
    let (world, out, receiver) = lossy_call(FOUR_MEGABITS, 10, |_| random.below(100) < 5);
    assert!(world.out_stat(out, "resent_packets") > 200);
    assert!(receiver.is_whole());
    assert_eq!(receiver.received as i64, world.out_stat(out, "packets"));
    assert_eq!(world.drops("resend_limit"), 0);
}

#[test]
fn a_gap_of_a_third_of_a_second_is_repaired_in_full() {
    let (world, _, receiver) = lossy_call(FOUR_MEGABITS, 10, |ms| ms % 5000 > 4600 && ms % 5000 < 4933);
    assert!(receiver.is_whole());
    assert_eq!(world.drops("resend_limit"), 0);
}

#[test]
fn nacks_for_everything_cost_at_most_a_quarter_of_what_was_sent_and_a_fixed_burst() {
    for bytes in [500, FOUR_MEGABITS] {
        let mut sender = Sender::new(0, 0);
        let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
        let ssrc = out_ssrc(&world);
        let (mut sent, mut resent, mut newest) = (0, 0, world.media()[0].rtp().sequence.wrapping_sub(1));
        for id in 1..900 {
            world.receive_all(&sender.delta(id, bytes));
            world.advance_ms(33);
            for left in std::mem::take(&mut world.left).iter().filter(|left| left.sock == OUT_RTP) {
                let again = left.rtp().sequence.wrapping_sub(newest) as i16 <= 0;
                *if again { &mut resent } else { &mut sent } += left.bytes.len();
                newest = if again { newest } else { left.rtp().sequence };
            }
            let all: Vec<u16> = (0..1024).rev().map(|before| newest.wrapping_sub(before)).collect();
            from_receiver(&mut world, &fed_back(|w| w.nack(99, ssrc, &all)));
            let at_once = world.left.iter().filter(|left| left.sock == OUT_RTP).count();
            assert!(at_once <= 16, "the rest is paced");
        }
        let most = (256 << 10) + sent / 4 + 30 * (12 << 10);
        assert!(resent <= most, "{resent} of {sent}, at most {most}");
        assert!(world.drops("resend_limit") > 10_000, "what was refused is counted");
    }
}

#[test]
fn feedback_on_a_leg_without_it_is_ignored_and_counted() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    let media = out_ssrc(&world);
    let before = world.media().len();
    from_receiver(&mut world, &fed_back(|w| w.nack(99, media, &[0])));
    from_receiver(&mut world, &fed_back(|w| w.pli(99, media)));
    assert_eq!(world.drops("unexpected_feedback"), 2);
    assert_eq!(world.media().len(), before);
}

#[test]
fn sender_reports_map_our_timestamps_to_the_sources_clock_every_second() {
    let mut sender = Sender::new(0, 1000);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    let ntp = Ntp::from_unix(Duration::from_secs(1_600_000_000));
    let mut report = Writer::default();
    report.sender_report(SSRC, ntp.0, 1000, 0, 0, &[]);
    world.receive_from(IN_RTCP, sender_rtcp(), &report.finish());
    world.left.clear();
    for id in 1..90 {
        world.advance_ms(33);
        world.receive_all(&sender.delta(id, 200));
    }
    let reports: Vec<(u64, Rtcp)> =
        sent(&world, OUT_RTCP).into_iter().filter(|(_, p)| matches!(p, Rtcp::SenderReport { .. })).collect();
    assert_eq!(reports.len(), 3, "{reports:?}");
    for (ms, report) in reports {
        let Rtcp::SenderReport { ntp: said, rtp, packets, .. } = report else { panic!() };
        assert_eq!(said, ntp.plus(Duration::from_millis(ms)).0);
        assert_eq!(rtp, 1000 + ms as u32 * 90);
        assert!(packets > 0);
    }
}

fn sender_rtcp() -> std::net::SocketAddr {
    std::net::SocketAddr::new(sender().ip(), sender().port() + 1)
}

#[test]
fn a_sender_report_in_front_of_the_media_counts_once_its_source_is_known() {
    [None, Some(sender())].into_iter().for_each(early_report);
}

fn early_report(remote: Option<std::net::SocketAddr>) {
    let mut world = World::with_remote(false, remote);
    let mut report = Writer::default();
    report.sender_report(SSRC, 5 << 32, 0, 0, 0, &[]);
    world.receive_from(IN_RTCP, sender_rtcp(), &report.finish());
    let mut sender = Sender::new(0, 9000);
    world.receive_all(&sender.key(0, 200));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    world.advance_ms(1);
    let first = sent(&world, OUT_RTCP).into_iter().find_map(|(_, p)| match p {
        Rtcp::SenderReport { ntp, .. } => Some(ntp),
        _ => None,
    });
    assert_eq!(first.unwrap() >> 32, 5, "the source's clock, from the first report on");
}

#[test]
fn reception_reports_tell_the_source_what_was_lost() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    for id in 1..40 {
        let packets = sender.delta(id, 2000);
        world.receive_all(if id == 5 { &packets[1..] } else { &packets });
        world.advance_ms(33);
    }
    let (_, report) = sent(&world, IN_RTCP).pop().unwrap();
    let Rtcp::ReceiverReport { blocks, .. } = report else { panic!() };
    assert_eq!((blocks[0].ssrc, blocks[0].lost), (SSRC, 1));
}

#[test]
fn the_round_trip_is_measured_by_the_echo_of_our_reports() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, out) = World::started(true, Mode::Bypass, &mut sender);
    world.advance_ms(1);
    let Some((_, Rtcp::SenderReport { ssrc, ntp, .. })) = sent(&world, OUT_RTCP).pop() else { panic!() };
    world.advance_ms(60);
    let block = rtcp::Block {
        ssrc,
        fraction_lost: 0,
        lost: 0,
        highest_sequence: 0,
        jitter: 0,
        last_sr: (ntp >> 16) as u32,
        delay: 65536 / 50,
    };
    let mut writer = Writer::default();
    writer.receiver_report(99, &[block]);
    from_receiver(&mut world, &writer.finish());
    let stats = world.shard.stats();
    let auralink_native::core::stats::Value::Float(ms) =
        stats.get("outs").unwrap().row(out.0).unwrap().get("round_trip_ms").unwrap().clone()
    else {
        panic!()
    };
    assert!((39.0..=62.0).contains(&ms), "{ms}");
}

#[test]
fn native_frames_behind_a_dropped_one_wait_for_a_key_that_is_asked_for() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, out) = World::started(true, Mode::Compress, &mut sender);
    (1..4).for_each(|id| world.receive_all(&sender.delta(id, 2000)));
    assert!(world.submit(stream, 0, None, true));
    world.shard.drop_frame(stream, 1, world.now());
    assert!(!world.submit(stream, 2, None, false), "its reference was dropped");
    world.advance_ms(1);
    assert_eq!(plis(&world).len(), 1);
    world.shard.set_mode(stream, Policy { mode: Mode::Shadow, extension: true, degraded: false }, Some(4), world.now());
    world.submit(stream, 3, None, false);
    world.receive_all(&sender.delta(4, 2000));
    world.receive_all(&sender.key(5, 2000));
    world.receive_all(&sender.delta(6, 2000));
    assert_eq!(ids(&world.seen()), [0, 5, 6]);
    assert_eq!(world.out_stat(out, "illegal_switch"), 0, "nobody asked for a switch");
    assert_eq!(world.drops("awaiting_key"), 3);
}

/// Rule 5, where we send nothing whose echo would tell the way: a peer 30 ms away holds our reference time for 20 ms.
#[test]
fn a_leg_that_only_receives_measures_its_way_and_waits_for_repairs_as_long_as_that_takes() {
    for (answered, most) in [(false, 250), (true, 2 * 31 + 70)] {
        let mut sender = Sender::new(0, 0);
        let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
        world.advance_ms(1010);
        let reference = sent(&world, IN_RTCP).into_iter().rev().find_map(|(ms, packet)| match packet {
            Rtcp::ReferenceTime { sender, ntp } => Some((ms, sender, ntp)),
            _ => None,
        });
        let (at, ssrc, ntp) = reference.expect("a reference time beside the reports");
        world.advance_ms(at + 50 - 1010);
        if answered {
            let echo = rtcp::Echoed { ssrc, reference: (ntp >> 16) as u32, delay: 65536 / 50 };
            let mut writer = Writer::default();
            writer.receiver_report(SSRC, &[]);
            writer.since_reference(SSRC, echo);
            world.receive_from(IN_RTCP, sender_rtcp(), &writer.finish());
        }
        sender.delta(1, 100);
        world.receive_all(&sender.key(2, 100));
        let since = world.now;
        world.advance_ms(300);
        let released = world.media().last().unwrap().at - since;
        let released = released.as_millis() as i64;
        assert!((most - 3..=most).contains(&released), "{released} ms, answered: {answered}");
    }
}

#[test]
fn a_receivers_reference_time_is_echoed_beside_the_next_report() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    world.advance_ms(100);
    let mut writer = Writer::default();
    writer.receiver_report(99, &[]);
    writer.reference_time(99, 7 << 32 | 5 << 16);
    from_receiver(&mut world, &writer.finish());
    world.left.clear();
    world.advance_ms(2500);
    let echoes: Vec<(u64, rtcp::Echoed)> = sent(&world, OUT_RTCP)
        .into_iter()
        .filter_map(|(ms, packet)| match packet {
            Rtcp::SinceReference { echoes } => Some((ms, echoes[0])),
            _ => None,
        })
        .collect();
    let [(ms, echo)] = echoes[..] else { panic!("once: {echoes:?}") };
    assert_eq!((echo.ssrc, echo.reference), (99, 7 << 16 | 5));
    assert!((u64::from(echo.delay) * 1000 / 65536).abs_diff(ms - 100) <= 1, "{echo:?} at {ms}");
}

/// What is said on a leg is about the outs of that leg, for as long as they are there and under the SSRC that they have.
#[test]
fn feedback_reaches_the_out_of_its_leg_alone_and_none_that_is_gone() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, first) = World::started(true, Mode::Bypass, &mut sender);
    let sockets = [30, 32].map(|n| Sockets { rtp: SockId(n), rtcp: SockId(n + 1) });
    let elsewhere = std::net::SocketAddr::from(([10, 0, 0, 3], 7004));
    let leg = world.shard.open_leg(config(Direction::Send, true, Some(elsewhere)), &sockets, world.now());
    let second = world.shard.link(stream, leg, world.now()).unwrap();
    world.receive_all(&sender.key(1, 500));
    let on =
        |world: &World, sock| world.left.iter().filter(|left| left.sock == SockId(sock)).cloned().collect::<Vec<_>>();
    let (one, other) = (out_ssrc(&world), on(&world, 30)[0].rtp().ssrc);
    for (ssrc, unknown) in [(other, 1), (one, 1), (0, 2)] {
        world.advance_ms(1000);
        from_receiver(&mut world, &fed_back(|writer| writer.pli(9, ssrc)));
        assert_eq!(world.drops("unknown_ssrc"), unknown);
    }
    assert_eq!((world.out_stat(first, "key_requests"), world.out_stat(second, "key_requests")), (1, 0));
    world.shard.unlink(first, world.now());
    world.settle();
    from_receiver(&mut world, &fed_back(|writer| writer.pli(9, one)));
    assert_eq!(world.drops("unknown_ssrc"), 3);
    world.receive_from(SockId(31), elsewhere, &fed_back(|writer| writer.pli(9, other)));
    assert_eq!((world.drops("unknown_ssrc"), world.out_stat(second, "key_requests")), (3, 1));
}
