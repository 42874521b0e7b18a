//! Which experts are chosen, by a ranking or as a pool.

use emo::cpu::Cpu;
use emo::oracle::Oracle;
use trainer::model::{Inputs, Model, PoolFrom};
use trainer::subset::run::pool_of;
use trainer::subset::select::{Choice, Method, select};

use super::{configs, inputs, logits, model};

/// Documents that differ in which tokens they use.
fn documents() -> Vec<Vec<u32>> {
    (0..5u32).map(|d| (0..20 + d * 7).map(|token| (token * token + d * 13) % 30).collect()).collect()
}

#[test]
fn layerwise_selection_is_the_greedy_one() {
    let (_, config) = configs().swap_remove(0);
    let mut model = model(Oracle, &config);
    let routed = [7, 4];
    let choice = Choice { method: Method::Layerwise, routed: &routed, seed: 0 };
    let subset = select(&mut model, &documents(), choice, |_, _| ()).expect("a subset");
    // The same by hand: each document alone, each layer after the ones below were cut.
    let mut kept: Vec<Vec<u32>> = vec![(0..36).collect(); 2];
    for ordinal in 0..2 {
        model.set_experts(Some(&kept)).expect("experts");
        let mut scores = [0.0; 36];
        for ids in documents() {
            model.forward(&Inputs::rows(ids.clone(), 1, ids.len())).expect("a pass");
            let routing = model.routing(ordinal).unwrap().unwrap();
            for token in routing.scores.chunks_exact(36) {
                scores.iter_mut().zip(token).for_each(|(sum, score)| *sum += score);
            }
        }
        let mut order: Vec<u32> = (0..36).collect();
        order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        order.truncate(routed[ordinal]);
        order.sort_unstable();
        kept[ordinal] = order;
    }
    assert_eq!(subset.kept(), kept);
    // One document's pool of the same size is the same choice, in one pass.
    model.set_experts(None).expect("all");
    let one = documents().split_off(4);
    let choice = Choice { method: Method::Layerwise, routed: &[7, 7], seed: 0 };
    let greedy = select(&mut model, &one, choice, |_, _| ()).expect("a subset");
    assert_eq!(pool_of(&mut model, &one[0], 7).expect("a pool").kept(), greedy.kept());
}

#[test]
fn methods_differ_count_their_passes_and_leave_the_model_whole() {
    let (_, config) = configs().swap_remove(0);
    let mut fast = model(Cpu::new(2).expect("threads"), &config);
    let mut exact = model(Oracle, &config);
    let before = logits(&mut fast, &inputs(30));
    let mut found = Vec::new();
    for (method, passes) in
        [(Method::Layerwise, 2), (Method::Mass, 1), (Method::EasyEp, 2), (Method::Random, 0)]
    {
        let mut of_method = Vec::new();
        for count in [3, 6, 12, 20] {
            let choice = Choice { method, routed: &[count, count], seed: 3 };
            let (mut done, mut of) = (0, 0);
            let subset = select(&mut fast, &documents(), choice, |batches, all| (done, of) = (batches, all));
            let subset = subset.expect("a subset");
            // 170 tokens of documents fit in two batches of 150.
            assert_eq!((done, of), (2 * passes, 2 * passes), "{method:?}");
            let again = select(&mut exact, &documents(), choice, |_, _| ()).expect("a subset");
            assert_eq!(subset, again, "{method:?}");
            of_method.push(subset.kept());
        }
        found.push(of_method);
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), 4, "{found:?}");
    assert!(before == logits(&mut fast, &inputs(30)));
    let other = Choice { method: Method::Random, routed: &[6, 6], seed: 4 };
    assert_ne!(select(&mut fast, &documents(), other, |_, _| ()).expect("a subset").kept(), found[3][1]);
}

#[test]
fn pools_that_look_back_do_not_look_ahead() {
    for (what, config) in configs() {
        let mut model = model(Cpu::new(2).expect("threads"), &config);
        let pooled = |from: PoolFrom, size: u32, changed: bool| {
            let mut inputs = inputs(31);
            inputs.pools = Some(vec![vec![size]; 2]);
            inputs.pool_from = from;
            if changed {
                inputs.ids[24..].iter_mut().for_each(|id| *id = (*id * 3 + 1) % 61);
            }
            inputs
        };
        let plain = logits(&mut model, &inputs(31));
        for from in [PoolFrom::SoFar, PoolFrom::Prefix(10), PoolFrom::Document] {
            let found = logits(&mut model, &pooled(from, 4, false));
            assert!(found != plain, "{what}: {from:?} does nothing");
            let changed = logits(&mut model, &pooled(from, 4, true));
            let same = found[..24 * 61] == changed[..24 * 61];
            // Smoothing is causal in these models, so only pools can look ahead.
            assert_eq!(same, from != PoolFrom::Document, "{what}, {from:?}");
            assert!(logits(&mut model, &pooled(from, 99, false)) == plain, "{what}: {from:?} of all experts");
            if from == PoolFrom::Prefix(10) {
                assert!(
                    found[..10 * 61] == plain[..10 * 61] && found[10 * 61..] != plain[10 * 61..],
                    "{what}"
                );
            }
        }
        // At its last token the document so far is the document.
        let last = |model: &mut Model<Cpu>, from| {
            model.forward_blocks(&pooled(from, 4, false), 1).expect("a pass");
            let routing = model.routing(0).unwrap().unwrap();
            let routed = config.moe_layers().next().unwrap().1.routed();
            let pools = routing.pools.unwrap();
            pools[pools.len() - routed..].to_vec()
        };
        assert_eq!(last(&mut model, PoolFrom::SoFar), last(&mut model, PoolFrom::Document), "{what}");
    }
}
