//! From the engine's thread to Python: bounded, with an eventfd that is readable while there is something to fetch.

use crate::core::output::{Event, Frame};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Frames and notes beyond this are refused.
const MAX_FRAMES: usize = 1024;
/// Bytes of all frames waiting.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// Events are few and matter; this many stay even beside a full load of frames.
const MAX_ITEMS: usize = 8192;

#[derive(Debug)]
pub enum Item {
    Frame(Frame),
    Event(Event),
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    frames: usize,
    frame_bytes: usize,
    signalled: bool,
}

#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    readable: EventFd,
}

impl Queue {
    pub fn new() -> io::Result<Queue> {
        let readable = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Queue { state: Mutex::default(), readable })
    }

    pub fn fileno(&self) -> RawFd {
        self.readable.as_raw_fd()
    }

    /// Takes what has room; the rest comes back.
    pub fn push(&self, items: impl Iterator<Item = Item>) -> Vec<Item> {
        let mut refused = Vec::new();
        let mut signal = false;
        let mut state = self.lock();
        for item in items {
            let (room, wakes) = match &item {
                Item::Frame(frame) => {
                    (state.frames < MAX_FRAMES && state.frame_bytes + frame.data.len() <= MAX_FRAME_BYTES, true)
                }
                Item::Event(Event::FrameSent { .. }) => (state.items.len() < MAX_ITEMS / 2, false),
                Item::Event(_) => (state.items.len() < MAX_ITEMS, true),
            };
            if !room {
                refused.push(item);
                continue;
            }
            if let Item::Frame(frame) = &item {
                state.frames += 1;
                state.frame_bytes += frame.data.len();
            }
            state.items.push_back(item);
            signal |= wakes;
        }
        signal &= !state.signalled;
        state.signalled |= signal;
        drop(state);
        if signal {
            let _ = self.readable.write(1); // full means readable
        }
        refused
    }

    pub fn pop(&self, max: usize) -> Vec<Item> {
        let mut state = self.lock();
        let count = max.min(state.items.len());
        let items: Vec<Item> = state.items.drain(..count).collect();
        for item in &items {
            if let Item::Frame(frame) = item {
                state.frames -= 1;
                state.frame_bytes -= frame.data.len();
            }
        }
        if state.items.is_empty() && state.signalled {
            state.signalled = false;
            let _ = self.readable.read(); // under the lock, so that no later signal is eaten
        }
        items
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
