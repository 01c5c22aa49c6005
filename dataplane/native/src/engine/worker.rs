//! The thread itself: epoll on sockets, timer and command eventfd; a batch in, everything it causes out, then the next.

use super::inbox::Inbox;
use super::queue::{Item, Queue};
use super::socket::{Batches, Socket};
use super::{Binding, now};
use crate::core::codec::Media;
use crate::core::leg_plain::{LegConfig, Sockets};
use crate::core::output::{Event, FrameTag, Output, Transmit};
use crate::core::shard::{Input, Numbering, Shard};
use crate::core::stats::Value;
use crate::core::{Drop, LegId, Now, SockId, Time};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const WAKE: u64 = 0;
const TIMER: u64 = 1;
const FIRST_SOCKET: u64 = 2;
/// Ready sockets looked at per wait.
const MAX_READY: usize = 64;
/// Packets that leave together: fewer wait for those of the next ready socket.
const AT_ONCE: usize = 8;

struct Bound {
    leg: LegId,
    media: Media,
    /// RTP, not RTCP.
    rtp: bool,
    socket: Socket,
}

/// What the thread is built from; the buffers' raw pointers are made on the thread itself.
pub struct Parts {
    epoll: Epoll,
    timer: TimerFd,
    inbox: Inbox,
    queue: Arc<Queue>,
    shard: Shard,
}

pub struct Worker {
    pub shard: Shard,
    epoll: Epoll,
    timer: TimerFd,
    armed: Time,
    inbox: Inbox,
    queue: Arc<Queue>,
    sockets: HashMap<SockId, Bound>,
    next_socket: u64,
    batches: Batches,
    packets: Vec<Transmit>,
    items: Vec<Item>,
    stopping: bool,
}

impl Worker {
    pub fn run(mut self) {
        let result = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let reason = match result {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("packet engine: {error}"),
            Err(_) => "packet engine: internal error".to_owned(),
        };
        let legs = self.shard.leg_ids();
        let failed = legs.into_iter().map(|leg| Item::Event(Event::LegFailed { leg, reason: reason.clone() }));
        self.queue.push(failed);
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); MAX_READY];
        while !self.stopping {
            let wake = self.flush();
            self.arm(wake)?;
            let count = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                other => other?,
            };
            let mut now = super::now();
            for event in &ready[..count] {
                match event.data() {
                    WAKE => {
                        self.inbox.awake();
                        self.commands(now);
                    }
                    TIMER => {
                        self.armed = Time::NEVER;
                        let _ = self.timer.wait(); // expired: does not block
                        self.handle(Input::Timeout, now);
                    }
                    socket => self.receive(SockId(socket), now)?,
                }
                // Where many sockets wait, the first frame need not wait for the last.
                if self.packets.len() >= AT_ONCE {
                    self.flush();
                    now = super::now();
                }
            }
        }
        self.flush();
        Ok(())
    }

    fn commands(&mut self, now: Now) {
        while let Some(command) = self.inbox.next() {
            command(self, now);
            self.collect();
        }
        for (stream, commands) in self.inbox.take_lost() {
            self.handle(Input::CommandsLost { stream, commands }, now);
        }
    }

    fn receive(&mut self, id: SockId, now: Now) -> io::Result<()> {
        let Some(bound) = self.sockets.get(&id) else { return Ok(()) };
        let (shard, packets, items) = (&mut self.shard, &mut self.packets, &mut self.items);
        let received = self.batches.receive(&bound.socket, |(src, data)| {
            match data {
                Some(data) => shard.handle(Input::Datagram { sock: id, src, data }, now),
                None => shard.handle(Input::Dropped(Drop::Truncated), now),
            }
            collect(shard, packets, items);
        });
        // An ICMP error of a packet we sent is no reason to stop.
        if received.is_err() {
            self.handle(Input::Dropped(Drop::SendFailed), now);
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>, now: Now) {
        self.shard.handle(input, now);
        self.collect();
    }

    fn collect(&mut self) -> Time {
        collect(&mut self.shard, &mut self.packets, &mut self.items)
    }

    /// Sends and hands over everything that waits; returns when to wake.
    fn flush(&mut self) -> Time {
        self.admit();
        loop {
            let wake = self.collect();
            if self.packets.is_empty() && self.items.is_empty() {
                return wake;
            }
            let tags = self.send();
            self.hand_over();
            let now = now();
            for tag in tags {
                self.handle(Input::Sent(tag), now);
            }
        }
    }

    /// Tells the kernel whose datagrams to keep.
    fn admit(&mut self) {
        for (id, senders) in self.shard.take_senders() {
            if let Some(bound) = self.sockets.get(&id) {
                // A kernel without filters leaves them to the shard, which drops the same datagrams.
                let _ = bound.socket.admit(senders);
            }
        }
    }

    /// One run of batches per socket; returns the frames that are through.
    fn send(&mut self) -> Vec<FrameTag> {
        let mut packets = std::mem::take(&mut self.packets);
        if packets.windows(2).any(|pair| pair[0].sock != pair[1].sock) {
            packets.sort_by_key(|packet| packet.sock); // stable: the order on each socket stays
        }
        let mut failed = 0;
        for run in packets.chunk_by(|a, b| a.sock == b.sock) {
            match self.sockets.get(&run[0].sock) {
                Some(bound) => failed += self.batches.send(&bound.socket, run),
                None => failed += run.len() as u64,
            }
        }
        let tags = packets.drain(..).filter_map(|packet| packet.last_of).collect();
        self.packets = packets; // keeps its capacity
        for _ in 0..failed {
            self.shard.handle(Input::Dropped(Drop::SendFailed), now());
        }
        tags
    }

    fn hand_over(&mut self) {
        if self.items.is_empty() {
            return;
        }
        for refused in self.queue.push(self.items.drain(..)) {
            let input = match refused {
                Item::Frame(frame) => Input::FrameRefused { stream: frame.stream, mode: frame.mode },
                Item::Event(_) => Input::Dropped(Drop::EventOverflow),
            };
            self.shard.handle(input, now());
        }
    }

    fn arm(&mut self, wake: Time) -> io::Result<()> {
        if wake == self.armed {
            return Ok(());
        }
        self.armed = wake;
        if wake == Time::NEVER {
            return Ok(self.timer.unset()?);
        }
        // Zero would disarm it; a time gone by fires at once.
        let at = TimeSpec::from_duration(Duration::from_nanos(wake.0.max(1)));
        Ok(self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    // ---- commands ----------------------------------------------------------------------------------------------

    pub fn open_leg(&mut self, config: LegConfig, binding: &Binding, now: Now) -> io::Result<LegId> {
        if let Some(problem) = config.problem() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let mut bound = Vec::new();
        for (medium, port) in config.media.iter().zip(&binding.ports) {
            let name = |error: io::Error| {
                io::Error::new(error.kind(), format!("{} port {port}: {error}", medium.media.name()))
            };
            bound.push(if config.rtcp_mux {
                (Socket::bind(binding.ip, *port).map_err(name)?, None)
            } else {
                let (rtp, rtcp) = Socket::bind_pair(binding.ip, *port).map_err(name)?;
                (rtp, Some(rtcp))
            });
        }
        let mut ids = Vec::new();
        for (rtp, rtcp) in &bound {
            let id = SockId(self.next_socket);
            let rtcp_id = SockId(self.next_socket + u64::from(rtcp.is_some()));
            self.next_socket = rtcp_id.0 + 1;
            ids.push(Sockets { rtp: id, rtcp: rtcp_id });
            self.epoll.add(rtp, EpollEvent::new(EpollFlags::EPOLLIN, id.0))?;
            if let Some(rtcp) = rtcp {
                self.epoll.add(rtcp, EpollEvent::new(EpollFlags::EPOLLIN, rtcp_id.0))?;
            }
        }
        let media: Vec<Media> = config.media.iter().map(|medium| medium.media).collect();
        let leg = self.shard.open_leg(config, &ids, now);
        for (((rtp, rtcp), id), media) in bound.into_iter().zip(ids).zip(media) {
            self.sockets.insert(id.rtp, Bound { leg, media, rtp: true, socket: rtp });
            if let Some(socket) = rtcp {
                self.sockets.insert(id.rtcp, Bound { leg, media, rtp: false, socket });
            }
        }
        self.admit(); // before anybody hears of its ports
        Ok(leg)
    }

    pub fn close_leg(&mut self, leg: LegId, bye: bool, now: Now) {
        self.count_unreceived();
        self.shard.close_leg(leg, bye, now);
        self.flush(); // the BYEs need the sockets
        self.sockets.retain(|_, bound| bound.leg != leg); // closing leaves the epoll set
    }

    pub fn stats(&mut self) -> Value {
        self.count_unreceived();
        self.shard.stats()
    }

    fn count_unreceived(&mut self) {
        let unreceived: u64 = self.sockets.values_mut().map(|bound| bound.socket.unreceived()).sum();
        self.shard.count(Drop::KernelDropped, unreceived);
    }

    pub fn local_ports(&self, leg: LegId) -> Vec<(Media, u16)> {
        let rtp = self.sockets.values().filter(|bound| bound.leg == leg && bound.rtp);
        rtp.map(|bound| (bound.media, bound.socket.port())).collect()
    }

    pub fn stop(&mut self, bye: bool, now: Now) {
        for leg in self.shard.leg_ids() {
            self.close_leg(leg, bye, now);
        }
        self.stopping = true;
    }
}

impl Parts {
    pub fn open(inbox: Inbox, queue: Arc<Queue>, numbering: Numbering) -> io::Result<Parts> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(TimerClock::CLOCK_MONOTONIC, flags)?;
        epoll.add(&inbox, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WAKE))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?; // fail here rather than on the thread
        let shard = Shard::numbered(Box::new(random), numbering);
        Ok(Parts { epoll, timer, inbox, queue, shard })
    }

    pub fn build(self) -> Worker {
        Worker {
            shard: self.shard,
            epoll: self.epoll,
            timer: self.timer,
            armed: Time::NEVER,
            inbox: self.inbox,
            queue: self.queue,
            sockets: HashMap::new(),
            next_socket: FIRST_SOCKET,
            batches: Batches::default(),
            packets: Vec::new(),
            items: Vec::new(),
            stopping: false,
        }
    }
}

/// Drains the shard, as it must be between two inputs.
fn collect(shard: &mut Shard, packets: &mut Vec<Transmit>, items: &mut Vec<Item>) -> Time {
    loop {
        match shard.poll() {
            Output::Transmit(packet) => packets.push(packet),
            Output::Frame(frame) => items.push(Item::Frame(frame)),
            Output::Event(event) => items.push(Item::Event(event)),
            Output::Timeout(at) => return at,
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel's pool answered when the engine started; it does not stop doing so.
    getrandom::fill(&mut bytes).expect("the kernel's random numbers");
    u64::from_ne_bytes(bytes)
}

pub fn thread_cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
