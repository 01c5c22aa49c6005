//! Payload formats. A video codec implements [`VideoCodec`], a file each; audio is relayed packet by packet and needs no
//! more than a name. `stream` is the caller.
//!
//! What a codec says of a frame goes with it to every out; nothing behind this seam asks which codec it is. A format that
//! numbers its pictures tells the numbers in [`FrameInfo`] and where they stand in each [`Payload`], and the out, which
//! alone knows what left before, writes its own there.

pub mod audio;
pub mod av1;
mod av1_elements;
mod av1_syntax;
pub mod h264;
mod h264_payload;
mod h264_syntax;
pub mod h265;
mod h265_payload;
mod h265_syntax;
mod in_band;
mod nal;
mod parameter_sets;
pub(super) mod rbsp;
#[cfg(test)]
mod testing;
mod trailing;
pub mod vp8;
pub mod vp9;
mod vp9_descriptor;
mod vp9_syntax;

use super::Drop;
use super::numbers::{Counter, Numbered, Slots};
use super::packet::{Packet, PacketInfo};
use bytes::Bytes;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
    H265,
    Vp8,
    Vp9,
    Av1,
    Opus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Media {
    Video,
    Audio,
}

impl Media {
    pub const ALL: [Media; 2] = [Media::Video, Media::Audio];

    pub fn name(self) -> &'static str {
        match self {
            Media::Video => "video",
            Media::Audio => "audio",
        }
    }
}

impl Codec {
    pub const ALL: [Codec; 6] = [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus];

    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
            Codec::Opus => "Opus",
        }
    }

    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name() == name)
    }

    pub fn media(self) -> Media {
        match self {
            Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => Media::Video,
            Codec::Opus => Media::Audio,
        }
    }

    /// None for audio.
    pub fn video(self) -> Option<Box<dyn VideoCodec>> {
        match self {
            Codec::H264 => Some(Box::new(h264::H264::default())),
            Codec::H265 => Some(Box::new(h265::H265::default())),
            Codec::Vp8 => Some(Box::new(vp8::Vp8::default())),
            Codec::Vp9 => Some(Box::new(vp9::Vp9::default())),
            Codec::Av1 => Some(Box::new(av1::Av1::default())),
            Codec::Opus => None,
        }
    }
}

/// What a complete frame is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// False: parameter sets or SEI alone.
    pub picture: bool,
    pub key: bool,
    pub discardable: bool,
    /// Refers to frames before the newest key too, and none behind the next refers to it.
    pub leading: bool,
    /// The highest temporal and spatial layer in it, 0 the lowest.
    pub tid: u8,
    pub sid: u8,
    /// Pixels; 0 = unknown.
    pub width: u32,
    pub height: u32,
    /// Pictures may be shown in another order than they are sent (B-frames).
    pub may_reorder: bool,
    /// Cached parameter sets that this key lacks, to go before packet `sets_at`.
    pub missing_sets: Vec<Bytes>,
    pub sets_at: usize,
    /// Where the format has picture numbers.
    pub numbers: Numbered,
}

/// Payload bytes that fit into the first packet of a frame (it may carry the extension) and into the others.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub first: usize,
    pub rest: usize,
}

/// Most bytes of a payload header that is held beside its body: a VP9 descriptor with a scalability structure of one layer.
const HEAD_BYTES: usize = 13;

/// The front of a payload that is not shared with other outs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    bytes: [u8; HEAD_BYTES],
    len: u8,
    slots: Slots,
}

impl Head {
    /// Of at most [`HEAD_BYTES`] bytes.
    fn new(bytes: &[u8], slots: Slots) -> Head {
        let mut head = Head { bytes: [0; HEAD_BYTES], len: bytes.len() as u8, slots };
        head.bytes[..bytes.len()].copy_from_slice(bytes);
        head
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

/// A payload to send: a few bytes of payload header of our own, and bytes that are shared, not copied.
#[derive(Clone, Debug)]
pub struct Payload {
    head: Head,
    body: Bytes,
}

impl Payload {
    pub fn whole(body: Bytes) -> Payload {
        Payload { head: Head::default(), body }
    }

    /// `head` of at most [`HEAD_BYTES`] bytes.
    pub fn with_head(head: &[u8], body: Bytes) -> Payload {
        Payload { head: Head::new(head, Slots::default()), body }
    }

    /// Its header, with an out's picture numbers where it has any.
    pub fn head(&self, numbers: &Counter) -> Head {
        let mut head = self.head;
        numbers.write(&mut head.bytes, head.slots);
        head
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// As its codec left it.
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.head.as_slice(), &self.body]
    }

    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        usize::from(self.head.len) + self.body.len()
    }
}

/// What a format looks at to see what a frame is lies in its first packet.
const LEAST_PIECE: usize = 32;

/// Pieces of at most `rest` bytes, the first of at most `first`. With what the first packet has in front of it, `rest - first`,
/// all are of one size and only the last is shorter: so they leave in one segmented send.
fn equal_pieces(bytes: usize, first: usize, rest: usize) -> impl Iterator<Item = Range<usize>> {
    pieces(bytes, first, rest, 1)
}

/// [`equal_pieces`], at least so many if there are bytes enough.
fn pieces(bytes: usize, first: usize, rest: usize, least: usize) -> impl Iterator<Item = Range<usize>> {
    let in_front = rest.saturating_sub(first);
    let all = if bytes > 0 { in_front + bytes } else { 0 };
    let shortest = first.min(LEAST_PIECE).min(bytes.div_ceil(least));
    let size = all.div_ceil(all.div_ceil(rest).max(least)).max(in_front + shortest);
    (0..all).step_by(size).map(move |at| at.saturating_sub(in_front)..bytes.min(at + size - in_front))
}

/// One direction-free payload format with the state of one stream.
pub trait VideoCodec: Send {
    /// Is the payload well formed, and what does it hold? Remembers nothing.
    fn inspect(&self, payload: &[u8]) -> Result<PacketInfo, Drop>;

    /// Judges a frame whose packets are all there, and remembers what later frames need of it.
    fn complete(&mut self, packets: &[Packet]) -> Result<FrameInfo, Drop>;

    /// The frame as the AI Core takes it.
    fn to_frame(&self, packets: &[Packet], info: &FrameInfo) -> Vec<u8>;

    /// The frame's own packets; only what exceeds the limits is cut anew.
    fn restamp(&self, packets: &[Packet], info: &FrameInfo, limits: Limits) -> Vec<Payload>;

    /// Whether these packets, some of a frame's, are one of its spatial layers and may be cut by themselves.
    fn is_layer(&self, _packets: &[Packet]) -> bool {
        false
    }

    /// A frame of the AI Core, cut fresh. `native` is the frame that it replaces: what is optional in a payload header is
    /// there if the sender has it there.
    fn packetize(&mut self, frame: Bytes, key: bool, native: &FrameInfo, limits: Limits) -> Result<Vec<Payload>, Drop>;
}

#[cfg(test)]
mod tests {
    use super::testing::{LIMITS, bytes};
    use super::*;
    use proptest::prelude::*;

    /// A frame of each codec that is no key, and of this many bytes.
    fn made(codec: Codec, len: usize) -> Bytes {
        let front: &[u8] = match codec {
            Codec::H264 => &[0, 0, 0, 1, 0x41, 0x9a],
            Codec::H265 => &[0, 0, 0, 1, 0x02, 0x01, 0xd0],
            Codec::Vp8 => &[0x31, 2, 0],
            Codec::Vp9 => &[0x86],
            Codec::Av1 => &[0x30, 0x30], // the only OBU of a unit may go without its size
            Codec::Opus => unreachable!("no video"),
        };
        let mut frame = front.to_vec();
        frame.resize(len, 0x55);
        frame.into()
    }

    #[test]
    fn the_packets_of_an_answer_are_as_long_as_its_first_with_the_extension() {
        for codec in Codec::ALL.into_iter().filter(|codec| codec.media() == Media::Video) {
            for len in [1300, 5000, 17_800, 100_000] {
                let mut format = codec.video().unwrap();
                let cut = format.packetize(made(codec, len), false, &FrameInfo::default(), LIMITS).unwrap();
                let mut sizes: Vec<usize> = bytes(&cut).iter().map(Vec::len).collect();
                sizes[0] += LIMITS.rest - LIMITS.first;
                let last = sizes.pop().unwrap();
                assert!(sizes.iter().all(|size| *size == sizes[0]), "{codec:?}: {sizes:?}");
                assert!(last <= sizes[0] && sizes[0] <= LIMITS.rest, "{codec:?}: {sizes:?}, {last}");
                assert!(sizes.len() < (len + 24).div_ceil(LIMITS.rest - 10), "{codec:?}: no packet more than it takes");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_are_all_of_it_within_the_limits(
            len in 0usize..5000, first in 1usize..300, more in 0usize..100, least in 1usize..3,
        ) {
            let cut: Vec<Range<usize>> = pieces(len, first, first + more, least).collect();
            let limit = |index| if index == 0 { first } else { first + more };
            prop_assert!(cut.iter().enumerate().all(|(i, piece)| !piece.is_empty() && piece.len() <= limit(i)));
            prop_assert!(cut.windows(2).all(|two| two[0].end == two[1].start));
            prop_assert_eq!((cut.first().map_or(0, |p| p.start), cut.last().map_or(0, |p| p.end)), (0, len));
            prop_assert!(cut.len() >= least.min(len));
            if let [one, rest @ .., last] = &cut[..] {
                prop_assert!(rest.iter().all(|p| p.len() == one.len() + more) && last.len() <= one.len() + more);
            }
        }
    }
}
