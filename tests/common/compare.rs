//! Comparing what a backend computed with what a case says.

use super::case::{Case, Outcome};

/// How far a backend may be off: `|err| <= relative (1 + m)`, where `m` is `|ref|`, or, with `by_terms` and where a runner
/// knows it, the sum of the absolute values of the terms that were added up (the bound that a sum in f32 obeys).
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub relative: f64,
    pub by_terms: bool,
    /// Two scores this close (relative) may be taken in either order.
    pub tie: f64,
}

impl Case {
    /// Compares `got` with the array `name`.
    pub fn check(&self, tolerance: &Tolerance, name: &str, got: &[f64]) -> Outcome {
        self.check_terms(tolerance, name, got, &[])
    }

    /// Compares one number with the array `name`.
    ///
    /// A mean over no tokens is NaN in PyTorch and 0 here, by definition; that is the one difference allowed.
    pub fn check_scalar(&self, tolerance: &Tolerance, name: &str, got: f64) -> Outcome {
        match self.values(name)? {
            [expected] if expected.is_nan() && got == 0.0 => Ok(()),
            _ => self.check(tolerance, name, &[got]),
        }
    }

    /// Compares `got` with the array `name`, given the sum of absolute terms behind each element (empty: not known).
    pub fn check_terms(&self, tolerance: &Tolerance, name: &str, got: &[f64], terms: &[f64]) -> Outcome {
        let expected = self.values(name)?;
        if got.len() != expected.len() {
            return Err(format!("{name} has {} elements, expected {}", got.len(), expected.len()));
        }
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let known = if tolerance.by_terms { terms.get(i).copied() } else { None };
            let magnitude = known.unwrap_or(0.0).max(expected.abs());
            let bound = tolerance.relative * (1.0 + magnitude);
            // Written so that NaN fails.
            if !((got - expected).abs() <= bound || got == expected) {
                return Err(format!("{name}[{i}] is {got}, expected {expected} (at most {bound:.1e} off)"));
            }
        }
        Ok(())
    }

    /// Compares integers exactly.
    pub fn check_exact<T: Copy + Into<f64>>(&self, name: &str, got: &[T]) -> Outcome {
        let exact = Tolerance { relative: 0.0, by_terms: false, tie: 0.0 };
        self.check(&exact, name, &got.iter().map(|v| (*v).into()).collect::<Vec<f64>>())
    }

    /// Compares counts exactly.
    pub fn check_counts(&self, name: &str, got: &[u64]) -> Outcome {
        self.check_exact(name, &got.iter().map(|v| *v as f64).collect::<Vec<f64>>())
    }

    /// Compares chosen experts `[T, k]`. Returns, for each token, whether its order differs by near ties of
    /// `probs[T, routed]` that the tolerance allows; anything else that differs is an error.
    pub fn check_choice(
        &self,
        tolerance: &Tolerance,
        name: &str,
        got: &[u32],
        probs: &[f64],
        routed: usize,
    ) -> Outcome<Vec<bool>> {
        let expected = self.indices(name)?;
        let [_, k] = self.shape(name)?;
        if got.len() != expected.len() {
            return Err(format!("{name} has {} elements, expected {}", got.len(), expected.len()));
        }
        let near = |t: usize, a: u32, b: u32| {
            let score =
                |e: u32| probs.get(t * routed + e as usize).copied().filter(|_| (e as usize) < routed);
            match (score(a), score(b)) {
                (Some(a), Some(b)) => (a - b).abs() <= tolerance.tie * a.abs().max(b.abs()),
                _ => false,
            }
        };
        let mut swapped = vec![false; expected.len().checked_div(k).unwrap_or(0)];
        for (slot, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let t = slot / k;
            if got != expected {
                if tolerance.tie == 0.0 || !near(t, *got, *expected) {
                    return Err(format!("{name}: token {t} slot {} is {got}, expected {expected}", slot % k));
                }
                swapped[t] = true;
            }
        }
        Ok(swapped)
    }

    /// Compares rows of `name`, leaving out the tokens whose choice was swapped.
    pub fn check_rows(&self, tolerance: &Tolerance, name: &str, got: &[f64], swapped: &[bool]) -> Outcome {
        let expected = self.values(name)?;
        let width = if swapped.is_empty() { 1 } else { expected.len() / swapped.len() };
        let mut patched = got.to_vec();
        for (t, _) in swapped.iter().enumerate().filter(|(_, swapped)| **swapped) {
            patched[t * width..][..width].copy_from_slice(&expected[t * width..][..width]);
        }
        self.check(tolerance, name, &patched)
    }
}
