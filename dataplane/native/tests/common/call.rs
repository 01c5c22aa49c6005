//! A whole call in virtual time: sender -> link -> shard -> link -> receiver, feedback on links of its own back, and a
//! Python that changes its mind. Everything of it follows from a seed.

use super::coding::{Coding, MADE, Make, Meaning, NOTHING};
use super::h264::SETS_SELDOM;
use super::network::{Conditions, Link};
use super::receiver::Receiver;
use super::sound::Sound;
use super::wire::{Far, Leaves, Near, OUT_AUDIO, Options};
use super::{FRAME_TICKS, Gathered, IN_RTCP, Left, OUT_RTCP, OUT_RTP, Random, SSRC, World, gathered, receiver};
use auralink_native::core::codec::Media;
use auralink_native::core::mode::Mode;
use auralink_native::core::output::Event;
use auralink_native::core::rtcp::{Rtcp, Writer};
use auralink_native::core::{StreamId, Time};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

const FRAME_MS: u64 = 33;
/// Python answers within this.
const SLOWEST_ANSWER: Duration = Duration::from_millis(90);
/// How long a gap is waited for, with feedback and without, and how long a frame takes to leave.
const HOLDS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(80)];
const PACE: Duration = Duration::from_millis(51);
/// Frames of the quiet end, where nothing is lost any more.
const QUIET_FRAMES: u64 = 60;
/// The sender answers a key request at most so often.
const KEYS_APART: u64 = 10;
const RECEIVER_SSRC: u32 = 99;

/// What became of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub sent: u64,
    pub left: u64,
    pub decoded: u64,
    pub switches: u64,
    pub lost: u64,
    pub resent: u64,
    /// Packets that the sender's retransmissions were in time for, in a stream of their own.
    pub repaired: u64,
    pub illegal: u64,
}

impl Outcome {
    pub fn add(&mut self, other: &Outcome) {
        let Outcome { sent, left, decoded, switches, lost, resent, repaired, illegal } = self;
        for (sum, more) in [
            (sent, other.sent),
            (left, other.left),
            (decoded, other.decoded),
            (switches, other.switches),
            (lost, other.lost),
            (resent, other.resent),
            (repaired, other.repaired),
            (illegal, other.illegal),
        ] {
            *sum += more;
        }
    }
}

pub struct Call {
    coding: Box<dyn Coding>,
    random: Random,
    feedback: bool,
    world: World,
    /// Media to the shard and from it, and what is said about each.
    up: Link,
    up_back: Link,
    down: Link,
    down_back: Link,
    receiver: Receiver,
    stream: Option<StreamId>,
    near: Near,
    far: Far,
    sound: Option<Sound>,
    /// When the last packet of a frame reached the shard for the first time, by timestamp.
    arrived: HashMap<u32, Time>,
    reached: HashSet<(u16, u32)>,
    timestamps: HashMap<u64, u32>,
    /// By timestamp.
    pictures: HashMap<u32, u64>,
    since_key: u64,
    key_wanted: bool,
    /// When, which frame, of which picture, and whether it is a key.
    answers: VecDeque<(Time, u64, u64, bool)>,
    last_made: u64,
    /// All pictures' RTP that left for the first time, without what the wire adds, and the count of what left again.
    media: Vec<Left>,
    resent: u64,
    /// Of the frame that the receiver puts together.
    partial: Vec<Left>,
    /// Some of its packets may never have come: not known of the first.
    cut: bool,
    decoder: Decoder,
}

/// What a receiver that shows nothing broken has decoded.
#[derive(Default)]
struct Decoder {
    frames: BTreeSet<u64>,
    awaits_key: bool,
    count: u64,
    last: Option<u64>,
}

/// The call of a seed; panics where a property does not hold.
pub fn run(make: Make, seed: u64) -> Outcome {
    let mut random = Random(seed);
    let (coding, feedback) = (make(&mut random), random.below(4) > 0);
    let links: [Conditions; 4] = std::array::from_fn(|_| Conditions::drawn(&mut random));
    let frames = 60 + random.below(240);
    let options = Options::drawn(&mut random, feedback);
    let sound = (random.below(2) == 0).then(|| Sound::new(options, links[0], &mut random));
    let mut call = Call { sound, ..Call::new(coding, feedback, options, links, random) };
    call.takes(frames);
    call.check(frames + QUIET_FRAMES - 1).0
}

/// A call of so many frames over the same links all ways; what left, too.
pub fn carried(
    coding: Box<dyn Coding>,
    link: Conditions,
    frames: u64,
    seed: u64,
) -> (Outcome, Vec<(Meaning, Gathered)>) {
    let mut call = Call::new(coding, true, Options::default(), [link; 4], Random(seed));
    call.takes(frames);
    call.check(frames + QUIET_FRAMES - 1)
}

impl Call {
    fn new(
        coding: Box<dyn Coding>,
        feedback: bool,
        options: Options,
        links: [Conditions; 4],
        mut random: Random,
    ) -> Call {
        let [up, up_back, down, down_back] = links.map(|conditions| Link::new(conditions, random.next()));
        let [source, target] = options.legs(feedback);
        Call {
            coding,
            feedback,
            world: World::between(source, target),
            up,
            up_back,
            down,
            down_back,
            receiver: Receiver::default(),
            stream: None,
            near: Near::new(options),
            far: Far::new(options),
            sound: None,
            arrived: HashMap::new(),
            reached: HashSet::new(),
            timestamps: HashMap::new(),
            pictures: HashMap::new(),
            since_key: 0,
            key_wanted: true,
            answers: VecDeque::new(),
            last_made: NOTHING,
            media: Vec::new(),
            resent: 0,
            partial: Vec::new(),
            cut: true,
            decoder: Decoder { awaits_key: true, ..Decoder::default() },
            random,
        }
    }

    /// Bad links and a changing mind for so many frames, then a quiet end.
    fn takes(&mut self, frames: u64) {
        for id in 0..frames {
            self.frame(id);
            self.changes_its_mind();
            self.pass(Duration::from_millis(FRAME_MS));
        }
        self.calms_down();
        let quiet_sound = self.sound.as_ref().map_or(0, Sound::sent);
        for quiet in 0..QUIET_FRAMES {
            self.key_wanted |= quiet.is_multiple_of(QUIET_FRAMES / SETS_SELDOM);
            self.frame(frames + quiet);
            self.pass(Duration::from_millis(FRAME_MS));
        }
        self.pass(Duration::from_millis(500));
        self.sound.iter().for_each(|sound| sound.check(quiet_sound));
    }

    /// The sender's next frame sets out.
    fn frame(&mut self, id: u64) {
        let asked = self.key_wanted && (self.since_key >= KEYS_APART || id == 0);
        let key = asked || self.random.below(if self.feedback { 100 } else { 25 }) == 0;
        (self.since_key, self.key_wanted) = if key { (0, false) } else { (self.since_key + 1, self.key_wanted) };
        self.timestamps.insert(id, self.coding.timestamp());
        self.pictures.insert(self.coding.timestamp(), id);
        let len = 60 + self.random.below(if key { 9000 } else { 3000 }) as usize;
        for packet in self.coding.frame(id, key, len) {
            self.up.send(self.near.sends(&packet), self.world.now);
        }
        self.sound.iter_mut().for_each(|sound| sound.sends(self.world.now));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.world.now + time;
        loop {
            let links = [&self.up, &self.up_back, &self.down, &self.down_back];
            let answer = self.answers.front().map(|(due, ..)| *due);
            let sound = self.sound.as_ref().and_then(Sound::next);
            let own = [Some(self.world.wake), answer, self.receiver.due(), sound];
            let next = links.into_iter().map(Link::next).chain(own).flatten().min().unwrap_or(Time::NEVER);
            if next > until {
                return self.world.advance_to(until);
            }
            self.world.advance_to(next.max(self.world.now));
            self.deliver();
        }
    }

    /// All that has arrived by now, and what comes of it.
    fn deliver(&mut self) {
        let now = self.world.now;
        while let Some(packet) = self.up.pop(now) {
            self.reaches_shard(&packet);
        }
        self.sound.iter_mut().for_each(|sound| sound.deliver(&mut self.world));
        while let Some(packet) = self.up_back.pop(now) {
            self.sender_hears(&packet);
        }
        while let Some(bytes) = self.down.pop(now) {
            if let Some(bytes) = self.far.takes(&bytes) {
                self.receiver.take(Left { at: now, sock: OUT_RTP, dst: receiver(), bytes });
            }
        }
        while let Some(packet) = self.down_back.pop(now) {
            self.world.receive_from(OUT_RTCP, rtcp_of(receiver()), &packet);
        }
        while self.answers.front().is_some_and(|(due, ..)| *due <= now) {
            let (_, id, picture, key) = self.answers.pop_front().unwrap();
            self.answer(id, picture, key);
        }
        self.python();
        self.route();
        self.receive();
    }

    fn reaches_shard(&mut self, packet: &[u8]) {
        let of = self.near.of(packet);
        if self.reached.insert(of) {
            self.arrived.insert(of.1, self.world.now);
        }
        self.world.receive(packet);
    }

    fn sender_hears(&mut self, packet: &[u8]) {
        for said in self.near.hears(packet) {
            match said {
                Rtcp::Nack { media, lost, .. } => {
                    assert_eq!(media, SSRC);
                    let again = lost.iter().filter_map(|number| self.near.again(*number));
                    again.for_each(|bytes| self.up.send(bytes, self.world.now));
                }
                Rtcp::Pli { .. } => self.key_wanted = true,
                _ => {}
            }
        }
    }

    /// What left the shard sets out.
    fn route(&mut self) {
        for left in std::mem::take(&mut self.world.left) {
            match left.sock {
                IN_RTCP => self.up_back.send(left.bytes, left.at),
                OUT_RTP => {
                    match self.far.leaves(&left.bytes, self.feedback) {
                        Leaves::First(bytes) => self.media.push(Left { bytes, ..left.clone() }),
                        Leaves::Again => self.resent += 1,
                    }
                    self.down.send(left.bytes, left.at);
                }
                OUT_AUDIO => self.sound.iter_mut().for_each(|sound| sound.leaves(&left)),
                _ => {}
            }
        }
    }

    fn receive(&mut self) {
        let now = self.world.now;
        let lost = self.receiver.asks(now);
        while let Some(left) = self.receiver.ordered() {
            if std::mem::take(&mut self.receiver.hole) {
                self.cut = true;
                self.decoder.awaits_key = true;
            }
            let marker = left.rtp().marker;
            self.partial.push(left);
            if marker {
                self.decode();
            }
        }
        let Some(ssrc) = self.media.first().map(|left| left.rtp().ssrc).filter(|_| self.feedback) else { return };
        let mut writer = Writer::default();
        writer.receiver_report(RECEIVER_SSRC, &[]);
        let key = self.decoder.awaits_key && self.receiver.asks_key(now);
        if !lost.is_empty() {
            writer.nack(RECEIVER_SSRC, ssrc, &lost);
        }
        if key {
            writer.pli(RECEIVER_SSRC, ssrc);
        }
        if key || !lost.is_empty() {
            self.down_back.send(self.far.says(writer.finish()), now);
        }
    }

    fn decode(&mut self) {
        let packets = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.cut) {
            return;
        }
        let frames = gathered(&packets, self.coding.payload_type());
        let meaning = self.coding.read(&frames[0]);
        self.decoder.decode(meaning);
    }

    /// Events and frames of the shard.
    fn python(&mut self) {
        for event in std::mem::take(&mut self.world.events) {
            match event {
                Event::StreamStarted { stream, codec, .. } if codec.media() == Media::Audio => {
                    self.world.link(stream);
                }
                Event::StreamStarted { stream, .. } => {
                    self.stream = Some(stream);
                    self.world.link(stream);
                    self.new_mode();
                }
                Event::StreamFailed { .. } => self.new_mode(),
                _ => {}
            }
        }
        for frame in std::mem::take(&mut self.world.frames) {
            let hold = HOLDS[usize::from(!self.feedback)];
            assert!(frame.completed - frame.last <= hold, "frame {} was held back too long", frame.frame_id);
            if frame.mode == Mode::Compress {
                let soon = Duration::from_micros(self.random.below(SLOWEST_ANSWER.as_micros() as u64));
                let due = self.answers.back().map_or(Time(0), |(due, ..)| *due).max(self.world.now + soon);
                let picture = self.pictures[&(frame.timestamp as u32)];
                self.answers.push_back((due, frame.frame_id, picture, frame.key));
            }
        }
    }

    fn new_mode(&mut self) {
        let mode = [Mode::Bypass, Mode::Compress, Mode::Compress, Mode::Shadow][self.random.below(4) as usize];
        self.stream.into_iter().for_each(|stream| self.world.set_mode(stream, mode));
    }

    fn changes_its_mind(&mut self) {
        let Some(stream) = self.stream else { return };
        match self.random.below(150) {
            0..=5 => self.new_mode(),
            6 => {
                self.world.shard.hold(stream, self.world.now());
                self.new_mode();
            }
            7 => {
                self.world.shard.request_key(stream, self.world.now());
                self.world.settle();
            }
            _ => {}
        }
    }

    /// Native, ours with or without a key of its own, or nothing; now and then what is not allowed.
    fn answer(&mut self, id: u64, picture: u64, key: bool) {
        let Some(stream) = self.stream else { return };
        match self.random.below(40) {
            0 => {
                self.world.shard.drop_frame(stream, id, self.world.now());
                self.world.settle();
            }
            1..=6 => {
                self.world.submit(stream, id, None, key);
            }
            _ => {
                let own_key =
                    key || self.coding.keys_at_will() && (self.last_made == NOTHING || self.random.below(30) == 0);
                let needs = if own_key { NOTHING } else { self.last_made };
                let len = 40 + self.random.below(1500) as usize;
                let meaning = Meaning { key: own_key, id: MADE + picture, needs };
                if !self.coding.encodes(meaning) {
                    self.world.shard.drop_frame(stream, id, self.world.now());
                    return self.world.settle();
                }
                let data = self.coding.made(meaning, len);
                // An encoder hears of what did not leave, and goes on from its last frame that did.
                if self.world.submit(stream, id, Some(&data), own_key) {
                    self.last_made = meaning.id;
                }
            }
        }
    }

    /// From here on nothing is lost, and what is native passes.
    fn calms_down(&mut self) {
        for link in [&mut self.up, &mut self.up_back, &mut self.down, &mut self.down_back] {
            link.conditions = Conditions { latency: link.conditions.latency, ..Conditions::default() };
        }
        self.sound.iter_mut().for_each(Sound::calms_down);
        self.pass(Duration::from_millis(1500));
        self.stream.into_iter().for_each(|stream| self.world.set_mode(stream, Mode::Bypass));
        self.since_key = KEYS_APART;
    }

    fn check(mut self, last: u64) -> (Outcome, Vec<(Meaning, Gathered)>) {
        self.deliver();
        let frames = gathered(&self.media, self.coding.payload_type());
        let meanings: Vec<Meaning> = frames.iter().map(|frame| self.coding.read(frame)).collect();
        self.coding.check(&frames);
        let mut decoder = Decoder { awaits_key: true, ..Decoder::default() };
        for meaning in &meanings {
            decoder.decode(*meaning);
            assert!(!decoder.awaits_key, "the first frame is a key");
        }
        let mut switches = 0;
        for (at, pair) in meanings.windows(2).enumerate() {
            let step = frames[at + 1].timestamp.wrapping_sub(frames[at].timestamp);
            assert!((1..1 << 31).contains(&step) && step.is_multiple_of(FRAME_TICKS), "timestamps go on");
            if (pair[0].id < MADE) != (pair[1].id < MADE) {
                assert!(pair[1].key, "{:?} follows {:?}", pair[1], pair[0]);
                switches += 1;
            }
        }
        self.check_times(&frames, &meanings);
        self.far.check();
        assert_eq!(meanings.last().map(|meaning| meaning.id), Some(last), "what is sent over good links arrives");
        assert_eq!(self.decoder.last, Some(last), "and the receiver has a picture again");
        let outcome = Outcome {
            sent: last + 1,
            left: frames.len() as u64,
            decoded: self.decoder.count,
            switches,
            lost: self.up.lost + self.down.lost,
            resent: self.resent,
            repaired: self.repaired(),
            illegal: self.world.drops("illegal_switch") as u64,
        };
        (outcome, meanings.into_iter().zip(frames).collect())
    }

    fn repaired(&self) -> u64 {
        let stats = self.world.shard.stats();
        let rows = stats.get("streams").zip(self.stream).and_then(|(streams, stream)| streams.row(stream.0));
        rows.and_then(|row| row.get("repaired_packets")?.int()).unwrap_or(0) as u64
    }

    /// Native frames keep their timestamps, and all leave in time.
    fn check_times(&self, frames: &[Gathered], meanings: &[Meaning]) {
        let markers = self.media.iter().filter(|left| left.rtp().marker);
        let bound = HOLDS[usize::from(!self.feedback)] + SLOWEST_ANSWER + PACE;
        for ((frame, meaning), marker) in frames.iter().zip(meanings).zip(markers) {
            if meaning.id < MADE {
                assert_eq!(frame.timestamp, self.timestamps[&meaning.id], "timestamp of {meaning:?}");
            }
            let held = marker.at - self.arrived[&frame.timestamp];
            assert!(held <= bound, "{meaning:?} was held back for {held:?}");
        }
    }
}

impl Decoder {
    fn decode(&mut self, Meaning { key, id, needs }: Meaning) {
        if key {
            self.frames.clear();
            self.awaits_key = false;
        }
        if self.awaits_key {
            return;
        }
        assert!(key || self.frames.contains(&needs), "frame {id} refers to {needs}, which is not there");
        assert!(self.frames.insert(id), "frame {id} came twice");
        self.count += 1;
        self.last = Some(id);
    }
}

fn rtcp_of(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}
