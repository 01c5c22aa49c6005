//! The rooms of one thread: legs, streams and outs, and how packets, frames and answers pass between them. One thing
//! changes it at a time: `handle` or a command, then `poll` until [`Output::Timeout`], then the next.
//!
//! [`commands`] is what Python asks for, [`arrivals`] a packet's way in, [`departures`] the way out and the end of what
//! sends, [`feedback`] all RTCP. Here is what they share: who is there, and when something is due.

mod arrivals;
mod commands;
mod departures;
mod feedback;

use super::codec::Media;
use super::leg_plain::{Leg, Medium};
use super::mode::Mode;
use super::out::Out;
use super::output::{Effects, FrameTag, Output, Transmit};
use super::source::{SILENCE, Senders};
use super::stream::Stream;
use super::video::Video;
use super::{Drop, LegId, Now, OutId, SockId, StreamId, Time};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

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
    /// Python's commands for a stream did not get here: there were too many.
    CommandsLost {
        stream: StreamId,
        commands: u64,
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

/// SSRCs that we gave up and remember, and for how long.
const MAX_FORMER: usize = 64;
const FORMER_FOR: Duration = Duration::from_secs(10);

/// Ids that a shard gives out: `first`, and always `step` more.
#[derive(Clone, Copy, Debug)]
pub struct Numbering {
    pub first: u64,
    pub step: u64,
}

pub struct Shard {
    legs: BTreeMap<LegId, Leg>,
    streams: BTreeMap<StreamId, Stream>,
    outs: BTreeMap<OutId, Out>,
    /// Whose our SSRCs are, those of retransmissions too.
    ssrcs: HashMap<(LegId, u32), OutId>,
    fx: Effects,
    send: VecDeque<Transmit>,
    now: Now,
    ports: HashMap<SockId, Port>,
    sending: HashMap<(StreamId, u64), Sending>,
    random: Box<dyn FnMut() -> u64 + Send>,
    /// SSRCs of ours that collisions made us give up, and when, the newest last: what is under way of them, and comes
    /// back, is no source.
    former: Vec<(u32, Time)>,
    /// What an SRTP packet says, while it is handled.
    plain: Vec<u8>,
    /// What changed since `take_senders`; at most an entry per socket.
    senders: BTreeMap<SockId, Senders>,
    next_id: u64,
    id_step: u64,
    /// Not later than the next thing to do; `Timeout` finds out what it is.
    wake: Time,
}

impl Shard {
    /// `random` must not be guessable: SSRCs and first sequence numbers come from it.
    pub fn new(random: Box<dyn FnMut() -> u64 + Send>) -> Shard {
        Shard::numbered(random, Numbering { first: 1, step: 1 })
    }

    /// One of several, whose ids must not meet.
    pub fn numbered(random: Box<dyn FnMut() -> u64 + Send>, numbering: Numbering) -> Shard {
        Shard {
            legs: BTreeMap::new(),
            streams: BTreeMap::new(),
            outs: BTreeMap::new(),
            ssrcs: HashMap::new(),
            fx: Effects::default(),
            send: VecDeque::new(),
            now: Now::default(),
            ports: HashMap::new(),
            sending: HashMap::new(),
            random,
            former: Vec::new(),
            plain: Vec::new(),
            senders: BTreeMap::new(),
            next_id: numbering.first,
            id_step: numbering.step,
            wake: Time::NEVER,
        }
    }

    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.now = now;
        match input {
            Input::Datagram { sock, src, data } => self.datagram(sock, src, data),
            Input::Sent(tag) => self.sent(tag),
            Input::FrameRefused { stream, mode } => self.frame_refused(stream, mode),
            Input::CommandsLost { stream, commands } => {
                self.fx.drops.add(Drop::CommandOverflow, commands);
                self.with_video(stream, now, |video, fx| video.lose_touch("commands lost", fx));
            }
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

    /// Whose datagrams sockets take from now on, where that changed. A relief for those who hold the sockets: what comes
    /// from others all the same is told apart and counted here.
    pub fn take_senders(&mut self) -> BTreeMap<SockId, Senders> {
        std::mem::take(&mut self.senders)
    }

    fn note_senders(&mut self, leg: LegId, media: Media) {
        let medium = self.legs.get(&leg).and_then(|leg| leg.medium(media));
        self.senders.extend(medium.into_iter().flat_map(Medium::senders));
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

    fn with_video<R>(
        &mut self,
        stream: StreamId,
        now: Now,
        act: impl FnOnce(&mut Video, &mut Effects) -> R,
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
        self.next_id += self.id_step;
        id
    }

    /// The out that sends with this SSRC on a leg, media or retransmissions.
    fn owner(&self, leg: LegId, ssrc: u32) -> Option<&Out> {
        self.ssrcs.get(&(leg, ssrc)).and_then(|out| self.outs.get(out))
    }

    /// Random, not 0, and nobody else's that we know of.
    fn ssrc(&mut self, drawn: u32) -> u32 {
        loop {
            let ssrc = (self.random)() as u32;
            let media = || self.legs.values().flat_map(|leg| &leg.media);
            let taken = [0, drawn].contains(&ssrc)
                || self.former.iter().any(|(former, _)| *former == ssrc)
                || self.streams.values().any(|stream| stream.ssrc == ssrc)
                || self.ssrcs.keys().any(|(_, ours)| *ours == ssrc)
                || media().any(|medium| medium.own_ssrc == ssrc);
            if !taken {
                return ssrc;
            }
        }
    }
}
