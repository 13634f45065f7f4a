//! The matrix of a linear layer or an embedding: dense, or packed to 8 or 4 bits.
//!
//! Packed weights are frozen: gradients pass through them to the input, none reaches them.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};
use kernels::gemm::{Mat, Out, Precision, Start, gemm};
use kernels::quant::{Format, Packed};
use kernels::uninit;

use super::Compute;
use super::fused::{elements, shaped_like, with_elements};

/// `(out, in)`
#[derive(Debug, Clone)]
pub enum Weight {
    Dense(Tensor),
    Packed(PackedWeight),
}

impl Weight {
    /// Rows and columns.
    ///
    /// # Errors
    /// When it is no matrix.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match self {
            Weight::Dense(tensor) => tensor.dims2(),
            Weight::Packed(packed) => Ok((packed.rows, packed.cols)),
        }
    }

    pub fn device(&self) -> &Device {
        match self {
            Weight::Dense(tensor) => tensor.device(),
            Weight::Packed(_) => &Device::Cpu,
        }
    }

    /// The tensor of a weight that is never packed.
    ///
    /// # Errors
    /// When it is packed.
    pub fn dense(&self) -> Result<&Tensor> {
        match self {
            Weight::Dense(tensor) => Ok(tensor),
            Weight::Packed(_) => bail!("a packed weight has no dense tensor"),
        }
    }
}

/// A matrix on the CPU whose inner elements share scales in blocks of 32 (`kernels::quant`).
#[derive(Clone)]
pub struct PackedWeight {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: Bytes,
}

/// Part of some memory that is kept as long as anyone needs it: a mapped file, or a vector.
#[derive(Clone)]
pub struct Bytes {
    pub memory: Arc<dyn AsRef<[u8]> + Send + Sync>,
    pub range: Range<usize>,
}

impl std::fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} ({}, {})", self.format, self.rows, self.cols)
    }
}

impl PackedWeight {
    /// # Errors
    /// When the bytes are not as many as the shape needs.
    pub fn new(format: Format, (rows, cols): (usize, usize), bytes: Bytes) -> Result<Self> {
        let packed = PackedWeight { format, rows, cols, bytes };
        let found = packed.bytes.memory.as_ref().as_ref().get(packed.bytes.range.clone());
        match found.and_then(|bytes| Packed::new(format, (rows, cols), bytes)) {
            Some(_) => Ok(packed),
            None => bail!("{packed:?} does not fit {:?} bytes", packed.bytes.range),
        }
    }

    fn view(&self) -> Result<Packed<'_>> {
        let bytes = &self.bytes.memory.as_ref().as_ref()[self.bytes.range.clone()];
        match Packed::new(self.format, (self.rows, self.cols), bytes) {
            Some(packed) => Ok(packed),
            None => bail!("{self:?} lost its memory"),
        }
    }

    /// `x (rows, in)` → the matrices `(rows, width)` that `widths` cuts the outputs into.
    pub(super) fn product(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        (widths, compute): (&[usize], Compute),
    ) -> Result<Vec<Tensor>> {
        let rows = x.dim(0)?;
        let (weight, widths) = (self.clone(), widths.to_vec());
        let bias = bias.map(|bias| bias.flatten_all()).transpose()?;
        let product = Product { weight, bias, widths: widths.clone(), compute };
        let all = x.apply_op1(product)?; // (rows · out)
        let mut first = 0;
        let parts = widths.into_iter().map(|width| {
            let part = all.narrow(0, first, rows * width)?.reshape((rows, width));
            first += rows * width;
            part
        });
        parts.collect()
    }

    /// Rows `ids` → `(ids, in)`
    pub(super) fn lookup(&self, ids: &[u32]) -> Result<Tensor> {
        let packed = self.view()?;
        let mut out = uninit(ids.len() * self.cols);
        for (out, &id) in out.chunks_exact_mut(self.cols).zip(ids) {
            if id as usize >= self.rows {
                bail!("row {id} of an embedding of {}", self.rows);
            }
            packed.unpack_row(id as usize, out);
        }
        Tensor::from_vec(out, (ids.len(), self.cols), &Device::Cpu)
    }
}

struct Product {
    weight: PackedWeight,
    bias: Option<Tensor>,
    widths: Vec<usize>,
    compute: Compute,
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "packed linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, x) = (layout.dims()[0], elements(x, layout)?);
        let packed = self.weight.view()?;
        let mut out = uninit(rows * self.weight.rows);
        let mut run = |bias: Option<&[f32]>| {
            let how = (self.widths.as_slice(), self.compute.precision());
            kernels::quant::product(&mut out, (x, rows), packed, bias, how);
        };
        match &self.bias {
            Some(bias) => with_elements(bias, |bias| run(Some(bias)))?,
            None => run(None),
        }
        let n = out.len();
        Ok((CpuStorage::F32(out), Shape::from(n)))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, n_in) = x.dims2()?;
        let mut weight = uninit(self.weight.rows * n_in);
        self.weight.view()?.unpack(&mut weight);
        let mut dx = uninit(rows * n_in);
        with_elements(grad, |grad| {
            let (mut first, mut start) = (0, Start::Zero);
            for &width in &self.widths {
                let grad = Mat::new(&grad[first * rows..][..rows * width], rows, width);
                let weight = Mat::new(&weight[first * n_in..][..width * n_in], width, n_in);
                let out = Out { data: &mut dx, row_stride: n_in };
                gemm(out, grad, weight, start, Precision::F32);
                (first, start) = (first + width, Start::Old);
            }
        })?;
        Ok(Some(shaped_like(dx, x)?))
    }
}
