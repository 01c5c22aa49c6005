//! From Python to the engine's thread: commands in order, bounded, with an eventfd that wakes the thread once for as many as
//! came meanwhile. Who waits for a result waits for room too; whoever does not is told of an overflow by the stream that
//! the command was for, which fails.

use super::Stopped;
use super::worker::Worker;
use crate::core::{Now, StreamId};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What the thread is to do.
pub type Command = Box<dyn FnOnce(&mut Worker, Now) + Send>;

/// Commands waiting for the thread.
pub const MAX_COMMANDS: usize = 1024;
/// Bytes of all answers among them.
pub const MAX_BYTES: usize = 64 << 20;
/// Streams whose commands were lost, until the thread hears of them.
const MAX_LOST: usize = 1024;

/// The callers' end.
#[derive(Clone)]
pub struct Sender {
    commands: SyncSender<(usize, Command)>,
    shared: Arc<Shared>,
}

/// The thread's end.
pub struct Inbox {
    commands: Receiver<(usize, Command)>,
    shared: Arc<Shared>,
}

struct Shared {
    wake: EventFd,
    /// The thread is awake, or will be.
    woken: AtomicBool,
    bytes: AtomicUsize,
    /// Commands by stream.
    lost: Mutex<BTreeMap<StreamId, u64>>,
}

pub fn open() -> io::Result<(Sender, Inbox)> {
    let (commands, inbox) = sync_channel(MAX_COMMANDS);
    let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
    let (woken, bytes, lost) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::default());
    let shared = Arc::new(Shared { wake, woken, bytes, lost });
    Ok((Sender { commands, shared: shared.clone() }, Inbox { commands: inbox, shared }))
}

impl Sender {
    /// Waits for room.
    pub fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send((0, command)).map_err(|_| Stopped)?;
        self.wake();
        Ok(())
    }

    /// Does not wait: without room for it and the `bytes` that it holds, `stream` fails.
    pub fn post(&self, stream: StreamId, bytes: usize, command: Command) -> Result<(), Stopped> {
        let room = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES;
        let sent = if room { self.commands.try_send((bytes, command)) } else { Err(TrySendError::Full((0, command))) };
        if let Err(error) = sent {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Disconnected(_) => return Err(Stopped),
                TrySendError::Full(_) => self.shared.lose(stream),
            }
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if !self.shared.woken.swap(true, Ordering::AcqRel) {
            let _ = self.shared.wake.write(1); // never read, never full: it counts to 2^64
        }
    }
}

impl Inbox {
    /// The thread is awake and looks; what comes from now on wakes it again. The eventfd is watched for edges and never
    /// read.
    pub fn awake(&self) {
        self.shared.woken.swap(false, Ordering::AcqRel);
    }

    pub fn next(&self) -> Option<Command> {
        let (bytes, command) = self.commands.try_recv().ok()?;
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(command)
    }

    /// Streams for which there was no room, and for how many commands.
    pub fn take_lost(&self) -> BTreeMap<StreamId, u64> {
        std::mem::take(&mut *self.shared.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn lose(&self, stream: StreamId) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < MAX_LOST || lost.contains_key(&stream) {
            *lost.entry(stream).or_default() += 1;
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}
