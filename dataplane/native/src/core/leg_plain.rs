//! A plain-RTP leg: one medium per port pair, no negotiation. Other kinds of leg will stand beside it.

use super::carrier::Carrier;
use super::codec::h265::H265;
use super::codec::{Codec, Media, VideoCodec};
use super::elements::Ids;
use super::reports::{Echo, Ntp};
use super::rtcp::{Block, Writer};
use super::source::{Senders, Source};
use super::srtp::{self, Keys, Session};
use super::{LegId, SockId, Time};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const VIDEO_REPORTS: Duration = Duration::from_secs(1);
const AUDIO_REPORTS: Duration = Duration::from_secs(5);
/// New streams of one medium that a leg starts in [`STARTS_PER`]; a peer that keeps changing its SSRC gets no more.
const MAX_STARTS: u32 = 16;
const STARTS_PER: Duration = Duration::from_secs(10);
/// Senders in one compound: 28 bytes of report and 36 of name for each stay below the MTU.
pub const MAX_REPORTED: usize = 16;
/// Outs that a leg takes, so that nothing it remembers grows without end.
pub const MAX_OUTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Both,
    Receive,
    Send,
}

impl Direction {
    pub fn receives(self) -> bool {
        self != Direction::Send
    }

    pub fn sends(self) -> bool {
        self != Direction::Receive
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType {
    pub number: u8,
    pub codec: Codec,
    pub clock_rate: u32,
    /// H.265: its sender's sprop-max-don-diff is above 0 (RFC 7798 7.1).
    pub order_numbers: bool,
    /// Its retransmissions come and go as this one (RFC 4588); None: as themselves.
    pub rtx: Option<u8>,
    /// With what came before in front of it (RFC 2198); audio only.
    pub red: Option<u8>,
}

impl PayloadType {
    /// None for audio.
    pub fn video(self) -> Option<Box<dyn VideoCodec>> {
        match self.codec {
            Codec::H265 if self.order_numbers => Some(Box::new(H265::with_order_numbers())),
            codec => codec.video(),
        }
    }
}

/// How a packet's payload type wraps its codec's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapped {
    No,
    Rtx,
    Red,
}

#[derive(Clone, Debug)]
pub struct MediumConfig {
    pub media: Media,
    pub payloads: Vec<PayloadType>,
    pub remote: Option<SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct LegConfig {
    pub name: String,
    pub room: String,
    pub direction: Direction,
    /// NACK, PLI and FIR are understood on the other side (RFC 4585).
    pub feedback: bool,
    pub rtcp_mux: bool,
    pub extension_id: u8,
    /// Of other header extensions.
    pub ids: Ids,
    pub carrier: Carrier,
    pub media: Vec<MediumConfig>,
    /// Absent: plain RTP.
    pub srtp: Option<srtp::Config>,
}

impl LegConfig {
    /// What is wrong with it that its parts alone do not say.
    pub fn problem(&self) -> Option<&'static str> {
        let one_key = self.srtp.as_ref().is_some_and(|srtp| srtp.rx == srtp.tx);
        (one_key && self.direction == Direction::Both).then_some(
            "srtp.tx: must differ from srtp.rx where a leg sends and receives: packets of ours that somebody recorded would be \
             taken for the peer's",
        )
    }
}

/// Sockets of one medium; both the same with rtcp-mux.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    pub rtp: SockId,
    pub rtcp: SockId,
}

#[derive(Debug)]
pub struct Leg {
    pub id: LegId,
    pub config: LegConfig,
    pub media: Vec<Medium>,
}

#[derive(Debug)]
pub struct Medium {
    pub media: Media,
    pub payloads: Vec<PayloadType>,
    pub source: Source,
    pub sockets: Sockets,
    /// Where the source's RTCP comes from; else its RTP port + 1.
    pub rtcp_seen: Option<SocketAddr>,
    /// For reports when we send nothing (RFC 3550 6.4.2).
    pub own_ssrc: u32,
    pub cname: String,
    pub srtp: Option<Session>,
    /// A sender report that came before its source was locked: FFmpeg sends the first one in front of the media.
    pub early_report: Option<EarlyReport>,
    /// Reference times of ours.
    pub references: Echo,
    /// The peer's newest one: its SSRC, the middle of its NTP time, when it came.
    pub reference: Option<(u32, u32, Time)>,
    pub next_report: Time,
    pub packets: u64,
    pub aic_packets: u64,
    /// Sources that ended, each with the SSRC of its retransmissions, and when.
    repaired: Vec<(u32, u32, Time)>,
    mux: bool,
    starts: u32,
    starts_since: Time,
}

impl Leg {
    pub fn medium(&self, media: Media) -> Option<&Medium> {
        self.media.iter().find(|medium| medium.media == media)
    }

    pub fn medium_mut(&mut self, media: Media) -> Option<&mut Medium> {
        self.media.iter_mut().find(|medium| medium.media == media)
    }

    /// What to send `codec` as.
    pub fn payload_type(&self, codec: Codec) -> Option<PayloadType> {
        self.medium(codec.media())?.payloads.iter().copied().find(|payload| payload.codec == codec)
    }
}

impl Medium {
    pub fn new(config: MediumConfig, mux: bool, sockets: Sockets, own_ssrc: u32, cname: String) -> Medium {
        Medium {
            media: config.media,
            payloads: config.payloads,
            source: Source::new(config.remote),
            sockets,
            rtcp_seen: None,
            own_ssrc,
            cname,
            srtp: None,
            early_report: None,
            references: Echo::default(),
            reference: None,
            next_report: Time(0),
            packets: 0,
            aic_packets: 0,
            repaired: Vec::new(),
            mux,
            starts: 0,
            starts_since: Time(0),
        }
    }

    /// What a payload type stands for.
    pub fn payload(&self, number: u8) -> Option<(PayloadType, Wrapped)> {
        self.payloads.iter().find_map(|payload| {
            let wrapped = match Some(number) {
                own if own == Some(payload.number) => Wrapped::No,
                rtx if rtx == payload.rtx => Wrapped::Rtx,
                red if red == payload.red => Wrapped::Red,
                _ => return None,
            };
            Some((*payload, wrapped))
        })
    }

    pub fn rtp_route(&self) -> Option<(SockId, SocketAddr)> {
        Some((self.sockets.rtp, self.source.destination()?))
    }

    pub fn rtcp_route(&self) -> Option<(SockId, SocketAddr)> {
        let rtp = self.source.destination()?;
        let beside = if self.mux { rtp } else { SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?) };
        Some((self.sockets.rtcp, self.rtcp_seen.filter(|seen| seen.ip() == rtp.ip()).unwrap_or(beside)))
    }

    /// Whose datagrams its sockets take; of two for one socket the last one counts.
    pub fn senders(&self) -> [(SockId, Senders); 2] {
        let Sockets { rtp, rtcp } = self.sockets;
        let Some(address) = self.source.destination() else {
            return [(rtcp, Senders::Anyone), (rtp, Senders::Anyone)];
        };
        let media = if self.mux { Senders::Multiplexed(address) } else { Senders::Address(address) };
        [(rtcp, Senders::Host(address.ip())), (rtp, media)]
    }

    pub fn sending_keys(&self) -> Option<Arc<Keys>> {
        self.srtp.as_ref().map(|session| session.protect.keys())
    }

    pub fn report_interval(&self) -> Duration {
        match self.media {
            Media::Video => VIDEO_REPORTS,
            Media::Audio => AUDIO_REPORTS,
        }
    }

    /// A source ended; retransmissions of it may be under way.
    pub fn note_rtx(&mut self, source: u32, rtx: Option<u32>, now: Time) {
        self.repaired.retain(|(_, known, at)| Some(*known) != rtx && now - *at < STARTS_PER);
        self.repaired.extend(rtx.map(|rtx| (source, rtx, now)));
        self.repaired.drain(..self.repaired.len().saturating_sub(MAX_STARTS as usize));
    }

    /// Whether retransmissions with this SSRC were lately those of another source than this one.
    pub fn repaired_others(&self, rtx: u32, source: u32, now: Time) -> bool {
        let known = |(other, known, at): &(u32, u32, Time)| *known == rtx && *other != source && now - *at < STARTS_PER;
        self.repaired.iter().any(known)
    }

    /// May another stream start?
    pub fn may_start(&mut self, now: Time) -> bool {
        if now - self.starts_since > STARTS_PER {
            (self.starts, self.starts_since) = (0, now);
        }
        self.starts += 1;
        self.starts <= MAX_STARTS
    }

    /// A compound: what we send (at most [`MAX_REPORTED`]), what we receive, who we are. Feedback goes behind it.
    pub fn reports(&self, senders: &[SenderReport], blocks: &[Block]) -> Writer {
        let mut writer = Writer::default();
        let mut blocks = blocks;
        for sender in senders {
            writer.sender_report(sender.ssrc, sender.ntp.0, sender.rtp, sender.packets, sender.octets, blocks);
            blocks = &[];
        }
        let mut names: Vec<(u32, &str)> = senders.iter().map(|sender| (sender.ssrc, sender.cname.as_str())).collect();
        if names.is_empty() {
            writer.receiver_report(self.own_ssrc, blocks);
            names.push((self.own_ssrc, &self.cname));
        }
        writer.names(&names);
        writer
    }
}

#[derive(Clone, Copy, Debug)]
pub struct EarlyReport {
    pub from: IpAddr,
    pub ssrc: u32,
    pub ntp: Ntp,
    pub rtp: u32,
    pub at: Time,
}

#[derive(Clone, Debug)]
pub struct SenderReport {
    pub ssrc: u32,
    /// Of the participant whose media it is: what a receiver plays in time with each other has one name.
    pub cname: String,
    pub ntp: Ntp,
    pub rtp: u32,
    pub packets: u32,
    pub octets: u32,
}
