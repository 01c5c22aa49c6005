//! Copies of packets sent, to answer NACKs from. Bounded in number and age, and so is what they may cost: a NACK of 16
//! bytes asks for 20 kB, anybody who can write a receiver's address may send it, and all rooms share one thread.

use super::rtp::{self, Header, MTU_BYTES, RTX_BYTES, Rtp};
use super::{Time, be16, ext};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Duration;

const MAX_PACKETS: usize = 1024;
const MAX_AGE: Duration = Duration::from_secs(3);
/// A packet that was lost this often again will not get there in time. LiveKit resends three times (`maxAck`); at 20 %
/// loss that leaves one packet in 600 unrepaired, five times one in 15,000.
const MAX_RESENDS: u8 = 5;
/// One byte per so many sent may be resent: enough for a loss of 20 %, that of the resends included. Beyond it resends
/// make a congestion worse, and a key is what helps. libwebrtc's limit (`retransmission_rate_limiter_`) is the estimated
/// bandwidth; we have no estimate, and no proof of who asks.
const SENT_PER_RESENT: u64 = 4;
/// What may be resent at once, whatever the rate: the largest usual key, or half a second of 4 Mb/s.
const MOST_CREDIT: u64 = 256 << 10;
/// What a stream earns each second that sends next to nothing: a lost key of a still slide is repaired in one.
const LEAST_PER_SECOND: u64 = 12 << 10;
const NANO: u64 = 1_000_000_000;
/// A packet with the SSRC of our retransmissions this close behind their newest number is one of ours; a peer that happened
/// to choose the same SSRC chose other numbers too.
const LOOP_PACKETS: u16 = 1024;

#[derive(Debug)]
struct Sent {
    at: Time,
    resent: Option<Time>,
    times: u8,
    bytes: Bytes,
}

/// What a NACK for one packet comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend {
    Packet(Bytes),
    /// Gone, or on its way since less than a round trip.
    Nothing,
    /// There, but asked for too often or beyond the budget.
    Refused,
}

/// How many bytes may be resent: a share of those sent, saved up to a bound.
#[derive(Debug)]
struct Budget {
    /// In billionths of a byte, so that nothing is rounded.
    credit: u64,
    since: Time,
}

impl Default for Budget {
    /// Full: the first key is the largest frame, and as likely to be lost.
    fn default() -> Budget {
        Budget { credit: MOST_CREDIT * NANO, since: Time(0) }
    }
}

impl Budget {
    fn sent(&mut self, bytes: u64) {
        self.earn(bytes * (NANO / SENT_PER_RESENT));
    }

    /// False: more than there is.
    fn spend(&mut self, bytes: u64, now: Time) -> bool {
        let waited = (now - self.since).min(MAX_AGE);
        self.since = self.since.max(now);
        self.earn(waited.as_nanos() as u64 * LEAST_PER_SECOND);
        let Some(left) = self.credit.checked_sub(bytes * NANO) else { return false };
        self.credit = left;
        true
    }

    fn earn(&mut self, credit: u64) {
        self.credit = (self.credit + credit).min(MOST_CREDIT * NANO);
    }
}

/// Packets of one out, whose numbers are contiguous.
#[derive(Debug, Default)]
pub struct SentPackets {
    /// Of `packets[0]`.
    first: u64,
    packets: VecDeque<Sent>,
    budget: Budget,
}

impl SentPackets {
    pub fn push(&mut self, sequence: u64, bytes: Bytes, now: Time) {
        if self.packets.is_empty() || sequence != self.first + self.packets.len() as u64 {
            self.packets.clear();
            self.first = sequence;
        }
        self.budget.sent(bytes.len() as u64);
        self.packets.push_back(Sent { at: now, resent: None, times: 0, bytes });
        while self.packets.len() > MAX_PACKETS || self.packets.front().is_some_and(|p| now - p.at > MAX_AGE) {
            self.packets.pop_front();
            self.first += 1;
        }
    }

    /// The packet to send again, unless that was done within the last round trip.
    pub fn again(&mut self, sequence: u16, now: Time, round_trip: Duration) -> Resend {
        let index = usize::from(sequence.wrapping_sub(self.first as u16));
        let Some(sent) = self.packets.get_mut(index) else { return Resend::Nothing };
        let waiting = sent.resent.is_some_and(|at| now - at < round_trip);
        if waiting || now - sent.at > MAX_AGE {
            return Resend::Nothing;
        }
        if sent.times == MAX_RESENDS || !self.budget.spend(sent.bytes.len() as u64, now) {
            return Resend::Refused;
        }
        sent.resent = Some(now);
        sent.times += 1;
        Resend::Packet(sent.bytes.clone())
    }

    /// The numbering starts anew; the budget does not.
    pub fn forget(&mut self) {
        self.packets.clear();
    }
}

/// A retransmission stream beside an outgoing one (RFC 4588 section 4): SSRC, payload type and numbers of its own.
#[derive(Debug)]
pub struct Retransmissions {
    pub ssrc: u32,
    payload_type: u8,
    next: u64,
    pub packets: u64,
    pub payload_bytes: u64,
}

impl Retransmissions {
    /// `random` gives the first sequence number, as for the stream itself.
    pub fn new(ssrc: u32, payload_type: u8, random: u64) -> Retransmissions {
        Retransmissions { ssrc, payload_type, next: random % (1 << 15), packets: 0, payload_bytes: 0 }
    }

    /// Another SSRC, and numbers that no packet had under it.
    pub fn rename(&mut self, ssrc: u32, random: u64) {
        *self = Retransmissions::new(ssrc, self.payload_type, random);
    }

    /// Whether a packet that came in is one of ours, led back to us (RFC 3550 8.2).
    pub fn sent_lately(&self, rtp: &Rtp<'_>) -> bool {
        let behind = (self.next as u16).wrapping_sub(1).wrapping_sub(rtp.sequence);
        rtp.ssrc == self.ssrc && self.packets > 0 && u64::from(behind) < self.packets.min(LOOP_PACKETS.into())
    }

    /// A packet that was sent, as retransmission with its own number: the packet's number in front of its payload, the rest
    /// as it was. None: it leaves no room for that.
    pub fn wrap(&mut self, sent: &[u8]) -> Option<(u64, BytesMut)> {
        if sent.len() + RTX_BYTES > MTU_BYTES {
            return None;
        }
        let Rtp { marker, sequence, timestamp, extension, payload, .. } = rtp::parse(sent).ok()?;
        let elements: Vec<(u8, &[u8])> =
            extension.map(|(profile, body)| ext::each(profile, body).collect()).unwrap_or_default();
        let (payload_type, own) = (self.payload_type, self.next);
        let header = Header { marker, payload_type, sequence: own as u16, timestamp, ssrc: self.ssrc };
        self.next += 1;
        self.packets += 1;
        self.payload_bytes += (RTX_BYTES + payload.len()) as u64;
        Some((own, rtp::write(&header, &elements, [&sequence.to_be_bytes(), payload])))
    }
}

/// What a retransmission repeats: a packet of `ssrc`, of its codec's payload type. None: padding, or too short to repeat
/// any: an empty payload would be taken for padding that closes a hole.
pub fn unwrap<'a>(rtx: &Rtp<'a>, ssrc: u32, payload_type: u8) -> Option<Rtp<'a>> {
    let payload = rtx.payload.get(RTX_BYTES..).filter(|payload| !payload.is_empty())?;
    Some(Rtp { ssrc, payload_type, sequence: be16(rtx.payload, 0), payload, ..*rtx })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Rule 31: the original number is in front of the payload.
        #[test]
        fn a_retransmission_unwraps_to_what_was_sent(marker: bool, sequence: u16, timestamp: u32, value: [u8; 16], with: bool,
                                                     payload in proptest::collection::vec(any::<u8>(), 1..1188)) {
            let header = Header { marker, payload_type: 96, sequence, timestamp, ssrc: 7 };
            let elements = [(14, &value[..])];
            let sent = rtp::write(&header, &elements[..usize::from(with)], [&payload, &[]]);
            let mut stream = Retransmissions::new(8, 97, 65_535);
            let wrapped = stream.wrap(&sent);
            prop_assert_eq!(wrapped.is_none(), sent.len() > MTU_BYTES - RTX_BYTES);
            if let Some((number, wrapped)) = wrapped {
                prop_assert!(wrapped.len() <= MTU_BYTES);
                prop_assert_eq!(number, 32_767);
                let rtx = rtp::parse(&wrapped).unwrap();
                prop_assert_eq!((rtx.ssrc, rtx.payload_type, rtx.sequence), (8, 97, 32_767));
                prop_assert_eq!(unwrap(&rtx, 7, 96), Some(rtp::parse(&sent).unwrap()));
            }
        }
    }

    /// Rule 9: an SSRC that its receivers have not heard begins in the count of rollovers that they expect.
    #[test]
    fn under_another_ssrc_the_numbers_begin_anew() {
        let header = Header { marker: false, payload_type: 96, sequence: 1, timestamp: 2, ssrc: 7 };
        let sent = rtp::write(&header, &[], [&[1], &[]]);
        let mut stream = Retransmissions::new(8, 97, 32_000);
        (0..70_000).for_each(|_| drop(stream.wrap(&sent)));
        stream.rename(9, 70_001);
        let (number, packet) = stream.wrap(&sent).unwrap();
        assert_eq!((number, rtp::parse(&packet).unwrap().ssrc, stream.packets), (70_001 % 32_768, 9, 1));
    }

    const RTT: Duration = Duration::from_millis(50);

    fn filled(n: u64) -> SentPackets {
        let mut cache = SentPackets::default();
        for sequence in 0..n {
            cache.push(65000 + sequence, Bytes::copy_from_slice(&sequence.to_be_bytes()), Time(0));
        }
        cache
    }

    fn resent(cache: &mut SentPackets, sequence: u16, now: Time) -> bool {
        matches!(cache.again(sequence, now, RTT), Resend::Packet(_))
    }

    #[test]
    fn a_packet_is_found_by_its_16_bit_number_over_the_wrap() {
        let mut cache = filled(1000);
        let found = cache.again(65700u32 as u16, Time(1), RTT);
        assert_eq!(found, Resend::Packet(Bytes::copy_from_slice(&700u64.to_be_bytes())));
    }

    #[test]
    fn once_per_round_trip() {
        let mut cache = filled(10);
        assert!(resent(&mut cache, 65003, Time(0)));
        assert_eq!(cache.again(65003, Time::from_millis(49), RTT), Resend::Nothing);
        assert!(resent(&mut cache, 65003, Time::from_millis(50)));
    }

    #[test]
    fn old_and_surplus_packets_are_gone() {
        let mut cache = filled(MAX_PACKETS as u64 + 5);
        assert_eq!(cache.packets.len(), MAX_PACKETS);
        assert_eq!(cache.again(65004, Time(0), RTT), Resend::Nothing);
        assert!(resent(&mut cache, 65005, Time(0)));
        assert_eq!(cache.again(65005, Time::from_millis(3001), RTT), Resend::Nothing);
    }

    #[test]
    fn a_packet_is_resent_five_times_and_no_more() {
        let mut cache = filled(10);
        let times = (0..20).filter(|n| resent(&mut cache, 65003, Time::from_millis(n * 50))).count();
        assert_eq!(times, usize::from(MAX_RESENDS));
        assert_eq!(cache.again(65003, Time::from_millis(1000), RTT), Resend::Refused);
        assert!(resent(&mut cache, 65004, Time::from_millis(1000)), "the others are as they were");
    }

    #[test]
    fn the_budget_is_full_at_first_and_earns_a_quarter_of_what_is_sent() {
        let mut budget = Budget::default();
        assert!(budget.spend(MOST_CREDIT, Time(0)));
        assert!(!budget.spend(1, Time(0)));
        budget.sent(4000);
        assert!(budget.spend(1000, Time(0)));
        assert!(!budget.spend(1, Time(0)));
        budget.sent(100 << 20);
        assert!(budget.spend(MOST_CREDIT, Time(0)), "saved up");
        assert!(!budget.spend(1, Time(0)), "to a bound");
    }

    #[test]
    fn a_stream_that_sends_next_to_nothing_earns_a_little_with_time() {
        let mut budget = Budget::default();
        assert!(budget.spend(MOST_CREDIT, Time(0)));
        let repaired = (1..=1000).filter(|ms| budget.spend(1200, Time::from_millis(*ms))).count() as u64;
        assert_eq!(repaired, LEAST_PER_SECOND / 1200);
    }

    #[test]
    fn a_new_numbering_brings_no_new_budget() {
        let mut cache = SentPackets::default();
        assert!(cache.budget.spend(MOST_CREDIT, Time(0)));
        cache.forget();
        cache.push(5, Bytes::from_static(&[0; 100]), Time(0));
        assert_eq!(cache.again(5, Time(0), RTT), Resend::Refused);
    }
}
