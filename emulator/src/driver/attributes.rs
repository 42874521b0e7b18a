//! What the device says of itself. Capability 8.0 as on an A100, with fewer multiprocessors, since a persistent kernel
//! launches a grid of that size and every block costs the host time.

use std::ffi::{CStr, c_char};

use super::entry::{HostMut, Out, exports};
use super::error::{Code, Result};

/// Name of the device; nothing in it could be taken for a GPU's.
pub(crate) const NAME: &CStr = c"emo-emulator (software, compute capability 8.0)";
/// Version of the driver API as `cuDriverGetVersion` gives it: 13.0.
pub(crate) const DRIVER_VERSION: i32 = 13000;
/// Compute capability, 80 for 8.0: decides which PTX of a fat binary is used.
pub(crate) const CAPABILITY: u32 = 80;
/// Streaming multiprocessors.
pub(crate) const MULTIPROCESSORS: i32 = 16;
/// Threads of a block.
pub(crate) const BLOCK_THREADS: u32 = 1024;
/// Threads of a block in x, y, z.
pub(crate) const BLOCK_LIMITS: [u32; 3] = [1024, 1024, 64];
/// Blocks of a grid in x, y, z.
pub(crate) const GRID_LIMITS: [u32; 3] = [i32::MAX as u32, 65535, 65535];
/// Shared memory of a block that needs no opt-in, in bytes.
pub(crate) const SHARED_DEFAULT: u32 = 48 << 10;
/// Shared memory of a block with opt-in, in bytes.
pub(crate) const SHARED_OPT_IN: u32 = 163 << 10;
/// Shared memory of a multiprocessor in bytes.
pub(crate) const SHARED_MULTIPROCESSOR: u32 = 164 << 10;
/// Shared memory that the device takes of every block, in bytes.
pub(crate) const SHARED_RESERVED: u32 = 1 << 10;
/// Threads of a multiprocessor.
pub(crate) const MULTIPROCESSOR_THREADS: u32 = 2048;
/// Blocks of a multiprocessor.
pub(crate) const MULTIPROCESSOR_BLOCKS: u32 = 32;

/// A device attribute by its number in `CUdevice_attribute`.
fn attribute(number: u32) -> Result<i32> {
    Ok(match number {
        0 => return Err(Code::INVALID_VALUE),
        1 => BLOCK_THREADS as i32,
        2..=4 => BLOCK_LIMITS[number as usize - 2] as i32,
        5..=7 => GRID_LIMITS[number as usize - 5] as i32,
        8 => SHARED_DEFAULT as i32,
        9 => 64 << 10,       // constant memory
        10 => 32,            // warp size
        11 => i32::MAX,      // pitch of a copy
        12 | 82 => 64 << 10, // registers of a block, of a multiprocessor
        13 => 1_410_000,     // clock in kHz
        14 => 512,           // alignment of textures
        16 => MULTIPROCESSORS,
        31 | 78 => 1,      // concurrent kernels, stream priorities
        32 => 0,           // error correction
        33 | 34 | 50 => 0, // PCI bus, device, domain
        36 => 1_215_000,   // memory clock in kHz
        37 => 5120,        // bits of the memory bus
        38 => 40 << 20,    // second-level cache
        39 => MULTIPROCESSOR_THREADS as i32,
        40 => 3, // copy engines
        41 => 1, // unified addressing
        75 => (CAPABILITY / 10) as i32,
        76 => (CAPABILITY % 10) as i32,
        79 | 80 => 1, // first-level cache for global and local memory
        81 => SHARED_MULTIPROCESSOR as i32,
        87 => 2, // ratio of single to double precision speed
        97 => SHARED_OPT_IN as i32,
        106 => MULTIPROCESSOR_BLOCKS as i32,
        111 => SHARED_RESERVED as i32,
        115 => 1, // memory pools
        // Everything else in the list is a texture size or a feature, and this device has neither.
        _ => 0,
    })
}

exports! {
    /// One attribute of a device.
    fn cuDeviceGetAttribute(value: Out<i32>, number: u32, device: i32) [driver] {
        driver.check_device(device)?;
        value.set(attribute(number)?)
    }

    /// Name of a device, cut to the caller's buffer.
    fn cuDeviceGetName(name: HostMut, length: i32, device: i32) [driver] {
        driver.check_device(device)?;
        let room = usize::try_from(length).ok().filter(|&room| room > 0).ok_or(Code::INVALID_VALUE)?;
        name.with(room, |bytes| {
            bytes.fill(0);
            for (to, &from) in bytes[..room - 1].iter_mut().zip(NAME.to_bytes()) {
                *to = from;
            }
        })
    }

    /// The identifier of a device.
    fn cuDeviceGetUuid_v2(identifier: Out<[c_char; 16]>, device: i32) [driver] {
        driver.check_device(device)?;
        identifier.set(b"emo-emulator-000".map(|byte| byte as c_char))
    }

    /// The identifier of a device, as older programs ask for it.
    fn cuDeviceGetUuid(identifier: Out<[c_char; 16]>, device: i32) [driver] {
        driver.check_device(device)?;
        identifier.set(b"emo-emulator-000".map(|byte| byte as c_char))
    }

    /// Bytes of memory of a device.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) [driver] {
        driver.check_device(device)?;
        bytes.set(driver.device()?.memory().total() as usize)
    }

    /// Compute capability of a device.
    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) [driver] {
        driver.check_device(device)?;
        major.set((CAPABILITY / 10) as i32)?;
        minor.set((CAPABILITY % 10) as i32)
    }
}
