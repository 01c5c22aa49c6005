//! Copies of packets sent, to answer NACKs from. Bounded in number and age.

use super::Time;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

const MAX_PACKETS: usize = 1024;
const MAX_AGE: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Sent {
    at: Time,
    resent: Option<Time>,
    bytes: Bytes,
}

/// Packets of one out, whose numbers are contiguous.
#[derive(Debug, Default)]
pub struct SentPackets {
    /// Of `packets[0]`.
    first: u64,
    packets: VecDeque<Sent>,
}

impl SentPackets {
    pub fn push(&mut self, sequence: u64, bytes: Bytes, now: Time) {
        if self.packets.is_empty() || sequence != self.first + self.packets.len() as u64 {
            self.packets.clear();
            self.first = sequence;
        }
        self.packets.push_back(Sent { at: now, resent: None, bytes });
        while self.packets.len() > MAX_PACKETS || self.packets.front().is_some_and(|p| now - p.at > MAX_AGE) {
            self.packets.pop_front();
            self.first += 1;
        }
    }

    /// The packet to send again, unless that was done within the last round trip.
    pub fn again(&mut self, sequence: u16, now: Time, round_trip: Duration) -> Option<Bytes> {
        let index = usize::from(sequence.wrapping_sub(self.first as u16));
        let sent = self.packets.get_mut(index)?;
        let waiting = sent.resent.is_some_and(|at| now - at < round_trip);
        if waiting || now - sent.at > MAX_AGE {
            return None;
        }
        sent.resent = Some(now);
        Some(sent.bytes.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn filled(n: u64) -> SentPackets {
        let mut cache = SentPackets::default();
        for sequence in 0..n {
            cache.push(65000 + sequence, Bytes::copy_from_slice(&sequence.to_be_bytes()), Time(0));
        }
        cache
    }

    #[test]
    fn a_packet_is_found_by_its_16_bit_number_over_the_wrap() {
        let mut cache = filled(1000);
        let found = cache.again(65700u32 as u16, Time(1), RTT).unwrap();
        assert_eq!(found, 700u64.to_be_bytes()[..]);
    }

    #[test]
    fn once_per_round_trip() {
        let mut cache = filled(10);
        assert!(cache.again(65003, Time(0), RTT).is_some());
        assert!(cache.again(65003, Time::from_millis(49), RTT).is_none());
        assert!(cache.again(65003, Time::from_millis(50), RTT).is_some());
    }

    #[test]
    fn old_and_surplus_packets_are_gone() {
        let mut cache = filled(MAX_PACKETS as u64 + 5);
        assert_eq!(cache.packets.len(), MAX_PACKETS);
        assert!(cache.again(65004, Time(0), RTT).is_none());
        assert!(cache.again(65005, Time(0), RTT).is_some());
        assert!(cache.again(65005, Time::from_millis(3001), RTT).is_none());
    }
}
