//! SRTP and SRTCP with static keys: AES_CM_128_HMAC_SHA1_80 (RFC 3711) and AEAD_AES_128_GCM (RFC 7714). No MKI, and a
//! key derivation rate of zero. The primitives are AWS-LC's; here is the framing, which tells packets apart before it
//! believes them: nothing that does not authenticate changes any state.
//!
//! ```text
//! SRTP   header, CSRCs, extension | payload, encrypted | tag
//! SRTCP  first 8 bytes | the rest, encrypted | E and 31-bit index | tag     AES_CM
//! SRTCP  first 8 bytes | the rest, encrypted | tag | E and 31-bit index     GCM
//! ```

use super::replay::Window;
use super::{Drop, be16, be32, rtp};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use bytes::BytesMut;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 16;
const AUTH_KEY_BYTES: usize = 20;
/// Of both suites' tags the longer one.
pub const MAX_TAG_BYTES: usize = 16;
/// In front of what SRTCP encrypts: the first packet's header and the sender's SSRC.
const RTCP_CLEAR_BYTES: usize = 8;
/// E flag: this SRTCP packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Sources whose rollover count and received numbers a medium remembers, so that one that returns is told from its
/// replay; beyond that the one not heard for longest is forgotten.
pub const MAX_SOURCES: usize = 64;
/// A source that sent for long before we were there, or while we did not hear it, has a rollover count that only trying
/// finds. For each packet that fails at the likely count so many others are tried: a digest of two blocks each.
const GUESSES_PER_PACKET: u32 = 8;
/// How far ahead the guesses go: six weeks at 300 packets per second. Prime, so that no rhythm of foreign packets in
/// between keeps a source from ever meeting its own.
const GUESSED_COUNTS: u32 = 16_381;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    AesCm128HmacSha1,
    AeadAes128Gcm,
}

impl Suite {
    pub const ALL: [Suite; 2] = [Suite::AesCm128HmacSha1, Suite::AeadAes128Gcm];

    /// As in SDP (RFC 4568 section 6.2, RFC 7714 section 14.2).
    pub fn name(self) -> &'static str {
        match self {
            Suite::AesCm128HmacSha1 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
        }
    }

    pub fn from_name(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Master key and salt together.
    pub fn master_bytes(self) -> usize {
        KEY_BYTES + self.salt_bytes()
    }

    pub fn tag_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1 => 10,
            Suite::AeadAes128Gcm => MAX_TAG_BYTES,
        }
    }

    fn salt_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1 => 14,
            Suite::AeadAes128Gcm => 12,
        }
    }
}

/// A master key and its salt, as SDP's `inline:` has them. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct Master {
    suite: Suite,
    key: Zeroizing<[u8; KEY_BYTES]>,
    /// Of GCM the last two bytes are zero (RFC 7714 section 11).
    salt: Zeroizing<[u8; 14]>,
}

impl Master {
    /// None: not as long as the suite wants it.
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<Master> {
        if key_and_salt.len() != suite.master_bytes() {
            return None;
        }
        let (mut key, mut salt) = (Zeroizing::new([0; KEY_BYTES]), Zeroizing::new([0; 14]));
        key.copy_from_slice(&key_and_salt[..KEY_BYTES]);
        salt[..suite.salt_bytes()].copy_from_slice(&key_and_salt[KEY_BYTES..]);
        Some(Master { suite, key, salt })
    }

    /// Key derivation of RFC 3711 section 4.3.1.
    fn derive<const N: usize>(&self, label: u8) -> Zeroizing<[u8; N]> {
        let mut derived = Zeroizing::new([0; N]);
        let mut start = [0; 16];
        start[..14].copy_from_slice(&*self.salt);
        start[7] ^= label;
        keystream(&counter_mode(&self.key), start, &mut *derived);
        derived
    }
}

impl PartialEq for Master {
    fn eq(&self, other: &Master) -> bool {
        let same = |one: &[u8], other: &[u8]| verify_slices_are_equal(one, other).is_ok();
        self.suite == other.suite && same(&*self.key, &*other.key) && same(&*self.salt, &*other.salt)
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Master({})", self.suite.name())
    }
}

/// Keys of a leg, by direction.
#[derive(Clone, Debug)]
pub struct Config {
    /// The peer sends with it.
    pub rx: Master,
    pub tx: Master,
}

/// Session keys of RTP or RTCP in one direction.
enum Cipher {
    AesCm { key: Box<EncryptingKey>, auth: Box<hmac::Key>, salt: Zeroizing<[u8; 14]> },
    Gcm { key: LessSafeKey, salt: Zeroizing<[u8; 12]> },
}

impl Cipher {
    /// Labels of the cipher key, the authentication key and the salt.
    fn derive(master: &Master, labels: [u8; 3]) -> Cipher {
        let [key, auth, salt] = labels;
        let key = master.derive(key);
        match master.suite {
            Suite::AesCm128HmacSha1 => Cipher::aes_cm(&key, &master.derive(auth), master.derive(salt)),
            Suite::AeadAes128Gcm => Cipher::gcm(&key, master.derive(salt)),
        }
    }

    fn aes_cm(key: &[u8; KEY_BYTES], auth: &[u8; AUTH_KEY_BYTES], salt: Zeroizing<[u8; 14]>) -> Cipher {
        let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth);
        Cipher::AesCm { key: Box::new(counter_mode(key)), auth: Box::new(auth), salt }
    }

    fn gcm(key: &[u8; KEY_BYTES], salt: Zeroizing<[u8; 12]>) -> Cipher {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("a key of AES-128's length");
        Cipher::Gcm { key: LessSafeKey::new(key), salt }
    }

    fn tag_bytes(&self) -> usize {
        match self {
            Cipher::AesCm { .. } => Suite::AesCm128HmacSha1.tag_bytes(),
            Cipher::Gcm { .. } => Suite::AeadAes128Gcm.tag_bytes(),
        }
    }

    fn encrypt_rtp(&self, index: u64, packet: &mut BytesMut) {
        let (clear, ssrc) = (rtp::header_bytes(packet).unwrap_or(packet.len()), be32(packet, 8));
        match self {
            Cipher::AesCm { key, auth, salt } => {
                keystream(key, counter(salt, ssrc, index), &mut packet[clear..]);
                let tag = digest(auth, packet, &rollovers(index));
                packet.extend_from_slice(&tag.as_ref()[..self.tag_bytes()]);
            }
            Cipher::Gcm { key, salt } => {
                let (header, payload) = packet.split_at_mut(clear);
                let tag = key.seal_in_place_separate_tag(nonce(salt, ssrc, index), Aad::from(&*header), payload);
                packet.extend_from_slice(tag.expect("far below GCM's limit").as_ref());
            }
        }
    }

    /// Writes what the packet says to `plain` if it authenticates at one of these indexes, and returns that.
    fn decrypt_rtp(
        &self,
        packet: &[u8],
        clear: usize,
        indexes: impl Iterator<Item = u64>,
        plain: &mut Vec<u8>,
    ) -> Option<u64> {
        let (body, tag) = packet.split_at(packet.len() - self.tag_bytes());
        let ssrc = be32(packet, 8);
        plain.clear();
        plain.extend_from_slice(body);
        let mut indexes = indexes;
        match self {
            Cipher::AesCm { key, auth, salt } => {
                let mut digested = hmac::Context::with_key(auth);
                digested.update(body);
                let index = indexes.find(|index| {
                    let mut digested = digested.clone();
                    digested.update(&rollovers(*index));
                    verify_slices_are_equal(&digested.sign().as_ref()[..tag.len()], tag).is_ok()
                })?;
                keystream(key, counter(salt, ssrc, index), &mut plain[clear..]);
                Some(index)
            }
            Cipher::Gcm { key, salt } => indexes.find(|index| {
                let nonce = nonce(salt, ssrc, *index);
                let (header, payload) = body.split_at(clear);
                key.open_separate_gather(nonce, Aad::from(header), payload, tag, &mut plain[clear..]).is_ok()
            }),
        }
    }

    fn encrypt_rtcp(&self, index: u32, packet: &mut Vec<u8>) {
        let (ssrc, word) = (be32(packet, 4), (ENCRYPTED | index).to_be_bytes());
        match self {
            Cipher::AesCm { key, auth, salt } => {
                keystream(key, counter(salt, ssrc, index.into()), &mut packet[RTCP_CLEAR_BYTES..]);
                let tag = digest(auth, packet, &word);
                packet.extend_from_slice(&word);
                packet.extend_from_slice(&tag.as_ref()[..self.tag_bytes()]);
            }
            Cipher::Gcm { key, salt } => {
                let (header, body) = packet.split_at_mut(RTCP_CLEAR_BYTES);
                let known = Aad::from(rtcp_known(header, word));
                let tag = key.seal_in_place_separate_tag(nonce(salt, ssrc, index.into()), known, body);
                packet.extend_from_slice(tag.expect("far below GCM's limit").as_ref());
                packet.extend_from_slice(&word);
            }
        }
    }

    /// The four bytes that hold E flag and index, and where they begin. The packet is at least as long as both parts.
    fn rtcp_word(&self, packet: &[u8]) -> ([u8; 4], usize) {
        let behind = match self {
            Cipher::AesCm { .. } => self.tag_bytes(),
            Cipher::Gcm { .. } => 0,
        };
        let at = packet.len() - behind - 4;
        (be32(packet, at).to_be_bytes(), at)
    }

    /// False: it does not authenticate.
    fn decrypt_rtcp(&self, index: u32, packet: &[u8], plain: &mut Vec<u8>) -> bool {
        let (ssrc, (word, at)) = (be32(packet, 4), self.rtcp_word(packet));
        plain.clear();
        match self {
            Cipher::AesCm { key, auth, salt } => {
                let (body, tag) = (&packet[..at], &packet[at + 4..]);
                plain.extend_from_slice(body);
                keystream(key, counter(salt, ssrc, index.into()), &mut plain[RTCP_CLEAR_BYTES..]);
                verify_slices_are_equal(&digest(auth, body, &word).as_ref()[..tag.len()], tag).is_ok()
            }
            Cipher::Gcm { key, salt } => {
                let (body, tag) = packet[..at].split_at(at - self.tag_bytes());
                let (header, body) = body.split_at(RTCP_CLEAR_BYTES);
                plain.extend_from_slice(header);
                plain.extend_from_slice(body);
                let (nonce, known) = (nonce(salt, ssrc, index.into()), Aad::from(rtcp_known(header, word)));
                key.open_separate_gather(nonce, known, body, tag, &mut plain[RTCP_CLEAR_BYTES..]).is_ok()
            }
        }
    }
}

fn counter_mode(key: &[u8; KEY_BYTES]) -> EncryptingKey {
    let key = UnboundCipherKey::new(&AES_128, key).expect("a key of AES-128's length");
    EncryptingKey::ctr(key).expect("AES has a counter mode")
}

fn keystream(key: &EncryptingKey, start: [u8; 16], data: &mut [u8]) {
    let start = EncryptionContext::Iv128(FixedLength::from(start));
    key.less_safe_encrypt(data, start).expect("counter mode takes any length");
}

/// RFC 3711 section 4.1.1: salt, SSRC and packet index, then the block counter.
fn counter(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut counter = [0; 16];
    counter[..14].copy_from_slice(salt);
    blend(&mut counter[4..14], ssrc, index);
    counter
}

/// RFC 7714 sections 8.1 and 9.1.
fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = *salt;
    blend(&mut nonce[2..], ssrc, index);
    Nonce::assume_unique_for_key(nonce)
}

/// SSRC and 48-bit index into ten bytes of salt.
fn blend(salt: &mut [u8], ssrc: u32, index: u64) {
    let numbers = ssrc.to_be_bytes().into_iter().chain(index.to_be_bytes().into_iter().skip(2));
    salt.iter_mut().zip(numbers).for_each(|(byte, number)| *byte ^= number);
}

fn digest(key: &hmac::Key, packet: &[u8], number: &[u8; 4]) -> hmac::Tag {
    let mut digested = hmac::Context::with_key(key);
    digested.update(packet);
    digested.update(number);
    digested.sign()
}

fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// What SRTCP's GCM authenticates beside the ciphertext.
fn rtcp_known(header: &[u8], word: [u8; 4]) -> [u8; RTCP_CLEAR_BYTES + 4] {
    let mut known = [0; RTCP_CLEAR_BYTES + 4];
    known[..RTCP_CLEAR_BYTES].copy_from_slice(header);
    known[RTCP_CLEAR_BYTES..].copy_from_slice(&word);
    known
}

/// Session keys of one direction. The caller numbers the RTP packets that it sends; a number is never used for two.
pub struct Keys {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Keys {
    pub fn new(master: &Master) -> Keys {
        Keys { rtp: Cipher::derive(master, [0, 1, 2]), rtcp: Cipher::derive(master, [3, 4, 5]) }
    }

    /// In place, and the tag behind it: [`MAX_TAG_BYTES`] of room avoid a copy. `index`: the sequence number counted on,
    /// 48 bits.
    pub fn protect_rtp(&self, index: u64, packet: &mut BytesMut) {
        self.rtp.encrypt_rtp(index, packet);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// What a medium sends.
#[derive(Debug)]
pub struct Protect {
    keys: Arc<Keys>,
    /// One counter for all our SSRCs, so that none ever meets a number again.
    next_rtcp: u32,
}

impl Protect {
    pub fn new(master: &Master) -> Protect {
        Protect { keys: Arc::new(Keys::new(master)), next_rtcp: 0 }
    }

    pub fn keys(&self) -> Arc<Keys> {
        self.keys.clone()
    }

    /// A compound RTCP packet. False: 2^31 were sent, and no more may be under this key (RFC 3711 section 9.2).
    #[must_use]
    pub fn rtcp(&mut self, packet: &mut Vec<u8>) -> bool {
        if self.next_rtcp == ENCRYPTED || packet.len() < RTCP_CLEAR_BYTES {
            return false;
        }
        self.keys.rtcp.encrypt_rtcp(self.next_rtcp, packet);
        self.next_rtcp += 1;
        true
    }
}

/// A source that once sent something authentic.
#[derive(Debug)]
struct Known {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
    /// Count of authentic packets when it was last heard.
    heard: u64,
}

/// What a medium receives.
#[derive(Debug)]
pub struct Unprotect {
    keys: Keys,
    sources: Vec<Known>,
    packets: u64,
    /// The next rollover count to try, beyond the likely one.
    guess: u32,
}

impl Unprotect {
    pub fn new(master: &Master) -> Unprotect {
        Unprotect { keys: Keys::new(master), sources: Vec::new(), packets: 0, guess: 0 }
    }

    /// Writes the RTP packet to `plain`, whose content is undefined after an error.
    pub fn rtp(&mut self, packet: &[u8], plain: &mut Vec<u8>) -> Result<(), Drop> {
        let clear = rtp::header_bytes(packet).ok_or(Drop::Malformed)?;
        if packet.len() < clear + self.keys.rtp.tag_bytes() {
            return Err(Drop::Malformed);
        }
        let (sequence, ssrc) = (be16(packet, 2), be32(packet, 8));
        let unheard = Window::default();
        let window = self.source(ssrc).map_or(&unheard, |at| &self.sources[at].rtp);
        let likely = window.index_of(sequence);
        let count = likely.map_or(0, |index| (index >> 16) as u32);
        let replayed = likely.is_some_and(|index| !window.is_fresh(index));
        if replayed {
            return Err(Drop::SrtpReplayed);
        }
        let first = self.guess;
        let guesses = (0..GUESSES_PER_PACKET)
            .filter_map(|n| count.checked_add(1 + (first + n) % GUESSED_COUNTS))
            .map(|count| u64::from(count) << 16 | u64::from(sequence));
        let indexes = likely.into_iter().chain(guesses);
        let Some(index) = self.keys.rtp.decrypt_rtp(packet, clear, indexes, plain) else {
            self.guess = (first + GUESSES_PER_PACKET) % GUESSED_COUNTS;
            return Err(Drop::SrtpUnauthentic);
        };
        self.heard(ssrc).rtp.note(index);
        Ok(())
    }

    /// Writes the compound RTCP packet to `plain`, whose content is undefined after an error.
    pub fn rtcp(&mut self, packet: &[u8], plain: &mut Vec<u8>) -> Result<(), Drop> {
        let keys = &self.keys.rtcp;
        if packet.len() < RTCP_CLEAR_BYTES + keys.tag_bytes() + 4 {
            return Err(Drop::Malformed);
        }
        let word = u32::from_be_bytes(keys.rtcp_word(packet).0);
        // Unencrypted SRTCP was not agreed upon (RFC 4568 section 6.3.2).
        if word & ENCRYPTED == 0 {
            return Err(Drop::Malformed);
        }
        let (ssrc, index) = (be32(packet, 4), word & !ENCRYPTED);
        if self.source(ssrc).is_some_and(|at| !self.sources[at].rtcp.is_fresh(index.into())) {
            return Err(Drop::SrtpReplayed);
        }
        if !keys.decrypt_rtcp(index, packet, plain) {
            return Err(Drop::SrtpUnauthentic);
        }
        self.heard(ssrc).rtcp.note(index.into());
        Ok(())
    }

    fn source(&self, ssrc: u32) -> Option<usize> {
        self.sources.iter().position(|known| known.ssrc == ssrc)
    }

    /// The memory of a source that just proved itself.
    fn heard(&mut self, ssrc: u32) -> &mut Known {
        self.packets += 1;
        let at = self.source(ssrc).unwrap_or_else(|| {
            if self.sources.len() == MAX_SOURCES {
                let oldest = self.sources.iter().enumerate().min_by_key(|(_, known)| known.heard);
                oldest.map(|(at, _)| at).map(|at| self.sources.swap_remove(at));
            }
            self.sources.push(Known { ssrc, rtp: Window::default(), rtcp: Window::default(), heard: 0 });
            self.sources.len() - 1
        });
        let known = &mut self.sources[at];
        known.heard = self.packets;
        known
    }
}

/// Both directions of one medium.
#[derive(Debug)]
pub struct Session {
    pub protect: Protect,
    pub unprotect: Unprotect,
}

impl Session {
    pub fn new(config: &Config) -> Session {
        Session { protect: Protect::new(&config.tx), unprotect: Unprotect::new(&config.rx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        hex_bytes(hex).try_into().unwrap()
    }

    fn hex_bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn aes_cm_makes_the_keystream_of_rfc_3711_b_2() {
        let key = counter_mode(&bytes("2b7e151628aed2a6abf7158809cf4f3c"));
        let mut stream = vec![0; 16 * 0xff02];
        keystream(&key, counter(&bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfd"), 0, 0), &mut stream);
        let first =
            "e03ead0935c95e80e166b16dd92b4eb4 d23513162b02d0f72a43a2fe4a5f97ab 41e95b3bb0a2e8dd477901e4fca894c0";
        assert_eq!(stream[..48], hex_bytes(first));
        let last = "ec8cdf7398607cb0f2d21675ea9ea1e4 362b7c3c6773516318a077d7fc5073ae 6a2cc3787889374fbeb4c81b17ba6c44";
        assert_eq!(stream[16 * 0xfeff..], hex_bytes(last));
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_b_3() {
        let master = hex_bytes("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
        let master = Master::new(Suite::AesCm128HmacSha1, &master).unwrap();
        assert_eq!(*master.derive::<16>(0), bytes::<16>("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(*master.derive::<14>(2), bytes::<14>("30cbbc08863d8c85d49db34a9ae1"));
        assert_eq!(*master.derive::<20>(1), bytes::<20>("cebe321f6ff7716b6fd4ab49af256a156d38baa4"));
    }

    const QUOTE: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070
                         61727465 73207472 6573";

    fn rfc_7714() -> Cipher {
        let salt = Zeroizing::new(bytes("517569642070726f2071756f"));
        Cipher::gcm(&bytes("000102030405060708090a0b0c0d0e0f"), salt)
    }

    #[test]
    fn gcm_encrypts_the_rtp_packet_of_rfc_7714_16_1_1_and_back() {
        let mut packet = BytesMut::from(&hex_bytes(QUOTE)[..]);
        rfc_7714().encrypt_rtp(0xf17b, &mut packet);
        let encrypted = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a
                         51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce";
        assert_eq!(packet, hex_bytes(encrypted));
        let mut plain = Vec::new();
        assert_eq!(rfc_7714().decrypt_rtp(&packet, 12, [0xf17b].into_iter(), &mut plain), Some(0xf17b));
        assert_eq!(plain, hex_bytes(QUOTE));
    }

    #[test]
    fn gcm_encrypts_the_rtcp_packet_of_rfc_7714_17_1_and_back() {
        let compound = hex_bytes(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef
             deadbeef",
        );
        let mut packet = compound.clone();
        rfc_7714().encrypt_rtcp(0x5d4, &mut packet);
        let encrypted = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda
                         4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4";
        assert_eq!(packet, hex_bytes(encrypted));
        let mut plain = Vec::new();
        assert!(rfc_7714().decrypt_rtcp(0x5d4, &packet, &mut plain));
        assert_eq!(plain, compound);
    }

    /// The packets that libsrtp checks itself with (its `test/srtp_driver.c`), under the master key of RFC 3711 B.3.
    #[test]
    fn whole_packets_of_aes_cm_are_those_of_libsrtp() {
        let master = hex_bytes("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
        let mut protect = Protect::new(&Master::new(Suite::AesCm128HmacSha1, &master).unwrap());
        let mut packet = BytesMut::from(&hex_bytes("800f1234 decafbad cafebabe")[..]);
        packet.extend_from_slice(&[0xab; 16]);
        protect.keys().protect_rtp(0x1234, &mut packet);
        let encrypted = "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb";
        assert_eq!(packet, hex_bytes(encrypted));
        let mut compound = [&hex_bytes("81c8000b cafebabe")[..], &[0xab; 16]].concat();
        protect.next_rtcp = 1;
        assert!(protect.rtcp(&mut compound));
        let encrypted = "81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798";
        assert_eq!(compound, hex_bytes(encrypted));
    }

    #[test]
    fn a_key_encrypts_two_to_the_31_reports_and_no_more() {
        let master = Master::new(Suite::AeadAes128Gcm, &[7; 28]).unwrap();
        let mut protect = Protect { next_rtcp: ENCRYPTED - 1, ..Protect::new(&master) };
        let mut report = vec![0x80, 201, 0, 1, 1, 2, 3, 4];
        assert!(protect.rtcp(&mut report));
        assert!(!protect.rtcp(&mut vec![0x80, 201, 0, 1, 1, 2, 3, 4]));
        assert_eq!(report[report.len() - 4..], [0xff; 4]);
    }

    #[test]
    fn keys_are_never_printed_and_must_have_their_length() {
        let master = Master::new(Suite::AeadAes128Gcm, &[7; 28]).unwrap();
        assert_eq!(format!("{master:?} {:?}", Keys::new(&master)), "Master(AEAD_AES_128_GCM) Keys");
        assert!(Master::new(Suite::AeadAes128Gcm, &[7; 30]).is_none());
        assert!(Master::new(Suite::AesCm128HmacSha1, &[7; 28]).is_none());
    }
}
