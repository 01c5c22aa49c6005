//! What sender and receiver reports say (RFC 3550 section 6.4, appendix A.3 and A.8).

use super::Time;
use super::rtcp::Block;
use std::time::Duration;

/// Seconds between 1900 (NTP) and 1970 (Unix).
const NTP_UNIX_S: u64 = 2_208_988_800;

/// 32.32 fixed point seconds since 1900.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ntp(pub u64);

impl Ntp {
    pub fn from_unix(unix: Duration) -> Ntp {
        Ntp((unix.as_secs() + NTP_UNIX_S) << 32).plus(Duration::from_nanos(u64::from(unix.subsec_nanos())))
    }

    pub fn plus(self, d: Duration) -> Ntp {
        Ntp(self.0.wrapping_add(((d.as_nanos() << 32) / 1_000_000_000) as u64))
    }

    /// The 32 bits that reports echo.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// From `earlier` to here in ticks of `clock_rate`, negative if it is later.
    pub fn ticks_since(self, earlier: Ntp, clock_rate: u32) -> i64 {
        ((i128::from(self.0.wrapping_sub(earlier.0) as i64) * i128::from(clock_rate)) >> 32) as i64
    }
}

/// Ticks of a media clock in a span of time.
pub fn ticks(d: Duration, clock_rate: u32) -> i64 {
    (d.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as i64
}

/// A source's clock by its newest sender report: `rtp` (unwrapped) was captured at `ntp`.
#[derive(Clone, Copy, Debug)]
pub struct SourceClock {
    pub ntp: Ntp,
    pub rtp: i64,
    pub arrived: Time,
}

impl SourceClock {
    /// When `rtp` was captured, by the sender's wall clock.
    pub fn captured(&self, rtp: i64, clock_rate: u32) -> Ntp {
        Ntp(self.ntp.0.wrapping_add_signed(((i128::from(rtp - self.rtp) << 32) / i128::from(clock_rate.max(1))) as i64))
    }
}

/// Counts of one received source, for its reception reports.
#[derive(Debug, Default)]
pub struct Reception {
    base: Option<u64>,
    highest: u64,
    pub received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// In ticks, times 16.
    jitter16: i64,
    transit: Option<i64>,
    last_sr: Option<(Ntp, Time)>,
}

impl Reception {
    pub fn packet(&mut self, sequence: u64, timestamp: u32, arrived: Time, clock_rate: u32) {
        let base = *self.base.get_or_insert(sequence);
        self.base = Some(base.min(sequence));
        self.highest = self.highest.max(sequence);
        self.received += 1;
        let transit = ticks(arrived - Time(0), clock_rate).wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            let d = i64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter16 += d - ((self.jitter16 + 8) >> 4);
        }
    }

    pub fn sender_report(&mut self, ntp: Ntp, now: Time) {
        self.last_sr = Some((ntp, now));
    }

    /// Numbering starts anew: what was lost before is forgotten.
    pub fn restart(&mut self) {
        *self = Reception { last_sr: self.last_sr, ..Reception::default() };
    }

    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    fn expected(&self) -> u64 {
        self.base.map_or(0, |base| self.highest - base + 1)
    }

    pub fn block(&mut self, ssrc: u32, now: Time) -> Block {
        let expected = self.expected() - self.expected_prior;
        let received = self.received - self.received_prior;
        self.expected_prior += expected;
        self.received_prior += received;
        let lost = expected as i64 - received as i64;
        let fraction = if expected == 0 || lost <= 0 { 0 } else { (lost << 8) / expected as i64 };
        Block {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: (self.jitter16 >> 4) as u32,
            last_sr: self.last_sr.map_or(0, |(ntp, _)| ntp.middle()),
            delay: self.last_sr.map_or(0, |(_, at)| (((now - at).as_nanos() << 16) / 1_000_000_000) as u32),
        }
    }
}

/// Sender reports whose echo is still awaited.
const MAX_AWAITED: usize = 4;

/// Measures the round trip by the echo of our sender reports (RFC 3550 6.4.1, figure 2), or of our reference times where
/// we only receive (RFC 3611 section 4.4). NTP times may be the source's, so what counts is when each was sent.
#[derive(Debug, Default)]
pub struct Echo {
    sent: std::collections::VecDeque<(u32, Time)>,
}

impl Echo {
    pub fn sent(&mut self, ntp: Ntp, now: Time) {
        if self.sent.len() == MAX_AWAITED {
            self.sent.pop_front();
        }
        self.sent.push_back((ntp.middle(), now));
    }

    /// None if the block echoes nothing of ours.
    pub fn round_trip(&self, block: &Block, now: Time) -> Option<Duration> {
        self.echoed(block.last_sr, block.delay, now)
    }

    /// `delay`: how long the peer held it, in 1/65536 s.
    pub fn echoed(&self, middle: u32, delay: u32, now: Time) -> Option<Duration> {
        let (_, sent) = self.sent.iter().find(|(sent, _)| *sent == middle)?;
        let held = Duration::from_nanos((u64::from(delay) * 1_000_000_000) >> 16);
        (now - *sent).checked_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_lost_is_counted_since_the_last_report() {
        let mut r = Reception::default();
        for sequence in [100, 101, 103] {
            r.packet(sequence, 0, Time(0), 90000);
        }
        let first = r.block(1, Time(0));
        assert_eq!((first.fraction_lost, first.lost, first.highest_sequence), (64, 1, 103));
        r.packet(104, 0, Time(0), 90000);
        let second = r.block(1, Time(0));
        assert_eq!((second.fraction_lost, second.lost), (0, 1));
    }

    #[test]
    fn steady_arrival_has_no_jitter_and_a_late_packet_has() {
        let mut r = Reception::default();
        for i in 0..10u32 {
            r.packet(u64::from(i), i * 3000, Time(u64::from(i) * 33_333_334), 90000);
        }
        assert!(r.block(1, Time(0)).jitter <= 1);
        r.packet(10, 30000, Time(343_333_340), 90000);
        assert_eq!(r.block(1, Time(0)).jitter, 900 / 16);
    }

    #[test]
    fn the_round_trip_is_what_remains_of_the_way_there_and_back() {
        let mut echo = Echo::default();
        echo.sent(Ntp(5 << 32), Time(0));
        let mut block = Reception::default().block(1, Time(0));
        (block.last_sr, block.delay) = (Ntp(5 << 32).middle(), 65536 / 10);
        let ms = echo.round_trip(&block, Time::from_millis(150)).unwrap().as_millis();
        assert!((49..=51).contains(&ms), "{ms}");
        block.last_sr += 1;
        assert_eq!(echo.round_trip(&block, Time::from_millis(150)), None);
    }

    #[test]
    fn capture_times_follow_the_senders_clock() {
        let clock = SourceClock { ntp: Ntp(5 << 32), rtp: 90_000, arrived: Time(0) };
        assert_eq!(clock.captured(180_000, 90_000), Ntp(6 << 32));
        assert_eq!(clock.captured(45_000, 90_000), Ntp(4 << 32 | 1 << 31));
        assert_eq!(Ntp(6 << 32).ticks_since(Ntp(5 << 32), 90_000), 90_000);
        assert_eq!(Ntp(5 << 32).ticks_since(Ntp(6 << 32), 90_000), -90_000);
    }
}
