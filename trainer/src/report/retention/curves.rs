//! The curves, and the chart they stand in.

use std::fmt::Write;

use super::size::Size;
use super::{Mean, Shown, Subset};
use crate::report::chart::{Frame, apart, colour_class};
use crate::report::html::{escape, px};
use crate::report::scale::{Axis, Scale};
use crate::subset::select::Method;

/// One size of subset.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    /// Experts kept.
    pub(super) size: Size,
    /// Rise of the loss in percent.
    pub(super) rise: f64,
    /// Of the mean of the domains: the worst domain's rise in percent. Of one domain: its bits per byte.
    pub(super) beside: f64,
}

/// The subsets of one model that were chosen in one way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Index of the model.
    pub(super) model: usize,
    /// What it is called.
    pub(super) name: String,
    /// Index of its colour.
    pub(super) colour: usize,
    /// How experts were ranked.
    pub(super) method: Method,
    /// By how many documents; none where none is looked at.
    pub(super) documents: Option<usize>,
    /// What was measured: the mean of all domains, or one.
    pub(super) domain: Option<String>,
    /// Most experts first.
    pub(super) points: Vec<Point>,
}

impl Curve {
    /// The curves of all models: of `domain`, or the mean of the domains.
    pub(super) fn all(models: &[Shown], domain: Option<&str>) -> Vec<Self> {
        let mut curves: Vec<Self> = Vec::new();
        for (model, shown) in models.iter().enumerate() {
            for (method, documents, point) in points(shown, domain) {
                let documents = (method != Method::Random).then_some(documents);
                let same = |curve: &&mut Curve| {
                    (curve.model, curve.method, curve.documents) == (model, method, documents)
                };
                match curves.iter_mut().find(same) {
                    Some(curve) => curve.points.push(point),
                    None => curves.push(Self {
                        model,
                        name: shown.name.to_owned(),
                        colour: shown.colour,
                        method,
                        documents,
                        domain: domain.map(str::to_owned),
                        points: vec![point],
                    }),
                }
            }
        }
        for curve in &mut curves {
            curve.points.sort_by(|a, b| a.size.halvings().total_cmp(&b.size.halvings()));
        }
        curves
    }

    /// What the script filters by; hidden where its number of documents is not the `first` one shown.
    pub(super) fn attributes(&self, documents: Option<usize>, first: Option<usize>) -> String {
        let mut out =
            format!(" data-model=\"{}\" data-method=\"{}\"", escape(&self.name), self.method.name());
        if let Some(documents) = documents {
            let _ = write!(out, " data-documents=\"{documents}\"");
        }
        if documents.is_some() && first.is_some() && documents != first {
            out.push_str(" hidden");
        }
        out
    }

    /// A point in words.
    fn title(&self, point: &Point) -> String {
        let domain = self.domain.as_ref().map_or(String::new(), |domain| format!("{domain}, "));
        let chosen = self.documents.map_or(String::new(), |count| format!(", {}", super::documents(count)));
        let beside = match self.domain {
            Some(_) => format!("{:.4} bits per byte", point.beside),
            None => format!("worst domain {:+.2}%", point.beside),
        };
        format!(
            "{domain}{}, {}{chosen}, {} experts ({}): {:+.2}%, {beside}",
            self.name,
            self.method.name(),
            point.size.counts(),
            point.size.share(),
            point.rise
        )
    }
}

fn points(model: &Shown, domain: Option<&str>) -> Vec<(Method, usize, Point)> {
    let found = &model.measured.found;
    let Some(domain) = domain else {
        let point = |mean: &Mean| {
            let (rise, beside) = (100.0 * mean.mean, 100.0 * mean.worst);
            (mean.method, mean.documents, Point { size: mean.size.clone(), rise, beside })
        };
        return found.means.iter().map(point).collect();
    };
    let point = |subset: &Subset| {
        let (rise, beside) = (100.0 * subset.rise, subset.bits_per_byte);
        (subset.method, subset.documents, Point { size: subset.size.clone(), rise, beside })
    };
    let of = |subset: &&Subset| subset.domain == domain && subset.chosen_for == domain;
    found.subsets.iter().filter(of).map(point).collect()
}

/// A chart of curves: halvings of the experts against the rise in percent.
pub(super) struct Chart<'a> {
    /// Read out in place of the picture.
    pub(super) title: &'a str,
    /// The number of documents that is shown at first.
    pub(super) first: Option<usize>,
    /// Width and height in pixels.
    pub(super) size: (f64, f64),
    /// Whether names stand at the ends of the lines.
    pub(super) named: bool,
}

impl Chart<'_> {
    /// The picture of `curves` on axes wide enough for `all`, which were chosen by `counts` of documents.
    pub(super) fn svg<'a>(
        &self,
        curves: &[Curve],
        all: impl IntoIterator<Item = &'a Curve>,
        counts: &[usize],
    ) -> String {
        let (width, height) = self.size;
        let label = |curve: &Curve| format!("{}, {}", curve.name, curve.method.name());
        let longest = curves.iter().map(|curve| label(curve).chars().count()).max().unwrap_or(0);
        let right = if self.named { (22.0 + 7.2 * longest as f64).min(width / 3.0) } else { 22.0 };
        let frame = Frame { left: 54.0, right: width - right, top: 30.0, bottom: height - 40.0 };
        let all: Vec<&Point> = all.into_iter().flat_map(|curve| &curve.points).collect();
        let whole = Point { size: Size::WHOLE, rise: 0.0, beside: 0.0 };
        let mut sizes: Vec<&Size> = all.iter().map(|point| &point.size).chain([&whole.size]).collect();
        sizes.sort_by(|a, b| a.halvings().total_cmp(&b.halvings()));
        let xs = Axis::around(Scale::Linear, sizes.iter().map(|size| size.halvings()), 0.0);
        let rises = all.iter().map(|point| point.rise).chain([0.0]);
        let ys = Axis::around(Scale::Linear, rises, 0.04);
        let (Some(xs), Some(ys)) = (xs, ys) else { return String::new() };

        let mut out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            px(width),
            px(height),
            escape(self.title)
        );
        frame.draw_rows(&mut out, &ys, "%");
        let zero = px(frame.y(ys.place(0.0).unwrap_or(0.0)));
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{zero}\" y2=\"{zero}\"/>",
            px(frame.left),
            px(frame.right)
        );
        let mut free = f64::NEG_INFINITY;
        for size in sizes {
            let place = xs.place(size.halvings()).unwrap_or(0.0);
            if frame.x(place) >= free {
                frame.draw_column(&mut out, place, &size.share());
                free = frame.x(place) + 46.0;
            }
        }
        frame.draw_names(&mut out, "experts kept", "rise of bits per byte");
        let at = |point: &Point| {
            let place = |axis: &Axis, value| axis.place(value).unwrap_or(0.0);
            (frame.x(place(&xs, point.size.halvings())), frame.y(place(&ys, point.rise)))
        };
        for curve in curves {
            self.draw(&mut out, curve, at);
        }
        if self.named {
            // Another number of documents, other ends of the lines.
            let each = counts.iter().map(|&count| Some(count));
            for count in each.chain(counts.is_empty().then_some(None)) {
                let here =
                    curves.iter().filter(|curve| curve.documents.is_none() || curve.documents == count);
                let ends = here.filter_map(|curve| Some((at(curve.points.last()?).1, curve)));
                let mut labels: Vec<(f64, &Curve)> = ends.collect();
                apart(&mut labels, frame.bottom);
                for (y, curve) in labels {
                    let _ = writeln!(
                        out,
                        "<text class=\"label {}\"{} x=\"{}\" y=\"{}\" dy=\"0.32em\">{}</text>",
                        colour_class(curve.colour),
                        curve.attributes(count, self.first),
                        px(frame.right + 9.0),
                        px(y),
                        escape(&label(curve))
                    );
                }
            }
        }
        out.push_str("</svg>\n");
        out
    }

    /// A line from the whole model on, and its points.
    fn draw(&self, out: &mut String, curve: &Curve, at: impl Fn(&Point) -> (f64, f64)) {
        let whole = Point { size: Size::WHOLE, rise: 0.0, beside: 0.0 };
        let places: Vec<(f64, f64)> = std::iter::once(&whole).chain(&curve.points).map(&at).collect();
        let path: Vec<String> = places.iter().map(|&(x, y)| format!("{} {}", px(x), px(y))).collect();
        let _ = writeln!(
            out,
            "<g class=\"curve {}\"{}><path class=\"line by-{}\" d=\"M{}\"/>",
            colour_class(curve.colour),
            curve.attributes(curve.documents, self.first),
            curve.method.name(),
            path.join("L")
        );
        for (point, (x, y)) in curve.points.iter().zip(&places[1..]) {
            let _ = writeln!(
                out,
                "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"3\"><title>{}</title></circle>",
                px(*x),
                px(*y),
                escape(&curve.title(point))
            );
        }
        out.push_str("</g>\n");
    }
}
