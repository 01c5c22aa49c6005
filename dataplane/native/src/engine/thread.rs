//! One thread of the engine as the others see it: where its commands go, and its end.

use super::queue::Queue;
use super::worker::{self, Parts, Worker};
use super::{Stopped, inbox};
use crate::core::shard::{Numbering, Shard};
use crate::core::{Now, StreamId};
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub struct Thread {
    commands: inbox::Sender,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Thread {
    pub fn start(queue: Arc<Queue>, numbering: Numbering) -> io::Result<Thread> {
        let (commands, inbox) = inbox::open()?;
        let parts = Parts::open(inbox, queue, numbering)?;
        let handle = std::thread::Builder::new().name("auralink-packets".into()).spawn(move || parts.build().run())?;
        Ok(Thread { commands, handle: Mutex::new(Some(handle)) })
    }

    /// Has it run `act`, and waits for the result.
    pub fn run<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Worker, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (reply, answer) = sync_channel(1);
        self.commands.send(Box::new(move |worker, now| {
            let _ = reply.send(act(worker, now)); // the caller waits for it
        }))?;
        answer.recv().map_err(|_| Stopped)
    }

    pub fn call<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Shard, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        self.run(move |worker, now| act(&mut worker.shard, now))
    }

    /// Has it run `act`, behind what was asked for before, and waits neither for it nor for room.
    pub fn post(
        &self,
        stream: StreamId,
        bytes: usize,
        act: impl FnOnce(&mut Shard, Now) + Send + 'static,
    ) -> Result<(), Stopped> {
        self.commands.post(stream, bytes, Box::new(move |worker, now| act(&mut worker.shard, now)))
    }

    /// CPU time that it has used.
    pub fn cpu_time(&self) -> Result<Duration, Stopped> {
        self.run(|_, _| worker::thread_cpu_time())
    }

    /// Says BYE if asked to, closes the sockets and ends; idempotent.
    pub fn close(&self, bye: bool) {
        // The reply proves that the thread saw it; an error means it is gone already.
        let _ = self.run(move |worker, now| worker.stop(bye, now));
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            let _ = handle.join(); // its panic was reported as LegFailed
        }
    }
}
