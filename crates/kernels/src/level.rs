//! Which instructions this machine has, asked once. Tests can lower the answer for one thread to
//! compare a fast body with the portable one. Knows nothing of the kernels.

use std::cell::Cell;
use std::sync::OnceLock;

/// Instruction sets in order: each level has everything below it that its processors can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Whatever the target always has.
    Portable,
    /// Arm's vectors, NEON.
    Neon,
    /// NEON with dot products of bytes.
    NeonDot,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    Avx512,
    /// AVX-512 with dot products of bytes and of 16-bit integers (VNNI).
    Avx512Vnni,
    /// AVX-512 with bf16 dot products.
    Avx512Bf16,
    /// AMX tiles of bf16 and of bytes, allowed by the operating system.
    Amx,
}

thread_local! {
    static CAP: Cell<Level> = const { Cell::new(Level::Amx) };
}

/// The level that kernels called from this thread use.
pub fn level() -> Level {
    detected().min(CAP.get())
}

/// Runs `f` with this thread limited to `cap`. Threads of a pool that `f` wakes are not limited.
pub fn with_level<R>(cap: Level, f: impl FnOnce() -> R) -> R {
    struct Restore(Level);
    impl Drop for Restore {
        fn drop(&mut self) {
            CAP.set(self.0);
        }
    }
    let _restore = Restore(CAP.replace(cap));
    f()
}

fn detected() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Portable
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    match std::arch::is_aarch64_feature_detected!("dotprod") {
        true => Level::NeonDot,
        false => Level::Neon,
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let has_avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let has_avx512 = has_avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let has_vnni = has_avx512 && is_x86_feature_detected!("avx512vnni");
    let has_bf16 = has_vnni && is_x86_feature_detected!("avx512bf16");
    match () {
        _ if has_bf16 && has_tiles() => Level::Amx,
        _ if has_bf16 => Level::Avx512Bf16,
        _ if has_vnni => Level::Avx512Vnni,
        _ if has_avx512 => Level::Avx512,
        _ if has_avx2 => Level::Avx2,
        _ => Level::Portable,
    }
}

/// AMX: the processor has tiles of both kinds and Linux lets this process use them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_tiles() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    // CPUID leaf 7: EDX bit 22 is AMX-BF16, bit 24 is AMX-TILE, bit 25 is AMX-INT8.
    const NEEDED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    if std::arch::x86_64::__cpuid_count(7, 0).edx & NEEDED != NEEDED {
        return false;
    }
    let answer: i64;
    // SAFETY: a system call that takes two integers and touches no memory of ours; the kernel
    // clobbers rcx and r11, which are declared.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_tiles() -> bool {
    false
}
