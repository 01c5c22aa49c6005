//! The shard's RTCP: each leg's reports end here and start here. NACKs are answered from our own copies, key
//! requests reach the source or, for compressed streams, Python.

use super::Shard;
use crate::core::codec::Media;
use crate::core::leg_plain::{EarlyReport, MAX_REPORTED, SenderReport};
use crate::core::mode::Mode;
use crate::core::output::{Event, Transmit};
use crate::core::reports::Ntp;
use crate::core::rtcp::{self, Block, Echoed, Rtcp};
use crate::core::stream::Stream;
use crate::core::{Drop, LegId, OutId, StreamId, Time};
use std::net::SocketAddr;
use std::time::Duration;

/// Of one FIR; it has an entry per media source that a key is wanted of.
const MAX_FIR_ENTRIES: usize = 16;

impl Shard {
    pub(super) fn rtcp(&mut self, leg: LegId, media: Media, src: SocketAddr, data: &[u8]) {
        let Ok(packets) = rtcp::parse(data) else { return self.fx.drops.count(Drop::Malformed) };
        let Some(medium) = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media)) else { return };
        let locked = medium.source.locked();
        if let Some(Rtcp::SenderReport { ssrc, ntp, rtp, .. }) = packets.first()
            && locked.is_none_or(|locked| locked.ssrc != *ssrc && locked.address.ip() == src.ip())
        {
            // Kept for the source that may prove to be its sender.
            let (from, ntp, at) = (src.ip(), Ntp(*ntp), self.now.mono);
            medium.early_report = Some(EarlyReport { from, ssrc: *ssrc, ntp, rtp: *rtp, at });
        }
        if medium.source.destination().is_none() {
            return; // learning: nobody has anything to say about us yet
        }
        if !medium.source.owns_address(src) {
            return self.fx.drops.count(Drop::ForeignSource);
        }
        for packet in packets {
            self.one_rtcp(leg, media, src, packet);
        }
    }

    fn one_rtcp(&mut self, leg: LegId, media: Media, src: SocketAddr, packet: Rtcp) {
        match packet {
            Rtcp::SenderReport { ssrc, ntp, rtp, blocks, .. } => {
                match self.source_stream(leg, media, ssrc) {
                    Some(id) => {
                        let now = self.now.mono;
                        self.streams.entry(id).and_modify(|stream| stream.sender_report(Ntp(ntp), rtp, now));
                        self.seen(leg, media, src);
                    }
                    None if self.locked(leg, media) => self.fx.drops.count(Drop::UnknownSsrc),
                    None => {} // remembered as early report
                }
                self.blocks(leg, media, src, &blocks);
            }
            Rtcp::ReceiverReport { blocks, .. } => self.blocks(leg, media, src, &blocks),
            Rtcp::Bye { ssrcs } => {
                for ssrc in ssrcs {
                    if let Some(stream) = self.source_stream(leg, media, ssrc) {
                        self.end_stream(stream, "bye");
                    }
                }
            }
            Rtcp::Nack { media: ssrc, lost, .. } => {
                let Some(out) = self.feedback_target(leg, ssrc) else { return };
                let route = self.legs.get(&leg).and_then(|leg| leg.medium(media)).and_then(|m| m.rtp_route());
                if let (Some(out), Some(route)) = (self.outs.get_mut(&out), route) {
                    let refused = out.again(&lost, route, self.now.mono, &mut self.send);
                    self.wake = self.wake.min(out.deadline().unwrap_or(Time::NEVER));
                    self.fx.drops.add(Drop::ResendLimit, refused);
                }
            }
            Rtcp::ReferenceTime { sender, ntp } => {
                let now = self.now.mono;
                if let Some(medium) = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media)) {
                    medium.reference = Some((sender, Ntp(ntp).middle(), now));
                }
            }
            Rtcp::SinceReference { echoes } => {
                let medium = self.legs.get(&leg).and_then(|leg| leg.medium(media));
                let round_trip = medium.and_then(|medium| {
                    let ours = echoes.iter().find(|echo| echo.ssrc == medium.own_ssrc)?;
                    medium.references.echoed(ours.reference, ours.delay, self.now.mono)
                });
                round_trip.into_iter().for_each(|round_trip| self.measured(leg, round_trip));
            }
            Rtcp::Pli { media: ssrc, .. } => self.key_wanted(leg, ssrc, None),
            Rtcp::Fir { sender, entries } => {
                for (ssrc, number) in entries.into_iter().take(MAX_FIR_ENTRIES) {
                    self.key_wanted(leg, ssrc, Some((sender, number)));
                }
            }
        }
    }

    fn blocks(&mut self, leg: LegId, media: Media, src: SocketAddr, blocks: &[Block]) {
        for block in blocks {
            let Some(id) = self.out_of(leg, block.ssrc) else { continue };
            self.seen(leg, media, src);
            let Some(out) = self.outs.get_mut(&id) else { continue };
            if let Some(round_trip) = out.echo.round_trip(block, self.now.mono) {
                out.round_trip = Some(round_trip);
                self.measured(leg, round_trip);
            }
        }
    }

    /// A leg's round trip, by which its streams wait for repairs.
    fn measured(&mut self, leg: LegId, round_trip: Duration) {
        let media = self.legs.get(&leg).into_iter().flat_map(|leg| &leg.media);
        for locked in media.filter_map(|medium| medium.source.locked()) {
            if let Some(video) = self.streams.get_mut(&locked.stream).and_then(Stream::video) {
                video.set_round_trip(round_trip);
            }
        }
    }

    /// A receiver wants a key. For a compressed stream the encoder makes one; else the source is asked.
    fn key_wanted(&mut self, leg: LegId, ssrc: u32, fir: Option<(u32, u8)>) {
        let Some(id) = self.feedback_target(leg, ssrc) else { return };
        let now = self.now.mono;
        let Some(out) = self.outs.get_mut(&id) else { return };
        if out.key_requested(fir, now) {
            self.ask_source(id);
        }
    }

    /// For a key, where an out cannot go on without.
    pub(super) fn ask_source(&mut self, id: OutId) {
        let now = self.now.mono;
        let Some(stream) = self.outs.get(&id).and_then(|out| out.stream) else { return };
        let Some(source) = self.streams.get_mut(&stream) else { return };
        match source.video_ref().map(|video| video.ledger.mode()) {
            Some(Some(Mode::Compress)) => self.fx.event(Event::KeyRequested { out: id, stream }),
            Some(_) => drop(source.request_key(now, &mut self.fx)),
            None => {}
        }
    }

    /// The out that feedback is about, on a leg where feedback is agreed.
    fn feedback_target(&mut self, leg: LegId, ssrc: u32) -> Option<OutId> {
        if !self.legs.get(&leg).is_some_and(|leg| leg.config.feedback) {
            self.fx.drops.count(Drop::UnexpectedFeedback);
            return None;
        }
        let out = self.out_of(leg, ssrc);
        if out.is_none() {
            self.fx.drops.count(Drop::UnknownSsrc);
        }
        out
    }

    fn out_of(&self, leg: LegId, ssrc: u32) -> Option<OutId> {
        self.owner(leg, ssrc).filter(|out| out.generator.ssrc == ssrc).map(|out| out.id)
    }

    fn source_stream(&self, leg: LegId, media: Media, ssrc: u32) -> Option<StreamId> {
        let locked = self.legs.get(&leg)?.medium(media)?.source.locked()?;
        (locked.ssrc == ssrc).then_some(locked.stream)
    }

    fn locked(&self, leg: LegId, media: Media) -> bool {
        let medium = self.legs.get(&leg).and_then(|leg| leg.medium(media));
        medium.is_some_and(|medium| medium.source.locked().is_some())
    }

    fn seen(&mut self, leg: LegId, media: Media, src: SocketAddr) {
        if let Some(medium) = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media)) {
            medium.rtcp_seen = Some(src);
        }
    }

    pub(super) fn send_due_reports(&mut self) {
        let now = self.now.mono;
        let due: Vec<(LegId, Media)> = self
            .legs
            .values()
            .flat_map(|leg| leg.media.iter().map(move |medium| (leg.id, medium)))
            .filter(|(_, medium)| medium.next_report <= now)
            .map(|(leg, medium)| (leg, medium.media))
            .collect();
        for (leg, media) in due {
            self.send_reports(leg, media);
        }
    }

    fn send_reports(&mut self, leg: LegId, media: Media) {
        let senders = self.sender_reports(leg, media);
        let (now, unix) = (self.now.mono, Ntp::from_unix(self.now.unix));
        let Some(open) = self.legs.get_mut(&leg) else { return };
        let feedback = open.config.feedback;
        let Some(medium) = open.medium_mut(media) else { return };
        medium.next_report = now + medium.report_interval();
        let source = medium.source.locked().and_then(|locked| self.streams.get_mut(&locked.stream));
        let blocks: Vec<Block> = source.map(|stream| stream.reception.block(stream.ssrc, now)).into_iter().collect();
        if medium.rtcp_route().is_none() {
            return;
        }
        let mut blocks = blocks.as_slice();
        let alone = if senders.is_empty() && !blocks.is_empty() { Some(&[][..]) } else { None };
        let mut writers = Vec::new();
        for senders in senders.chunks(MAX_REPORTED).chain(alone) {
            let mut writer = medium.reports(senders, std::mem::take(&mut blocks));
            match senders.first() {
                Some(own) => {
                    if let Some((ssrc, reference, at)) = medium.reference.take() {
                        let delay = (((now - at).as_nanos() << 16) / 1_000_000_000) as u32;
                        writer.since_reference(own.ssrc, Echoed { ssrc, reference, delay });
                    }
                }
                None if feedback => {
                    writer.reference_time(medium.own_ssrc, unix.0);
                    medium.references.sent(unix, now);
                }
                None => {}
            }
            writers.push(writer);
        }
        for writer in writers {
            self.send_rtcp(leg, media, writer);
        }
    }

    fn send_rtcp(&mut self, leg: LegId, media: Media, writer: rtcp::Writer) {
        let Some(medium) = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media)) else { return };
        let Some((sock, dst)) = medium.rtcp_route() else { return };
        let mut bytes = writer.finish();
        if let Some(session) = &mut medium.srtp
            && !session.protect.rtcp(&mut bytes)
        {
            return self.fx.drops.count(Drop::SrtpExhausted);
        }
        self.send.push_back(Transmit { sock, dst, bytes: bytes.into(), last_of: None });
    }

    /// What each out of a medium says of itself.
    fn sender_reports(&mut self, leg: LegId, media: Media) -> Vec<SenderReport> {
        let (now, unix) = (self.now.mono, Ntp::from_unix(self.now.unix));
        let mut senders = Vec::new();
        for out in self.outs.values_mut().filter(|out| out.leg == leg && out.codec.media() == media) {
            let clock = out.stream.and_then(|stream| self.streams.get(&stream)).and_then(|stream| stream.clock);
            // Until its source reports, its participant's other medium knows their clock.
            let beside = self.streams.values().filter(|stream| stream.leg == out.source_leg).find_map(|s| s.clock);
            let unix = beside.map_or(unix, |clock| clock.ntp.plus(now - clock.arrived));
            let Some((ntp, rtp)) = out.generator.report(clock.as_ref(), now, unix) else { continue };
            out.echo.sent(ntp, now);
            let source = self.legs.get(&out.source_leg).and_then(|leg| leg.media.first());
            let cname = source.map_or_else(String::new, |medium| medium.cname.clone());
            let (packets, octets) = (out.generator.packets as u32, out.generator.payload_bytes as u32);
            if let Some(rtx) = out.rtx.as_ref().filter(|rtx| rtx.packets > 0) {
                let (ssrc, packets, octets) = (rtx.ssrc, rtx.packets as u32, rtx.payload_bytes as u32);
                senders.push(SenderReport { ssrc, cname: cname.clone(), ntp, rtp, packets, octets });
            }
            senders.push(SenderReport { ssrc: out.generator.ssrc, cname, ntp, rtp, packets, octets });
        }
        senders
    }

    pub(super) fn send_nack(&mut self, stream: StreamId, lost: &[u16]) {
        self.send_upstream(stream, |writer, own, ssrc| writer.nack(own, ssrc, lost));
    }

    pub(super) fn send_pli(&mut self, stream: StreamId) {
        self.send_upstream(stream, |writer, own, ssrc| writer.pli(own, ssrc));
    }

    /// Feedback to a source, behind an empty report (compound only).
    fn send_upstream(&mut self, stream: StreamId, write: impl FnOnce(&mut rtcp::Writer, u32, u32)) {
        let Some(stream) = self.streams.get(&stream) else { return };
        let (leg, media) = (stream.leg, stream.media());
        let Some(medium) = self.legs.get(&leg).and_then(|leg| leg.medium(media)) else { return };
        let mut writer = medium.reports(&[], &[]);
        write(&mut writer, medium.own_ssrc, stream.ssrc);
        self.send_rtcp(leg, media, writer);
    }

    /// To the receivers of an out, of those of its SSRCs that ever sent.
    pub(super) fn send_bye(&mut self, out: OutId, ssrcs: &[u32]) {
        let Some(out) = self.outs.get(&out) else { return };
        let (leg, media) = (out.leg, out.codec.media());
        let sent: Vec<u32> = ssrcs.iter().copied().filter(|ssrc| out.has_sent(*ssrc)).collect();
        let Some(medium) = self.legs.get(&leg).and_then(|leg| leg.medium(media)).filter(|_| !sent.is_empty()) else {
            return;
        };
        let mut writer = medium.reports(&[], &[]);
        writer.bye(&sent);
        self.send_rtcp(leg, media, writer);
    }
}
