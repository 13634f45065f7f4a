//! The TypeScript types of the window are generated from `app::api` and committed; this keeps
//! the committed file fresh: it rewrites a stale one and fails, so that a second run passes.
use std::path::Path;

#[test]
fn bindings_are_fresh() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/src/backend/bindings.ts");
    let dir = tempfile::tempdir().expect("a temporary folder");
    app::api::export_bindings(dir.path()).expect("the types export");
    let fresh = std::fs::read_to_string(dir.path().join("bindings.ts")).expect("an export");
    let stale = std::fs::read_to_string(&committed).unwrap_or_default().replace("\r\n", "\n");
    if stale != fresh {
        std::fs::create_dir_all(committed.parent().expect("a parent")).expect("the folder");
        std::fs::write(&committed, fresh).expect("the bindings can be written");
        panic!("ui/src/backend/bindings.ts was stale; it has been rewritten, commit it");
    }
}
