//! What the network makes of it: activations within 1e-4 of the reference, answers identical.

use candle_core::Device;
use vlm::processor::{ImageSpan, Processor};
use vlm::{KvCache, Mask, Positions, Probe, Vlm};

use super::fixture::{self, Fixture};

/// max|a-b| / max|b|
const BOUND: f32 = 1e-4;

#[test]
fn activations_equal_the_reference() {
    for case in fixture::all() {
        let run = Run::new(&case);
        let vlm = &run.vlm;
        let features = vlm.vision_features(&run.pixel_values).expect(&case.name);
        case.assert_close("vision_features", &features, BOUND);
        let embeds = vlm.encode_images(&run.pixel_values).expect(&case.name);
        case.assert_close("image_embeds", &embeds, BOUND);
        let packed = vlm.pack(&embeds, &run.spans).expect(&case.name);
        let inputs_embeds = vlm.merge(&run.input_ids, &packed).expect(&case.name);
        let hidden = vlm
            .forward(&inputs_embeds, &Positions::From(0), &Mask::Causal, None, &mut Probe::none())
            .expect(&case.name);
        let n_tokens = run.input_ids.len();
        let n_rows = case.floats("logits").dim(0).expect("rows");
        let last = hidden.narrow(1, n_tokens - n_rows, n_rows).expect("rows");
        let logits = vlm.logits(&last.contiguous().expect("rows")).expect(&case.name);
        case.assert_close("logits", &logits.squeeze(0).expect("one batch"), BOUND);
    }
}

#[test]
fn greedy_answers_equal_the_reference() {
    for case in fixture::all() {
        let run = Run::new(&case);
        let expected = case.ids("greedy");
        assert_eq!(run.greedy(expected.len()).expect(&case.name), expected, "{}", case.name);
    }
}

struct Run {
    vlm: Vlm,
    input_ids: Vec<u32>,
    pixel_values: candle_core::Tensor,
    spans: Vec<ImageSpan>,
}

impl Run {
    fn new(case: &Fixture) -> Run {
        let vlm = Vlm::load(&case.dir, &Device::Cpu).expect(&case.name);
        let processor = Processor::load(&case.dir, &vlm.config).expect(&case.name);
        let inputs = processor.prepare(&case.messages, &case.images).expect(&case.name);
        let pixel_values = inputs.pixel_values.expect("pixel values");
        let (input_ids, spans) = (inputs.input_ids, inputs.image_spans);
        Run { vlm, input_ids, pixel_values, spans }
    }

    /// Prefill, then one token at a time through the cache; the end token does not stop it.
    fn greedy(&self, n_tokens: usize) -> Result<Vec<u32>, vlm::Error> {
        let mut cache = KvCache::new();
        let embeds = self.vlm.encode_images(&self.pixel_values)?;
        let embeds = self.vlm.pack(&embeds, &self.spans)?;
        let mut inputs_embeds = self.vlm.merge(&self.input_ids, &embeds)?;
        let mut answer = Vec::new();
        while answer.len() < n_tokens {
            let positions = Positions::From(cache.len());
            let hidden = self.vlm.forward(
                &inputs_embeds,
                &positions,
                &Mask::Causal,
                Some(&mut cache),
                &mut Probe::none(),
            )?;
            let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.contiguous()?;
            let logits: Vec<f32> = self.vlm.logits(&last)?.flatten_all()?.to_vec1()?;
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            answer.push(best.expect("a vocabulary") as u32);
            let next = candle_core::Tensor::new(&answer[answer.len() - 1..], &Device::Cpu)?;
            inputs_embeds = self.vlm.embed_tokens(&next.unsqueeze(0)?)?;
        }
        Ok(answer)
    }
}
