//! The global norm of all gradients and the factor that clips it.

/// `sqrt(Σ g²)` over every element of every tensor.
pub fn forward(tensors: &[&[f64]]) -> f64 {
    tensors.iter().map(|tensor| sum_of_squares(tensor)).sum::<f64>().sqrt()
}

/// `Σ g²` of one tensor.
pub fn sum_of_squares(tensor: &[f64]) -> f64 {
    tensor.iter().map(|g| g * g).sum()
}

/// What every gradient is multiplied with: `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`.
/// Source: Pascanu et al. 1211.5063.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}
