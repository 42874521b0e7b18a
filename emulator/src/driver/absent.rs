//! Functions that exist only to say `CUDA_ERROR_NOT_SUPPORTED`: a program asks them what this device cannot do. A
//! function that does not exist at all makes cudarc panic when it is called. None of them looks at its arguments, so
//! their signatures are bare.

use super::entry::exports;
use super::error::Code;

exports! {
    /// Managed memory.
    fn cuMemAllocManaged() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Advice on managed memory.
    fn cuMemAdvise_v2() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Movement of managed memory.
    fn cuMemPrefetchAsync_v2() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Managed memory that belongs to one stream.
    fn cuStreamAttachMemAsync() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Host memory under a device address.
    fn cuMemHostGetDevicePointer_v2() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Memory pools beside the device's own.
    fn cuMemPoolCreate() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Memory of another interface.
    fn cuImportExternalMemory() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Memory of another interface under a device address.
    fn cuExternalMemoryGetMappedBuffer() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// The end of memory of another interface.
    fn cuDestroyExternalMemory() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Blocks that wait for each other.
    fn cuLaunchCooperativeKernel() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Clusters of blocks.
    fn cuOccupancyMaxActiveClusters() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }

    /// Clusters of blocks.
    fn cuOccupancyMaxPotentialClusterSize() [driver] {
        driver.context()?;
        Err(Code::NOT_SUPPORTED)
    }
}
