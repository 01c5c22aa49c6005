//! A packet's way in: from the socket that it came through to the stream of its source.

use super::{Carries, Port, Shard};
use crate::core::codec::Media;
use crate::core::demux::{self, Kind};
use crate::core::leg_plain::PayloadType;
use crate::core::output::Event;
use crate::core::rtp::{self, Rtp};
use crate::core::source::{Admission, SILENCE};
use crate::core::stream::Stream;
use crate::core::{Drop, LegId, OutId, SockId, StreamId, ext};
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
        let (direction, extension_id, leg_id) = (leg.config.direction, leg.config.extension_id, leg.id);
        let Some(medium) = leg.medium_mut(media) else { return };
        medium.packets += 1;
        if !direction.receives() {
            return self.fx.drops.count(Drop::WrongDirection);
        }
        let Ok(rtp) = rtp::parse(data) else { return self.fx.drops.count(Drop::Malformed) };
        let Some(payload) = medium.payloads.iter().find(|payload| payload.number == rtp.payload_type).copied() else {
            return self.fx.drops.count(Drop::UnknownPayloadType);
        };
        let admission = medium.source.admit(src, rtp.ssrc, rtp.sequence, data, self.now.mono);
        self.fx.drops.add(Drop::Probation, medium.source.take_discarded());
        match admission {
            Admission::Pass(stream) => {
                let carries = rtp.extension.and_then(|(profile, body)| ext::find(profile, body, extension_id));
                medium.aic_packets += u64::from(carries.is_some_and(|bytes| bytes.len() == 16));
                let Some(stream) = self.streams.get_mut(&stream) else { return };
                if stream.codec != payload.codec {
                    return self.fx.drops.count(Drop::UnknownPayloadType);
                }
                stream.receive(&rtp, self.now.mono, &mut self.fx);
                let stream = stream.id;
                self.arm(stream);
            }
            Admission::Start(packets) => self.start_stream(leg_id, media, src, &rtp, payload, packets),
            Admission::Drop(why) => self.fx.drops.count(why),
            Admission::Wait => {}
        }
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
        self.wake = self.wake.min(self.now.mono + SILENCE);
        for packet in packets {
            self.rtp(leg, media, src, &packet);
        }
    }

    /// RFC 3550 8.2: a peer uses an SSRC of ours; we take another.
    fn resolve_collision(&mut self, leg: LegId, ssrc: u32) {
        let ours: Vec<OutId> =
            self.outs.values().filter(|out| out.leg == leg && out.generator.ssrc == ssrc).map(|out| out.id).collect();
        for out in ours {
            self.send_bye(out);
            let (ssrc, random) = (self.ssrc(), (self.random)());
            if let Some(out) = self.outs.get_mut(&out) {
                out.rename(ssrc, random);
            }
        }
    }
}
