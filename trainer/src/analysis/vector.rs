//! Products of rows, and numbers as reports show them.

/// Lanes of a sum: apart from each other, so that they can be added at once.
const LANES: usize = 8;

/// `a . b`, summed in a fixed order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

/// `value` to four decimals.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_of_any_length() {
        for n in [0usize, 1, 7, 8, 9, 24, 29] {
            let a: Vec<f64> = (0..n).map(|i| i as f64).collect();
            let expected = (0..n).map(|i| i * i).sum::<usize>() as f64;
            assert_eq!(dot(&a, &a), expected);
        }
        assert_eq!((rounded(0.123_45), rounded(-1.0), rounded(0.999_99)), (0.1235, -1.0, 1.0));
    }
}
