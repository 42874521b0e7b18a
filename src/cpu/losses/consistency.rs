//! Consistency over neighbouring tokens and over the documents of a domain.

use std::ops::Range;

use crate::cpu::Cpu;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::losses::{DomainConsistency, SequenceConsistency};
use crate::{Result, host};

use super::sum_blocks;

/// Experts of a task of the means.
const COLUMNS: usize = 16;

pub(in crate::cpu) fn sequence_consistency<T: Storage>(
    cpu: &Cpu<T>,
    args: SequenceConsistency<'_, Cpu<T>>,
) -> Result<()> {
    args.check()?;
    host::segments("sequence_consistency", &args.segments, args.tokens)?;
    let (routed, of_token) = (args.routed, args.segments.of_token);
    let pairs = of_token.windows(2).filter(|pair| pair[0] == pair[1]).count();
    if pairs == 0 {
        return Ok(());
    }
    let factor = args.coefficient / pairs as f64;
    args.loss[0] += sum_blocks(cpu, args.dprobs, args.tokens, routed, |first, dprobs| {
        let mut sum = 0.0;
        for (i, dprobs) in dprobs.chunks_exact_mut(routed).enumerate() {
            let token = first + i;
            let row = |other: usize| &args.probs[other * routed..][..routed];
            let in_document = |other: usize| of_token.get(other) == Some(&of_token[token]);
            let before = token.checked_sub(1).filter(|&t| in_document(t)).map(row);
            let after = Some(token + 1).filter(|&t| in_document(t)).map(row);
            let own = row(token);
            sum += f64::from(cpu.isa.dispatch(Neighbours {
                own,
                before,
                after,
                factor: 2.0 * factor as f32,
                dprobs,
            }));
        }
        factor * sum
    });
    Ok(())
}

/// One token: returns `|own - before|^2` and adds the gradient of both its pairs.
struct Neighbours<'a> {
    own: &'a [f32],
    before: Option<&'a [f32]>,
    after: Option<&'a [f32]>,
    factor: f32,
    dprobs: &'a mut [f32],
}

impl Kernel for Neighbours<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let factor = s.splat(self.factor);
        let mut sum = s.splat(0.0);
        for at in (0..self.own.len()).step_by(S::LANES) {
            let own = s.load_partial(&self.own[at..], 0.0);
            let mut d = s.load_partial(&self.dprobs[at..], 0.0);
            if let Some(before) = self.before {
                let step = own - s.load_partial(&before[at..], 0.0);
                sum = s.fma(step, step, sum);
                d = s.fma(factor, step, d);
            }
            if let Some(after) = self.after {
                d = s.fma(factor, own - s.load_partial(&after[at..], 0.0), d);
            }
            s.store_partial(&mut self.dprobs[at..], d);
        }
        s.reduce_add(sum)
    }
}

/// The gradient through a domain's mean is zero: the mean is weighted by tokens, so the pulls of its documents cancel.
pub(in crate::cpu) fn domain_consistency<T: Storage>(
    cpu: &Cpu<T>,
    args: DomainConsistency<'_, Cpu<T>>,
) -> Result<()> {
    const OP: &str = "domain_consistency";
    args.check()?;
    host::segments(OP, &args.segments, args.tokens)?;
    host::below(OP, "domain", args.domain, args.domains)?;
    let (routed, offsets) = (args.routed, args.segments.offsets);
    let segments = args.segments.count();
    if args.tokens * routed == 0 {
        return Ok(());
    }
    let (means, domain_means) = args.workspace.split_at_mut(segments * routed);
    let (shared_means, shared_domains) = (DisjointMut::new(means), DisjointMut::new(domain_means));
    cpu.threads.for_each(routed.div_ceil(COLUMNS), |task, _| {
        let columns = task * COLUMNS..routed.min((task + 1) * COLUMNS);
        // SAFETY: tasks are distinct, so their columns are disjoint in every row; each reference ends before the next.
        let mean = |row: usize| unsafe {
            shared_means.slice_mut(row * routed + columns.start..row * routed + columns.end)
        };
        for segment in 0..segments {
            let tokens = offsets[segment] as usize..offsets[segment + 1] as usize;
            column_mean(args.probs, routed, &columns, tokens, mean(segment));
        }
        for domain in 0..args.domains {
            let (mut sums, mut total) = ([0.0f64; COLUMNS], 0.0);
            for segment in (0..segments).filter(|&segment| args.domain[segment] as usize == domain) {
                let tokens = f64::from(offsets[segment + 1] - offsets[segment]);
                total += tokens;
                for (sum, &mean) in sums.iter_mut().zip(&*mean(segment)) {
                    *sum += tokens * f64::from(mean);
                }
            }
            let at = domain * routed;
            // SAFETY: as above.
            let out = unsafe { shared_domains.slice_mut(at + columns.start..at + columns.end) };
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if total > 0.0 { (sum / total) as f32 } else { 0.0 };
            }
        }
    });
    let factor = args.coefficient / args.tokens as f64;
    let (means, domain_means, of_token) = (&*means, &*domain_means, args.segments.of_token);
    args.loss[0] += sum_blocks(cpu, args.dprobs, args.tokens, routed, |first, dprobs| {
        let mut sum = 0.0;
        for (i, dprobs) in dprobs.chunks_exact_mut(routed).enumerate() {
            let segment = of_token[first + i] as usize;
            let own = &means[segment * routed..][..routed];
            let before = Some(&domain_means[args.domain[segment] as usize * routed..][..routed]);
            let factor = 2.0 * factor as f32;
            sum += f64::from(cpu.isa.dispatch(Neighbours { own, before, after: None, factor, dprobs }));
        }
        factor * sum
    });
    Ok(())
}

/// Mean over `tokens` of some columns, 0 without tokens.
fn column_mean(probs: &[f32], routed: usize, columns: &Range<usize>, tokens: Range<usize>, mean: &mut [f32]) {
    let (mut sums, count) = ([0.0f64; COLUMNS], tokens.len().max(1) as f64);
    for token in tokens {
        let row = &probs[token * routed..][..routed];
        for (sum, &p) in sums.iter_mut().zip(&row[columns.clone()]) {
            *sum += f64::from(p);
        }
    }
    for (mean, sum) in mean.iter_mut().zip(sums) {
        *mean = (sum / count) as f32;
    }
}
