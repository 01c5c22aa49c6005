//! The way out: what the streams decided leaves by their outs, and outs come to an end.

use super::{Sending, Shard};
use crate::core::leg_plain::Leg;
use crate::core::out::{Out, Route, Sent};
use crate::core::output::{Event, Feedback, FrameTag, Wire};
use crate::core::source::SILENCE;
use crate::core::{Drop, LegId, OutId, StreamId, Time};
use std::collections::BTreeMap;

impl Shard {
    /// Carries out what the streams decided.
    pub(super) fn settle(&mut self) {
        let mut wires = std::mem::take(&mut self.fx.wires);
        wires.drain(..).for_each(|wire| self.send_frame(&wire));
        self.fx.wires = wires;
        for (stream, illegal) in std::mem::take(&mut self.fx.left_out) {
            let Some(stream) = self.streams.get(&stream) else { continue };
            for out in &stream.outs {
                self.outs.entry(*out).and_modify(|out| out.left_out(illegal));
            }
        }
        let mut audio = std::mem::take(&mut self.fx.audio);
        for packet in audio.drain(..) {
            let Some(stream) = self.streams.get(&packet.stream) else { continue };
            if packet.payload.is_empty() {
                for out in &stream.outs {
                    self.outs.entry(*out).and_modify(|out| out.absorb(&packet));
                }
                continue;
            }
            if stream.outs.is_empty() {
                self.fx.drops.count(Drop::NotLinked);
            }
            for out in &stream.outs {
                let Some(out) = self.outs.get_mut(out) else { continue };
                let Some(route) = route(&self.legs, out) else {
                    self.fx.drops.count(Drop::NoRemote);
                    continue;
                };
                report_first(&mut self.legs, out, self.now.mono, &mut self.wake);
                self.send.extend(out.audio(&packet, route, stream.clock.as_ref(), self.now.mono));
            }
        }
        self.fx.audio = audio;
        for feedback in std::mem::take(&mut self.fx.feedback) {
            match feedback {
                Feedback::Nack(stream, lost) => self.send_nack(stream, &lost),
                Feedback::Key(stream) => self.send_pli(stream),
            }
        }
    }

    fn send_frame(&mut self, wire: &Wire) {
        let Some(stream) = self.streams.get(&wire.stream) else { return };
        let mut sending = Sending { outs: 0, payload_bytes: 0, packets: 0 };
        for out in &stream.outs {
            let Some(out) = self.outs.get_mut(out) else { continue };
            let Some(route) = route(&self.legs, out) else {
                self.fx.drops.count(Drop::NoRemote);
                out.no_route();
                continue;
            };
            report_first(&mut self.legs, out, self.now.mono, &mut self.wake);
            match out.video(wire, route, stream.clock.as_ref(), self.now.mono, &mut self.send) {
                Sent::NeedsKey => self.fx.drops.count(Drop::OutNeedsKey),
                Sent::Leading => self.fx.drops.count(Drop::LeadingPicture),
                Sent::Packets { packets, payload_bytes } => {
                    sending.outs += 1;
                    sending.packets += packets;
                    sending.payload_bytes += payload_bytes;
                }
            }
            self.wake = self.wake.min(out.deadline().unwrap_or(Time::NEVER));
        }
        if wire.submitted && sending.outs > 0 {
            self.sending.insert((wire.stream, wire.frame_id), sending);
        }
    }

    pub(super) fn sent(&mut self, tag: FrameTag) {
        if let Some(out) = self.outs.get_mut(&tag.out) {
            out.sent(tag.completed, self.now.mono);
        }
        self.frame_left(tag);
    }

    /// One out has nothing more to send of a frame.
    pub(super) fn frame_left(&mut self, tag: FrameTag) {
        let key = (tag.stream, tag.frame_id);
        let Some(sending) = self.sending.get_mut(&key) else { return };
        sending.outs -= 1;
        if sending.outs == 0 {
            let Sending { payload_bytes, packets, .. } = *sending;
            self.sending.remove(&key);
            let (stream, frame_id, at) = (tag.stream, tag.frame_id, self.now.mono);
            self.fx.event(Event::FrameSent { stream, frame_id, at, payload_bytes, packets });
        }
    }

    /// The source is gone. After a BYE its outs say BYE too; else a successor may take them over for a while.
    pub(super) fn end_stream(&mut self, id: StreamId, reason: &'static str) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if let Some(medium) = self.legs.get_mut(&stream.leg).and_then(|leg| leg.medium_mut(stream.media())) {
            medium.source.unlock();
            medium.note_rtx(stream.ssrc, stream.rtx, self.now.mono);
        }
        self.note_senders(stream.leg, stream.media());
        self.fx.event(Event::StreamEnded { stream: id, reason });
        for out_id in stream.outs {
            let Some(out) = self.outs.get_mut(&out_id) else { continue };
            if reason == "bye" {
                self.remove_out(out_id);
            } else {
                out.stream = None;
                out.orphaned = Some(self.now.mono);
                self.wake = self.wake.min(self.now.mono + SILENCE);
            }
        }
        self.sending.retain(|(stream, _), _| *stream != id);
    }

    pub(super) fn remove_out(&mut self, id: OutId) {
        let ssrcs: Vec<u32> = self.outs.get(&id).into_iter().flat_map(Out::ssrcs).collect();
        self.send_bye(id, &ssrcs);
        self.forget_out(id);
    }

    pub(super) fn forget_out(&mut self, id: OutId) {
        let Some(mut out) = self.outs.remove(&id) else { return };
        self.ssrcs.retain(|_, owner| *owner != id);
        if let Some(stream) = out.stream.and_then(|stream| self.streams.get_mut(&stream)) {
            stream.outs.retain(|other| *other != id);
        }
        out.clear().into_iter().for_each(|tag| self.frame_left(tag));
    }
}

fn route(legs: &BTreeMap<LegId, Leg>, out: &Out) -> Option<Route> {
    legs.get(&out.leg)?.medium(out.codec.media())?.rtp_route()
}

/// A receiver can place an out's first frame in time only with a report beside it.
fn report_first(legs: &mut BTreeMap<LegId, Leg>, out: &Out, now: Time, wake: &mut Time) {
    if out.generator.packets == 0
        && let Some(medium) = legs.get_mut(&out.leg).and_then(|leg| leg.medium_mut(out.codec.media()))
    {
        medium.next_report = now;
        *wake = now;
    }
}
