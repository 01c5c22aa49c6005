//! Packets in order become frames: a frame is complete when every number from its start to its end is
//! there, and is released on the packet that makes it so. The end is the marker; a new timestamp right behind ends a
//! frame too, for senders without markers.

use super::packet::PacketInfo;
use super::packet::{Content, Packet};

/// Bounds of one frame; more is not a frame of a sane sender.
pub const MAX_FRAME_BYTES: usize = 2 << 20;
pub const MAX_FRAME_PACKETS: usize = 2048;

#[derive(Debug)]
pub enum Assembled {
    /// All packets of one frame, in order; never empty.
    Frame(Vec<Packet>),
    /// A frame that other frames may need is gone: nothing before the next key can be decoded.
    LostReference { packets: usize, too_big: bool },
    /// A frame is gone that no other needs.
    LostDiscardable { packets: usize },
}

#[derive(Debug, Default)]
pub struct Assembler {
    /// Packets of the frame being gathered, all with one timestamp.
    packets: Vec<Packet>,
    bytes: usize,
    discardable: Option<bool>,
    /// The packet before ended a frame, or is known not to matter.
    at_boundary: bool,
    /// Packets of a frame whose start is unknown are skipped up to its end: their timestamp.
    skipping: Option<u32>,
    /// Of the packet before, while its frame goes on: another one begins another frame.
    last_timestamp: Option<u32>,
    /// Frames that a timestamp ended instead of a marker.
    pub markerless_frames: u64,
}

impl Assembler {
    pub fn push(&mut self, packet: Packet, out: &mut Vec<Assembled>) {
        let info = match packet.content {
            Content::Media(info) => info,
            Content::Padding => return,
            Content::Bad => return self.lost(&packet, out),
        };
        if self.last_timestamp.is_some_and(|last| last != packet.timestamp) {
            self.timestamp_changed(out);
        }
        self.last_timestamp = Some(packet.timestamp);
        let marker = packet.marker;
        if self.skipping == Some(packet.timestamp) {
            // still the frame whose start is missing
        } else if self.at_boundary || !self.packets.is_empty() || info.starts_frame {
            self.skipping = None;
            self.at_boundary = false;
            self.keep(packet, info, out);
        } else {
            self.skipping = Some(packet.timestamp);
        }
        if marker {
            self.end(out);
        }
    }

    /// Packets in front of `next` never came.
    pub fn gap(&mut self, next: &Packet, out: &mut Vec<Assembled>) {
        let same_frame = self.last_timestamp == Some(next.timestamp) && !self.at_boundary;
        if self.skipping.is_some() && same_frame {
            return;
        }
        let packets = self.clear();
        if same_frame && packets > 0 && self.discardable == Some(true) {
            // All that is missing lies inside this frame.
            self.skipping = Some(next.timestamp);
            out.push(Assembled::LostDiscardable { packets });
        } else {
            self.at_boundary = false;
            // Whether `next` begins a frame only its own content can tell.
            self.skipping = None;
            self.last_timestamp = None;
            out.push(Assembled::LostReference { packets, too_big: false });
        }
    }

    /// A packet whose payload is unusable takes its frame with it.
    fn lost(&mut self, packet: &Packet, out: &mut Vec<Assembled>) {
        self.gap(packet, out);
        self.skipping = Some(packet.timestamp);
        self.last_timestamp = Some(packet.timestamp);
        if packet.marker {
            self.end(out);
        }
    }

    fn keep(&mut self, packet: Packet, info: PacketInfo, out: &mut Vec<Assembled>) {
        if self.packets.is_empty() {
            self.discardable = None;
        }
        self.discardable = self.discardable.or(info.discardable);
        self.bytes += packet.payload.len();
        if self.bytes > MAX_FRAME_BYTES || self.packets.len() == MAX_FRAME_PACKETS {
            self.skipping = Some(packet.timestamp);
            let packets = self.clear() + 1;
            out.push(Assembled::LostReference { packets, too_big: true });
            return;
        }
        self.packets.push(packet);
    }

    fn timestamp_changed(&mut self, out: &mut Vec<Assembled>) {
        if !self.packets.is_empty() {
            self.markerless_frames += 1;
            self.end(out);
        } else if self.skipping.take().is_some() {
            self.at_boundary = true;
        }
    }

    fn end(&mut self, out: &mut Vec<Assembled>) {
        self.skipping = None;
        self.at_boundary = true;
        self.bytes = 0;
        if !self.packets.is_empty() {
            let room = self.packets.len();
            out.push(Assembled::Frame(std::mem::replace(&mut self.packets, Vec::with_capacity(room))));
        }
    }

    fn clear(&mut self) -> usize {
        let packets = self.packets.len();
        self.packets.clear();
        self.bytes = 0;
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Time;
    use bytes::Bytes;

    fn packet(sequence: u64, timestamp: u32, marker: bool) -> Packet {
        let info = PacketInfo { discardable: Some(false), ..PacketInfo::default() };
        Packet {
            sequence,
            timestamp,
            marker,
            arrived: Time(0),
            payload: Bytes::from_static(b"x"),
            content: Content::Media(info),
        }
    }

    fn with(mut packet: Packet, change: impl FnOnce(&mut PacketInfo)) -> Packet {
        if let Content::Media(info) = &mut packet.content {
            change(info);
        }
        packet
    }

    fn frames(out: &[Assembled]) -> Vec<Vec<u64>> {
        out.iter()
            .filter_map(|a| match a {
                Assembled::Frame(packets) => Some(packets.iter().map(|p| p.sequence).collect()),
                _ => None,
            })
            .collect()
    }

    /// At a boundary after frame 1.
    fn started() -> Assembler {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        a.push(packet(1, 10, true), &mut out);
        a
    }

    #[test]
    fn a_frame_is_released_on_its_marker() {
        let (mut a, mut out) = (started(), Vec::new());
        a.push(packet(2, 20, false), &mut out);
        assert!(out.is_empty());
        a.push(packet(3, 20, true), &mut out);
        assert_eq!(frames(&out), [[2, 3]]);
    }

    #[test]
    fn a_stream_joined_in_the_middle_of_a_frame_waits_for_a_boundary() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        a.push(packet(1, 10, false), &mut out);
        a.push(packet(2, 10, true), &mut out);
        assert!(out.is_empty());
        a.push(packet(3, 20, true), &mut out);
        assert_eq!(frames(&out), [[3]]);
    }

    #[test]
    fn a_codecs_own_start_needs_no_boundary() {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        a.push(with(packet(1, 10, true), |i| i.starts_frame = true), &mut out);
        assert_eq!(frames(&out), [[1]]);
    }

    #[test]
    fn without_markers_the_next_timestamp_ends_a_frame() {
        let (mut a, mut out) = (started(), Vec::new());
        for sequence in 2..6 {
            a.push(packet(sequence, 10 * (sequence as u32 / 2 + 10), false), &mut out);
        }
        assert_eq!(frames(&out), [[2, 3]]);
        assert_eq!(a.markerless_frames, 1);
    }

    #[test]
    fn padding_between_frames_belongs_to_none() {
        let (mut a, mut out) = (started(), Vec::new());
        let mut padding = packet(2, 10, false);
        padding.content = Content::Padding;
        a.push(padding, &mut out);
        a.push(packet(3, 20, true), &mut out);
        assert_eq!(frames(&out), [[3]]);
    }

    #[test]
    fn a_loss_inside_a_discardable_frame_costs_that_frame_only() {
        let (mut a, mut out) = (started(), Vec::new());
        a.push(with(packet(2, 20, false), |i| i.discardable = Some(true)), &mut out);
        let after = with(packet(4, 20, true), |i| i.discardable = Some(true));
        a.gap(&after, &mut out);
        a.push(after, &mut out);
        a.push(packet(5, 30, true), &mut out);
        assert!(matches!(out[0], Assembled::LostDiscardable { packets: 1 }));
        assert_eq!(frames(&out), [[5]]);
    }

    #[test]
    fn a_loss_between_frames_may_have_been_a_whole_frame() {
        let (mut a, mut out) = (started(), Vec::new());
        let after = packet(3, 30, true);
        a.gap(&after, &mut out);
        a.push(after, &mut out);
        a.push(packet(4, 40, true), &mut out);
        assert!(matches!(out[0], Assembled::LostReference { .. }));
        assert_eq!(frames(&out), [[4]], "frame 3's start is unknown, frame 4 follows a marker");
    }

    #[test]
    fn a_bad_payload_takes_its_frame_with_it() {
        let (mut a, mut out) = (started(), Vec::new());
        let mut bad = packet(2, 20, false);
        bad.content = Content::Bad;
        a.push(bad, &mut out);
        a.push(packet(3, 20, true), &mut out);
        a.push(packet(4, 30, true), &mut out);
        assert!(matches!(out[0], Assembled::LostReference { .. }));
        assert_eq!(frames(&out), [[4]]);
    }

    #[test]
    fn a_frame_beyond_the_bound_is_given_up_at_once() {
        let (mut a, mut out) = (started(), Vec::new());
        for sequence in 0..MAX_FRAME_PACKETS as u64 + 10 {
            a.push(packet(2 + sequence, 20, false), &mut out);
        }
        assert_eq!(out.len(), 1);
        assert!(matches!(out[0], Assembled::LostReference { too_big: true, .. }));
        assert!(a.packets.is_empty());
    }
}
