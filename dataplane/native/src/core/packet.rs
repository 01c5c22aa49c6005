//! A media packet as reorder, assembly and payload formats see it. Below all three.

use super::Time;
use super::numbers::Id;
use bytes::Bytes;

/// A packet on its way to assembly.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Extended to 64 bit.
    pub sequence: u64,
    pub timestamp: u32,
    pub marker: bool,
    pub arrived: Time,
    pub payload: Bytes,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Media(PacketInfo),
    /// Counts as received, belongs to no frame.
    Padding,
    /// Came, but its payload is unusable: as good as lost, without the wait.
    Bad,
}

/// What one packet says about the frame it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketInfo {
    /// A frame certainly begins here, whatever came before.
    pub starts_frame: bool,
    /// Holds part of a keyframe.
    pub key: bool,
    /// No other frame references this one, or those that do say so and can be left out; None: the packet does not say.
    pub discardable: Option<bool>,
    /// Which picture it is part of, where the format counts them and a picture has one frame.
    pub picture: Option<Id>,
    /// It says that nothing that is missing in front of it is needed from here on.
    pub intact: bool,
}
