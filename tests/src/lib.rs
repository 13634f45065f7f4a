//! Tests across crates: what no crate can see alone. One package, one binary, nothing to use.

#[cfg(test)]
mod branches;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod fine_tuning;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod robustness;
