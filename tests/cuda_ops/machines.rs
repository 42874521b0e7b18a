//! What an op of the CUDA backend must agree with.

use crate::agree::{Call, close, in_bf16, in_f32, same_bits};
use crate::gpu::gpu;
use emo::Backend;
use emo::cuda::Cuda;
use emo::oracle::OracleIn;
use half::bf16;
use std::sync::OnceLock;

/// The device with f32 and with bf16 storage.
pub fn devices() -> Option<&'static (Cuda<f32>, Cuda<bf16>)> {
    static DEVICES: OnceLock<Option<(Cuda<f32>, Cuda<bf16>)>> = OnceLock::new();
    DEVICES.get_or_init(|| Some((gpu()?, gpu()?))).as_ref()
}

/// Both storages agree with the specification in the same storage, and every run with the first.
#[track_caller]
pub fn agree(call: &impl Call) {
    let Some((f32, bf16)) = devices() else { return };
    let found = close(call, &call.on(&OracleIn::<f64>::default()), f32, in_f32);
    same_bits(call, &found, f32);
    let found = close(call, &call.on(&OracleIn::<half::bf16>::default()), bf16, in_bf16);
    same_bits(call, &found, bf16);
}

#[test]
fn a_device_says_what_it_is() {
    let Some((f32, _)) = devices() else { return };
    assert!(f32.describe().starts_with("cuda (") && f32.describe().contains("sm_"), "{}", f32.describe());
    let error = Cuda::<f32>::new(4096).unwrap_err().to_string();
    assert!(error.starts_with("cuda: device 4096 of "), "{error}");
}
