//! How good clusters are: apart from each other, and alike in domain.

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

    #[test]
    fn purity_by_hand() {
        assert_eq!(purity(&[vec![4, 0], vec![0, 6]]), 1.0);
        assert_eq!(purity(&[vec![3, 1], vec![2, 4]]), 0.7);
        assert_eq!(purity(&[vec![5, 5], vec![5, 5]]), 0.5);
        assert_eq!(purity(&[]), 0.0);
    }
}
