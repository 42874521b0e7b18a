//! A model that keeps some of its experts, tensor by tensor out of the files of the whole model.

use std::ops::Range;

use super::{Error, Family, HfTensor, Result, hf_names};
use crate::model::{FeedForwardLayout, Layout, ModelConfig, Moe};

/// A tensor of the smaller model and where it lies in the files.
pub(super) struct Slice {
    /// Name in the files.
    pub from: String,
    /// Shape in the files.
    pub shape: Vec<usize>,
    /// Its rows there, where not all of them.
    pub rows: Option<Vec<u32>>,
    /// The tensor of the smaller model, with the name of the files' family.
    pub tensor: HfTensor,
}

impl Slice {
    fn whole(tensor: HfTensor) -> Self {
        Self { from: tensor.name.clone(), shape: tensor.shape.clone(), rows: None, tensor }
    }
}

/// The model that keeps these routed experts of each layer (all where `kept` is none), and where its tensors lie in the
/// files of the whole one.
pub(super) fn slices(
    config: &ModelConfig,
    family: Family,
    kept: Option<&[Vec<u32>]>,
) -> Result<(ModelConfig, Vec<Slice>)> {
    let layout = Layout::new(config)?;
    let all = hf_names::tensors(config, &layout, family);
    let Some(kept) = kept else {
        return Ok((config.clone(), all.into_iter().map(Slice::whole).collect()));
    };
    let small = config.keep(kept)?;
    let targets = hf_names::tensors(&small, &Layout::new(&small)?, family);
    let places = Places::new(config, &layout);
    // Both lists name the same things in the same order but for the experts that are left out.
    let sources = all.into_iter().filter(|tensor| match places.of(&tensor.range) {
        Some((ordinal, moe, Some(expert))) if expert < moe.routed() => {
            kept[ordinal].binary_search(&(expert as u32)).is_ok()
        }
        _ => true,
    });
    let mut slices = Vec::with_capacity(targets.len());
    for (source, tensor) in sources.zip(targets) {
        let rows = match places.of(&source.range) {
            Some((ordinal, moe, None)) if source.shape != tensor.shape => Some(rows(moe, &kept[ordinal])),
            _ => None,
        };
        let found = rows.as_ref().map_or(source.shape[0], Vec::len);
        if found != tensor.shape[0] || source.shape[1..] != tensor.shape[1..] {
            return Err(Error::Tensor {
                name: source.name,
                expected: format!("a part of shape {:?}", tensor.shape),
                found: format!("shape {:?}", source.shape),
            });
        }
        slices.push(Slice { from: source.name, shape: source.shape, rows, tensor });
    }
    Ok((small, slices))
}

/// Rows of a router that belong to the kept routed experts and the shared ones.
fn rows(moe: &Moe, kept: &[u32]) -> Vec<u32> {
    kept.iter().copied().chain(moe.routed() as u32..moe.experts as u32).collect()
}

/// Which layer with experts, and which of its experts, a place in the arena belongs to.
struct Places<'a>(Vec<(&'a Moe, &'a FeedForwardLayout, usize)>);

impl<'a> Places<'a> {
    fn new(config: &'a ModelConfig, layout: &'a Layout) -> Self {
        let each = config.moe_layers().map(|(layer, moe)| (moe, &layout.layers[layer].feed_forward));
        Self(each.map(|(moe, layout)| (moe, layout, config.width)).collect())
    }

    /// Ordinal and configuration of the layer, and the expert; no expert for the router.
    fn of(&self, range: &Range<usize>) -> Option<(usize, &'a Moe, Option<usize>)> {
        self.0.iter().enumerate().find_map(|(ordinal, &(moe, layout, width))| {
            let FeedForwardLayout::Moe { router, bias, taps, w_in, w_out } = layout else { return None };
            let inside = |part: &Range<usize>| part.contains(&range.start);
            if inside(w_in) {
                return Some((ordinal, moe, Some((range.start - w_in.start) / (moe.pre() * width))));
            }
            if inside(w_out) {
                return Some((ordinal, moe, Some((range.start - w_out.start) / (width * moe.hidden))));
            }
            let gate = inside(router) || [bias, taps].into_iter().flatten().any(inside);
            gate.then_some((ordinal, moe, None))
        })
    }
}
