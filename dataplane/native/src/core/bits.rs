//! Bytes read bit by bit, the highest first, as all bitstreams here are.

pub(super) struct Bits<B> {
    bytes: B,
    at: usize,
}

impl<B: AsRef<[u8]>> Bits<B> {
    pub(super) fn new(bytes: B) -> Bits<B> {
        Bits { bytes, at: 0 }
    }

    /// At most 32 bits. None behind the end.
    pub(super) fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.as_ref().get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.read(1)? == 1)
    }
}
