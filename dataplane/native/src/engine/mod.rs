//! The rim: one thread that owns the sockets, the timer and the only clock, and drives a [`Shard`]. The binding (and the
//! benchmark) talk to it through [`Engine`]: commands go in over a bounded channel and wake the thread by an eventfd,
//! frames and events come out of a bounded queue, and another eventfd says when it has something.

mod filter;
mod queue;
pub mod socket;
mod worker;

use crate::core::codec::Media;
use crate::core::leg_plain::LegConfig;
use crate::core::shard::Shard;
use crate::core::stats::Value;
use crate::core::{LegId, Now, Time};
pub use queue::Item;
use queue::Queue;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use worker::{Command, Parts, Worker};

/// Commands waiting for the thread; a caller beyond that waits.
const MAX_COMMANDS: usize = 256;

/// The engine's thread is gone: closed, or it panicked and its legs failed.
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
    commands: SyncSender<Command>,
    wake: Arc<nix::sys::eventfd::EventFd>,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    pub fn start() -> io::Result<Engine> {
        let (commands, inbox) = sync_channel(MAX_COMMANDS);
        let queue = Arc::new(Queue::new()?);
        let (parts, wake) = Parts::open(inbox, queue.clone())?;
        let thread = std::thread::Builder::new().name("auralink-packets".into()).spawn(move || parts.build().run())?;
        Ok(Engine { commands, wake, queue, thread: Mutex::new(Some(thread)) })
    }

    /// Readable while `poll` has something.
    pub fn fileno(&self) -> RawFd {
        self.queue.fileno()
    }

    pub fn poll(&self, max: usize) -> Vec<Item> {
        self.queue.pop(max)
    }

    /// Runs `act` on the engine's thread and waits for its result.
    pub fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Shard, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.run(move |worker, now| act(&mut worker.shard, now))
    }

    pub fn open_leg(&self, config: LegConfig, binding: Binding) -> Result<io::Result<LegId>, Stopped> {
        self.run(move |worker, now| worker.open_leg(config, &binding, now))
    }

    pub fn close_leg(&self, leg: LegId, bye: bool) -> Result<(), Stopped> {
        self.run(move |worker, now| worker.close_leg(leg, bye, now))
    }

    /// The bound RTP port per medium; empty for an unknown leg.
    pub fn local_ports(&self, leg: LegId) -> Result<Vec<(Media, u16)>, Stopped> {
        self.run(move |worker, _| worker.local_ports(leg))
    }

    pub fn stats(&self) -> Result<Value, Stopped> {
        self.run(|worker, _| worker.stats())
    }

    /// CPU time that the engine's thread has used, for benchmarks.
    pub fn cpu_time(&self) -> Result<std::time::Duration, Stopped> {
        self.run(|_, _| worker::thread_cpu_time())
    }

    /// Says BYE if asked to, closes the sockets and ends the thread; idempotent.
    pub fn close(&self, bye: bool) {
        // The reply proves that the thread saw it; an error means it is gone already.
        let _ = self.run(move |worker, now| worker.stop(bye, now));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join(); // its panic was reported as LegFailed
        }
    }

    fn run<R: Send + 'static>(&self, act: impl FnOnce(&mut Worker, Now) -> R + Send + 'static) -> Result<R, Stopped> {
        let (reply, answer) = sync_channel(1);
        let command: Command = Box::new(move |worker, now| {
            let _ = reply.send(act(worker, now)); // the caller waits for it
        });
        self.commands.send(command).map_err(|_| Stopped)?;
        let _ = self.wake.write(1); // full means woken
        answer.recv().map_err(|_| Stopped)
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
