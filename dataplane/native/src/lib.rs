//! Packets of one AuraLink pod. `core` decides (sans-IO), `engine` does the I/O on threads of its own, `python` is the
//! binding, present with the feature of that name.

pub mod core;
pub mod engine;
#[cfg(feature = "python")]
mod python;
