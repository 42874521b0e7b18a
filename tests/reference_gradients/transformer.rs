//! RoPE, attention, cross-entropy, AdamW and the global norm.

use crate::{check, dot, noise};
use emo::reference::attention::{self, Shape};
use emo::reference::{adamw, cross_entropy, global_norm, rope};

#[test]
fn ropes() {
    let (heads, head_dim, width) = (2, 6, 20);
    let (cos, sin) = emo::ops::rope::table(18, head_dim, 500_000.0);
    let tables = rope::Tables { cos: &cos, sin: &sin, head_dim };
    let positions = [0, 1, 2, 0, 17];
    let (x, dy) = (noise(5 * width, 1), noise(5 * width, 2));
    let forward = |x: &[f64]| rope::forward(x, &positions, width, heads, tables);
    let dx = rope::backward(&dy, &positions, width, heads, tables);
    check("dx", &x, &dx, |x| dot(&dy, &forward(x)));

    let y = forward(&x);
    assert_eq!(y[..width], x[..width], "position 0 does not rotate");
    assert_eq!(y[2 * width - 8..2 * width], x[2 * width - 8..2 * width], "what follows the heads is copied");
    // The plane (0, 3) of a head turns by the position itself, as inv_freq[0] = 1.
    let (a, b) = (x[width], x[width + 3]);
    assert!((y[width] - (a * 1f64.cos() - b * 1f64.sin())).abs() < 1e-6, "the tables are f32");
    assert!((y[width + 3] - (b * 1f64.cos() + a * 1f64.sin())).abs() < 1e-6);
}

#[test]
fn attentions() {
    let offsets = [0, 1, 5, 5, 8];
    for (heads, kv_heads) in [(1, 1), (4, 2), (3, 1)] {
        let shape = Shape { heads, kv_heads, head_dim: 3, scale: 0.7 };
        let (qkv, d_o) = (noise(8 * shape.row(), 1), noise(8 * heads * 3, 2));
        let dqkv = attention::backward(&shape, &qkv, &offsets, &d_o);
        check(&format!("{shape:?}"), &qkv, &dqkv, |qkv| {
            dot(&d_o, &attention::forward(&shape, qkv, &offsets).0)
        });
    }
}

#[test]
fn attention_is_causal_and_stays_inside_documents() {
    let shape = Shape { heads: 2, kv_heads: 1, head_dim: 2, scale: 1.0 };
    let qkv = noise(6 * shape.row(), 1);
    let (o, lse) = attention::forward(&shape, &qkv, &[0, 2, 6]);
    for t in 0..6 {
        let mut changed = qkv.clone();
        changed[t * shape.row()..(t + 1) * shape.row()].iter_mut().for_each(|v| *v += 1.0);
        let (o2, _) = attention::forward(&shape, &changed, &[0, 2, 6]);
        let end = if t < 2 { 2 } else { 6 };
        for u in 0..6 {
            assert_eq!(
                o[u * 4..][..4] != o2[u * 4..][..4],
                (t..end).contains(&u),
                "token {t} and output {u}"
            );
        }
    }
    // A document's first token sees itself alone.
    let (q, k) = (&qkv[2 * shape.row()..][..2], &qkv[2 * shape.row() + 4..][..2]);
    assert!((lse[4] - dot(q, k)).abs() < 1e-15);
    assert_eq!(o[8..10], qkv[2 * shape.row() + 6..][..2]);
}

#[test]
fn cross_entropies() {
    let (vocabulary, targets) = (5, [3, -100, 0, 4]);
    let logits: Vec<f64> = noise(20, 1).iter().map(|z| 3.0 * z).collect();
    let (z, divisor) = (0.01, 7.0);
    let run = |logits: &[f64]| cross_entropy::forward_backward(logits, &targets, vocabulary, z, divisor);
    let loss = |logits: &[f64]| (run(logits).loss_sum + z * run(logits).z_sum) / divisor;
    check("dlogits", &logits, &run(&logits).dlogits, loss);
    assert!(run(&logits).dlogits[5..10].iter().all(|g| *g == 0.0), "an ignored target");
    assert_eq!(run(&logits).lse[1], 0.0, "an ignored target");
    assert!((run(&logits).lse.iter().map(|lse| lse * lse).sum::<f64>() - run(&logits).z_sum).abs() < 1e-12);
    let even = cross_entropy::forward_backward(&[0.0; 5], &[2], 5, 0.0, 1.0);
    assert!((even.loss_sum - 5f64.ln()).abs() < 1e-15 && (even.z_sum - 5f64.ln().powi(2)).abs() < 1e-14);
}

#[test]
fn adamw_first_steps() {
    let hyper = adamw::Hyper { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.5 };
    let (mut p, mut m, mut v) = (vec![2.0, -1.0, 3.0], vec![0.0; 3], vec![0.0; 3]);
    adamw::step(&hyper, 1, &mut p, &[0.3, -4.0, 0.0], &mut m, &mut v);
    // Bias correction makes the first step lr sign(g), after the decay by 1 - 0.1 * 0.5.
    let expected = [2.0 * 0.95 - 0.1, -0.95 + 0.1, 3.0 * 0.95];
    p.iter().zip(expected).for_each(|(p, e)| assert!((p - e).abs() < 1e-7, "{p} and {e}"));
    // Second step of the first parameter, by hand.
    let before = p[0];
    adamw::step(&hyper, 2, &mut p, &[0.5, 0.0, 0.0], &mut m, &mut v);
    let (m1, v1) = (0.9 * 0.03 + 0.1 * 0.5, 0.95 * 0.05 * 0.09 + 0.05 * 0.25);
    let (mh, vh): (f64, f64) = (m1 / (1.0 - 0.81), v1 / (1.0 - 0.9025));
    assert!((p[0] - (before * 0.95 - 0.1 * mh / (vh.sqrt() + 1e-8))).abs() < 1e-12);
}

#[test]
fn norms_and_clipping() {
    let norm = global_norm::forward(&[&[3.0], &[], &[0.0, 4.0]]);
    assert_eq!(norm, 5.0);
    assert!((global_norm::clip_factor(norm, 1.0) - 0.2).abs() < 1e-6);
    assert_eq!((global_norm::clip_factor(0.5, 1.0), global_norm::clip_factor(0.0, 1.0)), (1.0, 1.0));
}
