//! How a stream's frames are handled, and what kind of frame leaves. Below `ledger`, which decides with these words, and
//! `output`, which tells of them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bypass,
    Compress,
    Shadow,
}

/// How frames are handled, as `set_mode` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    /// Native frames carry the extension too.
    pub extension: bool,
    pub degraded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Native,
    Compressed,
}
