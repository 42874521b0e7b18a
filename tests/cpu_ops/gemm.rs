//! The CPU matrix products against naive f64 loops: f32 and bf16, every instruction set, uneven groups, odd sizes,
//! bit-identical results for any number of threads.

use emo::cpu::gemm::Machine;
use emo::cpu::gemm::serial::{self, Layout, Strided};
use emo::cpu::grouped_gemm::{self, Gather};
use emo::cpu::isa::Isa;
use emo::cpu::linear;
use emo::cpu::simd::Storage;
use emo::cpu::threads::Threads;
use half::bf16;

/// Values in [-1, 1) from a counter, the same on every run.
fn values<T: Storage>(len: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f32((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        })
        .collect()
}

fn offsets(sizes: &[usize]) -> Vec<u32> {
    let mut offsets = vec![0];
    sizes.iter().for_each(|&s| offsets.push(offsets[offsets.len() - 1] + s as u32));
    offsets
}

/// Compares with a bound that grows with the number of products summed in f32, and half a unit in the last place of a bf16
/// that was stored.
#[track_caller]
fn close<T: Storage>(found: &[T], exact: &[f64], depth: usize, what: &str) {
    assert_eq!(found.len(), exact.len(), "{what}");
    let sum = 2e-6 * (1.0 + (depth as f64).sqrt());
    let rounded = if size_of::<T>() == 2 { 2f64.powi(-8) } else { 0.0 };
    for (i, (&f, &e)) in found.iter().zip(exact).enumerate() {
        let bound = sum + rounded * (e.abs() + sum);
        assert!((f.to_f64() - e).abs() <= bound, "{what} [{i}]: {f:?} instead of {e}");
    }
}

/// Group sizes, n, k.
fn shapes() -> Vec<(Vec<usize>, usize, usize)> {
    vec![
        (vec![], 3, 5),
        (vec![0], 3, 5),
        (vec![1], 1, 1),
        (vec![5], 0, 4),
        (vec![5], 4, 0),
        (vec![1, 0, 2], 7, 1),
        (vec![3, 0, 0, 17], 33, 31),
        (vec![0, 130, 0, 0], 65, 40),
        (vec![113, 1, 14, 15], 32, 256),
        (vec![29, 28, 27], 100, 257),
        (vec![2, 300, 0, 7], 130, 300),
        ((0..70).map(|e| e * 7 % 5).collect(), 17, 19),
        (vec![600], 48, 20),
        // Sums and rows longer than one block.
        (vec![20, 45], 1050, 1031),
    ]
}

struct Case<T> {
    offsets: Vec<u32>,
    n: usize,
    k: usize,
    index: Vec<u32>,
    x: Vec<T>,
    dy: Vec<T>,
    w: Vec<T>,
}

impl<T: Storage> Case<T> {
    fn new(sizes: &[usize], n: usize, k: usize, gathered: bool) -> Self {
        let rows = sizes.iter().sum::<usize>();
        let tokens = if gathered { rows / 2 + 1 } else { rows };
        let index = (0..rows).map(|r| if gathered { (r * 7 + 3) % tokens } else { r } as u32).collect();
        Self {
            offsets: offsets(sizes),
            n,
            k,
            index,
            x: values(tokens * k, 1),
            dy: values(tokens * n, 2),
            w: values(sizes.len() * n * k, 3),
        }
    }

    fn shape(&self) -> grouped_gemm::Shape<'_> {
        grouped_gemm::Shape { offsets: &self.offsets, n: self.n, k: self.k }
    }

    fn gather<'a>(&'a self, data: &'a [T], gathered: bool) -> Gather<'a, T> {
        Gather { data, index: gathered.then_some(&*self.index) }
    }

    /// Calls `f(group, row, data row, n index, k index)` for every product term.
    fn terms(&self, mut f: impl FnMut(usize, usize, usize, usize, usize)) {
        for g in 0..self.offsets.len() - 1 {
            for r in self.offsets[g] as usize..self.offsets[g + 1] as usize {
                for i in 0..self.n {
                    for j in 0..self.k {
                        f(g, r, self.index[r] as usize, i, j);
                    }
                }
            }
        }
    }

    /// y, dx and dw by f64 loops.
    fn exact(&self) -> [Vec<f64>; 3] {
        let (rows, n, k) = (self.index.len(), self.n, self.k);
        let (mut y, mut dx, mut dw) = (vec![0.0; rows * n], vec![0.0; rows * k], vec![0.0; self.w.len()]);
        self.terms(|g, r, t, i, j| {
            let at = (g * n + i) * k + j;
            let (x, dy, w) = (self.x[t * k + j].to_f64(), self.dy[t * n + i].to_f64(), self.w[at].to_f64());
            y[r * n + i] += x * w;
            dx[r * k + j] += dy * w;
            dw[at] += dy * x;
        });
        [y, dx, dw]
    }

    /// y, dx and dw of the CPU backend, each on top of `start` where the op accumulates; the workspace is dirty.
    fn run(
        &self,
        machine: Machine,
        gathered: bool,
        start: f32,
        accumulate: bool,
    ) -> (Vec<T>, Vec<T>, Vec<f32>) {
        let (rows, n, k) = (self.index.len(), self.n, self.k);
        let groups = self.offsets.len() - 1;
        let mut workspace =
            vec![f32::NAN; grouped_gemm::workspace_len::<T>(groups, n, k, machine.threads.len())];
        let (mut y, mut dx) = (
            vec![T::from_f32(f32::NAN); rows * n],
            vec![T::from_f32(if accumulate { start } else { f32::NAN }); rows * k],
        );
        let mut dw = vec![start; self.w.len()];
        let (x, dy) = (self.gather(&self.x, gathered), self.gather(&self.dy, gathered));
        grouped_gemm::forward(machine, self.shape(), x, &self.w, &mut y, &mut workspace).unwrap();
        grouped_gemm::dgrad(machine, self.shape(), dy, &self.w, &mut dx, accumulate, &mut workspace).unwrap();
        grouped_gemm::wgrad(machine, self.shape(), dy, x, &mut dw, &mut workspace).unwrap();
        (y, dx, dw)
    }
}

#[test]
fn grouped_products_agree_with_f64() {
    grouped::<f32>();
    grouped::<bf16>();
}

fn grouped<T: Storage>() {
    let threads = Threads::new(2).unwrap();
    for (sizes, n, k) in shapes() {
        for gathered in [false, true] {
            let case = Case::<T>::new(&sizes, n, k, gathered);
            let [y, dx, dw] = case.exact();
            let dw: Vec<f64> = dw.iter().map(|v| v + 0.5).collect();
            for isa in Isa::available() {
                let what = format!("{isa:?} {sizes:?} n {n} k {k} gathered {gathered}");
                let found = case.run(Machine { threads: &threads, isa }, gathered, 0.5, false);
                close(&found.0, &y, k, &format!("y {what}"));
                close(&found.1, &dx, n, &format!("dx {what}"));
                close(&found.2, &dw, case.index.len(), &format!("dw {what}"));
                let found = case.run(Machine { threads: &threads, isa }, gathered, 0.5, true);
                let dx: Vec<f64> = dx.iter().map(|v| v + 0.5).collect();
                close(&found.1, &dx, n, &format!("dx accumulated {what}"));
            }
        }
    }
}

#[test]
fn thread_count_does_not_change_a_bit() {
    same_bits::<f32>();
    same_bits::<bf16>();
}

fn same_bits<T: Storage>() {
    for (sizes, n, k) in shapes() {
        let case = Case::<T>::new(&sizes, n, k, true);
        for isa in Isa::available() {
            let run = |n_threads| {
                let threads = Threads::new(n_threads).unwrap();
                let (y, dx, dw) = case.run(Machine { threads: &threads, isa }, true, 0.25, true);
                let bits = |x: f64| x.to_bits();
                let stored = y.into_iter().chain(dx).map(|x| bits(x.to_f64()));
                stored.chain(dw.into_iter().map(|x| bits(f64::from(x)))).collect()
            };
            let one: Vec<u64> = run(1);
            for n_threads in [2, 7] {
                assert!(one == run(n_threads), "{isa:?} {sizes:?} n {n} k {k} on {n_threads} threads");
            }
        }
    }
}

/// Groups of few rows read their weights where they lie; one group alone, of as many rows, has them packed.
#[test]
fn groups_of_few_rows_have_the_bits_of_packed_weights() {
    few_rows::<f32>();
    few_rows::<bf16>();
}

fn few_rows<T: Storage>() {
    let sizes = [1, 0, 9, 33, 40, 112];
    let rows: usize = sizes.iter().sum();
    for (n, k) in [(224, 64), (96, 130), (64, 61), (300, 7)] {
        let offsets = offsets(&sizes);
        let (x, dy) = (values::<T>(rows * k, 1), values::<T>(rows * n, 2));
        let (w, before) = (values::<T>(sizes.len() * n * k, 3), values::<T>(rows * k, 4));
        for isa in Isa::available() {
            let threads = Threads::new(2).unwrap();
            let machine = Machine { threads: &threads, isa };
            // The products of the groups `first..first + groups`, whose rows are numbered from 0.
            let products = |first: usize, offsets: &[u32]| {
                let (groups, count) = (offsets.len() - 1, offsets[offsets.len() - 1] as usize);
                let start = sizes[..first].iter().sum::<usize>();
                let shape = grouped_gemm::Shape { offsets, n, k };
                let mut workspace = vec![0.0; grouped_gemm::workspace_len::<T>(groups, n, k, 2)];
                let weights = &w[first * n * k..][..groups * n * k];
                let mut y = vec![T::from_f32(7.0); count * n];
                let gathered = Gather::all(&x[start * k..][..count * k]);
                grouped_gemm::forward(machine, shape, gathered, weights, &mut y, &mut workspace).unwrap();
                let mut dx = before[start * k..][..count * k].to_vec();
                let gathered = Gather::all(&dy[start * n..][..count * n]);
                for accumulate in [true, false, true] {
                    grouped_gemm::dgrad(
                        machine,
                        shape,
                        gathered,
                        weights,
                        &mut dx,
                        accumulate,
                        &mut workspace,
                    )
                    .unwrap();
                }
                [y, dx].map(|part| part.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>())
            };
            let together = products(0, &offsets);
            let alone: Vec<_> = (0..sizes.len()).map(|g| products(g, &[0, sizes[g] as u32])).collect();
            for (part, together) in together.iter().enumerate() {
                let alone: Vec<u32> = alone.iter().flat_map(|parts| parts[part].clone()).collect();
                assert!(*together == alone, "{isa:?}, n {n}, k {k}, part {part}");
            }
        }
    }
}

#[test]
fn linear_agrees_with_f64() {
    linear_products::<f32>();
    linear_products::<bf16>();
}

fn linear_products<T: Storage>() {
    let threads = Threads::new(3).unwrap();
    for (rows, n, k) in
        [(0, 4, 4), (1, 1, 1), (1, 1000, 70), (5, 3, 0), (37, 65, 513), (257, 129, 33), (30, 7, 2200)]
    {
        let case = Case::<T>::new(&[rows], n, k, false);
        let bias = values::<f32>(n, 9);
        let [y, dx, dw] = case.exact();
        let y_bias: Vec<f64> = y.iter().enumerate().map(|(i, v)| v + f64::from(bias[i % n])).collect();
        let db: Vec<f64> =
            (0..n).map(|i| 2.0 + (0..rows).map(|r| case.dy[r * n + i].to_f64()).sum::<f64>()).collect();
        let shape = linear::Shape { rows, n, k };
        for isa in Isa::available() {
            let machine = Machine { threads: &threads, isa };
            let what = format!("{isa:?} {shape:?}");
            let mut workspace = vec![f32::NAN; linear::workspace_len::<T>(n, k, 3)];
            let mut found = vec![T::from_f32(f32::NAN); rows * n];
            linear::forward(machine, shape, &case.x, &case.w, None, &mut found, &mut workspace).unwrap();
            close(&found, &y, k, &what);
            linear::forward(machine, shape, &case.x, &case.w, Some(&bias), &mut found, &mut workspace)
                .unwrap();
            close(&found, &y_bias, k, &what);
            let mut found = vec![T::from_f32(f32::NAN); rows * k];
            linear::dgrad(machine, shape, &case.dy, &case.w, &mut found, false, &mut workspace).unwrap();
            close(&found, &dx, n, &what);
            let (mut found, mut found_db) = (vec![0.0; n * k], vec![2.0; n]);
            linear::wgrad(machine, shape, &case.dy, &case.x, &mut found, Some(&mut found_db), &mut workspace)
                .unwrap();
            close(&found, &dw, rows, &what);
            close(&found_db, &db, rows, &what);
        }
    }
}

#[test]
fn serial_products_agree_with_f64() {
    serial_products::<f32, f32>();
    serial_products::<bf16, bf16>();
    serial_products::<f32, bf16>();
}

fn serial_products<A: Storage, B: Storage>() {
    for (m, n, k) in
        [(0, 3, 3), (3, 0, 3), (3, 3, 0), (1, 1, 1), (5, 70, 33), (64, 64, 64), (115, 31, 300), (230, 17, 8)]
    {
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            let (a_rows, a_cols) = if layout == Layout::Tn { (k, m) } else { (m, k) };
            let (b_rows, b_cols) = if layout == Layout::Nt { (n, k) } else { (k, n) };
            // Rows further apart than they are long, and elements between them that must survive.
            let (lda, ldb, ldc) = (a_cols + 3, b_cols + 1, n + 2);
            let (a, b) = (values::<A>(a_rows * lda, 4), values::<B>(b_rows * ldb, 5));
            for accumulate in [false, true] {
                let exact: Vec<f64> = (0..m * ldc)
                    .map(|c| {
                        let (i, j) = (c / ldc, c % ldc);
                        let product = |p: usize| {
                            let a = if layout == Layout::Tn { a[p * lda + i] } else { a[i * lda + p] };
                            let b = if layout == Layout::Nt { b[j * ldb + p] } else { b[p * ldb + j] };
                            a.to_f64() * b.to_f64()
                        };
                        let sum = |_| 0.25 * (0..k).map(product).sum::<f64>();
                        (j < n).then_some(()).map_or(3.0, |u| sum(u) + if accumulate { 3.0 } else { 0.0 })
                    })
                    .collect();
                for isa in Isa::available() {
                    let mut c = vec![3.0; m * ldc];
                    let mut scratch = vec![f32::NAN; serial::scratch_len(m, n, k)];
                    let (a, b) = (Strided { data: &a, ld: lda }, Strided { data: &b, ld: ldb });
                    serial::matmul(
                        isa,
                        layout,
                        (m, n, k),
                        0.25,
                        a,
                        b,
                        (&mut c, ldc),
                        accumulate,
                        &mut scratch,
                    );
                    close(&c, &exact, k, &format!("{isa:?} {layout:?} {m} {n} {k} accumulate {accumulate}"));
                }
            }
        }
    }
}

#[test]
fn wrong_arguments_are_errors_that_name_them() {
    let threads = Threads::new(1).unwrap();
    let machine = Machine { threads: &threads, isa: Isa::detect() };
    let (x, w) = (values::<f32>(12, 1), values::<f32>(6, 2));
    let mut workspace = vec![0.0; grouped_gemm::workspace_len::<f32>(1, 2, 3, 1)];
    let mut forward = |offsets: &[u32], x: Gather<f32>, w: &[f32], y: usize, workspace_len: usize| {
        let shape = grouped_gemm::Shape { offsets, n: 2, k: 3 };
        let mut y = vec![0.0; y];
        let result = grouped_gemm::forward(machine, shape, x, w, &mut y, &mut workspace[..workspace_len]);
        result.map_err(|e| e.to_string())
    };
    let full = grouped_gemm::workspace_len::<f32>(1, 2, 3, 1);
    assert_eq!(forward(&[0, 4], Gather::all(&x), &w, 8, full), Ok(()));
    for (result, names) in [
        (forward(&[], Gather::all(&x), &w, 8, full), "offsets"),
        (forward(&[1, 4], Gather::all(&x), &w, 8, full), "offsets"),
        (forward(&[0, 4, 3], Gather::all(&x), &w, 8, full), "offsets"),
        (forward(&[0, 4], Gather::all(&x[1..]), &w, 8, full), "`x`"),
        (forward(&[0, 4], Gather { data: &x, index: Some(&[0, 1, 4, 2]) }, &w, 8, full), "`index`[2]"),
        (forward(&[0, 4], Gather { data: &x, index: Some(&[0, 1]) }, &w, 8, full), "`index`"),
        (forward(&[0, 4], Gather::all(&x), &w[1..], 8, full), "`weights`"),
        (forward(&[0, 4], Gather::all(&x), &w, 9, full), "`y`"),
        (forward(&[0, 4], Gather::all(&x), &w, 8, 10), "`workspace`"),
    ] {
        assert!(result.clone().unwrap_err().contains(names), "{result:?} should name {names}");
    }
}
