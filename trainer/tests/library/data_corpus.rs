//! The corpus: what enters it, that its split leaks nothing, and that only content decides.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use trainer::data::corpus::{Candidate, Corpus, Limits, Side, Skipped};
use trainer::data::quickstart::{DOMAINS, Package, Quickstart, domain_of, locked_packages};
use trainer::data::{DataError, folder};

fn candidate(domain: u32, path: &str, text: &str) -> Candidate {
    Candidate { domain, path: path.into(), split_key: path.into(), side: None, text: text.into() }
}

fn assemble(candidates: Vec<Candidate>, limits: &Limits) -> Result<Corpus, DataError> {
    Corpus::assemble(&["a".into(), "b".into()], candidates, limits, Skipped::default(), "here")
}

fn many() -> Vec<Candidate> {
    (0..120)
        .map(|i| candidate(i % 2, &format!("p{i:03}"), &format!("text {} ", i % 90).repeat(8 + i as usize)))
        .collect()
}

fn write(root: &Path, file: &str, text: impl AsRef<[u8]>) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn order_of_candidates_does_not_matter_and_nothing_leaks() {
    let limits = Limits { min_valid_bytes: 500, ..Limits::default() };
    let forward = assemble(many(), &limits).unwrap();
    let mut reversed = many();
    reversed.reverse();
    reversed.rotate_left(17);
    let reversed = assemble(reversed, &limits).unwrap();
    assert_eq!((&forward.train, &forward.valid), (&reversed.train, &reversed.valid));
    assert_eq!(forward.skipped, reversed.skipped);

    let train: HashSet<&str> = forward.train.iter().map(|d| d.text.as_str()).collect();
    assert!(forward.valid.iter().all(|d| !train.contains(d.text.as_str())));
    let uids: HashSet<u64> = forward.train.iter().chain(&forward.valid).map(|d| d.uid).collect();
    assert_eq!(uids.len(), forward.train.len() + forward.valid.len(), "every document once");
    for (name, train, valid) in forward.sizes() {
        assert!(valid.bytes >= 500 && valid.documents >= 1, "{name} has validation text");
        assert!(train.bytes > 2 * valid.bytes, "{name} keeps most of its text for training");
    }
}

#[test]
fn exact_duplicates_are_dropped_across_domains() {
    let text = "the same licence text ".repeat(10);
    let corpus = assemble(
        vec![candidate(0, "z", &text), candidate(1, "y", &text), candidate(1, "x", &"other ".repeat(20))],
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(corpus.skipped.duplicate, 1);
    let all: Vec<&str> = corpus.train.iter().chain(&corpus.valid).map(|d| d.path.as_str()).collect();
    assert!(all.contains(&"y") && !all.contains(&"z"), "the smaller path stays: {all:?}");
    assert_eq!(corpus.domains, ["b"], "a domain without text is gone and indices are dense");
}

#[test]
fn versions_of_one_file_stay_on_one_side() {
    let mut candidates = Vec::new();
    for file in 0..40 {
        for version in 0..2 {
            let mut c =
                candidate(0, &format!("syn-{version}/f{file}"), &format!("v{version} f{file} ").repeat(20));
            c.split_key = format!("syn/f{file}");
            candidates.push(c);
        }
    }
    let corpus = assemble(candidates, &Limits { min_valid_bytes: 900, ..Limits::default() }).unwrap();
    let key = |path: &str| path.split_once('/').unwrap().1.to_owned();
    let train: HashSet<String> = corpus.train.iter().map(|d| key(&d.path)).collect();
    assert!(!corpus.valid.is_empty());
    assert!(corpus.valid.iter().all(|d| !train.contains(&key(&d.path))));
}

#[test]
fn caps_bound_documents_and_domains() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "long/é.txt", "é".repeat(5000));
    write(root.path(), "long/lines.txt", "a line of text\n".repeat(500));
    for i in 0..40 {
        write(root.path(), &format!("many/{i}.txt"), format!("{i} ").repeat(300));
    }
    let limits = Limits { max_document_bytes: 1001, max_domain_bytes: 6000, ..Limits::default() };
    let corpus = folder::load(root.path(), &limits).unwrap();
    let documents: Vec<_> = corpus.train.iter().chain(&corpus.valid).collect();
    assert!(documents.iter().all(|d| d.text.len() <= 1001));
    let find = |name: &str| documents.iter().find(|d| d.path == name).unwrap();
    assert_eq!(find("long/é.txt").text.len(), 1000, "cut between characters");
    assert!(find("long/lines.txt").text.ends_with('\n'), "cut after a line");
    let (_, train, _) = corpus.sizes().into_iter().find(|(name, ..)| name == "many").unwrap();
    assert!(train.bytes <= 6000 && train.bytes > 4000, "{}", train.bytes);
    assert!(corpus.skipped.over_cap > 0);
}

#[test]
fn unusable_files_are_counted_and_an_empty_corpus_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "d/tiny.txt", "short");
    write(root.path(), "d/binary.bin", [0xff, 0xfe].repeat(100));
    let error = folder::load(root.path(), &Limits::default()).unwrap_err();
    assert!(matches!(error, DataError::EmptyCorpus { files: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("one subfolder a domain"), "{error}");

    write(root.path(), "d/good.txt", "good text ".repeat(20));
    let corpus = folder::load(root.path(), &Limits::default()).unwrap();
    assert_eq!((corpus.skipped.tiny, corpus.skipped.not_utf8), (1, 1));
    assert_eq!(corpus.train.len(), 1);

    let absent = folder::load(&root.path().join("nowhere"), &Limits::default()).unwrap_err();
    assert!(absent.to_string().contains("nowhere") && absent.to_string().contains("data.path"), "{absent}");
}

#[test]
fn given_train_and_valid_folders_are_kept_apart() {
    let root = tempfile::tempdir().unwrap();
    let repeated = "validation text ".repeat(10);
    write(root.path(), "train/prose/leak.txt", &repeated);
    write(root.path(), "train/prose/own.txt", "training text ".repeat(10));
    write(root.path(), "valid/prose/held.txt", &repeated);
    let corpus = folder::load(root.path(), &Limits::default()).unwrap();
    let paths =
        |documents: &[trainer::data::Document]| documents.iter().map(|d| d.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&corpus.train), ["train/prose/own.txt"]);
    assert_eq!(paths(&corpus.valid), ["valid/prose/held.txt"]);
    assert_eq!(corpus.domains, ["prose"]);
}

#[test]
fn a_demanded_side_is_obeyed() {
    let mut held = candidate(0, "held", &"held ".repeat(30));
    held.side = Some(Side::Valid);
    let mut kept = candidate(0, "kept", &"kept ".repeat(30));
    kept.side = Some(Side::Train);
    let corpus = assemble(vec![held, kept], &Limits::default()).unwrap();
    assert_eq!((corpus.train[0].path.as_str(), corpus.valid[0].path.as_str()), ("kept", "held"));
}

#[test]
fn domains_of_files() {
    for (file, domain) in [
        ("LICENSE-MIT", Some("licences")),
        ("vendor/COPYING.txt", Some("licences")),
        ("license.md", Some("licences")),
        ("src/license.rs", Some("rust")),
        ("Cargo.toml", Some("manifests")),
        ("Cargo.toml.orig", None),
        ("sub/Cargo.lock", Some("manifests")),
        ("tests/a/b.rs", Some("tests")),
        ("benches/x.rs", Some("tests")),
        ("tests/ui/x.stderr", None),
        ("tests/README.md", Some("markdown")),
        ("src/tests.rs", Some("rust")),
        ("zstd/lib/common/mem.h", Some("c")),
        ("src/lib.rs", Some("rust")),
        ("data.bin", None),
    ] {
        assert_eq!(domain_of(file).map(|index| DOMAINS[index]), domain, "{file}");
    }
}

#[test]
fn packages_come_from_the_lock_file() {
    let lock = "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nsource = \"registry+https://x\"\n\
                checksum = \"0\"\n\n[[package]]\nname = \"trainer\"\nversion = \"0.1.0\"\n\n[[package]]\n\
                name = \"windows-sys\"\nversion = \"0.61.2\"\nsource = \"registry+https://x\"\n";
    let serde = Package { name: "serde".into(), version: "1.0.1".into() };
    assert_eq!(locked_packages(lock), [serde]);
}

/// A registry folder of our own making, so that the test needs nothing of this machine.
fn registry(root: &Path) -> Quickstart {
    for (package, tag) in [("one-1.0.0", 1), ("two-0.2.0", 2)] {
        for i in 0..12 {
            write(root, &format!("{package}/src/f{i}.rs"), format!("fn f{i}_{tag}() {{}}\n").repeat(12));
        }
        write(
            root,
            &format!("{package}/LICENSE-MIT"),
            "Permission is hereby granted, free of charge ".repeat(4),
        );
        write(root, &format!("{package}/Cargo.toml"), format!("[package]\nname = \"{package}\"\n").repeat(5));
        write(
            root,
            &format!("{package}/src/bindings.rs"),
            "/* automatically generated */\nconst A: u8 = 1;\n".repeat(9),
        );
    }
    let package = |name: &str, version: &str| Package { name: name.into(), version: version.into() };
    Quickstart {
        sources: vec![root.join("empty"), root.to_owned()],
        packages: vec![package("one", "1.0.0"), package("two", "0.2.0"), package("three", "3.0.0")],
        limits: Limits::default(),
    }
}

#[test]
fn quickstart_reads_packages_and_names_what_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let corpus = registry(root.path()).load().unwrap();
    assert_eq!(corpus.domains, ["rust", "licences", "manifests"]);
    assert_eq!(corpus.missing, ["three-3.0.0"]);
    assert_eq!((corpus.skipped.duplicate, corpus.skipped.generated), (1, 2));
    let (name, train, valid) = &corpus.sizes()[0];
    assert_eq!((name.as_str(), train.documents + valid.documents), ("rust", 24));
    assert!(valid.documents >= 1);
}

#[test]
fn quickstart_without_sources_says_what_to_run() {
    let root = tempfile::tempdir().unwrap();
    let mut quickstart = registry(root.path());
    quickstart.sources = vec![root.path().join("registry/src")];
    let error = quickstart.load().unwrap_err();
    assert!(error.to_string().contains("cargo fetch --locked"), "{error}");
}

/// This very test was built from sources in cargo's folder, so the real corpus is there as well.
#[test]
fn quickstart_of_this_machine_has_text_in_every_main_domain() {
    let quickstart = Quickstart::of_this_machine(Limits::default()).unwrap();
    let corpus = quickstart.load().unwrap();
    let sizes = corpus.sizes();
    for (name, train, valid) in &sizes {
        println!(
            "{name:10} train {:5} documents {:8} bytes   valid {:4} documents {:7} bytes",
            train.documents, train.bytes, valid.documents, valid.bytes
        );
    }
    println!("{:?}\nmissing: {:?}", corpus.skipped, corpus.missing);
    for domain in ["rust", "markdown", "licences", "manifests", "tests"] {
        let (_, train, valid) = sizes.iter().find(|(name, ..)| name == domain).unwrap();
        assert!(train.bytes > 100_000 && valid.bytes > 20_000, "{domain}: {train:?} {valid:?}");
    }
    let train: HashSet<u64> = corpus.train.iter().map(|d| d.uid).collect();
    assert!(corpus.valid.iter().all(|d| !train.contains(&d.uid)));
}
