//! Which experts a domain's tokens were routed to.

use serde::{Deserialize, Serialize};

/// Routed slots by domain, layer and expert: the content of `routing.json`. Shared experts take every token and are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RoutingCounts {
    /// Names of the domains.
    pub domains: Vec<String>,
    /// One entry for each MoE layer.
    pub layers: Vec<LayerRouting>,
}

/// One MoE layer's part of [`RoutingCounts`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LayerRouting {
    /// Index of the layer in the model.
    pub layer: usize,
    /// `counts[domain][expert]`: (token, slot) pairs.
    pub counts: Vec<Vec<u64>>,
}

impl RoutingCounts {
    /// Says what is wrong with the shape, if anything is.
    ///
    /// # Errors
    /// A sentence that names the layer.
    pub fn check(&self) -> Result<(), String> {
        for layer in &self.layers {
            let name = layer.layer;
            if layer.counts.len() != self.domains.len() {
                return Err(format!(
                    "layer {name} has counts of {} domains, {} are named",
                    layer.counts.len(),
                    self.domains.len()
                ));
            }
            if layer.counts.iter().any(|counts| counts.len() != layer.experts()) {
                return Err(format!(
                    "layer {name} has another number of experts in one domain than in the next"
                ));
            }
            let mut counts = layer.counts.iter().flatten();
            if counts.try_fold(0u64, |sum, &count| sum.checked_add(count)).is_none() {
                return Err(format!("layer {name} has counts that add up to more than 2^64"));
            }
        }
        Ok(())
    }
}

impl LayerRouting {
    /// Routed experts.
    #[must_use]
    pub fn experts(&self) -> usize {
        self.counts.first().map_or(0, Vec::len)
    }

    /// Slots that `expert` took of `domain`; 0 where there is no such domain or expert.
    #[must_use]
    pub fn count(&self, domain: usize, expert: usize) -> u64 {
        self.counts.get(domain).and_then(|counts| counts.get(expert)).copied().unwrap_or(0)
    }

    /// Slots of `domain` over all experts.
    #[must_use]
    pub fn domain_total(&self, domain: usize) -> u64 {
        self.counts.get(domain).map_or(0, |counts| counts.iter().sum())
    }

    /// Share of `domain`'s routed slots that `expert` took, 0 for a domain without any.
    #[must_use]
    pub fn share(&self, domain: usize, expert: usize) -> f64 {
        match self.domain_total(domain) {
            0 => 0.0,
            total => self.count(domain, expert) as f64 / total as f64,
        }
    }

    /// [`LayerRouting::share`] over the share of perfectly even routing: 1 is even, 2 is twice as much.
    #[must_use]
    pub fn ratio(&self, domain: usize, expert: usize) -> f64 {
        self.share(domain, expert) * self.experts() as f64
    }

    /// Slots of every expert over all domains.
    #[must_use]
    pub fn load(&self) -> Vec<u64> {
        (0..self.experts())
            .map(|expert| (0..self.counts.len()).map(|domain| self.count(domain, expert)).sum())
            .collect()
    }

    /// The experts in the order a reader sees most in: side by side those that the same domain uses most, in each such group
    /// by falling share. A domain's specialists stand as a block.
    #[must_use]
    pub fn reading_order(&self) -> Vec<usize> {
        let favourite = |expert: usize| {
            let mut best = 0;
            for domain in 1..self.counts.len() {
                if self.share(domain, expert) > self.share(best, expert) {
                    best = domain;
                }
            }
            best
        };
        let mut order: Vec<(usize, usize)> =
            (0..self.experts()).map(|expert| (favourite(expert), expert)).collect();
        order.sort_by(|a, b| {
            a.0.cmp(&b.0).then(self.share(b.0, b.1).total_cmp(&self.share(a.0, a.1))).then(a.1.cmp(&b.1))
        });
        order.into_iter().map(|(_, expert)| expert).collect()
    }
}
