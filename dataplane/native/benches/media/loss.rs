//! Delivered frames over a network that loses: sender, bridge and receiver in virtual time, with the same loss and delay
//! on either side of the bridge and in both directions, RTCP included. `loss [--per-mille=N --rtt-ms=N --minutes=N
//! --seeds=N]`:
//!
//! `{"frames": sent, "decodable": of them, "share": x, "lost_packets": by the network, "minutes": n, "seeds": n}`
//!
//! The sender makes a key when it is asked for one and never else, so a frame that is lost costs all up to that key.
//! A frame counts if the receiver has all its packets and decoded the one before it, or if it is a key. The receiver asks
//! for a packet when a later one came, every 50 ms, and gives up after 400 ms: then it asks for a key.

use super::options::Options;
use super::pod::{Pod, Random, inlet, outlet, receiver, sender};
use super::traffic::{DELTA_BYTES, FRAME_TICKS, FRAMES_PER_S, KEY_BYTES, PAYLOAD_BYTES};
use super::{PPS, SPS};
use auralink_native::core::rtcp::{self, Rtcp, Writer};
use auralink_native::core::rtp;
use auralink_native::core::{SockId, Time};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / FRAMES_PER_S as u64);
const TICK: Duration = Duration::from_millis(5);
const ASK_APART: Duration = Duration::from_millis(50);
const GIVE_UP: Duration = Duration::from_millis(400);
const KEYS_APART: Duration = Duration::from_millis(500);
/// Packets that the sender can send again.
const KEPT: usize = 2048;
const SSRC: u32 = 7;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Pod(SockId),
    Sender,
    Receiver,
}

/// When it arrives, which it is, where and what.
type Datagram = (Time, u64, To, Vec<u8>);

struct Network {
    random: Random,
    per_mille: u64,
    one_way: Duration,
    under_way: BinaryHeap<Reverse<Datagram>>,
    sent: u64,
    lost: u64,
}

impl Network {
    fn send(&mut self, to: To, bytes: Vec<u8>, now: Time) {
        self.sent += 1;
        if self.random.next() % 1000 < self.per_mille {
            self.lost += 1;
        } else {
            self.under_way.push(Reverse((now + self.one_way, self.sent, to, bytes)));
        }
    }

    fn next_at(&self) -> Time {
        self.under_way.peek().map_or(Time::NEVER, |Reverse((at, ..))| *at)
    }
}

#[derive(Default)]
struct Camera {
    sequence: u16,
    frames: u64,
    key_wanted: bool,
    kept: VecDeque<(u16, Vec<u8>)>,
}

impl Camera {
    fn frame(&mut self, network: &mut Network, now: Time) {
        let key = self.frames == 0 || std::mem::take(&mut self.key_wanted);
        let bytes = if key { KEY_BYTES } else { DELTA_BYTES };
        let timestamp = self.frames as u32 * FRAME_TICKS;
        self.frames += 1;
        if key {
            self.packet(false, timestamp, &SPS, network, now);
            self.packet(false, timestamp, &PPS, network, now);
        }
        let count = bytes.div_ceil(PAYLOAD_BYTES);
        for index in 0..count {
            let marks = if index == 0 { 0x80 } else { 0 } | if index + 1 == count { 0x40 } else { 0 };
            let mut payload = vec![0x55; PAYLOAD_BYTES.min(bytes - index * PAYLOAD_BYTES)];
            payload[..4].copy_from_slice(&[0x5c, marks | if key { 5 } else { 1 }, 0x88, 0x84]);
            self.packet(index + 1 == count, timestamp, &payload, network, now);
        }
    }

    fn packet(&mut self, marker: bool, timestamp: u32, payload: &[u8], network: &mut Network, now: Time) {
        let mut bytes = vec![0x80, u8::from(marker) << 7 | 96];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(SSRC.to_be_bytes());
        bytes.extend(payload);
        self.kept.push_back((self.sequence, bytes.clone()));
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        self.sequence = self.sequence.wrapping_add(1);
        network.send(To::Pod(inlet(0)), bytes, now);
    }

    fn told(&mut self, bytes: &[u8], network: &mut Network, now: Time) {
        for packet in rtcp::parse(bytes).expect("the bridge's RTCP") {
            match packet {
                Rtcp::Nack { lost, .. } => {
                    for (_, bytes) in self.kept.iter().filter(|(sequence, _)| lost.contains(sequence)) {
                        network.send(To::Pod(inlet(0)), bytes.clone(), now);
                    }
                }
                Rtcp::Pli { .. } => self.key_wanted = true,
                _ => {}
            }
        }
    }
}

struct Kept {
    timestamp: u32,
    marker: bool,
    /// Where an IDR picture begins.
    key: bool,
}

#[derive(Default)]
struct Receiver {
    ssrc: u32,
    /// Not decoded yet, by extended number.
    packets: BTreeMap<u64, Kept>,
    /// First number not decoded yet.
    next: u64,
    highest: u64,
    /// When it was missed, and asked for last.
    missing: BTreeMap<u64, (Time, Option<Time>)>,
    awaiting_key: bool,
    key_asked: Option<Time>,
    report: Option<(u32, Time)>,
    reported: Time,
    decodable: u64,
}

impl Receiver {
    fn receive(&mut self, bytes: &[u8], now: Time) {
        if (192..224).contains(&bytes[1]) {
            for packet in rtcp::parse(bytes).expect("the bridge's RTCP") {
                if let Rtcp::SenderReport { ntp, .. } = packet {
                    self.report = Some(((ntp >> 16) as u32, now));
                }
            }
            return;
        }
        let rtp = rtp::parse(bytes).expect("the bridge's RTP");
        if self.ssrc == 0 {
            (self.ssrc, self.awaiting_key) = (rtp.ssrc, true);
            (self.next, self.highest) = (u64::from(rtp.sequence), u64::from(rtp.sequence));
        }
        let ahead = rtp.sequence.wrapping_sub(self.highest as u16) as i16;
        let sequence = self.highest.wrapping_add_signed(i64::from(ahead));
        for gone in self.highest + 1..sequence {
            self.missing.insert(gone, (now, None));
        }
        self.highest = self.highest.max(sequence);
        self.missing.remove(&sequence);
        if sequence < self.next {
            return;
        }
        let payload = rtp.payload;
        let key = payload[0] & 0x1f == 5 || payload[0] & 0x1f == 28 && payload[1] & 0x9f == 0x85;
        self.packets.insert(sequence, Kept { timestamp: rtp.timestamp, marker: rtp.marker, key });
        self.decode();
    }

    /// Takes whole frames from the front; one that is not whole holds those behind it.
    fn decode(&mut self) {
        loop {
            if self.awaiting_key {
                let Some(start) = self.packets.iter().find(|(_, packet)| packet.key).map(|(at, _)| *at) else { return };
                self.skip_to(start);
            }
            let mut end = self.next;
            while self.packets.get(&end).is_some_and(|packet| !packet.marker) {
                end += 1;
            }
            let Some(last) = self.packets.get(&end) else { return };
            let of_one = self.packets.range(self.next..=end).all(|(_, packet)| packet.timestamp == last.timestamp);
            assert!(of_one, "a marker ends a frame");
            self.decodable += 1;
            self.awaiting_key = false;
            self.skip_to(end + 1);
        }
    }

    fn skip_to(&mut self, sequence: u64) {
        self.next = sequence;
        self.packets = self.packets.split_off(&sequence);
        self.missing = self.missing.split_off(&sequence);
    }

    /// What it asks for now.
    fn tick(&mut self, network: &mut Network, now: Time) {
        if self.ssrc == 0 {
            return;
        }
        if self.missing.first_key_value().is_some_and(|(_, (since, _))| now - *since > GIVE_UP) {
            let key = self.packets.iter().find(|(at, packet)| packet.key && **at > self.next).map(|(at, _)| *at);
            self.awaiting_key = true;
            let lost = self.missing.iter().filter(|(_, (since, _))| now - *since > GIVE_UP).map(|(at, _)| *at).max();
            self.skip_to(key.unwrap_or(lost.unwrap_or(self.next) + 1));
            self.decode();
        }
        let mut lost = Vec::new();
        for (sequence, (_, asked)) in &mut self.missing {
            if asked.is_none_or(|asked| now - asked >= ASK_APART) {
                *asked = Some(now);
                lost.push(*sequence as u16);
            }
        }
        let key = self.awaiting_key && self.key_asked.is_none_or(|asked| now - asked >= KEYS_APART);
        let report = now - self.reported >= Duration::from_secs(1);
        if lost.is_empty() && !key && !report {
            return;
        }
        let mut writer = Writer::default();
        let block = self.report.filter(|_| report).map(|(last_sr, came)| rtcp::Block {
            ssrc: self.ssrc,
            fraction_lost: 0,
            lost: 0,
            highest_sequence: self.highest as u32,
            jitter: 0,
            last_sr,
            delay: ((now - came).as_secs_f64() * 65_536.0) as u32,
        });
        writer.receiver_report(99, block.as_slice());
        if report {
            self.reported = now;
        }
        if !lost.is_empty() {
            writer.nack(99, self.ssrc, &lost);
        }
        if key {
            writer.pli(99, self.ssrc);
            self.key_asked = Some(now);
        }
        network.send(To::Pod(outlet(0)), writer.finish(), now);
    }
}

pub fn run(options: &Options) {
    let (minutes, seeds) = (options.get("minutes", 10), options.get("seeds", 3));
    let (mut frames, mut decodable, mut lost) = (0, 0, 0);
    for seed in 1..=seeds {
        let network = Network {
            random: Random(seed),
            per_mille: options.get("per-mille", 50),
            one_way: Duration::from_millis(options.get("rtt-ms", 40)) / 2,
            under_way: BinaryHeap::new(),
            sent: 0,
            lost: 0,
        };
        let (camera, receiver, network) = play(network, Duration::from_secs(60 * minutes), seed);
        frames += camera.frames;
        decodable += receiver.decodable;
        lost += network.lost;
    }
    println!(
        "{{\"frames\": {frames}, \"decodable\": {decodable}, \"share\": {:.6}, \"lost_packets\": {lost}, \
         \"minutes\": {minutes}, \"seeds\": {seeds}}}",
        decodable as f64 / frames as f64
    );
}

fn play(mut network: Network, length: Duration, seed: u64) -> (Camera, Receiver, Network) {
    let mut pod = Pod::new(1, seed + 1000);
    let (mut camera, mut viewer) = (Camera::default(), Receiver::default());
    let start = Time(0) + Duration::from_secs(1);
    let end = start + length;
    // The last frames get as long as any other to arrive.
    let (mut frame_at, mut tick_at) = (start, start);
    loop {
        let now = network.next_at().min(pod.wake).min(frame_at).min(tick_at);
        if now > end + Duration::from_secs(2) {
            return (camera, viewer, network);
        }
        if frame_at == now {
            camera.frame(&mut network, now);
            frame_at = if now + FRAME > end { Time::NEVER } else { now + FRAME };
        }
        if tick_at == now {
            viewer.tick(&mut network, now);
            tick_at = now + TICK;
        }
        if pod.wake <= now {
            pod.timeout(now);
        }
        while network.next_at() <= now {
            let Some(Reverse((_, _, to, bytes))) = network.under_way.pop() else { break };
            match to {
                To::Pod(sock) if sock == inlet(0) => pod.receive(sock, sender(0), &bytes, now),
                To::Pod(sock) => pod.receive(sock, receiver(0), &bytes, now),
                To::Sender => camera.told(&bytes, &mut network, now),
                To::Receiver => viewer.receive(&bytes, now),
            }
        }
        for packet in std::mem::take(&mut pod.sent) {
            let to = if packet.sock == inlet(0) { To::Sender } else { To::Receiver };
            network.send(to, packet.bytes.to_vec(), now);
        }
    }
}
