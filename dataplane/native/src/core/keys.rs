//! When a keyframe is asked of a source: at once, then a second apart until the key comes, at most three in
//! ten seconds, for encoders and SFUs answer no faster.

use super::Time;
use std::time::Duration;

const APART: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const PER_WINDOW: usize = 3;

#[derive(Debug, Default)]
pub struct KeyRequests {
    wanted: bool,
    /// The last requests sent, oldest first.
    sent: [Option<Time>; PER_WINDOW],
    pub total: u64,
}

impl KeyRequests {
    /// False: it was wanted already.
    pub fn want(&mut self) -> bool {
        !std::mem::replace(&mut self.wanted, true)
    }

    /// A key came.
    pub fn satisfied(&mut self) {
        self.wanted = false;
    }

    /// Send a request now?
    pub fn due(&mut self, now: Time) -> bool {
        if self.deadline().is_none_or(|at| at > now) {
            return false;
        }
        self.sent.rotate_left(1);
        self.sent[PER_WINDOW - 1] = Some(now);
        self.total += 1;
        true
    }

    pub fn deadline(&self) -> Option<Time> {
        let apart = self.sent[PER_WINDOW - 1].map_or(Time(0), |last| last + APART);
        let window = self.sent[0].map_or(Time(0), |first| first + WINDOW);
        self.wanted.then_some(apart.max(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_out_at_once_then_a_second_apart_three_in_ten_seconds() {
        let mut keys = KeyRequests::default();
        let mut sent = Vec::new();
        for ms in (0..25_000).step_by(100) {
            keys.want();
            if keys.due(Time::from_millis(ms)) {
                sent.push(ms);
            }
        }
        assert_eq!(sent, [0, 1000, 2000, 10_000, 11_000, 12_000, 20_000, 21_000, 22_000]);
    }

    #[test]
    fn a_key_ends_the_asking() {
        let mut keys = KeyRequests::default();
        keys.want();
        assert!(keys.due(Time(0)));
        keys.satisfied();
        assert_eq!(keys.deadline(), None);
    }
}
