//! The memory pool that stream-ordered allocations come from. There is one, it never keeps freed memory, and its
//! settings change nothing.

use super::entry::{HostMut, Out, exports};
use super::error::{Code, Result};
use super::state::{Driver, Handle};

/// Handle of the pool; objects have larger ones.
const POOL: Handle = 0x800;
/// The settings that `cuda.h` 13.0 lists, of which 4 is 64 bits wide and 1 to 3 are 32.
const SETTINGS: std::ops::RangeInclusive<u32> = 1..=4;

fn check(driver: &Driver, pool: Handle) -> Result<()> {
    driver.device()?;
    if pool == POOL { Ok(()) } else { Err(Code::INVALID_VALUE) }
}

exports! {
    /// The device's pool.
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, device: i32) [driver] {
        driver.check_device(device)?;
        pool.set(POOL)
    }

    /// The device's pool.
    fn cuDeviceGetMemPool(pool: Out<Handle>, device: i32) [driver] {
        driver.check_device(device)?;
        pool.set(POOL)
    }

    /// Chooses the device's pool: there is only one.
    fn cuDeviceSetMemPool(device: i32, pool: Handle) [driver] {
        driver.check_device(device)?;
        check(driver, pool)
    }

    /// Destroys a pool, which the device's own does not allow.
    fn cuMemPoolDestroy(pool: Handle) [driver] {
        check(driver, pool)?;
        Err(Code::NOT_PERMITTED)
    }

    /// Gives kept memory back: none is kept.
    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) [driver] {
        check(driver, pool)
    }

    /// A setting, as a device starts with it, or a count of bytes.
    fn cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: HostMut) [driver] {
        check(driver, pool)?;
        let (now, peak) = driver.allocations.device_bytes();
        match attribute {
            1..=3 => value.put(&1_i32.to_ne_bytes()),
            4 => value.put(&0_u64.to_ne_bytes()),
            5 | 7 => value.put(&now.to_ne_bytes()),
            6 | 8 => value.put(&peak.to_ne_bytes()),
            _ => Err(Code::INVALID_VALUE),
        }
    }

    /// Changes a setting. None matters to a pool that keeps nothing.
    fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, _value: HostMut) [driver] {
        check(driver, pool)?;
        if SETTINGS.contains(&attribute) { Ok(()) } else { Err(Code::INVALID_VALUE) }
    }

    /// Allocates from a pool in a stream's order.
    fn cuMemAllocFromPoolAsync(address: Out<u64>, bytes: usize, pool: Handle, stream: Handle) [driver] {
        check(driver, pool)?;
        address.set(driver.allocate_in_stream(bytes, stream)?)
    }
}
