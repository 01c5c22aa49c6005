//! A receiver behind a link that loses: it puts packets in order, asks again for those it misses, and when it has waited
//! long enough goes on at a key that it asks for.

use super::Left;
use auralink_native::core::Time;
use std::collections::BTreeMap;
use std::time::Duration;

const ASK_AGAIN: Duration = Duration::from_millis(50);
const GIVE_UP: Duration = Duration::from_millis(1000);
const PLIS_APART: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Missing {
    since: Time,
    ask: Time,
}

#[derive(Default)]
pub struct Receiver {
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    /// Behind the first that is missing.
    waiting: BTreeMap<u64, Left>,
    next: Option<u64>,
    pub received: u64,
    pub given_up: u64,
    /// Packets that never came are in front of those that `ordered` gives next.
    pub hole: bool,
    pli: Option<Time>,
}

impl Receiver {
    pub fn take(&mut self, left: Left) {
        let short = left.rtp().sequence;
        let highest = self.highest.unwrap_or(u64::from(short));
        let sequence = highest.wrapping_add_signed(i64::from(short.wrapping_sub(highest as u16) as i16));
        let (since, ask) = (left.at, left.at);
        self.missing.extend((highest + 1..sequence).map(|lost| (lost, Missing { since, ask })));
        self.highest = Some(highest.max(sequence));
        self.missing.remove(&sequence);
        let next = *self.next.get_or_insert(sequence);
        if sequence >= next && self.waiting.insert(sequence, left).is_none() {
            self.received += 1;
        }
    }

    /// The next packet in order.
    pub fn ordered(&mut self) -> Option<Left> {
        let next = self.next?;
        let left = self.waiting.remove(&next)?;
        self.next = Some(next + 1);
        Some(left)
    }

    /// What to ask for again now; what is missing for too long is given up.
    pub fn asks(&mut self, now: Time) -> Vec<u16> {
        let before = self.missing.len();
        self.missing.retain(|_, missing| now - missing.since < GIVE_UP);
        self.given_up += (before - self.missing.len()) as u64;
        if let (Some(next), Some((first, _))) = (self.next, self.waiting.first_key_value())
            && *first > next
            && self.missing.first_key_value().is_none_or(|(missing, _)| missing > first)
        {
            (self.next, self.hole) = (Some(*first), true);
        }
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.ask <= now);
        due.map(|(sequence, missing)| {
            missing.ask = now + ASK_AGAIN;
            *sequence as u16
        })
        .collect()
    }

    /// Whether to ask for a key now, while there is one wanted.
    pub fn asks_key(&mut self, now: Time) -> bool {
        if self.pli.is_some_and(|last| now - last < PLIS_APART) {
            return false;
        }
        self.pli = Some(now);
        true
    }

    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.given_up == 0
    }

    /// When `asks` has something to do.
    pub fn due(&self) -> Option<Time> {
        self.missing.values().map(|missing| missing.ask.min(missing.since + GIVE_UP)).min()
    }
}
