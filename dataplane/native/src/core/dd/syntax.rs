//! Descriptors to and from bytes (appendix A.8.2 and A.8.3), all of them with their bounds.
//!
//! ```text
//! structure    | offset, 6 bits | targets - 1, 5 |
//! layers       | next, 2 | ...                 0: another template of the same layer, 1: of the next temporal layer,
//!                                              2: of the lowest of the next spatial layer, 3: no more templates
//! DTIs         | DTI, 2 | ...                  per template and target
//! differences  |1| difference - 1, 4 | ... |0| per template
//! chains       | how many, ns | and if any:    | chain, ns | per target, | difference, 4 | per template and chain
//! sizes        |1| width - 1, 16 | height - 1, 16 | ... per spatial layer, or |0|
//! ```
//! ns(n) is a number below n in as few bits as it takes, the lower ones in one bit less than the upper ones.

use super::{Descriptor, Dti, IDS, Structure, Template};
use crate::core::bits::Bits;
use std::sync::Arc;

const MANDATORY_BYTES: usize = 3;
/// An element's length has eight bits (RFC 8285 4.3).
const MOST_BYTES: usize = 255;
/// AV1's temporal and spatial ids have three and two bits.
const TIDS: u8 = 8;
const SIDS: u8 = 4;

const NEXT_TID: u32 = 1;
const NEXT_SID: u32 = 2;
const NO_MORE: u32 = 3;
/// A difference takes up to three times four bits.
const FDIFF_BITS: u32 = 4;
const MOST_FDIFF: u16 = 1 << 12;

impl Descriptor {
    /// Reads one; `known` is the structure of the packets before. None: malformed, or without the structure it cannot be read.
    pub fn read(bytes: &[u8], known: Option<&Arc<Structure>>) -> Option<Descriptor> {
        if bytes.len() > MOST_BYTES {
            return None;
        }
        let mut bits = Bits::new(bytes);
        let mut descriptor = Descriptor {
            start: bits.flag()?,
            end: bits.flag()?,
            template: bits.read(6)? as u8,
            number: bits.read(16)? as u16,
            ..Descriptor::default()
        };
        let mut flags = [false; 5];
        if bytes.len() > MANDATORY_BYTES {
            for flag in &mut flags {
                *flag = bits.flag()?;
            }
        }
        let [told, active, own_dtis, own_fdiffs, own_chains] = flags;
        if told {
            descriptor.structure = Some(Arc::new(structure(&mut bits)?));
        }
        let structure = descriptor.structure.as_ref().or(known)?.clone();
        structure.template(descriptor.template)?;
        if active {
            descriptor.active = Some(bits.read(u32::from(structure.targets))?);
        }
        if own_dtis {
            descriptor.dtis = Some(dtis(&mut bits, structure.targets)?);
        }
        if own_fdiffs {
            descriptor.fdiffs = Some(fdiffs(&mut bits)?);
        }
        if own_chains {
            descriptor.chains = Some(chains(&mut bits, structure.chains, 8)?);
        }
        Some(descriptor)
    }

    /// Its bytes; `known` is the structure in force. None: more than an element has room for, or nothing that can be written.
    pub fn write(&self, known: &Structure) -> Option<Vec<u8>> {
        let mut out = Writer::default();
        out.flag(self.start);
        out.flag(self.end);
        out.put(u32::from(self.template % IDS), 6);
        out.put(u32::from(self.number), 16);
        let flags = [
            self.structure.is_some(),
            self.active.is_some(),
            self.dtis.is_some(),
            self.fdiffs.is_some(),
            self.chains.is_some(),
        ];
        if flags.contains(&true) {
            flags.into_iter().for_each(|flag| out.flag(flag));
        }
        if let Some(structure) = &self.structure {
            out.structure(structure)?;
        }
        if let Some(active) = self.active {
            out.put(active, u32::from(known.targets));
        }
        self.dtis.iter().flatten().for_each(|dti| out.put(*dti as u32, 2));
        if let Some(fdiffs) = &self.fdiffs {
            for fdiff in fdiffs {
                let less = u32::from(fdiff.checked_sub(1).filter(|_| *fdiff <= MOST_FDIFF)?);
                let size = (less.max(1).ilog2() / FDIFF_BITS) + 1;
                out.put(size, 2);
                out.put(less, size * FDIFF_BITS);
            }
            out.put(0, 2);
        }
        self.chains.iter().flatten().for_each(|fdiff| out.put(u32::from(*fdiff), 8));
        Some(out.bytes).filter(|bytes| bytes.len() <= MOST_BYTES)
    }
}

fn structure(bits: &mut Bits<&[u8]>) -> Option<Structure> {
    let offset = bits.read(6)? as u8;
    let targets = bits.read(5)? as u8 + 1;
    let mut templates = layers(bits)?;
    for template in &mut templates {
        template.dtis = dtis(bits, targets)?;
    }
    for template in &mut templates {
        while bits.flag()? {
            template.fdiffs.push(bits.read(FDIFF_BITS)? as u16 + 1);
        }
    }
    let count = ns(bits, u32::from(targets) + 1)? as u8;
    let mut protected_by = Vec::new();
    if count > 0 {
        for _ in 0..targets {
            protected_by.push(ns(bits, u32::from(count))? as u8);
        }
        for template in &mut templates {
            template.chains = chains(bits, count, 4)?;
        }
    }
    let mut sizes = Vec::new();
    if bits.flag()? {
        for _ in 0..=templates.last()?.sid {
            sizes.push((bits.read(16)? + 1, bits.read(16)? + 1));
        }
    }
    Some(Structure { offset, targets, templates, protected_by, chains: count, sizes })
}

/// The templates, of which no more is known yet.
fn layers(bits: &mut Bits<&[u8]>) -> Option<Vec<Template>> {
    let (mut templates, mut sid, mut tid) = (Vec::new(), 0, 0);
    while templates.len() < usize::from(IDS) {
        templates.push(Template { sid, tid, ..Template::default() });
        match bits.read(2)? {
            NEXT_TID => tid += 1,
            NEXT_SID => (sid, tid) = (sid + 1, 0),
            NO_MORE => return Some(templates),
            _ => {}
        }
        if sid == SIDS || tid == TIDS {
            break;
        }
    }
    None
}

fn dtis(bits: &mut Bits<&[u8]>, targets: u8) -> Option<Vec<Dti>> {
    let dti = |value| match value {
        0 => Dti::NotPresent,
        1 => Dti::Discardable,
        2 => Dti::Switch,
        _ => Dti::Required,
    };
    (0..targets).map(|_| bits.read(2).map(dti)).collect()
}

fn fdiffs(bits: &mut Bits<&[u8]>) -> Option<Vec<u16>> {
    let mut fdiffs = Vec::new();
    loop {
        match bits.read(2)? {
            0 => return Some(fdiffs),
            size => fdiffs.push(bits.read(size * FDIFF_BITS)? as u16 + 1),
        }
    }
}

fn chains(bits: &mut Bits<&[u8]>, count: u8, width: u32) -> Option<Vec<u8>> {
    (0..count).map(|_| bits.read(width).map(|fdiff| fdiff as u8)).collect()
}

/// The bits that most numbers below `n` take, and how many take one less.
fn ns_bits(n: u32) -> (u32, u32) {
    let width = n.ilog2() + 1;
    (width, (1 << width) - n)
}

fn ns(bits: &mut Bits<&[u8]>, n: u32) -> Option<u32> {
    let (width, shorter) = ns_bits(n);
    let value = bits.read(width - 1)?;
    if value < shorter { Some(value) } else { Some((value << 1) - shorter + bits.read(1)?) }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    bits: usize,
}

impl Writer {
    fn flag(&mut self, flag: bool) {
        self.put(u32::from(flag), 1);
    }

    /// The lowest `count` bits.
    fn put(&mut self, value: u32, count: u32) {
        for i in (0..count).rev() {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let at = self.bits / 8;
            self.bytes[at] |= ((value >> i & 1) as u8) << (7 - self.bits % 8);
            self.bits += 1;
        }
    }

    fn ns(&mut self, value: u32, n: u32) {
        let (width, shorter) = ns_bits(n);
        if value < shorter { self.put(value, width - 1) } else { self.put(value + shorter, width) }
    }

    /// None: its templates are not in order.
    fn structure(&mut self, structure: &Structure) -> Option<()> {
        self.put(u32::from(structure.offset), 6);
        self.put(u32::from(structure.targets) - 1, 5);
        for pair in structure.templates.windows(2) {
            let next = match (pair[1].sid.wrapping_sub(pair[0].sid), pair[1].tid) {
                (0, tid) if tid == pair[0].tid => 0,
                (0, tid) if tid == pair[0].tid + 1 => NEXT_TID,
                (1, 0) => NEXT_SID,
                _ => return None,
            };
            self.put(next, 2);
        }
        self.put(NO_MORE, 2);
        let templates = || structure.templates.iter();
        templates().flat_map(|template| &template.dtis).for_each(|dti| self.put(*dti as u32, 2));
        for template in templates() {
            template.fdiffs.iter().for_each(|fdiff| self.put(1 << FDIFF_BITS | u32::from(*fdiff - 1), 1 + FDIFF_BITS));
            self.flag(false);
        }
        let count = u32::from(structure.chains);
        self.ns(count, u32::from(structure.targets) + 1);
        structure.protected_by.iter().for_each(|chain| self.ns(u32::from(*chain), count));
        templates().flat_map(|template| &template.chains).for_each(|fdiff| self.put(u32::from(*fdiff), 4));
        self.flag(!structure.sizes.is_empty());
        for (width, height) in &structure.sizes {
            self.put(width - 1, 16);
            self.put(height - 1, 16);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fields as a bit string; spaces are for the reader.
    fn bytes(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << (7 - i))).collect()
    }

    fn dtis(symbols: &str) -> Vec<Dti> {
        let dti = |symbol| match symbol {
            'S' => Dti::Switch,
            'R' => Dti::Required,
            'D' => Dti::Discardable,
            _ => Dti::NotPresent,
        };
        symbols.chars().map(dti).collect()
    }

    fn template((sid, tid): (u8, u8), symbols: &str, fdiffs: &[u16], chains: &[u8]) -> Template {
        Template { sid, tid, dtis: dtis(symbols), fdiffs: fdiffs.to_vec(), chains: chains.to_vec() }
    }

    /// The L1T3 of A.10.2.1.
    fn three_temporal_layers() -> Structure {
        Structure {
            offset: 61,
            targets: 3,
            templates: vec![
                template((0, 0), "SSS", &[], &[0]),
                template((0, 0), "SSS", &[4], &[4]),
                template((0, 1), "SD-", &[2], &[2]),
                template((0, 2), "D--", &[1], &[1]),
                template((0, 2), "D--", &[1], &[3]),
            ],
            protected_by: vec![0, 0, 0],
            chains: 1,
            sizes: vec![(1280, 720)],
        }
    }

    const KEY: &str = "10 111101 1111111111111111
        10000
        111101 00010
        00 01 01 00 11
        101010 101010 100100 010000 010000
        0 100110 100010 100000 100000
        01
        0000 0100 0010 0001 0011
        1 0000010011111111 0000001011001111";

    #[test]
    fn a_structure_is_read_field_by_field_and_written_as_it_was() {
        let bytes = bytes(&KEY.replace('\n', " "));
        let descriptor = Descriptor::read(&bytes, None).unwrap();
        let want = Descriptor {
            start: true,
            end: false,
            template: 61,
            number: 65_535,
            structure: Some(Arc::new(three_temporal_layers())),
            ..Descriptor::default()
        };
        assert_eq!(descriptor, want);
        assert_eq!(descriptor.write(&three_temporal_layers()), Some(bytes.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Descriptor::read(&bytes[..end], None), None, "{end} bytes");
        }
    }

    #[test]
    fn three_bytes_are_the_mandatory_fields_and_need_the_structure() {
        let known = Arc::new(three_temporal_layers());
        let bytes = [0b0100_0001, 0x12, 0x34]; // template 1: 61 + 4 goes round
        let want = Descriptor { end: true, template: 1, number: 0x1234, ..Descriptor::default() };
        assert_eq!(Descriptor::read(&bytes, Some(&known)), Some(want.clone()));
        assert_eq!(want.write(&known), Some(bytes.to_vec()));
        assert_eq!(Descriptor::read(&bytes, None), None);
        assert_eq!(Descriptor::read(&[2, 0, 0], Some(&known)), None, "no such template");
        assert_eq!(Descriptor::read(&bytes[..2], Some(&known)), None);
    }

    #[test]
    fn what_is_the_frames_own_is_read_and_written() {
        let known = Arc::new(three_temporal_layers());
        let bytes =
            bytes("11 111111 0000000000000001 01111 101 110110 01 0000 10 00010000 11 111111111111 00 11111111");
        let want = Descriptor {
            start: true,
            end: true,
            template: 63,
            number: 1,
            structure: None,
            active: Some(0b101),
            dtis: Some(dtis("RDS")),
            fdiffs: Some(vec![1, 17, 4096]),
            chains: Some(vec![255]),
        };
        assert_eq!(Descriptor::read(&bytes, Some(&known)), Some(want.clone()));
        assert_eq!(want.write(&known), Some(bytes.clone()));
        for end in 4..bytes.len() {
            assert_eq!(Descriptor::read(&bytes[..end], Some(&known)), None, "{end} bytes");
        }
        let padded = [&bytes[..], &[0xff; 9]].concat();
        assert_eq!(Descriptor::read(&padded, Some(&known)), Some(want), "what pads is nothing");
    }

    /// The table of A.8.2.
    #[test]
    fn numbers_below_a_bound_take_as_few_bits_as_they_can() {
        for (value, want) in [(0, "00"), (1, "01"), (2, "10"), (3, "110"), (4, "111")] {
            let mut out = Writer::default();
            out.ns(value, 5);
            assert_eq!((out.bytes, out.bits), (bytes(want), want.len()));
        }
        for n in 1..34 {
            for value in 0..n {
                let mut out = Writer::default();
                out.ns(value, n);
                out.flag(true);
                assert_eq!(ns(&mut Bits::new(&out.bytes), n), Some(value), "{value} of {n}");
            }
        }
    }

    #[test]
    fn a_structure_without_an_end_and_layers_beyond_those_of_av1_are_refused() {
        let front = "10 000000 0000000000000000 10000 000000 00000";
        for layers in ["01 01 01 01 01 01 01 01 11", "10 10 10 10 11", &"00".repeat(64)] {
            let bytes = bytes(&format!("{front} {layers} {}", "0".repeat(600)));
            assert_eq!(Descriptor::read(&bytes, None), None, "{layers}");
        }
        let most = format!("{front} {} 11 {}", "00".repeat(63), "0".repeat(64 * 3 + 2));
        let read = Descriptor::read(&bytes(&most), None).unwrap();
        assert_eq!(read.structure.unwrap().templates.len(), 64);
    }

    #[test]
    fn what_no_element_has_room_for_or_nobody_can_read_is_not_written() {
        let known = three_temporal_layers();
        let with = |fdiffs: Vec<u16>| Descriptor { fdiffs: Some(fdiffs), ..Descriptor::default() }.write(&known);
        assert_eq!(with(vec![4096; 140]).map(|bytes| bytes.len()), Some(249));
        for fdiffs in [vec![4096; 150], vec![0], vec![4097]] {
            assert_eq!(with(fdiffs), None);
        }
        let mut structure = known.clone();
        structure.templates.swap(0, 4);
        let descriptor = Descriptor { structure: Some(Arc::new(structure)), ..Descriptor::default() };
        assert_eq!(descriptor.write(&known), None, "its layers are not in order");
    }

    fn any_structure() -> impl Strategy<Value = Structure> {
        let shape = (1u8..=32, proptest::collection::vec(0u32..3, 0..20), 0u8..64, any::<bool>(), any::<u64>());
        shape.prop_map(|(targets, steps, offset, sized, mut seed)| {
            let mut below = |n: u64| {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (seed >> 33) % n
            };
            let chains = below(u64::from(targets) + 1) as u8;
            let (mut sid, mut tid) = (0, 0);
            let mut templates = Vec::new();
            for step in [0].into_iter().chain(steps) {
                match step {
                    NEXT_TID if tid < TIDS - 1 => tid += 1,
                    NEXT_SID if sid < SIDS - 1 => (sid, tid) = (sid + 1, 0),
                    _ => {}
                }
                let symbols: String = (0..targets).map(|_| ['-', 'D', 'S', 'R'][below(4) as usize]).collect();
                let fdiffs: Vec<u16> = (0..below(4)).map(|_| below(16) as u16 + 1).collect();
                let fdiffs_of_chains: Vec<u8> = (0..chains).map(|_| below(16) as u8).collect();
                templates.push(template((sid, tid), &symbols, &fdiffs, &fdiffs_of_chains));
            }
            let protected = if chains > 0 { targets } else { 0 };
            let protected_by = (0..protected).map(|_| below(u64::from(chains)) as u8).collect();
            let layers = if sized { sid + 1 } else { 0 };
            let sizes = (0..layers).map(|_| (below(65_536) as u32 + 1, 65_536)).collect();
            Structure { offset, targets, templates, protected_by, chains, sizes }
        })
    }

    proptest! {
        #[test]
        fn descriptors_come_back_as_they_were_written(
            structure in any_structure(), number: u16, index: u8, start: bool, end: bool, told: bool,
            active in proptest::option::of(any::<u32>()),
            fdiffs in proptest::option::of(proptest::collection::vec(1u16..=4096, 0..5)),
            own in proptest::option::of((0usize..64, any::<u8>())),
        ) {
            let structure = Arc::new(structure);
            let index = usize::from(index) % structure.templates.len();
            let descriptor = Descriptor {
                start,
                end,
                template: (structure.offset + index as u8) % IDS,
                number,
                structure: told.then(|| structure.clone()),
                active: active.map(|active| active & structure.all()),
                dtis: own.map(|(at, _)| structure.templates[at % structure.templates.len()].dtis.clone()),
                fdiffs,
                chains: own.map(|(_, fdiff)| vec![fdiff; usize::from(structure.chains)]),
            };
            let Some(bytes) = descriptor.write(&structure) else { return Ok(()) };
            prop_assert_eq!(Descriptor::read(&bytes, Some(&structure)), Some(descriptor));
        }

        #[test]
        fn reading_anything_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), told: bool) {
            let known = Arc::new(three_temporal_layers());
            let mut bytes = bytes;
            if let (Some(first), true) = (bytes.get_mut(3), told) { *first |= 0x80 }
            if let Some(descriptor) = Descriptor::read(&bytes, Some(&known)) {
                let structure = descriptor.structure.clone().unwrap_or(known);
                let again = descriptor.write(&structure).expect("it came in one");
                prop_assert!(again.len() <= bytes.len());
                prop_assert_eq!(Descriptor::read(&again, Some(&structure)), Some(descriptor));
            }
        }
    }
}
