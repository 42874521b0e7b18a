//! Log-likelihoods of continuations.

use emo::Backend;
use emo::ops::cross_entropy::IGNORE;

use super::encode::Item;
use crate::error::{Error, Result};
use crate::model::{Inputs, Model, Segments};

/// `sum ln p(token | all before it)` of each continuation, in the order of the items.
///
/// Items of like length are computed together, each a document of its own; `progress` is told how many are done. No item may
/// be longer than the model's capacity.
///
/// # Errors
/// When the device fails.
pub fn likelihoods<B: Backend>(
    model: &mut Model<B>,
    items: &[Item],
    mut progress: impl FnMut(usize),
) -> Result<Vec<f64>> {
    let room = model.capacity().tokens;
    let mut order: Vec<usize> = (0..items.len()).collect();
    // The longest first: memory that is too small shows at once.
    order.sort_by_key(|&item| std::cmp::Reverse(items[item].ids.len()));
    let mut found = vec![0.0; items.len()];
    let (mut start, mut inputs) = (0, Inputs::default());
    while start < order.len() {
        let mut tokens = 0;
        let fits = order[start..].iter().take_while(|&&item| {
            tokens += items[item].ids.len();
            tokens <= room
        });
        // At least one: what is too long is refused by the model, in words.
        let batch = &order[start..start + fits.count().max(1)];
        fill(batch.iter().map(|&item| &items[item]), &mut inputs);
        let losses = model.evaluate(&inputs)?;
        for (&item, ends) in batch.iter().zip(inputs.attention.offsets.windows(2)) {
            found[item] = -losses[ends[0] as usize..ends[1] as usize].iter().sum::<f64>();
            if !found[item].is_finite() {
                return Err(Error::NonFinite("the model's likelihoods are no numbers".into()));
            }
        }
        start += batch.len();
        progress(start);
    }
    Ok(found)
}

/// Each item a document; only continuations have labels.
fn fill<'i>(items: impl Iterator<Item = &'i Item>, inputs: &mut Inputs) {
    *inputs = Inputs { loss_tokens: 1.0, micro_batches: 1, ..Inputs::default() };
    let mut offsets = vec![0];
    for item in items {
        inputs.ids.extend_from_slice(&item.ids);
        inputs.positions.extend(0..item.ids.len() as u32);
        inputs.labels.resize(inputs.ids.len() - item.continuation.len(), IGNORE);
        inputs.labels.extend(item.continuation.iter().map(|&id| id as i32));
        offsets.push(inputs.ids.len() as u32);
    }
    inputs.attention = Segments { offsets: offsets.clone() };
    inputs.routing = Segments { offsets };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_where_their_token_is_predicted() {
        let item =
            |ids: &[u32], continuation: &[u32]| Item { ids: ids.into(), continuation: continuation.into() };
        let mut inputs = Inputs::default();
        fill([&item(&[5, 6, 7], &[7, 8]), &item(&[9], &[4])].into_iter(), &mut inputs);
        assert_eq!(inputs.ids, [5, 6, 7, 9]);
        assert_eq!(inputs.positions, [0, 1, 2, 0]);
        assert_eq!(inputs.labels, [IGNORE, 7, 8, 4]);
        assert_eq!(inputs.attention.offsets, [0, 3, 4]);
        assert_eq!(inputs.routing, inputs.attention);
    }
}
