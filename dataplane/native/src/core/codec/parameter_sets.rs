//! Parameter sets that were seen: cached, bounded, and put in front of keys that lack them.

use bytes::Bytes;
use std::array::from_fn;
use std::collections::BTreeMap;

/// A parameter set longer than this is not cached; real ones have tens of bytes.
const MAX_SET_BYTES: usize = 512;
/// Cached sets of one kind; of the 256 possible PPS of H.264 some are left out.
const MAX_SETS: usize = 64;

/// Where a parameter set belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// 0: what slices name (PPS); 1: what those name (SPS), and so on.
    pub(super) kind: usize,
    pub(super) id: u8,
    /// The set of the next kind that it names.
    pub(super) refers_to: u8,
}

/// Parameter sets of so many kinds.
pub(super) struct ParameterSets<const KINDS: usize> {
    kinds: [BTreeMap<u8, (u8, Bytes)>; KINDS],
}

impl<const KINDS: usize> Default for ParameterSets<KINDS> {
    fn default() -> Self {
        ParameterSets { kinds: from_fn(|_| BTreeMap::new()) }
    }
}

impl<const KINDS: usize> ParameterSets<KINDS> {
    pub(super) fn note(&mut self, place: Place, nal: &Bytes) {
        self.insert(place.kind, place.id, (place.refers_to, own(nal)));
    }

    /// The set of this id that slices name, behind those that it needs.
    pub(super) fn of(&self, id: u8) -> Option<[Bytes; KINDS]> {
        let mut id = id;
        let mut chain = from_fn(|_| Bytes::new());
        for (kind, sets) in self.kinds.iter().enumerate() {
            let (next, nal) = sets.get(&id)?;
            chain[KINDS - 1 - kind] = nal.clone();
            id = *next;
        }
        Some(chain)
    }

    pub(super) fn merge(&mut self, newer: ParameterSets<KINDS>) {
        for (kind, sets) in newer.kinds.into_iter().enumerate() {
            sets.into_iter().for_each(|(id, set)| self.insert(kind, id, set));
        }
    }

    fn insert(&mut self, kind: usize, id: u8, set: (u8, Bytes)) {
        let sets = &mut self.kinds[kind];
        if sets.len() < MAX_SETS || sets.contains_key(&id) {
            sets.insert(id, set);
        }
    }
}

/// Not cut off by [`extend_bounded`], nor too long to be cached.
pub(super) fn is_whole(nal: &[u8]) -> bool {
    nal.len() <= MAX_SET_BYTES
}

/// A copy, so that a cached set does not keep its whole frame in memory.
fn own(nal: &Bytes) -> Bytes {
    Bytes::copy_from_slice(nal)
}

pub(super) fn extend_bounded(set: &mut Vec<u8>, bytes: &[u8]) {
    let room = (MAX_SET_BYTES + 1).saturating_sub(set.len());
    set.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: usize, id: u8, refers_to: u8) -> Place {
        Place { kind, id, refers_to }
    }

    #[test]
    fn a_set_comes_behind_those_it_needs_or_not_at_all() {
        let [low, middle, high] = [b"low", b"mid", b"top"].map(|set| Bytes::from_static(set));
        let mut sets = ParameterSets::<3>::default();
        sets.note(place(0, 7, 3), &low);
        sets.note(place(2, 1, 0), &high);
        assert_eq!(sets.of(7), None);
        let mut newer = ParameterSets::default();
        newer.note(place(1, 3, 1), &middle);
        sets.merge(newer);
        assert_eq!(sets.of(7), Some([high, middle, low]));
    }

    #[test]
    fn sets_of_one_kind_are_bounded_and_known_ones_are_renewed() {
        let mut sets = ParameterSets::<1>::default();
        (0..=255).for_each(|id| sets.note(place(0, id, 0), &Bytes::from_static(b"old")));
        sets.note(place(0, 63, 0), &Bytes::from_static(b"new"));
        assert_eq!(sets.of(63), Some([Bytes::from_static(b"new")]));
        assert_eq!(sets.of(64), None);
    }
}
