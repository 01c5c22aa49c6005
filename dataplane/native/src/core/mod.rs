//! The packet core, sans-IO: bytes and the current time go in through [`shard::Shard`], packets, frames and events come
//! out of its `poll`. Nothing here opens a socket, reads a clock or draws a random number by itself, so every behaviour
//! is testable in virtual time. `engine` is the only caller besides the tests.

pub mod assemble;
mod bits;
pub mod carrier;
pub mod codec;
pub mod dd;
pub mod demux;
pub mod elements;
pub mod ext;
pub mod generator;
mod kept;
pub mod keys;
pub mod ledger;
pub mod leg_plain;
pub mod mode;
pub mod nack;
pub mod numbers;
pub mod out;
pub mod output;
pub mod pace;
pub mod packet;
pub mod red;
pub mod reorder;
pub mod replay;
pub mod reports;
pub mod rtcp;
pub mod rtp;
pub mod rtx;
pub mod seq;
pub mod shard;
pub mod source;
pub mod srtp;
pub mod stats;
pub mod stream;
pub mod trailer;
pub mod video;

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant: nanoseconds of CLOCK_MONOTONIC, or of whatever a test counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    pub const NEVER: Time = Time(u64::MAX);

    pub fn from_millis(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(d.as_nanos().min(u64::MAX as u128) as u64))
    }
}

impl Sub for Time {
    type Output = Duration;
    /// Zero if `earlier` is later.
    fn sub(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read once per batch of packets: `mono` decides, `unix` is only written into sender reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    pub mono: Time,
    pub unix: Duration,
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    )*};
}
ids!(LegId, StreamId, OutId, SockId);

macro_rules! drops {
    ($($variant:ident = $name:literal: $why:literal,)*) => {
        /// Why a packet or frame went no further. Peers' faults are counted, never logged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Drop { $(#[doc = $why] $variant,)* }

        impl Drop {
            pub const ALL: &[Drop] = &[$(Drop::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Drop::$variant => $name,)* }
            }
        }
    };
}
drops! {
    Malformed = "malformed": "not RTP or RTCP, or a length points outside the datagram",
    MalformedPayload = "malformed_payload": "RTP is fine, the codec's payload format is not",
    UnsupportedPayload = "unsupported_payload": "a packet type of the payload format that we never negotiate (STAP-B, MTAP, FU-B)",
    UnknownPayloadType = "unknown_payload_type": "no such payload type on this leg",
    WrongDirection = "wrong_direction": "media on a leg that only sends",
    ForeignSource = "foreign_source": "not from the configured or locked address",
    SrtpUnauthentic = "srtp_unauthentic": "SRTP or SRTCP that its tag does not fit: another key, or forged",
    SrtpReplayed = "srtp_replayed": "SRTP or SRTCP received before, or too long ago to tell",
    SrtpExhausted = "srtp_exhausted": "SRTCP beyond what one key may encrypt (2^31 packets)",
    Probation = "probation": "a source that never became credible",
    Looped = "looped": "packets of ours that came back",
    Probe = "probe": "padding of SSRC 0, which measures the way and is no media",
    UnknownSsrc = "unknown_ssrc": "RTCP or media of an SSRC that is not the locked one",
    Duplicate = "duplicate": "received before",
    Late = "late": "older than what was released",
    SequenceJump = "sequence_jump": "far outside the window, and not confirmed by a second packet",
    StreamLimit = "stream_limit": "too many new streams in a short time",
    NotLinked = "not_linked": "audio before `link`",
    PendingOverflow = "pending_overflow": "frames that waited too long for `link` and `set_mode`",
    Incomplete = "incomplete": "packets of a frame that lost others",
    AwaitingKey = "awaiting_key": "frames behind one that was lost or did not leave, until the next key",
    FrameTooBig = "frame_too_big": "more than 2 MiB or 2048 packets",
    NoParameterSets = "no_parameter_sets": "a key whose SPS, PPS or VPS never came",
    MissingReference = "missing_reference": "a frame that refers to one that was lost, while others go on without both",
    LeadingPicture = "leading_picture": "a picture that refers to some in front of the newest key, which did not leave",
    NoPicture = "no_picture": "parameter sets or SEI on their own: remembered, not sent on",
    Held = "held": "frames while the output is held",
    InFlightOverflow = "in_flight_overflow": "more than 16 frames of a stream unanswered",
    ShadowOverflow = "shadow_overflow": "copies of SHADOW frames that Python did not fetch in time",
    IllegalSwitch = "illegal_switch": "a frame that changes between native and compressed off a key",
    UnknownFrame = "unknown_frame": "an answer to a frame that is not in flight",
    BadSubmit = "bad_submit": "an answer that is not a frame of the codec",
    NoRemote = "no_remote": "frames to a leg whose address is not known yet",
    OutNeedsKey = "out_needs_key": "frames before the key an out starts at",
    UnexpectedFeedback = "unexpected_feedback": "NACK, PLI or FIR on a leg without AVPF",
    ResendLimit = "resend_limit": "packets that a receiver asked for again, beyond the budget for it or too often",
    KeyRequestUnsupported = "key_request_unsupported": "a key was wanted of a source that takes no PLI",
    SendFailed = "send_failed": "the kernel took a packet not: no route, or its buffer is full",
    CommandOverflow = "command_overflow": "what Python asked for of a stream while too much of it waited",
    EventOverflow = "event_overflow": "events that Python did not fetch in time",
    KernelDropped = "kernel_dropped": "the kernel had no room for it, or a stranger sent it where the peer is known",
    Truncated = "truncated": "a datagram longer than any we take",
}

/// Counters by reason.
#[derive(Clone, Debug)]
pub struct Drops([u64; Drop::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Drops([0; Drop::ALL.len()])
    }
}

impl Drops {
    pub fn count(&mut self, why: Drop) {
        self.add(why, 1);
    }

    pub fn add(&mut self, why: Drop, n: u64) {
        self.0[why as usize] += n;
    }

    pub fn get(&self, why: Drop) -> u64 {
        self.0[why as usize]
    }

    /// Reasons that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Drop::ALL.iter().map(|d| (d.name(), self.get(*d))).filter(|(_, n)| *n > 0)
    }
}

/// Big-endian reads that the caller has bounds-checked; out of range gives zero instead of a panic.
pub(crate) fn be16(b: &[u8], at: usize) -> u16 {
    b.get(at..at + 2).map_or(0, |s| u16::from_be_bytes([s[0], s[1]]))
}

pub(crate) fn be32(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).map_or(0, |s| u32::from_be_bytes([s[0], s[1], s[2], s[3]]))
}
