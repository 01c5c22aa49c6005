//! One stream on its way to one leg: identity, pace, copies for NACKs, counts.

use super::carrier::Carrier;
use super::codec::audio::Relayed;
use super::codec::{Codec, Limits, Payload};
use super::elements::{self, Ids};
use super::generator::Generator;
use super::mode::Kind;
use super::output::{AudioPacket, FrameTag, Transmit, Wire};
use super::pace::Pacer;
use super::reports::{Echo, SourceClock};
use super::rtp::{HEADER_BYTES, MTU_BYTES, RTX_BYTES, Rtp};
use super::rtx::{Resend, Retransmissions, SentPackets};
use super::{LegId, OutId, SockId, StreamId, Time, dd, ext, red};
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Upper bounds of the latency buckets, milliseconds from complete to handed to the kernel; a last one has no bound.
pub const LATENCY_BUCKETS_MS: [f64; 12] = [0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 33.0, 50.0, 100.0, 200.0, 500.0];
/// Receivers' key requests are one per this span.
const KEY_REQUESTS_APART: Duration = Duration::from_millis(500);
/// Without a measured round trip a packet is not sent again sooner.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(20);

/// Where packets go: our socket, their address.
pub type Route = (SockId, SocketAddr);

#[derive(Debug)]
pub struct Out {
    pub id: OutId,
    pub leg: LegId,
    pub codec: Codec,
    /// None: its source ended and a successor may take over.
    pub stream: Option<StreamId>,
    /// The leg its sources come from.
    pub source_leg: LegId,
    pub generator: Generator,
    pub extension_id: u8,
    pub counts: Counts,
    pub round_trip: Option<Duration>,
    pub echo: Echo,
    /// When it lost its source.
    pub orphaned: Option<Time>,
    ids: Ids,
    descriptors: dd::Sent,
    carrier: Carrier,
    cache: Option<SentPackets>,
    pub rtx: Option<Retransmissions>,
    red: Option<u8>,
    pacer: Pacer,
    /// Of packets sent again, which wait for no frame and hold none up.
    repairs: Pacer,
    needs_key: bool,
    /// Nothing went in front of the newest key.
    starting: bool,
    audio: Option<Relayed>,
    key_requested: Option<Time>,
    fir_seen: Option<(u32, u8)>,
}

/// From where to where, and how.
#[derive(Debug)]
pub struct Path {
    pub stream: StreamId,
    pub source_leg: LegId,
    pub leg: LegId,
    pub codec: Codec,
    pub extension_id: u8,
    /// Ids of other header extensions.
    pub ids: Ids,
    pub carrier: Carrier,
    /// NACKs are answered.
    pub resend: bool,
    /// In a stream of its own; else each packet goes again as it was.
    pub rtx: Option<Retransmissions>,
    /// The payload type of RED.
    pub red: Option<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub frames: u64,
    pub native_frames: u64,
    pub compressed_frames: u64,
    pub dropped_frames: u64,
    pub illegal_switches: u64,
    pub resent_packets: u64,
    pub key_requests: u64,
    pub latency: [u64; LATENCY_BUCKETS_MS.len() + 1],
}

/// What became of a frame at an out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Packets {
        packets: u64,
        payload_bytes: u64,
    },
    /// It starts at a key, and this is none.
    NeedsKey,
    /// It started at the newest key, and this refers to frames in front of that.
    Leading,
}

impl Out {
    pub fn new(id: OutId, path: Path, generator: Generator) -> Out {
        Out {
            id,
            leg: path.leg,
            codec: path.codec,
            stream: Some(path.stream),
            source_leg: path.source_leg,
            generator,
            extension_id: path.extension_id,
            counts: Counts::default(),
            round_trip: None,
            echo: Echo::default(),
            orphaned: None,
            ids: path.ids,
            descriptors: dd::Sent::default(),
            carrier: path.carrier,
            rtx: path.rtx,
            red: path.red,
            cache: path.resend.then(SentPackets::default),
            pacer: Pacer::default(),
            repairs: Pacer::default(),
            needs_key: true,
            starting: true,
            audio: None,
            key_requested: None,
            fir_seen: None,
        }
    }

    /// The next source of this out.
    pub fn adopt(&mut self, stream: StreamId) {
        self.stream = Some(stream);
        self.orphaned = None;
        self.generator.new_source();
        self.descriptors.new_source();
        self.needs_key = true;
        self.audio = None;
    }

    pub fn video(
        &mut self,
        wire: &Wire,
        route: Route,
        clock: Option<&SourceClock>,
        now: Time,
        send: &mut VecDeque<Transmit>,
    ) -> Sent {
        if self.needs_key && !wire.key {
            self.counts.dropped_frames += 1;
            return Sent::NeedsKey;
        }
        if wire.key {
            self.starting = self.needs_key;
        } else if wire.leading && self.starting {
            self.counts.dropped_frames += 1;
            return Sent::Leading;
        }
        self.needs_key = false;
        self.counts.frames += 1;
        match wire.kind {
            Kind::Native => self.counts.native_frames += 1,
            Kind::Compressed => self.counts.compressed_frames += 1,
        }
        let timestamp = self.generator.timestamp(wire.timestamp, clock, now);
        self.generator.picture(&wire.numbers, wire.kind);
        let payloads = self.payloads(wire);
        let (mut payload_bytes, end) = (0, payloads.len() - 1);
        let descriptors = self.described(wire, payloads.len());
        let described = descriptors.last().map_or(0, Vec::len);
        let room = elements::room(end == 0 && wire.ext.is_some(), described, &wire.elements);
        let room = MTU_BYTES - HEADER_BYTES - RTX_BYTES - room;
        let last_has_room = payloads[end].len() <= room;
        let packets: Vec<Transmit> = payloads
            .iter()
            .enumerate()
            .map(|(index, payload)| {
                payload_bytes += payload.len() as u64;
                let mut ours = Vec::new();
                if index == 0 {
                    ours.extend(wire.ext.as_ref().map(|value| (self.extension_id, &value[..])));
                }
                ours.extend(self.ids.descriptor_id().zip(descriptors.get(index).map(|bytes| &bytes[..])));
                if !wire.elements.is_empty() {
                    let here = wire
                        .elements
                        .iter()
                        .filter(|e| if last_has_room && elements::goes_last(e) { index == end } else { index == 0 });
                    ours.extend(self.ids.written(here));
                }
                let (sequence, packet) = self.generator.stamp(timestamp, index == end, &ours, payload);
                let bytes = self.sealed(sequence, packet, now);
                let tag =
                    FrameTag { out: self.id, stream: wire.stream, frame_id: wire.frame_id, completed: wire.completed };
                Transmit { sock: route.0, dst: route.1, bytes, last_of: (index == end).then_some(tag) }
            })
            .collect();
        let count = packets.len() as u64;
        self.pacer.push(packets.into_iter(), now, send);
        Sent::Packets { packets: count, payload_bytes }
    }

    /// Of a frame as it leaves here.
    fn payloads<'a>(&self, wire: &'a Wire) -> Cow<'a, [Payload]> {
        let Some(value) = wire.ext.as_ref().filter(|_| self.carrier == Carrier::InBand) else {
            return Cow::Borrowed(&wire.payloads);
        };
        let described = wire.described.as_ref().filter(|_| self.ids.descriptor_id().is_some());
        let (first, rest) = described.map_or((0, 0), dd::Described::bytes);
        let all = MTU_BYTES - HEADER_BYTES - RTX_BYTES;
        let limits = Limits {
            first: all - elements::room(true, first, &wire.elements),
            rest: all - elements::alone(u8::MAX, rest),
        };
        self.codec.carrying(&wire.payloads, value, limits).map_or(Cow::Borrowed(&wire.payloads), Cow::Owned)
    }

    /// The dependency descriptors of a frame's packets, if they have some here. A carrier of ours is in front of the
    /// first layer's picture, and belongs to that.
    fn described(&mut self, wire: &Wire, packets: usize) -> Vec<Vec<u8>> {
        let Some(described) = wire.described.as_ref().filter(|_| self.ids.descriptor_id().is_some()) else {
            return Vec::new();
        };
        let mut described = Cow::Borrowed(described);
        if packets > wire.payloads.len() {
            described.to_mut().parts[0].packets += packets - wire.payloads.len();
        }
        self.descriptors.frame(&described, wire.kind, wire.key).unwrap_or_default()
    }

    /// Relayed on arrival, at a constant distance from the source's number.
    pub fn audio(
        &mut self,
        packet: &AudioPacket,
        route: Route,
        clock: Option<&SourceClock>,
        now: Time,
    ) -> Option<Transmit> {
        let ours = self.generator.next_sequence();
        self.audio.take_if(|numbers| !numbers.reaches(packet.sequence)); // its sender numbers anew
        let numbers = self.audio.get_or_insert_with(|| Relayed::starting(packet.sequence, ours));
        let sequence = numbers.number(packet.sequence)?;
        self.counts.frames += 1;
        let timestamp = self.generator.timestamp(packet.timestamp, clock, now);
        let elements: Vec<(u8, &[u8])> = self.ids.written(packet.elements.iter()).collect();
        let codec = self.generator.payload_type;
        let red = self.red.zip(packet.red.as_ref());
        let red = red.and_then(|(red, (whole, from))| Some((red, red::renamed(whole, *from, codec).ok()?)));
        let red = red.filter(|(_, whole)| HEADER_BYTES + ext::bytes(&elements) + whole.len() <= MTU_BYTES);
        let (payload_type, payload) = red.unwrap_or_else(|| (codec, packet.payload.clone()));
        let payload = (payload_type, &Payload::whole(payload));
        let packet = self.generator.stamp_at(sequence, timestamp, packet.marker, &elements, payload);
        let bytes = self.generator.protect(sequence, packet);
        Some(Transmit { sock: route.0, dst: route.1, bytes, last_of: None })
    }

    /// Padding alone, which is not sent on: the receiver shall not take it for lost.
    pub fn absorb(&mut self, packet: &AudioPacket) {
        if let Some(numbers) = &mut self.audio {
            numbers.absorb(packet.sequence);
        }
    }

    /// Another SSRC and numbering: ours collided with one of the peer's (RFC 3550 8.2). It starts at a key.
    pub fn rename(&mut self, ssrc: u32, random: u64) {
        self.generator.rename(ssrc, random);
        if let Some(cache) = &mut self.cache {
            cache.forget();
        }
        self.audio = None;
        self.needs_key = true;
    }

    /// As `rename`, of its retransmissions.
    pub fn rename_rtx(&mut self, ssrc: u32, random: u64) {
        self.repairs.clear().for_each(drop);
        if let Some(rtx) = &mut self.rtx {
            rtx.rename(ssrc, random);
        }
    }

    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        [Some(self.generator.ssrc), self.rtx.as_ref().map(|rtx| rtx.ssrc)].into_iter().flatten()
    }

    /// Whether anything was sent with this SSRC of ours.
    pub fn has_sent(&self, ssrc: u32) -> bool {
        let media = self.generator.ssrc == ssrc && self.generator.packets > 0;
        media || self.rtx.as_ref().is_some_and(|rtx| rtx.ssrc == ssrc && rtx.packets > 0)
    }

    /// A frame of its stream does not leave here.
    pub fn left_out(&mut self, illegal: bool) {
        self.counts.dropped_frames += 1;
        self.counts.illegal_switches += u64::from(illegal);
    }

    /// Its address is unknown: the next frame it can send must be a key.
    pub fn no_route(&mut self) {
        self.counts.dropped_frames += 1;
        self.needs_key = true;
    }

    /// Whether a packet that came in is one of ours, media or retransmission, led back to us (RFC 3550 8.2).
    pub fn sent_lately(&self, rtp: &Rtp<'_>) -> bool {
        self.generator.sent_lately(rtp) || self.rtx.as_ref().is_some_and(|rtx| rtx.sent_lately(rtp))
    }

    pub fn due(&mut self, now: Time) -> Option<Transmit> {
        self.repairs.pop(now).or_else(|| self.pacer.pop(now))
    }

    pub fn deadline(&self) -> Option<Time> {
        self.pacer.deadline().into_iter().chain(self.repairs.deadline()).min()
    }

    /// Gives up what is not sent yet; frames whose end was among it.
    pub fn clear(&mut self) -> Vec<FrameTag> {
        self.pacer.clear().filter_map(|packet| packet.last_of).collect()
    }

    /// Answers a NACK from the copies; returns how many of them it refused to send again.
    pub fn again(&mut self, lost: &[u16], route: Route, now: Time, send: &mut VecDeque<Transmit>) -> u64 {
        let round_trip = self.round_trip.unwrap_or(LEAST_ROUND_TRIP).max(LEAST_ROUND_TRIP);
        let Some(cache) = &mut self.cache else { return 0 };
        let (mut refused, mut kept) = (0, Vec::new());
        for sequence in lost {
            match cache.again(*sequence, now, round_trip) {
                Resend::Packet(bytes) => {
                    self.counts.resent_packets += 1;
                    kept.push((*sequence, bytes));
                }
                Resend::Nothing => {}
                Resend::Refused => refused += 1,
            }
        }
        let repairs: Vec<Transmit> = kept
            .into_iter()
            .map(|(sequence, kept)| self.repair(sequence, kept))
            .map(|bytes| Transmit { sock: route.0, dst: route.1, bytes, last_of: None })
            .collect();
        self.repairs.push_again(repairs.into_iter(), now, send);
        refused
    }

    /// A packet as it leaves. Its copy for NACKs is the very packet, or where these are answered in a stream of its own what
    /// that is made from: the packet before encryption.
    fn sealed(&mut self, sequence: u64, packet: BytesMut, now: Time) -> Bytes {
        let plain = self.keeps_plain().then(|| Bytes::copy_from_slice(&packet));
        let bytes = self.generator.protect(sequence, packet);
        if let Some(cache) = &mut self.cache {
            cache.push(sequence, plain.unwrap_or_else(|| bytes.clone()), now);
        }
        bytes
    }

    fn keeps_plain(&self) -> bool {
        self.generator.is_protected() && self.rtx.is_some()
    }

    /// A kept packet as it goes again.
    fn repair(&mut self, sequence: u16, kept: Bytes) -> Bytes {
        if let Some((number, packet)) = self.rtx.as_mut().and_then(|rtx| rtx.wrap(&kept)) {
            return self.generator.protect(number, packet);
        }
        if self.keeps_plain() {
            return self.generator.protect(self.generator.number_of(sequence), BytesMut::from(kept));
        }
        kept
    }

    /// A receiver wants a key; `fir` is the FIR's sender and number, for one FIR may come many times (RFC 5104 4.3.1).
    /// True: pass it on.
    pub fn key_requested(&mut self, fir: Option<(u32, u8)>, now: Time) -> bool {
        if fir.is_some() && self.fir_seen == fir {
            return false;
        }
        self.fir_seen = fir.or(self.fir_seen);
        self.counts.key_requests += 1;
        if self.key_requested.is_some_and(|last| now - last < KEY_REQUESTS_APART) {
            return false;
        }
        self.key_requested = Some(now);
        true
    }

    pub fn sent(&mut self, completed: Time, at: Time) {
        let ms = (at - completed).as_secs_f64() * 1000.0;
        let bucket = LATENCY_BUCKETS_MS.iter().position(|bound| ms <= *bound).unwrap_or(LATENCY_BUCKETS_MS.len());
        self.counts.latency[bucket] += 1;
    }
}
