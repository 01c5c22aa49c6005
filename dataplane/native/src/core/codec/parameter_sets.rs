//! Parameter sets that were seen: cached, bounded, and put in front of keys that lack them.

use super::h264_syntax::{NAL_PPS, NAL_SPS, Sps, nal_type, pps_ids, sps};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A parameter set longer than this is not cached; real ones have tens of bytes.
const MAX_SET_BYTES: usize = 512;
/// Cached picture parameter sets, of 256 possible ones.
const MAX_PPS: usize = 64;

#[derive(Default)]
pub(super) struct ParameterSets {
    pub(super) sps: BTreeMap<u8, Bytes>,
    pps: BTreeMap<u8, (u8, Bytes)>,
    pub(super) newest: Option<Sps>,
}

impl ParameterSets {
    pub(super) fn note(&mut self, nal: &Bytes) {
        if nal.len() > MAX_SET_BYTES {
            return;
        }
        match nal_type(nal[0]) {
            NAL_SPS => {
                if let Some(parsed) = sps(&nal[1..]) {
                    self.newest = Some(parsed);
                    self.sps.insert(parsed.id, own(nal));
                }
            }
            NAL_PPS => {
                if let Some((id, sps)) = pps_ids(&nal[1..])
                    && (self.pps.len() < MAX_PPS || self.pps.contains_key(&id))
                {
                    self.pps.insert(id, (sps, own(nal)));
                }
            }
            _ => {}
        }
    }

    pub(super) fn of(&self, pps: u8) -> Option<[Bytes; 2]> {
        let (sps, pps) = self.pps.get(&pps)?;
        Some([self.sps.get(sps)?.clone(), pps.clone()])
    }

    pub(super) fn merge(&mut self, newer: ParameterSets) {
        self.newest = newer.newest.or(self.newest);
        self.sps.extend(newer.sps);
        for (id, set) in newer.pps {
            if self.pps.len() < MAX_PPS || self.pps.contains_key(&id) {
                self.pps.insert(id, set);
            }
        }
    }
}

/// A copy, so that a cached set does not keep its whole frame in memory.
pub(super) fn own(nal: &Bytes) -> Bytes {
    Bytes::copy_from_slice(nal)
}

pub(super) fn extend_bounded(set: &mut Vec<u8>, bytes: &[u8]) {
    let room = (MAX_SET_BYTES + 1).saturating_sub(set.len());
    set.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
