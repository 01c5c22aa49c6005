//! Nothing that anybody sends makes the shard panic, grow or answer.

mod common;
use auralink_native::core::SockId;
use auralink_native::core::mode::Mode;
use auralink_native::core::rtcp::Writer;
use common::*;
use proptest::prelude::*;
use std::net::SocketAddr;

#[derive(Clone, Debug)]
enum Act {
    /// Random bytes on any socket, from the peer or a stranger.
    Noise {
        sock: u64,
        stranger: bool,
        bytes: Vec<u8>,
    },
    /// A valid packet with some bytes changed and its end cut off.
    Mangled {
        key: bool,
        len: usize,
        changes: Vec<(usize, u8)>,
        cut: usize,
    },
    /// H.264 payload of random bytes in a valid packet.
    Payload {
        marker: bool,
        bytes: Vec<u8>,
    },
    Rtcp {
        kind: u8,
        bytes: Vec<u8>,
    },
    Submit {
        back: u64,
        data: Option<Vec<u8>>,
        key: bool,
    },
    SetMode(u8),
    Hold,
    Wait(u64),
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn act() -> impl Strategy<Value = Act> {
    let sock = prop_oneof![Just(10u64), Just(11), Just(12), Just(13), Just(20), Just(21), Just(99)];
    prop_oneof![
        (sock, any::<bool>(), bytes(100)).prop_map(|(sock, stranger, bytes)| Act::Noise { sock, stranger, bytes }),
        (any::<bool>(), 20usize..3000, proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), 0usize..40)
            .prop_map(|(key, len, changes, cut)| Act::Mangled { key, len, changes, cut }),
        (any::<bool>(), prop_oneof![bytes(40), bytes(1500)]).prop_map(|(marker, bytes)| Act::Payload { marker, bytes }),
        (200u8..208, bytes(60)).prop_map(|(kind, bytes)| Act::Rtcp { kind, bytes }),
        (0u64..4, proptest::option::of(bytes(200)), any::<bool>()).prop_map(|(back, data, key)| Act::Submit {
            back,
            data,
            key
        }),
        (0u8..3).prop_map(Act::SetMode),
        Just(Act::Hold),
        (0u64..400).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_shard_survives_anything(feedback: bool, acts in proptest::collection::vec(act(), 1..150)) {
        let mut sender = Sender::new(65_400, u32::MAX - 9000);
        let (mut world, stream, _) = World::started(feedback, Mode::Compress, &mut sender);
        for (id, act) in acts.into_iter().enumerate() {
            match act {
                Act::Noise { sock, stranger, bytes } => {
                    let src = if stranger { SocketAddr::from(([9, 9, 9, 9], 9)) } else { common::sender() };
                    world.receive_from(SockId(sock), src, &bytes);
                }
                Act::Mangled { key, len, changes, cut } => {
                    let frame = if key { sender.key(id as u64, len) } else { sender.delta(id as u64, len) };
                    for mut packet in frame {
                        packet.truncate(packet.len().saturating_sub(cut));
                        for (at, value) in &changes {
                            let at = at % packet.len().max(1);
                            if let Some(byte) = packet.get_mut(at) { *byte = *value; }
                        }
                        world.receive(&packet);
                    }
                }
                Act::Payload { marker, bytes } => {
                    let packet = packet(SSRC, VIDEO_PT, sender.sequence, sender.timestamp, marker, &bytes);
                    sender.sequence = sender.sequence.wrapping_add(1);
                    world.receive(&packet);
                }
                Act::Rtcp { kind, bytes } => {
                    let mut writer = Writer::default();
                    writer.receiver_report(1, &[]);
                    let mut compound = writer.finish();
                    let words = bytes.len() / 4;
                    compound.extend([0x81, kind, 0, words as u8]);
                    compound.extend(&bytes[..4 * words]);
                    world.receive_from(IN_RTCP, common::sender(), &compound);
                    world.receive_from(OUT_RTCP, receiver(), &compound);
                }
                Act::Submit { back, data, key } => {
                    let newest = world.frames.last().map_or(0, |frame| frame.frame_id);
                    world.submit(stream, newest.saturating_sub(back), data.as_deref(), key);
                }
                Act::SetMode(mode) => {
                    let mode = [Mode::Bypass, Mode::Compress, Mode::Shadow][usize::from(mode)];
                    let policy = auralink_native::core::mode::Policy { mode, extension: true, degraded: false };
                    world.shard.set_mode(stream, policy, None, world.now());
                    world.settle();
                }
                Act::Hold => { world.shard.hold(stream, world.now()); world.settle(); }
                Act::Wait(ms) => world.advance_ms(ms),
            }
        }
        world.advance_ms(100);
        for left in world.media() {
            prop_assert!(left.bytes.len() <= 1200);
        }
        let numbers: Vec<u16> = world.media().iter().map(|left| left.rtp().sequence).collect();
        if !feedback {
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
        }
        prop_assert!(world.left.iter().all(|left| left.dst.ip() != SocketAddr::from(([9, 9, 9, 9], 9)).ip()));
        world.shard.close_leg(world.source, true, world.now());
        world.settle();
    }
}
