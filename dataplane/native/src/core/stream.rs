//! One source's stream, from its packets to frames in order: the receive path on one page. `shard` hands in packets and
//! Python's answers and carries out the effects.

use super::codec::audio::{Arrival, Received};
use super::codec::{Codec, Media};
use super::elements::Elements;
use super::leg_plain::{PayloadType, Wrapped};
use super::output::{AudioPacket, Effects};
use super::red;
use super::reorder::Inserted;
use super::reports::{Ntp, Reception, SourceClock};
use super::rtp::Rtp;
use super::seq::{Extender, Sequence, Timestamps};
use super::video::Video;
use super::{Drop, LegId, OutId, StreamId, Time};
use bytes::Bytes;

pub struct Stream {
    pub id: StreamId,
    pub leg: LegId,
    pub codec: Codec,
    pub ssrc: u32,
    pub clock_rate: u32,
    pub outs: Vec<OutId>,
    pub reception: Reception,
    /// By the source's newest sender report.
    pub clock: Option<SourceClock>,
    pub packets: u64,
    pub payload_bytes: u64,
    /// Packets that came as retransmission (RFC 4588).
    pub repaired: u64,
    /// The SSRC that the last of them came with.
    pub rtx: Option<u32>,
    /// H.265 with decoding order numbers.
    numbered: bool,
    sequence: Extender,
    timestamps: Timestamps,
    kind: Medium,
}

/// A packet as it came in.
pub struct Incoming<'a> {
    pub rtp: Rtp<'a>,
    pub wrapped: Wrapped,
    /// The payload type of what is wrapped.
    pub codec: u8,
    pub elements: Elements,
    /// Its dependency descriptor.
    pub descriptor: Option<&'a [u8]>,
}

enum Medium {
    Video(Box<Video>),
    Audio(Received),
}

impl Stream {
    /// `first` is a packet of the source.
    pub fn new(id: StreamId, leg: LegId, payload: PayloadType, first: &Rtp<'_>, feedback: bool) -> Stream {
        let PayloadType { codec, clock_rate, .. } = payload;
        let kind = match payload.video() {
            Some(video) => Medium::Video(Box::new(Video::new(id, codec, video, feedback))),
            None => Medium::Audio(Received::default()),
        };
        Stream {
            id,
            leg,
            codec,
            ssrc: first.ssrc,
            clock_rate,
            outs: Vec::new(),
            reception: Reception::default(),
            clock: None,
            packets: 0,
            payload_bytes: 0,
            repaired: 0,
            rtx: None,
            numbered: payload.order_numbers,
            sequence: Extender::default(),
            timestamps: Timestamps::starting(first.timestamp),
            kind,
        }
    }

    pub fn media(&self) -> Media {
        self.codec.media()
    }

    pub fn video(&mut self) -> Option<&mut Video> {
        match &mut self.kind {
            Medium::Video(video) => Some(video),
            Medium::Audio(_) => None,
        }
    }

    pub fn video_ref(&self) -> Option<&Video> {
        match &self.kind {
            Medium::Video(video) => Some(video),
            Medium::Audio(_) => None,
        }
    }

    /// Whether packets of this payload type are in the format that the stream began in.
    pub fn takes(&self, payload: PayloadType) -> bool {
        (self.codec, self.numbered) == (payload.codec, payload.order_numbers)
    }

    /// A packet of this source: sequence -> duplicate or late -> reorder -> assemble -> mode.
    pub fn receive(&mut self, incoming: Incoming<'_>, now: Time, fx: &mut Effects) {
        let rtp = &incoming.rtp;
        self.packets += 1;
        self.payload_bytes += rtp.payload.len() as u64;
        let sequence = match self.sequence.extend(rtp.sequence) {
            Sequence::At(sequence) => sequence,
            Sequence::Jump => return fx.drops.count(Drop::SequenceJump),
            Sequence::Restart(sequence) => {
                self.reception.restart();
                if let Medium::Video(video) = &mut self.kind {
                    video.restart(sequence, fx);
                }
                sequence
            }
        };
        let timestamp = rtp.timestamp;
        match self.enter(sequence, incoming, now, fx) {
            Inserted::New => self.reception.packet(sequence, timestamp, now, self.clock_rate),
            Inserted::Duplicate => fx.drops.count(Drop::Duplicate),
            Inserted::Late => fx.drops.count(Drop::Late),
        }
    }

    /// A packet that was sent again in a stream of its own, `ssrc`: it was lost, and reports go on to say so.
    pub fn repaired(&mut self, incoming: Incoming<'_>, ssrc: u32, now: Time, fx: &mut Effects) {
        let Some(sequence) = self.sequence.recall(incoming.rtp.sequence) else { return fx.drops.count(Drop::Late) };
        match self.enter(sequence, incoming, now, fx) {
            Inserted::New => {
                self.repaired += 1;
                self.rtx = Some(ssrc);
            }
            Inserted::Duplicate => fx.drops.count(Drop::Duplicate),
            Inserted::Late => fx.drops.count(Drop::Late),
        }
    }

    fn enter(&mut self, sequence: u64, incoming: Incoming<'_>, now: Time, fx: &mut Effects) -> Inserted {
        match &mut self.kind {
            Medium::Video(video) => {
                let Incoming { rtp, elements, descriptor, .. } = incoming;
                video.receive(sequence, (&rtp, elements, descriptor), now, &mut self.timestamps, fx)
            }
            Medium::Audio(received) => match received.note(sequence) {
                Arrival::New => {
                    let timestamp = self.timestamps.unwrap(incoming.rtp.timestamp);
                    match relayed(self.id, sequence, timestamp, incoming) {
                        Ok(packet) => fx.audio.push(packet),
                        Err(why) => fx.drops.count(why),
                    }
                    Inserted::New
                }
                Arrival::Duplicate => Inserted::Duplicate,
                Arrival::Late => Inserted::Late,
            },
        }
    }

    pub fn sender_report(&mut self, ntp: Ntp, rtp: u32, now: Time) {
        self.reception.sender_report(ntp, now);
        self.clock = Some(SourceClock { ntp, rtp: self.timestamps.near(rtp), arrived: now });
    }

    pub fn timeout(&mut self, now: Time, fx: &mut Effects) {
        if let Medium::Video(video) = &mut self.kind {
            video.release(now, &mut self.timestamps, fx);
            video.feedback(now, fx);
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.video_ref()?.deadline()
    }

    /// A key is wanted of the source. False: it takes no requests.
    pub fn request_key(&mut self, now: Time, fx: &mut Effects) -> bool {
        let Some(video) = self.video() else { return false };
        video.request_key(fx);
        video.feedback(now, fx);
        video.takes_feedback()
    }
}

/// An audio packet to relay, with what it has of its own at hand if it repeats others.
fn relayed(stream: StreamId, sequence: u64, timestamp: i64, incoming: Incoming<'_>) -> Result<AudioPacket, Drop> {
    let Incoming { rtp, wrapped, codec, elements, .. } = incoming;
    let whole = Bytes::copy_from_slice(rtp.payload);
    let (payload, red) = match wrapped {
        Wrapped::Red if !whole.is_empty() => (red::primary(&whole, codec)?, Some((whole, codec))),
        _ => (whole, None),
    };
    Ok(AudioPacket { stream, sequence, timestamp, marker: rtp.marker, payload, red, elements })
}
