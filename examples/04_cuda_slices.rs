//! The kernels on your own GPU memory: cudarc slices, your stream, nothing copied.
//!
//! `cargo xtask toolchain` gets the compiler, then
//! `cargo run --release --features cuda --example 04_cuda_slices`

use cudarc::driver::CudaContext;
use emo::Backend;
use emo::cuda::Cuda;
use emo::ops::rms_norm::{Forward, Shape};
use half::bf16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // cudarc panics where there is no driver; the backend says so. A program may ask it first.
    if let Err(error) = Cuda::<bf16>::new(0) {
        println!("nothing to show: {error}");
        return Ok(());
    }

    // What an engine has already: a context, a stream, and tensors on it.
    let stream = CudaContext::new(0)?.new_stream()?;
    let (rows, width) = (4, 256);
    let values: Vec<bf16> = (0..rows * width).map(|i| bf16::from_f32((i % 17) as f32 - 8.0)).collect();
    let x = stream.clone_htod(&values)?;
    let weight = stream.clone_htod(&vec![2.0f32; width])?;
    let mut y = stream.alloc_zeros::<bf16>(rows * width)?;
    let mut rstd = stream.alloc_zeros::<f32>(rows)?;

    // The backend joins that stream. Ops enqueue on it and return; `borrow` makes views of slices, and tells cudarc when
    // they are dropped, so that other streams wait for what was enqueued here.
    let cuda = Cuda::<bf16>::on_stream(stream.clone())?;
    println!("{}", cuda.describe());
    cuda.rms_norm_forward(Forward {
        shape: Shape::rows(rows, width),
        eps: 1e-6,
        x: cuda.borrow(&x)?.view(),
        weight: cuda.borrow(&weight)?.view(),
        y: cuda.borrow_mut(&mut y)?.view_mut(),
        rstd: cuda.borrow_mut(&mut rstd)?.view_mut(),
    })?;

    // Back in cudarc's hands. Every row has a mean square of the weight's square.
    let found = stream.clone_dtoh(&y)?;
    for row in found.chunks(width) {
        let mean = row.iter().map(|y| y.to_f32() * y.to_f32()).sum::<f32>() / width as f32;
        println!("mean square {mean:.2}");
        assert!((mean - 4.0).abs() < 0.05);
    }
    println!("rstd {:.4?}", stream.clone_dtoh(&rstd)?);
    Ok(())
}
