//! Memory of the device: owned buffers, views of them, and the caller's own cudarc slices as views.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{self, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};

use crate::backend::{Element, Len};
use crate::{Error, Result, host};

use super::context::failed;
use super::{Cuda, CudaStorage};

/// Zero-initialised device memory. Freeing is enqueued behind the work that uses it.
#[derive(Debug)]
pub struct CudaBuffer<T> {
    bytes: CudaSlice<u8>,
    pointer: u64,
    len: usize,
    element: PhantomData<T>,
}

/// A readable range of device memory: a device pointer, a length and the stream whose work may use it.
#[derive(Debug)]
pub struct CudaView<'a, T> {
    pub(super) pointer: u64,
    pub(super) len: usize,
    pub(super) stream: &'a CudaStream,
    element: PhantomData<&'a [T]>,
}

/// A writable range of device memory that nothing else refers to.
#[derive(Debug)]
pub struct CudaViewMut<'a, T> {
    pub(super) pointer: u64,
    pub(super) len: usize,
    pub(super) stream: &'a CudaStream,
    element: PhantomData<&'a mut [T]>,
}

impl<T> Clone for CudaView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for CudaView<'_, T> {}

impl<T: Send + Sync> Len for CudaBuffer<T> {
    fn len(&self) -> usize {
        self.len
    }
}
impl<T> Len for CudaView<'_, T> {
    fn len(&self) -> usize {
        self.len
    }
}
impl<T> Len for CudaViewMut<'_, T> {
    fn len(&self) -> usize {
        self.len
    }
}

impl<T: Element> CudaBuffer<T> {
    /// `len` zeros.
    pub(super) fn zeroed(stream: &Arc<CudaStream>, len: usize) -> Result<Self> {
        let size = size_of::<T>();
        let short = |why: &dyn std::fmt::Display| {
            failed(&format!("no memory for {len} elements of {size} bytes"), why)
        };
        // The driver has no allocations of nothing.
        let bytes = len.checked_mul(size).filter(|&bytes| bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| short(&"more than an address space"))?.max(1);
        let bytes = stream.alloc_zeros::<u8>(bytes).map_err(|error| short(&error))?;
        let pointer = bytes.device_ptr(stream).0;
        Ok(Self { bytes, pointer, len, element: PhantomData })
    }

    pub(super) fn view(&self, range: Range<usize>) -> Result<CudaView<'_, T>> {
        self.all().slice(range)
    }

    pub(super) fn view_mut(&mut self, range: Range<usize>) -> Result<CudaViewMut<'_, T>> {
        let [view] = self.disjoint_mut([range])?;
        Ok(view)
    }

    pub(super) fn disjoint_mut<const N: usize>(
        &mut self,
        ranges: [Range<usize>; N],
    ) -> Result<[CudaViewMut<'_, T>; N]> {
        host::disjoint(&ranges, self.len)?;
        let stream = &**self.bytes.stream();
        Ok(ranges.map(|range| CudaViewMut {
            pointer: self.pointer + (range.start * size_of::<T>()) as u64,
            len: range.len(),
            stream,
            element: PhantomData,
        }))
    }

    fn all(&self) -> CudaView<'_, T> {
        CudaView { pointer: self.pointer, len: self.len, stream: self.bytes.stream(), element: PhantomData }
    }
}

impl<'a, T: Element> CudaView<'a, T> {
    /// Elements `range` of the view.
    ///
    /// # Errors
    /// [`Error::Argument`] for a range that is not inside.
    pub fn slice(self, range: Range<usize>) -> Result<Self> {
        host::inside("view", &range, self.len)?;
        let pointer = self.pointer + (range.start * size_of::<T>()) as u64;
        Ok(Self { pointer, len: range.len(), ..self })
    }

    /// Bytes of the view.
    pub(super) fn size(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<'a, T: Element> CudaViewMut<'a, T> {
    /// The same range for a shorter time.
    pub fn reborrow(&mut self) -> CudaViewMut<'_, T> {
        CudaViewMut { pointer: self.pointer, len: self.len, stream: self.stream, element: PhantomData }
    }

    /// The range for reading.
    pub fn as_view(&self) -> CudaView<'_, T> {
        CudaView { pointer: self.pointer, len: self.len, stream: self.stream, element: PhantomData }
    }

    /// The elements before `at`, and the rest.
    ///
    /// # Errors
    /// [`Error::Argument`] for a place beyond the end.
    pub fn split_at(self, at: usize) -> Result<(Self, Self)> {
        host::inside("view_mut", &(0..at), self.len)?;
        let rest = self.pointer + (at * size_of::<T>()) as u64;
        let Self { pointer, len, stream, element } = self;
        Ok((
            Self { pointer, len: at, stream, element },
            Self { pointer: rest, len: len - at, stream, element },
        ))
    }

    /// Bytes of the range.
    pub(super) fn size(&self) -> usize {
        self.len * size_of::<T>()
    }
}

/// A caller's cudarc slice while ops read it. When it is dropped, cudarc learns that this stream has read the slice, so
/// that other streams wait for it.
#[derive(Debug)]
pub struct Borrowed<'a, T> {
    view: CudaView<'a, T>,
    _record: SyncOnDrop<'a>,
}

/// A caller's cudarc slice while ops write it.
#[derive(Debug)]
pub struct BorrowedMut<'a, T> {
    view: CudaViewMut<'a, T>,
    _record: SyncOnDrop<'a>,
}

impl<T: Element> Borrowed<'_, T> {
    /// The slice for an op.
    pub fn view(&self) -> CudaView<'_, T> {
        self.view
    }
}
impl<T: Element> BorrowedMut<'_, T> {
    /// The slice for an op that reads it.
    pub fn view(&self) -> CudaView<'_, T> {
        self.view.as_view()
    }
    /// The slice for an op that writes it.
    pub fn view_mut(&mut self) -> CudaViewMut<'_, T> {
        self.view.reborrow()
    }
}

mod sealed {
    use super::driver::{CudaSlice, CudaView, CudaViewMut};
    /// cudarc's own slices and views: their pointers can be believed.
    pub trait Sealed {}
    impl<T> Sealed for CudaSlice<T> {}
    impl<T> Sealed for CudaView<'_, T> {}
    impl<T> Sealed for CudaViewMut<'_, T> {}
}

impl<S: CudaStorage> Cuda<S> {
    /// A cudarc slice or view of the same context, to be read by ops. Writes to it on other streams are waited for.
    ///
    /// # Errors
    /// [`Error::Backend`] for a slice of another context.
    pub fn borrow<'a, T: Element, D>(&'a self, slice: &'a D) -> Result<Borrowed<'a, T>>
    where
        D: DevicePtr<T> + sealed::Sealed,
    {
        self.same_context(slice.stream())?;
        let (pointer, record) = slice.device_ptr(self.stream());
        let view = CudaView { pointer, len: slice.len(), stream: self.stream(), element: PhantomData };
        Ok(Borrowed { view, _record: record })
    }

    /// A cudarc slice or view of the same context, to be written by ops. Work on it on other streams is waited for.
    ///
    /// # Errors
    /// [`Error::Backend`] for a slice of another context.
    pub fn borrow_mut<'a, T: Element, D>(&'a self, slice: &'a mut D) -> Result<BorrowedMut<'a, T>>
    where
        D: DevicePtrMut<T> + sealed::Sealed,
    {
        self.same_context(slice.stream())?;
        let len = slice.len();
        let (pointer, record) = slice.device_ptr_mut(self.stream());
        let view = CudaViewMut { pointer, len, stream: self.stream(), element: PhantomData };
        Ok(BorrowedMut { view, _record: record })
    }

    fn same_context(&self, other: &CudaStream) -> Result<()> {
        if other.context() == self.stream().context() {
            return Ok(());
        }
        let message = "a slice of another CUDA context: make the backend with `Cuda::on_stream`".to_string();
        Err(Error::Backend { backend: "cuda", message })
    }
}
