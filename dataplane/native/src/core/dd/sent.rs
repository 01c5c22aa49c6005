//! The descriptors of an out. Receivers and middleboxes take a hole in the frame numbers for a loss, and ids of templates that
//! two structures share for the same templates, so both belong to the outgoing stream, as its sequence numbers do.

use super::{Described, Descriptor, IDS, Structure};
use crate::core::mode::Kind;
use std::sync::Arc;

#[derive(Debug, Default)]
pub struct Sent {
    /// The number of the last frame.
    last: Option<u16>,
    /// From the source's numbers to ours, while frames are native and of one source.
    distance: Option<u16>,
    /// Of the last frame: the structure as it came and as it was told.
    structure: Option<(Arc<Structure>, Arc<Structure>)>,
}

impl Sent {
    /// Another source follows, with numbers of its own.
    pub fn new_source(&mut self) {
        self.distance = None;
    }

    /// What the packets of the next frame say, each by itself. None: nothing that could be told, or its structure never was.
    pub fn frame(&mut self, described: &Described, kind: Kind, key: bool) -> Option<Vec<Vec<u8>>> {
        let (structure, new) = self.structure(&described.structure);
        if new && !described.told {
            return None;
        }
        let distance = self.distance(described, kind, key);
        let shift = structure.offset.wrapping_sub(described.structure.offset);
        let mut out = Vec::with_capacity(described.parts.iter().map(|part| part.packets).sum());
        let mut last = distance;
        for part in &described.parts {
            let ours = |descriptor: Descriptor| Descriptor {
                template: descriptor.template.wrapping_add(shift) % IDS,
                number: descriptor.number.wrapping_add(distance),
                ..descriptor
            };
            let rest = ours(part.descriptor.clone());
            for at in 0..part.packets {
                let (start, end) = (at == 0, at + 1 == part.packets);
                let what = if out.is_empty() { ours(described.first(&structure)) } else { rest.clone() };
                out.push(Descriptor { start, end, ..what }.write(&structure)?);
            }
            last = rest.number;
        }
        self.last = Some(last);
        self.distance = Some(distance).filter(|_| kind == Kind::Native);
        self.structure = Some((described.structure.clone(), structure));
        Some(out)
    }

    /// A structure as it is told here, and whether it is another than the last one.
    fn structure(&self, source: &Arc<Structure>) -> (Arc<Structure>, bool) {
        let Some((from, told)) = &self.structure else { return (source.clone(), true) };
        if Arc::ptr_eq(from, source) || told.says_the_same(source) {
            return (told.clone(), false);
        }
        // Ids of its own: receivers tell structures by them (A.8.3). Sixty-four templates leave none.
        let behind = (told.templates.len() as u8).min(IDS - 1);
        let offset = told.offset.wrapping_add(behind) % IDS;
        (Arc::new(Structure { offset, ..Structure::clone(source) }), true)
    }

    /// The first frame keeps its number, and each one behind a seam is the next.
    fn distance(&self, described: &Described, kind: Kind, key: bool) -> u16 {
        let (Some(last), first) = (self.last, described.parts[0].descriptor.number) else { return 0 };
        let went_back = |distance: &u16| first.wrapping_add(*distance).wrapping_sub(last) as i16 <= 0;
        let kept = self.distance.filter(|_| kind == Kind::Native);
        let kept = kept.filter(|distance| !(key && went_back(distance)));
        kept.unwrap_or_else(|| last.wrapping_add(1).wrapping_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;

    /// A frame of one part in two packets, of the n-th template.
    fn frame(structure: &Arc<Structure>, number: u16, n: u8, key: bool) -> Described {
        let template = (structure.offset + n) % IDS;
        let part = Part { packets: 2, descriptor: Descriptor { template, number, ..Descriptor::default() } };
        Described { structure: structure.clone(), told: key, active: None, parts: vec![part] }
    }

    fn structure(offset: u8, side: u32) -> Arc<Structure> {
        Arc::new(Structure { offset, ..Structure::one_layer((side, side)) })
    }

    /// Number, template and the offset of the structure that goes along, of both packets.
    fn sent(sent: &mut Sent, frame: &Described, kind: Kind) -> (u16, u8, Option<u8>) {
        let bytes = sent.frame(frame, kind, frame.told).unwrap();
        let told = &sent.structure.as_ref().unwrap().1;
        let read: Vec<Descriptor> = bytes.iter().map(|bytes| Descriptor::read(bytes, Some(told)).unwrap()).collect();
        assert_eq!(read.iter().map(|d| (d.start, d.end)).collect::<Vec<_>>(), [(true, false), (false, true)]);
        assert_eq!((read[0].number, read[0].template), (read[1].number, read[1].template));
        assert!(read[1].structure.is_none(), "on the first packet alone");
        (read[0].number, read[0].template, read[0].structure.as_ref().map(|structure| structure.offset))
    }

    #[test]
    fn native_frames_keep_their_distances_and_every_seam_is_one_step() {
        let (theirs, ours) = (structure(0, 640), structure(0, 320));
        let mut out = Sent::default();
        for (number, key, kind, want) in [
            (65_534, true, Kind::Native, 65_534),
            (1, false, Kind::Native, 1), // two are missing
            (0, true, Kind::Compressed, 2),
            (0, false, Kind::Compressed, 3),
            (700, true, Kind::Native, 4),
            (703, false, Kind::Native, 7),
            (900, true, Kind::Native, 204),
            (40, true, Kind::Native, 205), // numbered anew
            (41, false, Kind::Native, 206),
        ] {
            let structure = if kind == Kind::Native { &theirs } else { &ours };
            let frame = frame(structure, number, u8::from(!key), key);
            assert_eq!(sent(&mut out, &frame, kind).0, want, "{number}");
        }
        out.new_source();
        assert_eq!(sent(&mut out, &frame(&theirs, 9, 0, true), Kind::Native).0, 207);
    }

    #[test]
    fn a_structure_is_told_at_keys_and_another_one_has_other_ids() {
        let (theirs, ours, next) = (structure(62, 640), structure(0, 320), structure(0, 1280));
        let mut out = Sent::default();
        for (structure, key, want) in [
            (&theirs, true, (62, Some(62))),
            (&theirs, false, (63, None)),
            (&theirs, true, (62, Some(62))),
            (&ours, true, (0, Some(0))),
            (&ours, false, (1, None)),
            (&theirs, true, (2, Some(2))),
            (&theirs, false, (3, None)),
            (&next, true, (4, Some(4))),
            (&structure(2, 1280), false, (5, None)), // the same with other ids
        ] {
            let (_, template, offset) = sent(&mut out, &frame(structure, 0, u8::from(!key), key), Kind::Native);
            assert_eq!((template, offset), want);
        }
        assert_eq!(out.frame(&frame(&ours, 0, 1, false), Kind::Native, false), None, "what was never told");
    }
}
