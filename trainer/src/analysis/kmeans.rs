//! Spherical k-means: clusters of directions (Dhillon and Modha 2001). It starts from mini-batches, as in the EMO
//! paper.

use rayon::prelude::*;

use super::minibatch;
use super::vector::dot;

/// How to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// Clusters; fewer where there are fewer points.
    pub clusters: usize,
    /// Draws of first centres, of which the best begins.
    pub starts: usize,
    /// Points of a mini-batch; all points where there are fewer.
    pub batch: usize,
    /// Mini-batches end when they have held so many times the number of points.
    pub epochs: usize,
    /// Passes over all points after that, at most.
    pub passes: usize,
    /// The passes end when the squared shifts of all centres add up to no more than this.
    pub tolerance: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Search {
    /// With the paper's settings; its clusters are 32 and its seed is 42.
    #[must_use]
    pub const fn of_the_paper(clusters: usize, seed: u64) -> Self {
        Self { clusters, starts: 10, batch: 4096, epochs: 500, passes: 20, tolerance: 1e-6, seed }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// The cluster of each point.
    pub labels: Vec<u32>,
    /// Unit centres `[clusters, width]`.
    pub centres: Vec<f64>,
    /// Sum over the points of `1 - cos` to their centre: what is minimised.
    pub distance: f64,
    /// Mini-batches before the passes.
    pub batches: usize,
    /// Passes over all points.
    pub passes: usize,
}

/// Points of one task; fixed, so that sums do not depend on how many threads there are.
pub(super) const TASK: usize = 512;

/// Scales each row to length 1; rows of zeros stay.
pub fn normalise(rows: &mut [f64], width: usize) {
    for row in rows.chunks_exact_mut(width.max(1)) {
        let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// Clusters unit rows `[n, width]` by the cosine to unit centres: mini-batches find first centres, full passes follow.
#[must_use]
pub fn spherical_kmeans(points: &[f64], width: usize, search: &Search) -> Clustering {
    let n = points.len().checked_div(width).unwrap_or(0);
    let clusters = search.clusters.min(n);
    if clusters == 0 {
        return Clustering { labels: vec![0; n], centres: Vec::new(), distance: 0.0, batches: 0, passes: 0 };
    }
    let minibatch::Started { mut centres, batches } = minibatch::start(points, width, clusters, search);
    normalise(&mut centres, width);
    Clustering { batches, ..run(points, width, centres, search) }
}

/// One task's part of a pass.
struct Part {
    labels: Vec<u32>,
    cosines: Vec<f64>,
    sums: Vec<f64>,
    counts: Vec<usize>,
}

fn assign(points: &[f64], width: usize, centres: &[f64]) -> Vec<Part> {
    let clusters = centres.len() / width;
    points
        .par_chunks(TASK * width)
        .map(|points| {
            let mut part = Part {
                labels: Vec::new(),
                cosines: Vec::new(),
                sums: vec![0.0; clusters * width],
                counts: vec![0; clusters],
            };
            for point in points.chunks_exact(width) {
                let (mut label, mut best) = (0, f64::NEG_INFINITY);
                for (cluster, centre) in centres.chunks_exact(width).enumerate() {
                    let cosine = dot(point, centre);
                    if cosine > best {
                        (label, best) = (cluster, cosine);
                    }
                }
                part.labels.push(label as u32);
                part.cosines.push(best);
                part.counts[label] += 1;
                let sum = &mut part.sums[label * width..(label + 1) * width];
                sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
            }
            part
        })
        .collect()
}

fn run(points: &[f64], width: usize, mut centres: Vec<f64>, search: &Search) -> Clustering {
    let clusters = centres.len() / width;
    let mut passes = 0;
    loop {
        let parts = assign(points, width, &centres);
        passes += 1;
        let (mut sums, mut counts) = (vec![0.0; clusters * width], vec![0usize; clusters]);
        for part in &parts {
            sums.iter_mut().zip(&part.sums).for_each(|(sum, x)| *sum += x);
            counts.iter_mut().zip(&part.counts).for_each(|(sum, count)| *sum += count);
        }
        refill(points, width, &parts, &mut sums, &counts);
        normalise(&mut sums, width);
        let shift: f64 = sums.iter().zip(&centres).map(|(a, b)| (a - b) * (a - b)).sum();
        if shift <= search.tolerance || passes >= search.passes.max(1) {
            let labels = parts.iter().flat_map(|part| part.labels.iter().copied()).collect();
            let distance = parts.iter().flat_map(|part| &part.cosines).map(|cosine| 1.0 - cosine).sum();
            return Clustering { labels, centres, distance, batches: 0, passes };
        }
        centres = sums;
    }
}

/// Gives each empty cluster one of the points that lie farthest from their centres, a different one each.
fn refill(points: &[f64], width: usize, parts: &[Part], sums: &mut [f64], counts: &[usize]) {
    let empty: Vec<usize> = (0..counts.len()).filter(|&cluster| counts[cluster] == 0).collect();
    if empty.is_empty() {
        return;
    }
    let cosines: Vec<f64> = parts.iter().flat_map(|part| part.cosines.iter().copied()).collect();
    let mut order: Vec<usize> = (0..cosines.len()).collect();
    order.sort_by(|&a, &b| cosines[a].total_cmp(&cosines[b]).then(a.cmp(&b)));
    for (cluster, at) in empty.into_iter().zip(order) {
        sums[cluster * width..(cluster + 1) * width].copy_from_slice(&points[at * width..(at + 1) * width]);
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::super::random::unit;
    use super::*;

    const SEARCH: Search = Search::of_the_paper(3, 42);

    /// Directions scattered about three axes, in turn.
    fn planted(n: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut points: Vec<f64> = (0..n)
            .flat_map(|at| {
                let noise: Vec<f64> = (0..4).map(|_| 0.6 * (unit(&mut random) - 0.5)).collect();
                (0..4).map(move |axis| noise[axis] + if axis == at % 3 { 1.0 } else { 0.0 })
            })
            .collect();
        normalise(&mut points, 4);
        points
    }

    #[test]
    fn planted_clusters_are_recovered_for_any_number_of_threads() {
        let points = planted(1500);
        let search = Search { batch: 700, ..SEARCH };
        let found = spherical_kmeans(&points, 4, &search);
        assert!(found.batches > 0 && found.passes <= SEARCH.passes);
        let of = [found.labels[0], found.labels[1], found.labels[2]];
        assert!(of[0] != of[1] && of[1] != of[2] && of[0] != of[2]);
        assert!(found.labels.iter().enumerate().all(|(at, &label)| label == of[at % 3]));
        for centre in found.centres.chunks_exact(4) {
            assert!((dot(centre, centre) - 1.0).abs() < 1e-12);
            assert!(centre.iter().any(|&x| x > 0.98), "{centre:?}");
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| spherical_kmeans(&points, 4, &search)), found, "bit for bit");
        }
    }

    #[test]
    fn the_distance_is_that_of_the_labels_by_hand() {
        let half = 0.5f64.sqrt();
        // Two points at 45 degrees to their mean direction's neighbours: centre (1, 1) / sqrt 2 for all of them.
        let points = [1.0, 0.0, 0.0, 1.0];
        let one = spherical_kmeans(&points, 2, &Search { clusters: 1, ..SEARCH });
        assert!((one.centres[0] - half).abs() < 1e-12 && (one.distance - 2.0 * (1.0 - half)).abs() < 1e-12);
        let two = spherical_kmeans(&points, 2, &Search { clusters: 2, ..SEARCH });
        assert_ne!(two.labels[0], two.labels[1]);
        assert!(two.distance.abs() < 1e-12);
    }

    #[test]
    fn too_few_or_equal_or_zero_points_are_fine() {
        let few = spherical_kmeans(&[1.0, 0.0], 2, &SEARCH);
        assert_eq!((few.labels, few.centres), (vec![0], vec![1.0, 0.0]));
        let equal = spherical_kmeans(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0], 2, &SEARCH);
        assert_eq!(equal.labels.len(), 4);
        assert!(equal.centres.iter().all(|x| x.is_finite()));
        assert_eq!(spherical_kmeans(&[], 2, &SEARCH).labels, Vec::<u32>::new());
    }

    #[test]
    fn the_passes_are_bounded_and_only_lower_the_distance() {
        // Noise without groups: it takes many passes to settle.
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let mut points: Vec<f64> = (0..4 * 3000).map(|_| unit(&mut random) - 0.5).collect();
        normalise(&mut points, 4);
        let with = |passes: usize| {
            spherical_kmeans(&points, 4, &Search { clusters: 16, epochs: 1, batch: 64, passes, ..SEARCH })
        };
        let (first, second, last) = (with(1), with(2), with(20));
        assert_eq!((first.passes, second.passes), (1, 2));
        assert!(last.passes <= 20 && first.batches == 3000 / 64, "{} {}", last.passes, first.batches);
        assert!(second.distance < first.distance && last.distance < second.distance);
    }
}
