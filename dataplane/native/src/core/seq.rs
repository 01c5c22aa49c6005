//! 16-bit sequence numbers and 32-bit timestamps counted on in 64 bits (RFC 3550 appendix A.1).

/// A forward step as long as this is still taken for loss.
const MAX_DROPOUT: i64 = 3000;
/// A packet this far back is still taken for reordering.
const MAX_MISORDER: i64 = 3000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// In the window: the extended number.
    At(u64),
    /// Far outside; dropped unless the next packet confirms it.
    Jump,
    /// The second packet in a row at the new place: the sender restarted its numbering. Its extended number is beyond
    /// all earlier ones.
    Restart(u64),
}

/// Counts a source's sequence numbers on.
#[derive(Debug, Default)]
pub struct Extender {
    highest: Option<u64>,
    /// The number that would confirm a jump.
    expected_after_jump: Option<u16>,
}

impl Extender {
    pub fn extend(&mut self, sequence: u16) -> Sequence {
        let Some(highest) = self.highest else {
            // Start one cycle in, so that packets reordered across zero have a place.
            let first = 0x1_0000 + u64::from(sequence);
            self.highest = Some(first);
            return Sequence::At(first);
        };
        let delta = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        if (-MAX_MISORDER..MAX_DROPOUT).contains(&delta) {
            self.expected_after_jump = None;
            let extended = highest.wrapping_add_signed(delta);
            self.highest = Some(highest.max(extended));
            return Sequence::At(extended);
        }
        if self.expected_after_jump == Some(sequence) {
            self.expected_after_jump = None;
            let extended = (highest / 0x1_0000 + 2) * 0x1_0000 + u64::from(sequence);
            self.highest = Some(extended);
            return Sequence::Restart(extended);
        }
        self.expected_after_jump = Some(sequence.wrapping_add(1));
        Sequence::Jump
    }

    /// The extended number of a packet that was sent before, by the number that it had then. It confirms and moves nothing.
    pub fn recall(&self, sequence: u16) -> Option<u64> {
        let highest = self.highest?;
        let behind = i64::from((highest as u16).wrapping_sub(sequence) as i16);
        (0..MAX_MISORDER).contains(&behind).then(|| highest - behind as u64)
    }

    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// Counts a source's timestamps on; they may run backwards by less than 2^31 (pictures in decoding order).
#[derive(Debug, Default)]
pub struct Timestamps {
    last: Option<i64>,
}

impl Timestamps {
    pub fn starting(timestamp: u32) -> Timestamps {
        Timestamps { last: Some(i64::from(timestamp)) }
    }

    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let unwrapped = match self.last {
            None => i64::from(timestamp),
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
        };
        self.last = Some(unwrapped);
        unwrapped
    }

    /// Where `timestamp` lies near the last one, without moving on to it.
    pub fn near(&self, timestamp: u32) -> i64 {
        self.last.map_or(i64::from(timestamp), |last| last + i64::from(timestamp.wrapping_sub(last as u32) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counting_goes_on_over_the_wrap() {
        let mut e = Extender::default();
        let Sequence::At(first) = e.extend(65534) else { panic!() };
        assert_eq!(e.extend(65535), Sequence::At(first + 1));
        assert_eq!(e.extend(1), Sequence::At(first + 3));
        assert_eq!(e.extend(0), Sequence::At(first + 2));
        assert_eq!(e.extend(65533), Sequence::At(first - 1));
    }

    #[test]
    fn one_stray_number_changes_nothing_two_in_a_row_restart() {
        let mut e = Extender::default();
        let Sequence::At(first) = e.extend(100) else { panic!() };
        assert_eq!(e.extend(30000), Sequence::Jump);
        assert_eq!(e.extend(101), Sequence::At(first + 1));
        assert_eq!(e.extend(30000), Sequence::Jump);
        let Sequence::Restart(again) = e.extend(30001) else { panic!() };
        assert!(again > first + 1);
        assert_eq!(again as u16, 30001);
        assert_eq!(e.extend(30002), Sequence::At(again + 1));
    }

    #[test]
    fn a_packet_sent_again_has_its_old_number_and_changes_nothing() {
        let mut e = Extender::default();
        assert_eq!(e.recall(5), None);
        let Sequence::At(first) = e.extend(65_535) else { panic!() };
        e.extend(10);
        assert_eq!([65_535, 10, 11, 30_000].map(|s| e.recall(s)), [Some(first), Some(first + 11), None, None]);
        assert_eq!(e.extend(11), Sequence::At(first + 12));
    }

    #[test]
    fn timestamps_go_on_over_the_wrap_and_may_step_back() {
        let mut t = Timestamps::default();
        assert_eq!(t.unwrap(u32::MAX - 10), i64::from(u32::MAX) - 10);
        assert_eq!(t.unwrap(5), i64::from(u32::MAX) + 6);
        assert_eq!(t.unwrap(u32::MAX), i64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn any_walk_inside_the_window_is_followed(start: u16, steps in proptest::collection::vec(-50i64..200, 1..400)) {
            let mut e = Extender::default();
            let Sequence::At(mut true_highest) = e.extend(start) else { panic!() };
            for step in steps {
                let real = true_highest.wrapping_add_signed(step);
                prop_assert_eq!(e.extend(real as u16), Sequence::At(real));
                true_highest = true_highest.max(real);
            }
        }
    }
}
