//! One source's stream, from its packets to frames in order: the receive path on one page. `shard` hands in packets and
//! Python's answers and carries out the effects.

use super::codec::audio::{Arrival, Received};
use super::codec::{Codec, Media};
use super::output::{AudioPacket, Effects};
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
    sequence: Extender,
    timestamps: Timestamps,
    kind: Medium,
}

enum Medium {
    Video(Box<Video>),
    Audio(Received),
}

impl Stream {
    /// `first` is a packet of the source.
    pub fn new(id: StreamId, leg: LegId, codec: Codec, first: &Rtp<'_>, clock_rate: u32, feedback: bool) -> Stream {
        let kind = match codec.video() {
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

    /// A packet of this source: sequence -> duplicate or late -> reorder -> assemble -> mode.
    pub fn receive(&mut self, rtp: &Rtp<'_>, now: Time, fx: &mut Effects) {
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
        let inserted = match &mut self.kind {
            Medium::Video(video) => video.receive(sequence, rtp, now, &mut self.timestamps, fx),
            Medium::Audio(received) => match received.note(sequence) {
                Arrival::New => {
                    let (stream, timestamp) = (self.id, self.timestamps.unwrap(rtp.timestamp));
                    let payload = Bytes::copy_from_slice(rtp.payload);
                    fx.audio.push(AudioPacket { stream, sequence, timestamp, marker: rtp.marker, payload });
                    Inserted::New
                }
                Arrival::Duplicate => Inserted::Duplicate,
                Arrival::Late => Inserted::Late,
            },
        };
        match inserted {
            Inserted::New => self.reception.packet(sequence, rtp.timestamp, now, self.clock_rate),
            Inserted::Duplicate => fx.drops.count(Drop::Duplicate),
            Inserted::Late => fx.drops.count(Drop::Late),
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
