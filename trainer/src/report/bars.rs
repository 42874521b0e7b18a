//! Horizontal bars in groups: several values of each of a few things, side by side.

use std::fmt::Write;

use super::chart::colour_class;
use super::html::{escape, px};
use super::scale::Axis;

/// The bars of one thing.
#[derive(Debug, Clone)]
pub struct BarGroup {
    /// The thing.
    pub name: String,
    /// One value for each of [`GroupedBars::series`]; what is not finite has no bar.
    pub values: Vec<f64>,
}

/// Groups of horizontal bars from zero.
#[derive(Debug, Clone)]
pub struct GroupedBars {
    /// Read out in place of the picture.
    pub title: String,
    /// What the values are.
    pub value_label: String,
    /// What each bar of a group is, with the index of its colour.
    pub series: Vec<(String, usize)>,
    /// The groups, top to bottom.
    pub groups: Vec<BarGroup>,
    /// Decimals of the values.
    pub decimals: usize,
    /// Width in pixels; the height follows from the bars.
    pub width: f64,
}

const BAR: f64 = 13.0;
const GAP: f64 = 14.0;

impl GroupedBars {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let longest = self.groups.iter().map(|group| group.name.chars().count()).max().unwrap_or(0);
        let (left, right) = ((14.0 + 7.2 * longest as f64).min(self.width / 3.0), self.width - 52.0);
        let group_height = BAR * self.series.len() as f64 + GAP;
        let (top, bottom) = (44.0, 44.0 + group_height * self.groups.len() as f64);
        let values = || self.groups.iter().flat_map(|group| group.values.iter().copied());
        let axis = Axis::from_zero(values().filter(|value| value.is_finite()).fold(0.0, f64::max));
        let x = |value: f64| left + axis.place(value).unwrap_or(0.0) * (right - left);

        let mut out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n\
             <text class=\"name\" x=\"0\" y=\"12\">{}</text>\n",
            px(self.width),
            px(bottom + 24.0),
            escape(&self.title),
            escape(&self.value_label)
        );
        let mut key = 0.0;
        for (name, colour) in &self.series {
            let _ = writeln!(
                out,
                "<rect class=\"bar {}\" x=\"{}\" y=\"23\" width=\"10\" height=\"10\" rx=\"2\"/>\
                 <text class=\"key\" x=\"{}\" y=\"32\">{}</text>",
                colour_class(*colour),
                px(key),
                px(key + 15.0),
                escape(name)
            );
            key += 35.0 + 7.0 * name.chars().count() as f64;
        }
        for (value, label) in axis.ticks(4) {
            let at = px(x(value));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{}\"/>\
                 <text class=\"tick x\" x=\"{at}\" y=\"{}\">{}</text>",
                px(top),
                px(bottom),
                px(bottom + 16.0),
                escape(&label)
            );
        }
        for (row, group) in self.groups.iter().enumerate() {
            let start = top + GAP / 2.0 + group_height * row as f64;
            let middle = start + BAR * self.series.len() as f64 / 2.0;
            let _ = writeln!(
                out,
                "<text class=\"tick y\" x=\"{}\" y=\"{}\" dy=\"0.32em\">{}</text>",
                px(left - 8.0),
                px(middle),
                escape(&group.name)
            );
            for (index, (&value, (name, colour))) in group.values.iter().zip(&self.series).enumerate() {
                if !value.is_finite() {
                    continue;
                }
                let y = start + BAR * index as f64;
                let _ = writeln!(
                    out,
                    "<rect class=\"bar {}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\">\
                     <title>{}, {}: {value:.*}</title></rect>\
                     <text class=\"value\" x=\"{}\" y=\"{}\" dy=\"0.32em\">{value:.*}</text>",
                    colour_class(*colour),
                    px(left),
                    px(y),
                    px((x(value) - left).max(0.5)),
                    px(BAR - 2.0),
                    escape(&group.name),
                    escape(name),
                    self.decimals,
                    px(x(value) + 6.0),
                    px(y + (BAR - 2.0) / 2.0),
                    self.decimals,
                );
            }
        }
        out.push_str("</svg>\n");
        out
    }
}
