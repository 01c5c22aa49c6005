//! Rule 17: no packet above 1200 bytes, whatever comes in, and the NAL units come out as they went in.

mod common;
use auralink_native::core::mode::Mode;
use common::*;
use proptest::prelude::*;

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![20usize..60, 1100usize..1300, 20usize..5000, 2000usize..60_000];
    proptest::collection::vec(size, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn native_frames_of_any_size_and_sender_mtu(sizes in sizes(), mtu in 100usize..1900) {
        let mut sender = Sender::new(0, 0);
        let (mut world, _, _) = World::started(false, Mode::Bypass, &mut sender);
        sender.mtu = mtu;
        let nals: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, len)| predicted(i as u64, *len)).collect();
        world.receive_all(&sender.frame(&nals));
        world.advance_ms(100);
        prop_assert_eq!(&world.seen()[1].nals, &nals);
    }

    #[test]
    fn submitted_frames_of_any_size(sizes in sizes(), sei in proptest::option::of(20usize..1500)) {
        let mut sender = Sender::new(0, 0);
        let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
        let mut nals = vec![SPS.to_vec(), PPS.to_vec()];
        nals.extend(sei.map(|len| slice(0x06, 7, len)));
        nals.extend(sizes.iter().enumerate().map(|(i, len)| idr(i as u64, *len)));
        prop_assert!(world.submit(stream, 0, Some(&annex_b(&nals)), true));
        world.advance_ms(100);
        prop_assert_eq!(&world.seen()[0].nals, &nals);
    }
}

#[test]
fn room_for_a_retransmission_header_is_kept() {
    let mut sender = Sender::new(0, 0);
    let (mut world, stream, _) = World::started(false, Mode::Compress, &mut sender);
    world.submit(stream, 0, Some(&annex_b(&[SPS.to_vec(), PPS.to_vec(), idr(1, 100_000)])), true);
    world.advance_ms(100);
    let packets = world.media();
    assert!(packets.iter().all(|left| left.bytes.len() <= 1198));
    let sizes: Vec<usize> = packets[1..packets.len() - 1].iter().map(|left| left.bytes.len()).collect();
    assert!(sizes.iter().all(|size| *size == sizes[0]), "fragments of one size: {sizes:?}");
}
