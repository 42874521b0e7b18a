//! Principal components by the eigenvectors of the covariance.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::vector::dot;

/// The directions in which rows vary most, as many as carry a given share of the variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Mean of the rows.
    pub mean: Vec<f64>,
    /// Unit directions `[kept, width]`, the most variance first; the largest component of each is positive.
    pub components: Vec<f64>,
    /// Variance along each direction (divisor `n - 1`).
    pub variance: Vec<f64>,
    /// Variance of the rows in all directions.
    pub total: f64,
}

/// Rows of a covariance's sum that are multiplied at once: bounds the memory beside the rows.
const BLOCK: usize = 4096;

impl Pca {
    /// Of `rows` `[n, width]`: the fewest leading directions that carry at least `share` of the variance.
    #[must_use]
    pub fn of_rows(rows: &[f32], width: usize, share: f64) -> Self {
        let n = rows.len().checked_div(width).unwrap_or(0);
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width.max(1)) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        mean.iter_mut().for_each(|sum| *sum /= n.max(1) as f64);
        let mut covariance = DMatrix::<f64>::zeros(width, width);
        for block in rows.chunks(BLOCK * width.max(1)) {
            // One column a row: the matrix is stored by columns.
            let centred: Vec<f64> =
                block.iter().enumerate().map(|(at, &x)| f64::from(x) - mean[at % width]).collect();
            let columns = DMatrixView::from_slice(&centred, width, block.len() / width);
            covariance.gemm(1.0, &columns, &columns.transpose(), 1.0);
        }
        covariance /= n.saturating_sub(1).max(1) as f64;
        let total = covariance.trace();
        let eigen = covariance.symmetric_eigen();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
        let (mut components, mut variance, mut carried) = (Vec::new(), Vec::new(), 0.0);
        for direction in order {
            if carried >= share * total || eigen.eigenvalues[direction] <= 0.0 {
                break;
            }
            let vector = eigen.eigenvectors.column(direction);
            let largest = vector[vector.iamax()];
            components.extend(vector.iter().map(|x| x * largest.signum()));
            variance.push(eigen.eigenvalues[direction]);
            carried += eigen.eigenvalues[direction];
        }
        Self { mean, components, variance, total }
    }

    /// How many directions are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.variance.len()
    }

    /// `rows` `[n, width]` in the kept directions, `[n, kept]`.
    #[must_use]
    pub fn project(&self, rows: &[f32]) -> Vec<f64> {
        let width = self.mean.len().max(1);
        rows.par_chunks_exact(width)
            .flat_map_iter(|row| {
                let centred: Vec<f64> =
                    row.iter().zip(&self.mean).map(|(&x, mean)| f64::from(x) - mean).collect();
                self.components
                    .chunks_exact(width)
                    .map(move |direction| dot(direction, &centred))
                    .collect::<Vec<f64>>()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_have_one_direction() {
        // Multiples of (3, 4) about (10, -2): variance 25 * var(-2..2) with var = 10 / 4.
        let rows: Vec<f32> = (-2..=2).flat_map(|t| [10.0 + 3.0 * t as f32, -2.0 + 4.0 * t as f32]).collect();
        let pca = Pca::of_rows(&rows, 2, 0.95);
        assert_eq!((pca.kept(), &pca.mean[..]), (1, &[10.0, -2.0][..]));
        assert!((pca.variance[0] - 62.5).abs() < 1e-9 && (pca.total - 62.5).abs() < 1e-9);
        assert!((pca.components[0] - 0.6).abs() < 1e-12 && (pca.components[1] - 0.8).abs() < 1e-12);
        let places = pca.project(&rows);
        for (place, t) in places.iter().zip(-2..=2) {
            assert!((place - 5.0 * f64::from(t)).abs() < 1e-5, "{places:?}");
        }
    }

    #[test]
    fn as_many_directions_as_the_share_asks_for() {
        // Independent axes with variances 4, 1 and 0.25 (over a full factorial design), in an order that must be found.
        let mut rows = Vec::new();
        for corner in 0..8 {
            let sign = |bit: usize| if corner >> bit & 1 == 0 { -1.0f32 } else { 1.0 };
            rows.extend([sign(0), 0.5 * sign(1), 2.0 * sign(2)]);
        }
        let kept = |share: f64| Pca::of_rows(&rows, 3, share).kept();
        assert_eq!((kept(0.7), kept(0.94), kept(0.96), kept(1.0)), (1, 2, 3, 3));
        let pca = Pca::of_rows(&rows, 3, 1.0);
        for (found, expected) in pca.variance.iter().zip([4.0, 1.0, 0.25]) {
            assert!((found - expected * 8.0 / 7.0).abs() < 1e-12);
        }
        assert!((pca.components[2] - 1.0).abs() < 1e-12, "the third axis varies most: {:?}", pca.components);
    }

    #[test]
    fn more_rows_than_a_block_give_the_same_as_one_sum() {
        let rows: Vec<f32> = (0..2 * (BLOCK + 77)).map(|i| ((i * 7919) % 1013) as f32 / 1013.0).collect();
        let pca = Pca::of_rows(&rows, 2, 1.0);
        let n = rows.len() / 2;
        let var = |axis: usize| {
            let values = || rows.iter().skip(axis).step_by(2).map(|&x| f64::from(x));
            let mean = values().sum::<f64>() / n as f64;
            values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1) as f64
        };
        assert!((pca.total - var(0) - var(1)).abs() < 1e-9);
        assert!((pca.variance.iter().sum::<f64>() - pca.total).abs() < 1e-9);
    }

    #[test]
    fn constant_rows_have_no_direction() {
        assert_eq!(Pca::of_rows(&[1.0, 2.0, 1.0, 2.0], 2, 0.95).kept(), 0);
        assert_eq!(Pca::of_rows(&[], 3, 0.95).kept(), 0);
    }
}
