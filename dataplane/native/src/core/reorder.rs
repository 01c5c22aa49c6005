//! Puts the packets of one video source in order. A gap holds everything behind it, but only for a bounded time and a
//! bounded number of packets; then it is given up and told to the caller as [`Next::Gap`].

use super::Time;
use super::packet::Packet;
use std::collections::VecDeque;
use std::time::Duration;

/// Packets held behind a gap.
pub const RING_PACKETS: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    Duplicate,
    /// Its turn is over: released as lost.
    Late,
}

#[derive(Debug)]
pub enum Next {
    Packet(Packet),
    /// This many packets never came.
    Gap(u64),
}

#[derive(Debug, Default)]
pub struct Reorder {
    /// The number that `ring[0]` stands for; nothing before the first packet.
    next: Option<u64>,
    ring: VecDeque<Option<Packet>>,
    held: usize,
    /// When the first packet behind the gap at `next` came.
    gap_since: Option<Time>,
    /// The ring overflowed: give the gap up now.
    give_up: bool,
    /// One bit per number before `next`, newest lowest: released (1) or given up (0).
    released: u128,
}

impl Reorder {
    /// The packet comes back if it lies beyond the ring: then the gap at the front is given up by the next `pop`, and the
    /// caller tries again; with nothing left to pop it calls `restart`.
    pub fn insert(&mut self, packet: Packet) -> Result<Inserted, Packet> {
        let next = *self.next.get_or_insert(packet.sequence);
        let Some(ahead) = packet.sequence.checked_sub(next) else {
            let behind = next - packet.sequence - 1;
            let received = behind < 128 && self.released >> behind & 1 == 1;
            return Ok(if received { Inserted::Duplicate } else { Inserted::Late });
        };
        if ahead >= RING_PACKETS as u64 {
            self.give_up = true;
            return Err(packet);
        }
        let index = ahead as usize;
        if self.ring.len() <= index {
            self.ring.resize_with(index + 1, || None);
        }
        if self.ring[index].is_some() {
            return Ok(Inserted::Duplicate);
        }
        if index > 0 && self.gap_since.is_none() {
            self.gap_since = Some(packet.arrived);
        }
        self.ring[index] = Some(packet);
        self.held += 1;
        Ok(Inserted::New)
    }

    /// What comes next in order, if it is here or `hold` is over.
    pub fn pop(&mut self, now: Time, hold: Duration) -> Option<Next> {
        if self.held == 0 {
            self.gap_since = None;
            return None;
        }
        if let Some(slot) = self.ring.front_mut()
            && let Some(packet) = slot.take()
        {
            self.ring.pop_front();
            self.held -= 1;
            self.advance(1, true);
            if self.ring.front().is_some_and(Option::is_some) {
                self.gap_since = None;
            } else if self.held > 0 && self.gap_since.is_none() {
                self.gap_since = self.earliest();
            }
            return Some(Next::Packet(packet));
        }
        if !self.give_up && now < self.deadline(hold)? {
            return None;
        }
        self.give_up = false;
        let lost = self.ring.iter().take_while(|slot| slot.is_none()).count();
        self.ring.drain(..lost);
        self.advance(lost as u64, false);
        self.gap_since = None;
        Some(Next::Gap(lost as u64))
    }

    /// When the gap at the front is given up.
    pub fn deadline(&self, hold: Duration) -> Option<Time> {
        if self.held == 0 || self.ring.front().is_some_and(Option::is_some) {
            return None;
        }
        self.gap_since.map(|since| since + hold)
    }

    /// Goes on at `sequence`; what lies before it never comes. Returns how many packets were held.
    pub fn restart(&mut self, sequence: u64) -> u64 {
        let before = std::mem::replace(self, Reorder { next: Some(sequence), ..Reorder::default() });
        before.held as u64
    }

    /// The next number wanted.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    fn advance(&mut self, by: u64, received: bool) {
        self.next = self.next.map(|next| next + by);
        self.released = if by >= 128 { 0 } else { self.released << by | u128::from(received) };
    }

    fn earliest(&self) -> Option<Time> {
        self.ring.iter().flatten().map(|packet| packet.arrived).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::packet::Content;
    use bytes::Bytes;
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_millis(80);

    fn packet(sequence: u64, at_ms: u64) -> Packet {
        Packet {
            sequence,
            timestamp: 0,
            marker: false,
            arrived: Time::from_millis(at_ms),
            payload: Bytes::new(),
            content: Content::Padding,
        }
    }

    fn drain(r: &mut Reorder, at_ms: u64) -> Vec<i64> {
        std::iter::from_fn(|| r.pop(Time::from_millis(at_ms), HOLD))
            .map(|next| match next {
                Next::Packet(packet) => packet.sequence as i64,
                Next::Gap(n) => -(n as i64),
            })
            .collect()
    }

    #[test]
    fn packets_in_order_pass_at_once() {
        let mut r = Reorder::default();
        for sequence in 7..10 {
            assert_eq!(r.insert(packet(sequence, 0)).unwrap(), Inserted::New);
            assert_eq!(drain(&mut r, 0), [sequence as i64]);
        }
    }

    #[test]
    fn a_gap_holds_what_is_behind_it_until_it_is_filled() {
        let mut r = Reorder::default();
        for sequence in [7, 9, 10] {
            r.insert(packet(sequence, 0)).unwrap();
        }
        assert_eq!(drain(&mut r, 79), [7]);
        r.insert(packet(8, 79)).unwrap();
        assert_eq!(drain(&mut r, 79), [8, 9, 10]);
        assert_eq!(r.deadline(HOLD), None);
    }

    #[test]
    fn a_gap_is_given_up_when_its_time_is_over() {
        let mut r = Reorder::default();
        for (sequence, at) in [(7, 0), (9, 10), (12, 30)] {
            r.insert(packet(sequence, at)).unwrap();
        }
        assert_eq!(drain(&mut r, 30), [7]);
        assert_eq!(r.deadline(HOLD), Some(Time::from_millis(90)));
        assert_eq!(drain(&mut r, 90), [-1, 9]);
        assert_eq!(r.deadline(HOLD), Some(Time::from_millis(110)), "the second gap has its own clock");
        assert_eq!(drain(&mut r, 110), [-2, 12]);
    }

    #[test]
    fn duplicates_and_late_packets_are_told_apart() {
        let mut r = Reorder::default();
        for sequence in [7, 9] {
            r.insert(packet(sequence, 0)).unwrap();
        }
        assert_eq!(r.insert(packet(9, 1)).unwrap(), Inserted::Duplicate);
        assert_eq!(drain(&mut r, 80), [7, -1, 9]);
        assert_eq!(r.insert(packet(8, 81)).unwrap(), Inserted::Late);
        assert_eq!(r.insert(packet(9, 81)).unwrap(), Inserted::Duplicate);
        assert_eq!(r.insert(packet(7, 81)).unwrap(), Inserted::Duplicate);
    }

    #[test]
    fn a_packet_beyond_the_ring_ends_the_wait() {
        let mut r = Reorder::default();
        for sequence in [7, 9] {
            r.insert(packet(sequence, 0)).unwrap();
        }
        assert_eq!(drain(&mut r, 0), [7]);
        let far = r.insert(packet(8 + RING_PACKETS as u64, 0)).unwrap_err();
        assert_eq!(drain(&mut r, 0), [-1, 9]);
        assert_eq!(r.insert(far).unwrap(), Inserted::New);
    }

    proptest! {
        #[test]
        fn every_number_comes_out_once_in_order_or_as_gap(order in proptest::collection::vec(0u64..400, 1..600)) {
            let mut r = Reorder::default();
            let (mut now, mut position) = (0, None);
            for sequence in order {
                now += 7;
                let sequence = 10_000 + sequence;
                r.insert(packet(sequence, now)).unwrap();
                let first = *position.get_or_insert(sequence);
                let mut at = first as i64;
                for step in drain(&mut r, now) {
                    if step >= 0 { prop_assert_eq!(step, at); }
                    at += if step < 0 { -step } else { 1 };
                }
                position = Some(at as u64);
                prop_assert!(r.deadline(HOLD).is_none_or(|d| d > Time::from_millis(now)));
            }
        }
    }
}
