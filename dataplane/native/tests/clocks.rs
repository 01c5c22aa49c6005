//! What receivers learn of time: timestamps that go on, and reports by which picture and sound are played together.

mod common;
use auralink_native::core::mode::Mode;
use auralink_native::core::reports::Ntp;
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::{SockId, Time};
use common::*;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

const IN_AUDIO: SockId = SockId(12);
const IN_AUDIO_RTCP: SockId = SockId(13);
const OUT_AUDIO: SockId = SockId(22);
const OUT_AUDIO_RTCP: SockId = SockId(23);
const AUDIO_SSRC: u32 = 0xaaaa;
const NTP_OFFSET_S: u64 = 2_208_988_800 + 1_600_000_000;

fn sender_rtcp() -> SocketAddr {
    SocketAddr::new(sender().ip(), sender().port() + 1)
}

fn report(ssrc: u32, ntp: Ntp, rtp: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.sender_report(ssrc, ntp.0, rtp, 0, 0, &[]);
    writer.finish()
}

/// Rule 3.
#[test]
fn timestamps_are_the_sources_and_a_constant_over_their_wrap() {
    let mut sender = Sender::new(0, u32::MAX - 50 * FRAME_TICKS);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    for id in 1..100 {
        world.receive_all(&sender.delta(id, 300));
    }
    let timestamps: Vec<u32> = world.seen().iter().map(|frame| frame.timestamp).collect();
    assert_eq!(timestamps.len(), 100);
    assert!(timestamps.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == FRAME_TICKS));
}

/// Rule 3: another SSRC with other timestamps, 0.5 s later by the sources' reports, 0.1 s by our clock.
#[test]
fn another_source_goes_on_by_both_reports_or_by_our_clock() {
    for (reported, step) in [(true, 45_000), (false, 9_000)] {
        let mut old = Sender::new(0, 1_000_000);
        let (mut world, _, _) = World::started(false, Mode::Bypass, &mut old);
        if reported {
            world.receive_from(IN_RTCP, sender_rtcp(), &report(SSRC, Ntp(100 << 32), 1_000_000));
        }
        world.receive_all(&old.delta(1, 200));
        world.advance_ms(100);
        let mut new = Sender { ssrc: 77, ..Sender::new(5000, 3_999_999_999) };
        let key = new.key(2, 200);
        world.receive_all(&key[..1]);
        if reported {
            let later = Ntp((100 << 32) + (u64::from(FRAME_TICKS + step) << 32) / 90_000 + 1);
            world.receive_from(IN_RTCP, sender_rtcp(), &report(77, later, 3_999_999_999));
        }
        world.receive_all(&key[1..]);
        let stream = world.stream();
        world.link(stream);
        world.set_mode(stream, Mode::Bypass);
        world.receive_all(&new.delta(3, 200));
        let timestamps: Vec<u32> = world.seen().iter().map(|frame| frame.timestamp).collect();
        let first = 1_000_000 + FRAME_TICKS + step;
        assert_eq!(timestamps[1..], [1_000_000 + FRAME_TICKS, first, first + FRAME_TICKS], "reports: {reported}");
    }
}

/// A medium's clock: how fast it runs beside the sender's wall clock, and where it stands at second 0.
struct MediaClock {
    rate: f64,
    start: u32,
}

impl MediaClock {
    fn at(&self, seconds: f64) -> u32 {
        self.start.wrapping_add((seconds * self.rate) as i64 as u32)
    }
}

fn ntp(seconds: f64) -> Ntp {
    Ntp((NTP_OFFSET_S << 32) + (seconds * 4_294_967_296.0) as u64)
}

/// A receiver that plays what was captured together by the reports it has.
#[derive(Default)]
struct Player {
    reports: HashMap<u32, (u64, u32)>,
    names: Vec<(u32, Vec<u8>)>,
}

impl Player {
    fn take(&mut self, left: &Left) {
        for packet in rtcp::parse(&left.bytes).unwrap() {
            if let Rtcp::SenderReport { ssrc, ntp, rtp, .. } = packet {
                self.reports.insert(ssrc, (ntp, rtp));
                let chunk = [&ssrc.to_be_bytes()[..], &[1, 25]].concat();
                let at = left.bytes.windows(6).position(|window| window == chunk).unwrap() + 6;
                self.names.push((ssrc, left.bytes[at..at + 25].to_vec()));
            }
        }
    }

    /// When a packet was captured, in seconds of the reports' clock.
    fn captured(&self, ssrc: u32, timestamp: u32, rate: u32) -> Option<f64> {
        let (ntp, rtp) = self.reports.get(&ssrc)?;
        let since = f64::from(timestamp.wrapping_sub(*rtp) as i32) / f64::from(rate);
        Some((*ntp as f64 / 4_294_967_296.0) - NTP_OFFSET_S as f64 + since)
    }
}

/// Rule 30: ten minutes of picture and sound whose clocks run 300 ppm apart, beside a wall clock 100 ppm from ours; up to
/// 60 ms of jitter, reports every second and every five, the picture's source restarted in the middle.
#[test]
fn picture_and_sound_stay_within_20_ms_for_ten_minutes_of_drifting_clocks() {
    let mut world = World::new(false);
    let mut random = Random(30);
    let audio = MediaClock { rate: 48_000.0 * (1.0 + 100e-6), start: 4_294_000_000 };
    let mut video = MediaClock { rate: 90_000.0 * (1.0 - 200e-6), start: 4_100_000_000 };
    let mut sender = Sender::new(65_000, 0);
    let mut player = Player::default();
    let (mut audio_sequence, mut worst, mut compared) = (0u16, 0f64, 0);
    let mut captured_at: HashMap<(u32, u32), f64> = HashMap::new();
    let mut under_way: Vec<(u64, SockId, Vec<u8>)> = Vec::new();
    let mut linked = 0;
    let mut last_audio: Option<f64> = None;
    for ms in 0..600_000u64 {
        let wall = ms as f64 / 1000.0 * (1.0 + 100e-6);
        let mut later = |sock, bytes| under_way.push((ms + 5 + random.below(60), sock, bytes));
        if ms % 20 == 0 {
            let payload = ms.to_be_bytes();
            later(IN_AUDIO, packet(AUDIO_SSRC, AUDIO_PT, audio_sequence, audio.at(wall), false, &payload));
            audio_sequence = audio_sequence.wrapping_add(1);
        }
        if ms == 300_000 {
            sender = Sender { ssrc: 0x5555, ..Sender::new(7, 0) };
            video.start = 12_345;
        }
        if ms % 100 == 0 {
            sender.timestamp = video.at(wall);
            let key = sender.key(ms, 100);
            key.into_iter().for_each(|packet| later(IN_RTP, packet));
        }
        if ms % 1000 == 500 {
            later(IN_RTCP, report(sender.ssrc, ntp(wall), video.at(wall)));
        }
        if ms % 5000 == 2500 {
            later(IN_AUDIO_RTCP, report(AUDIO_SSRC, ntp(wall), audio.at(wall)));
        }
        under_way.sort_by_key(|(at, ..)| *at);
        let due = under_way.iter().take_while(|(at, ..)| *at <= ms).count();
        for (_, sock, bytes) in under_way.drain(..due) {
            let rtcp = sock == IN_RTCP || sock == IN_AUDIO_RTCP;
            world.receive_from(sock, if rtcp { sender_rtcp() } else { common::sender() }, &bytes);
        }
        world.advance_ms(1);
        for event in world.events.split_off(linked) {
            if let auralink_native::core::output::Event::StreamStarted { stream, .. } = event {
                world.link(stream);
                let policy =
                    auralink_native::core::mode::Policy { mode: Mode::Bypass, extension: true, degraded: false };
                world.shard.set_mode(stream, policy, None, world.now());
                world.settle();
            }
        }
        linked = world.events.len();
        for left in std::mem::take(&mut world.left) {
            if left.sock == OUT_RTCP || left.sock == OUT_AUDIO_RTCP {
                player.take(&left);
            } else if left.sock == OUT_AUDIO {
                let rtp = left.rtp();
                let sent = u64::from_be_bytes(rtp.payload.try_into().unwrap()) as f64 / 1000.0;
                last_audio = player.captured(rtp.ssrc, rtp.timestamp, 48_000).map(|played| played - sent);
            } else if left.sock == OUT_RTP && left.rtp().marker {
                let rtp = left.rtp();
                let sent = id_of(rtp.payload) as f64 / 1000.0;
                captured_at.insert((rtp.ssrc, rtp.timestamp), sent);
                let played = player.captured(rtp.ssrc, rtp.timestamp, 90_000).map(|played| played - sent);
                // From the first reports of both sources on; a second after the restart for the new one's.
                if let (Some(video), Some(audio)) = (played, last_audio)
                    && ms > 10_000
                    && !(300_000..302_000).contains(&ms)
                {
                    worst = worst.max((video - audio).abs());
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 5000, "{compared}");
    assert!(worst < 0.020, "{} ms", worst * 1000.0);
    println!("lips and sound: {:.2} ms apart at most, {compared} frames", worst * 1000.0);
    assert!(player.names.windows(2).all(|pair| pair[0].1 == pair[1].1), "one name for picture and sound");
}

/// Rule 30: a receiver shall not play one participant's picture in time with another's sound.
#[test]
fn participants_have_names_of_their_own_on_a_leg_that_carries_several() {
    let mut sender = Sender::new(0, 0);
    let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
    let second = SocketAddr::from(([10, 0, 0, 3], 5004));
    let sockets = [40, 42].map(|n| auralink_native::core::leg_plain::Sockets { rtp: SockId(n), rtcp: SockId(n + 1) });
    let other = config(auralink_native::core::leg_plain::Direction::Receive, false, Some(second));
    world.shard.open_leg(other, &sockets, world.now());
    let mut another = Sender { ssrc: 9, ..Sender::new(0, 0) };
    another.key(1, 100).iter().for_each(|packet| world.receive_from(SockId(40), second, packet));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    world.advance_ms(1500);
    let mut player = Player::default();
    world.left.iter().filter(|left| left.sock == OUT_RTCP).for_each(|left| player.take(left));
    let newest: HashMap<u32, Vec<u8>> = player.names.into_iter().collect();
    let names: Vec<Vec<u8>> = newest.into_values().collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
}

/// Rule 30: the sound's source has reported, the picture's not yet.
#[test]
fn before_its_own_report_a_medium_has_the_clock_of_its_participants_other_one() {
    let mut sender = Sender::new(0, 0);
    let mut world = World::new(false);
    world.receive_from(IN_AUDIO, common::sender(), &packet(AUDIO_SSRC, AUDIO_PT, 0, 0, false, &[1]));
    world.receive_from(IN_AUDIO_RTCP, sender_rtcp(), &report(AUDIO_SSRC, Ntp(5 << 32), 0));
    world.receive_all(&sender.key(0, 100));
    let stream = world.stream();
    world.link(stream);
    world.set_mode(stream, Mode::Bypass);
    world.advance_ms(1500);
    let mut player = Player::default();
    world.left.iter().filter(|left| left.sock == OUT_RTCP).for_each(|left| player.take(left));
    let (ntp, _) = player.reports.values().next().unwrap();
    let since = world.now - Time::from_millis(1000) + Duration::from_secs(5);
    assert!(*ntp >> 32 >= 5 && *ntp >> 32 <= since.as_secs(), "{}", ntp >> 32);
}

/// Rule 3.
#[test]
fn a_source_whose_numbers_and_clock_begin_anew_leads_ours_on_and_never_back() {
    let mut sender = Sender::new(1000, 2_000_000_000);
    let (mut world, _, _) = World::started(true, Mode::Bypass, &mut sender);
    world.receive_all(&sender.delta(1, 200));
    world.advance_ms(33);
    (sender.sequence, sender.timestamp) = (40_000, 5_000);
    for id in 2..6 {
        world.receive_all(&sender.key(id, 200));
        world.advance_ms(33);
    }
    let timestamps: Vec<u32> = world.seen().iter().map(|frame| frame.timestamp).collect();
    assert!(timestamps.len() >= 5);
    assert!(timestamps.windows(2).all(|pair| (1..90_000).contains(&pair[1].wrapping_sub(pair[0]))), "{timestamps:?}");
}
