//! How many 720p streams one core carries in native mode: 30 frames a second and 2.5 Mb/s each, a key of five times the
//! size every two seconds, answered NACKs with their copies of three seconds. `streams [--first=N --step=N --most=N
//! --seconds=N]` raises the number until a packet is lost, a line each:
//!
//! `{"streams": n, "seconds": x, "packets": received, "frames": n, "lost_frames": n, "holes": n, "dropped": n,
//!   "late_ms": the sender's worst lateness, "cpu": share of the core}`

use super::options::Options;
use super::socket;
use super::traffic::{Bridge, Schedule, Sink, Tally, many_sockets};
use std::time::{Duration, Instant};

/// A sender that is later than this did not keep the pace: what it measured is itself.
const MOST_LATE: Duration = Duration::from_millis(33);
const PATIENCE: Duration = Duration::from_millis(500);

pub fn run(options: &Options) {
    many_sockets();
    let (step, most) = (options.get("step", 100), options.get("most", 1500));
    let seconds = Duration::from_secs(options.get("seconds", 5));
    let mut count = options.get("first", 300);
    while count <= most && carried(count as u32, seconds) {
        count += step;
    }
}

/// Whether all of it came out, at the pace it should have.
fn carried(count: u32, seconds: Duration) -> bool {
    let (out, mut sink) = (socket(), Sink::new(false));
    let mut bridge = Bridge::start(count, &mut sink, &out, true, true);
    let (mut tally, mut buffer, mut frames, mut late) = (Tally::default(), Vec::new(), 0, Duration::ZERO);
    let dropped = bridge.drops();
    let before = bridge.engine.cpu_time().expect("running");
    let mut schedule = Schedule::new(bridge.cameras.len());
    while schedule.elapsed() < seconds {
        if let Some((camera, by)) = schedule.due() {
            bridge.cameras[camera].frame(&out, &mut buffer);
            frames += 1;
            late = late.max(by);
        }
        sink.take(|arrival| tally.count(arrival));
    }
    let spent = (bridge.engine.cpu_time().expect("running") - before).as_secs_f64();
    let elapsed = schedule.elapsed().as_secs_f64(); // behind it: the answer waits for what the thread has to do
    let mut moved = Instant::now();
    while tally.frames < frames && moved.elapsed() < PATIENCE {
        if sink.take(|arrival| tally.count(arrival)) > 0 {
            moved = Instant::now();
        }
    }
    let (lost, dropped) = (frames - tally.frames, bridge.drops() - dropped);
    println!(
        "{{\"streams\": {count}, \"seconds\": {elapsed:.2}, \"packets\": {}, \"frames\": {frames}, \"lost_frames\": {lost}, \
         \"holes\": {}, \"dropped\": {dropped}, \"late_ms\": {:.1}, \"cpu\": {:.3}}}",
        tally.packets,
        tally.holes,
        late.as_secs_f64() * 1e3,
        spent / elapsed
    );
    bridge.engine.close(false);
    lost == 0 && tally.holes == 0 && dropped == 0 && late < MOST_LATE
}
