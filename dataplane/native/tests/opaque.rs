//! Rule 37: frames that are encrypted from end to end are re-stamped and nothing else. In BYPASS without a policy a payload
//! leaves as it came, whatever is behind the few bytes that tell a key and where a frame begins: no extension, no trailer,
//! nothing in band, nor anything that looks like it taken out.

mod common;
use auralink_native::core::SockId;
use auralink_native::core::carrier::Carrier;
use auralink_native::core::leg_plain::Direction;
use auralink_native::core::mode::{Mode, Policy};
use common::*;

const OUT_AUDIO: SockId = SockId(22);
/// What would mean something in the clear: start codes, an SEI unit of ours, the end of a trailer.
const MISLEADING: [&[u8]; 4] = [
    &[0, 0, 1, 0x65, 0, 0, 0, 1, 0x67],
    &[
        0, 0, 1, 0x06, 5, 32, 0xbc, 0xb8, 0x16, 0x69, 0x19, 0x50, 0x5d, 0x02, 0x87, 0xdc, 0xd7, 0x6c, 0xf5, 0x49, 0xa9,
        0x8c,
    ],
    &[0, 0, 3, 0, 0, 3, 0, 0, 0],
    b"\xfc\xef\xe8LKTS",
];

/// `clear` and encrypted bytes, `len` in all.
fn encrypted(clear: &[u8], len: usize, random: &mut Random) -> Vec<u8> {
    let mut out = clear.to_vec();
    while out.len() < len {
        out.extend((0..random.below(60)).map(|_| random.next() as u8));
        out.extend(MISLEADING[random.below(4) as usize]);
    }
    out
}

/// Pieces of at most `room`, each behind what `head(begins, ends)` says.
fn packed(frame: &[u8], room: usize, head: impl Fn(bool, bool) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = frame.len().div_ceil(room);
    frame.chunks(room).enumerate().map(|(at, piece)| [&head(at == 0, at + 1 == count), piece].concat()).collect()
}

/// The payloads of a key or of another frame.
type Frame = fn(bool, usize, &mut Random) -> Vec<Vec<u8>>;

/// As their senders encrypt them: NAL and slice headers, the first bytes of VP8 and VP9, OBU headers stay in the clear.
const CODECS: [(&str, u8, Frame); 5] = [
    ("H264", VIDEO_PT, |key, len, random| {
        let slice = encrypted(if key { &[0x65, 0x88, 0x84] } else { &[0x41, 0x88, 0x84] }, len, random);
        payloads(&if key { vec![SPS.to_vec(), PPS.to_vec(), slice] } else { vec![slice] }, 1150)
    }),
    ("H265", H265_PT, |key, len, random| {
        let slice = encrypted(if key { &[19 << 1, 1, 0xaf] } else { &[1 << 1, 1, 0xd0] }, len, random);
        let mut out = if key { [&h265::VPS[..], &h265::SPS, &h265::PPS].map(<[u8]>::to_vec).to_vec() } else { vec![] };
        let fragment = |begins, ends| {
            let marks = if begins { 0x80 } else { 0 } | if ends { 0x40 } else { 0 };
            vec![49 << 1, 1, marks | slice[0] >> 1]
        };
        out.extend(packed(&slice[2..], 1100.min(slice.len() / 2), fragment));
        out
    }),
    ("VP8", VP8_PT, |key, len, random| {
        let clear: &[u8] =
            if key { &[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01] } else { &[0x31, 2, 0] };
        packed(&encrypted(clear, len, random), 1150, |begins, _| vec![if begins { 0x10 } else { 0x00 }])
    }),
    ("VP9", VP9_PT, |key, len, random| {
        let clear: &[u8] =
            if key { &[0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x7f, 0x00] } else { &[0x86, 1, 2] };
        packed(&encrypted(clear, len, random), 1150, |begins, ends| {
            vec![if key { 0 } else { 0x40 } | if begins { 8 } else { 0 } | if ends { 4 } else { 0 }]
        })
    }),
    ("AV1", AV1_PT, |key, len, random| {
        let mut out = if key { vec![[&[0x18][..], &common::av1::SEQUENCE_HEADER].concat()] } else { vec![] };
        let frame = encrypted(if key { &[0x30, 0x10] } else { &[0x30, 0x30] }, len, random);
        out.extend(packed(&frame, 1150, |begins, ends| {
            vec![0x10 | if begins { 0 } else { 0x80 } | if ends { 0 } else { 0x40 }]
        }));
        out
    }),
];

fn world() -> World {
    let mut target = config(Direction::Send, false, Some(receiver()));
    target.carrier = Carrier::InBand;
    World::between(config(Direction::Receive, false, Some(sender())), target)
}

#[test]
fn rule_37_payloads_of_video_leave_as_they_came() {
    for (name, payload_type, frame) in CODECS {
        let mut random = Random(37);
        let (mut world, mut sent, mut sequence, mut linked) = (world(), Vec::new(), 0u16, false);
        for id in 0..60u32 {
            let payloads = frame(id % 20 == 0, 30 + random.below(5000) as usize, &mut random);
            for (at, payload) in payloads.iter().enumerate() {
                let marker = at + 1 == payloads.len();
                world.receive(&packet(SSRC, payload_type, sequence, id * FRAME_TICKS, marker, payload));
                sequence += 1;
            }
            sent.extend(payloads);
            if !std::mem::replace(&mut linked, true) {
                let stream = world.stream();
                world.link(stream);
                let policy = Policy { mode: Mode::Bypass, extension: false, degraded: false };
                assert!(world.shard.set_mode(stream, policy, None, world.now()));
                world.settle();
            }
            world.advance_ms(33);
        }
        let left = world.media();
        assert_eq!(left.len(), sent.len(), "{name}");
        for (left, sent) in left.iter().zip(&sent) {
            let rtp = left.rtp();
            assert_eq!((rtp.payload, rtp.extension), (&sent[..], None), "{name}");
        }
    }
}

#[test]
fn rule_37_payloads_of_sound_leave_as_they_came() {
    let mut random = Random(38);
    let mut world = world();
    let mut sent = Vec::new();
    for number in 0..100u16 {
        let payload = encrypted(&[0x78], 20 + random.below(200) as usize, &mut random);
        world.receive_from(
            SockId(12),
            sender(),
            &packet(0xaaaa, AUDIO_PT, number, u32::from(number) * 960, false, &payload),
        );
        if number == 0 {
            let stream = world.stream();
            world.link(stream);
        } else {
            sent.push(payload);
        }
    }
    let left: Vec<&Left> = world.left.iter().filter(|left| left.sock == OUT_AUDIO).collect();
    assert_eq!(left.len(), sent.len());
    for (left, sent) in left.iter().zip(&sent) {
        assert_eq!((left.rtp().payload, left.rtp().extension), (&sent[..], None));
    }
}
