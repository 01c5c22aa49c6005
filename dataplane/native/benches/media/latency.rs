//! What the bridge adds to a frame's way, without pacing (no frame has more than 16 packets) and without AI Core: every
//! frame of every camera goes through the bare relay and through the bridge, on the same core in the same run, one turn
//! apart (with 100 cameras 167 us, in which either is done), now this first, now that. What holds up the core or the sender
//! for longer than that holds up both: it is in the percentiles of each, and not in those of the pairs' differences.
//! `latency [--streams=N --seconds=N]`:
//!
//! `{"streams": n, "frames": pairs, "lost": frames, "relay_lost": frames, "relay_p50_us": x, "relay_p99_us": x,
//!   "bridge_p50_us": x, "bridge_p99_us": x, "added_p50_us": of the pairs' differences, "added_p99_us": x,
//!   "relay_waited_ms": x, "bridge_waited_ms": x, "late_ms": the sender's worst}`
//!
//! A frame's time is from just before its packets are handed to the kernel, in one call, to the kernel's stamp of its last
//! packet at the sink. `waited`: how long in all the forwarding thread could have run and had no core
//! (`/proc/*/schedstat`).

use super::options::Options;
use super::traffic::{Bridge, CAMERA_TICKS, Camera, FRAME_TICKS, Schedule, Sink, many_sockets, realtime, roomy};
use super::{forward, pin, socket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// When each frame left and arrived, by camera and number.
struct Times(Vec<Vec<[Duration; 2]>>);

impl Times {
    fn new(cameras: usize) -> Times {
        Times(vec![Vec::new(); cameras])
    }

    fn left(&mut self, timestamp: u32, at: Duration) {
        let (camera, frame) = place(timestamp);
        let frames = &mut self.0[camera];
        frames.resize(frames.len().max(frame + 1), [Duration::ZERO; 2]);
        frames[frame][0] = at;
    }

    fn arrived(&mut self, timestamp: u32, at: Duration) {
        let (camera, frame) = place(timestamp);
        if let Some(times) = self.0.get_mut(camera).and_then(|frames| frames.get_mut(frame)) {
            times[1] = at;
        }
    }

    /// Microseconds on the way; None if it never came.
    fn of(&self, camera: usize, frame: usize) -> Option<f64> {
        let [left, arrived] = *self.0[camera].get(frame)?;
        arrived.checked_sub(left).filter(|_| left > Duration::ZERO).map(|way| way.as_secs_f64() * 1e6)
    }
}

/// Camera and frame that a timestamp stands for.
fn place(timestamp: u32) -> (usize, usize) {
    ((timestamp / CAMERA_TICKS) as usize, (timestamp % CAMERA_TICKS / FRAME_TICKS) as usize)
}

pub fn run(options: &Options) {
    many_sockets();
    let (count, seconds) = (options.get("streams", 100) as u32, Duration::from_secs(options.get("seconds", 10)));
    let (out, inlet) = (socket(), socket());
    roomy(&inlet); // as the bridge's are
    let (mut relayed, mut bridged) = (Sink::new(true), Sink::new(true));
    let (to, from) = (relayed.address(), inlet.local_addr().expect("bound"));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    pin(0);
    let relay = std::thread::Builder::new().name("relay".into()).spawn(move || forward(&inlet, to, &stopped));
    let mut bridge = Bridge::start(count, &mut bridged, &out, false, true);
    // Behind the first keys, so that the same number is the same frame in both.
    let mut bare: Vec<Camera> = (0..count).map(|number| Camera::new(number, from, false)).collect();
    bare.iter_mut().for_each(|camera| camera.begin(&out));
    let mut times = [Times::new(count as usize), Times::new(count as usize)];
    let (mut buffer, mut late, mut interval) = (Vec::new(), Duration::ZERO, 0);
    // A camera has two turns in a row; which is the relay's changes with each interval.
    let mut schedule = Schedule::new(2 * count as usize);
    let mut drain = |times: &mut [Times; 2]| {
        for (sink, times) in [&mut relayed, &mut bridged].into_iter().zip(times) {
            sink.take(|arrival| {
                if let (true, Some(at)) = (arrival.marker, arrival.at) {
                    times.arrived(arrival.timestamp, at);
                }
            });
        }
    };
    let before = THREADS.map(waited);
    while schedule.elapsed() < seconds {
        if let Some((turn, by)) = schedule.due() {
            late = late.max(by);
            let (which, number) = ((turn + interval) % 2, turn / 2);
            interval += usize::from(turn + 1 == 2 * count as usize);
            let camera = if which == 0 { &mut bare[number] } else { &mut bridge.cameras[number] };
            let at = realtime();
            let (timestamp, _) = camera.frame(&out, &mut buffer);
            times[which].left(timestamp, at);
        }
        drain(&mut times);
    }
    let after = THREADS.map(waited);
    std::thread::sleep(Duration::from_millis(100));
    (0..100).for_each(|_| drain(&mut times));
    bridge.engine.close(false);
    stop.store(true, Ordering::Relaxed);
    out.send_to(&[0], from).expect("a last packet wakes it");
    relay.expect("a thread").join().expect("the relay ends");
    print(count, &times, [after[0] - before[0], after[1] - before[1]], late);
}

/// The forwarding threads, by the kernel's 15 characters of their names.
const THREADS: [&str; 2] = ["relay", "auralink-packet"];

/// How long a thread has been ready to run and had no core.
fn waited(thread: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let read = |folder: &Path, name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let own = tasks.map(|task| task.path()).find(|task| read(task, "comm").trim() == thread);
    let waited = own.and_then(|task| read(&task, "schedstat").split(' ').nth(1)?.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

fn print(count: u32, [relay, bridge]: &[Times; 2], waited: [Duration; 2], late: Duration) {
    let (mut bare, mut ours, mut added, mut lost) = (Vec::new(), Vec::new(), Vec::new(), [0, 0]);
    for camera in 0..count as usize {
        for frame in 1..bridge.0[camera].len() {
            let both = (relay.of(camera, frame), bridge.of(camera, frame));
            lost = [lost[0] + u64::from(both.0.is_none()), lost[1] + u64::from(both.1.is_none())];
            let (Some(one), Some(other)) = both else { continue };
            bare.push(one);
            ours.push(other);
            added.push(other - one);
        }
    }
    let percentile = |values: &mut Vec<f64>, of: f64| {
        values.sort_by(f64::total_cmp);
        values.get((values.len() as f64 * of) as usize).copied().unwrap_or(f64::NAN)
    };
    print!("{{\"streams\": {count}, \"frames\": {}, \"lost\": {}, \"relay_lost\": {}", added.len(), lost[1], lost[0]);
    for (name, values) in [("relay", &mut bare), ("bridge", &mut ours), ("added", &mut added)] {
        let (p50, p99) = (percentile(values, 0.5), percentile(values, 0.99));
        print!(", \"{name}_p50_us\": {p50:.1}, \"{name}_p99_us\": {p99:.1}");
    }
    let [relay, bridge] = waited.map(|waited| waited.as_secs_f64() * 1e3);
    print!(", \"relay_waited_ms\": {relay:.1}, \"bridge_waited_ms\": {bridge:.1}");
    println!(", \"late_ms\": {:.1}}}", late.as_secs_f64() * 1e3);
}
