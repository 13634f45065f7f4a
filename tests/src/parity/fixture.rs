//! The cases of this repository, and what a test wants of them: a failure instead of an error.

use std::ops::Deref;
use std::path::Path;

use candle_core::Tensor;
use eval::parity::{Case, Kind};

/// A case of `tests/parity/fixtures`.
pub struct Fixture(Case);

impl Deref for Fixture {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.0
    }
}

/// Every case of a question, in the order of their names.
pub fn all() -> Vec<Fixture> {
    let cases = of(Kind::Ask);
    assert!(cases.len() >= 16, "{} cases", cases.len());
    cases
}

/// Every case of two towers.
pub fn comparisons() -> Vec<Fixture> {
    let cases = of(Kind::Compare);
    assert!(cases.len() >= 5, "{} cases", cases.len());
    cases
}

fn of(kind: Kind) -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/fixtures");
    let cases = eval::parity::cases(&root).expect("tests/parity/fixtures");
    cases.into_iter().filter(|case| case.kind == kind).map(Fixture).collect()
}

/// Those with pictures: language models alone have none.
pub fn seeing() -> Vec<Fixture> {
    all().into_iter().filter(|case| !case.images.is_empty()).collect()
}

impl Fixture {
    /// What the reference computed, as f32.
    pub fn floats(&self, name: &str) -> Tensor {
        self.0.expected.floats(name).expect("numbers")
    }

    /// Token ids the reference computed.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.0.expected.ids(name).expect("ids")
    }

    /// Fails unless `ours` has the reference's shape and max|a-b| / max|b| is at most `bound`.
    pub fn assert_close(&self, tensor: &str, ours: &Tensor, bound: f64) {
        let apart = self.0.expected.apart(tensor, ours).expect(tensor).relative;
        println!("{}: {tensor} differs by {apart:.1e}", self.name);
        assert!(apart <= bound, "{}: {tensor}: {apart:.1e}", self.name);
    }
}
