//! Memory per 720p stream of 2.5 Mb/s with answered NACKs, so with the copies of three seconds. `memory [--streams=N
//! --seconds=N --virtual-streams=N --virtual-minutes=N]` measures the resident memory of the process twice, a line each:
//! the engine with its sockets as time goes by, and the packet core alone over a virtual time that is much longer.
//!
//! `{"kind": "engine" | "core", "streams": n, "samples": [[second, bytes per stream]...]}`
//!
//! Subtracted is what the process had before the streams' legs were opened. The kernel's socket buffers are not in it.

use super::options::Options;
use super::pod::{Pod, Random, inlet, sender};
use super::socket;
use super::traffic::{
    Bridge, DELTA_BYTES, FRAME_TICKS, FRAMES_PER_S, KEY_BYTES, KEY_EVERY, PAYLOAD_BYTES, Schedule, Sink, many_sockets,
};
use super::{PPS, SPS};
use auralink_native::core::Time;
use std::time::Duration;

/// Resident bytes of this process.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096
}

pub fn run(options: &Options) {
    many_sockets();
    // First, so that nothing freed before is used again.
    let (streams, seconds) = (options.get("streams", 100), options.get("seconds", 60));
    print("engine", streams, &engine(streams as u32, seconds));
    let (streams, minutes) = (options.get("virtual-streams", 10), options.get("virtual-minutes", 60));
    print("core", streams, &core(streams, minutes));
}

fn print(kind: &str, streams: u64, samples: &[(u64, u64)]) {
    let samples: Vec<String> = samples.iter().map(|(at, bytes)| format!("[{at}, {bytes}]")).collect();
    println!("{{\"kind\": \"{kind}\", \"streams\": {streams}, \"samples\": [{}]}}", samples.join(", "));
}

fn engine(streams: u32, seconds: u64) -> Vec<(u64, u64)> {
    let (out, mut sink) = (socket(), Sink::new(false));
    let mut buffer = vec![0; 2 * KEY_BYTES];
    let before = resident();
    let mut bridge = Bridge::start(streams, &mut sink, &out, true, true);
    let mut schedule = Schedule::new(streams as usize);
    let mut samples = Vec::new();
    while schedule.elapsed().as_secs() <= seconds {
        let due = schedule.due();
        if let Some((camera, _)) = due {
            bridge.cameras[camera].frame(&out, &mut buffer);
        }
        let at = schedule.elapsed().as_secs();
        if at.is_multiple_of(5) && samples.last().is_none_or(|(last, _)| *last < at) {
            samples.push((at, resident().saturating_sub(before) / u64::from(streams)));
        }
        if sink.take(|_| {}) == 0 && due.is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    bridge.engine.close(false);
    samples
}

/// Streams whose frames vary in size, as encoders' do: an allocator has no easy time with them.
fn core(streams: u64, minutes: u64) -> Vec<(u64, u64)> {
    let before = resident();
    let (mut pod, mut random) = (Pod::new(streams, 1), Random(2));
    let mut sequences = vec![0u16; streams as usize];
    let (mut samples, mut packet) = (Vec::new(), Vec::new());
    for frame in 0..minutes * 60 * u64::from(FRAMES_PER_S) {
        let now = Time(1_000_000_000 + frame * 1_000_000_000 / u64::from(FRAMES_PER_S));
        for stream in 0..streams {
            let key = frame == 0 || (frame + stream).is_multiple_of(KEY_EVERY);
            let mean = if key { KEY_BYTES } else { DELTA_BYTES };
            let bytes = mean / 2 + (random.next() % mean as u64) as usize;
            let count = bytes.div_ceil(PAYLOAD_BYTES);
            let sets: &[&[u8]] = if frame == 0 { &[&SPS, &PPS] } else { &[] };
            for index in 0..sets.len() + count {
                let sequence = &mut sequences[stream as usize];
                let at = index.wrapping_sub(sets.len());
                packet.clear();
                packet.extend([0x80, u8::from(at + 1 == count) << 7 | 96]);
                packet.extend(sequence.to_be_bytes());
                packet.extend((frame as u32).wrapping_mul(FRAME_TICKS).to_be_bytes());
                packet.extend((stream as u32 + 1).to_be_bytes());
                if let Some(set) = sets.get(index) {
                    packet.extend(*set);
                } else {
                    let marks = if at == 0 { 0x80 } else { 0 } | if at + 1 == count { 0x40 } else { 0 };
                    packet.extend([0x5c, marks | if key { 5 } else { 1 }, 0x88, 0x84]);
                    packet.resize(12 + PAYLOAD_BYTES.min(bytes - at * PAYLOAD_BYTES).max(4), 0x55);
                }
                *sequence = sequence.wrapping_add(1);
                pod.receive(inlet(stream), sender(stream), &packet, now);
            }
        }
        for ms in 1..=33 {
            pod.timeout(now + Duration::from_millis(ms));
        }
        pod.sent.clear();
        let second = frame / u64::from(FRAMES_PER_S);
        if frame.is_multiple_of(u64::from(FRAMES_PER_S) * 60) || frame == 10 * u64::from(FRAMES_PER_S) {
            samples.push((second, resident().saturating_sub(before) / streams));
        }
    }
    samples
}
