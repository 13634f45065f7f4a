//! Buffers whose first contents do not matter, so that no pass over memory is spent on zeros.

/// A vector of `len` floats with unspecified values, for outputs that are wholly overwritten.
pub fn uninit(len: usize) -> Vec<f32> {
    let mut buffer: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`. The empty assembly block receives the address and may, as
    // far as the compiler knows, have written any bytes there, so the elements are arbitrary
    // but initialised; every bit pattern is a valid f32.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) buffer.as_mut_ptr(), options(nostack));
        buffer.set_len(len);
    }
    buffer
}
