//! What becomes of each frame of a video stream, and the order in which frames leave.
//!
//! Python decides the mode, the ledger executes it. COMPRESS frames are entered and wait for an answer; the others are
//! answered at once. Frames leave in `frame_id` order. Native and compressed frames reference pictures of their own
//! kind only, so the kind may change on a key only: the rule is enforced here, whoever asks for what.

use super::codec::{FrameInfo, Payload};
use super::dd::Described;
use super::ext::Value;
use super::mode::{Kind, Mode, Policy};
use super::output::Event;
use super::packet::Packet;
use super::{Drop, StreamId, Time};
use std::collections::VecDeque;

/// Frames of one stream between assembly and sending.
pub const MAX_IN_FLIGHT: usize = 16;
/// Frames kept from the first key until `link` and `set_mode` came.
pub const MAX_PENDING: usize = 16;

/// A complete frame as it came.
#[derive(Clone, Debug)]
pub struct NativeFrame {
    pub id: u64,
    /// Unwrapped, in the source's clock.
    pub timestamp: i64,
    pub packets: Vec<Packet>,
    pub info: FrameInfo,
    /// By the dependency descriptors of its packets.
    pub described: Option<Described>,
    pub completed: Time,
}

/// `Refused`: it was no frame that could leave.
#[derive(Debug)]
pub enum Answer {
    Native(Option<Value>),
    Compressed { payloads: Vec<Payload>, described: Option<Described>, ext: Option<Value>, key: bool },
    Dropped,
    Refused,
}

#[derive(Debug)]
struct Entry {
    frame: NativeFrame,
    policy: Policy,
    answer: Option<Answer>,
}

/// The next frame to send or to leave out.
#[derive(Debug)]
pub struct Departure {
    pub frame: NativeFrame,
    pub policy: Policy,
    pub answer: Answer,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Entered with this policy.
    Taken(Policy),
    /// Kept until `link` and `set_mode` came.
    Pending,
    Dropped(Drop, u64),
    /// More than [`MAX_IN_FLIGHT`]: the ledger was emptied and holds.
    Failed(u64),
}

#[derive(Clone, Copy, Debug)]
struct Change {
    policy: Policy,
    at_frame: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No mode yet.
    Pending,
    Active(Policy),
    /// Until a mode starts at a key.
    Held,
}

/// Whether a frame fits behind what left before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continues {
    /// `switched`: it is the first of its kind.
    Yes { switched: bool },
    /// A native frame whose reference did not leave.
    AtKey,
    /// The same, where no frame behind it refers to it.
    WithoutLeading,
    /// A change between native and compressed off a key.
    Never,
}

#[derive(Debug)]
pub struct Ledger {
    stream: StreamId,
    state: State,
    change: Option<Change>,
    linked: bool,
    pending: VecDeque<NativeFrame>,
    entries: VecDeque<Entry>,
    last_id: Option<u64>,
    /// The kind that a non-key frame may continue.
    run: Option<Kind>,
    /// All that native frames which lead the newest key may refer to has left.
    leading: bool,
    last_kind: Option<Kind>,
}

impl Ledger {
    pub fn new(stream: StreamId) -> Ledger {
        Ledger {
            stream,
            state: State::Pending,
            change: None,
            linked: false,
            pending: VecDeque::new(),
            entries: VecDeque::new(),
            last_id: None,
            run: None,
            leading: false,
            last_kind: None,
        }
    }

    pub fn mode(&self) -> Option<Mode> {
        match self.state {
            State::Active(policy) => Some(policy.mode),
            State::Pending | State::Held => None,
        }
    }

    pub fn held(&self) -> bool {
        self.state == State::Held
    }

    pub fn in_flight(&self) -> usize {
        self.entries.len()
    }

    /// An out exists. Returns frames to admit again, now that they have somewhere to go.
    pub fn link(&mut self) -> VecDeque<NativeFrame> {
        self.linked = true;
        self.take_pending()
    }

    /// See `set_mode` in the `.pyi`. Returns frames to admit again.
    pub fn set_mode(&mut self, policy: Policy, at_frame: Option<u64>) -> VecDeque<NativeFrame> {
        let to_come = |at: &u64| self.last_id.is_none_or(|last| *at > last);
        self.change = Some(Change { policy, at_frame: at_frame.filter(to_come) });
        self.take_pending()
    }

    pub fn admit(&mut self, frame: NativeFrame, events: &mut Vec<Event>) -> Admitted {
        self.last_id = Some(self.last_id.map_or(frame.id, |last| last.max(frame.id)));
        if self.state == State::Pending && !(self.linked && self.change.is_some()) {
            return self.keep(frame);
        }
        self.apply_change(&frame, events);
        let policy = match self.state {
            State::Active(policy) => policy,
            State::Pending => return Admitted::Dropped(Drop::AwaitingKey, 1),
            State::Held => return Admitted::Dropped(Drop::Held, 1),
        };
        if self.entries.len() == MAX_IN_FLIGHT {
            return Admitted::Failed(self.fail("in flight", events) + 1);
        }
        let answer = match policy.mode {
            Mode::Compress => None,
            Mode::Bypass | Mode::Shadow => Some(Answer::Native(None)),
        };
        self.entries.push_back(Entry { frame, policy, answer });
        Admitted::Taken(policy)
    }

    /// False: no such frame waits for an answer.
    pub fn answer(&mut self, frame_id: u64, answer: Answer) -> bool {
        match self.entries.iter_mut().find(|entry| entry.frame.id == frame_id && entry.answer.is_none()) {
            Some(entry) => {
                entry.answer = Some(answer);
                true
            }
            None => false,
        }
    }

    /// The frame of this number, while it waits for its answer.
    pub fn waiting(&self, frame_id: u64) -> Option<&NativeFrame> {
        let waits = |entry: &&Entry| entry.frame.id == frame_id && entry.answer.is_none();
        self.entries.iter().find(waits).map(|entry| &entry.frame)
    }

    /// The frame admitted last.
    pub fn newest(&self) -> Option<&NativeFrame> {
        self.entries.back().map(|entry| &entry.frame)
    }

    /// The next frame in order, once it is answered.
    pub fn depart(&mut self) -> Option<Departure> {
        self.entries.front()?.answer.as_ref()?;
        let entry = self.entries.pop_front()?;
        Some(Departure { frame: entry.frame, policy: entry.policy, answer: entry.answer? })
    }

    /// May a frame of this kind leave now? `leading`: it is native and refers to frames in front of the newest key.
    pub fn continues(&mut self, kind: Kind, key: bool, leading: bool) -> Continues {
        if !key && self.run != Some(kind) {
            // A native run that lost a frame goes on at the next key; anything else is a switch nobody may make.
            let lost = kind == Kind::Native && self.run.is_none() && self.last_kind == Some(Kind::Native);
            self.end_native_run();
            return if lost { Continues::AtKey } else { Continues::Never };
        }
        if leading && !self.leading {
            return Continues::WithoutLeading;
        }
        if key {
            self.leading = self.run == Some(kind);
        }
        let switched = self.last_kind.is_some_and(|last| last != kind);
        self.run = Some(kind);
        self.last_kind = Some(kind);
        Continues::Yes { switched }
    }

    /// A frame did not leave. Native frames behind it may reference it; an encoder that skipped a picture does not.
    pub fn left_out(&mut self, info: &FrameInfo) {
        match info {
            FrameInfo { discardable: true, .. } => {}
            FrameInfo { leading: true, .. } => self.leading = false,
            _ => self.end_native_run(),
        }
    }

    /// An answer did not leave. What its encoder makes next refers to it, until whoever asked has heard of it.
    pub fn refused(&mut self, info: &FrameInfo) {
        self.left_out(info);
        if self.run == Some(Kind::Compressed) {
            self.run = None;
        }
    }

    fn end_native_run(&mut self) {
        if self.run == Some(Kind::Native) {
            self.run = None;
        }
    }

    /// Empties the ledger and sends nothing until a mode starts at a key; one that was set before counts. Returns how many frames were in it.
    pub fn hold(&mut self) -> u64 {
        let gone = self.entries.len() + self.pending.len();
        self.entries.clear();
        self.pending.clear();
        self.state = State::Held;
        self.run = None;
        gone as u64
    }

    /// `hold`, and Python is told. Not twice for one failure.
    pub fn fail(&mut self, reason: &'static str, events: &mut Vec<Event>) -> u64 {
        events.push(Event::StreamFailed { stream: self.stream, reason });
        self.hold()
    }

    fn keep(&mut self, frame: NativeFrame) -> Admitted {
        if self.pending.is_empty() && !frame.info.key {
            return Admitted::Dropped(Drop::AwaitingKey, 1);
        }
        if self.pending.len() == MAX_PENDING {
            // Without its first frames the rest is of no use: start over at the next key.
            let gone = self.pending.len() as u64;
            self.pending.clear();
            return match frame.info.key {
                true => {
                    self.pending.push_back(frame);
                    Admitted::Dropped(Drop::PendingOverflow, gone)
                }
                false => Admitted::Dropped(Drop::PendingOverflow, gone + 1),
            };
        }
        self.pending.push_back(frame);
        Admitted::Pending
    }

    fn take_pending(&mut self) -> VecDeque<NativeFrame> {
        let ready = self.linked && self.change.is_some();
        if ready { std::mem::take(&mut self.pending) } else { VecDeque::new() }
    }

    fn apply_change(&mut self, frame: &NativeFrame, events: &mut Vec<Event>) {
        let Some(change) = self.change else { return };
        // Flags alone need no key.
        let same = matches!(self.state, State::Active(now) if now.mode == change.policy.mode);
        let due = match change.at_frame {
            Some(at) if self.state != State::Held => frame.id >= at,
            _ => frame.info.key || same,
        };
        if !due {
            return;
        }
        self.change = None;
        self.state = State::Active(change.policy);
        events.push(Event::ModeApplied { stream: self.stream, mode: change.policy.mode, frame_id: frame.id });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAY: Continues = Continues::Yes { switched: false };
    const SWITCHED: Continues = Continues::Yes { switched: true };

    fn frame(id: u64, key: bool) -> NativeFrame {
        let info = FrameInfo { key, ..FrameInfo::default() };
        NativeFrame { id, timestamp: 0, packets: Vec::new(), info, described: None, completed: Time(0) }
    }

    fn policy(mode: Mode) -> Policy {
        Policy { mode, extension: true, degraded: false }
    }

    /// Active from frame 0, a key.
    fn active(mode: Mode) -> Ledger {
        let mut ledger = Ledger::new(StreamId(1));
        ledger.link();
        ledger.set_mode(policy(mode), None);
        let mut events = Vec::new();
        assert_eq!(ledger.admit(frame(0, true), &mut events), Admitted::Taken(policy(mode)));
        assert!(matches!(events[..], [Event::ModeApplied { frame_id: 0, .. }]));
        ledger
    }

    fn departures(ledger: &mut Ledger) -> Vec<u64> {
        std::iter::from_fn(|| ledger.depart()).map(|d| d.frame.id).collect()
    }

    #[test]
    fn frames_leave_in_order_whatever_the_order_of_answers() {
        let mut ledger = active(Mode::Compress);
        for id in 1..4 {
            ledger.admit(frame(id, false), &mut Vec::new());
        }
        assert!(ledger.answer(2, Answer::Dropped));
        assert!(departures(&mut ledger).is_empty());
        assert!(ledger.answer(0, Answer::Native(None)));
        assert_eq!(departures(&mut ledger), [0]);
        assert!(ledger.answer(1, Answer::Native(None)));
        assert_eq!(departures(&mut ledger), [1, 2]);
    }

    #[test]
    fn an_answer_counts_once_and_only_for_a_waiting_frame() {
        let mut ledger = active(Mode::Compress);
        assert!(!ledger.answer(1, Answer::Dropped));
        assert!(ledger.answer(0, Answer::Dropped));
        assert!(!ledger.answer(0, Answer::Dropped));
    }

    #[test]
    fn a_mode_starts_at_a_key_or_at_the_frame_named() {
        let mut events = Vec::new();
        let mut ledger = active(Mode::Bypass);
        ledger.set_mode(policy(Mode::Compress), None);
        assert_eq!(ledger.admit(frame(1, false), &mut events), Admitted::Taken(policy(Mode::Bypass)));
        assert_eq!(ledger.admit(frame(2, true), &mut events), Admitted::Taken(policy(Mode::Compress)));
        ledger.set_mode(policy(Mode::Bypass), Some(4));
        assert_eq!(ledger.admit(frame(3, true), &mut events), Admitted::Taken(policy(Mode::Compress)));
        assert_eq!(ledger.admit(frame(4, false), &mut events), Admitted::Taken(policy(Mode::Bypass)));
    }

    #[test]
    fn flags_of_the_same_mode_change_at_once() {
        let mut ledger = active(Mode::Bypass);
        let degraded = Policy { degraded: true, ..policy(Mode::Bypass) };
        ledger.set_mode(degraded, None);
        assert_eq!(ledger.admit(frame(1, false), &mut Vec::new()), Admitted::Taken(degraded));
    }

    #[test]
    fn frames_wait_for_link_and_mode_from_the_first_key_on() {
        let mut ledger = Ledger::new(StreamId(1));
        assert_eq!(ledger.admit(frame(0, false), &mut Vec::new()), Admitted::Dropped(Drop::AwaitingKey, 1));
        assert_eq!(ledger.admit(frame(1, true), &mut Vec::new()), Admitted::Pending);
        assert_eq!(ledger.admit(frame(2, false), &mut Vec::new()), Admitted::Pending);
        assert!(ledger.set_mode(policy(Mode::Bypass), None).is_empty());
        assert_eq!(ledger.link().iter().map(|f| f.id).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn waiting_frames_are_bounded_and_start_over_at_a_key() {
        let mut ledger = Ledger::new(StreamId(1));
        for id in 0..16 {
            assert_eq!(ledger.admit(frame(id, id == 0), &mut Vec::new()), Admitted::Pending);
        }
        assert_eq!(ledger.admit(frame(16, false), &mut Vec::new()), Admitted::Dropped(Drop::PendingOverflow, 17));
        assert_eq!(ledger.admit(frame(17, false), &mut Vec::new()), Admitted::Dropped(Drop::AwaitingKey, 1));
        assert_eq!(ledger.admit(frame(18, true), &mut Vec::new()), Admitted::Pending);
    }

    #[test]
    fn the_seventeenth_frame_in_flight_fails_the_stream_until_a_mode_starts_at_a_key() {
        let mut ledger = active(Mode::Compress);
        for id in 1..16 {
            ledger.admit(frame(id, false), &mut Vec::new());
        }
        let mut events = Vec::new();
        assert_eq!(ledger.admit(frame(16, false), &mut events), Admitted::Failed(17));
        assert!(matches!(events[..], [Event::StreamFailed { .. }]));
        assert!(!ledger.answer(3, Answer::Dropped));
        assert_eq!(ledger.admit(frame(17, true), &mut Vec::new()), Admitted::Dropped(Drop::Held, 1));
        ledger.set_mode(policy(Mode::Bypass), None);
        assert_eq!(ledger.admit(frame(18, false), &mut Vec::new()), Admitted::Dropped(Drop::Held, 1));
        assert_eq!(ledger.admit(frame(19, true), &mut Vec::new()), Admitted::Taken(policy(Mode::Bypass)));
    }

    #[test]
    fn the_kind_changes_on_a_key_only() {
        let mut ledger = active(Mode::Compress);
        assert_eq!(ledger.continues(Kind::Compressed, false, false), Continues::Never, "an output starts at a key");
        assert_eq!(ledger.continues(Kind::Compressed, true, false), STAY);
        assert_eq!(ledger.continues(Kind::Native, false, false), Continues::Never);
        assert_eq!(
            ledger.continues(Kind::Compressed, false, false),
            STAY,
            "a refused native frame harms no compressed run"
        );
        assert_eq!(ledger.continues(Kind::Native, true, false), SWITCHED);
        assert_eq!(ledger.continues(Kind::Native, false, false), STAY);
    }

    #[test]
    fn native_frames_behind_a_dropped_reference_wait_for_a_key() {
        let mut ledger = active(Mode::Compress);
        ledger.continues(Kind::Native, true, false);
        ledger.left_out(&FrameInfo { discardable: true, ..FrameInfo::default() });
        assert_eq!(ledger.continues(Kind::Native, false, false), STAY);
        ledger.left_out(&FrameInfo { discardable: false, ..FrameInfo::default() });
        assert_eq!(ledger.continues(Kind::Native, false, false), Continues::AtKey);
        assert_eq!(ledger.continues(Kind::Compressed, false, false), Continues::Never);
        assert_eq!(ledger.continues(Kind::Native, true, false), STAY);
    }

    #[test]
    fn frames_that_lead_a_key_leave_only_behind_the_frames_in_front_of_it() {
        let lead = |ledger: &mut Ledger| ledger.continues(Kind::Native, false, true);
        let mut ledger = active(Mode::Compress);
        ledger.continues(Kind::Native, true, false);
        assert_eq!(lead(&mut ledger), Continues::WithoutLeading, "the first key");
        assert_eq!(ledger.continues(Kind::Native, false, false), STAY, "no other frame needs them");
        ledger.continues(Kind::Native, true, false);
        assert_eq!(lead(&mut ledger), STAY);
        ledger.left_out(&FrameInfo { leading: true, ..FrameInfo::default() });
        assert_eq!(lead(&mut ledger), Continues::WithoutLeading, "it may refer to the one before");
        assert_eq!(ledger.continues(Kind::Native, false, false), STAY);
        ledger.continues(Kind::Compressed, true, false);
        ledger.continues(Kind::Native, true, false);
        assert_eq!(lead(&mut ledger), Continues::WithoutLeading, "a switch");
        ledger.left_out(&FrameInfo::default());
        ledger.continues(Kind::Native, true, false);
        assert_eq!(lead(&mut ledger), Continues::WithoutLeading, "a frame in front of the key is missing");
    }
}
