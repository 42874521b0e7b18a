//! A line chart as SVG. Colours come from the page's style sheet, so one picture serves light and dark.

use std::fmt::Write;

use super::html::{escape, px};
use super::scale::{Axis, Scale};

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Thin and pale: the raw measurements behind a smoothed line.
    Faint,
    /// A plain line.
    Line,
    /// A line with a dot at every point.
    Dots,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is, for the label at its end.
    pub name: String,
    /// (x, y), ascending in x. Points that are not finite (or not positive on a log scale) interrupt the line.
    pub points: Vec<(f64, f64)>,
    /// Index of its colour; after eight they repeat with dashes.
    pub colour: usize,
    /// How it is drawn.
    pub look: Look,
}

/// A chart of one or more series over a common x axis.
#[derive(Debug, Clone)]
pub struct LineChart {
    /// Read out in place of the picture.
    pub title: String,
    /// Under the x axis.
    pub x_label: String,
    /// Above the y axis.
    pub y_label: String,
    /// Spacing of the y axis.
    pub y_scale: Scale,
    /// Whether a linear y axis begins at zero.
    pub from_zero: bool,
    /// Decimals of values in tooltips.
    pub decimals: usize,
    /// Width and height in pixels; the page scales the picture to its column.
    pub size: (f64, f64),
    /// The lines, the last one on top.
    pub series: Vec<Series>,
}

/// Most points that a line is drawn with: more than there are pixels only makes the page heavy.
const MOST_POINTS: usize = 1400;
/// Most tooltips on one line.
const MOST_TOOLTIPS: usize = 120;

impl LineChart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let (width, height) = self.size;
        let labels = self.series.len() > 1;
        let longest = self.series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0);
        let right = if labels { (22.0 + 7.2 * longest as f64).min(width / 3.0) } else { 16.0 };
        let frame = Frame { left: 54.0, right: width - right, top: 30.0, bottom: height - 40.0 };

        let all = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let xs = Axis::around(Scale::Linear, all().map(|(x, _)| x), 0.0);
        let ys = match (self.from_zero, self.y_scale) {
            (true, Scale::Linear) => {
                let high = all().map(|(_, y)| y).filter(|y| y.is_finite()).fold(f64::NEG_INFINITY, f64::max);
                high.is_finite().then(|| Axis::from_zero(high))
            }
            _ => Axis::around(self.y_scale, all().map(|(_, y)| y), 0.04),
        };
        let mut out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            px(width),
            px(height),
            escape(&self.title)
        );
        let (Some(xs), Some(ys)) = (xs, ys) else {
            let _ = writeln!(
                out,
                "<text class=\"empty\" x=\"{}\" y=\"{}\">nothing measured yet</text></svg>",
                px(width / 2.0),
                px(height / 2.0)
            );
            return out;
        };
        self.draw_axes(&mut out, &frame, &xs, &ys);
        for series in &self.series {
            self.draw_series(&mut out, &frame, &xs, &ys, series);
        }
        if labels {
            draw_labels(&mut out, &frame, &ys, &self.series);
        }
        out.push_str("</svg>\n");
        out
    }

    fn draw_axes(&self, out: &mut String, frame: &Frame, xs: &Axis, ys: &Axis) {
        frame.draw_rows(out, ys, "");
        let (left, right, bottom) = (px(frame.left), px(frame.right), px(frame.bottom));
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        );
        // Steps and layers have no halves.
        let whole = self.series.iter().flat_map(|series| &series.points).all(|(x, _)| x.fract() == 0.0);
        let ticks = xs.ticks(((frame.right - frame.left) / 90.0) as usize);
        for (value, label) in ticks.into_iter().filter(|(value, _)| !whole || value.fract() == 0.0) {
            frame.draw_column(out, xs.place(value).unwrap_or(0.0), &label);
        }
        frame.draw_names(out, &self.x_label, &self.y_label);
    }

    fn draw_series(&self, out: &mut String, frame: &Frame, xs: &Axis, ys: &Axis, series: &Series) {
        let at = |&(x, y): &(f64, f64)| Some((frame.x(xs.place(x)?), frame.y(ys.place(y)?)));
        let mut path = String::new();
        let mut pen_down = false;
        for point in thin(&series.points) {
            match at(&point) {
                Some((x, y)) => {
                    let _ = write!(path, "{}{} {}", if pen_down { 'L' } else { 'M' }, px(x), px(y));
                    pen_down = true;
                }
                None => pen_down = false,
            }
        }
        let look = match series.look {
            Look::Faint => "line faint",
            Look::Line | Look::Dots => "line",
        };
        let _ = writeln!(out, "<path class=\"{look} {}\" d=\"{path}\"/>", colour_class(series.colour));
        if series.look == Look::Faint {
            return;
        }
        let every = match series.look {
            Look::Dots => 1,
            _ => series.points.len().div_ceil(MOST_TOOLTIPS).max(1),
        };
        let mark = if series.look == Look::Dots { "dot" } else { "hit" };
        let radius = if series.look == Look::Dots { "2.6" } else { "6" };
        for (index, point) in series.points.iter().enumerate() {
            if index % every != 0 && index + 1 != series.points.len() {
                continue;
            }
            let Some((x, y)) = at(point) else { continue };
            let _ = writeln!(
                out,
                "<circle class=\"{mark} {}\" cx=\"{}\" cy=\"{}\" r=\"{radius}\"><title>{}, {} {}: {:.*}</title></circle>",
                colour_class(series.colour),
                px(x),
                px(y),
                escape(&series.name),
                escape(&self.x_label),
                point.0,
                self.decimals,
                point.1
            );
        }
    }
}

/// The drawing area within a picture.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Frame {
    pub(super) fn x(&self, place: f64) -> f64 {
        self.left + place * (self.right - self.left)
    }
    pub(super) fn y(&self, place: f64) -> f64 {
        self.bottom - place * (self.bottom - self.top)
    }

    /// A line across and a number at every round value of `ys`, in `unit`.
    pub(super) fn draw_rows(&self, out: &mut String, ys: &Axis, unit: &str) {
        let count = if self.bottom - self.top < 140.0 { 4 } else { 5 };
        for (value, label) in ys.ticks(count) {
            let y = px(self.y(ys.place(value).unwrap_or(0.0)));
            let (left, right, text) = (px(self.left), px(self.right), px(self.left - 8.0));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\"/>\
                 <text class=\"tick y\" x=\"{text}\" y=\"{y}\" dy=\"0.32em\">{}{unit}</text>",
                escape(&label)
            );
        }
    }

    /// What stands under the x axis at one place.
    pub(super) fn draw_column(&self, out: &mut String, place: f64, label: &str) {
        let _ = writeln!(
            out,
            "<text class=\"tick x\" x=\"{}\" y=\"{}\">{}</text>",
            px(self.x(place)),
            px(self.bottom + 17.0),
            escape(label)
        );
    }

    /// What the axes are.
    pub(super) fn draw_names(&self, out: &mut String, x_label: &str, y_label: &str) {
        let _ = writeln!(
            out,
            "<text class=\"name x\" x=\"{}\" y=\"{}\">{}</text><text class=\"name\" x=\"0\" y=\"12\">{}</text>",
            px((self.left + self.right) / 2.0),
            px(self.bottom + 35.0),
            escape(x_label),
            escape(y_label)
        );
    }
}

/// The classes that give a series its colour.
pub(super) fn colour_class(colour: usize) -> String {
    let dashes = if colour >= super::page::COLOURS { " again" } else { "" };
    format!("s{}{dashes}", colour % super::page::COLOURS)
}

/// Names at the ends of their lines, moved apart where lines end close together.
fn draw_labels(out: &mut String, frame: &Frame, ys: &Axis, series: &[Series]) {
    let mut labels: Vec<(f64, &Series)> = series
        .iter()
        .filter_map(|series| {
            let last = series.points.iter().rev().find_map(|&(_, y)| ys.place(y))?;
            Some((frame.y(last), series))
        })
        .collect();
    apart(&mut labels, frame.bottom);
    for (y, series) in labels {
        let _ = writeln!(
            out,
            "<text class=\"label{} {}\" x=\"{}\" y=\"{}\" dy=\"0.32em\">{}</text>",
            if series.look == Look::Faint { " pale" } else { "" },
            colour_class(series.colour),
            px(frame.right + 9.0),
            px(y),
            escape(&series.name)
        );
    }
}

/// Sorts labels by their heights and moves them so far apart that none covers another, above `bottom`.
pub(super) fn apart<T>(labels: &mut [(f64, T)], bottom: f64) {
    const ROW: f64 = 16.0;
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    for index in 1..labels.len() {
        labels[index].0 = labels[index].0.max(labels[index - 1].0 + ROW);
    }
    // What was pushed out at the bottom goes up again, and its neighbours with it.
    let mut floor = bottom;
    for (y, _) in labels.iter_mut().rev() {
        *y = y.min(floor);
        floor = *y - ROW;
    }
}

/// At most [`MOST_POINTS`] of `points`: the lowest and the highest of every stretch, so that no spike is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    points
        .chunks(stretch)
        .flat_map(|chunk| {
            let by_y = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (low, high) = (chunk.iter().min_by(by_y), chunk.iter().max_by(by_y));
            let mut pair: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
            pair.sort_by(|a, b| a.0.total_cmp(&b.0));
            pair
        })
        .collect()
}

/// The mean of `values` around each point, with weights that halve every `half_life` values away on either side, so that the
/// curve does not lag behind what it smooths; what is not finite is passed over.
pub(super) fn smooth(values: &[(f64, f64)], half_life: f64) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = values.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let keep = 0.5f64.powf(1.0 / half_life.max(1e-9));
    // (weighted sum, weight) of each value and of all on one side of it.
    let one_sided = |state: &mut (f64, f64), &(_, value): &(f64, f64)| {
        *state = (keep * state.0 + value, keep * state.1 + 1.0);
        Some(*state)
    };
    let before: Vec<(f64, f64)> = finite.iter().scan((0.0, 0.0), one_sided).collect();
    let mut after: Vec<(f64, f64)> = finite.iter().rev().scan((0.0, 0.0), one_sided).collect();
    after.reverse();
    finite
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(&(x, value), (before, after))| (x, (before.0 + after.0 - value) / (before.1 + after.1 - 1.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{MOST_POINTS, smooth, thin};

    #[test]
    fn thinning_keeps_the_spike() {
        let mut points: Vec<(f64, f64)> =
            (0..100_000).map(|i| (f64::from(i), (f64::from(i) / 50.0).sin())).collect();
        points[43_210].1 = 99.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= MOST_POINTS);
        assert!(thinned.contains(&(43_210.0, 99.0)));
        assert!(thinned.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn smoothing_keeps_a_constant_and_does_not_lag() {
        let constant = smooth(&[(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0)], 3.0);
        assert!(constant.len() == 2 && constant.iter().all(|point| (point.1 - 2.0).abs() < 1e-12));
        let slope: Vec<(f64, f64)> = (0..2001).map(|i| (f64::from(i), f64::from(i))).collect();
        assert!((smooth(&slope, 10.0)[1000].1 - 1000.0).abs() < 1e-9);
        // An impulse spreads symmetrically and halves at its half-life.
        let mut impulse = vec![(0.0, 0.0); 401];
        impulse[200].1 = 1.0;
        let spread = smooth(&impulse, 10.0);
        assert!(
            (spread[210].1 / spread[200].1 - 0.5).abs() < 1e-6
                && (spread[210].1 - spread[190].1).abs() < 1e-12
        );
    }
}
