//! Initial weights. Each tensor has a random stream of its own, keyed by its name, so that adding a tensor or changing
//! the order of the arena changes no other tensor.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::layout::{Init, Tensor};

/// Fills `values` with the start values of `tensor`.
pub fn fill(tensor: &Tensor, seed: u64, std: f64, values: &mut [f64]) {
    match tensor.init {
        Init::Constant(value) => values.fill(value),
        Init::Normal => {
            let mut normal = Normal { generator: generator(seed, &tensor.name), spare: None };
            values.fill_with(|| std * normal.truncated());
        }
    }
}

fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    // FNV-1a: only has to tell names apart, the cipher does the mixing.
    let key = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&key.to_le_bytes());
    ChaCha8Rng::from_seed(bytes)
}

struct Normal {
    generator: ChaCha8Rng,
    spare: Option<f64>,
}

impl Normal {
    /// A standard normal conditioned on `|z| <= 3`.
    fn truncated(&mut self) -> f64 {
        loop {
            let z = self.sample();
            if z.abs() <= 3.0 {
                return z;
            }
        }
    }

    /// Box & Muller 1958: two normals from two uniforms.
    fn sample(&mut self) -> f64 {
        if let Some(z) = self.spare.take() {
            return z;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Uniform on `[0, 1)`, 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_are_cut_at_three_deviations_and_keyed_by_name() {
        let tensor = |name: &str| Tensor {
            name: name.into(),
            shape: vec![40_000],
            range: 0..40_000,
            decay: true,
            init: Init::Normal,
        };
        let draw = |name: &str, seed| {
            let mut values = vec![0.0; 40_000];
            fill(&tensor(name), seed, 0.02, &mut values);
            values
        };
        let values = draw("a", 1);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        // Cutting at 3 leaves 0.9866 of the deviation.
        assert!(mean.abs() < 5e-4 && (deviation - 0.02 * 0.9866).abs() < 3e-4, "{mean} {deviation}");
        assert!(values.iter().all(|v| v.abs() <= 0.06));
        assert_eq!(values, draw("a", 1));
        assert_ne!(values, draw("b", 1));
        assert_ne!(values, draw("a", 2));
    }
}
