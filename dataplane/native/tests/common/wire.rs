//! What stands between the peers of a call and its shard, as a seed has it: retransmissions in a stream of their own, other
//! header extensions, encryption. Packets get it here as a sender gives it to them, and lose it as a receiver takes it off;
//! of the crate's code only its ciphers are used, which RFC vectors check.

use super::{IN_RTP, OUT_RTP, Random, config, receiver, sender};
use auralink_native::core::elements::{Ids, VIDEO_ORIENTATION};
use auralink_native::core::leg_plain::{Direction, LegConfig};
use auralink_native::core::rtcp::{self, Rtcp};
use auralink_native::core::srtp::{Config, Keys, Master, Protect, Suite, Unprotect};
use auralink_native::core::{Drop, SockId};
use bytes::BytesMut;
use std::collections::{HashMap, VecDeque};

/// Retransmissions have the payload type of what they repeat and this.
const RTX: u8 = 20;
const RTX_SSRC: u32 = 0x9999_0000;
pub const RED_PT: u8 = 63;
const SENT_KEPT: usize = 2000;
const MTU: usize = 1200;
/// On a frame's first packet: its timestamp, and again with all bits turned.
const CAPTURED: &str = "urn:auralink:test:captured";
/// Ids of it and of the orientation, on the sender's leg and on the receiver's; the first of the latter may be the other,
/// which takes the form of two bytes.
const IN_IDS: [u8; 2] = [3, 5];
const OUT_IDS: [u8; 2] = [5, 3];
const WIDE_ID: u8 = 20;
/// What their peers send with, and what we do.
const THEIRS: u8 = 0x35;
const OURS: u8 = 0xca;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub rtx: [bool; 2],
    pub srtp: [Option<Suite>; 2],
    pub red: [bool; 2],
    pub elements: bool,
    pub wide: bool,
}

impl Options {
    pub fn drawn(random: &mut Random, feedback: bool) -> Options {
        let mut some = || random.below(2) == 0;
        let (rtx, red) = ([(); 2].map(|()| some() && feedback), [(); 2].map(|()| some()));
        let (elements, wide) = (some(), some());
        let srtp = [(); 2].map(|()| [None, Some(Suite::ALL[0]), Some(Suite::ALL[1])][random.below(3) as usize]);
        Options { rtx, srtp, red, elements, wide }
    }

    fn out_ids(self) -> [u8; 2] {
        [if self.wide { WIDE_ID } else { OUT_IDS[0] }, OUT_IDS[1]]
    }

    /// The leg of the sender and that of the receiver.
    pub fn legs(self, feedback: bool) -> [LegConfig; 2] {
        let leg = |at: usize, direction, remote, ids: [u8; 2]| {
            let mut config = config(direction, feedback, Some(remote));
            for payload in config.media[0].payloads.iter_mut().filter(|_| self.rtx[at]) {
                payload.rtx = Some(payload.number + RTX);
            }
            config.media[1].payloads[0].red = self.red[at].then_some(RED_PT);
            if self.elements {
                config.ids = Ids::new(ids.into_iter().zip([CAPTURED, VIDEO_ORIENTATION].map(str::to_owned)));
            }
            config.srtp = self.srtp[at].map(|suite| Config { rx: master(suite, THEIRS), tx: master(suite, OURS) });
            config
        };
        [leg(0, Direction::Receive, sender(), IN_IDS), leg(1, Direction::Send, receiver(), self.out_ids())]
    }
}

fn master(suite: Suite, fill: u8) -> Master {
    Master::new(suite, &vec![fill; suite.master_bytes()]).unwrap()
}

fn short(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().unwrap())
}

/// Bytes in front of the payload.
fn head(packet: &[u8]) -> usize {
    if packet[0] & 0x10 == 0 { 12 } else { 16 + 4 * usize::from(short(packet, 14)) }
}

/// The elements of a packet's header extension.
fn elements(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut out, end) = (Vec::new(), head(packet));
    let mut at = 16.min(end);
    while at < end {
        let (id, len, value) = match short(packet, 12) {
            _ if packet[at] == 0 => {
                at += 1;
                continue;
            }
            0xbede => (packet[at] >> 4, usize::from(packet[at] & 15) + 1, at + 1),
            0x1000 => (packet[at], usize::from(packet[at + 1]), at + 2),
            other => panic!("profile {other:x}"),
        };
        out.push((id, packet[value..value + len].to_vec()));
        at = value + len;
    }
    out
}

/// The same packet with these elements, in the form of one byte.
fn with(packet: &[u8], elements: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut body: Vec<u8> = Vec::new();
    for (id, value) in elements {
        body.push(id << 4 | (value.len() - 1) as u8);
        body.extend(value);
    }
    body.resize(body.len().next_multiple_of(4), 0);
    let words = (body.len() / 4) as u16;
    let extension = if words > 0 { [&[0xbe, 0xde], &words.to_be_bytes()[..], &body].concat() } else { vec![] };
    let mut out = [&packet[..12], &extension, &packet[head(packet)..]].concat();
    out[0] = out[0] & !0x10 | if words > 0 { 0x10 } else { 0 };
    out
}

fn captured(packet: &[u8]) -> Vec<u8> {
    let timestamp = word(packet, 4);
    [timestamp.to_be_bytes(), (!timestamp).to_be_bytes()].concat()
}

fn orientation(packet: &[u8]) -> Vec<u8> {
    vec![word(packet, 4) as u8 & 0x0f | 1]
}

/// Counts 16-bit numbers on.
#[derive(Default)]
struct Counted(Option<u64>);

impl Counted {
    fn on(&mut self, number: u16) -> u64 {
        let newest = self.0.unwrap_or(number.into());
        let index = newest.wrapping_add_signed(i64::from(number.wrapping_sub(newest as u16) as i16));
        self.0 = Some(newest.max(index));
        index
    }
}

/// One medium of the sender.
pub struct Near {
    options: Options,
    keys: Option<(Keys, Unprotect)>,
    counted: Counted,
    timestamp: Option<u32>,
    /// The last packets, by number: as they are, and as they were sent.
    kept: VecDeque<(u16, Vec<u8>, Vec<u8>)>,
    /// Retransmissions, whose numbers wrap early, and which packets they repeat.
    rtx: u64,
    repeated: HashMap<u16, u16>,
}

impl Near {
    pub fn new(options: Options) -> Near {
        let keys = options.srtp[0];
        let keys = keys.map(|suite| (Keys::new(&master(suite, THEIRS)), Unprotect::new(&master(suite, OURS))));
        let (counted, timestamp) = (Counted::default(), None);
        Near { options, keys, counted, timestamp, kept: VecDeque::new(), rtx: 65_500, repeated: HashMap::new() }
    }

    fn sealed(&self, index: u64, packet: &[u8]) -> Vec<u8> {
        let mut packet = BytesMut::from(packet);
        if let Some((keys, _)) = &self.keys {
            keys.protect_rtp(index, &mut packet);
        }
        packet.to_vec()
    }

    /// A packet as it is sent.
    pub fn sends(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut own = Vec::new();
        if self.options.elements && self.timestamp.replace(word(packet, 4)) != Some(word(packet, 4)) {
            own.push((IN_IDS[0], captured(packet)));
        }
        if self.options.elements && packet[1] & 0x80 != 0 {
            own.push((IN_IDS[1], orientation(packet)));
        }
        let (number, packet) = (short(packet, 2), with(packet, &own));
        let index = self.counted.on(number);
        let sealed = self.sealed(index, &packet);
        self.kept.push_back((number, packet, sealed.clone()));
        self.kept.drain(..self.kept.len().saturating_sub(SENT_KEPT));
        sealed
    }

    /// A packet as it is sent again.
    pub fn again(&mut self, number: u16) -> Option<Vec<u8>> {
        let (_, packet, sealed) = self.kept.iter().rev().find(|(kept, ..)| *kept == number)?;
        if !self.options.rtx[0] {
            return Some(sealed.clone());
        }
        let head = head(packet);
        let mut rtx = [&packet[..head], &packet[2..4], &packet[head..]].concat();
        rtx[1] += RTX;
        rtx[2..4].copy_from_slice(&(self.rtx as u16).to_be_bytes());
        rtx[8..12].copy_from_slice(&RTX_SSRC.to_be_bytes());
        self.repeated.insert(self.rtx as u16, number);
        self.rtx += 1;
        Some(self.sealed(self.rtx - 1, &rtx))
    }

    /// Number and timestamp of what a packet on its way is or repeats.
    pub fn of(&self, packet: &[u8]) -> (u16, u32) {
        let number = short(packet, 2);
        let number = if word(packet, 8) == RTX_SSRC { self.repeated[&number] } else { number };
        (number, word(packet, 4))
    }

    /// What the shard says.
    pub fn hears(&mut self, packet: &[u8]) -> Vec<Rtcp> {
        let mut plain = packet.to_vec();
        if let Some((_, unprotect)) = &mut self.keys {
            match unprotect.rtcp(packet, &mut plain) {
                Err(Drop::SrtpReplayed) => return Vec::new(), // a link doubled it
                other => other.expect("what the shard says is for the sender"),
            }
        }
        rtcp::parse(&plain).expect("what the shard says is RTCP")
    }
}

/// What becomes of a packet that leaves.
pub enum Leaves {
    /// As it was before encryption, with our extension alone.
    First(Vec<u8>),
    /// It left before, and is the same again.
    Again,
}

/// One medium of the receiver, and who watches all that leaves for it.
pub struct Far {
    options: Options,
    watches: Option<Unprotect>,
    takes: Option<Unprotect>,
    says: Option<Protect>,
    ssrc: u32,
    /// What left, by number: before encryption, and behind it.
    sent: HashMap<u16, (Vec<u8>, Vec<u8>)>,
    /// The newest retransmission's SSRC and number.
    rtx: Option<(u32, u16)>,
    ended: bool,
    frames: u64,
    /// Frames with the sender's element.
    captured: u64,
}

impl Far {
    pub fn new(options: Options) -> Far {
        let unprotect = || options.srtp[1].map(|suite| Unprotect::new(&master(suite, OURS)));
        let says = options.srtp[1].map(|suite| Protect::new(&master(suite, THEIRS)));
        let (watches, takes) = (unprotect(), unprotect());
        Far {
            options,
            watches,
            takes,
            says,
            ssrc: 0,
            sent: HashMap::new(),
            rtx: None,
            ended: true,
            frames: 0,
            captured: 0,
        }
    }

    /// Panics where a receiver could not read it, or it is not what left before.
    pub fn leaves(&mut self, packet: &[u8], feedback: bool) -> Leaves {
        let (number, is_rtx) = (short(packet, 2), self.is_rtx(packet));
        let before = self.sent.get(&number).filter(|(plain, _)| !is_rtx && word(plain, 4) == word(packet, 4));
        if let Some((plain, sealed)) = before.filter(|_| feedback) {
            assert_eq!(sealed, packet, "a number is used once");
            assert!(!self.options.rtx[1] || plain.len() + 2 > MTU, "it had room for a number of its own");
            return Leaves::Again;
        }
        let plain = opened(&mut self.watches, packet).expect("what leaves is for the receiver");
        assert!(plain.len() <= MTU);
        if is_rtx {
            self.check_again(&plain);
            return Leaves::Again;
        }
        self.ssrc = word(&plain, 8);
        self.check_elements(&plain);
        let bare = self.bare(&plain);
        self.sent.insert(number, (plain, packet.to_vec()));
        Leaves::First(bare)
    }

    fn is_rtx(&self, packet: &[u8]) -> bool {
        self.options.rtx[1] && packet[1] & 0x7f >= super::VIDEO_PT + RTX
    }

    /// A retransmission has numbers of its own, and is what it repeats behind that one's number.
    fn check_again(&mut self, rtx: &[u8]) {
        let (ssrc, number, head) = (word(rtx, 8), short(rtx, 2), head(rtx));
        assert_ne!(ssrc, self.ssrc);
        let before = self.rtx.replace((ssrc, number));
        assert!(before.is_none_or(|before| before == (ssrc, number.wrapping_sub(1))), "contiguous");
        let (original, _) = &self.sent[&short(rtx, head)];
        assert_eq!((original[1] + RTX, &original[4..8]), (rtx[1], &rtx[4..8]));
        assert_eq!((&original[12..head], &original[head..]), (&rtx[12..head], &rtx[head + 2..]));
    }

    /// The sender's are where they belong.
    fn check_elements(&mut self, plain: &[u8]) {
        if !self.options.elements {
            return;
        }
        let begins = std::mem::replace(&mut self.ended, plain[1] & 0x80 != 0);
        let (found, ids) = (elements(plain), self.options.out_ids());
        let of = |id: u8| found.iter().find(|(other, _)| *other == id).map(|(_, value)| value.clone());
        let frame = of(ids[0]);
        assert!(frame.is_none() || begins && frame == Some(captured(plain)));
        assert!(of(ids[1]).is_none_or(|value| value == orientation(plain) && (begins || self.ended)));
        self.frames += u64::from(begins);
        self.captured += u64::from(frame.is_some());
    }

    /// Frames have what their sender gave them; some may go without a first packet that was a mere delimiter.
    pub fn check(&self) {
        assert!(self.captured * 10 >= self.frames * 9, "{} of {} frames", self.captured, self.frames);
    }

    fn bare(&self, plain: &[u8]) -> Vec<u8> {
        if !self.options.elements {
            return plain.to_vec();
        }
        let own: Vec<(u8, Vec<u8>)> =
            elements(plain).into_iter().filter(|(id, _)| *id == super::EXTENSION_ID).collect();
        with(plain, &own)
    }

    /// What a receiver has of a packet: the one that it repeats, if it does; None if it came before.
    pub fn takes(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut plain = match opened(&mut self.takes, packet) {
            Err(Drop::SrtpReplayed) => return None,
            other => other.expect("what arrives is for the receiver"),
        };
        if self.is_rtx(packet) {
            let head = head(&plain);
            let number: Vec<u8> = plain.drain(head..head + 2).collect();
            plain[1] -= RTX;
            plain[2..4].copy_from_slice(&number);
            plain[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        }
        Some(self.bare(&plain))
    }

    /// A compound as it is sent.
    pub fn says(&mut self, mut compound: Vec<u8>) -> Vec<u8> {
        if let Some(says) = &mut self.says {
            assert!(says.rtcp(&mut compound));
        }
        compound
    }
}

fn opened(unprotect: &mut Option<Unprotect>, packet: &[u8]) -> Result<Vec<u8>, Drop> {
    let mut plain = packet.to_vec();
    if let Some(unprotect) = unprotect {
        unprotect.rtp(packet, &mut plain)?;
    }
    Ok(plain)
}

/// Sockets of sound, two above those of pictures.
pub const IN_AUDIO: SockId = SockId(IN_RTP.0 + 2);
pub const OUT_AUDIO: SockId = SockId(OUT_RTP.0 + 2);
