//! Sequence smoothing of router logits: a 1-D convolution over the tokens of a document.
//! Our own extension, off in the preset `emo`.

use super::check::{length, positive, require};
use super::segments::Segments;
use super::{pool, router};
use crate::Result;
use crate::backend::{Backend, View, ViewMut};

/// Sizes of a smoothing op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows (tokens).
    pub tokens: usize,
    /// Columns (experts).
    pub channels: usize,
    /// Taps, 1 to 9.
    pub width: usize,
    /// How many tokens ahead the last tap looks: 0 is causal, `(width - 1) / 2` is centred.
    /// Looking ahead leaks the next token into routing, which is wrong for a language model.
    pub ahead: usize,
    /// Whether each channel has taps of its own (`[channels, width]`) or all share `[width]`.
    pub depthwise: bool,
    /// Divide by the sum of the taps that fall inside the document.
    pub renormalise: bool,
}

impl Shape {
    fn taps(&self) -> usize {
        if self.depthwise { self.channels.saturating_mul(self.width) } else { self.width }
    }

    fn check(&self, op: &'static str) -> Result<()> {
        positive(op, "channels", self.channels)?;
        require((1..=9).contains(&self.width), op, "width", "1 to 9", self.width)?;
        require(
            self.ahead < self.width,
            op,
            "ahead",
            format_args!("below width = {}", self.width),
            self.ahead,
        )
    }
}

/// `y_t = sum_j taps_j x_{t + j - (width - 1) + ahead}` over the positions inside the segment of `t`.
pub struct Forward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// Documents; nothing crosses them.
    pub segments: Segments<'a, B>,
    /// Input `[tokens, channels]`.
    pub x: View<'a, B>,
    /// `[width]` or `[channels, width]`.
    pub taps: View<'a, B>,
    /// Output `[tokens, channels]`.
    pub y: ViewMut<'a, B>,
}

impl<B: Backend> Forward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "smoothing_forward";
        self.shape.check(OP)?;
        self.segments.check(OP, self.shape.tokens)?;
        length(OP, "x", &self.x, &[self.shape.tokens, self.shape.channels])?;
        length(OP, "taps", &self.taps, &[self.shape.taps()])?;
        length(OP, "y", &self.y, &[self.shape.tokens, self.shape.channels])
    }
}

/// `dx` by the transposed convolution (overwritten), `dtaps += sum_t dy_t x_{t + ...}`.
pub struct Backward<'a, B: Backend> {
    /// Shape.
    pub shape: Shape,
    /// The forward segments.
    pub segments: Segments<'a, B>,
    /// The forward input.
    pub x: View<'a, B>,
    /// The taps.
    pub taps: View<'a, B>,
    /// Gradient of the output.
    pub dy: View<'a, B>,
    /// Gradient of the input.
    pub dx: ViewMut<'a, B>,
    /// Gradient of learned taps, accumulated.
    pub dtaps: Option<ViewMut<'a, B>>,
}

impl<B: Backend> Backward<'_, B> {
    /// Lengths fit the shape.
    pub fn check(&self) -> Result<()> {
        const OP: &str = "smoothing_backward";
        self.shape.check(OP)?;
        self.segments.check(OP, self.shape.tokens)?;
        length(OP, "x", &self.x, &[self.shape.tokens, self.shape.channels])?;
        length(OP, "taps", &self.taps, &[self.shape.taps()])?;
        length(OP, "dy", &self.dy, &[self.shape.tokens, self.shape.channels])?;
        length(OP, "dx", &self.dx, &[self.shape.tokens, self.shape.channels])?;
        super::check::optional(OP, "dtaps", &self.dtaps, &[self.shape.taps()])
    }
}

/// Smoothing in front of an op that reads logits: of those, into `smoothed`, which the op then reads in their place.
pub struct InFront<'a, B: Backend> {
    /// Shape; its channels are all experts.
    pub shape: Shape,
    /// Documents; nothing crosses them.
    pub segments: Segments<'a, B>,
    /// `[width]` or `[channels, width]`.
    pub taps: View<'a, B>,
    /// Output `[tokens, channels]`: the smoothed logits, which the backward passes read.
    pub smoothed: ViewMut<'a, B>,
}

impl<B: Backend> InFront<'_, B> {
    fn check(&self, op: &'static str, tokens: usize, experts: usize) -> Result<()> {
        self.shape.check(op)?;
        require(self.shape.tokens == tokens, op, "shape.tokens", tokens, self.shape.tokens)?;
        require(self.shape.channels == experts, op, "shape.channels", experts, self.shape.channels)?;
        self.segments.check(op, tokens)?;
        length(op, "taps", &self.taps, &[self.shape.taps()])?;
        length(op, "smoothed", &self.smoothed, &[tokens, experts])
    }
}

/// [`Forward`] and [`router::Forward`] in one: a GPU reads the logits once.
pub struct Router<'a, B: Backend> {
    /// What is done to the logits first.
    pub smoothing: InFront<'a, B>,
    /// The router, with the logits before smoothing.
    pub router: router::Forward<'a, B>,
}

impl<B: Backend> Router<'_, B> {
    /// Configuration and lengths fit.
    pub fn check(&self) -> Result<()> {
        self.router.check()?;
        self.smoothing.check("smoothed_router", self.router.tokens, self.router.config.experts)
    }
}

/// [`Forward`] and [`pool::Keep`] in one: a GPU reads the logits once.
pub struct Pool<'a, B: Backend> {
    /// What is done to the logits first. Its documents are the pool's.
    pub smoothing: InFront<'a, B>,
    /// The pool, with the logits before smoothing.
    pub pool: pool::Keep<'a, B>,
}

impl<B: Backend> Pool<'_, B> {
    /// Lengths fit.
    pub fn check(&self) -> Result<()> {
        self.pool.check()?;
        self.smoothing.check("smoothed_pool", self.pool.tokens, self.pool.experts)
    }
}
