//! The identity of one outgoing stream: SSRC, sequence numbers, timestamps, picture numbers. It outlives its sources and
//! their modes, so that a receiver sees one stream without seams.

use super::Time;
use super::codec::Payload;
use super::mode::Kind;
use super::numbers::{Counter, Numbered};
use super::reports::{Ntp, SourceClock, ticks};
use super::rtp::{self, Header, Rtp};
use super::srtp::Keys;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// A timestamp this much behind the newest one is of another clock.
const MAX_REORDER_S: i64 = 5;
/// Longest pause that the sources' own clocks are trusted to bridge; beyond it our clock counts.
const MAX_CLOCK_STEP_S: i64 = 3600;
/// A packet with our SSRC this close behind our newest numbers is one of ours; a peer that happened to choose the same
/// SSRC chose other numbers too, for both are random.
const LOOP_PACKETS: u16 = 1024;
const LOOP_S: u32 = 10;

#[derive(Debug)]
pub struct Generator {
    pub ssrc: u32,
    pub payload_type: u8,
    clock_rate: u32,
    /// The next sequence number; 64 bit, never reused.
    next: u64,
    /// Added to the source's timestamps; None until the first frame of a source.
    offset: Option<i64>,
    last: Option<Last>,
    pictures: Counter,
    /// Of an SRTP leg.
    keys: Option<Arc<Keys>>,
    pub packets: u64,
    pub payload_bytes: u64,
}

/// The newest timestamp sent.
#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: i64,
    at: Time,
    /// By the source's wall clock, if it sent reports.
    captured: Option<Ntp>,
}

impl Generator {
    /// `random` gives the first sequence number, below 2^15: SRTP receivers guess the rollover count from it.
    pub fn new(ssrc: u32, payload_type: u8, clock_rate: u32, random: u64) -> Generator {
        Generator {
            ssrc,
            payload_type,
            clock_rate,
            next: random % (1 << 15),
            offset: None,
            last: None,
            pictures: Counter::default(),
            keys: None,
            packets: 0,
            payload_bytes: 0,
        }
    }

    /// Packets leave as SRTP.
    pub fn protected(self, keys: Option<Arc<Keys>>) -> Generator {
        Generator { keys, ..self }
    }

    /// Another source follows; its timestamps and pictures continue ours.
    pub fn new_source(&mut self) {
        self.offset = None;
        self.pictures.new_source();
    }

    pub fn rename(&mut self, ssrc: u32, random: u64) {
        self.ssrc = ssrc;
        self.next = random % (1 << 15);
    }

    pub fn last_timestamp(&self) -> Option<u32> {
        self.last.map(|last| last.timestamp as u32)
    }

    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Whether a packet that came in is one of ours, led back to us (RFC 3550 8.2).
    pub fn sent_lately(&self, rtp: &Rtp<'_>) -> bool {
        let Some(last) = self.last.filter(|_| rtp.ssrc == self.ssrc) else { return false };
        let behind = (self.next as u16).wrapping_sub(1).wrapping_sub(rtp.sequence);
        let apart = (rtp.timestamp.wrapping_sub(last.timestamp as u32) as i32).unsigned_abs();
        behind < LOOP_PACKETS && apart < LOOP_S * self.clock_rate
    }

    /// Our timestamp for one of the source's: constant distance, zero for the first source.
    pub fn timestamp(&mut self, source: i64, clock: Option<&SourceClock>, now: Time) -> u32 {
        let captured = clock.map(|clock| clock.captured(source, self.clock_rate));
        let offset = match (self.offset, self.last) {
            (Some(offset), Some(last)) if source + offset + self.farthest_back() < last.timestamp => {
                last.timestamp + self.step(&last, captured, now) - source // its clock began anew
            }
            (Some(offset), _) => offset,
            (None, None) => 0,
            (None, Some(last)) => last.timestamp + self.step(&last, captured, now) - source,
        };
        self.offset = Some(offset);
        let timestamp = source + offset;
        if self.last.is_none_or(|last| timestamp >= last.timestamp) {
            self.last = Some(Last { timestamp, at: now, captured });
        }
        timestamp as u32
    }

    /// No picture is sent so long after one that is shown later.
    fn farthest_back(&self) -> i64 {
        MAX_REORDER_S * i64::from(self.clock_rate)
    }

    /// The packets stamped next are of another frame.
    pub fn picture(&mut self, frame: &Numbered, kind: Kind) {
        self.pictures.advance(frame, kind);
    }

    /// One packet of a frame, with these elements of header extension.
    pub fn stamp(
        &mut self,
        timestamp: u32,
        marker: bool,
        elements: &[(u8, &[u8])],
        payload: &Payload,
    ) -> (u64, BytesMut) {
        let sequence = self.next;
        (sequence, self.stamp_at(sequence, timestamp, marker, elements, (self.payload_type, payload)))
    }

    /// One packet at a number and of a payload type of the caller's choice: audio keeps the source's gaps.
    pub fn stamp_at(
        &mut self,
        sequence: u64,
        timestamp: u32,
        marker: bool,
        elements: &[(u8, &[u8])],
        (payload_type, payload): (u8, &Payload),
    ) -> BytesMut {
        self.next = self.next.max(sequence + 1);
        self.packets += 1;
        self.payload_bytes += payload.len() as u64;
        let header = Header { marker, payload_type, sequence: sequence as u16, timestamp, ssrc: self.ssrc };
        let head = payload.head(&self.pictures);
        rtp::write(&header, elements, [head.as_slice(), payload.body()])
    }

    /// A stamped packet as it leaves. The same packet at the same number comes out the same each time.
    pub fn protect(&self, sequence: u64, mut packet: BytesMut) -> Bytes {
        if let Some(keys) = &self.keys {
            keys.protect_rtp(sequence, &mut packet);
        }
        packet.freeze()
    }

    pub fn is_protected(&self) -> bool {
        self.keys.is_some()
    }

    /// The whole number of a packet sent lately.
    pub fn number_of(&self, sequence: u16) -> u64 {
        let newest = self.next.saturating_sub(1);
        newest.saturating_sub(u64::from((newest as u16).wrapping_sub(sequence)))
    }

    /// What a sender report says now: capture time and our timestamp for it. None before the first packet.
    pub fn report(&self, clock: Option<&SourceClock>, now: Time, unix: Ntp) -> Option<(Ntp, u32)> {
        let last = self.last?;
        match (clock, self.offset) {
            (Some(clock), Some(offset)) => {
                let since = now - clock.arrived;
                Some((clock.ntp.plus(since), (clock.rtp + offset + ticks(since, self.clock_rate)) as u32))
            }
            _ => Some((unix, (last.timestamp + ticks(now - last.at, self.clock_rate)) as u32)),
        }
    }

    /// From the last frame of the old source to the first of the new one: always forward.
    fn step(&self, last: &Last, captured: Option<Ntp>, now: Time) -> i64 {
        let by_reports = captured
            .zip(last.captured)
            .map(|(new, old)| new.ticks_since(old, self.clock_rate))
            .filter(|step| (1..MAX_CLOCK_STEP_S * i64::from(self.clock_rate)).contains(step));
        by_reports.unwrap_or_else(|| ticks(now - last.at, self.clock_rate)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn generator() -> Generator {
        Generator::new(1, 96, 90_000, 123_456_789)
    }

    #[test]
    fn the_first_number_is_below_two_to_the_fifteenth() {
        assert!(generator().next_sequence() < 1 << 15);
    }

    #[test]
    fn the_first_sources_timestamps_are_kept_over_the_wrap() {
        let mut g = generator();
        let base = i64::from(u32::MAX) - 10;
        assert_eq!(g.timestamp(base, None, Time(0)), u32::MAX - 10);
        assert_eq!(g.timestamp(base + 20, None, Time(0)), 9);
    }

    #[test]
    fn a_later_source_continues_by_our_clock() {
        let mut g = generator();
        g.timestamp(1000, None, Time(0));
        g.new_source();
        assert_eq!(g.timestamp(777_777, None, Time(0) + SECOND), 91_000);
        assert_eq!(g.timestamp(777_778, None, Time(0) + SECOND), 91_001);
    }

    #[test]
    fn or_by_both_sources_reports() {
        let mut g = generator();
        let clock = |ntp: u64, rtp| SourceClock { ntp: Ntp(ntp << 32), rtp, arrived: Time(0) };
        g.timestamp(1000, Some(&clock(5, 1000)), Time(0));
        g.new_source();
        assert_eq!(g.timestamp(50, Some(&clock(7, 50)), Time(0) + SECOND), 181_000);
    }

    #[test]
    fn never_backwards() {
        let mut g = generator();
        g.timestamp(1000, None, Time(0));
        g.new_source();
        assert_eq!(g.timestamp(5, None, Time(0)), 1001);
    }

    #[test]
    fn pictures_in_decoding_order_keep_their_distance() {
        let mut g = generator();
        let out: Vec<u32> = [0, 9000, 3000, 6000].iter().map(|ts| g.timestamp(*ts, None, Time(0))).collect();
        assert_eq!(out, [0, 9000, 3000, 6000]);
    }
}
