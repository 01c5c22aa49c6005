//! The fuzz targets without a fuzzer: with the seeds, and with what a seeded mutation makes of them. The seeds in
//! `fuzz/seeds` are made here of the crate's own packets; `AURALINK_WRITE_SEEDS=1` writes them anew.

mod common;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use auralink_native::core::rtcp::{Block, Writer};
use auralink_native::core::rtp::{self, Header};
use common::Random;
use common::coding::{CODECS, MADE, Meaning, NOTHING};
use common::dd::{descriptor, one_layer, three_temporal_layers, two_spatial_layers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use targets::{TARGETS, Target};

/// Inputs made of the seeds, for each target.
const MUTATED: u64 = 5000;
const MOST_BYTES: usize = 4000;

type Seeds = BTreeMap<PathBuf, Vec<u8>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

fn made() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target: &str, name: &str, bytes: Vec<u8>| {
        seeds.insert(Path::new(target).join(name), bytes);
    };
    let header = Header { marker: true, payload_type: 96, sequence: 65_535, timestamp: u32::MAX, ssrc: 7 };
    let plain = rtp::write(&header, &[], [&[0x65, 0x88], &[1, 2, 3]]).to_vec();
    let extended = rtp::write(&header, &[(14, &[9; 16])], [&[], &[1, 2, 3]]).to_vec();
    let padded = [&[0xb1][..], &extended[1..12], &[0, 0, 0, 5], &extended[12..], &[0, 0, 3]].concat();
    add("ext", "one-byte", [&[0, 0, 0, 14][..], &extended[16..36]].concat());
    add("ext", "two-bytes", vec![1, 0, 0, 14, 3, 0, 14, 2, 7, 8, 0]);
    let mut compound = Writer::default();
    let block = Block { ssrc: 9, fraction_lost: 3, lost: -5, highest_sequence: 7, jitter: 4, last_sr: 5, delay: 6 };
    compound.sender_report(1, 2 << 32, 3, 4, 5, &[block]);
    compound.names(&[(1, "name@auralink"), (2, "name@auralink")]);
    compound.nack(1, 2, &[65_534, 65_535, 3]);
    compound.pli(1, 2);
    compound.bye(&[1, 2]);
    let compound = compound.finish();
    let mut report = Writer::default();
    report.receiver_report(1, &[block, block]);
    for (name, bytes) in [("compound", compound), ("report", report.finish())] {
        add("demux", name, bytes[..4].to_vec());
        add("rtcp", name, bytes);
    }
    for (name, bytes) in [("plain", plain), ("extended", extended), ("padded", padded)] {
        add("demux", name, bytes[..2].to_vec());
        add("rtp", name, bytes);
    }
    for (codec, _) in CODECS {
        let target = codec.name().to_lowercase();
        (0..6).for_each(|seed| add(&target, &format!("stream-{seed}"), stream(codec, seed)));
    }
    for (name, packets) in descriptors() {
        add("dd", name, packets);
    }
    for codec in 0..5u8 {
        for (name, settings, options) in [
            ("plain", 0, 0),
            ("feedback", 1, 0),
            ("mux-learned", 6, 0),
            ("both-ways", 9, 0),
            ("rtx-elements", 1, 0x43),
            ("red", 0, 0x0c),
            ("srtp-cm-both-ways", 9, 0x1f),
            ("srtp-gcm-mux-learned", 7, 0xff),
        ] {
            add("shard", &format!("call-{codec}-{name}"), call(codec << 4 | settings, options));
        }
        add("shard", &format!("call-{codec}-carrier"), call((codec + 5) << 4, 0));
    }
    seeds
}

/// A few frames as they come in and as an encoder answers them, in the form that the codecs' targets read.
fn stream(codec: auralink_native::core::codec::Codec, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let (_, make) = CODECS.into_iter().find(|(other, _)| *other == codec).unwrap();
    let mut sender = make(&mut random);
    let mut out = Vec::new();
    let mut record = |what: u8, bytes: &[u8]| {
        out.push(what);
        out.extend((bytes.len() as u16).to_be_bytes());
        out.extend(bytes);
    };
    for id in 0..3 {
        for packet in sender.frame(id, id == 0, if id == 1 { 1300 } else { 60 }) {
            let packet = rtp::parse(&packet).unwrap();
            record(u8::from(packet.marker), packet.payload);
        }
        let needs = if id == 0 { NOTHING } else { MADE + id - 1 };
        let answer = sender.made(Meaning { key: id == 0, id: MADE + id, needs }, 40);
        record(if id == 0 { 6 } else { 2 }, &answer);
    }
    out
}

/// The descriptors of a few frames, in the form that their target reads: temporal layers, spatial ones, and what is a frame's
/// own.
fn descriptors() -> [(&'static str, Vec<u8>); 3] {
    let record = |what: u8, bytes: &[u8]| [&[what, bytes.len() as u8][..], bytes].concat();
    let temporal = [
        record(2, &descriptor(true, false, 62, 65_534, &three_temporal_layers(62))),
        record(3, &descriptor(false, true, 62, 65_534, "")),
        record(1, &descriptor(true, true, 1, 65_535, "")),
        record(1, &descriptor(true, true, 0, 0, "")),
        record(7, &descriptor(true, true, 3, 9, &one_layer(3, 640, 360))),
        record(5, &descriptor(true, true, 4, 10, "")),
    ];
    let spatial = [
        record(2, &descriptor(true, true, 0, 7, &two_spatial_layers(0))),
        record(3, &descriptor(true, true, 2, 8, "")),
        record(0, &descriptor(true, true, 1, 9, "")),
        record(1, &descriptor(true, true, 3, 10, "")),
    ];
    let own = [
        record(3, &descriptor(true, true, 62, 5, &three_temporal_layers(62))),
        record(1, &descriptor(true, true, 0, 6, "01111 011 101001 01 0000 10 00010000 11 000100000000 00 00000001")),
        record(1, &descriptor(true, true, 63, 9, "01000 001")),
    ];
    [("temporal-layers", temporal.concat()), ("spatial-layers", spatial.concat()), ("own-fields", own.concat())]
}

/// A call in the form that the shard's target reads: keys, frames, answers, reports, losses, changes of mode.
fn call(settings: u8, options: u8) -> Vec<u8> {
    let mut out = vec![settings, options, 0xff, 0xf0];
    let (key, delta, long, lossy) = ([1, 0, 0, 0, 0], [2, 0, 0, 0, 0], [2, 1, 9, 0, 0], [2, 0, 0, 0, 1]);
    out.extend(key);
    out.extend([8, 0x03, 10, 0, 33]); // an encoder's key, and a frame's time
    for frame in [delta, long, delta] {
        out.extend(frame);
        out.extend([8, 0x02, 11]);
    }
    out.extend([6, 0x42, 0, 0, 6, 0x41, 0xff, 0xf4, 13, 0x0a]); // the receiver's PLI and NACK, counters
    out.extend(lossy);
    out.extend(delta);
    out.extend([31, 0x02, 2, 0, 31, 0x01, 3, 0]); // retransmissions, one with an SSRC of ours
    (0..4).for_each(|_| out.extend([1, 0x40, 0, 0, 0])); // sound
    out.extend([10, 1, 44]);
    out.extend(key);
    out.extend([7, 0x01]); // native
    out.extend(delta);
    out.extend([7, 0x00, 12, 4, 4, 0x80, 0, 0, 5, 0x41, 0x88, 0x84, 1, 2]); // bypass, and a packet of its own
    out.extend(key);
    out.extend([6, 0x20, 1, 1, 13, 0x05]); // the sender's report, another SSRC
    (0..4).for_each(|_| out.extend(key));
    out.extend([0, 0, 0, 0, 4, 1, 2, 3, 4, 14, 1, 15, 13, 0x00, 12, 6]);
    out.extend(key);
    out
}

fn stored(target: &str) -> Seeds {
    let files = std::fs::read_dir(folder().join(target)).expect("each target has seeds");
    let paths = files.map(|file| file.unwrap().path());
    paths.map(|path| (path.strip_prefix(folder()).unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn the_seeds_are_those_that_the_crate_makes() {
    let made = made();
    if std::env::var_os("AURALINK_WRITE_SEEDS").is_some() {
        for (path, bytes) in &made {
            let path = folder().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    for (target, _) in TARGETS {
        let of_target = |path: &&PathBuf| path.starts_with(target);
        let found: Vec<PathBuf> = stored(target)
            .into_keys()
            .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("found-"))
            .collect();
        assert!(found.iter().eq(made.keys().filter(of_target)), "{target}: AURALINK_WRITE_SEEDS=1");
    }
    for (path, bytes) in &made {
        assert!(std::fs::read(folder().join(path)).unwrap() == *bytes, "{path:?}: AURALINK_WRITE_SEEDS=1");
    }
}

/// What an input becomes: bytes changed, cut out, doubled, put in, and pieces of another.
fn mutated(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..1 + random.below(6) {
        let at = random.below(out.len() as u64 + 1) as usize;
        let to = (at + random.below(40) as usize).min(out.len());
        match random.below(6) {
            0 if at < out.len() => out[at] = random.next() as u8,
            1 if at < out.len() => out[at] ^= 1 << random.below(8),
            2 => drop(out.drain(at..to)),
            3 => {
                let piece = out[at..to].to_vec();
                out.splice(at..at, piece);
            }
            4 => {
                let from = random.below(other.len() as u64 + 1) as usize;
                let end = (from + random.below(200) as usize).min(other.len());
                out.splice(at..to, other[from..end].iter().copied());
            }
            _ => out.insert(at, [0, 1, 0x7f, 0x80, 0xff][random.below(5) as usize]),
        }
    }
    out.truncate(MOST_BYTES);
    out
}

#[test]
fn no_input_made_of_the_seeds_breaks_a_target() {
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = stored(name).into_values().collect();
        seeds.iter().for_each(|seed| target(seed));
        let mut random = Random(1);
        for number in 0..MUTATED {
            let pick = |random: &mut Random| seeds[random.below(seeds.len() as u64) as usize].clone();
            let (one, other) = (pick(&mut random), pick(&mut random));
            let input = mutated(&mut random, &one, &other);
            survives(name, target, number, &input);
        }
    }
}

fn survives(name: &str, target: Target, number: u64, input: &[u8]) {
    if std::panic::catch_unwind(|| target(input)).is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}"));
        std::fs::write(&path, input).unwrap();
        panic!("{name}: input {number}, kept as {}", path.display());
    }
}
