//! Who may send into a medium of a plain leg. A configured remote is exclusive. Else the first address
//! that sends [`PROBATION_PACKETS`] packets of one SSRC in sequence is locked; others are counted and dropped until it
//! falls silent or says goodbye. What strangers send costs a few remembered packets, never more.

use super::{Drop, StreamId, Time};
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PROBATION_PACKETS: usize = 3;
const PROBATION: Duration = Duration::from_secs(3);
/// Sources on probation at the same time; the stalest makes room.
const MAX_CANDIDATES: usize = 4;
/// A locked source silent for this long has ended.
pub const SILENCE: Duration = Duration::from_secs(30);

/// Whose datagrams a socket has a use for. What strangers send beside them only fills its buffer, at the cost of those
/// who are waited for; the kernel can be told not to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// The source is not known yet.
    Anyone,
    Address(SocketAddr),
    /// RTCP comes from any port.
    Host(IpAddr),
    /// rtcp-mux: the address, and its host's RTCP.
    Multiplexed(SocketAddr),
}

#[derive(Debug)]
struct Candidate {
    address: SocketAddr,
    ssrc: u32,
    last: Time,
    sequence: u16,
    /// Whole datagrams, so that the first keyframe of a new source is not lost.
    packets: Vec<Bytes>,
}

#[derive(Clone, Copy, Debug)]
pub struct Locked {
    pub address: SocketAddr,
    pub ssrc: u32,
    pub stream: StreamId,
    pub last: Time,
}

#[derive(Debug, Default)]
pub struct Source {
    configured: Option<SocketAddr>,
    locked: Option<Locked>,
    candidates: Vec<Candidate>,
    /// Packets of candidates that came to nothing.
    discarded: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// A packet of the locked source.
    Pass(StreamId),
    /// A new source is credible: start its stream, `lock` it, and receive these datagrams of it.
    Start(Vec<Bytes>),
    Drop(Drop),
    /// On probation; nothing to do yet.
    Wait,
}

impl Source {
    pub fn new(configured: Option<SocketAddr>) -> Source {
        Source { configured, ..Source::default() }
    }

    pub fn configure(&mut self, remote: SocketAddr) {
        self.configured = Some(remote);
        self.candidates.clear();
        if let Some(locked) = &mut self.locked {
            locked.address = remote; // the same peer under a new address
        }
    }

    pub fn locked(&self) -> Option<Locked> {
        self.locked
    }

    /// Where this medium's packets go to: never to an address nobody configured or locked.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.configured.or(self.locked.map(|locked| locked.address))
    }

    /// May media come from there at all? Asked before anything is spent on its packets.
    pub fn allows(&self, from: SocketAddr) -> bool {
        self.destination().is_none_or(|address| address == from)
    }

    pub fn admit(&mut self, from: SocketAddr, ssrc: u32, sequence: u16, datagram: &[u8], now: Time) -> Admission {
        if let Some(locked) = &mut self.locked
            && locked.address == from
            && locked.ssrc == ssrc
        {
            locked.last = now;
            return Admission::Pass(locked.stream);
        }
        if !self.allows(from) {
            return Admission::Drop(Drop::ForeignSource);
        }
        let candidate = self.candidate(from, ssrc, sequence, now);
        candidate.packets.push(Bytes::copy_from_slice(datagram));
        candidate.last = now;
        candidate.sequence = sequence;
        let trusted = self.configured.is_some() && self.locked.is_none();
        if !trusted && self.candidates.last().is_some_and(|c| c.packets.len() < PROBATION_PACKETS) {
            return Admission::Wait;
        }
        Admission::Start(self.candidates.pop().map(|candidate| candidate.packets).unwrap_or_default())
    }

    pub fn lock(&mut self, address: SocketAddr, ssrc: u32, stream: StreamId, now: Time) {
        let others = std::mem::take(&mut self.candidates);
        self.discard(others);
        self.locked = Some(Locked { address, ssrc, stream, last: now });
    }

    /// The stream ended; anyone may become the source.
    pub fn unlock(&mut self) {
        self.locked = None;
    }

    /// RTCP comes from other ports of the same host.
    pub fn owns_address(&self, from: SocketAddr) -> bool {
        self.destination().is_some_and(|address| address.ip() == from.ip())
    }

    /// Packets of sources that did not prove credible, since the last call.
    pub fn take_discarded(&mut self) -> u64 {
        std::mem::take(&mut self.discarded)
    }

    /// When the locked source counts as silent.
    pub fn silent_at(&self) -> Option<Time> {
        self.locked.map(|locked| locked.last + SILENCE)
    }

    /// The candidate this packet belongs to, moved to the end; a new one if it breaks the sequence.
    fn candidate(&mut self, from: SocketAddr, ssrc: u32, sequence: u16, now: Time) -> &mut Candidate {
        let known = self.candidates.iter().position(|c| c.address == from && c.ssrc == ssrc);
        let known = known.map(|at| self.candidates.remove(at));
        let fits = |c: &Candidate| now - c.last <= PROBATION && c.sequence.wrapping_add(1) == sequence;
        let candidate = match known {
            Some(candidate) if fits(&candidate) => candidate,
            other => {
                self.discard(other);
                Candidate { address: from, ssrc, last: now, sequence, packets: Vec::new() }
            }
        };
        if self.candidates.len() == MAX_CANDIDATES {
            let stalest = self.candidates.remove(0);
            self.discard(Some(stalest));
        }
        self.candidates.push(candidate);
        let end = self.candidates.len() - 1;
        &mut self.candidates[end]
    }

    fn discard(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        self.discarded += candidates.into_iter().map(|c| c.packets.len() as u64).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: StreamId = StreamId(1);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 5000))
    }

    fn feed(source: &mut Source, from: u8, ssrc: u32, sequences: &[u16], at_ms: u64) -> Admission {
        sequences
            .iter()
            .map(|s| source.admit(address(from), ssrc, *s, &s.to_be_bytes(), Time::from_millis(at_ms)))
            .last()
            .unwrap()
    }

    fn locked() -> Source {
        let mut source = Source::default();
        source.lock(address(1), 7, S, Time(0));
        source
    }

    #[test]
    fn three_packets_in_sequence_start_a_source_and_none_is_lost() {
        let mut source = Source::default();
        assert_eq!(feed(&mut source, 1, 7, &[65534, 65535], 0), Admission::Wait);
        let Admission::Start(packets) = feed(&mut source, 1, 7, &[0], 0) else { panic!() };
        assert_eq!(packets.len(), 3);
    }

    #[test]
    fn packets_out_of_sequence_or_too_slow_start_nothing() {
        let mut source = Source::default();
        assert_eq!(feed(&mut source, 1, 7, &[1, 5, 9, 20, 21], 0), Admission::Wait);
        assert_eq!(feed(&mut source, 1, 7, &[22], 3001), Admission::Wait);
    }

    #[test]
    fn strangers_never_take_over_a_locked_source() {
        let mut source = locked();
        assert_eq!(feed(&mut source, 2, 7, &[1, 2, 3, 4], 0), Admission::Drop(Drop::ForeignSource));
        assert_eq!(feed(&mut source, 1, 7, &[1], 0), Admission::Pass(S));
        assert_eq!(source.destination(), Some(address(1)));
    }

    #[test]
    fn a_new_ssrc_of_the_locked_address_has_to_prove_itself() {
        let mut source = locked();
        assert_eq!(feed(&mut source, 1, 8, &[1, 2], 0), Admission::Wait);
        assert!(matches!(feed(&mut source, 1, 8, &[3], 0), Admission::Start(_)));
    }

    #[test]
    fn a_configured_remote_is_exclusive_and_trusted_at_once() {
        let mut source = Source::new(Some(address(1)));
        assert_eq!(feed(&mut source, 2, 7, &[1, 2, 3], 0), Admission::Drop(Drop::ForeignSource));
        assert!(matches!(feed(&mut source, 1, 7, &[1], 0), Admission::Start(_)));
    }

    #[test]
    fn a_flood_of_strangers_is_remembered_within_the_bound() {
        let mut source = Source::default();
        for n in 0..200 {
            feed(&mut source, n, u32::from(n), &[1, 2], 0);
        }
        assert_eq!(source.candidates.len(), MAX_CANDIDATES);
        assert!(source.candidates.iter().all(|c| c.packets.len() < PROBATION_PACKETS));
    }
}
