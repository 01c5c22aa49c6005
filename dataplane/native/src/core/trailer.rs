//! What LiveKit's clients attach to a frame, and its server hands on to those who understand it ("packet trailer"): at the
//! end of the frame's last packet, or, of AV1, in a metadata OBU.
//!
//! ```text
//! | frame ... | tag | length | value ... | tag | length | value ... | length of it all | L K T S |
//!              \_________ every byte XOR ff, so that none looks like a start code ___/
//! tag 1: time in microseconds, 8 bytes   2: number of the frame, 4 bytes   3: user data, where ours is
//! ```
//! The server takes it off by cutting the end of the packet with the marker, so the whole of it lies there, and that packet
//! is no aggregate, whose inner sizes would not be true any more (`codec` sees to both). What others attached goes on.

use super::ext::Value;
use bytes::Bytes;

const MAGIC: [u8; 4] = *b"LKTS";
/// The length and the magic.
const END_BYTES: usize = 1 + MAGIC.len();
const MOST_BYTES: usize = 255;
const MASK: u8 = 0xff;
const USER_DATA: u8 = 3;

/// Of a metadata OBU that has one.
pub const METADATA_TYPE: u8 = 31;

/// Tags and values, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailer(Vec<(u8, Vec<u8>)>);

impl Trailer {
    /// Of what ends with one: a frame, its last payload, the metadata of AV1. Values beyond its end are left out.
    pub fn read(bytes: &[u8]) -> Option<Trailer> {
        let whole = &bytes[bytes.len() - length(bytes)?..];
        let mut rest = &whole[..whole.len() - END_BYTES];
        let mut fields = Vec::new();
        while let [tag, len, behind @ ..] = rest
            && let Some((value, next)) = behind.split_at_checked(usize::from(len ^ MASK))
        {
            fields.push((tag ^ MASK, value.iter().map(|byte| byte ^ MASK).collect()));
            rest = next;
        }
        Some(Trailer(fields))
    }

    /// With ours as user data. That of others stays, for it is their application's; and so does what leaves no room.
    #[must_use]
    pub fn with(mut self, value: &Value) -> Trailer {
        let taken = self.0.iter().any(|(tag, _)| *tag == USER_DATA);
        if !taken && self.bytes() + 2 + value.len() <= MOST_BYTES {
            self.0.push((USER_DATA, value.to_vec()));
        }
        self
    }

    pub fn user_data(&self) -> Option<&[u8]> {
        self.0.iter().find(|(tag, _)| *tag == USER_DATA).map(|(_, value)| &value[..])
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, value)| 2 + value.len()).sum::<usize>() + END_BYTES
    }

    /// As it is attached.
    pub fn written(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        for (tag, value) in &self.0 {
            out.extend([tag ^ MASK, value.len() as u8 ^ MASK]);
            out.extend(value.iter().map(|byte| byte ^ MASK));
        }
        out.push(self.bytes() as u8 ^ MASK);
        out.extend(MAGIC);
        out
    }
}

/// How many bytes of the end of `bytes` are one.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(bytes.strip_suffix(&MAGIC)?.last()? ^ MASK);
    (END_BYTES..=bytes.len()).contains(&length).then_some(length)
}

/// Without it. A payload that would be nothing but a trailer is none.
pub fn stripped(payload: &Bytes) -> Bytes {
    let own = length(payload).map(|length| payload.len() - length).filter(|own| *own > 0);
    payload.slice(..own.unwrap_or(payload.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ratio 0.4, quality 0.92, model `encodec`.
    const VALUE: Value = [0x01, 0x01, 0x90, 0x03, 0x98, 0xa0, 0x31, 0x85, 0x0d, 0, 0, 0, 0, 0, 0, 0];
    /// A time and a number, as LiveKit's clients write them.
    const THEIRS: [u8; 21] = [
        0xfe, 0xf7, 0xff, 0xf9, 0xd4, 0x3e, 0x9b, 0x8c, 0x2f, 0xff, // 1, 8 bytes
        0xfd, 0xfb, 0xff, 0xff, 0xff, 0xf8, // 2, 4 bytes
        0xea, 0x4c, 0x4b, 0x54, 0x53,
    ];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn rule_21_ours_alone_is_the_23_bytes_of_the_vector() {
        let ours = Trailer::default().with(&VALUE).written();
        assert_eq!(hex(&ours), "fceffefe6ffc675fce7af2ffffffffffffffe84c4b5453");
        assert_eq!(Trailer::read(&ours).unwrap().user_data(), Some(&VALUE[..]));
    }

    #[test]
    fn rule_21_what_others_attached_stays_in_front_of_ours() {
        let frame = [&[7; 30][..], &THEIRS].concat();
        let theirs = Trailer::read(&frame).unwrap();
        assert_eq!(theirs.0, [(1, vec![0, 6, 0x2b, 0xc1, 0x64, 0x73, 0xd0, 0]), (2, vec![0, 0, 0, 7])]);
        assert_eq!(theirs.written(), THEIRS);
        let both = theirs.with(&VALUE).written();
        assert_eq!((both.len(), &both[..16], both[34]), (39, &THEIRS[..16], 39 ^ 0xff));
        assert_eq!(Trailer::read(&both).unwrap().user_data(), Some(&VALUE[..]));
    }

    #[test]
    fn rule_21_user_data_of_others_wins() {
        let theirs = Trailer(vec![(USER_DATA, vec![1, 2])]);
        assert_eq!(theirs.clone().with(&VALUE), theirs);
        let full = Trailer(vec![(9, vec![0; 231])]);
        assert_eq!(full.clone().with(&VALUE), full, "no room");
        assert_eq!(Trailer(vec![(9, vec![0; 230])]).with(&VALUE).written().len(), 255);
    }

    #[test]
    fn rule_21_it_is_stripped_and_what_is_none_stays() {
        let own = Bytes::from_static(&[0x65, 1, 2, 3]);
        assert_eq!(stripped(&[&own[..], &THEIRS].concat().into()), own);
        let unknown = Trailer(vec![(200, vec![5; 9])]).written();
        assert_eq!(stripped(&[&own[..], &unknown].concat().into()), own, "whatever it says");
        let beyond = [&[1, 2][..], &[0xff ^ 12], b"LKTS"].concat();
        let short = [&[1, 2, 3, 4, 5, 6][..], &[0xff ^ 4], b"LKTS"].concat();
        for other in [&own[..], b"LKTS", b"", &beyond, &short, &THEIRS] {
            let other = Bytes::copy_from_slice(other);
            assert_eq!(stripped(&other), other);
        }
    }

    #[test]
    fn rule_21_a_value_that_overruns_it_is_left_out() {
        let broken = [&[1, 0xfd, 0xfe, 9, 0xfc, 0xef, 1], &[0xff ^ 11][..], b"LKTS"].concat();
        assert_eq!(Trailer::read(&broken), Some(Trailer(vec![(2, vec![0xf6])])));
    }

    proptest! {
        #[test]
        fn fields_come_back_as_they_were_written(
            fields in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let trailer = Trailer(fields);
            prop_assert_eq!(Trailer::read(&trailer.written()), Some(trailer.clone()));
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), length: u8) {
            let bytes = Bytes::from([&bytes[..], &[length], &MAGIC].concat());
            let _ = (Trailer::read(&bytes), stripped(&bytes));
        }
    }
}
