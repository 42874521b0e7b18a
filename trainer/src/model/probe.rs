//! One expert on its own: what it makes of tokens that the router may not have sent to it.

use emo::Result;
use emo::backend::{Backend, Element};
use emo::ops::experts;

use super::Model;
use super::activations::{download, read, upload, write};
use super::layout::FeedForwardLayout;

impl<B: Backend> Model<B> {
    /// Output `[tokens, d]`, not weighted, of routed expert `expert` of the `ordinal`-th layer with experts for the router
    /// inputs `input` `[tokens, d]` (see [`super::Routing::input`]). `None` where there is no such layer or expert.
    ///
    /// # Errors
    /// When the device fails.
    pub fn expert_output(&self, ordinal: usize, expert: usize, input: &[f64]) -> Result<Option<Vec<f64>>> {
        let Some((layer, moe)) = self.config.moe_layers().nth(ordinal) else { return Ok(None) };
        let FeedForwardLayout::Moe { w_in, w_out, .. } = &self.layout.layers[layer].feed_forward else {
            return Ok(None);
        };
        let (backend, d) = (&*self.backend, self.config.width);
        let tokens = input.len() / d;
        if expert >= moe.routed() || tokens == 0 {
            return Ok(None);
        }
        let shape = experts::Shape {
            tokens,
            top_k: 1,
            experts: 1,
            width: d,
            hidden: moe.hidden,
            gated: moe.gated,
            activation: moe.activation,
        };
        let part = |all: &std::ops::Range<usize>, each: usize| {
            let start = all.start + expert * each;
            backend.view(self.params.matrices(), start..start + each)
        };
        let mut x = backend.alloc::<B::Storage>(tokens * d)?;
        upload::<B, _>(backend, &input[..tokens * d], &mut x, 0)?;
        let offsets = self.upload_all(&[0, tokens as u32])?;
        let token = self.upload_all(&(0..tokens as u32).collect::<Vec<_>>())?;
        let (mut pre, mut rows) = (backend.alloc(tokens * shape.pre())?, backend.alloc(tokens * d)?);
        let workspace = backend.experts_workspace(shape);
        let mut scratch = backend.alloc(workspace)?;
        backend.experts_forward(experts::Forward {
            shape,
            offsets: read(backend, &offsets, 2)?,
            token: read(backend, &token, tokens)?,
            x: read(backend, &x, tokens * d)?,
            w_in: part(w_in, shape.pre() * d)?,
            w_out: part(w_out, d * moe.hidden)?,
            pre: write(backend, &mut pre, tokens * shape.pre())?,
            rows: write(backend, &mut rows, tokens * d)?,
            workspace: write(backend, &mut scratch, workspace)?,
        })?;
        download::<B, _>(backend, &rows, 0..tokens * d).map(Some)
    }

    fn upload_all<T: Element>(&self, values: &[T]) -> Result<B::Buffer<T>> {
        let mut buffer = self.backend.alloc(values.len())?;
        self.backend.upload(values, self.backend.view_mut(&mut buffer, 0..values.len())?)?;
        Ok(buffer)
    }
}
