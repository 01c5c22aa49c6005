//! Packets in order become frames: a frame is complete when every number from its start to its end is
//! there, and is released on the packet that makes it so. The end is the marker; a new timestamp right behind ends a
//! frame too, for senders without markers.
//!
//! Packets that never came may have been anything. Where pictures are numbered it is known that no whole one was among
//! them, if the picture behind follows the one in front: then what is lost lies in those two, and costs no more than the
//! one it lies in if nothing refers to that. And a packet may say itself that nothing in front of it is needed any more.

use super::numbers::Id;
use super::packet::{Content, Packet, PacketInfo};

/// Bounds of one frame; more is not a frame of a sane sender.
pub const MAX_FRAME_BYTES: usize = 2 << 20;
pub const MAX_FRAME_PACKETS: usize = 2048;

/// With this many packets missing a picture number of seven bits may have come round.
const MAY_HAVE_WRAPPED: u64 = 100;

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
    /// The picture of the packet before.
    last_picture: Option<Id>,
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
        self.last_picture = info.picture;
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

    /// So many packets in front of `next` never came.
    pub fn gap(&mut self, next: &Packet, missing: u64, out: &mut Vec<Assembled>) {
        let same_frame = self.last_timestamp == Some(next.timestamp) && !self.at_boundary;
        if self.skipping.is_some() && same_frame || self.next_picture(next, missing, out) {
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

    /// Whether what is missing matters to no other frame, as the numbers of the pictures around it tell.
    fn next_picture(&mut self, next: &Packet, missing: u64, out: &mut Vec<Assembled>) -> bool {
        let Content::Media(info) = next.content else { return false };
        let follows = info.picture.zip(self.last_picture).is_some_and(|(next, last)| next.follows(last));
        if !(follows || info.intact) || missing >= MAY_HAVE_WRAPPED {
            return false;
        }
        let nobodys = !self.packets.is_empty() && (self.discardable == Some(true) || info.intact);
        if info.starts_frame && (self.at_boundary || self.skipping.is_some() || nobodys) {
            // Padding, or the end of a frame that is skipped anyway, or of one that no other needs.
            let packets = self.clear();
            if packets > 0 {
                out.push(Assembled::LostDiscardable { packets });
            }
            self.skipping = None;
            self.at_boundary = true;
            return true;
        }
        if !info.starts_frame && self.at_boundary && info.discardable == Some(true) {
            self.at_boundary = false;
            self.skipping = Some(next.timestamp);
            self.last_timestamp = Some(next.timestamp);
            out.push(Assembled::LostDiscardable { packets: 0 });
            return true;
        }
        false
    }

    /// A packet whose payload is unusable takes its frame with it.
    fn lost(&mut self, packet: &Packet, out: &mut Vec<Assembled>) {
        self.gap(packet, 1, out);
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
        a.gap(&after, 1, &mut out);
        a.push(after, &mut out);
        a.push(packet(5, 30, true), &mut out);
        assert!(matches!(out[0], Assembled::LostDiscardable { packets: 1 }));
        assert_eq!(frames(&out), [[5]]);
    }

    fn numbered(sequence: u64, picture: u16, marker: bool, starts_frame: bool, discardable: bool) -> Packet {
        with(packet(sequence, 10 * u32::from(picture), marker), |info| {
            *info = PacketInfo {
                starts_frame,
                key: false,
                discardable: Some(discardable),
                picture: Some(Id { number: picture, wide: false }),
                intact: false,
            };
        })
    }

    /// What goes on after picture 1, with so many packets missing in front of the second of two.
    fn after_a_loss(before: Option<Packet>, missing: u64, behind: Packet) -> Vec<Assembled> {
        let (mut a, mut out) = (Assembler::default(), Vec::new());
        a.push(numbered(1, 1, true, true, false), &mut out);
        out.clear();
        before.into_iter().for_each(|packet| a.push(packet, &mut out));
        a.gap(&behind, missing, &mut out);
        a.push(behind, &mut out);
        out
    }

    #[test]
    fn a_loss_between_pictures_that_follow_each_other_was_no_frame() {
        assert_eq!(frames(&after_a_loss(None, 1, numbered(3, 2, true, true, false))), [[3]]);
        for (missing, picture) in [(1, 3), (1, 1), (200, 2)] {
            let out = after_a_loss(None, missing, numbered(3, picture, true, true, false));
            assert!(matches!(out[0], Assembled::LostReference { .. }), "picture {picture} after {missing} missing");
        }
    }

    #[test]
    fn the_lost_end_or_beginning_of_a_discardable_picture_costs_that_one_only() {
        let out = after_a_loss(Some(numbered(2, 2, false, true, true)), 1, numbered(4, 3, true, true, false));
        assert!(matches!(out[..], [Assembled::LostDiscardable { packets: 1 }, Assembled::Frame(_)]), "{out:?}");
        let out = after_a_loss(None, 1, numbered(3, 2, true, false, true));
        assert!(matches!(out[..], [Assembled::LostDiscardable { packets: 0 }]), "{out:?}");
        let out = after_a_loss(Some(numbered(2, 2, false, true, false)), 1, numbered(4, 3, true, true, false));
        assert!(matches!(out[0], Assembled::LostReference { .. }), "others need it");
        let out = after_a_loss(None, 1, numbered(3, 2, true, false, false));
        assert!(matches!(out[0], Assembled::LostReference { .. }), "others need it");
        let out = after_a_loss(Some(numbered(2, 2, false, true, true)), 2, numbered(5, 4, true, true, false));
        assert!(matches!(out[0], Assembled::LostReference { .. }), "picture 3 is missing too");
    }

    /// Rule 6.
    #[test]
    fn what_is_missing_in_front_of_a_packet_that_says_it_needs_none_of_it_costs_no_more_than_that() {
        let intact = |packet| with(packet, |info| info.intact = true);
        let out = after_a_loss(None, 1, intact(numbered(3, 5, true, true, false)));
        assert!(matches!(out[..], [Assembled::Frame(_)]), "{out:?}");
        let cut = Some(numbered(2, 2, false, true, false));
        let out = after_a_loss(cut, 1, intact(numbered(4, 5, true, true, false)));
        assert!(matches!(out[..], [Assembled::LostDiscardable { packets: 1 }, Assembled::Frame(_)]), "{out:?}");
        let out = after_a_loss(None, 1, intact(numbered(3, 5, true, false, true)));
        assert!(
            matches!(out[..], [Assembled::LostDiscardable { packets: 0 }]),
            "its own beginning is missing: {out:?}"
        );
        let out = after_a_loss(None, 1, intact(numbered(3, 5, true, false, false)));
        assert!(matches!(out[0], Assembled::LostReference { .. }), "and others need it");
    }

    #[test]
    fn a_loss_between_frames_may_have_been_a_whole_frame() {
        let (mut a, mut out) = (started(), Vec::new());
        let after = packet(3, 30, true);
        a.gap(&after, 1, &mut out);
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
