//! Buffers whose first contents do not matter, so that no pass over memory is spent on zeros.

/// Numbers of which every bit pattern is one.
///
/// # Safety
/// It is so.
pub unsafe trait Plain: Copy {}
// SAFETY: any bits are a value of these.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for i16 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}

/// A vector of `len` numbers with unspecified values, for outputs that are wholly overwritten.
pub fn uninit<T: Plain>(len: usize) -> Vec<T> {
    let mut buffer: Vec<T> = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`. The empty assembly block receives the address and may, as
    // far as the compiler knows, have written any bytes there, so the elements are arbitrary
    // but initialised; every bit pattern is a valid number.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) buffer.as_mut_ptr(), options(nostack));
        buffer.set_len(len);
    }
    buffer
}
