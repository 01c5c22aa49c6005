//! Spreads a frame's packets: 16 at once, the rest over half a frame interval, so that a large keyframe
//! does not overrun the queues on its way.

use super::Time;
use super::output::Transmit;
use std::collections::VecDeque;
use std::time::Duration;

pub const BURST_PACKETS: usize = 16;
/// No frame waits longer for those before it and for its own packets, however large they are.
const MAX_BACKLOG: Duration = Duration::from_millis(100);
/// Packets wait for whole slots, so that all streams' packets wake the thread together.
const SLOT: Duration = Duration::from_millis(1);
const FIRST_INTERVAL: Duration = Duration::from_millis(33);
const MIN_INTERVAL: Duration = Duration::from_millis(5);
const MAX_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Pacer {
    queue: VecDeque<(Time, Transmit)>,
    /// Smoothed time between frames.
    interval: Duration,
    last_frame: Option<Time>,
}

impl Default for Pacer {
    fn default() -> Self {
        Pacer { queue: VecDeque::new(), interval: FIRST_INTERVAL, last_frame: None }
    }
}

impl Pacer {
    /// Takes a frame's packets; what may go at once goes to `send`.
    pub fn push(&mut self, packets: impl ExactSizeIterator<Item = Transmit>, now: Time, send: &mut VecDeque<Transmit>) {
        if let Some(last) = self.last_frame.replace(now) {
            let interval = (now - last).clamp(MIN_INTERVAL, MAX_INTERVAL);
            self.interval = (self.interval * 7 + interval) / 8;
        }
        // All of a frame is gone half an interval later, whatever waits in front of it, or at a burst per slot.
        let at_once = BURST_PACKETS.saturating_sub(self.queue.len());
        let waiting = packets.len().saturating_sub(at_once) as u32;
        let slots = (self.queue.len() as u32 + waiting).div_ceil(BURST_PACKETS as u32);
        let end = now + (self.interval / 2).max(SLOT * slots).min(MAX_BACKLOG);
        let mut due = self.queue.back().map_or(now, |(due, _)| (*due).clamp(now, end));
        // One packet too many need not wait that long: no slower than a burst per half interval.
        let step = (end - due) / waiting.max(BURST_PACKETS as u32);
        for (index, packet) in packets.enumerate() {
            if index >= at_once {
                due = due + step;
            }
            if due <= now && self.queue.is_empty() {
                send.push_back(packet);
            } else {
                let slot = Time(due.0.next_multiple_of(SLOT.as_nanos() as u64));
                self.queue.push_back((slot, packet));
            }
        }
    }

    /// Takes packets to send again: a burst at once, the rest a burst per slot.
    pub fn push_again(&mut self, packets: impl Iterator<Item = Transmit>, now: Time, send: &mut VecDeque<Transmit>) {
        let mut at_once = BURST_PACKETS.saturating_sub(self.queue.len());
        for packet in packets {
            if self.queue.is_empty() && at_once > 0 {
                at_once -= 1;
                send.push_back(packet);
                continue;
            }
            // As many as fit share the slot of the last one that waits.
            let next = Time((now + SLOT).0.next_multiple_of(SLOT.as_nanos() as u64));
            let slot = self.queue.back().map_or(next, |(due, _)| (*due).max(next));
            let sharing = self.queue.iter().rev().take_while(|(due, _)| *due == slot).count();
            self.queue.push_back((if sharing < BURST_PACKETS { slot } else { slot + SLOT }, packet));
        }
    }

    pub fn pop(&mut self, now: Time) -> Option<Transmit> {
        if self.deadline()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, packet)| packet)
    }

    pub fn deadline(&self) -> Option<Time> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// Gives up what is queued.
    pub fn clear(&mut self) -> impl Iterator<Item = Transmit> + '_ {
        self.queue.drain(..).map(|(_, packet)| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::SockId;
    use bytes::Bytes;

    fn packets(n: usize) -> std::vec::IntoIter<Transmit> {
        let dst = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let packet = Transmit { sock: SockId(0), dst, bytes: Bytes::new(), last_of: None };
        vec![packet; n].into_iter()
    }

    /// How many packets leave in each millisecond.
    fn schedule(pacer: &mut Pacer, n: usize, at_ms: u64, for_ms: u64) -> Vec<usize> {
        let mut now = VecDeque::new();
        pacer.push(packets(n), Time::from_millis(at_ms), &mut now);
        let mut counts = vec![now.len()];
        for ms in 1..for_ms {
            counts.push(std::iter::from_fn(|| pacer.pop(Time::from_millis(at_ms + ms))).count());
        }
        counts
    }

    /// Rule 38.
    #[test]
    fn sixteen_packets_leave_at_once() {
        let mut pacer = Pacer::default();
        assert_eq!(schedule(&mut pacer, 16, 0, 1), [16]);
        assert_eq!(pacer.deadline(), None);
    }

    #[test]
    fn the_rest_takes_half_a_frame_interval() {
        let mut pacer = Pacer::default();
        let counts = schedule(&mut pacer, 116, 0, 33);
        assert_eq!(counts[0], 16);
        assert_eq!(counts.iter().sum::<usize>(), 116);
        assert!(counts[1..].iter().all(|n| *n <= 8), "{counts:?}");
        assert!(counts[18..].iter().all(|n| *n == 0), "{counts:?}");
    }

    #[test]
    fn order_is_kept_and_the_delay_bounded_under_a_stream_of_large_frames() {
        let mut pacer = Pacer::default();
        for frame in 0..50 {
            schedule(&mut pacer, 200, frame * 33, 33);
        }
        let last = Time::from_millis(49 * 33);
        assert!(pacer.queue.iter().all(|(due, _)| *due <= last + MAX_INTERVAL / 2 + SLOT));
        assert!(pacer.queue.iter().is_sorted_by_key(|(due, _)| *due));
    }

    /// Rule 38.
    #[test]
    fn packets_sent_again_leave_sixteen_at_once_and_sixteen_per_slot() {
        let (mut pacer, mut now) = (Pacer::default(), VecDeque::new());
        pacer.push_again(packets(60), Time(0), &mut now);
        pacer.push_again(packets(40), Time(0), &mut now);
        let later = (1..10).map(|ms| std::iter::from_fn(|| pacer.pop(Time::from_millis(ms))).count());
        assert_eq!((now.len(), later.collect::<Vec<_>>()), (16, vec![16, 16, 16, 16, 16, 4, 0, 0, 0]));
    }

    /// Rule 38.
    #[test]
    fn the_largest_frames_leave_at_sixteen_packets_per_slot_and_within_a_bound() {
        for (packets, most) in [(300, 16), (1000, 16), (2048, 21)] {
            let mut pacer = Pacer::default();
            let counts = schedule(&mut pacer, packets, 0, 120);
            assert_eq!(counts.iter().sum::<usize>(), packets);
            assert!(counts.iter().all(|n| *n <= most), "{counts:?}");
            assert!(counts[101..].iter().all(|n| *n == 0), "{counts:?}");
        }
    }

    #[test]
    fn the_seventeenth_packet_waits_a_sixteenth_of_that_in_whole_slots() {
        let mut pacer = Pacer::default();
        schedule(&mut pacer, 17, 0, 1);
        assert_eq!(pacer.deadline(), Some(Time::from_millis(2)));
    }
}
