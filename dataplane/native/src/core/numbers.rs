//! Picture numbers: what some payload formats count beside RTP's sequence, VP8 (RFC 7741 section 4.2) and VP9 (RFC 9628
//! section 4.2) both.
//!
//! ```text
//! PictureID  |0| 7 bits        |      which picture this is
//!            |1| 15 bits                       |
//! TL0PICIDX  | 8 bits          |      which picture of the lowest temporal layer was the last
//! ```
//! A receiver that sees a hole in them waits for what never comes, so they belong to the outgoing stream as its sequence
//! numbers do: they go on over a change of mode or of source. A frame has them as its sender gave them ([`Numbered`]), a
//! payload knows where they stand ([`Slots`]), an out counts its own ([`Counter`]). `generator` is the caller.

use super::mode::Kind;

/// The last number of 15 bits.
pub const MOST: u16 = 0x7fff;
const MOST_NARROW: u16 = 0x7f;
/// In front of a number: it has 15 bits.
pub const WIDE: u8 = 0x80;

/// A frame's numbers as its sender gave them; what is absent stays absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    pub id: Option<Id>,
    pub tl0: Option<u8>,
    /// Temporal layer, 0 the lowest.
    pub tid: Option<u8>,
    /// References are told as distances between numbers, so those of native frames keep theirs.
    pub by_distance: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    pub number: u16,
    /// 15 bits instead of 7.
    pub wide: bool,
}

impl Id {
    /// Reads one; `bytes` begin with it.
    pub fn read(bytes: &[u8]) -> Option<Id> {
        let first = *bytes.first()?;
        if first & WIDE == 0 {
            return Some(Id { number: u16::from(first), wide: false });
        }
        Some(Id { number: u16::from_be_bytes([first & 0x7f, *bytes.get(1)?]), wide: true })
    }

    pub fn bytes(self) -> usize {
        if self.wide { 2 } else { 1 }
    }

    /// Whether it is the next number after `other`.
    pub fn follows(self, other: Id) -> bool {
        self.wide == other.wide && self.number == other.number.wrapping_add(1) & self.most()
    }

    fn most(self) -> u16 {
        if self.wide { MOST } else { MOST_NARROW }
    }
}

/// Where a payload header has its numbers; 0: nowhere, for that is where each format has its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub id: u8,
    pub tl0: u8,
}

/// The numbers of one outgoing stream.
#[derive(Debug, Default)]
pub struct Counter {
    /// Of the frame sent last; narrow ones are its last seven bits.
    id: u16,
    tl0: u8,
    begun: bool,
    /// The last frame if it was native: the next one of its source lies as far from it as the sender says.
    native: Option<Numbered>,
}

impl Counter {
    /// The next frame's references are not those of the source before.
    pub fn new_source(&mut self) {
        self.native = None;
    }

    /// Another frame is sent. The first one keeps its sender's numbers.
    pub fn advance(&mut self, frame: &Numbered, kind: Kind) {
        let before = self.native.take();
        if kind == Kind::Native {
            self.native = Some(*frame);
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.id = frame.id.map_or(0, |id| id.number);
            self.tl0 = frame.tl0.unwrap_or(0);
            return;
        }
        // What an AI Core made has one layer.
        let lowest = kind == Kind::Compressed || frame.tid.unwrap_or(0) == 0;
        let (mut ids, mut bases) = (1, u8::from(lowest));
        if let (Some(before), Kind::Native, true) = (before, kind, frame.by_distance) {
            if let (Some(id), Some(last)) = (frame.id, before.id)
                && id.wide == last.wide
            {
                ids = id.number.wrapping_sub(last.number) & id.most();
            }
            if let (Some(tl0), Some(last)) = (frame.tl0, before.tl0) {
                bases = tl0.wrapping_sub(last);
            }
        }
        self.id = self.id.wrapping_add(ids) & MOST;
        self.tl0 = self.tl0.wrapping_add(bases);
    }

    /// Puts them into a payload header, in the width that it has.
    pub fn write(&self, header: &mut [u8], slots: Slots) {
        let (id, tl0) = (usize::from(slots.id), usize::from(slots.tl0));
        if id > 0 && header[id] & WIDE != 0 {
            header[id..id + 2].copy_from_slice(&(self.id | u16::from(WIDE) << 8).to_be_bytes());
        } else if id > 0 {
            header[id] = (self.id & MOST_NARROW) as u8;
        }
        if tl0 > 0 {
            header[tl0] = self.tl0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u16, wide: bool, tl0: u8, by_distance: bool) -> Numbered {
        Numbered { id: Some(Id { number, wide }), tl0: Some(tl0), tid: Some(0), by_distance }
    }

    fn written(counter: &Counter, wide: bool) -> (u16, u8) {
        let mut header = if wide { vec![0, WIDE, 0, 0] } else { vec![0, 0, 0] };
        let slots = Slots { id: 1, tl0: header.len() as u8 - 1 };
        counter.write(&mut header, slots);
        let id = Id::read(&header[1..]).unwrap();
        assert_eq!(id.wide, wide);
        (id.number, header[header.len() - 1])
    }

    #[test]
    fn the_first_frame_keeps_its_senders_numbers_and_each_one_sent_is_the_next() {
        let mut counter = Counter::default();
        for (number, want) in [(32_766, 32_766), (32_767, 32_767), (5, 0), (9, 1)] {
            counter.advance(&frame(number, true, 0, false), Kind::Native);
            assert_eq!(written(&counter, true).0, want);
        }
    }

    #[test]
    fn seven_bits_wrap_at_seven_bits() {
        let mut counter = Counter::default();
        for want in [126, 127, 0, 1] {
            counter.advance(&frame(126, false, 254, false), Kind::Native);
            assert_eq!(written(&counter, false).0, want);
        }
        assert_eq!(written(&counter, false).1, 1);
    }

    #[test]
    fn only_the_lowest_temporal_layer_moves_the_base() {
        let mut counter = Counter::default();
        for (tid, want) in [(0, 7), (2, 7), (1, 7), (0, 8)] {
            counter.advance(&Numbered { tid: Some(tid), ..frame(0, true, 7, false) }, Kind::Native);
            assert_eq!(written(&counter, true).1, want);
        }
        counter.advance(&Numbered { tid: Some(2), ..frame(0, true, 7, false) }, Kind::Compressed);
        assert_eq!(written(&counter, true).1, 9, "an encoder's frames have one layer");
    }

    #[test]
    fn distances_are_kept_within_a_native_run_and_nowhere_else() {
        let mut counter = Counter::default();
        for (number, kind, want) in [
            (127, Kind::Native, 127),
            (2, Kind::Native, 130 & 127),
            (3, Kind::Compressed, 131 & 127),
            (4, Kind::Compressed, 132 & 127),
            (60, Kind::Native, 133 & 127),
            (63, Kind::Native, 136 & 127),
        ] {
            counter.advance(&frame(number, false, number as u8, true), kind);
            assert_eq!(written(&counter, false).0, want);
        }
        counter.new_source();
        counter.advance(&frame(9, false, 0, true), Kind::Native);
        assert_eq!(written(&counter, false).0, 137 & 127);
    }
}
