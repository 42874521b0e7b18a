//! From numbers to places on an axis, and the round numbers that label it.

/// How an axis spaces its values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences, equal distances.
    #[default]
    Linear,
    /// Equal ratios, equal distances; values that are not positive cannot be shown.
    Log,
}

/// More would be no help to anybody.
const MOST_TICKS: i64 = 1000;

/// A scale with its range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Wide enough for `values`, with a little air (`air` of the range at either end); none when no value can be shown.
    pub(super) fn around(scale: Scale, values: impl Iterator<Item = f64>, air: f64) -> Option<Self> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|&value| showable(scale, value)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return None;
        }
        if low == high {
            // One value: give it room on both sides.
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.5 };
            (low, high) = match scale {
                Scale::Linear => (low - room, high + room),
                Scale::Log => (low / 2.0, high * 2.0),
            };
        }
        (low, high) = match scale {
            Scale::Linear => (low - air * (high - low), high + air * (high - low)),
            Scale::Log => (low / (high / low).powf(air), high * (high / low).powf(air)),
        };
        Some(Self { scale, low, high })
    }

    /// From 0 to `high`.
    pub(super) fn from_zero(high: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        let step = nice_step(high / 4.0);
        Self { scale: Scale::Linear, low: 0.0, high: (high / step - 1e-9).ceil() * step }
    }

    /// Where `value` lies between 0 (low end) and 1 (high end); none when it cannot be shown.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        if !showable(self.scale, value) {
            return None;
        }
        let at = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        Some(at.clamp(0.0, 1.0))
    }

    /// About `count` round values within the range, ascending, with enough decimals to tell them apart.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = nice_step((self.high - self.low) / count.max(1) as f64);
                let (first, last) =
                    ((self.low / step - 1e-9).ceil() as i64, (self.high / step + 1e-9).floor() as i64);
                // Values at the ends of what numbers can be have no round ones between them.
                if !step.is_normal() || last.saturating_sub(first) > MOST_TICKS {
                    return Vec::new();
                }
                (first..=last).map(|tick| (tick as f64 * step, label(tick as f64 * step, step))).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let multiples: &[f64] = match decades {
                    few if few < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
                    few if few < 2.5 => &[1.0, 2.0, 5.0],
                    _ => &[1.0],
                };
                let (first, last) = (self.low.log10().floor(), self.high.log10().ceil());
                if !(first.is_finite() && last.is_finite()) {
                    return Vec::new();
                }
                let (first, last) = (first as i32, last as i32);
                (first..=last)
                    .flat_map(|decade| multiples.iter().map(move |multiple| multiple * 10f64.powi(decade)))
                    .filter(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick))
                    .map(|tick| (tick, label(tick, tick)))
                    .collect()
            }
        }
    }
}

fn showable(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

/// The smallest of 1, 2, 2.5 or 5 times a power of ten that is not below `raw`.
fn nice_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|multiple| multiple * power)
        .find(|&step| step >= raw * 0.999_999)
        .unwrap_or(power)
}

/// `value` as an axis says it, with the decimals that a distance of `step` needs.
fn label(value: f64, step: f64) -> String {
    let size = value.abs();
    if size >= 1e6 {
        return trim(format!("{:.2}", value / 1e6)) + "M";
    }
    if size >= 1e4 {
        return trim(format!("{:.1}", value / 1e3)) + "k";
    }
    if size > 0.0 && size < 1e-3 {
        return format!("{:e}", (value / step * 1e6).round() * step / 1e6)
            .split_once('e')
            .map_or(String::new(), |(digits, power)| {
                format!("{}e{power}", trim(format!("{:.1}", digits.parse().unwrap_or(0.0))))
            });
    }
    trim(format!("{value:.*}", (2.0 - step.log10().floor()).clamp(0.0, 8.0) as usize))
}

fn trim(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Scale};

    fn labels(axis: Axis) -> Vec<String> {
        axis.ticks(5).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_within() {
        let axis = Axis::around(Scale::Linear, [1.0, 6.0].into_iter(), 0.0).unwrap();
        assert_eq!(labels(axis), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(axis.place(1.0), Some(0.0));
        assert_eq!(axis.place(6.0), Some(1.0));
        let airy = Axis::around(Scale::Linear, [1.0, 6.0].into_iter(), 0.1).unwrap();
        assert!((airy.place(1.0).unwrap() - 0.5 / 6.0).abs() < 1e-12);
        assert_eq!(labels(Axis::from_zero(3e-4)), ["0", "1e-4", "2e-4", "3e-4"]);
        assert_eq!(labels(Axis::from_zero(52_000.0)), ["0", "20k", "40k", "60k"]);
    }

    #[test]
    fn log_ticks_and_places() {
        let axis = Axis::around(Scale::Log, [0.01, 0.0, -3.0, f64::NAN, 100.0].into_iter(), 0.0).unwrap();
        assert_eq!(labels(axis), ["0.01", "0.1", "1", "10", "100"]);
        assert!((axis.place(1.0).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(axis.place(0.0), None);
    }

    #[test]
    fn no_values_and_one_value() {
        assert!(Axis::around(Scale::Linear, [f64::NAN].into_iter(), 0.1).is_none());
        let axis = Axis::around(Scale::Linear, [3.0].into_iter(), 0.1).unwrap();
        assert!((axis.place(3.0).unwrap() - 0.5).abs() < 1e-12);
    }
}
