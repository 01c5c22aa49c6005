//! The video of one source, behind its sequence numbers: reorder -> assembly -> mode -> departure in order. `stream` is
//! the only caller; what goes on is said in the effects.

use super::assemble::{Assembled, Assembler};
use super::codec::{Codec, Limits, VideoCodec};
use super::elements::{self, Elements};
use super::ext::{self, Value};
use super::keys::KeyRequests;
use super::ledger::{Admitted, Answer, Continues, Departure, Ledger, MAX_IN_FLIGHT, MAX_PENDING, NativeFrame};
use super::mode::{Kind, Mode, Policy};
use super::nack::Nacks;
use super::output::{Effects, Event, Feedback, Frame, Output, Wire};
use super::packet::{Content, Packet};
use super::reorder::{Inserted, Next, RING_PACKETS, Reorder};
use super::rtp::{HEADER_BYTES, MTU_BYTES, RTX_BYTES, Rtp};
use super::seq::Timestamps;
use super::{Drop, StreamId, Time};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a gap is waited for: two round trips and a little, so that the second NACK can repair, within these bounds;
/// the least where nobody retransmits.
const MIN_HOLD: Duration = Duration::from_millis(80);
const MAX_HOLD: Duration = Duration::from_millis(250);
const HOLD_ABOVE_ROUND_TRIPS: Duration = Duration::from_millis(70);

/// A submitted frame longer than this is refused.
const MAX_SUBMIT_BYTES: usize = 2 << 20;

pub struct Video {
    stream: StreamId,
    codec_name: Codec,
    codec: Box<dyn VideoCodec>,
    reorder: Reorder,
    /// None: the source takes no feedback.
    nacks: Option<Nacks>,
    hold: Duration,
    assembler: Assembler,
    assembled: Vec<Assembled>,
    /// So many numbers in front of the next packet are given up.
    given_up: u64,
    awaiting_key: bool,
    /// What came in front of the newest key is not whole.
    starting: bool,
    pub keys: KeyRequests,
    pub ledger: Ledger,
    next_frame: u64,
    pub frames: u64,
    pub key_frames: u64,
    pub abandoned: u64,
    /// Header extensions that go on with their frames.
    kept: Kept,
    pub illegal_switches: u64,
}

impl Video {
    pub(super) fn new(stream: StreamId, codec_name: Codec, codec: Box<dyn VideoCodec>, feedback: bool) -> Video {
        Video {
            stream,
            codec_name,
            codec,
            reorder: Reorder::default(),
            nacks: feedback.then(Nacks::default),
            hold: if feedback { MAX_HOLD } else { MIN_HOLD },
            assembler: Assembler::default(),
            assembled: Vec::new(),
            given_up: 0,
            awaiting_key: true,
            starting: true,
            keys: KeyRequests::default(),
            ledger: Ledger::new(stream),
            next_frame: 0,
            frames: 0,
            key_frames: 0,
            abandoned: 0,
            kept: Kept::default(),
            illegal_switches: 0,
        }
    }

    pub fn set_round_trip(&mut self, round_trip: Duration) {
        if self.nacks.is_some() {
            self.hold = (round_trip * 2 + HOLD_ABOVE_ROUND_TRIPS).clamp(MIN_HOLD, MAX_HOLD);
        }
    }

    /// When `release` or `feedback` has something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let feedback = self.nacks.as_ref().map(|nacks| [nacks.deadline(), self.keys.deadline()]);
        feedback.into_iter().flatten().chain([self.reorder.deadline(self.hold)]).flatten().min()
    }

    pub(super) fn takes_feedback(&self) -> bool {
        self.nacks.is_some()
    }

    pub fn nacks_sent(&self) -> u64 {
        self.nacks.as_ref().map_or(0, |nacks| nacks.sent)
    }

    pub fn markerless_frames(&self) -> u64 {
        self.assembler.markerless_frames
    }

    pub(super) fn receive(
        &mut self,
        sequence: u64,
        (rtp, elements): (&Rtp<'_>, Elements),
        now: Time,
        timestamps: &mut Timestamps,
        fx: &mut Effects,
    ) -> Inserted {
        let content = match self.codec.inspect(rtp.payload) {
            _ if rtp.payload.is_empty() => Content::Padding,
            Ok(info) => Content::Media(info),
            Err(why) => {
                fx.drops.count(why);
                Content::Bad
            }
        };
        let mut packet = Packet {
            sequence,
            timestamp: rtp.timestamp,
            marker: rtp.marker,
            arrived: now,
            payload: Bytes::copy_from_slice(rtp.payload),
            content,
        };
        let inserted = loop {
            match self.reorder.insert(packet) {
                Ok(inserted) => break inserted,
                Err(beyond) => {
                    packet = beyond;
                    let before = self.reorder.next();
                    self.release(now, timestamps, fx);
                    if self.reorder.next() == before {
                        self.restart(sequence, fx);
                    }
                }
            }
        };
        if inserted == Inserted::New {
            self.kept.arrived(sequence, elements);
            if let Some(nacks) = &mut self.nacks {
                nacks.received(sequence, now);
            }
        }
        self.release(now, timestamps, fx);
        self.feedback(now, fx);
        inserted
    }

    pub(super) fn restart(&mut self, sequence: u64, fx: &mut Effects) {
        fx.drops.add(Drop::Incomplete, self.reorder.restart(sequence));
        if let Some(nacks) = &mut self.nacks {
            nacks.restart();
        }
        self.given_up = u64::MAX;
    }

    /// What is in order goes on to assembly.
    pub(super) fn release(&mut self, now: Time, timestamps: &mut Timestamps, fx: &mut Effects) {
        while let Some(next) = self.reorder.pop(now, self.hold) {
            match next {
                Next::Gap(missing) => self.given_up = self.given_up.saturating_add(missing),
                Next::Packet(packet) => {
                    let missing = std::mem::take(&mut self.given_up);
                    if missing > 0 {
                        self.assembler.gap(&packet, missing, &mut self.assembled);
                    }
                    self.assembler.push(packet, &mut self.assembled);
                }
            }
            if !self.assembled.is_empty() {
                let mut assembled = std::mem::take(&mut self.assembled);
                for step in assembled.drain(..) {
                    self.assembled(step, now, timestamps, fx);
                }
                self.assembled = assembled; // keeps its capacity
            }
        }
        if let (Some(nacks), Some(next)) = (&mut self.nacks, self.reorder.next()) {
            nacks.forget_before(next);
        }
    }

    fn assembled(&mut self, step: Assembled, now: Time, timestamps: &mut Timestamps, fx: &mut Effects) {
        let packets = match step {
            Assembled::Frame(packets) => packets,
            Assembled::LostDiscardable { packets } => {
                self.abandoned += 1;
                return fx.drops.add(Drop::Incomplete, packets as u64);
            }
            Assembled::LostReference { packets, too_big } => {
                fx.drops.add(if too_big { Drop::FrameTooBig } else { Drop::Incomplete }, packets as u64);
                return self.lost_reference(fx);
            }
        };
        let timestamp = timestamps.unwrap(packets[0].timestamp);
        let info = match self.codec.complete(&packets) {
            Ok(info) => info,
            Err(why) => {
                fx.drops.count(why);
                return self.lost_reference(fx);
            }
        };
        if !info.picture {
            return fx.drops.count(Drop::NoPicture);
        }
        if self.awaiting_key && !info.key {
            fx.drops.count(Drop::AwaitingKey);
            return self.request_key(fx);
        }
        if info.leading && self.starting {
            return fx.drops.count(Drop::LeadingPicture);
        }
        if info.key {
            self.starting = self.awaiting_key;
            self.awaiting_key = false;
            self.keys.satisfied();
            self.key_frames += 1;
        }
        self.frames += 1;
        self.kept.completed(self.next_frame, &packets);
        let frame = NativeFrame { id: self.next_frame, timestamp, packets, info, completed: now };
        self.next_frame += 1;
        self.admit(frame, fx);
    }

    /// Our numbers are contiguous, so a decoder would not see the hole: nothing goes on before the next key.
    fn lost_reference(&mut self, fx: &mut Effects) {
        self.abandoned += 1;
        self.awaiting_key = true;
        self.request_key(fx);
    }

    pub(super) fn request_key(&mut self, fx: &mut Effects) {
        if self.keys.want() && self.nacks.is_none() {
            fx.drops.count(Drop::KeyRequestUnsupported);
        }
    }

    pub(super) fn feedback(&mut self, now: Time, fx: &mut Effects) {
        let Some(nacks) = &mut self.nacks else { return };
        let missing = nacks.due(now);
        if !missing.is_empty() {
            fx.feedback.push(Feedback::Nack(self.stream, missing.iter().map(|s| *s as u16).collect()));
        }
        if self.keys.due(now) {
            fx.feedback.push(Feedback::Key(self.stream));
        }
    }

    pub fn link(&mut self, fx: &mut Effects) {
        for frame in self.ledger.link() {
            self.admit(frame, fx);
        }
    }

    pub fn set_mode(&mut self, policy: Policy, at_frame: Option<u64>, fx: &mut Effects) {
        for frame in self.ledger.set_mode(policy, at_frame) {
            self.admit(frame, fx);
        }
    }

    pub fn hold(&mut self, fx: &mut Effects) {
        let gone = self.ledger.hold();
        fx.drops.add(Drop::Held, gone);
        fx.left_out.extend((0..gone).map(|_| (self.stream, false)));
    }

    /// Frames did not reach Python.
    pub fn fail(&mut self, reason: &'static str, fx: &mut Effects) {
        if !self.ledger.held() {
            self.lose_touch(reason, fx);
        }
    }

    /// Commands of Python's did not get here: told again while the output is held, for one may have ended that.
    pub fn lose_touch(&mut self, reason: &'static str, fx: &mut Effects) {
        let mut events = Vec::new();
        let gone = self.ledger.fail(reason, &mut events);
        self.failed(gone, events, fx);
    }

    /// See `submit` in the `.pyi`.
    pub fn submit(&mut self, frame_id: u64, data: Option<Bytes>, ext: Option<Value>, key: bool, fx: &mut Effects) {
        let native = data.is_none();
        let Some(frame) = self.ledger.waiting(frame_id) else {
            return refuse(self.stream, frame_id, native, Drop::UnknownFrame, fx);
        };
        let answer = match data {
            None => Ok(Answer::Native(ext)),
            Some(data) if data.len() > MAX_SUBMIT_BYTES => Err(Drop::BadSubmit),
            Some(data) => {
                let limits = limits(elements::room(ext.is_some(), self.kept.of(frame_id)), RTX_BYTES);
                let cut = self.codec.packetize(data, key, &frame.info, limits);
                cut.map(|payloads| Answer::Compressed { payloads, ext, key })
            }
        };
        let answer = answer.unwrap_or_else(|why| {
            refuse(self.stream, frame_id, native, why, fx);
            Answer::Refused
        });
        self.ledger.answer(frame_id, answer);
        self.depart(fx);
    }

    pub fn drop_frame(&mut self, frame_id: u64, fx: &mut Effects) {
        if !self.ledger.answer(frame_id, Answer::Dropped) {
            fx.drops.count(Drop::UnknownFrame);
        }
        self.depart(fx);
    }

    /// A complete frame meets the stream's mode.
    fn admit(&mut self, frame: NativeFrame, fx: &mut Effects) {
        let mut events = Vec::new();
        let admitted = self.ledger.admit(frame, &mut events);
        match admitted {
            Admitted::Failed(gone) => return self.failed(gone, events, fx),
            Admitted::Dropped(why, n) => {
                fx.drops.add(why, n);
                if why != Drop::Held {
                    self.request_key(fx);
                }
            }
            _ => {}
        }
        events.into_iter().for_each(|event| fx.event(event));
        if let Admitted::Taken(policy) = admitted {
            if policy.mode != Mode::Bypass
                && let Some(frame) = self.ledger.newest()
            {
                let frame = self.to_python(frame, policy.mode);
                fx.outputs.push_back(Output::Frame(frame));
            }
            self.depart(fx);
        }
    }

    fn failed(&mut self, gone: u64, events: Vec<Event>, fx: &mut Effects) {
        fx.drops.add(Drop::InFlightOverflow, gone);
        fx.left_out.extend((0..gone).map(|_| (self.stream, false)));
        events.into_iter().for_each(|event| fx.event(event));
    }

    fn to_python(&self, frame: &NativeFrame, mode: Mode) -> Frame {
        let arrivals = || frame.packets.iter().map(|packet| packet.arrived);
        Frame {
            stream: self.stream,
            frame_id: frame.id,
            mode,
            codec: self.codec_name,
            timestamp: frame.timestamp,
            key: frame.info.key,
            discardable: frame.info.discardable,
            width: frame.info.width,
            height: frame.info.height,
            may_reorder: frame.info.may_reorder,
            first: arrivals().min().unwrap_or(frame.completed),
            last: arrivals().max().unwrap_or(frame.completed),
            completed: frame.completed,
            native_bytes: frame.packets.iter().map(|packet| packet.payload.len()).sum(),
            data: self.codec.to_frame(&frame.packets, &frame.info),
        }
    }

    /// Answered frames leave, in order.
    fn depart(&mut self, fx: &mut Effects) {
        while let Some(departure) = self.ledger.depart() {
            let elements = self.kept.take(departure.frame.id);
            let Some((kind, key, switched)) = self.may_leave(&departure, fx) else { continue };
            let Departure { frame, policy, answer } = departure;
            let leading = kind == Kind::Native && frame.info.leading;
            let (payloads, mut ext) = match answer {
                Answer::Compressed { payloads, ext, .. } => (payloads, ext),
                Answer::Native(ext) => {
                    let ext = ext.or_else(|| policy.extension.then(|| ext::native(policy.degraded)));
                    let limits = limits(elements::room(ext.is_some(), &elements), 0);
                    (self.codec.restamp(&frame.packets, &frame.info, limits), ext)
                }
                Answer::Dropped | Answer::Refused => continue,
            };
            if let Some(value) = &mut ext {
                ext::set_flags(value, kind == Kind::Native, key, switched);
            }
            fx.wires.push(Wire {
                stream: self.stream,
                frame_id: frame.id,
                timestamp: frame.timestamp,
                key,
                kind,
                leading,
                numbers: frame.info.numbers,
                payloads,
                ext,
                elements,
                completed: frame.completed,
                submitted: policy.mode == Mode::Compress,
            });
        }
    }

    /// Its kind, whether it is a key, and whether it is the first of its kind; None: it is left out.
    fn may_leave(&mut self, departure: &Departure, fx: &mut Effects) -> Option<(Kind, bool, bool)> {
        let Departure { frame, policy, answer } = departure;
        let (kind, key, leading) = match answer {
            Answer::Dropped | Answer::Refused => {
                match answer {
                    Answer::Refused => self.ledger.refused(&frame.info),
                    _ => self.ledger.left_out(&frame.info),
                }
                fx.left_out.push((self.stream, false));
                return None;
            }
            Answer::Native(_) => (Kind::Native, frame.info.key, frame.info.leading),
            Answer::Compressed { key, .. } => (Kind::Compressed, *key, false),
        };
        let why = match self.ledger.continues(kind, key, leading) {
            Continues::Yes { switched } => return Some((kind, key, switched)),
            Continues::AtKey => Drop::AwaitingKey,
            Continues::WithoutLeading => Drop::LeadingPicture,
            Continues::Never => Drop::IllegalSwitch,
        };
        self.illegal_switches += u64::from(why == Drop::IllegalSwitch);
        fx.left_out.push((self.stream, why == Drop::IllegalSwitch));
        match policy.mode {
            Mode::Compress => refuse(self.stream, frame.id, kind == Kind::Native, why, fx),
            Mode::Bypass | Mode::Shadow => fx.drops.count(why),
        }
        if why == Drop::AwaitingKey {
            self.request_key(fx);
        }
        None
    }
}

/// Python's answer does not leave.
pub(super) fn refuse(stream: StreamId, frame_id: u64, native: bool, reason: Drop, fx: &mut Effects) {
    fx.drops.count(reason);
    fx.event(Event::SubmitRefused { stream, frame_id, native, reason });
}

/// Payload bytes per packet beside header, extension and what is kept free. What we cut leaves room for an
/// RTX header; what a sender cut to 1200 bytes is not cut again for it, as it can be sent again as the same packet.
fn limits(extension_bytes: usize, kept_free: usize) -> Limits {
    let rest = MTU_BYTES - HEADER_BYTES - kept_free;
    Limits { first: rest - extension_bytes, rest }
}

/// Header extensions on their way: by packet until its frame is complete, then by frame until it leaves. Both are kept
/// beside packets and frames, which have none as a rule.
#[derive(Debug, Default)]
struct Kept {
    packets: BTreeMap<u64, Elements>,
    frames: BTreeMap<u64, Elements>,
    none: Elements,
}

impl Kept {
    fn arrived(&mut self, sequence: u64, elements: Elements) {
        if elements.is_empty() {
            return;
        }
        self.packets.insert(sequence, elements);
        while self.packets.len() > RING_PACKETS {
            self.packets.pop_first();
        }
    }

    /// These packets are a frame; what came before them belongs to none.
    fn completed(&mut self, frame: u64, packets: &[Packet]) {
        let (Some(first), Some(last)) = (packets.first(), packets.last()) else { return };
        if self.packets.is_empty() {
            return;
        }
        let later = self.packets.split_off(&(last.sequence + 1));
        let own = std::mem::replace(&mut self.packets, later).split_off(&first.sequence);
        let mut elements = Elements::new();
        own.into_values().flatten().for_each(|element| elements::add(&mut elements, element));
        self.frames.insert(frame, elements);
        while self.frames.len() > MAX_PENDING + MAX_IN_FLIGHT {
            self.frames.pop_first();
        }
    }

    fn of(&self, frame: u64) -> &Elements {
        self.frames.get(&frame).unwrap_or(&self.none)
    }

    /// Those of a frame that leaves; what was before it left without.
    fn take(&mut self, frame: u64) -> Elements {
        if self.frames.is_empty() {
            return Elements::new();
        }
        let later = self.frames.split_off(&(frame + 1));
        std::mem::replace(&mut self.frames, later).remove(&frame).unwrap_or_default()
    }
}
