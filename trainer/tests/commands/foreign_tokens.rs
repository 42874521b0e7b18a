//! Tokens that are not the model's: ids beyond its vocabulary, and tokenizers of another model.

use std::fs;
use std::path::Path;

use crate::support::{Place, fail, stderr, succeed};
use serde_json::Value;
use trainer::data::Tokenizer;
use trainer::data::shard::Manifest;
use trainer::data::tokenizer::Eos;

/// Makes one id of a finished shard 319 of 320, or more, with all checksums renewed.
fn plant(shard: &Path, id: u16) {
    let mut bytes = fs::read(shard).unwrap();
    let tokens = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
    for token in [0, 40, 80] {
        bytes[64 + 2 * token..66 + 2 * token].copy_from_slice(&id.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[64..64 + 2 * tokens]);
    bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(shard, bytes).unwrap();
}

#[test]
fn ids_beyond_the_vocabulary_are_refused_before_training_and_while_it_runs() {
    let place = Place::new();
    succeed(place.trainer().args(["data", "build", "text", "--out", "shards"]));
    plant(&place.path("shards/shard-00000.tokens"), 400);
    let said = fail(place.trainer().args(["data", "check", "shards"]), 1);
    assert!(said.contains("shard-00000.tokens") && said.contains("ids below 320, found 400"), "{said}");
    for verify in ["true", "false"] {
        let mut command = place.trainer();
        let path = format!("data.path='{}'", place.path("shards").display());
        let verify_key = format!("data.verify={verify}");
        command.args(["pretrain", "tiny", "--steps", "200", "--out", "run"]);
        for key in ["data.source=shards", "run.threads=1", "validation.rows=0", &path, &verify_key] {
            command.args(["--set", key]);
        }
        let said = fail(&mut command, 1);
        assert!(!said.contains("panicked"), "{said}");
        // Unverified text is caught where it is looked up: the message names the id and the rows of the table.
        assert!(said.contains("400") && said.contains("320"), "verify = {verify}: {said}");
    }
    for arguments in [&["--data", "shards"][..], &["--data", "shards", "--rows", "1"]] {
        succeed(&mut place.pretrain("other", &["--steps", "1", "--force"]));
        let said = fail(place.trainer().args(["eval", "--checkpoint", "other"]).args(arguments), 1);
        assert!(said.contains("ids below 320, found 400"), "{said}");
    }
}

#[test]
fn the_tokenizer_of_another_model_is_refused_or_told_of() {
    let place = Place::new();
    succeed(&mut place.pretrain("bytes", &["--steps", "1"]));
    let large = place.path("large");
    fs::create_dir(&large).unwrap();
    let args = ["data", "train-tokenizer", "text", "--vocabulary", "400", "--out", "large/tokenizer.json"];
    succeed(place.trainer().args(args));
    let tokenizer = Tokenizer::load(&large.to_string_lossy(), Eos::Usual).unwrap();
    let ids = tokenizer.identity().vocabulary;
    // Shards of one tokenizer for a run or a model with another.
    succeed(place.trainer().args(["data", "build", "text", "--tokenizer", "large", "--out", "spelled"]));
    let said = fail(place.trainer().args(["eval", "--checkpoint", "bytes", "--data", "spelled"]), 2);
    assert!(said.contains("spelled") && said.contains("another tokenizer"), "{said}");
    let mut command = place.trainer();
    let path = format!("data.path='{}'", place.path("spelled").display());
    command.args([
        "pretrain",
        "tiny",
        "--steps",
        "1",
        "--out",
        "no",
        "--set",
        "data.source=shards",
        "--set",
        &path,
    ]);
    let said = fail(command.args(["--set", "model.vocabulary=270", "--set", "validation.rows=0"]), 1);
    assert!(said.contains("`model.vocabulary = 270`") && said.contains(&format!("{ids} ids")), "{said}");
    assert!(!place.path("no").exists());

    // A model beside whose weights another tokenizer lies than the one that is given.
    let train = |name: &str| {
        let mut command = place.trainer();
        command.args(["pretrain", "tiny", "--steps", "1", "--out", name, "--set", "data.source=shards"]);
        command.args(["--set", &path, "--set", "validation.rows=0"]);
        command
    };
    succeed(&mut train("run"));
    let args = ["data", "train-tokenizer", "text/code", "--vocabulary", "300", "--out", "small.json"];
    succeed(place.trainer().args(args));
    fs::write(place.path("prompt.txt"), "expert token").unwrap();
    let select = |tokenizer: &str| {
        let mut command = place.trainer();
        command.args(["select", "--checkpoint", "run", "--keep", "4", "--prompt", "expert token"]);
        command.args(["--out", "subset.json", "--tokenizer", tokenizer]);
        command
    };
    let said = stderr(&succeed(&mut select("small.json")));
    assert!(said.contains("small.json is another file than") && said.contains("other text"), "{said}");
    let said = stderr(&succeed(&mut select("large/tokenizer.json")));
    assert!(!said.contains("another file"), "{said}");
}

/// A tokenizer of 280 ids that learnt from `text`, and shards of all text by it, with the end of a document of bytes.
fn spelled(place: &Place, text: &str, name: &str) {
    let file = format!("{name}.json");
    succeed(place.trainer().args(["data", "train-tokenizer", text, "--vocabulary", "280", "--out", &file]));
    let json: Value = serde_json::from_slice(&fs::read(place.path(&file)).unwrap()).unwrap();
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let (eos, _) = vocabulary.iter().find(|(_, id)| **id == 256).expect("a token of this id");
    let build = ["data", "build", "text", "--tokenizer", &file, "--eos", eos, "--out", name];
    succeed(place.trainer().args(build));
}

/// A short run on shards, which it validates on too.
fn pretrain_on(place: &Place, shards: &str, out: &str) {
    let mut command = place.trainer();
    command.args(["pretrain", "tiny", "--steps", "1", "--out", out, "--set", "data.source=shards"]);
    for key in ["path", "valid_path"] {
        command.arg("--set").arg(format!("data.{key}='{}'", place.path(shards).display()));
    }
    succeed(command.args(["--set", "data.eos=256"]));
}

#[test]
fn shards_of_another_tokenizer_of_the_same_size_are_refused_by_every_command() {
    let place = Place::new();
    spelled(&place, "text/code", "code");
    spelled(&place, "text/prose", "prose");
    let tokenizer = |name: &str| Manifest::read(&place.path(name)).unwrap().tokenizer;
    let (code, prose) = (tokenizer("code"), tokenizer("prose"));
    assert_eq!((code.vocabulary, code.eos), (280, 256));
    assert_eq!((prose.vocabulary, prose.eos), (280, 256));
    assert_ne!(code.sha256, prose.sha256);
    pretrain_on(&place, "code", "run");
    succeed(&mut place.pretrain("bytes", &["--steps", "1"]));
    succeed(place.trainer().args(["export", "--checkpoint", "run", "--out", "exported"]));

    let reads = |checkpoint: &str, text: &str| {
        let command = |args: &[&str]| {
            let mut command = place.trainer();
            command.args(args).args(["--checkpoint", checkpoint]);
            command
        };
        [
            command(&["eval", "--rows", "1", "--data", text]),
            command(&["select", "--keep", "4", "--out", "subset.json", "--documents", "1", "--data", text]),
            command(&["retention", "--rows", "1", "--keep", "4", "--select-data", text, "--data", text]),
            command(&["finetune", "--steps", "1", "--force", "--out", "tuned", "--data", text]),
        ]
    };
    for (checkpoint, own, other) in
        [("run", "code", "prose"), ("exported", "code", "prose"), ("bytes", "text", "prose")]
    {
        reads(checkpoint, own).iter_mut().for_each(|command| drop(succeed(command)));
        for mut command in reads(checkpoint, other) {
            let said = fail(&mut command, 2);
            assert!(said.contains("prose was tokenised with another tokenizer"), "{checkpoint}: {said}");
            assert!(said.contains("trainer data build"), "{checkpoint}: {said}");
        }
    }
    // Text files are read as bytes, which these tokens are not, whatever the id that ends a document.
    for mut command in reads("run", "text") {
        let said = fail(&mut command, 2);
        assert!(said.contains("text holds no shards"), "{said}");
    }
    // The run's own shards, built anew with another tokenizer.
    succeed(place.trainer().args(["eval", "--checkpoint", "run"]));
    fs::rename(place.path("code"), place.path("before")).unwrap();
    fs::rename(place.path("prose"), place.path("code")).unwrap();
    for args in [&["eval"][..], &["select", "--keep", "4", "--out", "subset.json"]] {
        let said = fail(place.trainer().args(args).args(["--checkpoint", "run"]), 2);
        assert!(said.contains("code was tokenised with another tokenizer"), "{said}");
    }
    // What stands in `code` now.
    pretrain_on(&place, "code", "other");
    let merge = |tuned: &str| {
        let mut command = place.trainer();
        command.args(["merge", "--force", "--full", "run", "--out", "merged", "--tuned", tuned]);
        command
    };
    for other in ["other", "bytes"] {
        let said = fail(&mut merge(other), 1);
        assert!(said.contains(other) && said.contains("has another tokenizer"), "{said}");
    }
    succeed(&mut merge("run"));
}
