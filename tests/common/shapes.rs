//! The shapes that every routing and document op must get right.

use super::agree::values;

/// Documents of a packed batch, as offsets.
pub fn documents() -> Vec<Vec<u32>> {
    vec![
        vec![0],
        vec![0, 0],
        vec![0, 1],
        vec![0, 1, 2, 3],
        vec![0, 5],
        vec![0, 3, 3, 10, 11, 37],
        vec![0, 64, 65, 193],
        vec![0, 200],
    ]
}

/// A router's inputs.
pub struct Routing {
    pub name: &'static str,
    pub offsets: Vec<u32>,
    pub experts: usize,
    pub top_k: usize,
    pub shared: usize,
    pub logits: Vec<f64>,
    /// `[tokens, experts - shared]`, false = forbidden.
    pub keep: Option<Vec<bool>>,
}

impl Routing {
    fn new(name: &'static str, offsets: &[u32], (experts, top_k, shared): (usize, usize, usize)) -> Self {
        let tokens = offsets[offsets.len() - 1] as usize;
        let logits = values(tokens * experts, 77).into_iter().map(|z| 4.0 * z).collect();
        Self { name, offsets: offsets.to_vec(), experts, top_k, shared, logits, keep: None }
    }

    fn logits(mut self, f: impl Fn(usize, usize, f64) -> f64) -> Self {
        let experts = self.experts;
        self.logits.iter_mut().enumerate().for_each(|(i, z)| *z = f(i / experts, i % experts, *z));
        self
    }

    fn keep(mut self, f: impl Fn(usize, usize) -> bool) -> Self {
        let routed = self.experts - self.shared;
        self.keep = Some((0..self.tokens() * routed).map(|i| f(i / routed, i % routed)).collect());
        self
    }

    pub fn tokens(&self) -> usize {
        self.offsets[self.offsets.len() - 1] as usize
    }

    pub fn routed(&self) -> usize {
        self.experts - self.shared
    }
}

/// The table.
pub fn routings() -> Vec<Routing> {
    const FORBIDDEN: f64 = f64::NEG_INFINITY;
    let large = |i: usize| if i.is_multiple_of(3) { 1e4 } else { -1e4 };
    vec![
        Routing::new("no tokens", &[0], (4, 2, 0)),
        Routing::new("one token", &[0, 1], (5, 3, 1)),
        Routing::new("one expert", &[0, 4], (1, 1, 0)),
        Routing::new("k = E", &[0, 3, 9], (7, 7, 0)),
        Routing::new("k = E, shared", &[0, 9], (7, 7, 3)),
        Routing::new("documents of one token", &[0, 1, 2, 3, 4, 5], (9, 2, 1)),
        Routing::new("odd sizes", &[0, 13, 13, 67], (37, 5, 2)),
        Routing::new("typical", &[0, 100, 130], (128, 8, 1)),
        Routing::new("many experts", &[0, 3], (1030, 11, 0)),
        Routing::new("everything on one expert", &[0, 40], (6, 1, 0))
            .logits(|_, e, _| if e == 4 { 9.0 } else { 0.0 }),
        Routing::new("empty experts", &[0, 40], (6, 2, 0)).logits(|_, e, z| if e > 3 { z - 50.0 } else { z }),
        Routing::new("exact ties", &[0, 30], (20, 6, 1)).logits(|_, _, z| z.round()),
        Routing::new("all equal", &[0, 3], (20, 6, 1)).logits(|_, _, _| 0.5),
        Routing::new("large logits", &[0, 30], (20, 4, 0)).logits(|t, e, _| large(t + 5 * e)),
        Routing::new("large offset", &[0, 30], (20, 4, 0)).logits(|_, _, z| 1e4 + (z * 64.0).round() / 64.0),
        Routing::new("infinite logits", &[0, 30], (20, 4, 1))
            .logits(|t, e, z| if (t + e) % 4 != 0 { FORBIDDEN } else { z }),
        Routing::new("masked", &[0, 11, 30], (20, 4, 1)).keep(|t, e| (t * 7 + e * 3) % 5 < 2),
        Routing::new("fewer than k allowed", &[0, 30], (20, 6, 1)).keep(|t, e| e == t % 19),
        Routing::new("all masked", &[0, 2, 5], (9, 4, 1)).keep(|t, _| t % 2 == 0),
    ]
}
