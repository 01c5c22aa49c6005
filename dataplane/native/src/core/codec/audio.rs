//! Audio is relayed packet by packet on arrival, gaps kept, or the decoder's concealment and Opus' in-band FEC (RFC
//! 7587) would see no loss. So all that is needed is which sequence number a packet gets, and which came twice.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

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
