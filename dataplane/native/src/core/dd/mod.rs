//! The dependency descriptor, a header extension that says of each packet which frame it is part of, what that frame refers
//! to and who needs it (AOM "RTP Payload Format For AV1" 1.0, appendix A). It came with AV1; any codec may have it.
//!
//! ```text
//! mandatory  |S|E| template  |         frame number          |     S, E: the frame starts, ends in this packet
//! then, if there are more than three bytes:
//!            |T|A|D|F|C|                                            which of the following are there
//!       if T | offset    | targets-1 | layers, DTIs, differences, chains and sizes of templates
//!       if A | a bit per decode target |                            those that are sent at all
//!       if D | DTI |                    2 bits per decode target    instead of its template's
//!       if F |size| difference - 1 |    as often as size > 0        instead of its template's
//!       if C | difference |             8 bits per chain            instead of its template's
//! ```
//! A decode target is a choice of layers. A DTI says what a frame is to one of them, a difference which frame it refers to
//! (so many numbers before), and a chain leads over the frames that a target cannot do without. What most frames have in
//! common stands in the templates of a structure, which comes with a key and holds until the next.
//!
//! `syntax` reads and writes the bytes; [`Received`] is the descriptors of a source, packet by packet in order; [`Sent`]
//! those of an out, which are rewritten: numbers go on over a change of mode or source, and so do the templates' ids.

mod received;
mod sent;
mod syntax;

pub use received::{Judged, Received};
pub use sent::Sent;

use super::codec::{FrameInfo, Limits, Payload, VideoCodec};
use super::packet::Packet;
use std::sync::Arc;

/// In a leg's table of header extensions (A.9). Elements of more than 16 bytes need the two-byte form (RFC 8285 4.3), so a
/// leg that names it allows that.
pub const URI: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Template ids have six bits.
const IDS: u8 = 64;

/// What a frame is to a decode target (table A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dti {
    NotPresent,
    /// No frame of the target refers to it.
    Discardable,
    /// The target may begin here.
    Switch,
    Required,
}

/// What frames have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Spatial and temporal layer, 0 the lowest: below 4 and 8, as in AV1.
    pub sid: u8,
    pub tid: u8,
    /// For each decode target.
    pub dtis: Vec<Dti>,
    /// How many numbers before a frame those are that it refers to, 1 to 16.
    pub fdiffs: Vec<u16>,
    /// The same of the frame before in each chain, 0 to 15; 0: the chain begins here.
    pub chains: Vec<u8>,
}

/// The template dependency structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The id of the first template.
    pub offset: u8,
    /// Decode targets, 1 to 32.
    pub targets: u8,
    /// Of which each has the layer of the one before, the next temporal layer, or the lowest of the next spatial layer.
    pub templates: Vec<Template>,
    /// The chain of each decode target; empty without chains.
    pub protected_by: Vec<u8>,
    pub chains: u8,
    /// Pixels of each spatial layer, or nothing.
    pub sizes: Vec<(u32, u32)>,
}

impl Structure {
    /// A stream of one layer, where each frame refers to the one before: template 0 is a key's, 1 another's. `size` in
    /// pixels; 0 = unknown.
    pub fn one_layer(size: (u32, u32)) -> Structure {
        let template = |fdiffs: &[u16]| Template {
            dtis: vec![Dti::Switch],
            fdiffs: fdiffs.to_vec(),
            chains: vec![fdiffs.len() as u8],
            ..Template::default()
        };
        let known = [size.0, size.1].iter().all(|side| (1..=1 << 16).contains(side));
        Structure {
            offset: 0,
            targets: 1,
            templates: vec![template(&[]), template(&[1])],
            protected_by: vec![0],
            chains: 1,
            sizes: if known { vec![size] } else { Vec::new() },
        }
    }

    pub fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from(id.wrapping_sub(self.offset) % IDS))
    }

    /// All targets' bits.
    pub fn all(&self) -> u32 {
        u32::MAX >> (32 - u32::from(self.targets))
    }

    /// The same, whatever the ids of its templates are.
    fn says_the_same(&self, other: &Structure) -> bool {
        (self.targets, self.chains) == (other.targets, other.chains)
            && self.templates == other.templates
            && self.protected_by == other.protected_by
            && self.sizes == other.sizes
    }

    /// Has more than one spatial layer.
    fn is_layered(&self) -> bool {
        self.templates.iter().any(|template| template.sid > 0)
    }
}

/// What a packet says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    pub start: bool,
    pub end: bool,
    /// An id.
    pub template: u8,
    pub number: u16,
    pub structure: Option<Arc<Structure>>,
    /// The decode targets that are sent, the lowest bit the first; until the next mask or structure, which means all.
    pub active: Option<u32>,
    pub dtis: Option<Vec<Dti>>,
    /// 1 to 4096.
    pub fdiffs: Option<Vec<u16>>,
    pub chains: Option<Vec<u8>>,
}

impl Descriptor {
    fn dtis<'a>(&'a self, template: &'a Template) -> &'a [Dti] {
        self.dtis.as_deref().unwrap_or(&template.dtis)
    }

    fn fdiffs<'a>(&'a self, template: &'a Template) -> &'a [u16] {
        self.fdiffs.as_deref().unwrap_or(&template.fdiffs)
    }

    fn chains<'a>(&'a self, template: &'a Template) -> &'a [u8] {
        self.chains.as_deref().unwrap_or(&template.chains)
    }
}

/// A frame of a descriptor: one of the spatial layers of what all others call a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub packets: usize,
    /// Without a structure; where it starts and ends the packets tell.
    pub descriptor: Descriptor,
}

/// What the packets of a frame say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The one in force.
    pub structure: Arc<Structure>,
    /// It is told with this frame.
    pub told: bool,
    /// Those of the targets that are sent, if not all.
    pub active: Option<u32>,
    /// Never empty.
    pub parts: Vec<Part>,
}

impl Described {
    /// A frame of one packet by an encoder of one layer.
    pub fn one_layer(structure: Arc<Structure>, key: bool) -> Described {
        let template = structure.offset.wrapping_add(u8::from(!key)) % IDS;
        let part = Part { packets: 1, descriptor: Descriptor { template, ..Descriptor::default() } };
        Described { structure, told: key, active: None, parts: vec![part] }
    }

    /// Bytes of the first packet's descriptor, and of the longest other one.
    pub fn bytes(&self) -> (usize, usize) {
        let bytes = |descriptor: &Descriptor| descriptor.write(&self.structure).map_or(0, |bytes| bytes.len());
        let rest = self.parts.iter().map(|part| bytes(&part.descriptor)).max().unwrap_or(0);
        (bytes(&self.first(&self.structure)), rest)
    }

    /// What the first packet says, which the others need not.
    fn first(&self, structure: &Arc<Structure>) -> Descriptor {
        let mut first = self.parts[0].descriptor.clone();
        if self.told {
            first.structure = Some(structure.clone());
            first.active = first.active.or(self.active);
        }
        first
    }

    /// The frame's packets as they go on, with what they say. Layers are cut each for itself, as no packet is of two. None:
    /// the packets are not those of layers, whatever their descriptors say.
    pub fn restamp(
        &self,
        codec: &dyn VideoCodec,
        packets: &[Packet],
        info: &FrameInfo,
        limits: Limits,
    ) -> Option<(Vec<Payload>, Described)> {
        let (mut out, mut rest, mut described) = (Vec::new(), packets, self.clone());
        for (index, part) in described.parts.iter_mut().enumerate() {
            let (own, behind) = rest.split_at_checked(part.packets)?;
            if self.parts.len() > 1 && !codec.is_layer(own) {
                return None;
            }
            let payloads = match index {
                0 => codec.restamp(own, info, limits),
                _ => codec.restamp(own, &FrameInfo::default(), Limits { first: limits.rest, ..limits }),
            };
            part.packets = payloads.len();
            out.extend(payloads);
            rest = behind;
        }
        described.parts.retain(|part| part.packets > 0);
        (rest.is_empty() && !out.is_empty()).then_some((out, described))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_templates_go_round() {
        let structure = Structure { offset: 63, ..Structure::one_layer((0, 0)) };
        assert_eq!(structure.template(63), Some(&structure.templates[0]));
        assert_eq!(structure.template(0), Some(&structure.templates[1]));
        assert_eq!((structure.template(1), structure.template(62)), (None, None));
        assert!(structure.says_the_same(&Structure::one_layer((0, 0))));
        assert!(!structure.says_the_same(&Structure::one_layer((640, 360))));
    }

    #[test]
    fn a_size_that_has_no_room_in_it_is_not_told() {
        assert_eq!(Structure::one_layer((1 << 16, 1)).sizes, [(1 << 16, 1)]);
        for size in [(0, 1), (1, (1 << 16) + 1)] {
            assert!(Structure::one_layer(size).sizes.is_empty());
        }
    }
}
