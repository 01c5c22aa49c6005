//! The video of one source, behind its sequence numbers: reorder -> assembly -> mode -> departure in order. `stream` is
//! the only caller; what goes on is said in the effects.

use super::assemble::{Assembled, Assembler};
use super::codec::{Codec, Limits, Payload, VideoCodec};
use super::dd::{Described, Judged, Received, Structure};
use super::elements::{self, Elements};
use super::ext::{self, Value};
use super::kept::Kept;
use super::keys::KeyRequests;
use super::ledger::{Admitted, Answer, Continues, Departure, Ledger, NativeFrame};
use super::mode::{Kind, Mode, Policy};
use super::nack::Nacks;
use super::output::{Effects, Event, Feedback, Frame, Output, Wire};
use super::packet::{Content, Packet};
use super::reorder::{Inserted, Next, Reorder};
use super::rtp::{HEADER_BYTES, MTU_BYTES, RTX_BYTES, Rtp};
use super::seq::Timestamps;
use super::{Drop, StreamId, Time};
use bytes::Bytes;
use std::sync::Arc;
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
    /// Dependency descriptors.
    descriptors: Received,
    /// The highest id that an out has for them, if any has one.
    descriptor_id: Option<u8>,
    /// Of the frames that an encoder made last.
    made: Option<Arc<Structure>>,
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
            descriptors: Received::default(),
            descriptor_id: None,
            made: None,
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
        (rtp, elements, descriptor): (&Rtp<'_>, Elements, Option<&[u8]>),
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
            self.descriptors.arrived(sequence, descriptor);
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
        self.descriptors.restart();
        self.given_up = u64::MAX;
    }

    /// What is in order goes on to assembly.
    pub(super) fn release(&mut self, now: Time, timestamps: &mut Timestamps, fx: &mut Effects) {
        while let Some(next) = self.reorder.pop(now, self.hold) {
            match next {
                Next::Gap(missing) => self.given_up = self.given_up.saturating_add(missing),
                Next::Packet(mut packet) => {
                    self.descriptors.read(&mut packet);
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
        let mut info = match self.codec.complete(&packets) {
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
        let described = self.descriptors.frame(&packets, info.key);
        if !self.has_references(described.as_ref(), info.key, fx) {
            return;
        }
        if let Some(described) = &described {
            (info.tid, info.sid) = described.layers();
            info.discardable |= described.is_discardable();
        }
        if info.key {
            self.starting = self.awaiting_key;
            self.awaiting_key = false;
            self.keys.satisfied();
            self.key_frames += 1;
        }
        self.frames += 1;
        self.kept.completed(self.next_frame, &packets);
        let frame = NativeFrame { id: self.next_frame, timestamp, packets, info, described, completed: now };
        self.next_frame += 1;
        self.admit(frame, fx);
    }

    /// Whether a frame goes on, as far as descriptors tell.
    fn has_references(&mut self, described: Option<&Described>, key: bool, fx: &mut Effects) -> bool {
        let judged = self.descriptors.judge(described, key);
        match judged {
            Judged::Sound => {}
            Judged::LeftOut => {
                self.abandoned += 1;
                fx.drops.count(Drop::MissingReference);
            }
            Judged::Broken => {
                fx.drops.count(Drop::AwaitingKey);
                self.lost_reference(fx);
            }
        }
        judged == Judged::Sound
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

    /// `descriptor_id`: of the leg that the new out goes to.
    pub fn link(&mut self, descriptor_id: Option<u8>, fx: &mut Effects) {
        self.descriptor_id = self.descriptor_id.max(descriptor_id);
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
                let size = (frame.info.width, frame.info.height);
                let mut described = self.descriptor_id.map(|_| made(&mut self.made, size, key));
                // Whatever ids the outs have by the time when it leaves.
                let room = (described.as_ref(), u8::MAX);
                let limits = limits(ext.is_some(), room, self.kept.of(frame_id), RTX_BYTES);
                let cut = self.codec.packetize(data, key, &frame.info, limits);
                cut.map(|payloads| {
                    described.iter_mut().for_each(|described| described.parts[0].packets = payloads.len());
                    Answer::Compressed { payloads, described, ext, key }
                })
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
            tid: frame.info.tid,
            sid: frame.info.sid,
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
            let (payloads, described, mut ext) = match answer {
                Answer::Compressed { payloads, described, ext, .. } => (payloads, described, ext),
                Answer::Native(ext) => {
                    let ext = ext.or_else(|| policy.extension.then(|| ext::native(policy.degraded)));
                    let (payloads, described) = self.restamp(&frame, ext.is_some(), &elements);
                    (payloads, described, ext)
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
                described,
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

    /// The frame's packets as they go on, and what they say where an out tells it.
    fn restamp(&self, frame: &NativeFrame, ours: bool, elements: &Elements) -> (Vec<Payload>, Option<Described>) {
        let NativeFrame { packets, info, .. } = frame;
        let described = self.descriptor_id.and(frame.described.as_ref());
        let limits = limits(ours, (described, self.descriptor_id.unwrap_or(0)), elements, 0);
        match described.and_then(|described| described.restamp(&*self.codec, packets, info, limits)) {
            Some((payloads, described)) => (payloads, Some(described)),
            None => (self.codec.restamp(packets, info, limits), None),
        }
    }
}

/// Python's answer does not leave.
pub(super) fn refuse(stream: StreamId, frame_id: u64, native: bool, reason: Drop, fx: &mut Effects) {
    fx.drops.count(reason);
    fx.event(Event::SubmitRefused { stream, frame_id, native, reason });
}

/// Payload bytes per packet beside header, extensions and what is kept free; the highest id of descriptors is with them.
/// What we cut leaves room for an RTX header; what a sender cut to 1200 bytes is not cut again for it, as it can be sent
/// again as the same packet.
fn limits(ours: bool, (described, id): (Option<&Described>, u8), elements: &Elements, kept_free: usize) -> Limits {
    let all = MTU_BYTES - HEADER_BYTES - kept_free;
    let (first, rest) = described.map_or((0, 0), Described::bytes);
    let front = match ours || !elements.is_empty() {
        true => elements::room(ours, first, elements),
        false => elements::alone(id, first),
    };
    Limits { first: all - front, rest: all - elements::alone(id, rest) }
}

/// What a frame of an encoder says, which has one layer; of one packet as yet.
fn made(known: &mut Option<Arc<Structure>>, size: (u32, u32), key: bool) -> Described {
    let structure = Structure::one_layer(size);
    let structure = known.take().filter(|known| **known == structure).unwrap_or_else(|| Arc::new(structure));
    *known = Some(structure.clone());
    Described::one_layer(structure, key)
}
