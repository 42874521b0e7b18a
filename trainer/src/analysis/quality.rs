//! How good clusters are: apart from each other, and alike in domain.

use super::information::entropy_bits;
use super::vector::dot;

/// Silhouette of each point under the distance `1 - cos` (Rousseeuw 1987): `(b - a) / max(a, b)`, with the mean distance `a`
/// to the others of its cluster and `b` to the points of the nearest other cluster; 1 is well inside, 0 between two, below 0
/// nearer to another. 0 for a point alone in its cluster, and with fewer than two clusters.
///
/// Exact over all pairs, without forming them: the mean of `1 - x . y` over a cluster is `1 - x . mean(y)`.
#[must_use]
pub fn silhouettes(points: &[f64], width: usize, labels: &[u32], clusters: usize) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; clusters * width], vec![0usize; clusters]);
    for (point, &label) in points.chunks_exact(width.max(1)).zip(labels) {
        let sum = &mut sums[label as usize * width..(label as usize + 1) * width];
        sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        counts[label as usize] += 1;
    }
    let one = |point: &[f64], label: usize| {
        let apart = |cluster: usize| counts[cluster] as f64 - dot(point, &sums[cluster * width..][..width]);
        let others = counts[label] as f64 - 1.0;
        let nearest = (0..clusters)
            .filter(|&cluster| cluster != label && counts[cluster] > 0)
            .map(|cluster| apart(cluster) / counts[cluster] as f64)
            .fold(f64::INFINITY, f64::min);
        if others < 1.0 || nearest == f64::INFINITY {
            return 0.0;
        }
        // A point's distance to itself is 1 - |x|^2, which is 0 but for a row of zeros.
        let own = (apart(label) - (1.0 - dot(point, point))) / others;
        let largest = own.max(nearest);
        if largest > 0.0 { (nearest - own) / largest } else { 0.0 }
    };
    points.chunks_exact(width.max(1)).zip(labels).map(|(point, &label)| one(point, label as usize)).collect()
}

/// Means of the clusters that have points, with what lies about them; Euclidean, as scikit-learn measures.
struct Groups {
    /// Points, mean, sum of distances to it, sum of squared distances to it.
    each: Vec<(f64, Vec<f64>, f64, f64)>,
    /// Mean of all points.
    mean: Vec<f64>,
}

impl Groups {
    fn of(points: &[f64], width: usize, labels: &[u32], clusters: usize) -> Self {
        let mut each = vec![(0.0, vec![0.0; width], 0.0, 0.0); clusters];
        let mut mean = vec![0.0; width];
        let rows = || points.chunks_exact(width.max(1)).zip(labels);
        for (point, &label) in rows() {
            let (count, sum, ..) = &mut each[label as usize];
            *count += 1.0;
            sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
            mean.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|x| *x /= labels.len().max(1) as f64);
        for (count, sum, ..) in &mut each {
            sum.iter_mut().for_each(|x| *x /= f64::max(*count, 1.0));
        }
        for (point, &label) in rows() {
            let (_, mean, distances, squares) = &mut each[label as usize];
            let square = squared_distance(point, mean);
            *distances += square.sqrt();
            *squares += square;
        }
        each.retain(|&(count, ..)| count > 0.0);
        Self { each, mean }
    }
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Calinski and Harabasz' index (1974), the ratio of variances between and within `k` clusters of `n` points:
/// `(sum_q n_q |c_q - c|^2 / (k - 1)) / (sum_q sum_{x in q} |x - c_q|^2 / (n - k))`, with the means `c_q` of the clusters and
/// `c` of all points. Higher is better. None with fewer than two clusters, or where nothing varies within them.
#[must_use]
pub fn calinski_harabasz(points: &[f64], width: usize, labels: &[u32], clusters: usize) -> Option<f64> {
    let Groups { each, mean } = Groups::of(points, width, labels, clusters);
    let (n, k) = (labels.len() as f64, each.len() as f64);
    let between: f64 = each.iter().map(|(count, centre, ..)| count * squared_distance(centre, &mean)).sum();
    let within: f64 = each.iter().map(|&(.., squares)| squares).sum();
    (k >= 2.0 && n > k && within > 0.0).then(|| (between / (k - 1.0)) / (within / (n - k)))
}

/// Davies and Bouldin's index (1979): the mean over the clusters of `max_r (s_q + s_r) / |c_q - c_r|` over the others, with the
/// means `c_q` and the mean distance `s_q` of a cluster's points to its own. Lower is better. None with fewer than two
/// clusters, or where the means of two coincide.
#[must_use]
pub fn davies_bouldin(points: &[f64], width: usize, labels: &[u32], clusters: usize) -> Option<f64> {
    let Groups { each, .. } = Groups::of(points, width, labels, clusters);
    let mut sum = 0.0;
    for (q, (count, centre, distances, _)) in each.iter().enumerate() {
        let mut worst = None;
        for (_, (others, other, apart, _)) in each.iter().enumerate().filter(|&(r, _)| r != q) {
            let between = squared_distance(centre, other).sqrt();
            if between == 0.0 {
                return None;
            }
            let ratio = (distances / count + apart / others) / between;
            worst = Some(worst.map_or(ratio, |most| f64::max(most, ratio)));
        }
        sum += worst?;
    }
    (!each.is_empty()).then(|| sum / each.len() as f64)
}

/// Entropy of a point's source (domain) given its cluster, in bits: the mean over all points of the entropy of the domains in
/// their cluster, `H(domain | cluster) = sum_q n_q / n H_q`. 0 where every cluster is one domain's, the entropy of the domains
/// themselves where clusters say nothing.
#[must_use]
pub fn source_entropy_bits(counts: &[Vec<u64>]) -> f64 {
    let all: u64 = counts.iter().flatten().sum();
    let of = |row: &Vec<u64>| {
        let shares: Vec<f64> = row.iter().map(|&count| count as f64).collect();
        shares.iter().sum::<f64>() * entropy_bits(&shares)
    };
    if all == 0 { 0.0 } else { counts.iter().map(of).sum::<f64>() / all as f64 }
}

/// Purity: the share of points that belong to the most frequent domain of their cluster, from `counts[cluster][domain]`.
/// 1 where every cluster is one domain's; never below the largest domain's share of all points, and higher with more clusters.
#[must_use]
pub fn purity(counts: &[Vec<u64>]) -> f64 {
    let all: u64 = counts.iter().flatten().sum();
    let most: u64 = counts.iter().filter_map(|row| row.iter().max()).sum();
    if all == 0 { 0.0 } else { most as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silhouettes_by_hand_and_by_all_pairs() {
        let (sin, cos) = 0.3f64.sin_cos();
        // Two neighbours about the x axis, two about the y axis.
        let points = [cos, sin, cos, -sin, sin, cos, -sin, cos];
        let labels = [0, 0, 1, 1];
        let found = silhouettes(&points, 2, &labels, 2);
        let distance =
            |a: usize, b: usize| 1.0 - points[2 * a] * points[2 * b] - points[2 * a + 1] * points[2 * b + 1];
        for (point, (own, others)) in
            [(1, [2, 3]), (0, [2, 3]), (3, [0, 1]), (2, [0, 1])].into_iter().enumerate()
        {
            let (a, b) =
                (distance(point, own), (distance(point, others[0]) + distance(point, others[1])) / 2.0);
            assert!((found[point] - (b - a) / a.max(b)).abs() < 1e-12, "{found:?}");
        }
        // Far better than with neighbours torn apart.
        let torn = silhouettes(&points, 2, &[0, 1, 0, 1], 2);
        assert!(found.iter().all(|&s| s > 0.7) && torn.iter().sum::<f64>() < 0.0, "{torn:?}");
    }

    #[test]
    fn points_alone_and_single_clusters_have_none() {
        assert_eq!(silhouettes(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 1], 2), [0.0, 0.0]);
        assert_eq!(silhouettes(&[1.0, 0.0, 0.0, 1.0], 2, &[0, 0], 3), [0.0, 0.0]);
        assert_eq!(silhouettes(&[], 2, &[], 0), Vec::<f64>::new());
    }

    /// Two clusters of two on a line, means 1 and 11, and one of two off it, mean (6, 8).
    const SIX: [f64; 12] = [0.0, 0.0, 2.0, 0.0, 10.0, 0.0, 12.0, 0.0, 6.0, 7.0, 6.0, 9.0];

    #[test]
    fn calinski_harabasz_by_hand() {
        // Mean of all (6, 8/3): between 2 (25 + 64/9) + 2 (25 + 64/9) + 2 (256/9) = 100 + 768/9, within 6 times 1.
        let found = calinski_harabasz(&SIX, 2, &[0, 0, 1, 1, 2, 2], 3).unwrap();
        let expected = ((100.0 + 768.0 / 9.0) / 2.0) / (6.0 / 3.0);
        assert!((found - expected).abs() < 1e-12, "{found}");
        // A cluster without points changes nothing.
        assert_eq!(calinski_harabasz(&SIX, 2, &[0, 0, 3, 3, 2, 2], 5), Some(found));
    }

    #[test]
    fn davies_bouldin_by_hand() {
        // Every point is 1 from its mean. The means on the line are 10 apart, each sqrt(25 + 64) from the third.
        let found = davies_bouldin(&SIX, 2, &[0, 0, 1, 1, 2, 2], 3).unwrap();
        assert!((found - 2.0 / 89.0f64.sqrt()).abs() < 1e-12, "{found}");
        // Without the third: 2 / 10.
        let two = davies_bouldin(&SIX[..8], 2, &[0, 0, 4, 4], 5).unwrap();
        assert!((two - 0.2).abs() < 1e-12, "{two}");
    }

    #[test]
    fn indices_on_sixty_directions_are_those_of_scikit_learn() {
        let labels: Vec<u32> = (0..60).map(|at| [0, 1, 2, 3, 0, 1, 0][at % 7]).collect();
        let mut points: Vec<f64> = Vec::new();
        for (at, &label) in labels.iter().enumerate() {
            let noise = [37, 53, 71].map(|step| ((at * step) % 101) as f64 / 101.0 - 0.5);
            let axis = |axis: usize| match label {
                3 => noise[axis] - 0.8,
                label => noise[axis] + if label as usize == axis { 1.0 } else { 0.0 },
            };
            points.extend([0, 1, 2].map(axis));
        }
        super::super::kmeans::normalise(&mut points, 3);
        // scikit-learn 1.9.1: calinski_harabasz_score, davies_bouldin_score, silhouette_score(metric="cosine").
        let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-12, "{found}");
        close(calinski_harabasz(&points, 3, &labels, 4).unwrap(), 96.456_607_118_187_24);
        close(davies_bouldin(&points, 3, &labels, 4).unwrap(), 0.551_621_160_688_494_9);
        close(silhouettes(&points, 3, &labels, 4).iter().sum::<f64>() / 60.0, 0.799_764_049_258_831);
    }

    #[test]
    fn clusters_farther_apart_have_a_larger_calinski_harabasz_and_a_smaller_davies_bouldin() {
        let labels: Vec<u32> = (0..300).map(|at| at % 3).collect();
        let (mut last_ch, mut last_db) = (0.0, f64::INFINITY);
        for apart in [0.0, 0.5, 1.0, 2.0, 8.0] {
            let points: Vec<f64> = (0..300)
                .flat_map(|at| {
                    let noise = |step: usize| ((at * step) % 101) as f64 / 101.0 - 0.5;
                    [0, 1, 2].map(|axis| noise([37, 53, 71][axis]) + if at % 3 == axis { apart } else { 0.0 })
                })
                .collect();
            let ch = calinski_harabasz(&points, 3, &labels, 3).unwrap();
            let db = davies_bouldin(&points, 3, &labels, 3).unwrap();
            assert!(
                ch > last_ch && db < last_db,
                "{apart} apart: {ch} after {last_ch}, {db} after {last_db}"
            );
            (last_ch, last_db) = (ch, db);
        }
    }

    #[test]
    fn indices_of_separation_are_none_where_they_are_not_defined() {
        for of in [calinski_harabasz, davies_bouldin] {
            assert_eq!(of(&[], 2, &[], 0), None);
            assert_eq!(of(&SIX, 2, &[0; 6], 3), None, "one cluster");
            assert_eq!(of(&[1.0; 8], 2, &[0, 0, 1, 1], 2), None, "all points coincide");
        }
        assert_eq!(calinski_harabasz(&SIX[..4], 2, &[0, 1], 2), None, "as many clusters as points");
        assert_eq!(davies_bouldin(&SIX[..4], 2, &[0, 1], 2), Some(0.0));
    }

    #[test]
    fn source_entropy_by_hand() {
        assert_eq!(source_entropy_bits(&[vec![4, 0], vec![0, 6]]), 0.0);
        // 8 points of an even mixture, 2 of one domain.
        assert_eq!(source_entropy_bits(&[vec![4, 4], vec![2, 0]]), 0.8);
        assert_eq!(source_entropy_bits(&[vec![1, 1, 1, 1]]), 2.0);
        assert_eq!(source_entropy_bits(&[]), 0.0);
    }

    #[test]
    fn purity_by_hand() {
        assert_eq!(purity(&[vec![4, 0], vec![0, 6]]), 1.0);
        assert_eq!(purity(&[vec![3, 1], vec![2, 4]]), 0.7);
        assert_eq!(purity(&[vec![5, 5], vec![5, 5]]), 0.5);
        assert_eq!(purity(&[]), 0.0);
    }
}
