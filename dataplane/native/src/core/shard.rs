//! The rooms of one thread: legs, streams and outs, and how packets, frames and answers pass between them. One thing
//! changes it at a time: `handle` or a command, then `poll` until [`Output::Timeout`], then the next.

use super::codec::Media;
use super::demux::{self, Kind};
use super::generator::Generator;
use super::leg_plain::{Leg, LegConfig, MAX_OUTS, Medium, Sockets};
use super::mode::{Mode, Policy};
use super::out::{Out, Path, Sent};
use super::output::{Effects, Event, Feedback, FrameTag, Output, Transmit, Wire};
use super::source::{Admission, SILENCE};
use super::stats::{self, Value};
use super::stream::Stream;
use super::{Drop, LegId, Now, OutId, SockId, StreamId, Time, ext, rtp};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;

pub enum Input<'a> {
    Datagram {
        sock: SockId,
        src: SocketAddr,
        data: &'a [u8],
    },
    /// The kernel took the last packet of a frame.
    Sent(FrameTag),
    /// Python's queue was full: a frame that was polled did not get there.
    FrameRefused {
        stream: StreamId,
        mode: Mode,
    },
    /// Counted here, so that all drops stand in one place.
    Dropped(Drop),
    Timeout,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug)]
struct Port {
    leg: LegId,
    media: Media,
    carries: Carries,
}

#[derive(Clone, Copy, Debug)]
enum Carries {
    Rtp,
    Rtcp,
    /// rtcp-mux: the second byte tells.
    Both,
}

/// A submitted frame of which not every out has sent the last packet.
#[derive(Debug)]
struct Sending {
    outs: usize,
    payload_bytes: u64,
    packets: u64,
}

pub struct Shard {
    pub(super) legs: BTreeMap<LegId, Leg>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    pub(super) outs: BTreeMap<OutId, Out>,
    pub(super) fx: Effects,
    pub(super) send: VecDeque<Transmit>,
    pub(super) now: Now,
    ports: HashMap<SockId, Port>,
    sending: HashMap<(StreamId, u64), Sending>,
    random: Box<dyn FnMut() -> u64 + Send>,
    next_id: u64,
    /// Not later than the next thing to do; `Timeout` finds out what it is.
    wake: Time,
}

impl Shard {
    /// `random` must not be guessable: SSRCs and first sequence numbers come from it.
    pub fn new(random: Box<dyn FnMut() -> u64 + Send>) -> Shard {
        Shard {
            legs: BTreeMap::new(),
            streams: BTreeMap::new(),
            outs: BTreeMap::new(),
            fx: Effects::default(),
            send: VecDeque::new(),
            now: Now::default(),
            ports: HashMap::new(),
            sending: HashMap::new(),
            random,
            next_id: 1,
            wake: Time::NEVER,
        }
    }

    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.now = now;
        match input {
            Input::Datagram { sock, src, data } => self.datagram(sock, src, data),
            Input::Sent(tag) => self.sent(tag),
            Input::FrameRefused { stream, mode } => self.frame_refused(stream, mode),
            Input::Dropped(why) => self.fx.drops.count(why),
            Input::Timeout => self.timeout(),
        }
    }

    pub fn poll(&mut self) -> Output {
        if let Some(packet) = self.send.pop_front() {
            return Output::Transmit(packet);
        }
        self.fx.outputs.pop_front().unwrap_or(Output::Timeout(self.wake))
    }

    // ---- commands ----------------------------------------------------------------------------------------------

    /// `sockets` in the order of `config.media`.
    pub fn open_leg(&mut self, config: LegConfig, sockets: &[Sockets], now: Now) -> LegId {
        self.now = now;
        let id = LegId(self.id());
        // One per participant, and unguessable (RFC 7022).
        let cname = format!("{:016x}@auralink", (self.random)());
        let mut media = Vec::new();
        for (medium, sockets) in config.media.iter().zip(sockets) {
            let rtp = if sockets.rtp == sockets.rtcp { Carries::Both } else { Carries::Rtp };
            for (sock, carries) in [(sockets.rtcp, Carries::Rtcp), (sockets.rtp, rtp)] {
                self.ports.insert(sock, Port { leg: id, media: medium.media, carries });
            }
            let ssrc = self.ssrc();
            let mut medium = Medium::new(medium.clone(), config.rtcp_mux, *sockets, ssrc, cname.clone());
            medium.next_report = now.mono + medium.report_interval();
            self.wake = self.wake.min(medium.next_report);
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
        medium.map(|medium| medium.source.configure(remote)).is_some()
    }

    pub fn link(&mut self, stream: StreamId, leg: LegId, now: Now) -> Result<OutId, String> {
        self.now = now;
        let source = self.streams.get(&stream).ok_or_else(|| format!("no stream {}", stream.0))?;
        let target = self.legs.get(&leg).ok_or_else(|| format!("no leg {}", leg.0))?;
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
            let generator = Generator::new(self.ssrc(), payload.number, payload.clock_rate, (self.random)());
            let path = Path { stream, source_leg, leg, codec, extension_id, resend: feedback };
            self.outs.insert(id, Out::new(id, path, generator));
            id
        };
        if let Some(source) = self.streams.get_mut(&stream) {
            source.outs.push(id);
            let mode = source.video_ref().and_then(|video| video.ledger.mode());
            if let Some(video) = source.video() {
                video.link(&mut self.fx);
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
    ) -> bool {
        let accepted = self.with_video(stream, now, |video, fx| video.submit(frame_id, data, ext, key, fx));
        if accepted.is_none() {
            self.fx.drops.count(Drop::UnknownFrame);
        }
        accepted.unwrap_or(false)
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

    // ---- inputs ------------------------------------------------------------------------------------------------

    fn datagram(&mut self, sock: SockId, src: SocketAddr, data: &[u8]) {
        let Some(port) = self.ports.get(&sock).copied() else { return };
        match (demux::classify(data), port.carries) {
            (Some(Kind::Rtp), Carries::Rtp | Carries::Both) | (Some(Kind::Rtcp), Carries::Rtp) => {
                self.rtp(port.leg, port.media, src, data);
            }
            (Some(Kind::Rtcp), Carries::Rtcp | Carries::Both) => self.rtcp(port.leg, port.media, src, data),
            _ => self.fx.drops.count(Drop::Malformed),
        }
        self.settle();
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
            Admission::Start(packets) => {
                if !medium.may_start(self.now.mono) {
                    return self.fx.drops.add(Drop::StreamLimit, packets.len() as u64);
                }
                let ended = medium.source.locked().map(|locked| locked.stream);
                let report =
                    medium.early_report.take().filter(|report| (report.from, report.ssrc) == (src.ip(), rtp.ssrc));
                if let Some(ended) = ended {
                    self.end_stream(ended, "replaced");
                }
                self.resolve_collision(leg_id, rtp.ssrc);
                let id = StreamId(self.id());
                let feedback = self.legs.get(&leg_id).is_some_and(|leg| leg.config.feedback);
                let mut stream = Stream::new(id, leg_id, payload.codec, &rtp, payload.clock_rate, feedback);
                if let Some(report) = report {
                    stream.sender_report(report.ntp, report.rtp, report.at);
                }
                self.streams.insert(id, stream);
                self.fx.event(Event::StreamStarted {
                    leg: leg_id,
                    stream: id,
                    ssrc: rtp.ssrc,
                    payload_type: rtp.payload_type,
                    codec: payload.codec,
                });
                if let Some(medium) = self.legs.get_mut(&leg_id).and_then(|leg| leg.medium_mut(media)) {
                    medium.source.lock(src, rtp.ssrc, id, self.now.mono);
                }
                self.wake = self.wake.min(self.now.mono + SILENCE);
                for packet in packets {
                    self.rtp(leg_id, media, src, &packet);
                }
            }
            Admission::Drop(why) => self.fx.drops.count(why),
            Admission::Wait => {}
        }
    }

    fn sent(&mut self, tag: FrameTag) {
        if let Some(out) = self.outs.get_mut(&tag.out) {
            out.sent(tag.completed, self.now.mono);
        }
        self.frame_left(tag);
    }

    /// One out has nothing more to send of a frame.
    fn frame_left(&mut self, tag: FrameTag) {
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

    fn frame_refused(&mut self, stream: StreamId, mode: Mode) {
        if mode == Mode::Shadow {
            return self.fx.drops.count(Drop::ShadowOverflow);
        }
        self.with_video(stream, self.now, |video, fx| video.fail("queue full", fx));
    }

    fn timeout(&mut self) {
        let now = self.now.mono;
        if now < self.wake {
            return;
        }
        for stream in self.streams.values_mut() {
            stream.timeout(now, &mut self.fx);
        }
        self.settle();
        for out in self.outs.values_mut() {
            self.send.extend(std::iter::from_fn(|| out.due(now)));
        }
        let media = || self.legs.values().flat_map(|leg| &leg.media);
        let silent: Vec<StreamId> = media()
            .filter(|medium| medium.source.silent_at().is_some_and(|at| at <= now))
            .filter_map(|medium| medium.source.locked().map(|locked| locked.stream))
            .collect();
        silent.into_iter().for_each(|stream| self.end_stream(stream, "silence"));
        let orphans: Vec<OutId> = self
            .outs
            .values()
            .filter(|out| out.orphaned.is_some_and(|since| now - since >= SILENCE))
            .map(|out| out.id)
            .collect();
        orphans.into_iter().for_each(|out| self.remove_out(out));
        self.send_due_reports();
        let media = self.legs.values().flat_map(|leg| &leg.media);
        let deadlines = (self.streams.values().filter_map(Stream::deadline))
            .chain(self.outs.values().filter_map(Out::deadline))
            .chain(self.outs.values().filter_map(|out| out.orphaned.map(|since| since + SILENCE)))
            .chain(
                media.flat_map(|medium| [Some(medium.next_report), medium.source.silent_at()].into_iter().flatten()),
            );
        self.wake = deadlines.min().unwrap_or(Time::NEVER);
    }

    // ---- effects -----------------------------------------------------------------------------------------------

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

    /// The source is gone. After a BYE its outs say BYE too; else a successor may take them over for a while.
    pub(super) fn end_stream(&mut self, id: StreamId, reason: &'static str) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if let Some(medium) = self.legs.get_mut(&stream.leg).and_then(|leg| leg.medium_mut(stream.media())) {
            medium.source.unlock();
        }
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

    fn remove_out(&mut self, id: OutId) {
        self.send_bye(id);
        self.forget_out(id);
    }

    fn forget_out(&mut self, id: OutId) {
        let Some(mut out) = self.outs.remove(&id) else { return };
        if let Some(stream) = out.stream.and_then(|stream| self.streams.get_mut(&stream)) {
            stream.outs.retain(|other| *other != id);
        }
        out.clear().into_iter().for_each(|tag| self.frame_left(tag));
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

    fn with_video<R>(
        &mut self,
        stream: StreamId,
        now: Now,
        act: impl FnOnce(&mut super::video::Video, &mut Effects) -> R,
    ) -> Option<R> {
        self.now = now;
        let video = self.streams.get_mut(&stream)?.video()?;
        let result = act(video, &mut self.fx);
        self.settle();
        self.arm(stream);
        Some(result)
    }

    fn arm(&mut self, stream: StreamId) {
        let deadline = self.streams.get(&stream).and_then(Stream::deadline);
        self.wake = self.wake.min(deadline.unwrap_or(Time::NEVER));
    }

    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Random, not 0, and nobody else's that we know of.
    fn ssrc(&mut self) -> u32 {
        loop {
            let ssrc = (self.random)() as u32;
            let media = || self.legs.values().flat_map(|leg| &leg.media);
            let taken = ssrc == 0
                || self.streams.values().any(|stream| stream.ssrc == ssrc)
                || self.outs.values().any(|out| out.generator.ssrc == ssrc)
                || media().any(|medium| medium.own_ssrc == ssrc);
            if !taken {
                return ssrc;
            }
        }
    }
}

fn route(legs: &BTreeMap<LegId, Leg>, out: &Out) -> Option<(SockId, SocketAddr)> {
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
