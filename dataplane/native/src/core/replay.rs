//! Which packet numbers of one SRTP source were received (RFC 3711 sections 3.3.1 and 3.3.2). Nothing is noted before the
//! packet is authenticated.

/// Numbers behind the highest that are still told apart: at 10 Mb/s a packet resent after 250 ms is 300 behind.
pub const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;
/// One above the highest SRTP index: 32 bits of rollover count, 16 of sequence number.
const INDEXES: u64 = 1 << 48;

#[derive(Clone, Debug, Default)]
pub struct Window {
    highest: Option<u64>,
    /// A bit per number, at the number modulo the window.
    seen: [u64; WORDS],
}

impl Window {
    /// Is this number neither noted nor too old to say?
    pub fn is_fresh(&self, number: u64) -> bool {
        match self.highest {
            Some(highest) if number <= highest => {
                highest - number < WINDOW && self.seen[word(number)] & bit(number) == 0
            }
            _ => true,
        }
    }

    pub fn note(&mut self, number: u64) {
        let highest = self.highest.unwrap_or(number);
        if number > highest {
            let skipped = (number - highest).min(WINDOW);
            (0..skipped).for_each(|n| self.seen[word(number - n)] &= !bit(number - n));
        }
        self.seen[word(number)] |= bit(number);
        self.highest = Some(highest.max(number));
    }

    /// The index that a sequence number most likely has: the one nearest to the highest; in rollover count 0 for a source
    /// not heard yet. None: it would lie outside of all indexes.
    pub fn index_of(&self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.highest else { return Some(u64::from(sequence)) };
        let step = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        highest.checked_add_signed(step).filter(|index| *index < INDEXES)
    }
}

fn word(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_index_goes_on_over_the_wrap_and_back() {
        let mut window = Window::default();
        assert_eq!(window.index_of(40_000), Some(40_000), "the first is taken at its word");
        window.note(65_534);
        assert_eq!(window.index_of(2), Some(65_538));
        window.note(65_538);
        assert_eq!(window.index_of(65_535), Some(65_535));
    }

    #[test]
    fn there_is_no_index_below_zero_or_beyond_48_bits() {
        let mut window = Window::default();
        window.note(2);
        assert_eq!(window.index_of(65_535), None);
        window.note(INDEXES - 1);
        assert_eq!(window.index_of(0), None);
    }

    proptest! {
        /// Against a set of all numbers ever noted.
        #[test]
        fn a_number_is_fresh_once_and_only_inside_the_window(
            start in 0u64..100_000, steps in proptest::collection::vec((-1100i64..1100, 0u8..4), 1..600)
        ) {
            let (mut window, mut noted) = (Window::default(), BTreeSet::new());
            let mut at = start;
            for (step, scale) in steps {
                at = at.saturating_add_signed(step >> (3 * scale));
                let highest = noted.last().copied().unwrap_or(0);
                let fresh = !noted.contains(&at) && (noted.is_empty() || at + WINDOW > highest);
                prop_assert_eq!(window.is_fresh(at), fresh);
                if fresh {
                    window.note(at);
                    noted.insert(at);
                }
            }
        }
    }
}
