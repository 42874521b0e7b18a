//! Device and page-locked memory, copies and fills.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ffi::c_void;

use crate::{Device, MemoryError};

use super::entry::{Host, HostMut, Out, exports};
use super::error::{Code, Result};
use super::graph::Operation;
use super::state::{Driver, Handle};

/// What the program allocated and has not freed.
pub(crate) struct Allocations {
    device: BTreeMap<u64, DeviceAllocation>,
    host: BTreeMap<usize, HostAllocation>,
    device_peak: u64,
    device_bytes: u64,
}

struct DeviceAllocation {
    context: Handle,
    bytes: u64,
}

struct HostAllocation {
    context: Handle,
    layout: Layout,
}

/// Page-locked memory starts at a multiple of this.
const PAGE: usize = 4096;

impl Allocations {
    pub(crate) const fn new() -> Self {
        Self { device: BTreeMap::new(), host: BTreeMap::new(), device_peak: 0, device_bytes: 0 }
    }

    /// Addresses and sizes of live device allocations.
    pub(crate) fn live(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.device.iter().map(|(&address, allocation)| (address, allocation.bytes))
    }

    /// Number and bytes of live page-locked allocations.
    pub(crate) fn live_host(&self) -> (usize, usize) {
        (self.host.len(), self.host.values().map(|allocation| allocation.layout.size()).sum())
    }

    /// Bytes in live device allocations, now and at most.
    pub(crate) fn device_bytes(&self) -> (u64, u64) {
        (self.device_bytes, self.device_peak)
    }

    fn allocate(&mut self, context: Handle, bytes: u64, device: &Device) -> Result<u64> {
        let address = device.memory().alloc(bytes).map_err(|error| {
            eprintln!("emulator: allocation refused: {error}");
            Code::OUT_OF_MEMORY
        })?;
        self.device.insert(address, DeviceAllocation { context, bytes });
        self.device_bytes += bytes;
        self.device_peak = self.device_peak.max(self.device_bytes);
        Ok(address)
    }

    fn free(&mut self, address: u64, device: &Device) -> Result<()> {
        // Memory that the program did not allocate, such as a module's variable, is not its to free.
        let Some(allocation) = self.device.remove(&address) else {
            let detail = device.memory().describe(address);
            let error = MemoryError::InvalidFree { address, detail };
            eprintln!("emulator: {error}");
            return Err(Code::INVALID_VALUE);
        };
        self.device_bytes -= allocation.bytes;
        device.memory().free(address).map_err(|_| Code::INVALID_VALUE)
    }

    fn allocate_host(&mut self, context: Handle, bytes: usize) -> Result<*mut c_void> {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Code::OUT_OF_MEMORY)?;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            return Err(Code::OUT_OF_MEMORY);
        }
        self.host.insert(pointer.expose_provenance(), HostAllocation { context, layout });
        Ok(pointer.cast())
    }

    fn free_host(&mut self, pointer: *mut c_void) -> Result<()> {
        let allocation = self.host.remove(&pointer.addr()).ok_or(Code::INVALID_VALUE)?;
        // SAFETY: the table held the pointer, so `allocate_host` got it for this layout and nobody freed it since.
        unsafe { dealloc(pointer.cast(), allocation.layout) };
        Ok(())
    }

    /// Frees what a context allocated.
    pub(crate) fn free_all_of(&mut self, context: Handle, device: &Device) {
        let addresses: Vec<u64> =
            self.device.iter().filter(|(_, a)| a.context == context).map(|(&address, _)| address).collect();
        for address in addresses {
            // The address comes from the table, so freeing it cannot fail.
            let _ = self.free(address, device);
        }
        let pointers: Vec<usize> =
            self.host.iter().filter(|(_, a)| a.context == context).map(|(&address, _)| address).collect();
        for pointer in pointers {
            let _ = self.free_host(std::ptr::with_exposed_provenance_mut(pointer));
        }
    }

    fn context_of(&self, address: u64) -> Option<Handle> {
        let (&start, allocation) = self.device.range(..=address).next_back()?;
        (address - start < allocation.bytes.max(1)).then_some(allocation.context)
    }
}

impl Driver {
    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let (context, device) = (self.context()?, self.device()?);
        self.allocations.allocate(context, bytes as u64, &device)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.context()?;
        let device = self.device()?;
        // The null pointer is what an empty allocation gave.
        if address == 0 { Ok(()) } else { self.allocations.free(address, &device) }
    }

    /// Memory that comes and goes in a stream's order. A graph with memory of its own is not modelled.
    pub(crate) fn allocate_in_stream(&mut self, bytes: usize, stream: Handle) -> Result<u64> {
        self.refuse_in_graph(stream)?;
        if bytes == 0 { Ok(0) } else { self.allocate(bytes) }
    }

    fn refuse_in_graph(&mut self, stream: Handle) -> Result<()> {
        let context = self.context()?;
        let stream = self.stream_in(context, stream)?;
        self.refuse_implicit(context, stream)?;
        match self.capture_of(stream)? {
            Some(id) => self.invalidate(id, Code::NOT_SUPPORTED),
            None => Ok(()),
        }
    }

    /// A copy or fill that is done when the call returns: on the legacy stream, and never while capturing.
    fn at_once(&mut self, operation: Operation) -> Result<()> {
        self.refuse_while_capturing()?;
        self.submit(0, operation)
    }

    fn attribute_of(&self, address: u64, attribute: u32, value: HostMut) -> Result<()> {
        self.context()?;
        let memory_type_device = 2_u32;
        let held = self.allocations.context_of(address);
        let context = held.ok_or(Code::INVALID_VALUE)?;
        let (start, bytes) = self.device()?.memory().allocation_of(address).ok_or(Code::INVALID_VALUE)?;
        let put = |bytes: &[u8]| value.put(bytes);
        match attribute {
            1 => put(&context.to_ne_bytes()),
            2 => put(&memory_type_device.to_ne_bytes()),
            3 => put(&address.to_ne_bytes()),
            8 => put(&[0]),                 // not managed
            9 => put(&0_i32.to_ne_bytes()), // device
            11 => put(&start.to_ne_bytes()),
            12 => put(&(bytes as usize).to_ne_bytes()),
            13 => put(&[1]), // mapped
            _ => Err(Code::NOT_SUPPORTED),
        }
    }
}

fn copy_in(to: u64, from: Host, bytes: usize) -> Operation {
    Operation::CopyIn { to, from: from.0.expose_provenance(), bytes }
}

fn copy_out(to: HostMut, from: u64, bytes: usize) -> Operation {
    Operation::CopyOut { to: to.0.expose_provenance(), from, bytes }
}

exports! {
    /// Allocates device memory, filled with `0xFF` and counted as unwritten.
    fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) [driver] {
        driver.context()?;
        driver.refuse_while_capturing()?;
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        address.set(driver.allocate(bytes)?)
    }

    /// Frees device memory.
    fn cuMemFree_v2(address: u64) [driver] {
        driver.context()?;
        driver.refuse_while_capturing()?;
        driver.free(address)
    }

    /// Allocates device memory in a stream's order. No bytes are the null pointer.
    fn cuMemAllocAsync(address: Out<u64>, bytes: usize, stream: Handle) [driver] {
        address.set(driver.allocate_in_stream(bytes, stream)?)
    }

    /// Frees device memory in a stream's order.
    fn cuMemFreeAsync(address: u64, stream: Handle) [driver] {
        driver.refuse_in_graph(stream)?;
        driver.free(address)
    }

    /// Free and total bytes.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) [driver] {
        driver.context()?;
        let device = driver.device()?;
        let (used, all) = (device.memory().used(), device.memory().total());
        free.set((all - used) as usize)?;
        total.set(all as usize)
    }

    /// Start and size of the allocation that holds an address.
    fn cuMemGetAddressRange_v2(start: Out<u64>, bytes: Out<usize>, address: u64) [driver] {
        driver.context()?;
        let found = driver.device()?.memory().allocation_of(address).ok_or(Code::NOT_FOUND)?;
        start.set_if_wanted(found.0)?;
        bytes.set_if_wanted(found.1 as usize)
    }

    /// One attribute of a device address.
    fn cuPointerGetAttribute(value: HostMut, attribute: u32, address: u64) [driver] {
        driver.attribute_of(address, attribute, value)
    }

    /// Page-locked memory of the host. Kernels cannot reach it: no host memory is mapped.
    fn cuMemHostAlloc(pointer: Out<*mut c_void>, bytes: usize, _flags: u32) [driver] {
        let context = driver.context()?;
        driver.refuse_while_capturing()?;
        pointer.set(driver.allocations.allocate_host(context, bytes)?)
    }

    /// [`cuMemHostAlloc`] without flags.
    fn cuMemAllocHost_v2(pointer: Out<*mut c_void>, bytes: usize) [driver] {
        let context = driver.context()?;
        driver.refuse_while_capturing()?;
        pointer.set(driver.allocations.allocate_host(context, bytes)?)
    }

    /// Frees page-locked memory.
    fn cuMemFreeHost(pointer: *mut c_void) [driver] {
        driver.context()?;
        driver.allocations.free_host(pointer)
    }

    /// Copies to the device.
    fn cuMemcpyHtoD_v2(to: u64, from: Host, bytes: usize) [driver] {
        driver.at_once(copy_in(to, from, bytes))
    }

    /// Copies to the device in a stream's order.
    fn cuMemcpyHtoDAsync_v2(to: u64, from: Host, bytes: usize, stream: Handle) [driver] {
        driver.submit(stream, copy_in(to, from, bytes))
    }

    /// Copies from the device. Bytes that nothing wrote arrive as `0xFF`.
    fn cuMemcpyDtoH_v2(to: HostMut, from: u64, bytes: usize) [driver] {
        driver.at_once(copy_out(to, from, bytes))
    }

    /// Copies from the device in a stream's order.
    fn cuMemcpyDtoHAsync_v2(to: HostMut, from: u64, bytes: usize, stream: Handle) [driver] {
        driver.submit(stream, copy_out(to, from, bytes))
    }

    /// Copies within the device.
    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) [driver] {
        driver.at_once(Operation::Copy { to, from, bytes })
    }

    /// Copies within the device in a stream's order.
    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) [driver] {
        driver.submit(stream, Operation::Copy { to, from, bytes })
    }

    /// Copies between contexts, which share the one device.
    fn cuMemcpyPeerAsync(to: u64, _to_context: Handle, from: u64, _from_context: Handle, bytes: usize, stream: Handle) [driver] {
        driver.submit(stream, Operation::Copy { to, from, bytes })
    }

    /// Fills with bytes.
    fn cuMemsetD8_v2(to: u64, value: u8, count: usize) [driver] {
        driver.at_once(Operation::Fill { to, value: value.into(), width: 1, count })
    }

    /// Fills with bytes in a stream's order.
    fn cuMemsetD8Async(to: u64, value: u8, count: usize, stream: Handle) [driver] {
        driver.submit(stream, Operation::Fill { to, value: value.into(), width: 1, count })
    }

    /// Fills with 16-bit values.
    fn cuMemsetD16_v2(to: u64, value: u16, count: usize) [driver] {
        driver.at_once(Operation::Fill { to, value: value.into(), width: 2, count })
    }

    /// Fills with 16-bit values in a stream's order.
    fn cuMemsetD16Async(to: u64, value: u16, count: usize, stream: Handle) [driver] {
        driver.submit(stream, Operation::Fill { to, value: value.into(), width: 2, count })
    }

    /// Fills with 32-bit values.
    fn cuMemsetD32_v2(to: u64, value: u32, count: usize) [driver] {
        driver.at_once(Operation::Fill { to, value, width: 4, count })
    }

    /// Fills with 32-bit values in a stream's order.
    fn cuMemsetD32Async(to: u64, value: u32, count: usize, stream: Handle) [driver] {
        driver.submit(stream, Operation::Fill { to, value, width: 4, count })
    }
}
