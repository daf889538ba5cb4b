//! Gzip of several members (RFC 1952), into memory that is bounded before it is filled.
//!
//! The crate over libdeflate does not say where a member ended, so a second one would be lost in silence: that
//! is why its function is called here.

use libdeflate_sys::{
    libdeflate_alloc_decompressor, libdeflate_decompressor, libdeflate_free_decompressor,
    libdeflate_gzip_decompress_ex, libdeflate_result_LIBDEFLATE_INSUFFICIENT_SPACE as INSUFFICIENT_SPACE,
    libdeflate_result_LIBDEFLATE_SUCCESS as SUCCESS,
};

/// What the first attempt makes room for where the stream's own word is smaller.
const LEAST_ROOM: usize = 4 << 10;

/// Why there is no text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GunzipError {
    Malformed,
    /// It would be longer than the limit.
    TooLong,
}

/// A decompressor that is used again and again.
pub struct Gunzip {
    inner: *mut libdeflate_decompressor,
}

// SAFETY: the decompressor is memory of its own that nobody else points to.
unsafe impl Send for Gunzip {}

impl Default for Gunzip {
    fn default() -> Self {
        // SAFETY: the function takes nothing, and gives null or a decompressor that is ours to free.
        let inner = unsafe { libdeflate_alloc_decompressor() };
        assert!(!inner.is_null(), "no memory for a decompressor");
        Gunzip { inner }
    }
}

impl Drop for Gunzip {
    fn drop(&mut self) {
        // SAFETY: made by libdeflate_alloc_decompressor, and freed once.
        unsafe { libdeflate_free_decompressor(self.inner) };
    }
}

impl Gunzip {
    /// Appends what `input` unpacks to, at most `limit` bytes.
    ///
    /// # Errors
    /// What is wrong with the input; `out` may hold a part of it then.
    pub fn unpack(&mut self, mut input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), GunzipError> {
        let end = out.len().saturating_add(limit);
        while !input.is_empty() {
            let used = self.member(input, end, out)?;
            input = input.get(used..).filter(|_| used > 0).ok_or(GunzipError::Malformed)?;
        }
        Ok(())
    }

    /// Unpacks the first member, and says how many bytes of the input it was.
    fn member(&mut self, input: &[u8], end: usize, out: &mut Vec<u8>) -> Result<usize, GunzipError> {
        let begin = out.len();
        // The last four bytes are the length of the last member, modulo 2^32: mostly of the only one.
        let said = input.last_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize);
        // No stream unpacks to more than 1032 times its length, whatever it says.
        let mut room = said.min(input.len().saturating_mul(1032)).max(LEAST_ROOM);
        loop {
            // One byte above the limit shows that it is passed.
            let room_now = room.min((end - begin).saturating_add(1));
            out.resize(begin + room_now, 0);
            let (mut used, mut made) = (0, 0);
            // SAFETY: both buffers are valid for the lengths given, and the results are written to live integers.
            let result = unsafe {
                libdeflate_gzip_decompress_ex(
                    self.inner,
                    input.as_ptr().cast(),
                    input.len(),
                    out.as_mut_ptr().add(begin).cast(),
                    room_now,
                    &raw mut used,
                    &raw mut made,
                )
            };
            if result == SUCCESS {
                out.truncate(begin + made);
                return if begin + made > end { Err(GunzipError::TooLong) } else { Ok(used) };
            }
            if result != INSUFFICIENT_SPACE {
                return Err(GunzipError::Malformed);
            }
            if begin + room_now > end {
                return Err(GunzipError::TooLong);
            }
            room = room_now.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packer = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut packed = vec![0; packer.gzip_compress_bound(text.len())];
        let length = packer.gzip_compress(text, &mut packed).unwrap();
        packed.truncate(length);
        packed
    }

    fn unpack(input: &[u8], limit: usize) -> Result<Vec<u8>, GunzipError> {
        let mut out = b"before".to_vec();
        Gunzip::default().unpack(input, limit, &mut out).map(|()| out.split_off(6))
    }

    #[test]
    fn members_are_joined() {
        let (one, two) = (vec![b'x'; 100_000], b"two".to_vec());
        assert_eq!(unpack(&gzip(&one), 100_000), Ok(one.clone()));
        let both = [gzip(&one), gzip(&two), gzip(b"")].concat();
        assert_eq!(unpack(&both, 1 << 20), Ok([one, two].concat()));
        assert_eq!(unpack(&gzip(b""), 0), Ok(Vec::new()));
    }

    #[test]
    fn what_is_too_long_or_broken_is_refused() {
        let packed = gzip(&vec![0; 10 << 20]);
        assert_eq!(unpack(&packed, 1 << 20), Err(GunzipError::TooLong));
        assert_eq!(unpack(&[packed.clone(), packed.clone()].concat(), 15 << 20), Err(GunzipError::TooLong));
        assert_eq!(unpack(&packed[..packed.len() / 2], 20 << 20), Err(GunzipError::Malformed));
        assert_eq!(unpack(b"plain", 100), Err(GunzipError::Malformed));
        let mut lying = packed;
        let end = lying.len();
        lying[end - 4..].copy_from_slice(&[0xff; 4]);
        assert_eq!(unpack(&lying, 20 << 20), Err(GunzipError::Malformed));
    }
}
