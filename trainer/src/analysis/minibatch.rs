//! First centres by k-means on mini-batches (Sculley 2010), step by step as scikit-learn's `MiniBatchKMeans` does it, whose
//! settings the EMO paper names: greedy k-means++ draws, of which the best on a sample begins; batches drawn with
//! replacement; each centre the mean of all points that it ever got; starved centres moved onto points of the batch; an end
//! where the smoothed inertia has not fallen for a while. Only the draws are others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use super::kmeans::{Search, TASK};
use super::random::{below, shuffle, unit};
use super::vector::dot;

/// A centre with less than this share of the largest centre's points is starved.
const STARVED: f64 = 0.01;
/// Batches without a new least smoothed inertia after which it ends.
const PATIENCE: usize = 10;
/// Batches whose points the samples for the first draws hold.
const SAMPLED: usize = 3;

/// Where mini-batches have led.
pub(super) struct Started {
    /// Centres `[clusters, width]`, not of unit length.
    pub centres: Vec<f64>,
    /// Batches until then.
    pub batches: usize,
}

/// Of `points` `[n, width]`, with `clusters` between 1 and n.
pub(super) fn start(points: &[f64], width: usize, clusters: usize, search: &Search) -> Started {
    let n = points.len() / width;
    let size = search.batch.clamp(1, n);
    let sampled = match SAMPLED.saturating_mul(size) {
        few if few < clusters => SAMPLED * clusters,
        enough => enough,
    };
    let sampled = sampled.min(n);
    let stream = |number: usize| {
        let mut random = ChaCha8Rng::seed_from_u64(search.seed);
        random.set_stream(number as u64);
        random
    };
    let starts = search.starts.max(1);
    let judges = draw(points, width, sampled, &mut stream(0));
    let mut best: Option<(f64, Vec<f64>)> = None;
    for number in 1..=starts {
        let mut random = stream(number);
        let centres = if sampled < n {
            let sample = draw(points, width, sampled, &mut random);
            plus_plus(&sample, width, clusters, &mut random)
        } else {
            plus_plus(points, width, clusters, &mut random)
        };
        let inertia = assign(&judges, width, &centres).inertia;
        // The first of equals stays.
        if best.as_ref().is_none_or(|(least, _)| inertia < *least) {
            best = Some((inertia, centres));
        }
    }
    let mut centres = best.map(|(_, centres)| centres).unwrap_or_default();
    let mut random = stream(starts.wrapping_add(1));
    let mut counts = vec![0usize; clusters];
    let mut smoothed = Smoothed::new(size, n);
    let most = (search.epochs as u128 * n as u128 / size as u128).try_into().unwrap_or(usize::MAX);
    let (mut batches, mut unmoved) = (0, 0);
    while batches < most {
        let batch = draw(points, width, size, &mut random);
        let found = assign(&batch, width, &centres);
        move_centres(&mut centres, &mut counts, width, &found);
        unmoved += size;
        if counts.contains(&0) || unmoved >= 10 * clusters {
            unmoved = 0;
            feed_starved(&mut centres, &mut counts, width, &batch, &mut random);
        }
        batches += 1;
        // The first batch tells how good the draws were.
        if batches > 1 && smoothed.has_settled(found.inertia / size as f64) {
            break;
        }
    }
    Started { centres, batches }
}

/// `count` points drawn with replacement.
fn draw(points: &[f64], width: usize, count: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let n = points.len() / width;
    let mut drawn = Vec::with_capacity(count * width);
    for _ in 0..count {
        let at = below(random, n);
        drawn.extend_from_slice(&points[at * width..(at + 1) * width]);
    }
    drawn
}

/// Centres drawn one after another, each the best of a few points drawn with probability in proportion to the squared
/// distance to the nearest centre so far (Arthur and Vassilvitskii 2007, greedy).
fn plus_plus(points: &[f64], width: usize, clusters: usize, random: &mut ChaCha8Rng) -> Vec<f64> {
    let n = points.len() / width;
    let point = |at: usize| &points[at * width..(at + 1) * width];
    let trials = 2 + (clusters as f64).ln() as usize;
    let mut centres = Vec::with_capacity(clusters * width);
    let mut nearest = vec![f64::INFINITY; n];
    for drawn in 0..clusters {
        let total: f64 = nearest.iter().sum();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..if drawn == 0 { 1 } else { trials } {
            let choice = match drawn {
                0 => below(random, n),
                // Where all points coincide with centres, any other point will do.
                _ => in_proportion(&nearest, unit(random) * total).unwrap_or(drawn % n),
            };
            let centre = point(choice);
            let closer: Vec<f64> = nearest
                .par_iter()
                .enumerate()
                .with_min_len(TASK)
                .map(|(at, &so_far)| so_far.min(squared_distance(point(at), centre)))
                .collect();
            let potential: f64 = closer.iter().sum();
            if best.as_ref().is_none_or(|(least, ..)| potential < *least) {
                best = Some((potential, choice, closer));
            }
        }
        if let Some((_, choice, closer)) = best {
            centres.extend_from_slice(point(choice));
            nearest = closer;
        }
    }
    centres
}

/// The index in whose part of the sum of `weights` the number `left` falls; none where all are 0.
fn in_proportion(weights: &[f64], mut left: f64) -> Option<usize> {
    let mut last = None;
    for (at, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = Some(at);
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Points by their nearest centre.
struct Assigned {
    /// Sum of squared distances.
    inertia: f64,
    /// Sums `[clusters, width]` of the points of each centre.
    sums: Vec<f64>,
    /// Points of each centre.
    counts: Vec<usize>,
}

/// Tasks of a fixed size, added up in their order: the same for any number of threads.
fn assign(points: &[f64], width: usize, centres: &[f64]) -> Assigned {
    let clusters = centres.len() / width;
    let squares: Vec<f64> = centres.chunks_exact(width).map(|centre| dot(centre, centre)).collect();
    let none = || Assigned { inertia: 0.0, sums: vec![0.0; clusters * width], counts: vec![0; clusters] };
    let tasks: Vec<Assigned> = points
        .par_chunks(TASK * width)
        .map(|points| {
            let mut task = none();
            for point in points.chunks_exact(width) {
                let (mut label, mut least) = (0, f64::INFINITY);
                for (cluster, centre) in centres.chunks_exact(width).enumerate() {
                    let relative = squares[cluster] - 2.0 * dot(point, centre);
                    if relative < least {
                        (label, least) = (cluster, relative);
                    }
                }
                task.inertia += (dot(point, point) + least).max(0.0);
                task.counts[label] += 1;
                let sum = &mut task.sums[label * width..(label + 1) * width];
                sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
            }
            task
        })
        .collect();
    tasks.into_iter().fold(none(), |mut all, task| {
        all.inertia += task.inertia;
        all.sums.iter_mut().zip(&task.sums).for_each(|(sum, x)| *sum += x);
        all.counts.iter_mut().zip(&task.counts).for_each(|(sum, count)| *sum += count);
        all
    })
}

/// Each centre becomes the mean of all points that it has got so far.
fn move_centres(centres: &mut [f64], counts: &mut [usize], width: usize, found: &Assigned) {
    let sums = found.sums.chunks_exact(width);
    for (cluster, (centre, sum)) in centres.chunks_exact_mut(width).zip(sums).enumerate() {
        if found.counts[cluster] == 0 {
            continue;
        }
        let before = counts[cluster] as f64;
        counts[cluster] = counts[cluster].saturating_add(found.counts[cluster]);
        let scale = 1.0 / counts[cluster] as f64;
        centre.iter_mut().zip(sum).for_each(|(x, sum)| *x = (*x * before + sum) * scale);
    }
}

/// Puts starved centres onto different points of the batch, at most half as many as the batch has, the hungriest first.
fn feed_starved(
    centres: &mut [f64],
    counts: &mut [usize],
    width: usize,
    batch: &[f64],
    random: &mut ChaCha8Rng,
) {
    let largest = counts.iter().copied().max().unwrap_or(0);
    let mut starved: Vec<usize> =
        (0..counts.len()).filter(|&cluster| (counts[cluster] as f64) < STARVED * largest as f64).collect();
    starved.sort_by_key(|&cluster| (counts[cluster], cluster));
    let points = batch.len() / width;
    starved.truncate(points / 2);
    if starved.is_empty() {
        return;
    }
    let mut places: Vec<usize> = (0..points).collect();
    shuffle(&mut places, random);
    let fed = (0..counts.len()).filter(|cluster| !starved.contains(cluster));
    let least = fed.map(|cluster| counts[cluster]).min().unwrap_or(0);
    for (&cluster, at) in starved.iter().zip(places) {
        centres[cluster * width..(cluster + 1) * width].copy_from_slice(&batch[at * width..(at + 1) * width]);
        counts[cluster] = least;
    }
}

/// Exponentially smoothed inertia of the batches.
struct Smoothed {
    weight: f64,
    value: Option<f64>,
    least: f64,
    since: usize,
}

impl Smoothed {
    fn new(size: usize, n: usize) -> Self {
        let weight = (2.0 * size as f64 / (n as f64 + 1.0)).min(1.0);
        Self { weight, value: None, least: f64::INFINITY, since: 0 }
    }

    /// Hears a batch's mean inertia; whether the smoothed one has stopped falling.
    fn has_settled(&mut self, inertia: f64) -> bool {
        let value = self.value.map_or(inertia, |old| old * (1.0 - self.weight) + inertia * self.weight);
        self.value = Some(value);
        if value < self.least {
            (self.least, self.since) = (value, 0);
        } else {
            self.since += 1;
        }
        self.since >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four groups of points about the corners of a square of side 10, far apart against their spread of 1.
    fn corners(n: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        (0..n)
            .flat_map(|at| [0, 1].map(|axis| 10.0 * ((at >> axis & 1) as f64) + unit(&mut random) - 0.5))
            .collect()
    }

    const SEARCH: Search = Search::of_the_paper(4, 42);

    #[test]
    fn mini_batches_find_the_means_of_groups_that_stand_apart() {
        let points = corners(6000);
        for batch in [200, 4096] {
            let found = start(&points, 2, 4, &Search { batch, ..SEARCH });
            let mut centres: Vec<[f64; 2]> = found.centres.as_chunks().0.to_vec();
            centres.sort_by_key(|centre| (centre[1].round() as i64, centre[0].round() as i64));
            for (centre, expected) in centres.iter().zip([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
            {
                for axis in 0..2 {
                    assert!((centre[axis] - expected[axis]).abs() < 0.1, "batches of {batch}: {centre:?}");
                }
            }
            assert!(found.batches > PATIENCE && found.batches < 500 * 6000 / batch, "{}", found.batches);
        }
    }

    #[test]
    fn a_centre_is_the_mean_of_all_that_it_ever_got() {
        let (mut centres, mut counts) = (vec![7.0, 100.0], vec![0, 0]);
        for batch in [[1.0, 2.0], [6.0, 99.0]] {
            let found = assign(&batch, 1, &centres);
            move_centres(&mut centres, &mut counts, 1, &found);
        }
        // 1 and 2, whose mean 1.5 replaces the draw; then 6 to the first and 99 to the second.
        assert_eq!((centres, counts), (vec![3.0, 99.0], vec![3, 1]));
    }

    #[test]
    fn starved_centres_move_onto_points_of_the_batch() {
        let (mut centres, mut counts) = (vec![0.0, 50.0, 60.0], vec![1000, 9, 10]);
        let batch = [1.0, 2.0, 3.0, 4.0];
        feed_starved(&mut centres, &mut counts, 1, &batch, &mut ChaCha8Rng::seed_from_u64(0));
        assert_eq!((centres[0], centres[2], counts), (0.0, 60.0, vec![1000, 10, 10]));
        assert!(batch.contains(&centres[1]), "{centres:?}");
    }

    #[test]
    fn it_ends_when_the_smoothed_inertia_has_not_fallen_for_ten_batches() {
        let mut smoothed = Smoothed::new(100, 99);
        assert_eq!(smoothed.weight, 1.0, "at most all of it is the newest batch");
        assert!(!smoothed.has_settled(5.0) && !smoothed.has_settled(4.0));
        let until = (1..).find(|_| smoothed.has_settled(4.0));
        assert_eq!(until, Some(PATIENCE));
    }

    #[test]
    fn the_epochs_bound_the_batches() {
        let points = corners(1000);
        let found = start(&points, 2, 4, &Search { batch: 300, epochs: 2, ..SEARCH });
        assert_eq!(found.batches, 2 * 1000 / 300);
        assert_eq!(start(&points, 2, 4, &Search { epochs: 0, ..SEARCH }).batches, 0);
    }
}
