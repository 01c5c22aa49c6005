//! What a run needs to know of a codec: how a sender packs its pictures, what an encoder answers, how a receiver reads
//! them. Every codec takes its place in [`CODECS`] and goes through the same runs.

use super::h264::Source;
use super::vpx::{self, Format, formats};
use super::{Gathered, Random, av1, h265};
use auralink_native::core::codec::Codec;

/// The name that a seed is given with, and a sender of the codec with whatever settings the seed has.
pub type Make = fn(&mut Random) -> Box<dyn Coding>;
pub const CODECS: [(Codec, Make); 5] = [
    (Codec::H264, |random| Box::new(Source::new(random))),
    (Codec::H265, |random| {
        // With decoding order numbers a stream is tried in `tests/h265.rs`: its first key may be lost.
        let formats: Vec<_> = h265::formats().into_iter().filter(|format| !format.numbered).collect();
        Box::new(h265::Sender::new(*any(random, &formats)))
    }),
    (Codec::Vp8, |random| vpx_sender(false, random)),
    (Codec::Vp9, |random| vpx_sender(true, random)),
    (Codec::Av1, |random| Box::new(av1::Sender::new(*any(random, &av1::formats())))),
];

/// Refers to no frame.
pub const NOTHING: u64 = u64::MAX;
/// Ids of an encoder's frames are its source frame's and this.
pub const MADE: u64 = 1 << 32;

/// What the bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub key: bool,
    pub id: u64,
    /// The frame that it refers to.
    pub needs: u64,
}

pub trait Coding {
    fn payload_type(&self) -> u8;

    /// The timestamp of the next frame.
    fn timestamp(&self) -> u32;

    /// The packets of the next frame, of about `len` bytes.
    fn frame(&mut self, id: u64, key: bool, len: usize) -> Vec<Vec<u8>>;

    /// Whether its encoder makes a key where the sender has none.
    fn keys_at_will(&self) -> bool {
        true
    }

    /// Whether its encoder can make such a frame.
    fn encodes(&self, _meaning: Meaning) -> bool {
        true
    }

    /// An encoder's frame.
    fn made(&mut self, meaning: Meaning, len: usize) -> Vec<u8>;

    /// One frame as it came out. Panics where a receiver would be lost, and if it is not as it was sent.
    fn read(&self, frame: &Gathered) -> Meaning;

    /// All frames that came out: what else this format's receivers rely on.
    fn check(&self, _frames: &[Gathered]) {}
}

fn vpx_sender(vp9: bool, random: &mut Random) -> Box<dyn Coding> {
    let formats: Vec<Format> = formats().into_iter().filter(|format| format.vp9 == vp9).collect();
    Box::new(vpx::Sender::new(*any(random, &formats)))
}

fn any<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len() as u64) as usize]
}
