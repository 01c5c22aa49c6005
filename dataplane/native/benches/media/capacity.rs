//! Packets per second and core at zero loss, for this bridge and for others: a sender whose next burst waits until the
//! last one came out, so that no queue overflows. rtpengine drops what comes on a port once it found more than 50 packets
//! waiting a few times, so a burst is shorter than that.
//!
//! `load --to=PORT [--from=PORT --sink=PORT --frames=N --burst=FRAMES --key=1 --sleepy=1]` feeds somebody else's relay, whose CPU time
//! the caller reads; `key`: a small key is sent in front and waited for; `sleepy`: it sleeps while nothing comes out and
//! leaves its core to others, instead of looking all the time.
//! `{"sent": packets, "received": packets, "lost": holes, "seconds": x}`
//!
//! `capacity [--frames=N --rounds=N]` has this bridge and the bare relay of the CPU benchmark, alternating, a line each:
//! `{"peer": "relay" | "bridge", "packets_per_core": by CPU time, "packets_per_s": by the clock, "lost": holes}`

use super::options::Options;
use super::traffic::{Bridge, Camera, Sink, Tally};
use super::{FRAME_PACKETS, LOCAL, PACKET_BYTES, forward, median, pin, socket, thread_cpu};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// 30 packets of 1200 bytes.
const BURST_FRAMES: u64 = 2;
const FRAME_BYTES: usize = FRAME_PACKETS * (PACKET_BYTES - 12);
/// A frame that is not there by then is lost.
const PATIENCE: Duration = Duration::from_secs(2);

struct Pumped {
    sent: u64,
    tally: Tally,
    seconds: f64,
}

/// Sends frames as fast as they come out again; `idle` is called when nothing came.
fn pump(
    camera: &mut Camera,
    out: &UdpSocket,
    sink: &mut Sink,
    (frames, burst): (u64, u64),
    idle: impl Fn(&Sink),
) -> Pumped {
    let mut pumped = Pumped { sent: 0, tally: Tally::default(), seconds: 0.0 };
    let (mut sent, mut burst_end, mut buffer) = (0, burst, Vec::new());
    let began = Instant::now();
    let mut moved = began;
    while pumped.tally.frames < frames && moved.elapsed() < PATIENCE {
        while sent < frames && sent < burst_end {
            pumped.sent += camera.sized(out, &mut buffer, false, FRAME_BYTES).1 as u64;
            sent += 1;
        }
        let tally = &mut pumped.tally;
        if sink.take(|arrival| tally.count(arrival)) > 0 {
            moved = Instant::now();
        } else {
            idle(sink);
        }
        if tally.frames == burst_end {
            burst_end += burst;
        }
    }
    pumped.tally.holes += frames - pumped.tally.frames;
    pumped.seconds = began.elapsed().as_secs_f64();
    pumped
}

/// A socket at a port of the caller's choice.
fn at(port: u64) -> UdpSocket {
    UdpSocket::bind((LOCAL, u16::try_from(port).expect("a port"))).expect("the port is free")
}

pub fn load(options: &Options) {
    pin(1);
    let port = u16::try_from(options.get("to", 0)).expect("a port");
    let (out, mut sink) = (at(options.get("from", 0)), Sink::of(at(options.get("sink", 0)), false));
    let mut camera = Camera::new(0, SocketAddr::new(LOCAL, port), false).with_packets_of(PACKET_BYTES);
    if options.get("key", 0) == 1 {
        camera.begin(&out);
        let (began, mut through) = (Instant::now(), false);
        while !through {
            sink.take(|arrival| through |= arrival.marker);
            assert!(began.elapsed() < PATIENCE, "the key does not come out");
        }
    }
    let count = (options.get("frames", 10_000), options.get("burst", BURST_FRAMES));
    let sleepy = options.get("sleepy", 0) == 1;
    let pumped = pump(&mut camera, &out, &mut sink, count, |sink| {
        if sleepy {
            sink.wait();
        }
    });
    println!(
        "{{\"sent\": {}, \"received\": {}, \"lost\": {}, \"seconds\": {:.4}}}",
        pumped.sent, pumped.tally.packets, pumped.tally.holes, pumped.seconds
    );
}

pub fn run(options: &Options) {
    let (frames, rounds) = (options.get("frames", 10_000), options.get("rounds", 3));
    let mut results = [("relay", Vec::new(), Vec::new(), 0), ("bridge", Vec::new(), Vec::new(), 0)];
    for _ in 0..rounds {
        for (index, one) in [relay(frames), bridge(frames)].into_iter().enumerate() {
            let (pumped, spent) = one;
            results[index].1.push(pumped.sent as f64 / spent.as_secs_f64());
            results[index].2.push(pumped.sent as f64 / pumped.seconds);
            results[index].3 += pumped.tally.holes;
        }
    }
    for (peer, by_cpu, by_clock, lost) in &mut results {
        println!(
            "{{\"peer\": \"{peer}\", \"packets_per_core\": {:.0}, \"packets_per_s\": {:.0}, \"lost\": {lost}}}",
            median(by_cpu),
            median(by_clock)
        );
    }
}

fn relay(frames: u64) -> (Pumped, Duration) {
    let (inlet, mut sink) = (socket(), Sink::new(false));
    let (to, from) = (sink.address(), inlet.local_addr().expect("bound"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    pin(0);
    let thread = std::thread::spawn(move || {
        let before = thread_cpu();
        forward(&inlet, to, &stopped);
        thread_cpu() - before
    });
    pin(1);
    let out = socket();
    let mut camera = Camera::new(0, from, false).with_packets_of(PACKET_BYTES);
    let pumped = pump(&mut camera, &out, &mut sink, (frames, BURST_FRAMES), |_| {});
    stop.store(true, Ordering::Relaxed);
    out.send_to(&[0], from).expect("a last packet wakes it");
    (pumped, thread.join().expect("the relay ends"))
}

fn bridge(frames: u64) -> (Pumped, Duration) {
    let (out, mut sink) = (socket(), Sink::new(false));
    let mut bridge = Bridge::start(1, &mut sink, &out, false, false);
    let mut camera = bridge.cameras.remove(0).with_packets_of(PACKET_BYTES);
    let before = bridge.engine.cpu_time().expect("running");
    let pumped = pump(&mut camera, &out, &mut sink, (frames, BURST_FRAMES), |_| {});
    let spent = bridge.engine.cpu_time().expect("running") - before;
    bridge.engine.close(true);
    (pumped, spent)
}
