//! Masks, files and memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use emo::backend::Backend;
use emo::cpu::Cpu;
use emo::oracle::Oracle;
use half::bf16;
use trainer::checkpoint::safetensors::{self, Planned, Reader};
use trainer::checkpoint::transfer::{Settings, transfer};
use trainer::checkpoint::{Family, hf};
use trainer::model::{ModelConfig, Objective};
use trainer::subset::ExpertSubset;

use super::{CAPACITY, configs, inputs, kept, logits, model};

fn prune(folder: &Path, name: &str, kept: &[Vec<u32>]) -> PathBuf {
    let to = folder.join(name);
    let keep = Some(kept.to_vec());
    let settings = Settings { family: Family::Emo, dtype: None, shard_bytes: 100_000, keep };
    transfer(&folder.join("whole"), &to, &settings, |_| ()).expect("a pruned copy");
    to
}

/// Masked, pruned on disk and read in part: the same bits, at several sizes of batch, and other ones than the whole model's.
fn assert_same<B: Backend>(what: &str, config: &ModelConfig, backend: impl Fn() -> B) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut whole = model(backend(), config);
    hf::save(&folder.path().join("whole"), &whole).expect("saved");
    for count in [1, 3, 4, 12] {
        let kept = kept(config, count);
        let path = prune(folder.path(), &format!("pruned-{count}"), &kept);
        let mut pruned = hf::load(&path, Arc::new(backend()), CAPACITY).expect("the pruned model");
        let mut part = hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(backend()), CAPACITY)
            .expect("a part of the model");
        assert_eq!(pruned.config(), part.config());
        assert_eq!(pruned.config(), &config.keep(&kept).expect("a smaller configuration"));
        for tokens in [1, 7, 33, 150] {
            let inputs = inputs(tokens);
            whole.set_experts(None).expect("all experts");
            let all = logits(&mut whole, &inputs);
            whole.set_experts(Some(&kept)).expect("some experts");
            let masked = logits(&mut whole, &inputs);
            assert!(masked.iter().all(|value| value.is_finite()));
            assert!(masked != all, "{what}, {count} experts: the mask does nothing");
            assert!(
                masked == logits(&mut pruned, &inputs),
                "{what}, {count} experts, {tokens} tokens: on disk"
            );
            assert!(
                masked == logits(&mut part, &inputs),
                "{what}, {count} experts, {tokens} tokens: in part"
            );
            // In the numbers of the whole model.
            let counts = whole.counts().expect("counts");
            for (ordinal, kept) in kept.iter().enumerate() {
                let outside =
                    |&(expert, &count): &(usize, &u32)| count > 0 && !kept.contains(&(expert as u32));
                assert!(!counts[ordinal].iter().enumerate().any(|pair| outside(&pair)), "{what}");
                let slots = pruned.counts().expect("counts")[ordinal].clone();
                let ours: Vec<u32> = kept.iter().map(|&expert| counts[ordinal][expert as usize]).collect();
                assert_eq!(ours, slots, "{what}");
            }
        }
    }
}

#[test]
fn a_mask_is_pruning_bit_for_bit() {
    for (what, config) in configs() {
        for threads in [1, 2] {
            assert_same(what, &config, || Cpu::new(threads).expect("threads"));
        }
        assert_same(what, &config, || Cpu::new(2).expect("threads").storing::<bf16>());
    }
}

#[test]
fn all_experts_are_the_whole_model_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    for (what, config) in configs() {
        let mut whole = model(Cpu::new(2).expect("threads"), &config);
        hf::save(&folder.path().join("whole"), &whole).expect("saved");
        let all = ExpertSubset::full(&config).expect("all experts").kept();
        let path = prune(folder.path(), "all", &all);
        let mut pruned = hf::load(&path, Arc::new(Cpu::new(2).expect("threads")), CAPACITY).expect("a model");
        let inputs = inputs(150);
        let expected = logits(&mut whole, &inputs);
        assert!(expected == logits(&mut pruned, &inputs), "{what}");
        whole.set_experts(Some(&all)).expect("all experts");
        assert!(expected == logits(&mut whole, &inputs), "{what}");
        let origin = ExpertSubset::of_pruned(pruned.config()).expect("the origin");
        assert!(origin.is_full() && origin.kept() == all);
    }
}

#[test]
fn scores_under_a_mask_are_a_softmax_over_what_is_kept() {
    let (_, config) = configs().swap_remove(0);
    let mut exact = model(Oracle, &config);
    let mut fast = model(Cpu::new(2).expect("threads"), &config);
    let kept = kept(&config, 6);
    let inputs = inputs(40);
    exact.forward(&inputs).expect("a pass");
    let whole = exact.routing(0).expect("routing").expect("a layer");
    exact.set_experts(Some(&kept)).expect("some");
    exact.forward(&inputs).expect("a pass");
    fast.set_experts(Some(&kept)).expect("some");
    fast.forward(&inputs).expect("a pass");
    let (masked, ours) = (exact.routing(0).unwrap().unwrap(), fast.routing(0).unwrap().unwrap());
    for token in 0..40 {
        // The router's input of the first layer does not depend on any expert.
        let z = &whole.logits[token * 37..][..36];
        let sum: f64 = kept[0].iter().map(|&expert| z[expert as usize].exp()).sum();
        for expert in 0..36 {
            let expected = if kept[0].contains(&(expert as u32)) { z[expert].exp() / sum } else { 0.0 };
            let (exact, ours) = (masked.scores[token * 36 + expert], ours.scores[token * 36 + expert]);
            assert!((exact - expected).abs() < 1e-12, "{exact} for {expected}");
            assert!((ours - expected).abs() < 1e-5, "{ours} for {expected}");
        }
        let slots = &masked.indices[token * 5..][..5];
        assert!(slots[..4].iter().all(|slot| kept[0].contains(slot)) && slots[4] == 36, "{slots:?}");
    }
    assert_eq!((masked.top_k(), masked.indices), (5, ours.indices));
}

#[test]
fn what_is_not_kept_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, config) = configs().swap_remove(0);
    let kept = kept(&config, 5);
    let mut whole = model(Oracle, &config);
    // No expert that is left out has a finite weight.
    let mut part = Vec::new();
    for tensor in hf::tensors(&config, whole.layout(), Family::Emo) {
        let name: Vec<&str> = tensor.name.split('.').collect();
        let Some(at) = name.iter().position(|&part| part == "experts") else { continue };
        let (layer, expert): (usize, u32) = (name[2].parse().unwrap(), name[at + 1].parse().unwrap());
        if expert < 36 && !kept[layer / 2].contains(&expert) {
            part.push(tensor.range);
        }
    }
    assert_eq!(part.len(), 2 * 31 * 3);
    for range in part {
        whole.set_parameters(range.start, &vec![f64::NAN; range.len()]).expect("weights");
    }
    hf::save(&folder.path().join("whole"), &whole).expect("saved");
    let mut model =
        hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(Oracle), CAPACITY).expect("a model");
    assert!(logits(&mut model, &inputs(60)).iter().all(|value| value.is_finite()));
    let parameters = hf::load_kept(&folder.path().join("whole"), &kept, Arc::new(Oracle), CAPACITY).unwrap();
    assert!(parameters.get_parameters(0..parameters.layout().len()).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn rows_of_a_tensor_are_read_alone_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    let planned = [("a", 3), ("b", 5)].map(|(name, rows)| Planned::f32(name.into(), vec![rows, 2]));
    let values = |index: usize| (0..2 * [3, 5][index]).map(|i| (10 * index + i) as f64).collect::<Vec<_>>();
    safetensors::write(&path, &planned, |index| Ok(values(index))).expect("a file");
    let mut file = Reader::open(&path).expect("the file");
    let mut rows = |rows: &[u32]| file.floats_of("b", &[5, 2], Some(rows));
    assert_eq!(rows(&[0, 1, 3]).unwrap(), [10.0, 11.0, 12.0, 13.0, 16.0, 17.0]);
    assert_eq!(rows(&[4]).unwrap(), [18.0, 19.0]);
    assert!(rows(&[]).unwrap().is_empty());
    for bad in [&[5][..], &[1, 1], &[2, 0]] {
        assert!(rows(bad).is_err(), "{bad:?}");
    }
    assert!(file.rows("c", &[0]).is_err() && file.floats_of("b", &[4, 2], Some(&[0])).is_err());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let (_, config) = configs().swap_remove(4);
    let mut model = model(Oracle, &config);
    let good = kept(&config, 4);
    model.set_experts(Some(&good)).expect("experts");
    for (layer, bad) in [
        (0, vec![]),
        (0, vec![2, 2, 9]),
        (0, vec![9, 2]),
        (0, vec![2, 9, 21]),
        // Expert 9 is used by every token.
        (0, vec![2, 3]),
        (1, vec![18]),
    ] {
        let mut kept = good.clone();
        kept[layer] = bad;
        assert!(model.set_experts(Some(&kept)).is_err(), "{kept:?}");
        assert!(config.keep(&kept).is_err());
    }
    assert!(model.set_experts(Some(&good[..1])).is_err());
    let refused = model.loss_and_backward(&inputs(20), &Objective::default());
    assert!(refused.unwrap_err().to_string().contains("subset"));
}
