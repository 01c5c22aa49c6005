//! The descriptors of a source. Packets come in any order and frames do not, and a descriptor can be read only with the
//! structure in force, so they wait for their packets to be released.
//!
//! What is lost may have been anything to those who count packets only. Of a stream of one spatial layer the descriptors
//! tell: a packet says where the chains were before it, so that the first one behind a hole says whether a frame in it was
//! one that no target can do without; and a frame says what it refers to, so that one whose reference was lost is left out
//! alone, if the chains do without it too. Where there are no chains only a frame that nothing refers to is lost alone.

use super::{Described, Descriptor, Dti, Part, Structure, Template};
use crate::core::numbers::{Id, MOST};
use crate::core::packet::{Content, Packet, PacketInfo};
use crate::core::reorder::RING_PACKETS;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Numbers remembered of frames that did not come; no sane sender refers further back to one that its receiver may lack.
const MOST_MISSING: usize = 256;
/// No difference is greater than 4096; behind it numbers are forgotten before they come round.
const MOST_BACK: u16 = 4096;

/// What becomes of a whole frame behind those that were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// All that it refers to is there, as far as it is known.
    Sound,
    /// It refers to one that is not, and the chains go on without it.
    LeftOut,
    /// A chain is broken: nothing goes on before the next key.
    Broken,
}

#[derive(Debug, Default)]
pub struct Received {
    /// By packet, until it is released.
    arrived: BTreeMap<u64, Bytes>,
    /// Of released packets whose frame is not whole yet.
    read: VecDeque<Read>,
    /// The newest.
    structure: Option<Arc<Structure>>,
    active: u32,
    frames: Frames,
}

#[derive(Debug)]
struct Read {
    sequence: u64,
    descriptor: Descriptor,
    /// The one in force.
    structure: Arc<Structure>,
    /// It came with this packet and is another than before.
    new: bool,
}

/// Which frames came.
#[derive(Debug, Default)]
struct Frames {
    /// The newest that is whole.
    last: Option<u16>,
    /// Of those in front of it, the newest that are not, or were left out.
    missing: VecDeque<u16>,
}

impl Received {
    /// A packet's descriptor, if it has one.
    pub fn arrived(&mut self, sequence: u64, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return };
        self.arrived.insert(sequence, Bytes::copy_from_slice(bytes));
        while self.arrived.len() > RING_PACKETS {
            self.arrived.pop_first();
        }
    }

    /// Sequence numbers start anew. The structure is one of the stream.
    pub fn restart(&mut self) {
        self.arrived.clear();
        self.read.clear();
        self.frames = Frames::default();
    }

    /// A packet is the next in order: what its descriptor says of it counts too.
    pub fn read(&mut self, packet: &mut Packet) {
        if self.arrived.is_empty() {
            return;
        }
        let Some(bytes) = self.arrived.remove(&packet.sequence) else { return };
        let Content::Media(info) = &mut packet.content else { return };
        let Some(mut descriptor) = Descriptor::read(&bytes, self.structure.as_ref()) else { return };
        let told = descriptor.structure.take();
        let new = told.is_some() && told != self.structure;
        if let Some(structure) = told {
            info.key |= descriptor.start;
            self.active = structure.all();
            if new {
                self.structure = Some(structure);
            }
        }
        self.active = descriptor.active.unwrap_or(self.active);
        let Some(structure) = self.structure.clone() else { return };
        self.tell(&structure, &descriptor, info);
        self.read.push_back(Read { sequence: packet.sequence, descriptor, structure, new });
        if self.read.len() > RING_PACKETS {
            self.read.pop_front();
        }
    }

    fn tell(&self, structure: &Structure, descriptor: &Descriptor, info: &mut PacketInfo) {
        let Some(template) = structure.template(descriptor.template) else { return };
        info.starts_frame |= descriptor.start && template.sid == 0;
        if structure.is_layered() {
            return; // a packet does not say what else its timestamp has
        }
        let chains = Chains { structure, active: self.active, dtis: descriptor.dtis(template) };
        info.discardable = Some(info.discardable == Some(true) || chains.do_without());
        info.picture = info.picture.or(Some(Id { number: descriptor.number & MOST, wide: true }));
        info.intact = self.frames.lead_to(descriptor, template, &chains);
    }

    /// What the packets of a whole frame say. None: nothing, or what does not belong together.
    pub fn frame(&mut self, packets: &[Packet], key: bool) -> Option<Described> {
        if self.read.is_empty() {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut structures: Vec<Arc<Structure>> = Vec::new();
        let (mut silent, mut told) = (0, key);
        for packet in packets {
            let Some(Read { descriptor, structure, new, .. }) = self.take(packet.sequence) else {
                // Of the same part as the one before, or as the first that says something.
                *parts.last_mut().map_or(&mut silent, |part| &mut part.packets) += 1;
                continue;
            };
            told |= new;
            if !structures.iter().any(|known| Arc::ptr_eq(known, &structure)) {
                structures.push(structure);
            }
            match parts.last_mut() {
                Some(part) if part.descriptor.number == descriptor.number => {
                    part.packets += 1;
                    part.descriptor.active = part.descriptor.active.or(descriptor.active);
                }
                _ => parts.push(Part { packets: 1 + std::mem::take(&mut silent), descriptor }),
            }
        }
        let structure = structures.pop().filter(|_| structures.is_empty())?;
        let active = Some(self.active).filter(|active| *active != structure.all());
        Some(Described { structure, told, active, parts })
    }

    /// That of a packet; those of packets in front of it belong to no frame.
    fn take(&mut self, sequence: u64) -> Option<Read> {
        while self.read.front().is_some_and(|read| read.sequence < sequence) {
            self.read.pop_front();
        }
        if self.read.front()?.sequence == sequence { self.read.pop_front() } else { None }
    }

    /// Does a frame go on? In order, and none behind one that broke a chain but a key.
    pub fn judge(&mut self, described: Option<&Described>, key: bool) -> Judged {
        let Some(described) = described else { return self.frames.unnumbered(key) };
        let mut judged = Judged::Sound;
        for Part { descriptor, .. } in &described.parts {
            let Some(template) = described.structure.template(descriptor.template) else { continue };
            let structure = &*described.structure;
            let chains = Chains { structure, active: self.active, dtis: descriptor.dtis(template) };
            match self.frames.note(descriptor, template, &chains) {
                _ if key || structure.is_layered() => {}
                Judged::Sound => {}
                worse if judged == Judged::Sound || worse == Judged::Broken => judged = worse,
                _ => {}
            }
        }
        if judged != Judged::Sound {
            described.parts.iter().for_each(|part| self.frames.miss(part.descriptor.number));
        }
        judged
    }
}

impl Described {
    /// Nothing refers to it: each part is discardable, to whom it is anything.
    pub fn is_discardable(&self) -> bool {
        let dtis =
            |part: &Part| self.structure.template(part.descriptor.template).map(|t| part.descriptor.dtis(t).to_vec());
        self.parts.iter().all(|part| dtis(part).is_some_and(|dtis| are_discardable(&dtis)))
    }

    /// The highest temporal and spatial layer of its parts.
    pub fn layers(&self) -> (u8, u8) {
        let templates = self.parts.iter().filter_map(|part| self.structure.template(part.descriptor.template));
        templates.fold((0, 0), |(tid, sid), template| (tid.max(template.tid), sid.max(template.sid)))
    }
}

fn are_discardable(dtis: &[Dti]) -> bool {
    dtis.contains(&Dti::Discardable) && !dtis.iter().any(|dti| matches!(dti, Dti::Switch | Dti::Required))
}

/// The chains, and what a frame is to their targets.
struct Chains<'a> {
    structure: &'a Structure,
    active: u32,
    dtis: &'a [Dti],
}

impl Chains<'_> {
    fn targets(&self, chain: u8) -> impl Iterator<Item = usize> {
        self.structure.protected_by.iter().enumerate().filter(move |(_, by)| **by == chain).map(|(target, _)| target)
    }

    /// Those of targets that are sent; the others say nothing (A.5).
    fn active(&self) -> impl Iterator<Item = u8> {
        (0..self.structure.chains).filter(|chain| self.targets(*chain).any(|target| self.active >> target & 1 != 0))
    }

    /// The frame is of none of them (A.6); without chains, nothing refers to it.
    fn do_without(&self) -> bool {
        let needs = |target: usize| matches!(self.dtis.get(target), Some(Dti::Switch | Dti::Required));
        match self.structure.chains {
            0 => are_discardable(self.dtis),
            _ => !self.active().any(|chain| self.targets(chain).all(needs)),
        }
    }
}

impl Frames {
    /// What is missing in front of a packet of this frame is nothing that it or the chains need.
    fn lead_to(&self, descriptor: &Descriptor, template: &Template, chains: &Chains<'_>) -> bool {
        let Some(last) = self.last else { return false };
        let number = descriptor.number;
        let there = |back: u16| {
            let wanted = number.wrapping_sub(back);
            !is_after(wanted, last) && !self.missing.contains(&wanted)
        };
        let ahead = is_after(number, last);
        ahead
            && match chains.structure.chains {
                0 => descriptor.fdiffs(template).iter().all(|back| there(*back)),
                _ => starts(descriptor, template, chains).all(there),
            }
    }

    /// The next frame is whole.
    fn note(&mut self, descriptor: &Descriptor, template: &Template, chains: &Chains<'_>) -> Judged {
        let number = descriptor.number;
        let Some(last) = self.last.replace(number).filter(|last| is_after(number, *last)) else {
            self.missing.clear(); // numbered anew
            return Judged::Sound;
        };
        let between = number.wrapping_sub(last) - 1;
        for back in (1..=between.min(MOST_MISSING as u16)).rev() {
            self.miss(number.wrapping_sub(back));
        }
        while self.missing.front().is_some_and(|front| number.wrapping_sub(*front) > MOST_BACK) {
            self.missing.pop_front();
        }
        let lost = |back: u16| self.missing.contains(&number.wrapping_sub(back));
        if starts(descriptor, template, chains).any(lost) {
            return Judged::Broken;
        }
        if !descriptor.fdiffs(template).iter().any(|back| lost(*back)) {
            return Judged::Sound;
        }
        if chains.do_without() { Judged::LeftOut } else { Judged::Broken }
    }

    fn miss(&mut self, number: u16) {
        self.missing.push_back(number);
        if self.missing.len() > MOST_MISSING {
            self.missing.pop_front();
        }
    }

    /// A frame that says nothing may refer to any.
    fn unnumbered(&mut self, key: bool) -> Judged {
        let broken = !key && !self.missing.is_empty();
        (self.last, self.missing) = (None, VecDeque::new());
        if broken { Judged::Broken } else { Judged::Sound }
    }
}

/// How far back the chains were before this frame.
fn starts<'a>(descriptor: &'a Descriptor, template: &'a Template, chains: &'a Chains<'a>) -> impl Iterator<Item = u16> {
    let fdiffs = descriptor.chains(template);
    chains
        .active()
        .filter_map(|chain| fdiffs.get(usize::from(chain)))
        .filter(|back| **back > 0)
        .map(|back| u16::from(*back))
}

fn is_after(number: u16, other: u16) -> bool {
    (1..1 << 15).contains(&number.wrapping_sub(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Time;

    fn template(tid: u8, dtis: &[Dti], back: u16, chain: u8) -> Template {
        let fdiffs = if back > 0 { vec![back] } else { Vec::new() };
        Template { tid, dtis: dtis.to_vec(), fdiffs, chains: vec![chain], ..Template::default() }
    }

    /// Two temporal layers, of which the upper one refers to the frame before and nothing to it; target 0 is the lower.
    fn two_layers(chains: u8) -> Arc<Structure> {
        use Dti::{Discardable, NotPresent, Switch};
        let mut templates = vec![
            template(0, &[Switch, Switch], 0, 0),
            template(0, &[Switch, Switch], 2, 2),
            template(1, &[NotPresent, Discardable], 1, 1),
        ];
        templates.iter_mut().for_each(|template| template.chains.truncate(usize::from(chains)));
        let protected_by = if chains > 0 { vec![0, 0] } else { Vec::new() };
        Arc::new(Structure { offset: 0, targets: 2, templates, protected_by, chains, sizes: Vec::new() })
    }

    fn packet(sequence: u64) -> Packet {
        Packet {
            sequence,
            timestamp: 0,
            marker: true,
            arrived: Time(0),
            payload: Bytes::from_static(b"x"),
            content: Content::Media(PacketInfo::default()),
        }
    }

    fn info(packet: &Packet) -> PacketInfo {
        match packet.content {
            Content::Media(info) => info,
            _ => panic!("media"),
        }
    }

    /// What a packet with this descriptor says, next in order.
    fn read(received: &mut Received, sequence: u64, known: &Structure, descriptor: &Descriptor) -> Packet {
        let mut packet = packet(sequence);
        received.arrived(sequence, descriptor.write(known).as_deref());
        received.read(&mut packet);
        packet
    }

    fn whole(number: u16, template: u8) -> Descriptor {
        Descriptor { start: true, end: true, template, number, ..Descriptor::default() }
    }

    /// A stream behind its key, number 10, which had the structure.
    fn started(structure: &Arc<Structure>) -> Received {
        let mut received = Received::default();
        let key = Descriptor { structure: Some(structure.clone()), ..whole(10, 0) };
        let packet = read(&mut received, 10, structure, &key);
        assert_eq!((info(&packet).key, info(&packet).starts_frame), (true, true));
        let described = received.frame(&[packet], true).unwrap();
        assert!(described.told);
        assert_eq!(received.judge(Some(&described), true), Judged::Sound);
        received
    }

    /// A whole frame of one packet; its sequence number is its frame number.
    fn frame(received: &mut Received, structure: &Structure, descriptor: &Descriptor) -> (PacketInfo, Judged) {
        let packet = read(received, u64::from(descriptor.number), structure, descriptor);
        let info = info(&packet);
        let described = received.frame(&[packet], false).unwrap();
        (info, received.judge(Some(&described), false))
    }

    #[test]
    fn descriptors_wait_for_their_packets_to_be_next() {
        let structure = two_layers(1);
        let mut received = Received::default();
        received.arrived(11, whole(11, 2).write(&structure).as_deref());
        let key = Descriptor { structure: Some(structure.clone()), ..whole(10, 0) };
        let first = read(&mut received, 10, &structure, &key);
        let mut second = packet(11);
        received.read(&mut second);
        assert_eq!((info(&first).discardable, info(&second).discardable), (Some(false), Some(true)));
        let described = received.frame(&[first], true).unwrap();
        assert_eq!((described.structure.clone(), described.parts.len()), (structure, 1));
        let described = received.frame(&[second], false).unwrap();
        assert_eq!((described.told, described.layers(), described.is_discardable()), (false, (1, 0), true));
    }

    #[test]
    fn what_is_missing_matters_to_the_chain_or_to_nobody() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        // 11, of the upper layer, is missing; the lower one goes on.
        let (info, judged) = frame(&mut received, &structure, &whole(12, 1));
        assert_eq!((info.intact, judged), (true, Judged::Sound));
        // 13 and 14 are missing, and 14 is of the chain.
        let (info, judged) = frame(&mut received, &structure, &whole(15, 2));
        assert_eq!((info.intact, judged), (false, Judged::Broken));
    }

    #[test]
    fn a_frame_that_refers_to_a_missing_one_goes_with_it() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        let own = Descriptor { fdiffs: Some(vec![1]), chains: Some(vec![2]), ..whole(12, 2) };
        let (info, judged) = frame(&mut received, &structure, &own);
        assert_eq!((info.intact, judged), (true, Judged::LeftOut));
        let next = Descriptor { fdiffs: Some(vec![1]), chains: Some(vec![3]), ..whole(13, 2) };
        assert_eq!(frame(&mut received, &structure, &next).1, Judged::LeftOut, "it refers to that");
        let chain = Descriptor { chains: Some(vec![4]), fdiffs: Some(vec![4]), ..whole(14, 1) };
        assert_eq!(frame(&mut received, &structure, &chain).1, Judged::Sound);
    }

    #[test]
    fn without_chains_only_what_nothing_refers_to_is_left_out() {
        let structure = two_layers(0);
        let mut received = started(&structure);
        assert_eq!(frame(&mut received, &structure, &whole(12, 2)).1, Judged::LeftOut);
        assert_eq!(frame(&mut received, &structure, &whole(13, 1)).1, Judged::Broken);
    }

    #[test]
    fn chains_of_targets_that_are_not_sent_say_nothing() {
        let mut structure = Structure::clone(&two_layers(1));
        (structure.chains, structure.protected_by) = (2, vec![0, 1]);
        structure.templates.iter_mut().for_each(|template| template.chains.push(template.chains[0] / 2));
        let structure = Arc::new(structure);
        let broken_above = Descriptor { chains: Some(vec![2, 1]), ..whole(12, 1) };
        let mut received = started(&structure);
        assert_eq!(frame(&mut received, &structure, &broken_above).1, Judged::Broken);
        let mut received = started(&structure);
        let masked = Descriptor { active: Some(0b01), ..broken_above };
        let (info, judged) = frame(&mut received, &structure, &masked);
        assert_eq!((info.intact, judged), (true, Judged::Sound));
        let later = Descriptor { chains: Some(vec![2, 1]), ..whole(14, 1) };
        assert_eq!(frame(&mut received, &structure, &later).1, Judged::Sound, "the mask stays");
    }

    #[test]
    fn numbers_that_go_back_begin_anew_and_frames_without_one_end_what_is_known() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        frame(&mut received, &structure, &whole(12, 1));
        assert_eq!(frame(&mut received, &structure, &whole(5, 2)).1, Judged::Sound);
        frame(&mut received, &structure, &whole(30_000, 1));
        assert_eq!(received.frames.missing.len(), MOST_MISSING);
        assert_eq!(received.judge(None, false), Judged::Broken, "it may refer to any of them");
        assert_eq!(frame(&mut received, &structure, &whole(30_001, 2)).1, Judged::Sound);
        assert_eq!(received.judge(None, false), Judged::Sound);
    }

    #[test]
    fn a_number_that_comes_round_is_not_missing_for_ever() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        assert_eq!(frame(&mut received, &structure, &whole(12, 1)).1, Judged::Sound);
        assert_eq!(received.frames.missing, [11]);
        let flat = Descriptor { fdiffs: Some(vec![1]), chains: Some(vec![1]), ..whole(0, 1) };
        for sequence in 13..66_000u64 {
            let descriptor = Descriptor { number: sequence as u16, ..flat.clone() };
            let packet = read(&mut received, sequence, &structure, &descriptor);
            let described = received.frame(&[packet], false);
            assert_eq!(received.judge(described.as_ref(), false), Judged::Sound, "{sequence}");
        }
    }

    #[test]
    fn packets_that_say_nothing_are_of_the_part_around_them() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        let part = |number| Descriptor { active: Some(1), ..whole(number, 1) };
        let mut packets = vec![packet(11)];
        packets.push(read(&mut received, 12, &structure, &part(12)));
        packets.push(packet(13));
        packets.push(read(&mut received, 14, &structure, &part(13)));
        packets.push(read(&mut received, 15, &structure, &part(13)));
        let described = received.frame(&packets, false).unwrap();
        let parts: Vec<(usize, u16)> =
            described.parts.iter().map(|part| (part.packets, part.descriptor.number)).collect();
        assert_eq!(parts, [(3, 12), (2, 13)]);
        assert_eq!(described.active, Some(1));
        assert_eq!(received.frame(&[packet(16)], false), None);
    }

    #[test]
    fn a_frame_of_two_structures_is_none() {
        let (structure, other) = (two_layers(1), two_layers(0));
        let mut received = started(&structure);
        let first = read(&mut received, 11, &structure, &whole(12, 1));
        let second = Descriptor { structure: Some(other.clone()), ..whole(12, 1) };
        let packets = [first, read(&mut received, 12, &other, &second)];
        assert_eq!(received.frame(&packets, false), None);
    }

    #[test]
    fn of_several_spatial_layers_a_packet_tells_no_more_than_where_they_start() {
        let mut structure = Structure::clone(&two_layers(1));
        structure.templates[2] = Template { sid: 1, tid: 0, ..structure.templates[2].clone() };
        let structure = Arc::new(structure);
        let mut received = started(&structure);
        for (template, starts_frame) in [(1, true), (2, false)] {
            let packet = read(&mut received, 20 + u64::from(template), &structure, &whole(40, template));
            assert_eq!(info(&packet), PacketInfo { starts_frame, ..PacketInfo::default() });
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let structure = two_layers(1);
        let mut received = started(&structure);
        for sequence in 0..3 * RING_PACKETS as u64 {
            read(&mut received, 100 + sequence, &structure, &whole(11, 1));
        }
        for sequence in 0..3 * RING_PACKETS as u64 {
            received.arrived(10_000 + sequence, whole(11, 1).write(&structure).as_deref());
        }
        assert_eq!((received.read.len(), received.arrived.len()), (RING_PACKETS, RING_PACKETS));
    }
}
