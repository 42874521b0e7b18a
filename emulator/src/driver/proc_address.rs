//! Finding a driver function by its name.

use super::entry::{Host, Out, exports};
use super::error::Code;

/// The function of this name in its youngest version: `cuMemAlloc` is `cuMemAlloc_v2`.
fn youngest(name: &str) -> Option<usize> {
    let find = |name: &str| {
        [
            super::absent::address,
            super::attributes::address,
            super::context::address,
            super::event::address,
            super::graph::address,
            super::launch::address,
            super::library::address,
            super::memory::address,
            super::module::address,
            super::occupancy::address,
            super::pool::address,
            super::stream::address,
            address,
        ]
        .iter()
        .find_map(|of_file| of_file(name))
    };
    ["_v4", "_v3", "_v2", ""].iter().find_map(|version| find(&format!("{name}{version}")))
}

exports! {
    /// Address of a driver function; its status too: 0 found, 1 not found.
    fn cuGetProcAddress_v2(name: Host, address: Out<usize>, _version: i32, _flags: u64, status: Out<u32>) [] {
        match youngest(name.name()?) {
            Some(found) => {
                status.set_if_wanted(0)?;
                address.set(found)
            }
            None => {
                status.set_if_wanted(1)?;
                address.set(0)?;
                Err(Code::NOT_FOUND)
            }
        }
    }
}
