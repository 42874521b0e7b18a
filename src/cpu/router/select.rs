//! Top-k selection.

use super::Token;

/// Fills `experts` with the best allowed routed experts by `choice`, descending, ties to the lower index, and then with
/// forbidden ones, lowest index first. Experts in `taken` are skipped. `choices` is scratch of the same length.
///
/// A sorted list of the best so far: for the usual k of 8 out of 128, an expert that does not make the list costs one
/// comparison, and few do.
#[inline(always)]
pub(super) fn top(
    token: &Token<'_>,
    choice: impl Fn(usize) -> f32,
    taken: &[u32],
    experts: &mut [u32],
    choices: &mut [f32],
) {
    let places = experts.len();
    let mut filled = 0;
    for expert in 0..token.logits.len() {
        let value = choice(expert);
        // A full list takes only what is better than its last entry; a NaN is never better.
        let full = filled == places;
        if full && (places == 0 || !better(value, choices[places - 1])) {
            continue;
        }
        if token.forbidden(expert) || taken.contains(&(expert as u32)) {
            continue;
        }
        let mut at = if full { places - 1 } else { filled };
        while at > 0 && better(value, choices[at - 1]) {
            choices[at] = choices[at - 1];
            experts[at] = experts[at - 1];
            at -= 1;
        }
        choices[at] = value;
        experts[at] = expert as u32;
        filled += usize::from(!full);
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
fn better(value: f32, other: f32) -> bool {
    value > other || (other.is_nan() && !value.is_nan())
}
