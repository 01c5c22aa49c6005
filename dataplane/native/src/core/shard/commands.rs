//! What Python asks of a shard: legs, links, modes, answers to frames, counters.

use super::{Carries, Port, Shard};
use crate::core::codec::Media;
use crate::core::generator::Generator;
use crate::core::leg_plain::{Leg, LegConfig, MAX_OUTS, Medium, Sockets};
use crate::core::mode::{Mode, Policy};
use crate::core::out::{Out, Path};
use crate::core::output::Event;
use crate::core::rtx::Retransmissions;
use crate::core::srtp::Session;
use crate::core::stats::{self, Value};
use crate::core::video::refuse;
use crate::core::{Drop, LegId, Now, OutId, StreamId, ext};
use bytes::Bytes;
use std::net::SocketAddr;

impl Shard {
    /// `sockets` in the order of `config.media`.
    pub fn open_leg(&mut self, mut config: LegConfig, sockets: &[Sockets], now: Now) -> LegId {
        self.now = now;
        let id = LegId(self.id());
        // One per participant, and unguessable (RFC 7022).
        let cname = format!("{:016x}@auralink", (self.random)());
        let keys = config.srtp.take(); // wiped here, once the sessions have theirs
        let mut media = Vec::new();
        for (medium, sockets) in config.media.iter().zip(sockets) {
            let rtp = if sockets.rtp == sockets.rtcp { Carries::Both } else { Carries::Rtp };
            for (sock, carries) in [(sockets.rtcp, Carries::Rtcp), (sockets.rtp, rtp)] {
                self.ports.insert(sock, Port { leg: id, media: medium.media, carries });
            }
            let ssrc = self.ssrc(0);
            let mut medium = Medium::new(medium.clone(), config.rtcp_mux, *sockets, ssrc, cname.clone());
            medium.srtp = keys.as_ref().map(Session::new);
            medium.next_report = now.mono + medium.report_interval();
            self.wake = self.wake.min(medium.next_report);
            self.senders.extend(medium.senders());
            media.push(medium);
        }
        self.legs.insert(id, Leg { id, config, media });
        id
    }

    /// Unknown ids are ignored. The caller keeps the sockets until it has sent the BYEs; without `bye` there are none,
    /// for the receivers of a room that goes on elsewhere.
    pub fn close_leg(&mut self, leg: LegId, bye: bool, now: Now) {
        self.now = now;
        let ended: Vec<StreamId> = self.streams.values().filter(|s| s.leg == leg).map(|s| s.id).collect();
        ended.into_iter().for_each(|stream| self.end_stream(stream, "leg closed"));
        let outs: Vec<OutId> =
            self.outs.values().filter(|o| o.leg == leg || o.source_leg == leg).map(|o| o.id).collect();
        outs.into_iter().for_each(|out| if bye { self.remove_out(out) } else { self.forget_out(out) });
        self.legs.remove(&leg);
        self.ports.retain(|_, port| port.leg != leg);
    }

    /// False: no such medium.
    pub fn set_remote(&mut self, leg: LegId, media: Media, remote: SocketAddr) -> bool {
        let medium = self.legs.get_mut(&leg).and_then(|leg| leg.medium_mut(media));
        let found = medium.map(|medium| medium.source.configure(remote)).is_some();
        self.note_senders(leg, media);
        found
    }

    pub fn link(&mut self, stream: StreamId, leg: LegId, now: Now) -> Result<OutId, String> {
        self.now = now;
        let source = self.streams.get(&stream).ok_or_else(|| format!("no stream {}", stream.0))?;
        let target = self.legs.get(&leg).ok_or_else(|| format!("no leg {}", leg.0))?;
        if self.legs.get(&source.leg).is_some_and(|from| from.config.room != target.config.room) {
            return Err(format!("stream {} and leg {} are of different rooms", stream.0, leg.0));
        }
        if !target.config.direction.sends() {
            return Err(format!("leg {} only receives", target.config.name));
        }
        let codec = source.codec;
        let payload = target
            .payload_type(codec)
            .ok_or_else(|| format!("leg {} has no payload type for {}", target.config.name, codec.name()))?;
        if let Some(out) = source.outs.iter().find(|out| self.outs.get(out).is_some_and(|out| out.leg == leg)) {
            return Ok(*out);
        }
        let (extension_id, feedback, source_leg) = (target.config.extension_id, target.config.feedback, source.leg);
        let (ids, carrier) = (target.config.ids.clone(), target.config.carrier);
        let descriptor_id = ids.descriptor_id();
        let heir = |out: &&mut Out| {
            out.stream.is_none() && out.leg == leg && out.source_leg == source_leg && out.codec == codec
        };
        let id = if let Some(out) = self.outs.values_mut().find(heir) {
            out.adopt(stream);
            out.id
        } else {
            if self.outs.values().filter(|out| out.leg == leg).count() >= MAX_OUTS {
                return Err(format!("leg {} has {MAX_OUTS} streams already", target.config.name));
            }
            let id = OutId(self.id());
            let keys = self.legs.get(&leg).and_then(|leg| leg.medium(codec.media())).and_then(Medium::sending_keys);
            let ssrc = self.ssrc(0);
            let generator = Generator::new(ssrc, payload.number, payload.clock_rate, (self.random)());
            let generator = generator.protected(keys);
            let rtx = payload.rtx.filter(|_| feedback);
            let rtx = rtx.map(|number| Retransmissions::new(self.ssrc(ssrc), number, (self.random)()));
            let red = payload.red;
            let path = Path { stream, source_leg, leg, codec, extension_id, ids, carrier, resend: feedback, rtx, red };
            let out = Out::new(id, path, generator);
            self.ssrcs.extend(out.ssrcs().map(|ssrc| ((leg, ssrc), id)));
            self.outs.insert(id, out);
            id
        };
        if let Some(source) = self.streams.get_mut(&stream) {
            source.outs.push(id);
            let mode = source.video_ref().and_then(|video| video.ledger.mode());
            if let Some(video) = source.video() {
                video.link(descriptor_id, &mut self.fx);
            }
            match mode {
                Some(Mode::Compress) => self.fx.event(Event::OutNeedsKey { out: id, stream }),
                Some(_) => drop(source.request_key(now.mono, &mut self.fx)),
                None => {}
            }
        }
        self.settle();
        Ok(id)
    }

    pub fn unlink(&mut self, out: OutId, now: Now) {
        self.now = now;
        self.remove_out(out);
    }

    /// False: no such video stream.
    pub fn set_mode(&mut self, stream: StreamId, policy: Policy, at_frame: Option<u64>, now: Now) -> bool {
        self.with_video(stream, now, |video, fx| video.set_mode(policy, at_frame, fx)).is_some()
    }

    pub fn hold(&mut self, stream: StreamId, now: Now) {
        self.with_video(stream, now, |video, fx| video.hold(fx));
    }

    pub fn submit(
        &mut self,
        stream: StreamId,
        frame_id: u64,
        data: Option<Bytes>,
        ext: Option<ext::Value>,
        key: bool,
        now: Now,
    ) {
        let native = data.is_none();
        let found = self.with_video(stream, now, |video, fx| video.submit(frame_id, data, ext, key, fx));
        if found.is_none() {
            refuse(stream, frame_id, native, Drop::UnknownFrame, &mut self.fx);
        }
    }

    pub fn drop_frame(&mut self, stream: StreamId, frame_id: u64, now: Now) {
        self.with_video(stream, now, |video, fx| video.drop_frame(frame_id, fx));
    }

    pub fn request_key(&mut self, stream: StreamId, now: Now) {
        self.now = now;
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.request_key(now.mono, &mut self.fx);
        }
        self.settle();
        self.arm(stream);
    }

    pub fn leg_ids(&self) -> Vec<LegId> {
        self.legs.keys().copied().collect()
    }

    /// As [`Input::Dropped`](super::Input::Dropped), many at once.
    pub fn count(&mut self, why: Drop, n: u64) {
        self.fx.drops.add(why, n);
    }

    pub fn stats(&self) -> Value {
        let drops = self.fx.drops.iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
        let legs = self.legs.values().map(|leg| (leg.id.0, self.leg_stats(leg))).collect();
        let streams = self.streams.values().map(|stream| (stream.id.0, stats::stream(stream))).collect();
        let outs = self.outs.values().map(|out| (out.id.0, stats::out(out))).collect();
        stats::map([
            ("drops", Value::Map(drops)),
            ("legs", Value::Table(legs)),
            ("streams", Value::Table(streams)),
            ("outs", Value::Table(outs)),
        ])
    }

    fn leg_stats(&self, leg: &Leg) -> Value {
        let Value::Map(mut entries) =
            stats::map([("room", leg.config.room.as_str().into()), ("name", leg.config.name.as_str().into())])
        else {
            return Value::None;
        };
        for medium in &leg.media {
            let locked = medium.source.locked();
            let row = stats::map([
                ("packets", medium.packets.into()),
                ("aic_packets", medium.aic_packets.into()),
                ("stream", locked.map(|locked| locked.stream.0).into()),
                ("remote", medium.source.destination().map_or(Value::None, |to| Value::Text(to.to_string()))),
            ]);
            entries.push((medium.media.name().to_owned(), row));
        }
        Value::Map(entries)
    }
}
