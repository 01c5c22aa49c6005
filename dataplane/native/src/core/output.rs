//! What comes out of a shard.

use super::codec::{Codec, Payload};
use super::dd::Described;
use super::elements::Elements;
use super::ext::Value;
use super::mode::{Kind, Mode};
use super::numbers::Numbered;
use super::{Drop, Drops, LegId, OutId, SockId, StreamId, Time};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;

#[derive(Debug)]
pub enum Output {
    Transmit(Transmit),
    Frame(Frame),
    Event(Event),
    /// Nothing more now; call `handle(Timeout)` then, unless something else comes first.
    Timeout(Time),
}

#[derive(Clone, Debug)]
pub struct Transmit {
    pub sock: SockId,
    pub dst: SocketAddr,
    pub bytes: Bytes,
    /// This packet is the last of a frame: tell the shard when the kernel has it.
    pub last_of: Option<FrameTag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTag {
    pub out: OutId,
    pub stream: StreamId,
    pub frame_id: u64,
    pub completed: Time,
}

/// A frame on its way to Python.
#[derive(Debug)]
pub struct Frame {
    pub stream: StreamId,
    pub frame_id: u64,
    pub mode: Mode,
    pub codec: Codec,
    pub timestamp: i64,
    pub key: bool,
    pub discardable: bool,
    /// The highest temporal and spatial layer in it.
    pub tid: u8,
    pub sid: u8,
    pub width: u32,
    pub height: u32,
    pub may_reorder: bool,
    pub first: Time,
    pub last: Time,
    pub completed: Time,
    pub native_bytes: usize,
    pub data: Vec<u8>,
}

/// `SubmitRefused`: an answer did not leave; `native`: it was the frame as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    StreamStarted { leg: LegId, stream: StreamId, ssrc: u32, payload_type: u8, codec: Codec },
    StreamEnded { stream: StreamId, reason: &'static str },
    StreamFailed { stream: StreamId, reason: &'static str },
    ModeApplied { stream: StreamId, mode: Mode, frame_id: u64 },
    OutNeedsKey { out: OutId, stream: StreamId },
    KeyRequested { out: OutId, stream: StreamId },
    LegFailed { leg: LegId, reason: String },
    FrameSent { stream: StreamId, frame_id: u64, at: Time, payload_bytes: u64, packets: u64 },
    SubmitRefused { stream: StreamId, frame_id: u64, native: bool, reason: Drop },
}

/// A frame ready to be stamped by every out of its stream.
#[derive(Debug)]
pub struct Wire {
    pub stream: StreamId,
    pub frame_id: u64,
    pub timestamp: i64,
    pub key: bool,
    pub kind: Kind,
    /// Refers to frames in front of the newest key.
    pub leading: bool,
    /// The source's; an out writes its own into the payloads.
    pub numbers: Numbered,
    pub payloads: Vec<Payload>,
    /// What dependency descriptors say of the payloads.
    pub described: Option<Described>,
    pub ext: Option<Value>,
    /// Other header extensions that came with the native frame.
    pub elements: Elements,
    pub completed: Time,
    /// Python answered it and wants to know when it left.
    pub submitted: bool,
}

/// An audio packet to relay.
#[derive(Debug)]
pub struct AudioPacket {
    pub stream: StreamId,
    /// Extended.
    pub sequence: u64,
    pub timestamp: i64,
    pub marker: bool,
    /// Empty: padding alone, which takes no number of ours.
    pub payload: Bytes,
    /// The whole, if `payload` is the primary block of a RED packet, and its block's payload type.
    pub red: Option<(Bytes, u8)>,
    pub elements: Elements,
}

/// What an upstream source is told.
#[derive(Debug)]
pub enum Feedback {
    Nack(StreamId, Vec<u16>),
    Key(StreamId),
}

/// What handling one input caused; the shard carries it out before it returns.
#[derive(Debug, Default)]
pub struct Effects {
    pub drops: Drops,
    pub outputs: VecDeque<Output>,
    pub wires: Vec<Wire>,
    /// Frames that were left out: their streams, and whether a switch off a key was the reason.
    pub left_out: Vec<(StreamId, bool)>,
    pub audio: Vec<AudioPacket>,
    pub feedback: Vec<Feedback>,
}

impl Effects {
    pub fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
