//! Top-k selection.

use super::Token;

/// Fills `experts` with the best allowed routed experts by `rank`, descending, ties to the lower index, and then with
/// forbidden ones, lowest index first. Experts in `taken` are skipped.
///
/// A sorted list of the best so far: for the usual k of 8 out of 128, an expert that does not make the list costs one
/// comparison, and few do.
#[inline(always)]
pub(super) fn top(token: &Token<'_>, rank: impl Fn(usize) -> f64, taken: &[u32], experts: &mut [u32]) {
    let places = experts.len();
    let (mut filled, mut last) = (0, f64::NAN);
    for expert in 0..token.logits.len() {
        let value = rank(expert);
        // A full list takes only what is better than its last entry; a NaN is never better.
        let full = filled == places;
        if full && (places == 0 || !better(value, last)) {
            continue;
        }
        if token.forbidden(expert) || taken.contains(&(expert as u32)) {
            continue;
        }
        let mut at = if full { places - 1 } else { filled };
        while at > 0 && better(value, rank(experts[at - 1] as usize)) {
            experts[at] = experts[at - 1];
            at -= 1;
        }
        experts[at] = expert as u32;
        filled += usize::from(!full);
        if filled == places {
            last = rank(experts[places - 1] as usize);
        }
    }
    let mut expert = 0;
    while filled < places && expert < token.logits.len() {
        if token.forbidden(expert) && !taken.contains(&(expert as u32)) {
            experts[filled] = expert as u32;
            filled += 1;
        }
        expert += 1;
    }
}

/// Whether `value` comes before `other`, which has a lower index. NaN comes last.
#[inline(always)]
fn better(value: f64, other: f64) -> bool {
    value > other || (other.is_nan() && !value.is_nan())
}
