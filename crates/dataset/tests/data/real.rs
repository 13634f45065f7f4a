//! The real files of others, where they are on this machine.

use dataset::{Check, Format, Job, Kind, Source, Split, Target, export, import, preflight, split};

use crate::{material, read, show};

#[test]
fn llama_factorys_demo_is_read_as_it_is_meant() {
    let Some(data) = material("instruct/LLaMA-Factory/data") else { return };
    let imported = read(&data.join("mllm_demo.json")).expect("rows");
    assert_eq!(imported.format, Format::LlamaFactory, "the file beside it describes it");
    assert_eq!((imported.rows.len(), imported.findings.len()), (6, 0));
    assert_eq!(
        show(&imported.rows[0]),
        "0 [1.jpg 1.jpg] user: <image>Who are they? | assistant: They're Kane and Gretzka from \
         Bayern Munich. | user: What are they doing?<image> | assistant: They are celebrating on \
         the soccer field."
    );
    let splits = split(&imported.rows, 0.3, 1, Job::quiet()).expect("sides");
    assert!(splits.contains(&Split::HeldOut));
    let check = Check { splits: &splits, n_tokens: &|_| Ok(1), limit: 9 };
    let findings = preflight(&imported.rows, &check, Job::quiet()).expect("findings");
    assert!(findings.is_empty(), "{findings:?}");

    let folder = tempfile::tempdir().expect("a folder");
    for (target, name) in
        [(Target::Llava, "a"), (Target::WebDataset, "a.tar"), (Target::Parquet, "a.parquet")]
    {
        let path = folder.path().join(name);
        export(&imported.rows, &path, target, Job::quiet()).expect("written");
        let again = read(&path).expect("read");
        assert_eq!(again.rows.len(), 6);
        for (a, b) in imported.rows.iter().zip(&again.rows) {
            assert_eq!(a.messages, b.messages);
        }
    }
}

#[test]
fn llama_factorys_other_sets_are_read_or_told() {
    let Some(data) = material("instruct/LLaMA-Factory/data") else { return };
    let named = |name: &str| {
        let source = Source { name: Some(name.to_owned()), ..Source::new(&data) };
        import(&source, Job::quiet()).unwrap_or_else(|error| panic!("{error}"))
    };
    let pairs = named("dpo_en_demo");
    assert_eq!((pairs.rows.len(), pairs.findings.len()), (300, 0));
    assert!(pairs.rows.iter().all(|row| row.rejected.is_some() && row.answer().is_some()));
    assert_eq!(named("alpaca_en_demo").rows.len(), 999);
    let videos = named("mllm_video_demo");
    assert!(videos.rows.is_empty() && !videos.findings.is_empty());
    assert!(videos.findings.iter().all(|finding| finding.kind == Kind::Skipped));
    for name in ["v1_sft_demo.jsonl", "v1_dpo_demo.jsonl"] {
        let imported = read(&data.join(name)).expect("rows");
        println!("{name}: {} rows", imported.rows.len());
        assert!(!imported.rows.is_empty());
        assert!(imported.rows.iter().all(|row| row.answer().is_some()));
        assert!(!name.contains("dpo") || imported.rows.iter().all(|row| row.rejected.is_some()));
    }
    let all = read(&data).expect("rows");
    println!("all sets: {} rows, {} findings", all.rows.len(), all.findings.len());
    assert!(all.rows.len() > 1300);
}

#[test]
fn llavas_documented_sample_is_read() {
    let Some(page) = material("instruct/LLaVA/docs/Finetune_Custom_Data.md") else { return };
    let page = std::fs::read_to_string(page).expect("text");
    let sample = page.split("```json").nth(1).and_then(|rest| rest.split("```").next());
    let folder = crate::folder(&[("data.json", sample.expect("a sample").as_bytes())]);
    let imported = read(&folder.path().join("data.json")).expect("rows");
    // The sample is no JSON as it stands: it has a comma too many, and dots for more rows.
    let said: Vec<&str> = imported.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "not the JSON of a row: trailing comma (line 15)",
            "not the JSON of a row: expected value (line 17)",
        ]
    );
}

#[test]
fn hostile_pictures_are_findings() {
    let Some(folder) = material("robustness") else { return };
    let imported = read(&folder).expect("rows");
    assert!(imported.rows.len() > 100);
    let check = Check { splits: &[], n_tokens: &|_| Ok(1), limit: 9 };
    let findings = preflight(&imported.rows, &check, Job::quiet()).expect("findings");
    let broken = findings.iter().filter(|finding| finding.kind == Kind::PictureBroken).count();
    println!("{} pictures, {broken} broken", imported.rows.len());
    assert!(broken > 0 && broken < imported.rows.len());
}
