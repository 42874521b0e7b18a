//! The kernels as a custom op of candle: on the processor, and with `--features cuda` on candle's own stream and memory.
//!
//! `cargo run --release` in this folder.

use candle_core::{CpuStorage, CustomOp2, Device, Error, Layout, Result, Shape, Tensor};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::rms_norm::{self, Forward};

/// `weight * x / sqrt(mean(x^2) + eps)` over the last dimension.
struct RmsNorm {
    eps: f64,
    cpu: Cpu,
    #[cfg(feature = "cuda")]
    cuda: Option<emo::cuda::Cuda>,
}

impl RmsNorm {
    fn new(device: &Device, eps: f64) -> Result<Self> {
        #[cfg(not(feature = "cuda"))]
        let _ = device;
        Ok(Self {
            eps,
            cpu: Cpu::all_cores().map_err(Error::wrap)?,
            // The backend joins candle's stream: its ops come in order with candle's own.
            #[cfg(feature = "cuda")]
            cuda: match device {
                Device::Cuda(device) => {
                    Some(emo::cuda::Cuda::on_stream(device.cuda_stream()).map_err(Error::wrap)?)
                }
                _ => None,
            },
        })
    }
}

/// Where the elements of a contiguous tensor lie in its storage.
fn range(layout: &Layout) -> Result<std::ops::Range<usize>> {
    let (start, end) = layout.contiguous_offsets().ok_or_else(|| Error::msg("not contiguous"))?;
    Ok(start..end)
}

fn rows(layout: &Layout) -> Result<rms_norm::Shape> {
    let width = *layout.dims().last().ok_or_else(|| Error::msg("a scalar has no rows"))?;
    Ok(rms_norm::Shape::rows(layout.shape().elem_count() / width.max(1), width))
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "emo-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = rows(lx)?;
        let (mut y, mut rstd) = (vec![0f32; shape.rows * shape.width], vec![0f32; shape.rows]);
        let args = Forward {
            shape,
            eps: self.eps,
            x: &x.as_slice::<f32>()?[range(lx)?],
            weight: &w.as_slice::<f32>()?[range(lw)?],
            y: &mut y[..],
            rstd: &mut rstd[..],
        };
        self.cpu.rms_norm_forward(args).map_err(Error::wrap)?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        x: &candle_core::CudaStorage,
        lx: &Layout,
        w: &candle_core::CudaStorage,
        lw: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        use candle_core::cuda_backend::CudaStorage;

        let cuda = self.cuda.as_ref().ok_or_else(|| Error::msg("made for another device"))?;
        let (shape, device) = (rows(lx)?, x.device().clone());
        let stream = device.cuda_stream();
        let mut y = stream.alloc_zeros::<f32>(shape.rows * shape.width).map_err(Error::wrap)?;
        let mut rstd = stream.alloc_zeros::<f32>(shape.rows).map_err(Error::wrap)?;
        let (x, w) =
            (x.as_cuda_slice::<f32>()?.slice(range(lx)?), w.as_cuda_slice::<f32>()?.slice(range(lw)?));
        cuda.rms_norm_forward(Forward {
            shape,
            eps: self.eps,
            x: cuda.borrow(&x).map_err(Error::wrap)?.view(),
            weight: cuda.borrow(&w).map_err(Error::wrap)?.view(),
            y: cuda.borrow_mut(&mut y).map_err(Error::wrap)?.view_mut(),
            rstd: cuda.borrow_mut(&mut rstd).map_err(Error::wrap)?.view_mut(),
        })
        .map_err(Error::wrap)?;
        Ok((CudaStorage::wrap_cuda_slice(y, device), lx.shape().clone()))
    }
}

fn main() -> Result<()> {
    #[cfg(feature = "cuda")]
    let device = Device::cuda_if_available(0)?;
    #[cfg(not(feature = "cuda"))]
    let device = Device::Cpu;
    let x = Tensor::arange(0f32, 24f32, &device)?.reshape((4, 6))?;
    let weight = Tensor::full(2f32, 6, &device)?;

    let ours = x.apply_op2_no_bwd(&weight, &RmsNorm::new(&device, 1e-6)?)?;
    let candles = {
        let mean = (x.sqr()?.sum_keepdim(1)? / 6.0)?;
        x.broadcast_div(&(mean + 1e-6)?.sqrt()?)?.broadcast_mul(&weight)?
    };
    let off = (&ours - &candles)?.abs()?.max_all()?.to_scalar::<f32>()?;
    println!("{ours}\nat most {off:.1e} from candle's own");
    assert!(off < 1e-5);
    Ok(())
}
