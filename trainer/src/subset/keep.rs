//! `--keep`: how many experts of a layer.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// How many experts to keep in each layer, shared ones included, as written on the command line: `16`, `12.5%`, or a list
/// with one entry for each layer with experts (`16,16,8,8`).
#[derive(Debug, Clone, PartialEq)]
pub struct Keep(Vec<Amount>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Experts(usize),
    Percent(f64),
}

impl Amount {
    /// Of a layer with `experts` experts; a share is rounded to the nearest whole number.
    fn of(self, experts: usize) -> usize {
        match self {
            Self::Experts(kept) => kept,
            Self::Percent(percent) => (percent / 100.0 * experts as f64).round() as usize,
        }
    }
}

impl FromStr for Amount {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refused = || {
            format!(
                "expected a number of experts such as 16, a share such as 12.5%, or a list of these, found `{text}`"
            )
        };
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Experts).map_err(|_| refused()),
            Some(number) => {
                let percent = number.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
                percent.map(Self::Percent).ok_or_else(refused)
            }
        }
    }
}

impl FromStr for Keep {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        text.split(',').map(|part| part.trim().parse()).collect::<std::result::Result<_, _>>().map(Self)
    }
}

impl Keep {
    /// `experts` in every layer.
    #[must_use]
    pub fn experts(experts: usize) -> Self {
        Self(vec![Amount::Experts(experts)])
    }

    /// Routed experts to keep in each layer with experts: `K` less the shared ones.
    ///
    /// # Errors
    /// `K` that leaves a layer no routed expert, or is more than it has; a list of another length than the model's.
    pub fn routed(&self, config: &ModelConfig) -> Result<Vec<usize>> {
        let layers = config.moe_layers().count();
        if layers == 0 {
            return Err(Error::Usage("the model has no experts to choose from".into()));
        }
        if self.0.len() != 1 && self.0.len() != layers {
            let found = self.0.len();
            return Err(Error::Usage(format!(
                "--keep must have one entry, or one for each of the {layers} layers with experts; found {found}"
            )));
        }
        let each = config.moe_layers().zip(self.0.iter().cycle()).map(|((layer, moe), amount)| {
            let kept = amount.of(moe.experts);
            if kept <= moe.shared {
                return Err(Error::Usage(format!(
                    "--keep {kept} is too small: layer {layer} has {} shared experts, which are always kept and counted, \
                     and needs at least one more",
                    moe.shared
                )));
            }
            if kept > moe.experts {
                let experts = moe.experts;
                return Err(Error::Usage(format!("--keep {kept}: layer {layer} has only {experts} experts")));
            }
            Ok(kept - moe.shared)
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    fn routed(keep: &str) -> Result<Vec<usize>> {
        keep.parse::<Keep>().unwrap().routed(&config())
    }

    #[test]
    fn shared_experts_are_counted() {
        assert_eq!(routed("3").unwrap(), [2, 2]);
        assert_eq!(routed("7,2").unwrap(), [6, 1]);
        // 50 % of 7 is 3.5.
        assert_eq!(routed("50%").unwrap(), [3, 3]);
        assert_eq!(routed("100%").unwrap(), [6, 6]);
    }

    #[test]
    fn impossible_numbers_are_refused_in_words() {
        for (keep, word) in
            [("1", "1 shared experts"), ("8", "only 7"), ("3,3,3", "2 layers"), ("0%", "shared")]
        {
            let message = routed(keep).unwrap_err().to_string();
            assert!(message.contains(word), "{keep}: {message}");
        }
        for keep in ["", "x", "-1", "101%", "1,,2", "NaN%"] {
            assert!(keep.parse::<Keep>().is_err(), "{keep}");
        }
    }
}
