//! Colour ramps whose steps look equally far apart: straight lines in the OKLab space (Björn Ottosson, 2020).

/// A colour as lightness (0..1), chroma and hue in degrees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lch(pub(super) f64, pub(super) f64, pub(super) f64);

impl Lch {
    fn lab(self) -> [f64; 3] {
        let (sin, cos) = self.2.to_radians().sin_cos();
        [self.0, self.1 * cos, self.1 * sin]
    }
}

/// `steps` colours from the first stop over all others to the last, as `#rrggbb`.
pub(super) fn ramp(stops: &[Lch], steps: usize) -> Vec<String> {
    (0..steps)
        .map(|step| {
            let place = step as f64 / (steps - 1).max(1) as f64 * (stops.len() - 1) as f64;
            let from = (place as usize).min(stops.len().saturating_sub(2));
            let (a, b) = (stops[from].lab(), stops[(from + 1).min(stops.len() - 1)].lab());
            let t = place - from as f64;
            hex([0, 1, 2].map(|axis| a[axis] + t * (b[axis] - a[axis])))
        })
        .collect()
}

/// OKLab to 8-bit sRGB; what lies outside is clipped.
fn hex([lightness, a, b]: [f64; 3]) -> String {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548 * b).powi(3);
    let linear = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701 * s,
    ];
    let byte = |value: f64| {
        let value = value.clamp(0.0, 1.0);
        let encoded =
            if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
        (255.0 * encoded).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", byte(linear[0]), byte(linear[1]), byte(linear[2]))
}

#[cfg(test)]
mod tests {
    use super::{Lch, ramp};

    #[test]
    fn known_colours() {
        // White, black and sRGB red by their published OKLCH coordinates.
        assert_eq!(ramp(&[Lch(1.0, 0.0, 0.0), Lch(0.0, 0.0, 0.0)], 2), ["#ffffff", "#000000"]);
        assert_eq!(ramp(&[Lch(0.627_955, 0.257_683, 29.234)], 1), ["#ff0000"]);
    }
}
