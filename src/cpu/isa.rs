//! The instruction sets the CPU backend is compiled for, chosen at run time.

/// An instruction set. Every one computes the same ops; results of two sets may differ in the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust on arrays of eight lanes; runs everywhere.
    Portable,
    /// AVX2 with FMA and POPCNT: eight lanes.
    Avx2,
    /// AVX-512 F, BW, VL and DQ: sixteen lanes.
    Avx512,
    /// The same with the products of pairs of AVX-512 BF16. Only products of bf16 matrices differ from [`Isa::Avx512`].
    Avx512Bf16,
}

impl Isa {
    /// All instruction sets, the widest first.
    const ALL: [Isa; 4] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// The widest instruction set of this processor.
    pub fn detect() -> Isa {
        Self::available().next().unwrap_or(Isa::Portable)
    }

    /// Every instruction set of this processor, the widest first; tests force each one.
    pub fn available() -> impl Iterator<Item = Isa> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this processor can run it.
    #[cfg(target_arch = "x86_64")]
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("popcnt")
            }
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            Isa::Avx512Bf16 => Isa::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    /// Whether this processor can run it.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn is_available(self) -> bool {
        self == Isa::Portable
    }

    /// This set, or [`Isa::Portable`] where the processor lacks it.
    pub fn or_portable(self) -> Isa {
        if self.is_available() { self } else { Isa::Portable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_detect_is_the_first() {
        let all: Vec<_> = Isa::available().collect();
        assert_eq!(all.last(), Some(&Isa::Portable));
        assert_eq!(all[0], Isa::detect());
        assert!(all.windows(2).all(|w| w[0] > w[1]));
    }
}
