//! How alike two domains use the experts of a layer.

use serde::{Deserialize, Serialize};

/// Every pair of rows, compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Similarity {
    /// `a . b / (|a| |b|)`: 1 for the same direction, 0 for nothing in common; 0 with a row of zeros.
    pub cosine: Vec<Vec<f64>>,
    /// `|a - b|`.
    pub l2: Vec<Vec<f64>>,
}

impl Similarity {
    /// Of the rows of a matrix, for example the selection frequencies of each domain.
    #[must_use]
    pub fn of_rows(rows: &[Vec<f64>]) -> Self {
        let each = |pair: &dyn Fn(&[f64], &[f64]) -> f64| {
            rows.iter().map(|a| rows.iter().map(|b| pair(a, b)).collect()).collect()
        };
        Self { cosine: each(&cosine), l2: each(&distance) }
    }

    /// Mean cosine of different rows; none for fewer than two.
    #[must_use]
    pub fn mean_cosine(&self) -> Option<f64> {
        mean_above_diagonal(&self.cosine)
    }
}

/// `a . b / (|a| |b|)`, 0 where either is zero.
#[must_use]
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { (dot(a, b) / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Mean of a square matrix above its diagonal; none where nothing is there.
#[must_use]
pub fn mean_above_diagonal(matrix: &[Vec<f64>]) -> Option<f64> {
    let above = || matrix.iter().enumerate().flat_map(|(row, values)| values.iter().skip(row + 1));
    match above().count() {
        0 => None,
        count => Some(above().sum::<f64>() / count as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarity_by_hand() {
        let found = Similarity::of_rows(&[vec![1.0, 0.0], vec![0.0, 2.0], vec![3.0, 3.0], vec![0.0, 0.0]]);
        assert_eq!((found.cosine[0][0], found.cosine[0][1], found.cosine[0][3]), (1.0, 0.0, 0.0));
        assert!((found.cosine[0][2] - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(found.cosine[1][2], found.cosine[2][1]);
        assert_eq!((found.l2[0][1], found.l2[0][3]), (5.0f64.sqrt(), 1.0));
        let two = Similarity::of_rows(&[vec![1.0, 0.0], vec![1.0, 1.0]]);
        assert!((two.mean_cosine().unwrap() - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(Similarity::of_rows(&[vec![1.0]]).mean_cosine(), None);
    }
}
