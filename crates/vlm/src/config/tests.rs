//! Real configurations read as their authors meant them; wrong ones name the key.

use serde_json::json;

use super::{
    Config, ModelType, ProjectorConfig, QFormerText, SelectStrategy, TextKind, VisionKind,
};

#[test]
fn missing_keys_take_the_family_defaults() {
    let smol = json!({
        "model_type": "smolvlm", "image_token_id": 49190, "scale_factor": 4,
        "text_config": {"model_type": "llama", "hidden_size": 576, "num_attention_heads": 9,
                        "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49280},
        "vision_config": {"hidden_size": 768, "image_size": 512, "patch_size": 16,
                          "num_attention_heads": 12},
    });
    let config = Config::from_json(&smol).expect("SmolVLM2-256M");
    assert_eq!(config.model_type, ModelType::SmolVlm);
    assert_eq!(config.projector, ProjectorConfig::PixelShuffle { scale_factor: 4 });
    assert_eq!((config.tokens_per_tile(), config.text_config.n_groups()), (64, 3));
    assert_eq!(config.vision_config.kind, VisionKind::Idefics3);

    let llava = json!({
        "model_type": "llava", "image_token_index": 32000,
        "text_config": {"model_type": "llama", "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
    });
    let config = Config::from_json(&llava).expect("LLaVA 1.5");
    assert_eq!(config.vision_feature_layer, [-2]);
    assert_eq!(config.vision_feature_select_strategy, SelectStrategy::Default);
    assert_eq!(config.tokens_per_tile(), 576);
}

#[test]
fn any_resolution_has_the_defaults_of_its_family() {
    let next = json!({
        "model_type": "llava_next",
        "text_config": {"model_type": "mistral", "sliding_window": null},
        "vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
    });
    let config = Config::from_json(&next).expect("LLaVA 1.6");
    let cut = config.any_resolution.clone().expect("tiles");
    assert_eq!((cut.image_grid_pinpoints.len(), cut.max_tiles), (5, None));
    assert_eq!((config.tokens_per_tile(), config.text_config.sliding_window), (576, None));

    let config = Config::from_json(&json!({"model_type": "llava_onevision"})).expect("OneVision");
    let cut = config.any_resolution.clone().expect("tiles");
    assert_eq!((cut.image_grid_pinpoints.len(), cut.max_tiles), (36, Some(9)));
    assert_eq!(cut.image_grid_pinpoints[6], [768, 384]);
    assert_eq!((config.image_token_id, config.tokens_per_tile()), (151_646, 729));
    assert_eq!(config.vision_config.kind, VisionKind::Siglip);
    assert!(config.text_config.qkv_bias, "Qwen2");
}

/// Published Qwen-VL files have the decoder's keys at the top level, newer ones in `text_config`.
#[test]
fn qwen_vl_is_read_flat_and_nested() {
    let text = json!({
        "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 2, "vocab_size": 151936,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 128000,
        "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 70,
        "tie_word_embeddings": true,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    });
    let vision = json!({
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "out_hidden_size": 2048, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    });
    let mut flat = text.clone();
    let mut nested = json!({ "text_config": text });
    for json in [&mut flat, &mut nested] {
        json["model_type"] = "qwen2_5_vl".into();
        json["vision_config"] = vision.clone();
    }
    let flat = Config::from_json(&flat).expect("Qwen2.5-VL-3B");
    let nested = Config::from_json(&nested).expect("the same, as saved by transformers");
    assert_eq!(flat.text_config, nested.text_config);
    assert_eq!(flat.text_config.head_dim, 128);
    assert!(flat.text_config.tie_word_embeddings && flat.text_config.qkv_bias);
    assert_eq!((flat.text_config.sliding_window, flat.image_token_id), (None, 151_655));
    assert!(flat.generation.eos_token_ids.is_empty(), "transformers' default");
    let dynamic = flat.vision_config.dynamic.expect("any resolution");
    assert_eq!((dynamic.window, dynamic.fullatt_block_indexes), (Some(4), vec![7, 15, 23, 31]));

    let two = json!({
        "model_type": "qwen2_vl", "hidden_size": 1536, "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4},
    });
    let vision = Config::from_json(&two).expect("Qwen2-VL-2B").vision_config;
    assert_eq!((vision.hidden_size, vision.intermediate_size), (1280, 5120));

    let three = json!({
        "model_type": "qwen3_vl",
        "text_config": {"model_type": "qwen3_vl_text", "hidden_size": 2560,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": true,
                             "mrope_section": [24, 20, 20]}},
        "vision_config": {"hidden_size": 1024, "depth": 24, "out_hidden_size": 2560,
                          "deepstack_visual_indexes": [5, 11, 17]},
    });
    let config = Config::from_json(&three).expect("Qwen3-VL-4B");
    assert_eq!((config.image_embed_size(), config.vision_feature_size()), (4 * 2560, 4 * 1024));
    assert!(config.text_config.qk_norm && !config.text_config.qkv_bias);
}

/// Each layer has its window from `layer_types`, else those from `max_window_layers` on.
#[test]
fn sliding_windows_are_those_of_the_layers() {
    let types = |names: [&str; 3]| json!(names.map(|name| format!("{name}_attention")));
    let rows = [
        (json!({"use_sliding_window": false}), [None; 3]),
        (json!({"use_sliding_window": true, "max_window_layers": 1}), [None, Some(7), Some(7)]),
        (
            json!({"use_sliding_window": true, "max_window_layers": 1,
                   "layer_types": types(["sliding", "full", "sliding"])}),
            [Some(7), None, Some(7)],
        ),
        (json!({"use_sliding_window": true, "sliding_window": null}), [None; 3]),
        (json!({"layer_types": types(["full", "full", "full"])}), [None; 3]),
    ];
    for (settings, expected) in rows {
        for (model_type, decoder) in [("llava", "qwen2"), ("qwen2_vl", "qwen2_vl_text")] {
            let mut text = json!({
                "model_type": decoder, "num_hidden_layers": 3, "sliding_window": 7,
                "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
                "rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]},
            });
            for (key, value) in settings.as_object().expect("settings") {
                text[key] = value.clone();
            }
            let config = json!({"model_type": model_type, "text_config": text});
            let config = Config::from_json(&config).expect("a config").text_config;
            let found = [0, 1, 2].map(|layer| config.window_of(layer));
            assert_eq!(found, expected, "{model_type}: {settings}");
        }
    }
}

#[test]
fn layer_types_that_are_not_followed_are_refused() {
    let text = |model_type: &str, more: serde_json::Value| {
        let mut text = json!({"model_type": model_type, "num_hidden_layers": 2});
        for (key, value) in more.as_object().expect("settings") {
            text[key] = value.clone();
        }
        json!({"model_type": "llava", "text_config": text})
    };
    let mixed = json!(["sliding_attention", "full_attention"]);
    let chunked = json!({"layer_types": ["chunked_attention", "full_attention"]});
    assert_refused(&[
        (text("qwen2", chunked.clone()), "`text_config.layer_types` is `chunked_attention`"),
        (text("mistral", chunked), "`text_config.layer_types` is `chunked_attention`"),
        (text("qwen2", json!({"layer_types": "full_attention"})), "text_config.layer_types"),
        (
            text("qwen2", json!({"layer_types": ["full_attention"]})),
            "`text_config.layer_types`: names 1 layers, but the decoder has 2",
        ),
        (text("qwen2", json!({"layer_types": mixed})), "gives layer 0 a sliding window"),
        (text("llama", json!({"layer_types": mixed})), "gives layer 0 a sliding window"),
        (text("mistral", json!({"layer_types": mixed})), "gives layer 1 no sliding window"),
    ]);
}

#[test]
fn cross_attention_has_the_defaults_of_llama_3_2_vision() {
    let vision = json!({"model_type": "mllama", "vision_config": {"image_size": 560}});
    let config = Config::from_json(&vision).expect("Llama-3.2-11B-Vision");
    assert_eq!((config.image_token_id, config.tokens_per_tile()), (128_256, 1601));
    assert_eq!(config.vision_feature_size(), 7680);
    assert_eq!(config.evidence_layers(), [3, 8, 13, 18, 23, 28, 33, 38]);
    let text = &config.text_config;
    assert_eq!((text.vocab_size, text.n_embeddings()), (128_256, 128_264));
    assert_eq!((text.num_hidden_layers, text.num_key_value_heads, text.head_dim), (40, 8, 128));
    assert_eq!((text.rope_theta, text.rms_norm_eps), (500_000.0, 1e-5));
    let tower = &config.vision_config;
    assert_eq!((tower.num_attention_heads, tower.kind), (16, VisionKind::Mllama));
    assert_eq!(config.generation.eos_token_ids, [128_001]);
}

#[test]
fn q_formers_have_the_defaults_of_their_family() {
    // As Salesforce/blip2-opt-2.7b has them.
    let blip_2 = json!({
        "model_type": "blip-2", "image_token_index": 50265, "num_query_tokens": 32,
        "qformer_config": {"model_type": "blip_2_qformer"},
        "text_config": {"model_type": "opt", "hidden_size": 2560, "ffn_dim": 10240,
                        "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 50304,
                        "word_embed_proj_dim": 2560, "eos_token_id": 50118},
        "vision_config": {"model_type": "blip_2_vision_model"},
    });
    let config = Config::from_json(&blip_2).expect("BLIP-2");
    let vision = &config.vision_config;
    assert_eq!(
        (vision.kind, vision.hidden_size, vision.n_positions()),
        (VisionKind::Blip, 1408, 257)
    );
    assert_eq!((config.tokens_per_tile(), config.image_token_id), (32, 50265));
    let text = &config.text_config;
    assert_eq!((text.kind, text.head_dim, text.intermediate_size), (TextKind::Opt, 80, 10240));
    assert!(text.tie_word_embeddings && text.qkv_bias);
    assert_eq!(config.generation.eos_token_ids, [50118], "the end of the line");
    let ProjectorConfig::QFormer(q_former) = &config.projector else { panic!("no Q-Former") };
    assert_eq!((q_former.hidden_size, q_former.num_hidden_layers, q_former.text), (768, 12, None));
    let looking = (0..12).filter(|i| q_former.has_cross_attention(*i)).count();
    assert_eq!(looking, 6);

    let instruct_blip = json!({
        "model_type": "instructblip", "image_token_index": 32000,
        "qformer_config": {"vocab_size": 30523}, "text_config": {"model_type": "llama"},
    });
    let config = Config::from_json(&instruct_blip).expect("InstructBLIP");
    let ProjectorConfig::QFormer(q_former) = &config.projector else { panic!("no Q-Former") };
    let text = QFormerText { vocab_size: 30523, max_position_embeddings: 512 };
    assert_eq!((q_former.text, config.text_config.kind), (Some(text), TextKind::Llama));
}

#[test]
fn generation_settings_alone_say_where_to_stop() {
    let llava = json!({
        "model_type": "llava", "eos_token_id": 7,
        "text_config": {"model_type": "llama"},
        "vision_config": {"model_type": "clip_vision_model"},
    });
    for (settings, stops) in
        [(json!({"eos_token_id": [3, 5]}), vec![3, 5]), (json!({"pad_token_id": 1}), vec![])]
    {
        let mut generation = Config::from_json(&llava).expect("LLaVA").generation;
        assert_eq!((generation.eos_token_ids.as_slice(), generation.is_written), (&[7][..], false));
        generation.update(&settings).expect("settings");
        assert_eq!((generation.eos_token_ids, generation.is_written), (stops, true));
    }
}

#[test]
fn wrong_values_name_their_key() {
    let rows = [
        (json!({}), "model_type"),
        (json!({"model_type": "fuyu"}), "fuyu"),
        (json!({"model_type": "smolvlm", "scale_factor": 0}), "scale_factor"),
        (json!({"model_type": "llava", "vision_feature_layer": -99}), "vision_feature_layer"),
        (
            json!({"model_type": "llava", "text_config": {"num_attention_heads": 4,
                   "num_key_value_heads": 3}}),
            "num_key_value_heads",
        ),
        (json!({"model_type": "llava", "text_config": {"hidden_size": "big"}}), "hidden_size"),
        (
            json!({"model_type": "llava_onevision", "vision_aspect_ratio": "pad"}),
            "`vision_aspect_ratio` is `pad`",
        ),
        (
            json!({"model_type": "llava_next", "vision_feature_select_strategy": "full"}),
            "vision_feature_select_strategy",
        ),
        (json!({"model_type": "llava_next", "image_grid_pinpoints": []}), "image_grid_pinpoints"),
        (json!({"model_type": "qwen2_vl"}), "rope_scaling.mrope_section"),
        (json!({"model_type": "qwen3_vl"}), "vision_config.out_hidden_size"),
        (
            json!({"model_type": "qwen3_vl", "text_config": {"hidden_size": 3584, "head_dim": 64}}),
            "[24, 20, 20] are not the 32 frequencies of a head",
        ),
        (
            json!({"model_type": "qwen3_vl", "text_config": {"model_type": "qwen3_vl_moe_text"}}),
            "qwen3_vl_moe_text",
        ),
        (
            json!({"model_type": "qwen2_5_vl", "vision_config": {"window_size": 20}}),
            "vision_config.window_size",
        ),
        (
            json!({"model_type": "qwen3_vl", "vision_config": {"deepstack_visual_indexes": [99]}}),
            "vision_config.deepstack_visual_indexes",
        ),
        (json!({"model_type": "blip-2"}), "image_token_index"),
        (
            json!({"model_type": "blip-2", "image_token_index": 5,
                   "text_config": {"model_type": "t5"}}),
            "`text_config.model_type` is `t5`",
        ),
        (
            json!({"model_type": "blip-2", "image_token_index": 5,
                   "text_config": {"do_layer_norm_before": false}}),
            "text_config.do_layer_norm_before",
        ),
        (
            json!({"model_type": "blip-2", "image_token_index": 5,
                   "text_config": {"word_embed_proj_dim": 512, "hidden_size": 1024}}),
            "text_config.word_embed_proj_dim",
        ),
        (
            json!({"model_type": "blip-2", "image_token_index": 5,
                   "qformer_config": {"use_qformer_text_input": true}}),
            "qformer_config.use_qformer_text_input",
        ),
        (
            json!({"model_type": "llava_next", "image_grid_pinpoints": [[336, 500]]}),
            "[336, 500] is not made of whole tiles of 336 pixels",
        ),
    ];
    assert_refused(&rows);
}

#[test]
fn wrong_values_of_cross_attention_name_their_key() {
    assert_refused(&[
        (
            json!({"model_type": "mllama", "text_config": {"model_type": "llama"}}),
            "text_config.model_type",
        ),
        (
            json!({"model_type": "mllama", "text_config": {"cross_attention_layers": [3, 40]}}),
            "40 is outside the 40 layers",
        ),
        (
            json!({"model_type": "mllama", "vision_config": {"intermediate_layers_indices": [3]}}),
            "`vision_config.vision_output_dim`: is not the 2560",
        ),
        (
            json!({"model_type": "mllama", "vision_config": {"supported_aspect_ratios": [[1, 1]]}}),
            "vision_config.supported_aspect_ratios",
        ),
    ]);
}

fn assert_refused(rows: &[(serde_json::Value, &str)]) {
    for (json, key) in rows {
        let error = Config::from_json(json).expect_err(key).to_string();
        assert!(error.contains(key), "{error}");
    }
}
