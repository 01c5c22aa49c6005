//! A packet's way in: from the socket that it came through to the stream of its source.

use super::{Carries, FORMER_FOR, MAX_FORMER, Port, Shard};
use crate::core::codec::Media;
use crate::core::demux::{self, Kind};
use crate::core::leg_plain::{PayloadType, Wrapped};
use crate::core::out::Out;
use crate::core::output::Event;
use crate::core::rtp::{self, Rtp};
use crate::core::source::{Admission, SILENCE};
use crate::core::stream::{Incoming, Stream};
use crate::core::{Drop, LegId, SockId, StreamId, Time, ext, rtx};
use bytes::Bytes;
use std::net::SocketAddr;

impl Shard {
    pub(super) fn datagram(&mut self, sock: SockId, src: SocketAddr, data: &[u8]) {
        let Some(port) = self.ports.get(&sock).copied() else { return };
        let kind = match (demux::classify(data), port.carries) {
            (Some(Kind::Rtp), Carries::Rtp | Carries::Both) | (Some(Kind::Rtcp), Carries::Rtp) => Kind::Rtp,
            (Some(Kind::Rtcp), Carries::Rtcp | Carries::Both) => Kind::Rtcp,
            _ => return self.fx.drops.count(Drop::Malformed),
        };
        let mut plain = std::mem::take(&mut self.plain);
        match self.unprotect(port, kind, src, data, &mut plain) {
            Ok(protected) => {
                let data = if protected { &plain } else { data };
                match kind {
                    Kind::Rtcp => self.rtcp(port.leg, port.media, src, data),
                    _ => self.rtp(port.leg, port.media, src, data),
                }
            }
            Err(why) => self.fx.drops.count(why),
        }
        self.plain = plain; // keeps its capacity
        self.settle();
    }

    /// On an SRTP leg: who is not allowed to send is not worth a digest, and what does not authenticate goes no further.
    /// False: a plain leg, nothing was written.
    fn unprotect(
        &mut self,
        port: Port,
        kind: Kind,
        src: SocketAddr,
        data: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, Drop> {
        let Some(leg) = self.legs.get_mut(&port.leg) else { return Ok(false) };
        let receives = leg.config.direction.receives();
        let Some(medium) = leg.medium_mut(port.media) else { return Ok(false) };
        let Some(session) = &mut medium.srtp else { return Ok(false) };
        let allowed = match kind {
            Kind::Rtcp => medium.source.destination().is_none() || medium.source.owns_address(src),
            _ if !receives => return Err(Drop::WrongDirection),
            _ => medium.source.allows(src),
        };
        if !allowed {
            return Err(Drop::ForeignSource);
        }
        match kind {
            Kind::Rtcp => session.unprotect.rtcp(data, plain)?,
            _ => session.unprotect.rtp(data, plain)?,
        }
        Ok(true)
    }

    fn rtp(&mut self, leg: LegId, media: Media, src: SocketAddr, data: &[u8]) {
        let Some(leg) = self.legs.get_mut(&leg) else { return };
        let (direction, leg_id) = (leg.config.direction, leg.id);
        let Some(medium) = leg.medium_mut(media) else { return };
        medium.packets += 1;
        if !direction.receives() {
            return self.fx.drops.count(Drop::WrongDirection);
        }
        let Ok(rtp) = rtp::parse(data) else { return self.fx.drops.count(Drop::Malformed) };
        if rtp.ssrc == 0 && rtp.payload.is_empty() {
            return self.fx.drops.count(Drop::Probe);
        }
        let Some((payload, wrapped)) = medium.payload(rtp.payload_type) else {
            return self.fx.drops.count(Drop::UnknownPayloadType);
        };
        if wrapped == Wrapped::Rtx {
            return self.retransmitted(leg_id, media, src, &rtp, payload);
        }
        // Whoever is not allowed here is not worth a look at all that we send.
        let known = medium.source.locked().is_some_and(|locked| locked.ssrc == rtp.ssrc) || !medium.source.allows(src);
        let ours = || self.ssrcs.get(&(leg_id, rtp.ssrc)).and_then(|out| self.outs.get(out));
        let former = |(ssrc, at): &(u32, Time)| *ssrc == rtp.ssrc && self.now.mono - *at < FORMER_FOR;
        if !known && (self.former.iter().any(former) || ours().is_some_and(|out| out.sent_lately(&rtp))) {
            return self.fx.drops.count(Drop::Looped);
        }
        let admission = medium.source.admit(src, rtp.ssrc, rtp.sequence, data, self.now.mono);
        self.fx.drops.add(Drop::Probation, medium.source.take_discarded());
        match admission {
            Admission::Pass(stream) => {
                self.deliver(leg_id, media, stream, (rtp, payload, wrapped), rtp.ssrc);
            }
            Admission::Start(packets) => self.start_stream(leg_id, media, src, &rtp, payload, packets),
            Admission::Drop(why) => self.fx.drops.count(why),
            Admission::Wait => {}
        }
    }

    /// A packet of a stream of retransmissions: the source says whose, for no other can be meant, unless it is known to
    /// have been another's.
    fn retransmitted(&mut self, leg: LegId, media: Media, src: SocketAddr, rtx: &Rtp<'_>, payload: PayloadType) {
        let Some(medium) = self.legs.get(&leg).and_then(|leg| leg.medium(media)) else { return };
        let Some(locked) = medium.source.locked() else { return self.fx.drops.count(Drop::UnknownSsrc) };
        if locked.address != src {
            return self.fx.drops.count(Drop::ForeignSource);
        }
        let known = self.streams.get(&locked.stream).is_some_and(|stream| stream.rtx == Some(rtx.ssrc));
        if !known {
            if medium.repaired_others(rtx.ssrc, locked.ssrc, self.now.mono) {
                return self.fx.drops.count(Drop::Late);
            }
            if self.is_looped(leg, media, rtx) {
                return self.fx.drops.count(Drop::Looped);
            }
        }
        // Too short for a number of its own: padding.
        let Some(rtp) = rtx::unwrap(rtx, locked.ssrc, payload.number) else { return };
        self.deliver(leg, media, locked.stream, (rtp, payload, Wrapped::Rtx), rtx.ssrc);
    }

    /// Whether a retransmission is one of ours, come back. If it only has an SSRC of ours, we take another.
    fn is_looped(&mut self, leg: LegId, media: Media, rtx: &Rtp<'_>) -> bool {
        let Some(ours) = self.owner(leg, rtx.ssrc) else {
            return self.former.iter().any(|(ssrc, at)| *ssrc == rtx.ssrc && self.now.mono - *at < FORMER_FOR);
        };
        let looped = ours.sent_lately(rtx);
        let medium = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media));
        if looped || !medium.is_some_and(|medium| medium.may_start(self.now.mono)) {
            return true;
        }
        self.resolve_collision(leg, rtx.ssrc);
        let locked = self.legs.get(&leg).and_then(|leg| leg.medium(media)).and_then(|medium| medium.source.locked());
        if let Some(stream) = locked.and_then(|locked| self.streams.get_mut(&locked.stream)) {
            stream.rtx = Some(rtx.ssrc);
        }
        false
    }

    /// To the stream of its source; `ssrc` is what the packet came with.
    fn deliver(
        &mut self,
        leg: LegId,
        media: Media,
        stream: StreamId,
        (rtp, payload, wrapped): (Rtp<'_>, PayloadType, Wrapped),
        ssrc: u32,
    ) {
        let Some(leg) = self.legs.get_mut(&leg) else { return };
        let (elements, extension_id) = (leg.config.ids.read(rtp.extension), leg.config.extension_id);
        let descriptor = leg.config.ids.descriptor(rtp.extension);
        let Some(medium) = leg.medium_mut(media) else { return };
        let carries = rtp.extension.and_then(|(profile, body)| ext::find(profile, body, extension_id));
        medium.aic_packets += u64::from(carries.is_some_and(|bytes| bytes.len() == ext::VALUE_BYTES));
        let Some(stream) = self.streams.get_mut(&stream) else { return };
        if !stream.takes(payload) {
            return self.fx.drops.count(Drop::UnknownPayloadType);
        }
        let incoming = Incoming { rtp, wrapped, codec: payload.number, elements, descriptor };
        match wrapped {
            Wrapped::Rtx => stream.repaired(incoming, ssrc, self.now.mono, &mut self.fx),
            Wrapped::No | Wrapped::Red => stream.receive(incoming, self.now.mono, &mut self.fx),
        }
        let stream = stream.id;
        self.arm(stream);
    }

    /// A source has proven itself, by `packets`; `rtp` is the last of them.
    fn start_stream(
        &mut self,
        leg: LegId,
        media: Media,
        src: SocketAddr,
        rtp: &Rtp<'_>,
        payload: PayloadType,
        packets: Vec<Bytes>,
    ) {
        let Some(open) = self.legs.get_mut(&leg) else { return };
        let feedback = open.config.feedback;
        let Some(medium) = open.medium_mut(media) else { return };
        if !medium.may_start(self.now.mono) {
            return self.fx.drops.add(Drop::StreamLimit, packets.len() as u64);
        }
        let ended = medium.source.locked().map(|locked| locked.stream);
        let report = medium.early_report.take().filter(|report| (report.from, report.ssrc) == (src.ip(), rtp.ssrc));
        if let Some(ended) = ended {
            self.end_stream(ended, "replaced");
        }
        self.resolve_collision(leg, rtp.ssrc);
        let id = StreamId(self.id());
        let mut stream = Stream::new(id, leg, payload, rtp, feedback);
        if let Some(report) = report {
            stream.sender_report(report.ntp, report.rtp, report.at);
        }
        self.streams.insert(id, stream);
        self.fx.event(Event::StreamStarted {
            leg,
            stream: id,
            ssrc: rtp.ssrc,
            payload_type: rtp.payload_type,
            codec: payload.codec,
        });
        if let Some(medium) = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media)) {
            medium.source.lock(src, rtp.ssrc, id, self.now.mono);
        }
        self.note_senders(leg, media);
        self.wake = self.wake.min(self.now.mono + SILENCE);
        for packet in packets {
            self.rtp(leg, media, src, &packet);
        }
    }

    /// RFC 3550 8.2: a peer uses an SSRC of ours; we take another. Where it is that of retransmissions, what they repeat
    /// keeps its own.
    fn resolve_collision(&mut self, leg: LegId, ssrc: u32) {
        let Some(out) = self.owner(leg, ssrc) else { return };
        let (id, media) = (out.id, out.generator.ssrc == ssrc);
        let given_up: Vec<u32> = if media { out.ssrcs().collect() } else { vec![ssrc] };
        if media {
            // Nothing of the old SSRC goes on behind its BYE.
            let unsent = self.outs.get_mut(&id).map(Out::clear).unwrap_or_default();
            unsent.into_iter().for_each(|tag| self.frame_left(tag));
        }
        self.send_bye(id, &given_up);
        for ssrc in &given_up {
            self.ssrcs.remove(&(leg, *ssrc));
            self.former.push((*ssrc, self.now.mono));
        }
        self.former.drain(..self.former.len().saturating_sub(MAX_FORMER));
        let own = self.ssrc(0);
        let (rtx, randoms) = (self.ssrc(own), [(self.random)(), (self.random)()]);
        let Some(out) = self.outs.get_mut(&id) else { return };
        out.rename_rtx(rtx, randoms[1]);
        if media {
            out.rename(own, randoms[0]);
        }
        self.ssrcs.extend(out.ssrcs().map(|ssrc| ((leg, ssrc), id)));
        if media {
            self.ask_source(id);
        }
    }
}
