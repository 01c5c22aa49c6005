//! Payload formats. A video codec implements [`VideoCodec`], a file each; audio is relayed packet by packet and needs no
//! more than a name. `stream` is the caller.

pub mod audio;
pub mod h264;
pub mod h264_syntax;
mod nal;
mod parameter_sets;

use super::Drop;
use super::packet::{Packet, PacketInfo};
use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
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
    pub const ALL: [Codec; 2] = [Codec::H264, Codec::Opus];

    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::Opus => "Opus",
        }
    }

    pub fn from_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name() == name)
    }

    pub fn media(self) -> Media {
        match self {
            Codec::H264 => Media::Video,
            Codec::Opus => Media::Audio,
        }
    }

    /// None for audio.
    pub fn video(self) -> Option<Box<dyn VideoCodec>> {
        match self {
            Codec::H264 => Some(Box::new(h264::H264::default())),
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
    /// Pixels; 0 = unknown.
    pub width: u32,
    pub height: u32,
    /// Pictures may be shown in another order than they are sent (B-frames).
    pub may_reorder: bool,
    /// Cached parameter sets that this key lacks, to go before packet `sets_at`.
    pub missing_sets: Vec<Bytes>,
    pub sets_at: usize,
}

/// Payload bytes that fit into the first packet of a frame (it may carry the extension) and into the others.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub first: usize,
    pub rest: usize,
}

/// A payload to send: at most two bytes of payload header of our own, and bytes that are shared, not copied.
#[derive(Clone, Debug)]
pub struct Payload {
    head: [u8; 2],
    head_len: usize,
    body: Bytes,
}

impl Payload {
    pub fn whole(body: Bytes) -> Payload {
        Payload { head: [0; 2], head_len: 0, body }
    }

    pub fn with_head(head: [u8; 2], body: Bytes) -> Payload {
        Payload { head, head_len: 2, body }
    }

    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }

    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.head_len + self.body.len()
    }
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

    /// A frame of the AI Core, cut fresh.
    fn packetize(&mut self, frame: Bytes, key: bool, limits: Limits) -> Result<Vec<Payload>, Drop>;
}
