//! From logits to the next token.

use candle_core::Tensor;
use candle_transformers::generation::{LogitsProcessor, Sampling};
use kernels::loss::argmax;

use super::GenerateOptions;
use crate::Error;

pub(super) struct Sampler {
    processor: LogitsProcessor,
    penalty: f32,
    /// Every id so far, prompt included: what the repetition penalty looks at.
    ids: Vec<u32>,
    greedy: bool,
}

impl Sampler {
    pub fn new(options: &GenerateOptions, prompt: &[u32]) -> Sampler {
        let temperature = options.temperature;
        let greedy = temperature <= 0.0;
        let sampling = match (greedy, options.top_k, options.top_p) {
            (true, _, _) => Sampling::ArgMax,
            (_, None, None) => Sampling::All { temperature },
            (_, Some(k), None) => Sampling::TopK { k, temperature },
            (_, None, Some(p)) => Sampling::TopP { p, temperature },
            (_, Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
        };
        Sampler {
            processor: LogitsProcessor::from_sampling(options.seed, sampling),
            penalty: options.repetition_penalty,
            ids: prompt.to_vec(),
            greedy,
        }
    }

    /// The next token, and the logits it was chosen from. `logits`: `(V)` f32.
    pub fn next(&mut self, logits: &Tensor) -> Result<(u32, Vec<f32>), Error> {
        let values = logits.to_vec1::<f32>()?;
        let token = match self.penalty == 1.0 && self.greedy {
            true => argmax(&values) as u32,
            false => self.sample(logits)?,
        };
        self.ids.push(token);
        Ok((token, values))
    }

    fn sample(&mut self, logits: &Tensor) -> Result<u32, Error> {
        if self.penalty == 1.0 {
            return Ok(self.processor.sample(logits)?);
        }
        let penalty = self.penalty;
        let logits = candle_transformers::utils::apply_repeat_penalty(logits, penalty, &self.ids)?;
        Ok(self.processor.sample(&logits)?)
    }
}
