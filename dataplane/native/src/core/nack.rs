//! Which missing packets to ask the sender for again (RFC 4585 section 6.2.1), on legs with AVPF.

use super::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// Numbers asked for at the same time; beyond it the oldest are given up.
const MAX_TRACKED: usize = 100;
const MAX_TRIES: u32 = 5;
/// A packet is missing when this many later ones came, or after [`PATIENCE`].
const LATER_PACKETS: u64 = 3;
const PATIENCE: Duration = Duration::from_millis(5);
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_millis(400);

#[derive(Debug)]
struct Missing {
    due: Time,
    tries: u32,
}

#[derive(Debug, Default)]
pub struct Nacks {
    missing: BTreeMap<u64, Missing>,
    highest: Option<u64>,
    pub sent: u64,
}

impl Nacks {
    pub fn received(&mut self, sequence: u64, now: Time) {
        self.missing.remove(&sequence);
        let highest = *self.highest.get_or_insert(sequence);
        if sequence <= highest {
            return;
        }
        let first = (highest + 1).max(sequence.saturating_sub(MAX_TRACKED as u64));
        for gone in first..sequence {
            self.missing.insert(gone, Missing { due: now + PATIENCE, tries: 0 });
        }
        while self.missing.len() > MAX_TRACKED {
            self.missing.pop_first();
        }
        self.highest = Some(sequence);
    }

    /// The sender numbers anew.
    pub fn restart(&mut self) {
        self.missing.clear();
        self.highest = None;
    }

    /// Nothing before `sequence` is wanted any more: it was released or given up.
    pub fn forget_before(&mut self, sequence: u64) {
        while self.missing.first_key_value().is_some_and(|(first, _)| *first < sequence) {
            self.missing.pop_first();
        }
    }

    /// Numbers to ask for now.
    pub fn due(&mut self, now: Time) -> Vec<u64> {
        let Some(highest) = self.highest else { return Vec::new() };
        let mut due = Vec::new();
        self.missing.retain(|sequence, missing| {
            let overtaken = missing.tries == 0 && sequence + LATER_PACKETS <= highest;
            if missing.due > now && !overtaken {
                return true;
            }
            if missing.tries == MAX_TRIES {
                return false;
            }
            missing.due = now + (FIRST_RETRY * 2u32.pow(missing.tries)).min(LAST_RETRY);
            missing.tries += 1;
            due.push(*sequence);
            true
        });
        self.sent += due.len() as u64;
        due
    }

    pub fn deadline(&self) -> Option<Time> {
        self.missing.values().map(|missing| missing.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_packet_is_asked_for_after_three_later_ones() {
        let mut n = Nacks::default();
        for sequence in [10, 12, 13] {
            n.received(sequence, Time(0));
            assert!(n.due(Time(0)).is_empty());
        }
        n.received(14, Time(0));
        assert_eq!(n.due(Time(0)), [11]);
        assert!(n.due(Time(0)).is_empty());
    }

    #[test]
    fn or_after_five_milliseconds_then_with_doubled_pauses_five_times() {
        let mut n = Nacks::default();
        n.received(10, Time(0));
        n.received(12, Time(0));
        let mut asked = Vec::new();
        for ms in 0..2000 {
            asked.extend(n.due(Time::from_millis(ms)).iter().map(|_| ms));
        }
        assert_eq!(asked, [5, 25, 65, 145, 305]);
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn a_repaired_packet_is_not_asked_for_again() {
        let mut n = Nacks::default();
        n.received(10, Time(0));
        n.received(12, Time(0));
        n.received(11, Time(0));
        assert_eq!(n.deadline(), None);
    }

    #[test]
    fn a_huge_gap_is_tracked_within_the_bound() {
        let mut n = Nacks::default();
        n.received(10, Time(0));
        n.received(3000, Time(0));
        assert_eq!(n.due(Time(0)).len(), MAX_TRACKED - LATER_PACKETS as usize + 1);
    }
}
