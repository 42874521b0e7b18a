//! Linear centred kernel alignment: do two experts compute the same thing, up to a rotation and a scale?

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::similarity::mean_above_diagonal;
use super::vector::{dot, rounded};

/// Every pair of experts of a layer, compared on the same tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Redundancy {
    /// Tokens that every expert was shown.
    pub tokens: usize,
    /// Linear CKA of each pair of routed experts, rounded to four decimals.
    pub cka: Vec<Vec<f64>>,
    /// Mean of `cka` over different experts. Grows towards 1 as the tokens become few against the model's width.
    pub mean: f64,
    /// The same mean with the estimator that has no such bias.
    pub mean_unbiased: f64,
}

/// The products of all pairs of rows, centred: `H X X^T H` with `H = I - 1 1^T / n`.
struct Kernel {
    /// `[n, n]`; every row adds up to zero.
    products: Vec<f64>,
    diagonal: Vec<f64>,
}

impl Kernel {
    /// Of `rows` `[n, width]`.
    fn new(rows: &[f64], width: usize) -> Self {
        let n = rows.len().checked_div(width).unwrap_or(0);
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width.max(1)) {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= n.max(1) as f64);
        // Products of rows about their mean are the centred kernel.
        let about: Vec<f64> = rows.iter().enumerate().map(|(at, x)| x - mean[at % width.max(1)]).collect();
        let row = |at: usize| &about[at * width..(at + 1) * width];
        let products: Vec<f64> = (0..n * n).into_par_iter().map(|at| dot(row(at / n), row(at % n))).collect();
        let diagonal = (0..n).map(|at| products[at * n + at]).collect();
        Self { products, diagonal }
    }

    fn product(&self, other: &Self) -> f64 {
        dot(&self.products, &other.products)
    }

    /// Unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al. 2012, eq. 5), from four rows on:
    /// `(tr(K L) + sum(K) sum(L) / ((n - 1)(n - 2)) - 2 / (n - 2) 1^T K L 1) / (n (n - 3))` with kernels whose diagonals are
    /// zero. A row of a centred kernel adds up to zero, and to minus its diagonal without it.
    fn independence(&self, other: &Self) -> f64 {
        let n = self.diagonal.len() as f64;
        let diagonals = dot(&self.diagonal, &other.diagonal);
        let sums = self.diagonal.iter().sum::<f64>() * other.diagonal.iter().sum::<f64>();
        (self.product(other) - diagonals + sums / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * diagonals)
            / (n * (n - 3.0))
    }
}

/// `cross / sqrt(a b)`; 0 where either side is constant.
fn ratio(cross: f64, a: f64, b: f64) -> f64 {
    if a > 0.0 && b > 0.0 { cross / (a * b).sqrt() } else { 0.0 }
}

/// Linear CKA of two sets of features of the same `n` tokens (Kornblith et al. 2019, arXiv 1905.00414):
/// `|Yc^T Xc|_F^2 / (|Xc^T Xc|_F |Yc^T Yc|_F)` with centred columns. 1 for features that are rotations and scalings of each
/// other, 0 where either is constant.
#[must_use]
pub fn linear_cka(x: &[f64], x_width: usize, y: &[f64], y_width: usize) -> f64 {
    let (x, y) = (Kernel::new(x, x_width), Kernel::new(y, y_width));
    ratio(x.product(&y), x.product(&x), y.product(&y))
}

/// [`linear_cka`] with unbiased estimates of its three terms: near 0 for unrelated features however few the tokens (it can
/// fall slightly below). `None` for fewer than four tokens.
#[must_use]
pub fn unbiased_cka(x: &[f64], x_width: usize, y: &[f64], y_width: usize) -> Option<f64> {
    let (x, y) = (Kernel::new(x, x_width), Kernel::new(y, y_width));
    (x.diagonal.len() >= 4).then(|| ratio(x.independence(&y), x.independence(&x), y.independence(&y)))
}

impl Redundancy {
    /// Of `experts` whose outputs `[tokens, width]` for the same tokens `output` gives.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn of_experts<E>(
        experts: usize,
        width: usize,
        mut output: impl FnMut(usize) -> Result<Vec<f64>, E>,
    ) -> Result<Self, E> {
        let mut kernels = Vec::with_capacity(experts);
        for expert in 0..experts {
            kernels.push(Kernel::new(&output(expert)?, width));
        }
        let tokens = kernels.first().map_or(0, |kernel| kernel.diagonal.len());
        let cka = alignments(&kernels, Kernel::product);
        let unbiased = (tokens >= 4).then(|| alignments(&kernels, Kernel::independence));
        let mean = |matrix: &[Vec<f64>]| mean_above_diagonal(matrix).unwrap_or(0.0);
        Ok(Self {
            tokens,
            mean: mean(&cka),
            mean_unbiased: unbiased.as_deref().map_or(0.0, mean),
            cka: cka.iter().map(|row| row.iter().map(|&value| rounded(value)).collect()).collect(),
        })
    }
}

/// `pair(a, b) / sqrt(pair(a, a) pair(b, b))` of all pairs.
fn alignments(kernels: &[Kernel], pair: impl Fn(&Kernel, &Kernel) -> f64 + Sync) -> Vec<Vec<f64>> {
    let half: Vec<Vec<f64>> = (0..kernels.len())
        .into_par_iter()
        .map(|row| kernels[..=row].iter().map(|other| pair(&kernels[row], other)).collect())
        .collect();
    let cell = |row: usize, column: usize| {
        ratio(half[row.max(column)][row.min(column)], half[row][row], half[column][column])
    };
    (0..half.len()).map(|row| (0..half.len()).map(|column| cell(row, column)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::unit;
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn noise(seed: u64, len: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| unit(&mut random) - 0.5).collect()
    }

    #[test]
    fn identical_rotated_scaled_and_shifted_features_align_wholly() {
        let x = noise(1, 40 * 2);
        let (sin, cos) = 0.7f64.sin_cos();
        let rotated: Vec<f64> = x
            .chunks_exact(2)
            .flat_map(|v| [3.0 * (cos * v[0] - sin * v[1]) + 5.0, 3.0 * (sin * v[0] + cos * v[1]) - 2.0])
            .collect();
        for y in [&x, &rotated] {
            assert!((linear_cka(&x, 2, y, 2) - 1.0).abs() < 1e-12);
            assert!((unbiased_cka(&x, 2, y, 2).unwrap() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn two_tokens_on_opposite_axes_by_hand() {
        // One feature each; centred x = (-1, 0, 1), y = (1, -2, 1): orthogonal, so CKA = (x.y)^2 / (|x|^2 |y|^2) = 0.
        assert!(linear_cka(&[0.0, 1.0, 2.0], 1, &[1.0, -2.0, 1.0], 1).abs() < 1e-15);
        // x against z = (-1, 0, 2) about its mean (-4/3, -1/3, 5/3): (x.z)^2 / (|x|^2 |z|^2) = 9 / (2 * 42/9).
        let found = linear_cka(&[0.0, 1.0, 2.0], 1, &[-1.0, 0.0, 2.0], 1);
        assert!((found - 9.0 / (2.0 * 42.0 / 9.0)).abs() < 1e-12, "{found}");
        assert_eq!(linear_cka(&[1.0, 1.0, 1.0], 1, &[0.0, 1.0, 2.0], 1), 0.0);
        assert_eq!(unbiased_cka(&[0.0, 1.0, 2.0], 1, &[0.0, 1.0, 2.0], 1), None);
    }

    #[test]
    fn unrelated_features_look_alike_when_tokens_are_few_but_not_to_the_unbiased_estimate() {
        let mean = |of: &dyn Fn(u64) -> f64| (0..40).map(of).sum::<f64>() / 40.0;
        let (n, width) = (24, 16);
        let pair = |seed: u64| (noise(2 * seed, n * width), noise(2 * seed + 1, n * width));
        let plain = mean(&|seed| {
            let (x, y) = pair(seed);
            linear_cka(&x, width, &y, width)
        });
        let unbiased = mean(&|seed| {
            let (x, y) = pair(seed);
            unbiased_cka(&x, width, &y, width).unwrap()
        });
        assert!(plain > 0.3, "{plain}");
        assert!(unbiased.abs() < 0.03, "{unbiased}");
    }

    #[test]
    fn a_layer_of_experts_is_compared_in_pairs() {
        let (n, width) = (12, 3);
        let (a, b) = (noise(1, n * width), noise(2, n * width));
        let outputs = [a.clone(), b.clone(), a.iter().map(|x| -2.0 * x).collect()].concat();
        let output = |expert: usize| Ok::<_, ()>(outputs[expert * n * width..][..n * width].to_vec());
        let found = Redundancy::of_experts(3, width, output).unwrap();
        assert_eq!(found.tokens, n);
        assert_eq!((found.cka[0][2], found.cka[1][1]), (1.0, 1.0));
        let cross = linear_cka(&a, width, &b, width);
        assert!((found.cka[1][0] - cross).abs() < 1e-4 && found.cka[0][1] == found.cka[1][0]);
        assert!((found.mean - (1.0 + 2.0 * cross) / 3.0).abs() < 1e-12);
    }
}
