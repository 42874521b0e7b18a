//! How many experts each document may use, step by step.

use emo::ops::pool::draw_size;

use crate::config::{Config, Pool, PoolDraw};

/// The word that takes the layer's place in the draw of whether a document has a pool at all.
const WHETHER: u32 = u32::MAX;
/// The same for a size that all layers share.
const ALL_LAYERS: u32 = u32::MAX - 1;
/// Shares are compared in parts of this.
const PARTS: u32 = 1 << 20;

/// Pool sizes as the configuration says; each depends on nothing but seed, step, layer and document.
#[derive(Debug, Clone)]
pub struct Pools {
    kind: Pool,
    draw: PoolDraw,
    bounds: (u32, u32),
    routed: u32,
    seed: u64,
    /// Mixture layers, by their place among all layers.
    layers: Vec<u32>,
    ramp: u64,
    last_step: u64,
    unpooled: u32,
    first_layer: u32,
}

impl Pools {
    /// As the configuration says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let router = &config.router;
        Self {
            kind: router.pool,
            draw: router.pool_draw,
            bounds: match router.pool {
                Pool::Uniform | Pool::LogUniform => (router.pool_min as u32, router.pool_max as u32),
                Pool::None | Pool::Fixed => (router.pool_max as u32, router.pool_max as u32),
            },
            routed: router.experts.saturating_sub(router.shared) as u32,
            seed: config.run.seed,
            layers: config.mixture_layers().map(|layer| layer as u32).collect(),
            ramp: router.pool_ramp,
            last_step: (config.train.steps as f64 * router.pool_until).ceil() as u64,
            unpooled: (f64::from(PARTS) * router.pool_unpooled) as u32,
            first_layer: router.pool_first_layer as u32,
        }
    }

    /// Sizes of `step` (from 1) for these documents, for each mixture layer; none where every expert may be used.
    #[must_use]
    pub fn sizes(&self, step: u64, documents: &[u64]) -> Option<Vec<Vec<u32>>> {
        if self.kind == Pool::None || step > self.last_step {
            return None;
        }
        let bounds = (self.ramped(self.bounds.0, step), self.ramped(self.bounds.1, step));
        let size = |layer: u32, document: u64| {
            let free = || draw_size(self.seed, step, WHETHER, document, 0, PARTS - 1) < self.unpooled;
            if layer < self.first_layer || (self.unpooled > 0 && free()) {
                self.routed
            } else {
                let word = if self.draw == PoolDraw::Layer { layer } else { ALL_LAYERS };
                self.draw(step, word, document, bounds)
            }
        };
        let layer = |&layer: &u32| documents.iter().map(|&document| size(layer, document)).collect();
        Some(self.layers.iter().map(layer).collect())
    }

    /// One size within the bounds.
    fn draw(&self, step: u64, word: u32, document: u64, (least, most): (u32, u32)) -> u32 {
        if self.kind != Pool::LogUniform {
            return draw_size(self.seed, step, word, document, least, most);
        }
        let share = f64::from(draw_size(self.seed, step, word, document, 0, PARTS - 1)) / f64::from(PARTS);
        // The power of two from the crate `libm`: the same bits on every machine.
        let from = f64::from(least.max(1));
        let size = from * libm::exp2(share * libm::log2(f64::from(most + 1) / from));
        (size as u32).clamp(least, most)
    }

    /// A bound that falls in a straight line from all routed experts to its value over the first `ramp` steps.
    fn ramped(&self, bound: u32, step: u64) -> u32 {
        if step >= self.ramp || bound >= self.routed {
            return bound;
        }
        let left = 1.0 - step as f64 / self.ramp as f64;
        bound + (f64::from(self.routed - bound) * left).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(set: &[&str]) -> Pools {
        let set: Vec<String> = set.iter().map(|&text| text.to_owned()).collect();
        Pools::new(&Config::load("quickstart", &set).unwrap())
    }

    #[test]
    fn the_plain_recipe_is_the_draw_itself() {
        let sizes = pools(&[]).sizes(7, &[3, 4]).unwrap();
        assert_eq!(sizes.len(), 4);
        assert_eq!(sizes[2], [draw_size(0, 7, 2, 3, 4, 32), draw_size(0, 7, 2, 4, 4, 32)]);
    }

    #[test]
    fn a_ramp_starts_with_every_expert_and_ends_at_the_bounds() {
        let pools = pools(&["router.pool_ramp=100", "router.pool_max=8", "router.pool_min=8"]);
        let at = |step| pools.sizes(step, &[1]).unwrap()[0][0];
        assert_eq!((at(1), at(50), at(100), at(2000)), (31, 20, 8, 8));
    }

    #[test]
    fn half_of_log_uniform_sizes_are_below_the_geometric_mean_and_none_out_of_bounds() {
        let pools = pools(&["router.pool=log_uniform", "router.pool_min=4", "router.pool_max=24"]);
        let documents: Vec<u64> = (0..4000).collect();
        let sizes = &pools.sizes(3, &documents).unwrap()[1];
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&4), Some(&24)));
        // The bounds 4 and 25 have the geometric mean 10.
        let below = sizes.iter().filter(|&&size| size < 10).count() as f64 / 4000.0;
        assert!((below - 0.5).abs() < 0.03, "{below}");
    }

    #[test]
    fn layers_share_a_documents_size_where_documents_draw() {
        let sizes = pools(&["router.pool_draw=document"]).sizes(2, &[1, 2, 3, 4]).unwrap();
        assert!(sizes.iter().all(|layer| *layer == sizes[0]));
        assert!(sizes[0].iter().any(|&size| size != sizes[0][0]), "{sizes:?}");
    }

    #[test]
    fn pools_end_where_the_run_says() {
        let pools = pools(&["router.pool_until=0.5", "train.steps=10"]);
        assert!(pools.sizes(5, &[1]).is_some());
        assert!(pools.sizes(6, &[1]).is_none());
    }

    #[test]
    fn unpooled_documents_are_unpooled_in_every_layer_and_as_many_as_asked() {
        let pools = pools(&["router.pool_unpooled=0.25", "router.pool_max=8"]);
        let documents: Vec<u64> = (0..4000).collect();
        let sizes = pools.sizes(1, &documents).unwrap();
        let free: Vec<bool> = sizes[0].iter().map(|&size| size == 31).collect();
        for layer in &sizes {
            assert!(layer.iter().zip(&free).all(|(&size, &free)| (size == 31) == free));
        }
        let share = free.iter().filter(|&&free| free).count() as f64 / 4000.0;
        assert!((share - 0.25).abs() < 0.03, "{share}");
    }

    #[test]
    fn layers_below_the_first_pooled_one_use_every_expert() {
        let sizes = pools(&["router.pool_first_layer=2", "router.pool_max=8"]).sizes(1, &[5]).unwrap();
        assert_eq!((sizes[0][0], sizes[1][0]), (31, 31));
        assert!(sizes[2][0] <= 8 && sizes[3][0] <= 8);
    }
}
