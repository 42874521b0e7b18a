//! The worker threads of the CPU backend, and how parallel tasks share one mutable buffer.
//!
//! Tasks are handed out one at a time from a counter, so that uneven tasks balance. Which worker runs which task is
//! left to chance; an op is deterministic because every output element belongs to one task and a task's arithmetic
//! does not depend on the worker.

use crate::{Error, Result};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A pool of worker threads of its own, of a chosen size.
pub struct Threads {
    /// None for one thread: everything then runs on the caller.
    pool: Option<rayon::ThreadPool>,
    len: usize,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("len", &self.len).finish()
    }
}

impl Threads {
    /// A pool of `n` threads.
    ///
    /// # Errors
    /// [`Error::Argument`] when `n` is 0, [`Error::Backend`] when the system refuses the threads.
    pub fn new(n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::argument("Threads::new", "n", "at least 1", n));
        }
        let pool = (n > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|i| format!("emo-cpu-{i}"))
                    .build()
                    .map_err(|e| Error::Backend {
                        backend: "cpu",
                        message: format!("cannot start {n} threads: {e}"),
                    })
            })
            .transpose()?;
        Ok(Self { pool, len: n })
    }

    /// Number of threads, and the exclusive bound of worker indices.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Runs `f` on a worker of the pool. Parallel loops started inside it skip the hand-over from a foreign thread
    /// (a wake-up and, once in about sixty times, a queue block), so a whole training step is best run in one `install`:
    /// [`Backend::enter`](crate::Backend::enter).
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Calls `f(task, worker)` once for every task in `0..n_tasks`, in parallel, and returns when all are done.
    /// `worker < self.len()`, and no two calls that overlap in time have the same worker index, so it can select
    /// per-worker scratch. Runs on the caller, as worker 0, for one task or one thread.
    pub fn for_each(&self, n_tasks: usize, f: impl Fn(usize, usize) + Sync) {
        let participants = self.len.min(n_tasks);
        match &self.pool {
            Some(pool) if participants > 1 => {
                let next = AtomicUsize::new(0);
                // A participant, not a thread, is what `worker` numbers: a thread that waits may run a second
                // participant inside the first, and must not see the same scratch twice.
                let participant = |worker: usize| {
                    loop {
                        let task = next.fetch_add(1, Ordering::Relaxed);
                        if task >= n_tasks {
                            break;
                        }
                        f(task, worker);
                    }
                };
                pool.install(|| spread(0..participants, &participant));
            }
            _ => (0..n_tasks).for_each(|task| f(task, 0)),
        }
    }

    /// Splits `data` into chunks of `chunk` elements (the last may be shorter) and calls `f(index, chunk, worker)` on
    /// each in parallel. A `chunk` of 0 counts as 1.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        f: impl Fn(usize, &mut [T], usize) + Sync,
    ) {
        let (len, chunk) = (data.len(), chunk.max(1));
        let data = DisjointMut::new(data);
        self.for_each(len.div_ceil(chunk), |task, worker| {
            let start = task * chunk;
            // SAFETY: tasks are distinct, so the ranges [task * chunk, (task + 1) * chunk) are disjoint.
            let part = unsafe { data.slice_mut(start..len.min(start + chunk)) };
            f(task, part, worker);
        });
    }

    /// [`Threads::for_each`] where each call also gets its worker's own `scratch_len` elements of `scratch`.
    /// `scratch` must hold `self.len() * scratch_len` elements.
    pub fn for_each_scratch<T: Send>(
        &self,
        n_tasks: usize,
        scratch: &mut [T],
        scratch_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let scratch = DisjointMut::new(scratch);
        self.for_each(n_tasks, |task, worker| {
            let start = worker * scratch_len;
            // SAFETY: calls that overlap in time have different workers, hence disjoint ranges.
            f(task, unsafe { scratch.slice_mut(start..start + scratch_len) });
        });
    }
}

/// Offers every participant in `ids` to the pool; the caller runs the first itself.
fn spread(ids: Range<usize>, participant: &(impl Fn(usize) + Sync)) {
    if ids.len() == 1 {
        participant(ids.start);
    } else {
        let mid = ids.start + ids.len() / 2;
        rayon::join(|| spread(ids.start..mid, participant), || spread(mid..ids.end, participant));
    }
}

/// One mutable slice that parallel tasks write in disjoint ranges.
#[derive(Debug)]
pub struct DisjointMut<'a, T> {
    ptr: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a shared `DisjointMut` only hands out `&mut T` through `slice_mut`, whose contract makes every range belong
// to one user at a time; moving that exclusive access between threads is what `T: Send` allows.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}
// SAFETY: it stands for a `&mut [T]`, which is `Send` when `T` is.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Borrows `data` exclusively for as long as the value lives.
    pub fn new(data: &'a mut [T]) -> Self {
        Self { ptr: data.as_mut_ptr(), len: data.len(), borrow: PhantomData }
    }

    /// Elements of the whole slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the slice is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element, for tasks that write pieces which are no range, such as tiles. Dereferencing it comes with the
    /// same duty as [`DisjointMut::slice_mut`]: no two users of one element at a time.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.ptr
    }

    /// The elements of `range`.
    ///
    /// # Panics
    /// When `range` leaves the slice.
    ///
    /// # Safety
    /// While the returned slice lives, no other slice from this value may overlap it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "range {range:?} of {} elements",
            self.len
        );
        // SAFETY: the range lies inside the exclusively borrowed slice (checked), and the caller promises that no
        // other reference into it is alive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_workers_never_overlap() {
        for n in [1, 2, 7] {
            let threads = Threads::new(n).unwrap();
            for n_tasks in [0, 1, 2, 5, 1000] {
                let runs: Vec<_> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                let busy: Vec<_> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                threads.for_each(n_tasks, |task, worker| {
                    assert_eq!(busy[worker].swap(1, Ordering::SeqCst), 0);
                    runs[task].fetch_add(1, Ordering::SeqCst);
                    busy[worker].store(0, Ordering::SeqCst);
                });
                assert!(runs.iter().all(|r| r.load(Ordering::SeqCst) == 1));
            }
        }
    }

    #[test]
    fn nested_loops_keep_workers_apart() {
        let threads = Threads::new(3).unwrap();
        let busy: Vec<_> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        let total = AtomicUsize::new(0);
        threads.for_each(20, |_, worker| {
            assert_eq!(busy[worker].swap(1, Ordering::SeqCst), 0);
            threads.for_each(10, |_, _| {
                total.fetch_add(1, Ordering::SeqCst);
            });
            busy[worker].store(0, Ordering::SeqCst);
        });
        assert_eq!(total.into_inner(), 200);
    }

    #[test]
    fn chunks_cover_the_slice() {
        let threads = Threads::new(2).unwrap();
        let mut data = vec![0usize; 103];
        threads.for_each_chunk(&mut data, 10, |i, part, _| part.iter_mut().for_each(|x| *x += i + 1));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 10 + 1));
        threads.for_each_chunk(&mut data[..0], 10, |_, _, _| unreachable!());
    }

    #[test]
    fn no_threads_is_an_error() {
        assert!(matches!(Threads::new(0), Err(Error::Argument { arg: "n", .. })));
    }
}
