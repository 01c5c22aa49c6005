//! RTP packets to and from bytes (RFC 3550 section 5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |           synchronization source (SSRC) identifier            |
//! ```

use super::srtp::MAX_TAG_BYTES;
use super::{be16, be32, ext};
use bytes::{BufMut, BytesMut};

pub const HEADER_BYTES: usize = 12;

/// RTP header, extensions and payload of what we send never exceed this: with an SRTP tag, UDP and IPv6 headers it stays
/// below 1280, the least that IPv6 carries.
pub const MTU_BYTES: usize = 1200;

/// Kept free in every packet, so that it still fits as RFC 4588 retransmission (original sequence number).
pub const RTX_BYTES: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtp<'a> {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    /// Profile word and body of the header extension.
    pub extension: Option<(u16, &'a [u8])>,
    /// Without padding; empty for a padding-only packet.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Bytes in front of the payload: fixed header, CSRCs, extension. None: this is no RTP packet.
pub fn header_bytes(packet: &[u8]) -> Option<usize> {
    if packet.len() < HEADER_BYTES || packet[0] >> 6 != 2 {
        return None;
    }
    let mut end = extension_at(packet);
    if packet[0] & 0x10 != 0 {
        let words = packet.get(end + 2..end + 4)?;
        end += 4 + 4 * usize::from(be16(words, 0));
    }
    (end <= packet.len()).then_some(end)
}

fn extension_at(packet: &[u8]) -> usize {
    HEADER_BYTES + 4 * usize::from(packet[0] & 0x0f)
}

pub fn parse(bytes: &[u8]) -> Result<Rtp<'_>, Malformed> {
    let at = header_bytes(bytes).ok_or(Malformed)?;
    let (padded, extended, from) = (bytes[0] & 0x20 != 0, bytes[0] & 0x10 != 0, extension_at(bytes));
    let extension = extended.then(|| (be16(bytes, from), &bytes[from + 4..at]));
    let mut end = bytes.len();
    if padded {
        let padding = usize::from(bytes[end - 1]);
        if padding == 0 {
            return Err(Malformed);
        }
        end = end.checked_sub(padding).ok_or(Malformed)?;
    }
    let payload = bytes.get(at..end).ok_or(Malformed)?;
    Ok(Rtp {
        marker: bytes[1] & 0x80 != 0,
        payload_type: bytes[1] & 0x7f,
        sequence: be16(bytes, 2),
        timestamp: be32(bytes, 4),
        ssrc: be32(bytes, 8),
        extension,
        payload,
    })
}

/// The fields of a packet we write.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// One packet with these elements of header extension. The payload comes in two parts, so that fragments need no copy of
/// their own. Behind it is room for an SRTP tag.
pub fn write(header: &Header, elements: &[(u8, &[u8])], payload: [&[u8]; 2]) -> BytesMut {
    let ext_bytes = ext::bytes(elements);
    let payload_bytes = payload[0].len() + payload[1].len();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + ext_bytes + payload_bytes + MAX_TAG_BYTES);
    out.put_u8(0x80 | if ext_bytes > 0 { 0x10 } else { 0 });
    out.put_u8(u8::from(header.marker) << 7 | header.payload_type & 0x7f);
    out.put_u16(header.sequence);
    out.put_u32(header.timestamp);
    out.put_u32(header.ssrc);
    if ext_bytes > 0 {
        ext::write(&mut out, elements);
    }
    out.put_slice(payload[0]);
    out.put_slice(payload[1]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn csrcs_extension_and_padding_are_cut_off() {
        let mut bytes = vec![0x80 | 0x20 | 0x10 | 1, 0x80 | 96, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4];
        bytes.extend([9, 9, 9, 9]); // one CSRC
        bytes.extend([0xbe, 0xde, 0, 1, 0x10, 0xaa, 0, 0]); // one word of extension
        bytes.extend([5, 6, 7]);
        bytes.extend([0, 0, 3]); // padding of three
        let rtp = parse(&bytes).unwrap();
        assert_eq!(rtp.payload, [5, 6, 7]);
        assert_eq!(rtp.extension, Some((0xbede, &[0x10u8, 0xaa, 0, 0][..])));
        assert_eq!((rtp.marker, rtp.payload_type, rtp.sequence, rtp.timestamp, rtp.ssrc), (true, 96, 7, 9, 0x01020304));
    }

    #[test]
    fn a_padding_only_packet_has_an_empty_payload() {
        let mut bytes = vec![0xa0, 96, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4];
        bytes.extend([0; 254]);
        bytes.push(255);
        assert!(parse(&bytes).unwrap().payload.is_empty());
    }

    #[test]
    fn padding_longer_than_the_payload_is_malformed() {
        let bytes = [0xa0, 96, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4, 1, 2, 4];
        assert_eq!(parse(&bytes), Err(Malformed));
        let bytes = [0xa0, 96, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4, 1, 2, 0];
        assert_eq!(parse(&bytes), Err(Malformed));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_stays_inside(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(rtp) = parse(&bytes) {
                prop_assert!(rtp.payload.len() + HEADER_BYTES <= bytes.len());
            }
        }

        #[test]
        fn what_is_written_parses_back(marker: bool, pt in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
                                       id in 1u8..15, value: [u8; 16], with: bool,
                                       payload in proptest::collection::vec(any::<u8>(), 0..50)) {
            let header = Header { marker, payload_type: pt, sequence, timestamp, ssrc };
            let elements = [(id, &value[..])];
            let bytes = write(&header, &elements[..usize::from(with)], [&payload[..1.min(payload.len())], &payload[1.min(payload.len())..]]);
            let rtp = parse(&bytes).unwrap();
            prop_assert_eq!((rtp.marker, rtp.payload_type, rtp.sequence), (marker, pt, sequence));
            prop_assert_eq!((rtp.timestamp, rtp.ssrc), (timestamp, ssrc));
            prop_assert_eq!(rtp.payload, &payload[..]);
            prop_assert_eq!(rtp.extension.and_then(|(profile, body)| ext::find(profile, body, id)), with.then_some(&value[..]));
        }
    }
}
