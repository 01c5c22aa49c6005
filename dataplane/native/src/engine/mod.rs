//! The rim: threads that own the sockets, a timer and the only clock, and drive a [`Shard`] each. A room lives on one of
//! them: no packet crosses over, and nothing of one waits for another. The binding (and the benchmarks) talk to them
//! through [`Engine`]: commands go to a thread over its bounded [`inbox`] and wake it by an eventfd; frames and events of
//! all come out of one bounded queue, and another eventfd says when it has something. An id says which thread gave it out.
//!
//! What is asked for frame by frame waits for nobody: what the core refuses is told by an event.

mod filter;
pub mod inbox;
mod queue;
mod rooms;
pub mod socket;
mod thread;
mod worker;

use crate::core::codec::Media;
use crate::core::ext;
use crate::core::leg_plain::LegConfig;
use crate::core::mode::Policy;
use crate::core::shard::{Numbering, Shard};
use crate::core::stats::Value;
use crate::core::{LegId, Now, OutId, StreamId, Time};
use bytes::Bytes;
pub use queue::Item;
use queue::Queue;
use rooms::Rooms;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thread::Thread;

/// More would wait for Python anyway.
pub const MAX_THREADS: usize = 16;

/// The thread is gone: closed, or it panicked and its legs failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Where a leg's media are bound.
#[derive(Clone, Debug)]
pub struct Binding {
    pub ip: IpAddr,
    /// RTP ports in the order of the config's media; 0 = any.
    pub ports: Vec<u16>,
}

pub struct Engine {
    threads: Vec<Thread>,
    rooms: Mutex<Rooms>,
    queue: Arc<Queue>,
}

/// As many threads as make sense for whoever has this many cores: one is left to Python.
pub fn threads_for(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, MAX_THREADS)
}

impl Engine {
    /// At least one thread, and at most [`MAX_THREADS`].
    pub fn start(threads: usize) -> io::Result<Engine> {
        let (count, queue) = (threads.clamp(1, MAX_THREADS), Arc::new(Queue::new()?));
        let thread = |n| Thread::start(queue.clone(), Numbering { first: n as u64 + 1, step: count as u64 });
        let threads = (0..count).map(thread).collect::<io::Result<Vec<Thread>>>()?;
        Ok(Engine { threads, rooms: Mutex::new(Rooms::new(count)), queue })
    }

    /// Readable while `poll` has something.
    pub fn fileno(&self) -> RawFd {
        self.queue.fileno()
    }

    pub fn poll(&self, max: usize) -> Vec<Item> {
        self.queue.pop(max)
    }

    /// Runs `act` on the first thread and waits for its result: for tests and benchmarks, which have no other.
    pub fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Shard, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.threads[0].call(act)
    }

    pub fn open_leg(&self, config: LegConfig, binding: Binding) -> Result<io::Result<LegId>, Stopped> {
        let room = config.room.clone();
        let thread = self.rooms().enter(&room);
        let opened = self.threads[thread].run(move |worker, now| worker.open_leg(config, &binding, now));
        match &opened {
            Ok(Ok(leg)) => self.rooms().opened(*leg, room),
            Ok(Err(_)) | Err(_) => self.rooms().left(&room),
        }
        opened
    }

    pub fn close_leg(&self, leg: LegId, bye: bool) -> Result<(), Stopped> {
        self.rooms().closed(leg);
        self.of(leg.0).run(move |worker, now| worker.close_leg(leg, bye, now))
    }

    /// The bound RTP port per medium; empty for an unknown leg.
    pub fn local_ports(&self, leg: LegId) -> Result<Vec<(Media, u16)>, Stopped> {
        self.of(leg.0).run(move |worker, _| worker.local_ports(leg))
    }

    /// False: no such medium.
    pub fn set_remote(&self, leg: LegId, media: Media, remote: SocketAddr) -> Result<bool, Stopped> {
        self.of(leg.0).call(move |shard, _| shard.set_remote(leg, media, remote))
    }

    pub fn link(&self, stream: StreamId, leg: LegId) -> Result<Result<OutId, String>, Stopped> {
        if self.index(stream.0) != self.index(leg.0) {
            return Ok(Err(format!("stream {} and leg {} are of different rooms", stream.0, leg.0)));
        }
        self.of(leg.0).call(move |shard, now| shard.link(stream, leg, now))
    }

    pub fn unlink(&self, out: OutId) -> Result<(), Stopped> {
        self.of(out.0).call(move |shard, now| shard.unlink(out, now))
    }

    /// See `submit` in the `.pyi`; so are the next four.
    pub fn submit(
        &self,
        stream: StreamId,
        frame_id: u64,
        data: Option<Bytes>,
        ext: Option<ext::Value>,
        key: bool,
    ) -> Result<(), Stopped> {
        let bytes = data.as_ref().map_or(0, Bytes::len);
        self.post(stream, bytes, move |shard, now| shard.submit(stream, frame_id, data, ext, key, now))
    }

    pub fn drop_frame(&self, stream: StreamId, frame_id: u64) -> Result<(), Stopped> {
        self.post(stream, 0, move |shard, now| shard.drop_frame(stream, frame_id, now))
    }

    pub fn set_mode(&self, stream: StreamId, policy: Policy, at_frame: Option<u64>) -> Result<(), Stopped> {
        self.post(stream, 0, move |shard, now| {
            shard.set_mode(stream, policy, at_frame, now); // an unknown one has just ended; its event is on the way
        })
    }

    pub fn hold(&self, stream: StreamId) -> Result<(), Stopped> {
        self.post(stream, 0, move |shard, now| shard.hold(stream, now))
    }

    pub fn request_key(&self, stream: StreamId) -> Result<(), Stopped> {
        self.post(stream, 0, move |shard, now| shard.request_key(stream, now))
    }

    pub fn stats(&self) -> Result<Value, Stopped> {
        let mut all = Value::Map(Vec::new());
        for thread in &self.threads {
            all.add(thread.run(|worker, _| worker.stats())?);
        }
        Ok(all)
    }

    /// CPU time that the engine's threads have used, for benchmarks.
    pub fn cpu_time(&self) -> Result<Duration, Stopped> {
        self.threads.iter().map(Thread::cpu_time).sum()
    }

    /// Says BYE if asked to, closes the sockets and ends the threads; idempotent.
    pub fn close(&self, bye: bool) {
        self.threads.iter().for_each(|thread| thread.close(bye));
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that gave out an id; 0 is nobody's.
    fn index(&self, id: u64) -> usize {
        (id.saturating_sub(1) % self.threads.len() as u64) as usize
    }

    fn of(&self, id: u64) -> &Thread {
        &self.threads[self.index(id)]
    }

    fn post(
        &self,
        stream: StreamId,
        bytes: usize,
        act: impl FnOnce(&mut Shard, Now) + Send + 'static,
    ) -> Result<(), Stopped> {
        self.of(stream.0).post(stream, bytes, act)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close(true);
    }
}

/// The clocks; nothing else in the crate reads them.
fn now() -> Now {
    let read = |clock| nix::time::clock_gettime(clock).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    let mono = read(nix::time::ClockId::CLOCK_MONOTONIC);
    Now { mono: Time(0) + mono, unix: read(nix::time::ClockId::CLOCK_REALTIME) }
}
