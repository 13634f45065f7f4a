//! The published files of Qwen2.5-VL, but for its tokenizer.

use serde_json::{Value, json};

use super::Decoder;

pub(super) const VOCAB_SIZE: usize = 151_936;
/// Random weights next to never choose it, so answers run to their length.
const LAST_ID: usize = VOCAB_SIZE - 1;

/// A question and its picture, as the published template lays them out but for the names of the
/// tokens around the picture, which the shipped tokenizer lacks.
pub(super) const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>\
{{ message['role'] }}\n{% for part in message['content'] %}{% if part['type'] == 'image' %}\
<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\
<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

pub(super) fn config(decoder: &Decoder) -> Value {
    json!({
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "image_token_id": 3, "video_token_id": 151_656, "bos_token_id": 1, "eos_token_id": LAST_ID,
        "hidden_act": "silu", "hidden_size": decoder.hidden_size,
        "num_hidden_layers": decoder.layers, "num_attention_heads": decoder.heads,
        "num_key_value_heads": decoder.kv_heads, "intermediate_size": decoder.intermediate_size,
        "max_position_embeddings": 128_000, "max_window_layers": 70, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "sliding_window": 32_768, "use_sliding_window": false,
        "rope_scaling": { "type": "mrope", "mrope_section": [16, 24, 24] },
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true,
        "vocab_size": VOCAB_SIZE,
        "vision_config": {
            "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
            "num_heads": 16, "in_chans": 3, "out_hidden_size": decoder.hidden_size,
            "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
            "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2, "temporal_patch_size": 2,
        },
    })
}

pub(super) fn small_files() -> Vec<(&'static str, Value)> {
    let preprocessor = json!({
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
        "min_pixels": 3136, "max_pixels": 12_845_056, "patch_size": 14, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
    });
    let generation = json!({ "bos_token_id": 1, "eos_token_id": LAST_ID, "pad_token_id": 0 });
    vec![("preprocessor_config.json", preprocessor), ("generation_config.json", generation)]
}
