//! What the unit tests of all payload formats need.

use super::{Limits, Payload};
use crate::core::Time;
use crate::core::packet::{Content, Packet};
use bytes::Bytes;

pub(super) const LIMITS: Limits = Limits { first: 1162, rest: 1186 };

pub(super) fn packet(payload: &[u8]) -> Packet {
    Packet {
        sequence: 0,
        timestamp: 0,
        marker: false,
        arrived: Time(0),
        payload: Bytes::copy_from_slice(payload),
        content: Content::Padding,
    }
}

pub(super) fn frame<P: AsRef<[u8]>>(payloads: &[P]) -> Vec<Packet> {
    payloads.iter().map(|payload| packet(payload.as_ref())).collect()
}

pub(super) fn bytes(payloads: impl AsRef<[Payload]>) -> Vec<Vec<u8>> {
    payloads.as_ref().iter().map(|payload| payload.parts().concat()).collect()
}

/// A byte stream of NAL units.
pub(super) fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
}
