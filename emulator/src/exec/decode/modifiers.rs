//! The modifiers of an opcode, taken one by one; what is left over is unknown.

use super::Unknown;
use crate::exec::code::{CvtRound, FloatMode, Round};
use crate::ptx::ast::Type;

pub(super) struct Modifiers<'a> {
    left: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    pub(super) fn new(left: Vec<&'a str>) -> Self {
        Self { left }
    }

    /// Takes a modifier if it is there.
    pub(super) fn take(&mut self, wanted: &str) -> bool {
        match self.left.iter().position(|&modifier| modifier == wanted) {
            Some(at) => {
                self.left.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes the first modifier that `meaning` knows.
    pub(super) fn take_first<T>(&mut self, meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, found) =
            self.left.iter().enumerate().find_map(|(at, m)| meaning(m).map(|found| (at, found)))?;
        self.left.remove(at);
        Some(found)
    }

    /// As [`take_first`](Self::take_first); it must be there.
    pub(super) fn need<T>(&mut self, what: &str, meaning: impl Fn(&str) -> Option<T>) -> Result<T, Unknown> {
        self.take_first(meaning).ok_or_else(|| match self.left.is_empty() {
            true => format!("no {what}"),
            false => format!("{what} in `.{}`", self.left.join(".")),
        })
    }

    pub(super) fn ty(&mut self) -> Result<Type, Unknown> {
        self.need("type", Type::parse)
    }

    pub(super) fn float_mode(&mut self) -> Result<FloatMode, Unknown> {
        let round = self.take_first(|m| match m {
            "rn" => Some(Round::Nearest),
            "rz" => Some(Round::Zero),
            "rm" => Some(Round::Down),
            "rp" => Some(Round::Up),
            _ => None,
        });
        Ok(FloatMode {
            round: round.unwrap_or(Round::Nearest),
            flush: self.take("ftz"),
            saturate: self.take("sat"),
            relu: self.take("relu"),
        })
    }

    pub(super) fn cvt_round(&mut self) -> CvtRound {
        self.take_first(|m| match m {
            "rn" => Some(CvtRound::Nearest),
            "rz" => Some(CvtRound::Zero),
            "rm" => Some(CvtRound::Down),
            "rp" => Some(CvtRound::Up),
            "rna" => Some(CvtRound::NearestAway),
            "rni" => Some(CvtRound::IntNearest),
            "rzi" => Some(CvtRound::IntZero),
            "rmi" => Some(CvtRound::IntDown),
            "rpi" => Some(CvtRound::IntUp),
            _ => None,
        })
        .unwrap_or(CvtRound::None)
    }

    /// Drops hints on caches and on the order of memory operations, which this memory need not know.
    pub(super) fn drop_cache_hints(&mut self) {
        self.left.retain(|m| {
            !matches!(
                *m,
                "ca" | "cg"
                    | "cs"
                    | "lu"
                    | "cv"
                    | "wb"
                    | "wt"
                    | "nc"
                    | "weak"
                    | "relaxed"
                    | "acquire"
                    | "release"
                    | "acq_rel"
                    | "volatile"
                    | "cta"
                    | "cluster"
                    | "gpu"
                    | "sys"
                    | "mmio"
                    | "unified"
            ) && !m.starts_with("L1::")
                && !m.starts_with("L2::")
        });
    }

    pub(super) fn finish(&self) -> Result<(), Unknown> {
        match self.left.is_empty() {
            true => Ok(()),
            false => Err(format!("`.{}`", self.left.join("."))),
        }
    }
}
