//! What comes out, from the prompt to the answer: activations within 1e-4 of the reference,
//! answers identical. What `sightline eval parity` prints.

use eval::parity::{Held, hold};

use candle_core::Device;
use vlm::Vlm;

use super::fixture::{self, Fixture};

#[test]
fn every_case_equals_the_reference() {
    for case in fixture::all() {
        let mut held = Held::new(&case).expect(&case.name);
        hold(&case, &mut held).expect(&case.name);
        assert!(held.holds(), "{held:?}");
        let n_tensors = if case.images.is_empty() { 1 } else { 4 };
        assert_eq!((held.deviations.len(), held.greedy_equal), (n_tensors, 32), "{held:?}");
        assert!(held.largest_step.is_none_or(|step| step < 0.01), "{held:?}");
    }
}

/// What a Q-Former's queries looked at, through which evidence is led back to patches.
#[test]
fn queries_look_where_the_reference_looks() {
    let q_former = |case: &Fixture| case.name.contains("blip");
    for case in fixture::all().into_iter().filter(q_former) {
        let vlm = Vlm::load(&case.dir, &Device::Cpu).expect(&case.name);
        let ids = match case.name.contains("instruct") {
            true => case.ids("qformer_input_ids"),
            false => Vec::new(),
        };
        let projected = vlm.project_for(&case.floats("vision_features"), &ids).expect(&case.name);
        case.assert_close("image_embeds", &projected.image_embeds, 1e-4);
        let looked = projected.patch_attention.expect("what the queries looked at");
        case.assert_close("patch_attention", &looked, 1e-4);
    }
}

#[test]
fn every_comparison_equals_the_reference() {
    for case in fixture::comparisons() {
        let mut held = Held::new(&case).expect(&case.name);
        hold(&case, &mut held).expect(&case.name);
        assert!(held.holds(), "{held:?}");
        assert_eq!((held.deviations.len(), held.input_ids), (5, Some(true)), "{held:?}");
        assert!(held.largest_step.expect("steps") < 0.01, "{held:?}");
        held.deviations.remove("text_embeds");
        assert!(!held.holds(), "{held:?}");
    }
}

#[test]
fn what_differs_is_told() {
    let case = fixture::all().remove(0);
    let mut held = Held::new(&case).expect("a case");
    assert!(!held.holds(), "nothing was compared");
    hold(&case, &mut held).expect("a case");
    held.deviations.insert("logits".into(), 2e-4);
    assert!(!held.holds(), "{held:?}");
}
