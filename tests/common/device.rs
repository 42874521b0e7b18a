//! Buffers of any backend, filled from and read back as f64.

use emo::Backend;
use emo::backend::{Element, Len, Real};
use emo::ops::segments::Segments;

/// A buffer and the backend it belongs to. The contents are NaN (or a large index) where a test says nothing, so that an op
/// that reads what it should only write shows.
pub struct Held<'b, B: Backend, T: Element> {
    backend: &'b B,
    buffer: B::Buffer<T>,
}

impl<B: Backend, T: Element> Held<'_, B, T> {
    /// Everything.
    pub fn all(&self) -> B::View<'_, T> {
        self.backend.view(&self.buffer, 0..self.buffer.len()).unwrap()
    }

    /// Everything, writable.
    pub fn all_mut(&mut self) -> B::ViewMut<'_, T> {
        let len = self.buffer.len();
        self.backend.view_mut(&mut self.buffer, 0..len).unwrap()
    }

    /// The contents.
    pub fn get(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.buffer.len()];
        self.backend.download(self.all(), &mut values).unwrap();
        values
    }
}

impl<B: Backend, T: Real> Held<'_, B, T> {
    /// The contents as f64.
    pub fn reals(&self) -> Vec<f64> {
        self.get().into_iter().map(Real::to_f64).collect()
    }
}

/// A buffer with these contents.
pub fn hold<'b, B: Backend, T: Element>(backend: &'b B, values: &[T]) -> Held<'b, B, T> {
    let mut held = Held { backend, buffer: backend.alloc(values.len()).unwrap() };
    backend.upload(values, held.all_mut()).unwrap();
    held
}

/// A buffer of values, rounded to the type that its use asks for.
pub fn reals<'b, B: Backend, T: Real>(backend: &'b B, values: &[f64]) -> Held<'b, B, T> {
    hold(backend, &values.iter().map(|&value| T::from_f64(value)).collect::<Vec<T>>())
}

/// A buffer of `len` NaN, for an output or a workspace.
pub fn unset<B: Backend, T: Real>(backend: &B, len: usize) -> Held<'_, B, T> {
    reals(backend, &vec![f64::NAN; len])
}

/// A buffer of `len` indices that no op accepts.
pub fn unset_indices<B: Backend>(backend: &B, len: usize) -> Held<'_, B, u32> {
    hold(backend, &vec![u32::MAX; len])
}

/// A partition of tokens on a backend.
pub struct HeldSegments<'b, B: Backend> {
    offsets: Held<'b, B, u32>,
    of_token: Held<'b, B, u32>,
}

impl<B: Backend> HeldSegments<'_, B> {
    /// As the ops take it.
    pub fn all(&self) -> Segments<'_, B> {
        Segments { offsets: self.offsets.all(), of_token: self.of_token.all() }
    }
}

/// The partition with these offsets.
pub fn segments<'b, B: Backend>(backend: &'b B, offsets: &[u32]) -> HeldSegments<'b, B> {
    let of_token: Vec<u32> = offsets
        .windows(2)
        .enumerate()
        .flat_map(|(i, pair)| (pair[0]..pair[1]).map(move |_| i as u32))
        .collect();
    HeldSegments { offsets: hold(backend, offsets), of_token: hold(backend, &of_token) }
}
