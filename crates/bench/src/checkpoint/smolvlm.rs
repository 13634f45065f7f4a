//! The published files of SmolVLM, but for its tokenizer.

use serde_json::{Value, json};

use super::{Cut, Decoder};

pub(super) const VOCAB_SIZE: usize = 49_280;
/// Random weights next to never choose it, so answers run to their length.
const LAST_ID: usize = VOCAB_SIZE - 1;

pub(super) fn config(decoder: &Decoder) -> Value {
    json!({
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "image_token_id": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": LAST_ID,
        "scale_factor": 4, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "use_cache": true,
        "text_config": {
            "model_type": "llama", "hidden_size": decoder.hidden_size,
            "num_hidden_layers": decoder.layers, "num_attention_heads": decoder.heads,
            "num_key_value_heads": decoder.kv_heads, "head_dim": decoder.head_dim,
            "intermediate_size": decoder.intermediate_size, "hidden_act": "silu",
            "vocab_size": VOCAB_SIZE, "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "tie_word_embeddings": true,
            "attention_bias": false, "mlp_bias": false, "torch_dtype": "bfloat16",
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": LAST_ID,
        },
        "vision_config": {
            "model_type": "smolvlm_vision", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 512,
            "patch_size": 16, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6, "attention_dropout": 0.0,
        },
    })
}

pub(super) fn small_files(cut: Cut) -> Vec<(&'static str, Value)> {
    let longest_edge = if cut == Cut::Tiles { 2048 } else { 512 };
    let preprocessor = json!({
        "image_processor_type": "SmolVLMImageProcessor", "processor_class": "SmolVLMProcessor",
        "do_convert_rgb": true, "do_image_splitting": cut == Cut::Tiles, "do_normalize": true,
        "do_pad": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "max_image_size": { "longest_edge": 512 },
        "resample": 1, "rescale_factor": 1.0 / 255.0, "size": { "longest_edge": longest_edge },
    });
    let processor = json!({ "processor_class": "SmolVLMProcessor", "image_seq_len": 64 });
    let generation = json!({ "bos_token_id": 1, "eos_token_id": LAST_ID, "pad_token_id": 0 });
    vec![
        ("preprocessor_config.json", preprocessor),
        ("processor_config.json", processor),
        ("generation_config.json", generation),
    ]
}
