//! Heat maps of domains by experts, and the legends of their two colour ramps.

use std::fmt::Write;

use super::html::{escape, px};
use super::routing::LayerRouting;

/// Colours of the ramp for shares: none to much.
pub(super) const SHARE_STEPS: usize = 11;
/// Colours of the ramp for ratios: less than even, even in the middle, more than even.
pub(super) const RATIO_STEPS: usize = 13;
/// The ratio at which the ramp ends, on either side.
const RATIO_END: f64 = 8.0;

/// What the colour of a cell shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Measure {
    /// The share of the domain's routed slots; the ramp ends at `most`.
    Share {
        /// The largest share of the report.
        most: f64,
    },
    /// The share over that of even routing, by its logarithm.
    Ratio,
}

impl Measure {
    /// The class of a cell's colour.
    fn class(self, layer: &LayerRouting, domain: usize, expert: usize) -> String {
        match self {
            Measure::Share { most } => {
                let place = if most > 0.0 { layer.share(domain, expert) / most } else { 0.0 };
                format!("h{}", (place.clamp(0.0, 1.0) * (SHARE_STEPS - 1) as f64).round() as usize)
            }
            Measure::Ratio => format!("d{}", ratio_step(layer.ratio(domain, expert))),
        }
    }
}

/// The step of the ratio ramp: logarithmic, clipped at [`RATIO_END`] times more or less.
fn ratio_step(ratio: f64) -> usize {
    let place = (ratio.max(1e-9).ln() / RATIO_END.ln()).clamp(-1.0, 1.0);
    ((place + 1.0) / 2.0 * (RATIO_STEPS - 1) as f64).round() as usize
}

/// One layer: a row for each domain, a column for each expert in `order`.
pub(super) fn svg(
    domains: &[String],
    layer: &LayerRouting,
    order: &[usize],
    measure: Measure,
    width: f64,
) -> String {
    const ROW: f64 = 17.0;
    let longest = domains.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let (left, top) = ((12.0 + 7.0 * longest as f64).min(width / 3.0), 22.0);
    let column = (width - left) / order.len().max(1) as f64;
    // Gaps between cells help the eye only while cells are wide.
    let gap = if column > 7.0 { 1.5 } else { 0.0 };
    let mut out = format!(
        "<svg class=\"chart heat\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Layer {}: experts by domain\">\n\
         <text class=\"name\" x=\"{}\" y=\"13\">layer {}</text>\n",
        px(width),
        px(top + ROW * domains.len() as f64 + 2.0),
        layer.layer,
        px(left),
        layer.layer
    );
    for (domain, name) in domains.iter().enumerate() {
        let y = top + ROW * domain as f64;
        let _ = writeln!(
            out,
            "<text class=\"tick y\" x=\"{}\" y=\"{}\" dy=\"0.32em\">{}</text>",
            px(left - 8.0),
            px(y + (ROW - 1.5) / 2.0),
            escape(name)
        );
        for (place, &expert) in order.iter().enumerate() {
            let _ = writeln!(
                out,
                "<rect class=\"{}\" x=\"{:.2}\" y=\"{}\" width=\"{:.2}\" height=\"{}\"><title>layer {}, {}, expert {expert}: \
                 {} of {} slots = {:.2}% ({:.2}x even)</title></rect>",
                measure.class(layer, domain, expert),
                left + column * place as f64,
                px(y),
                column - gap,
                px(ROW - 1.5),
                layer.layer,
                escape(name),
                layer.count(domain, expert),
                layer.domain_total(domain),
                100.0 * layer.share(domain, expert),
                layer.ratio(domain, expert),
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The colours of a measure with what their ends mean.
pub(super) fn legend(measure: Measure) -> String {
    let (class, steps, marks) = match measure {
        Measure::Share { most } => (
            'h',
            SHARE_STEPS,
            vec![(0.0, "0%".to_owned()), (1.0, format!("{:.1}% of the domain's slots", 100.0 * most))],
        ),
        Measure::Ratio => (
            'd',
            RATIO_STEPS,
            vec![
                (0.0, "an eighth or less".to_owned()),
                (0.5, "even share".to_owned()),
                (1.0, "8x or more".to_owned()),
            ],
        ),
    };
    const LEFT: f64 = 90.0;
    const WIDTH: f64 = 260.0;
    let mut out = format!(
        "<svg class=\"legend\" viewBox=\"0 0 {} 34\" width=\"{}\" height=\"34\" role=\"img\" aria-label=\"Colour key\">\n",
        LEFT + WIDTH + 160.0,
        LEFT + WIDTH + 160.0
    );
    let step_width = WIDTH / steps as f64;
    for step in 0..steps {
        let _ = write!(
            out,
            "<rect class=\"{class}{step}\" x=\"{:.2}\" y=\"2\" width=\"{:.2}\" height=\"11\"/>",
            LEFT + step_width * step as f64,
            step_width + 0.3
        );
    }
    for (place, text) in marks {
        let _ = write!(
            out,
            "<text class=\"key mid\" x=\"{}\" y=\"29\">{}</text>",
            px(LEFT + place * WIDTH),
            escape(&text)
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::{RATIO_STEPS, ratio_step};

    #[test]
    fn ratio_ramp_is_symmetric_about_even() {
        assert_eq!(ratio_step(1.0), RATIO_STEPS / 2);
        assert_eq!((ratio_step(0.0), ratio_step(0.125)), (0, 0));
        assert_eq!((ratio_step(8.0), ratio_step(1e9)), (RATIO_STEPS - 1, RATIO_STEPS - 1));
        assert_eq!(ratio_step(2.0) - RATIO_STEPS / 2, RATIO_STEPS / 2 - ratio_step(0.5));
    }
}
