//! What kind of datagram came in (RFC 7983 section 7, RFC 5761 section 4).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
}

/// None: nothing we speak. RTCP on a multiplexed port is told by the second byte: packet types 192..=223 cover the
/// defined ones and lie where RTP would have payload types 64..=95 with the marker bit set.
pub fn classify(datagram: &[u8]) -> Option<Kind> {
    match *datagram {
        [0..=3, ..] => Some(Kind::Stun),
        [20..=63, ..] => Some(Kind::Dtls),
        [128..=191, 192..=223, ..] => Some(Kind::Rtcp),
        [128..=191, _, ..] => Some(Kind::Rtp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 36.
    #[test]
    fn every_first_byte_has_the_kind_of_rfc_7983() {
        for first in 0..=255u8 {
            let want = match first {
                0..=3 => Some(Kind::Stun),
                20..=63 => Some(Kind::Dtls),
                128..=191 => Some(Kind::Rtp),
                _ => None,
            };
            assert_eq!(classify(&[first, 96]), want, "first byte {first}");
        }
    }

    /// Rule 36.
    #[test]
    fn rtcp_is_told_from_rtp_by_the_second_byte() {
        for second in 0..=255u8 {
            let want = if (192..=223).contains(&second) { Kind::Rtcp } else { Kind::Rtp };
            assert_eq!(classify(&[0x80, second]), Some(want));
        }
    }

    #[test]
    fn an_empty_datagram_is_nothing() {
        assert_eq!(classify(&[]), None);
    }
}
