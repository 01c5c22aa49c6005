//! Whole calls over bad networks, with a Python that changes its mind: seeded runs that every codec goes through alike.
//! `AURALINK_RUNS` says how many per codec, `AURALINK_RUN=VP8:17` runs one of them again.

mod common;
use auralink_native::core::codec::Codec;
use common::call::{Outcome, run};
use common::coding::{CODECS, Make};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Of a codec, where nothing else is said.
const RUNS: u64 = 100;

fn wanted(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn runs((codec, make): (Codec, Make)) {
    let one = wanted("AURALINK_RUN").map(|run| {
        let (name, seed) = run.split_once(':').expect("AURALINK_RUN is CODEC:SEED");
        (name.to_owned(), seed.parse::<u64>().expect("a seed is a number"))
    });
    let seeds = match one {
        Some((name, _)) if name != codec.name() => return,
        Some((_, seed)) => seed..seed + 1,
        None => 0..wanted("AURALINK_RUNS").map_or(RUNS, |runs| runs.parse().expect("AURALINK_RUNS is a number")),
    };
    let (count, mut sum) = (seeds.end - seeds.start, Outcome::default());
    for seed in seeds {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(make, seed)));
        let Ok(outcome) = outcome else { panic!("again with AURALINK_RUN={}:{seed}", codec.name()) };
        sum.add(&outcome);
    }
    println!("{}: {count} runs, {sum:?}", codec.name());
    if count > 50 {
        assert!(sum.switches > count && sum.lost > count && sum.illegal > count, "the runs try something: {sum:?}");
        assert!(sum.resent > count && sum.repaired > count, "and repair something: {sum:?}");
        assert!(sum.left * 3 > sum.sent && sum.left < sum.sent, "and some of it leaves: {sum:?}");
    }
}

#[test]
fn h264_comes_through_any_call() {
    runs(CODECS[0]);
}

#[test]
fn h265_comes_through_any_call() {
    runs(CODECS[1]);
}

#[test]
fn vp8_comes_through_any_call() {
    runs(CODECS[2]);
}

#[test]
fn vp9_comes_through_any_call() {
    runs(CODECS[3]);
}

#[test]
fn av1_comes_through_any_call() {
    runs(CODECS[4]);
}

#[test]
fn every_codec_of_video_has_its_runs() {
    let video: Vec<Codec> = Codec::ALL.into_iter().filter(|codec| codec.video().is_some()).collect();
    assert_eq!(CODECS.map(|(codec, _)| codec)[..], video);
}
