//! RTCP to and from bytes: SR, RR, SDES, BYE (RFC 3550 section 6), NACK, PLI (RFC 4585), FIR (RFC 5104), and of XR what
//! measures a round trip without sending media (RFC 3611 sections 4.4 and 4.5). Compound only.
//!
//! ```text
//! |V=2|P| count/FMT |      PT       |      length in words - 1      |
//! ```

use super::rtp::Malformed;
use super::{be16, be32};

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const RTPFB: u8 = 205;
const PSFB: u8 = 206;
const XR: u8 = 207;
const XR_REFERENCE_TIME: u8 = 4;
const XR_SINCE_REFERENCE: u8 = 5;
const FMT_NACK: u8 = 1;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const CNAME: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub ssrc: u32,
    /// Of 256, since the last report.
    pub fraction_lost: u8,
    /// 24 bit, signed.
    pub lost: i32,
    pub highest_sequence: u32,
    pub jitter: u32,
    /// Middle 32 bits of the last SR's NTP time, and how long ago it came in 1/65536 s; 0 = none yet.
    pub last_sr: u32,
    pub delay: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rtcp {
    SenderReport {
        ssrc: u32,
        ntp: u64,
        rtp: u32,
        packets: u32,
        octets: u32,
        blocks: Vec<Block>,
    },
    ReceiverReport {
        ssrc: u32,
        blocks: Vec<Block>,
    },
    Bye {
        ssrcs: Vec<u32>,
    },
    Nack {
        sender: u32,
        media: u32,
        lost: Vec<u16>,
    },
    Pli {
        sender: u32,
        media: u32,
    },
    Fir {
        sender: u32,
        entries: Vec<(u32, u8)>,
    },
    /// A receiver's clock, for us to echo.
    ReferenceTime {
        sender: u32,
        ntp: u64,
    },
    /// The echo of ours.
    SinceReference {
        echoes: Vec<Echoed>,
    },
}

/// How long ago a receiver's reference time came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echoed {
    /// The receiver's.
    pub ssrc: u32,
    /// Middle 32 bits of its NTP time.
    pub reference: u32,
    /// In 1/65536 s.
    pub delay: u32,
}

/// The packets we know of a compound; others are skipped. It must begin with a report (RFC 3550 appendix A.2).
pub fn parse(bytes: &[u8]) -> Result<Vec<Rtcp>, Malformed> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    let mut first = true;
    while !rest.is_empty() {
        if rest.len() < 4 || rest[0] >> 6 != 2 {
            return Err(Malformed);
        }
        let (count, kind) = (rest[0] & 0x1f, rest[1]);
        if first && kind != SR && kind != RR {
            return Err(Malformed);
        }
        let len = 4 * (usize::from(be16(rest, 2)) + 1);
        let packet = rest.get(..len).ok_or(Malformed)?;
        let mut body = &packet[4..];
        if rest[0] & 0x20 != 0 {
            let padding = usize::from(*body.last().ok_or(Malformed)?);
            body = body.get(..body.len().wrapping_sub(padding)).filter(|_| padding > 0).ok_or(Malformed)?;
        }
        match kind {
            XR => parse_extended(body, &mut packets)?,
            _ => packets.extend(parse_one(kind, count, body)?),
        }
        rest = &rest[len..];
        first = false;
    }
    if first { Err(Malformed) } else { Ok(packets) }
}

fn parse_one(kind: u8, count: u8, body: &[u8]) -> Result<Option<Rtcp>, Malformed> {
    let need = |n: usize| if body.len() < n { Err(Malformed) } else { Ok(()) };
    Ok(match (kind, count) {
        (SR, _) => {
            need(24)?;
            Some(Rtcp::SenderReport {
                ssrc: be32(body, 0),
                ntp: u64::from(be32(body, 4)) << 32 | u64::from(be32(body, 8)),
                rtp: be32(body, 12),
                packets: be32(body, 16),
                octets: be32(body, 20),
                blocks: parse_blocks(&body[24..], count)?,
            })
        }
        (RR, _) => {
            need(4)?;
            Some(Rtcp::ReceiverReport { ssrc: be32(body, 0), blocks: parse_blocks(&body[4..], count)? })
        }
        (BYE, n) => {
            need(4 * usize::from(n))?;
            Some(Rtcp::Bye { ssrcs: (0..usize::from(n)).map(|i| be32(body, 4 * i)).collect() })
        }
        (RTPFB, FMT_NACK) => {
            need(8)?;
            let lost = body[8..].chunks_exact(4).flat_map(|fci| lost_of(be16(fci, 0), be16(fci, 2))).collect();
            Some(Rtcp::Nack { sender: be32(body, 0), media: be32(body, 4), lost })
        }
        (PSFB, FMT_PLI) => {
            need(8)?;
            Some(Rtcp::Pli { sender: be32(body, 0), media: be32(body, 4) })
        }
        (PSFB, FMT_FIR) => {
            need(8)?;
            let entries = body[8..].chunks_exact(8).map(|fci| (be32(fci, 0), fci[4])).collect();
            Some(Rtcp::Fir { sender: be32(body, 0), entries })
        }
        _ => None,
    })
}

/// The blocks we know of an extended report.
fn parse_extended(body: &[u8], packets: &mut Vec<Rtcp>) -> Result<(), Malformed> {
    let sender = be32(body, 0);
    let mut rest = body.get(4..).ok_or(Malformed)?;
    while !rest.is_empty() {
        let words = usize::from(be16(rest.get(..4).ok_or(Malformed)?, 2));
        let block = rest.get(4..4 + 4 * words).ok_or(Malformed)?;
        match (rest[0], words) {
            (XR_REFERENCE_TIME, 2) => {
                let ntp = u64::from(be32(block, 0)) << 32 | u64::from(be32(block, 4));
                packets.push(Rtcp::ReferenceTime { sender, ntp });
            }
            (XR_SINCE_REFERENCE, _) => {
                let echo = |b: &[u8]| Echoed { ssrc: be32(b, 0), reference: be32(b, 4), delay: be32(b, 8) };
                packets.push(Rtcp::SinceReference { echoes: block.chunks_exact(12).map(echo).collect() });
            }
            _ => {}
        }
        rest = &rest[4 + 4 * words..];
    }
    Ok(())
}

fn lost_of(first: u16, mask: u16) -> impl Iterator<Item = u16> {
    std::iter::once(first).chain((0..16).filter(move |i| mask >> i & 1 == 1).map(move |i| first.wrapping_add(i + 1)))
}

fn parse_blocks(body: &[u8], count: u8) -> Result<Vec<Block>, Malformed> {
    let blocks = body.get(..24 * usize::from(count)).ok_or(Malformed)?;
    Ok(blocks
        .chunks_exact(24)
        .map(|b| Block {
            ssrc: be32(b, 0),
            fraction_lost: b[4],
            lost: (be32(b, 4) << 8) as i32 >> 8,
            highest_sequence: be32(b, 8),
            jitter: be32(b, 12),
            last_sr: be32(b, 16),
            delay: be32(b, 20),
        })
        .collect())
}

/// Gathers one compound packet.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn sender_report(&mut self, ssrc: u32, ntp: u64, rtp: u32, packets: u32, octets: u32, blocks: &[Block]) {
        let at = self.begin(blocks.len() as u8, SR, ssrc);
        for word in [(ntp >> 32) as u32, ntp as u32, rtp, packets, octets] {
            self.word(word);
        }
        self.blocks(blocks);
        self.end(at);
    }

    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[Block]) {
        let at = self.begin(blocks.len() as u8, RR, ssrc);
        self.blocks(blocks);
        self.end(at);
    }

    /// CNAMEs (RFC 7022), at most 31 chunks.
    pub fn names(&mut self, names: &[(u32, &str)]) {
        let at = self.bytes.len();
        self.bytes.extend([0x80 | names.len() as u8, SDES, 0, 0]);
        for (ssrc, cname) in names {
            self.word(*ssrc);
            self.bytes.extend([CNAME, cname.len() as u8]);
            self.bytes.extend(cname.bytes());
            self.bytes.push(0); // end of list, then up to the next word
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        self.end(at);
    }

    pub fn bye(&mut self, ssrcs: &[u32]) {
        let at = self.bytes.len();
        self.bytes.extend([0x80 | ssrcs.len() as u8, BYE, 0, 0]);
        ssrcs.iter().for_each(|ssrc| self.word(*ssrc));
        self.end(at);
    }

    /// `lost` ascending, modulo the wrap.
    pub fn nack(&mut self, sender: u32, media: u32, lost: &[u16]) {
        let at = self.begin(FMT_NACK, RTPFB, sender);
        self.word(media);
        let mut lost = lost.iter().copied().peekable();
        while let Some(first) = lost.next() {
            let mut mask = 0u16;
            while let Some(next) = lost.next_if(|next| (1..=16).contains(&next.wrapping_sub(first))) {
                mask |= 1 << (next.wrapping_sub(first) - 1);
            }
            self.word(u32::from(first) << 16 | u32::from(mask));
        }
        self.end(at);
    }

    pub fn pli(&mut self, sender: u32, media: u32) {
        let at = self.begin(FMT_PLI, PSFB, sender);
        self.word(media);
        self.end(at);
    }

    pub fn reference_time(&mut self, sender: u32, ntp: u64) {
        let at = self.begin(0, XR, sender);
        for word in [u32::from(XR_REFERENCE_TIME) << 24 | 2, (ntp >> 32) as u32, ntp as u32] {
            self.word(word);
        }
        self.end(at);
    }

    pub fn since_reference(&mut self, sender: u32, echo: Echoed) {
        let at = self.begin(0, XR, sender);
        for word in [u32::from(XR_SINCE_REFERENCE) << 24 | 3, echo.ssrc, echo.reference, echo.delay] {
            self.word(word);
        }
        self.end(at);
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn begin(&mut self, count: u8, kind: u8, ssrc: u32) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0x80 | count & 0x1f, kind, 0, 0]);
        self.word(ssrc);
        at
    }

    fn end(&mut self, at: usize) {
        let words = ((self.bytes.len() - at) / 4 - 1) as u16;
        self.bytes[at + 2..at + 4].copy_from_slice(&words.to_be_bytes());
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend(word.to_be_bytes());
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for b in blocks.iter().take(31) {
            self.word(b.ssrc);
            self.word(u32::from(b.fraction_lost) << 24 | b.lost as u32 & 0x00ff_ffff);
            for word in [b.highest_sequence, b.jitter, b.last_sr, b.delay] {
                self.word(word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: Block =
        Block { ssrc: 9, fraction_lost: 3, lost: -5, highest_sequence: 70000, jitter: 4, last_sr: 5, delay: 6 };

    const ECHOED: Echoed = Echoed { ssrc: 8, reference: 9, delay: 10 };

    #[test]
    fn unknown_blocks_of_an_extended_report_are_skipped_and_overruns_told() {
        let mut w = Writer::default();
        w.receiver_report(1, &[]);
        w.reference_time(1, 5);
        let mut bytes = w.finish();
        let block = bytes.len() - 12;
        bytes[block] = 6; // statistics summary
        assert_eq!(parse(&bytes).unwrap().len(), 1);
        bytes[block + 3] = 3;
        assert_eq!(parse(&bytes), Err(Malformed));
    }

    #[test]
    fn a_compound_parses_back() {
        let mut w = Writer::default();
        w.sender_report(1, 2 << 32 | 3, 4, 5, 6, &[BLOCK]);
        w.receiver_report(1, &[BLOCK, BLOCK]);
        w.names(&[(1, "abc@auralink"), (2, "d@auralink")]);
        w.nack(1, 2, &[65534, 65535, 3, 100]);
        w.pli(1, 2);
        w.reference_time(1, 2 << 32 | 3);
        w.since_reference(1, ECHOED);
        w.bye(&[1, 2]);
        let packets = parse(&w.finish()).unwrap();
        assert_eq!(
            packets,
            [
                Rtcp::SenderReport { ssrc: 1, ntp: 2 << 32 | 3, rtp: 4, packets: 5, octets: 6, blocks: vec![BLOCK] },
                Rtcp::ReceiverReport { ssrc: 1, blocks: vec![BLOCK, BLOCK] },
                Rtcp::Nack { sender: 1, media: 2, lost: vec![65534, 65535, 3, 100] },
                Rtcp::Pli { sender: 1, media: 2 },
                Rtcp::ReferenceTime { sender: 1, ntp: 2 << 32 | 3 },
                Rtcp::SinceReference { echoes: vec![ECHOED] },
                Rtcp::Bye { ssrcs: vec![1, 2] },
            ]
        );
    }

    #[test]
    fn a_compound_must_begin_with_a_report() {
        let mut w = Writer::default();
        w.pli(1, 2);
        assert_eq!(parse(&w.finish()), Err(Malformed));
        assert_eq!(parse(&[]), Err(Malformed));
    }

    #[test]
    fn counts_beyond_the_packet_are_malformed() {
        let mut w = Writer::default();
        w.receiver_report(1, &[]);
        let mut bytes = w.finish();
        bytes[0] |= 1;
        assert_eq!(parse(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 200u8..208, words in 0u16..8) {
            let _ = parse(&bytes);
            if bytes.len() >= 4 {
                bytes[0] = 0x80 | bytes[0] & 0x3f;
                bytes[1] = kind;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
            }
            let mut w = Writer::default();
            w.receiver_report(1, &[]);
            let _ = parse(&[w.finish(), bytes].concat());
        }

        #[test]
        fn any_set_of_lost_numbers_comes_back(first: u16, steps in proptest::collection::vec(1u16..40, 0..50)) {
            let mut lost = vec![first];
            for step in steps { lost.push(lost[lost.len() - 1].wrapping_add(step)); }
            let mut w = Writer::default();
            w.receiver_report(1, &[]);
            w.nack(1, 2, &lost);
            let packets = parse(&w.finish()).unwrap();
            prop_assert_eq!(&packets[1], &Rtcp::Nack { sender: 1, media: 2, lost });
        }
    }
}
