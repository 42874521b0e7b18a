//! The non-linearity of an expert or of a dense feed-forward layer.

/// Element-wise activation `f`. A gated MLP computes `f(x W_gate^T) * (x W_up^T)`, a plain one `f(x W_in^T)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`; gated, this is SwiGLU (Shazeer 2020, arXiv 2002.05202).
    Silu,
    /// Exact GELU, `x * Phi(x)` by the error function (Hendrycks & Gimpel 2016, arXiv 1606.08415).
    Gelu,
    /// GELU by its tanh approximation, `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2` (So et al. 2021, arXiv 2109.08668).
    ReluSquared,
}
