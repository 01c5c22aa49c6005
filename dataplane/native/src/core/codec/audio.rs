//! Audio is relayed packet by packet on arrival, gaps kept, or the decoder's concealment and Opus' in-band FEC (RFC
//! 7587) would see no loss. So all that is needed is which sequence number a packet gets, and which came twice.

use std::collections::VecDeque;

/// Packets this much older than the newest are late.
const WINDOW: u64 = 1024;

/// Remembers what of the last [`WINDOW`] numbers arrived.
#[derive(Debug)]
pub struct Received {
    highest: Option<u64>,
    seen: [u64; WINDOW as usize / 64],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    New,
    Duplicate,
    Late,
}

impl Default for Received {
    fn default() -> Self {
        Received { highest: None, seen: [0; WINDOW as usize / 64] }
    }
}

impl Received {
    pub fn note(&mut self, sequence: u64) -> Arrival {
        if let Some(highest) = self.highest {
            if sequence + WINDOW <= highest {
                return Arrival::Late;
            }
            for skipped in (highest + 1..=sequence).take(WINDOW as usize) {
                self.clear(skipped);
            }
            // Beyond a whole window everything was cleared above.
        }
        self.highest = Some(self.highest.map_or(sequence, |h| h.max(sequence)));
        let (word, bit) = Self::place(sequence);
        if self.seen[word] & bit != 0 {
            return Arrival::Duplicate;
        }
        self.seen[word] |= bit;
        Arrival::New
    }

    fn clear(&mut self, sequence: u64) {
        let (word, bit) = Self::place(sequence);
        self.seen[word] &= !bit;
    }

    fn place(sequence: u64) -> (usize, u64) {
        let at = sequence % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

/// The next number is less than so far ahead.
const FARTHEST: u64 = 1 << 15;
/// Packets left out whose followers may still come out of order.
const MAX_ABSORBED: usize = 64;

/// Our sequence numbers for a source's: at a constant distance, less one for each packet that we keep to ourselves.
#[derive(Debug)]
pub struct Relayed {
    /// A number of the source and ours for it; what lies before it has none.
    theirs: u64,
    ours: u64,
    highest: u64,
    /// Numbers of the source that got none, ascending.
    absorbed: VecDeque<u64>,
}

impl Relayed {
    /// With the source's packet `theirs` as `ours`.
    pub fn starting(theirs: u64, ours: u64) -> Relayed {
        Relayed { theirs, ours, highest: theirs, absorbed: VecDeque::new() }
    }

    /// Whether a packet of the source can go on in these numbers: a receiver takes a jump of half their range or more for
    /// a step back, and under SRTP never finds the count of their rollovers again (RFC 3711 3.3.1).
    pub fn reaches(&self, theirs: u64) -> bool {
        theirs < self.highest + FARTHEST
    }

    /// None: reordered in front of the first packet we took, and its number may be used.
    pub fn number(&mut self, theirs: u64) -> Option<u64> {
        self.highest = self.highest.max(theirs);
        let left_out = self.absorbed.iter().take_while(|absorbed| **absorbed < theirs).count();
        Some(self.ours + theirs.checked_sub(self.theirs)? - left_out as u64)
    }

    /// A packet that is not sent on. If later ones are, its number stays free, as if it was lost.
    pub fn absorb(&mut self, theirs: u64) {
        if theirs <= self.highest {
            return;
        }
        self.highest = theirs;
        self.absorbed.push_back(theirs);
        if self.absorbed.len() > MAX_ABSORBED
            && let Some(oldest) = self.absorbed.pop_front()
        {
            self.ours += oldest - self.theirs;
            self.theirs = oldest + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// Rule 16, where padding is left out.
    #[test]
    fn what_is_left_out_leaves_no_gap_unless_later_packets_went_on() {
        let mut numbers = Relayed::starting(100, 7);
        assert_eq!([100, 101].map(|theirs| numbers.number(theirs)), [Some(7), Some(8)]);
        numbers.absorb(102);
        numbers.absorb(103);
        assert_eq!([104, 106, 101].map(|theirs| numbers.number(theirs)), [Some(9), Some(11), Some(8)]);
        numbers.absorb(105);
        assert_eq!([107, 99].map(|theirs| numbers.number(theirs)), [Some(12), None]);
    }

    #[test]
    fn what_is_remembered_of_packets_left_out_is_bounded_and_no_number_is_used_twice() {
        let mut numbers = Relayed::starting(0, 0);
        for theirs in (0..1000).step_by(2) {
            assert_eq!(numbers.number(theirs), Some(theirs / 2));
            numbers.absorb(theirs + 1);
        }
        assert_eq!(numbers.absorbed.len(), MAX_ABSORBED);
        assert_eq!(numbers.number(1000 - 4 * MAX_ABSORBED as u64), None);
        assert_eq!(numbers.number(1000), Some(500));
    }

    proptest! {
        #[test]
        fn a_number_is_new_once_and_late_beyond_the_window(steps in proptest::collection::vec(-1500i64..1500, 1..300)) {
            let (mut received, mut seen, mut highest) = (Received::default(), HashSet::new(), 1u64 << 20);
            received.note(highest);
            seen.insert(highest);
            for step in steps {
                let sequence = highest.wrapping_add_signed(step);
                let want = if sequence + WINDOW <= highest { Arrival::Late }
                    else if seen.insert(sequence) { Arrival::New } else { Arrival::Duplicate };
                prop_assert_eq!(received.note(sequence), want);
                highest = highest.max(sequence);
            }
        }
    }
}
