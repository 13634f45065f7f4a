//! Getting a model from a hub that stalls, cuts, lies and refuses: what is there in the end is
//! right to the last byte or not there at all, and what was there before is still there.

mod server;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hub::{Client, Connection, Disk, Entry, Error, Fault as Damage, Pace, Phase, Plan, Store};
use server::{Fault, Server};
use tempfile::TempDir;

const WEIGHTS: &str = "model.safetensors";

fn weights() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![("config.json", b"{\"model_type\": \"x\"}".to_vec()), (WEIGHTS, weights())]
}

struct Place {
    server: Server,
    folder: TempDir,
    connection: Connection,
    disk: Disk,
}

impl Place {
    fn new() -> Place {
        let server = Server::start(&files());
        let pace = Pace {
            connect: Duration::from_secs(5),
            stall: Duration::from_millis(300),
            attempts: 4,
            backoff: Duration::from_millis(5),
        };
        let endpoint = Some(server.address.clone());
        let connection = Connection { endpoint, pace, ..Default::default() };
        let folder = TempDir::new().expect("a folder");
        Place { server, folder, connection, disk: Disk::default() }
    }

    fn client(&self) -> Client {
        Client::new(&self.connection).expect("a client")
    }

    fn store(&self) -> Store {
        Store::new(self.folder.path().join("models"))
    }

    fn plan(&self) -> Result<Plan, Error> {
        let entry = Entry::of_repo(server::REPO).expect("a repository");
        Plan::of(&self.client(), &entry, &mut || true)
    }

    fn pull(&self) -> Result<hub::Installed, Error> {
        self.pull_until(|_| true)
    }

    fn pull_until(
        &self,
        mut on: impl FnMut(&hub::Progress) -> bool,
    ) -> Result<hub::Installed, Error> {
        hub::pull(&self.client(), &self.disk, &self.store(), &self.plan()?, &mut on)
    }

    /// Nobody is at work any more.
    fn nothing_is_locked(&self) {
        let hidden = names(&self.store().root().join(".pulling"));
        assert!(hidden.iter().all(|name| !name.ends_with(".lock")), "{hidden:?}");
    }

    /// Nothing is there that anybody could take for a model.
    fn nothing_is_shown(&self) {
        self.nothing_is_locked();
        assert!(self.store().installed().is_empty());
        assert!(!self.store().folder("model").exists());
    }

    fn is_right(&self) {
        self.nothing_is_locked();
        let [model] = &self.store().installed()[..] else { panic!("one model") };
        assert!(model.is_whole() && model.verify(&mut |_| true).expect("read").is_empty());
        for (name, bytes) in files() {
            assert_eq!(std::fs::read(model.folder.join(name)).expect("a file"), bytes, "{name}");
        }
        let left = names(&model.folder);
        assert_eq!(left, ["config.json", "manifest.json", WEIGHTS], "nothing else is left");
        assert!(self.store().paused().is_empty());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_verified_and_known_with_its_origin() {
    let place = Place::new();
    let mut seen = Vec::new();
    let model = place.pull_until(|progress| {
        seen.push((progress.phase, progress.done, progress.all));
        true
    });
    let origin = model.expect("a model").manifest.origin.expect("an origin");
    assert_eq!((origin.repo.as_str(), origin.commit.as_str()), (server::REPO, server::COMMIT));
    place.is_right();
    assert!(seen.iter().all(|(_, done, all)| done <= all));
    assert!(seen.iter().any(|(phase, ..)| *phase == Phase::Downloading));
    place.server.forget();
    place.pull().expect("it is there");
    assert!(place.server.ranges(WEIGHTS).is_empty(), "nothing is fetched twice");
}

#[test]
fn whatever_goes_wrong_once_the_bytes_are_right_in_the_end() {
    let to_itself = |place: &Place| Fault::Redirect(place.server.address.clone());
    let rows: Vec<(&str, Vec<Fault>)> = vec![
        ("cut", vec![Fault::Cut(100_000)]),
        ("cut at once", vec![Fault::Cut(0)]),
        ("cut at the very end", vec![Fault::Cut(299_999)]),
        ("cut often", vec![Fault::Cut(50_000); 5]),
        ("stall", vec![Fault::Stall(120_000)]),
        ("stall before the first byte", vec![Fault::Stall(0)]),
        ("wrong range", vec![Fault::Cut(100_000), Fault::WrongRange]),
        ("a range that lies", vec![Fault::Cut(100_000), Fault::LyingRange]),
        ("a range that lies and is cut", {
            vec![Fault::Cut(100_000), Fault::LyingRange, Fault::Cut(100_000)]
        }),
        ("ranges ignored", vec![Fault::Cut(100_000), Fault::IgnoreRange]),
        ("ranges ignored and cut", vec![Fault::Cut(100_000), Fault::IgnoreRange]),
        ("another content", vec![Fault::Cut(100_000), Fault::OtherEtag]),
        ("garbled", vec![Fault::Garbled]),
        ("garbled after a cut", vec![Fault::Cut(10), Fault::Garbled]),
        ("500, then fine", vec![Fault::Status(500), Fault::Status(503)]),
        ("429, then fine", vec![Fault::Status(429)]),
        ("416", vec![Fault::Cut(100_000), Fault::Status(416)]),
    ];
    for (what, faults) in rows {
        let place = Place::new();
        place.server.will(WEIGHTS, &faults);
        place.pull().unwrap_or_else(|error| panic!("{what}: {error}"));
        place.is_right();
    }
    let place = Place::new();
    place.server.will(WEIGHTS, &[to_itself(&place), Fault::Cut(1000), to_itself(&place)]);
    place.pull().expect("redirected");
    place.is_right();
}

#[test]
fn after_a_cut_only_the_rest_is_asked_for() {
    let place = Place::new();
    place.server.will(WEIGHTS, &[Fault::Cut(100_000), Fault::Cut(50_000)]);
    place.pull().expect("a model");
    let ranges = [None, Some("bytes=100000-".to_owned()), Some("bytes=150000-".to_owned())];
    assert_eq!(place.server.ranges(WEIGHTS), ranges);
}

#[test]
fn what_stays_wrong_is_one_error_and_nothing_is_shown() {
    let always = |fault: Fault| vec![fault; 99];
    let lying = vec![[Fault::Cut(100_000), Fault::LyingRange]; 9].concat();
    let rows: [(&str, Vec<Fault>, fn(&Error) -> bool); 8] = [
        ("a range that lies", lying, |e| matches!(e, Error::Damaged { .. })),
        ("garbled", always(Fault::Garbled), |e| matches!(e, Error::Damaged { .. })),
        ("stall", always(Fault::Stall(0)), |e| matches!(e, Error::Unreachable { .. })),
        ("cut", always(Fault::Cut(0)), |e| matches!(e, Error::Unreachable { .. })),
        ("500", always(Fault::Status(500)), |e| matches!(e, Error::Unreachable { .. })),
        ("401", always(Fault::Status(401)), |e| {
            matches!(e, Error::Refused { status: 401, with_token: false, .. })
        }),
        ("403", always(Fault::Status(403)), |e| matches!(e, Error::Refused { .. })),
        ("404", always(Fault::Status(404)), |e| matches!(e, Error::NotFound { .. })),
    ];
    for (what, faults, is_expected) in rows {
        let place = Place::new();
        place.server.will(WEIGHTS, &faults);
        let error = place.pull().expect_err(what);
        assert!(is_expected(&error), "{what}: {error}");
        assert!(error.to_string().contains("; "), "it says what to do: {error}");
        place.nothing_is_shown();
        // The server is well again: what had arrived is used.
        place.server.will(WEIGHTS, &[]);
        place.pull().unwrap_or_else(|error| panic!("{what}, then fine: {error}"));
        place.is_right();
    }
}

#[test]
fn damaged_bytes_are_not_kept() {
    let place = Place::new();
    place.server.will(WEIGHTS, &vec![Fault::Garbled; 9]);
    place.pull().expect_err("damaged");
    assert_eq!(place.server.ranges(WEIGHTS), [None, None], "afresh, and no third time");
    let hidden = place.folder.path().join("models/.pulling/model");
    assert_eq!(names(&hidden), ["config.json", "plan.json"]);
}

#[test]
fn stopped_in_the_middle_it_goes_on_from_there_to_the_same_bytes() {
    let place = Place::new();
    // The stall makes sure that there is a middle to stop in.
    place.server.will(WEIGHTS, &[Fault::Stall(120_000)]);
    let began = Instant::now();
    let stopped = place.pull_until(|progress| progress.done < 100_000);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert!(began.elapsed() < Duration::from_secs(2), "at once, not after the stall");
    place.nothing_is_shown();
    let [paused] = &place.store().paused()[..] else { panic!("one that is paused") };
    assert!(paused.done >= 100_000 && paused.plan.name == "model");
    place.server.forget();
    place.pull().expect("it goes on");
    let ranges = place.server.ranges(WEIGHTS);
    assert!(ranges[0].as_ref().is_some_and(|range| range != "bytes=0-"), "{ranges:?}");
    place.is_right();
}

#[test]
fn a_part_that_somebody_spoilt_is_found_out() {
    let place = Place::new();
    place.server.will(WEIGHTS, &[Fault::Stall(120_000)]);
    place.pull_until(|progress| progress.done < 100_000).expect_err("stopped");
    let part = place.folder.path().join("models/.pulling/model/model.safetensors.part");
    let spoilt = vec![7u8; std::fs::metadata(&part).expect("a part").len() as usize];
    std::fs::write(&part, spoilt).expect("a file");
    place.pull().expect("fetched anew");
    place.is_right();
}

#[test]
fn offline_nothing_is_asked() {
    let mut place = Place::new();
    place.connection.offline = true;
    assert!(matches!(place.plan(), Err(Error::Offline)));
    assert!(place.server.state.lock().unwrap().asked.is_empty());
}

#[test]
fn a_disk_that_is_too_small_is_said_before_and_one_that_becomes_full_keeps_what_it_has() {
    let mut place = Place::new();
    place.disk.free = Arc::new(|_| Ok(1000));
    match place.pull() {
        Err(Error::DiskTooSmall { needs, free: 1000, .. }) => assert!(needs > 300_000),
        other => panic!("{other:?}"),
    }
    assert!(place.server.ranges(WEIGHTS).is_empty());

    struct Full(Arc<AtomicU64>, std::fs::File);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = self.0.load(Ordering::SeqCst) as usize;
            if room == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let n = self.1.write(&bytes[..bytes.len().min(room)])?;
            self.0.fetch_sub(n as u64, Ordering::SeqCst);
            Ok(n)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.1.flush()
        }
    }
    let room = Arc::new(AtomicU64::new(150_000));
    let left = room.clone();
    place.disk = Disk::default();
    place.disk.append = Arc::new(move |path| {
        let file = std::fs::File::options().create(true).append(true).open(path)?;
        Ok(Box::new(Full(left.clone(), file)))
    });
    let error = place.pull().expect_err("full");
    assert!(matches!(&error, Error::DiskFull { path } if path.ends_with("model.safetensors.part")));
    place.nothing_is_shown();
    room.store(u64::MAX >> 1, Ordering::SeqCst);
    place.server.forget();
    place.pull().expect("there is room again");
    assert!(place.server.ranges(WEIGHTS)[0].is_some(), "on from there");
    place.is_right();
}

#[test]
fn the_token_goes_to_the_endpoint_and_nowhere_else() {
    let elsewhere = Server::start(&files());
    let mut place = Place::new();
    place.connection.token = Some("secret".into());
    place.server.will(WEIGHTS, &[Fault::Redirect(elsewhere.address.clone())]);
    place.pull().expect("a model");
    let tokens = |server: &Server| -> Vec<Option<String>> {
        server.state.lock().unwrap().asked.iter().map(|(.., token)| token.clone()).collect()
    };
    assert!(tokens(&place.server).iter().all(|token| token.as_deref() == Some("Bearer secret")));
    assert_eq!(tokens(&elsewhere), [None]);
    // Another path of the same endpoint needs it.
    let mut place = Place::new();
    place.connection.token = Some("secret".into());
    place.server.will(WEIGHTS, &[Fault::Redirect(place.server.address.clone())]);
    place.pull().expect("a model");
    assert!(tokens(&place.server).iter().all(Option::is_some));
}

#[test]
fn a_proxy_that_is_set_is_the_only_way_out() {
    let mut place = Place::new();
    // Nobody listens there.
    place.connection.proxy = Some("http://127.0.0.1:9".into());
    assert!(matches!(place.plan(), Err(Error::Unreachable { .. })));
    assert!(place.server.state.lock().unwrap().asked.is_empty());
}

#[test]
fn settings_that_are_no_addresses_are_named() {
    for (endpoint, proxy, named) in [
        (Some("nowhere"), None, "mirror"),
        (Some("ftp://x"), None, "mirror"),
        (None, Some("http://"), "proxy"),
    ] {
        let (endpoint, proxy) = (endpoint.map(String::from), proxy.map(String::from));
        let connection = Connection { endpoint, proxy, ..Default::default() };
        let error = Client::new(&connection).expect_err(named).to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn what_is_broken_is_found_and_only_that_is_fetched_again() {
    let place = Place::new();
    let model = place.pull().expect("a model");
    let path = model.folder.join(WEIGHTS);
    let damages: [(&dyn Fn(), Damage); 3] = [
        (&|| std::fs::remove_file(&path).expect("gone"), Damage::Missing),
        (&|| std::fs::write(&path, b"short").expect("cut"), Damage::Size(5)),
        (&|| std::fs::write(&path, vec![1; 300_000]).expect("spoilt"), Damage::Content),
    ];
    for (damage, fault) in damages {
        damage();
        let broken = model.verify(&mut |_| true).expect("read");
        assert_eq!(broken, [hub::Broken { path: WEIGHTS.into(), fault }]);
        place.server.forget();
        // A repair that fails leaves what was there.
        place.server.will(WEIGHTS, &vec![Fault::Garbled; 9]);
        let both = (&model, &broken[..]);
        let (client, store) = (place.client(), place.store());
        hub::repair(&client, &place.disk, &store, both, &mut |_| true).expect_err("damaged");
        assert_eq!(model.verify(&mut |_| true).expect("read"), broken);
        place.server.will(WEIGHTS, &[]);
        hub::repair(&client, &place.disk, &store, both, &mut |_| true).expect("repaired");
        assert!(place.server.ranges("config.json").is_empty(), "only what is broken");
        place.is_right();
    }
}

#[test]
fn removing_takes_what_was_fetched_and_leaves_what_was_not() {
    let place = Place::new();
    let model = place.pull().expect("a model");
    std::fs::write(model.folder.join("notes.txt"), "mine").expect("a file");
    assert_eq!(place.store().remove("model").expect("removed"), ["notes.txt"]);
    assert_eq!(names(&model.folder), ["notes.txt"]);
    assert!(matches!(place.store().remove("model"), Err(Error::NoModel { .. })));
    assert!(matches!(place.store().remove("../model"), Err(Error::Name { .. })));
    // What somebody else put there is not overwritten.
    assert!(matches!(place.pull(), Err(Error::Taken { .. })));
    assert_eq!(names(&model.folder), ["notes.txt"]);
}

#[test]
fn what_has_arrived_of_half_a_model_can_be_removed() {
    let place = Place::new();
    place.server.will(WEIGHTS, &[Fault::Stall(120_000)]);
    place.pull_until(|progress| progress.done < 100_000).expect_err("stopped");
    assert!(place.store().remove("model").expect("removed").is_empty());
    assert!(place.store().paused().is_empty());
}

#[test]
fn two_do_not_fetch_the_same_model_at_once() {
    let place = Place::new();
    let mut inner = None;
    place
        .pull_until(|_| {
            inner.get_or_insert_with(|| place.pull().map(drop));
            true
        })
        .expect("the first one");
    assert!(matches!(inner, Some(Err(Error::Busy { .. }))), "{inner:?}");
    place.is_right();
}

#[test]
fn an_import_is_registered_or_copied_and_the_users_files_stay() {
    let place = Place::new();
    let mine = place.folder.path().join("mine");
    std::fs::create_dir_all(&mine).expect("a folder");
    for (name, bytes) in files() {
        std::fs::write(mine.join(name), bytes).expect("a file");
    }
    let paths = ["config.json".to_owned(), WEIGHTS.to_owned()];
    for copy in [false, true] {
        let from = (mine.as_path(), mine.as_path(), &paths[..]);
        let disk = Disk::default();
        let model = place.store().import(&disk, "own", from, copy, &mut |_| true);
        let model = model.expect("imported");
        assert_eq!(model.model() == mine, !copy);
        assert!(model.verify(&mut |_| true).expect("read").is_empty());
        let again = place.store().import(&disk, "own", from, copy, &mut |_| true);
        assert!(matches!(again, Err(Error::Taken { .. })));
        place.store().remove("own").expect("removed");
        assert_eq!(names(&mine), ["config.json", WEIGHTS]);
    }
    let from = (mine.as_path(), mine.as_path(), &paths[..]);
    let small = Disk { free: Arc::new(|_| Ok(5)), ..Disk::default() };
    let error = place.store().import(&small, "own", from, true, &mut |_| true);
    assert!(matches!(error, Err(Error::DiskTooSmall { .. })));
    place.nothing_is_shown();
}

/// What a manifest says that cannot be read, or points outside, is nothing to go by.
#[test]
fn a_model_with_a_wrong_manifest_is_known_and_can_be_removed() {
    let outside = r#"{"name": "model", "files": [{"path": "../x", "size": 1, "sha256": ""}]}"#;
    for text in [outside, "{", "", "[]"] {
        let place = Place::new();
        let folder = place.pull().expect("a model").folder;
        let store = place.store();
        std::fs::write(folder.join("manifest.json"), text).expect("a file");
        std::fs::write(folder.join("notes.txt"), "mine").expect("a file");
        std::fs::write(store.root().join("x"), "mine").expect("a file");
        assert!(matches!(store.find("model"), Err(Error::Manifest { .. })), "{text}");
        assert_eq!((store.installed(), store.unreadable()), (vec![], vec!["model".to_owned()]));
        assert!(matches!(place.pull(), Err(Error::Manifest { .. })), "{text}");
        store.check_there("model").expect("it is there");
        assert_eq!(store.remove("model").expect("removed"), ["notes.txt"], "{text}");
        assert_eq!(names(&folder), ["notes.txt"]);
        assert!(store.root().join("x").exists(), "what is outside stays");
        assert!(matches!(store.check_there("model"), Err(Error::NoModel { .. })));
        assert!(store.unreadable().is_empty());
        place.nothing_is_locked();
    }
}
