//! What goes wrong ends with a clear message, and nothing is lost.

use crate::support::{Place, fail, names, succeed};

#[test]
fn an_existing_run_is_never_overwritten_unasked() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let before = place.metrics("run");
    let said = fail(&mut place.pretrain("run", &["--steps", "2"]), 2);
    for remedy in ["--resume", "--out", "--force"] {
        assert!(said.contains(remedy), "{said}");
    }
    assert_eq!(place.metrics("run"), before);
    std::fs::write(place.path("run/notes.txt"), "mine").unwrap();
    succeed(&mut place.pretrain("run", &["--steps", "3", "--force"]));
    assert!(place.step("run", 3).exists() && !place.step("run", 2).exists());
    assert!(place.path("run/notes.txt").exists(), "only the run's own files are deleted");
}

#[test]
fn an_empty_or_missing_corpus_leaves_no_run_behind() {
    let place = Place::new();
    std::fs::remove_dir_all(place.path("text")).unwrap();
    let said = fail(&mut place.pretrain("run", &[]), 1);
    assert!(said.contains("does not exist") && said.contains("data.path"), "{said}");
    std::fs::create_dir(place.path("text")).unwrap();
    let said = fail(&mut place.pretrain("run", &[]), 1);
    assert!(said.contains("the corpus is empty"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn a_loss_that_is_not_finite_names_the_first_tensor_and_keeps_the_last_good_checkpoint() {
    let place = Place::new();
    let settings = ["--set", "optimiser.lr=1e30", "--set", "run.checkpoint_every=1", "--set", "run.keep=9"];
    let said = fail(&mut place.pretrain("run", &settings), 1);
    assert!(said.contains("step 2 is") && said.contains("The first tensor that is not finite"), "{said}");
    assert!(said.contains("layer 0"), "{said}");
    assert!(said.contains("last good checkpoint, of step 1"), "{said}");
    let advice = said.lines().last().unwrap();
    assert!(advice.contains("--resume --set optimiser.lr="), "{said}");
    assert_eq!(names(&place.path("run/checkpoints")), ["step-00000001"]);
    assert_eq!(place.metrics("run").len(), 1);
}

/// A limit on the size of files stands in for a full disk: the same writes fail half-way, with another error number.
#[test]
#[cfg(unix)]
fn a_checkpoint_that_does_not_fit_on_the_disk_is_taken_away_and_the_last_good_one_stays() {
    let place = Place::new();
    succeed(&mut place.pretrain("whole", &[]));
    succeed(&mut place.pretrain("run", &["--stop-after", "7"]));
    let full = place.pretrain("run", &["--resume"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 120; exec \"$0\" \"$@\""]);
    limited.arg(full.get_program()).args(full.get_args());
    let said = fail(&mut limited, 1);
    assert!(said.contains("cannot") && said.contains("step-00000010"), "{said}");
    assert!(said.contains("the checkpoint of step 7 is whole"), "{said}");
    assert_eq!(names(&place.path("run/checkpoints")), ["step-00000007"]);
    succeed(&mut place.pretrain("run", &["--resume"]));
    place.assert_same("whole", "run", 20);
}

#[test]
fn a_flipped_bit_in_a_single_checkpoint_and_a_slip_in_the_threads_are_refused() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let weights = place.step("run", 2).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let mut generate = place.trainer();
    generate.args(["generate", "--checkpoint"]).arg(place.step("run", 2));
    let said = fail(&mut generate, 1);
    assert!(said.contains("model.safetensors is damaged") && said.contains("choose another"), "{said}");
    let said = fail(&mut place.pretrain("other", &["--threads", "100000"]), 2);
    assert!(said.contains("100000 threads") && said.contains("cores"), "{said}");
    assert!(!place.path("other").exists());
}

#[test]
fn two_trainers_do_not_write_into_one_folder() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--stop-after", "2"]));
    let lock = std::fs::File::create(place.path("run").join(".lock")).unwrap();
    lock.lock().unwrap();
    for more in [&["--resume"][..], &["--force"]] {
        let said = fail(&mut place.pretrain("run", more), 2);
        assert!(said.contains("another process is training into"), "{said}");
    }
    assert!(place.step("run", 2).exists(), "the run of the other process is untouched");
    // Not only closed: a child that another test is just starting may still have the file open.
    lock.unlock().unwrap();
    succeed(&mut place.pretrain("run", &["--resume"]));
}
