//! Header extensions on their way: by packet until its frame is complete, then by frame until it leaves. Both are kept
//! beside packets and frames, which have none as a rule.

use super::elements::{self, Elements};
use super::ledger::{MAX_IN_FLIGHT, MAX_PENDING};
use super::packet::Packet;
use super::reorder::RING_PACKETS;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Kept {
    packets: BTreeMap<u64, Elements>,
    frames: BTreeMap<u64, Elements>,
    none: Elements,
}

impl Kept {
    pub fn arrived(&mut self, sequence: u64, elements: Elements) {
        if elements.is_empty() {
            return;
        }
        self.packets.insert(sequence, elements);
        while self.packets.len() > RING_PACKETS {
            self.packets.pop_first();
        }
    }

    /// These packets are a frame; what came before them belongs to none.
    pub fn completed(&mut self, frame: u64, packets: &[Packet]) {
        let (Some(first), Some(last)) = (packets.first(), packets.last()) else { return };
        if self.packets.is_empty() {
            return;
        }
        let later = self.packets.split_off(&(last.sequence + 1));
        let own = std::mem::replace(&mut self.packets, later).split_off(&first.sequence);
        let mut elements = Elements::new();
        own.into_values().flatten().for_each(|element| elements::add(&mut elements, element));
        self.frames.insert(frame, elements);
        while self.frames.len() > MAX_PENDING + MAX_IN_FLIGHT {
            self.frames.pop_first();
        }
    }

    pub fn of(&self, frame: u64) -> &Elements {
        self.frames.get(&frame).unwrap_or(&self.none)
    }

    /// Those of a frame that leaves; what was before it left without.
    pub fn take(&mut self, frame: u64) -> Elements {
        if self.frames.is_empty() {
            return Elements::new();
        }
        let later = self.frames.split_off(&(frame + 1));
        std::mem::replace(&mut self.frames, later).remove(&frame).unwrap_or_default()
    }
}
