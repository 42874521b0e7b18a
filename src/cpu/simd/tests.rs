//! Every instruction set against f64.

use super::*;

struct Map<'a, F>(&'a mut [f32], F);
trait Function {
    fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F;
}
impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.0.chunks_mut(S::LANES) {
            let y = self.1.apply(s, s.load_partial(x, 0.0));
            s.store_partial(x, y);
        }
    }
}

macro_rules! functions {
    ($($name:ident $method:ident),*) => {$(
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>(&self, s: S, x: S::F) -> S::F { s.$method(x) }
        }
    )*};
}
functions!(Exp exp, Sigmoid sigmoid, Tanh tanh, Erf erf, Sqrt sqrt, Round round);

/// Magnitudes from 1e-6 to 1e4 of both signs, and a fine grid where the functions bend.
fn arguments() -> Vec<f32> {
    let wide = (0..4000).map(|i| 10f32.powf(-6.0 + 10.0 * i as f32 / 4000.0));
    let fine = (0..200_003).map(|i| i as f32 * 5.3e-4);
    wide.chain(fine).flat_map(|x| [x, -x]).collect()
}

/// The greatest error in units of the last place of the exact result, over arguments that `keep` accepts.
fn max_ulp(isa: Isa, f: impl Function, exact: impl Fn(f64) -> f64, keep: impl Fn(f32) -> bool) -> f64 {
    let x: Vec<f32> = arguments().into_iter().filter(|&x| keep(x)).collect();
    let mut y = x.clone();
    isa.dispatch(Map(&mut y, f));
    let ulp = |e: f64| (f64::from(f32::EPSILON) * 2f64.powi(e.abs().log2().floor() as i32)).max(1.5e-45);
    x.iter()
        .zip(&y)
        .map(|(&x, &y)| (f64::from(y) - exact(x.into())).abs() / ulp(exact(x.into())))
        .fold(0.0, f64::max)
}

#[test]
fn functions_agree_with_f64() {
    for isa in Isa::available() {
        let errors = [
            ("exp", max_ulp(isa, Exp, f64::exp, |x| x.abs() < 87.0), 2.0),
            ("exp below normal", max_ulp(isa, Exp, f64::exp, |x| x < -87.0), 2.0),
            ("sigmoid", max_ulp(isa, Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), |x| x > -87.0), 4.0),
            ("tanh", max_ulp(isa, Tanh, f64::tanh, |_| true), 4.0),
            ("erf", max_ulp(isa, Erf, libm::erf, |_| true), 4.0),
            ("sqrt", max_ulp(isa, Sqrt, f64::sqrt, |x| x > 0.0), 0.5),
            ("round", max_ulp(isa, Round, f64::round_ties_even, |_| true), 0.0),
        ];
        for (name, found, bound) in errors {
            assert!(found <= bound, "{isa:?} {name}: {found} ulp");
        }
    }
}

#[test]
fn functions_at_the_ends() {
    let x = [f32::NEG_INFINITY, -1e4, -0.0, 0.0, 1e4, f32::INFINITY, f32::NAN];
    for isa in Isa::available() {
        let at = |f: &dyn Fn(&mut [f32])| {
            let mut y = x;
            f(&mut y);
            y
        };
        let exp = at(&|y| isa.dispatch(Map(y, Exp)));
        assert_eq!(exp[..6], [0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY], "{isa:?}");
        let sigmoid = at(&|y| isa.dispatch(Map(y, Sigmoid)));
        assert_eq!(sigmoid[..6], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0], "{isa:?}");
        for y in [at(&|y| isa.dispatch(Map(y, Tanh))), at(&|y| isa.dispatch(Map(y, Erf)))] {
            assert_eq!(y[..6], [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0], "{isa:?}");
            assert!(y[6].is_nan());
        }
        assert!(exp[6].is_nan() && sigmoid[6].is_nan());
    }
}

/// Loads, stores, selections and reductions, checked against loops.
struct Lanes;
impl Kernel for Lanes {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let x: Vec<f32> = (0..S::LANES).map(|i| (i * i) as f32 - 7.5).collect();
        let spread = |v: S::F| {
            let mut out = vec![0.0; S::LANES];
            s.store(&mut out, v);
            out
        };
        for n in 0..=S::LANES {
            let v = spread(s.load_partial(&x[..n], -3.0));
            assert!((0..S::LANES).all(|i| v[i] == if i < n { x[i] } else { -3.0 }));
            let mut out = vec![9.0; S::LANES];
            s.store_partial(&mut out[..n], s.load(&x));
            assert!((0..S::LANES).all(|i| out[i] == if i < n { x[i] } else { 9.0 }));
            let v = spread(s.first(n, s.splat(1.0), s.splat(2.0)));
            assert!((0..S::LANES).all(|i| v[i] == if i < n { 1.0 } else { 2.0 }));
        }
        let v = s.load(&x);
        assert_eq!(s.reduce_add(v), x.iter().sum::<f32>());
        assert_eq!(s.reduce_max(v), x[S::LANES - 1]);
        assert_eq!(s.reduce_max(-v), 7.5);
        let (zero, nan) = (s.splat(0.0), s.splat(f32::NAN));
        assert!(spread(s.max(v, zero)).iter().zip(&x).all(|(a, b)| *a == b.max(0.0)));
        assert!(spread(s.min(v, zero)).iter().zip(&x).all(|(a, b)| *a == b.min(0.0)));
        assert!(spread(s.max(nan, zero)).iter().all(|&a| a == 0.0));
        assert!(spread(s.min(zero, nan)).iter().all(|a| a.is_nan()));
        assert!(spread(s.select_lt(nan, zero, v, zero)).iter().all(|&a| a == 0.0));
        assert!(spread(s.select_lt(v, zero, -v, v)).iter().zip(&x).all(|(a, b)| *a == b.abs()));
        assert!(spread(s.abs(v)).iter().zip(&x).all(|(a, b)| *a == b.abs()));
        assert!(spread(s.copysign(s.splat(2.0), v)).iter().zip(&x).all(|(a, b)| *a == 2f32.copysign(*b)));
        assert!(spread((v + v) * v / v - v).iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(spread(s.fma(v, s.splat(2.0), zero)).iter().zip(&x).all(|(a, b)| *a == b + b));

        let src: Vec<f32> = (0..8 * 9).map(|i| i as f32).collect();
        let mut dst = vec![-1.0; 8 * 10];
        // SAFETY: eight rows of nine elements and of ten.
        unsafe { s.transpose8(std::array::from_fn(|i| src[i * 9..].as_ptr()), dst.as_mut_ptr(), 10) };
        for (at, &found) in dst.iter().enumerate() {
            let (j, i) = (at / 10, at % 10);
            assert_eq!(found, if i < 8 { src[i * 9 + j] } else { -1.0 });
        }
        for n in [0, 1, 7, 33, 150] {
            let y: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
            assert_eq!(s.dot(&y, &y), y.iter().map(|v| v * v).sum::<f32>());
        }
    }
}

#[test]
fn lanes() {
    Isa::available().for_each(|isa| isa.dispatch(Lanes));
}

struct Wide<'a, T>(&'a [T], &'a [f32]);
impl<T: Storage> Kernel for Wide<'_, T> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let mut sums = s.wide_zero();
        for (x, y) in self.0.chunks(8).zip(self.1.chunks(8)) {
            sums = s.wide_fma(s.load_wide(x), s.load_wide(y), sums);
        }
        s.wide_reduce_add(sums)
    }
}

#[test]
fn sums_in_f64_have_the_same_bits_everywhere() {
    let value = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 7919.0 - 63.0;
    for len in [0, 1, 7, 8, 9, 16, 1001] {
        let (x, y): (Vec<f32>, Vec<f32>) = (0..len).map(|i| (value(i), value(i + 17))).unzip();
        let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let widened: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let mut lanes = [0.0f64; 8];
        for i in 0..len {
            lanes[i % 8] += f64::from(x[i]) * f64::from(y[i]);
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        let exact = ((a + e) + (c + g)) + ((b + f) + (d + h));
        for isa in Isa::available() {
            assert_eq!(isa.dispatch(Wide(&x, &y)).to_bits(), exact.to_bits(), "{isa:?}, {len} elements");
            assert_eq!(
                isa.dispatch(Wide(&halves, &y)).to_bits(),
                isa.dispatch(Wide(&widened, &y)).to_bits(),
                "{isa:?}, {len} bf16"
            );
        }
    }
}

struct Masks([f32; 16], f32);
impl Kernel for Masks {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b) = (s.load(&self.0), s.splat(self.1));
        let (less, at_most) = (s.mask_lt(a, b), s.mask_le(a, b));
        for i in 0..S::LANES {
            assert_eq!(less >> i & 1 == 1, self.0[i] < self.1, "{} < {}", self.0[i], self.1);
            assert_eq!(at_most >> i & 1 == 1, self.0[i] <= self.1, "{} <= {}", self.0[i], self.1);
        }
        assert_eq!((less | at_most).checked_shr(S::LANES as u32), Some(0));
    }
}

#[test]
fn masks_are_comparisons_lane_by_lane() {
    let special = [f32::NAN, f32::NEG_INFINITY, -1.0, -0.0, 0.0, 1.0, 2.0, f32::INFINITY];
    let lanes = std::array::from_fn(|i| special[i * 5 % 8]);
    for isa in Isa::available() {
        special.iter().for_each(|&x| isa.dispatch(Masks(lanes, x)));
    }
}

/// Reads bf16, and writes f32 as bf16.
struct Storing<'a>(&'a [bf16], &'a [f32], &'a mut [f32], &'a mut [bf16]);
impl Kernel for Storing<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (from, to) in self.0.chunks(S::LANES).zip(self.2.chunks_mut(S::LANES)) {
            s.store_partial(to, s.load_partial(from, 0.0));
        }
        for (from, to) in self.1.chunks(S::LANES).zip(self.3.chunks_mut(S::LANES)) {
            s.store_partial(to, s.load_partial(from, 0.0));
        }
    }
}

#[test]
fn bf16_is_read_exactly_and_written_to_the_nearest_even() {
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    // Every high half with low halves around a tie, and both ends of them.
    let floats: Vec<f32> = (0..=u16::MAX)
        .flat_map(|high| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| u32::from(high) << 16 | low))
        .map(f32::from_bits)
        .chain([1.0, 2.0, 3.0])
        .collect();
    for isa in Isa::available() {
        let (mut read, mut written) = (vec![0.0; all.len()], vec![bf16::ZERO; floats.len()]);
        isa.dispatch(Storing(&all, &floats, &mut read, &mut written));
        for (&from, &to) in all.iter().zip(&read) {
            assert_eq!(to.to_bits(), u32::from(from.to_bits()) << 16, "{isa:?} {from:?}");
        }
        for (&from, &to) in floats.iter().zip(&written) {
            assert_eq!(to.to_bits(), bf16::from_f32(from).to_bits(), "{isa:?} {:x}", from.to_bits());
        }
    }
}
