//! Matrix products: the linear layer, several of one input, the plain product and the embedding
//! table.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use kernels::gemm::{Mat, Out, Start, gemm};
use kernels::quant::GROUP;
use kernels::uninit;

use super::fused::{elements, is_fusable, shaped_like, with_elements};
use super::{Adapter, Compute, Weight};

/// `y = x Wᵀ + b`
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in)
    pub weight: Weight,
    /// (out)
    pub bias: Option<Tensor>,
    pub compute: Compute,
    /// Changes laid over the weight, in order.
    pub adapters: Vec<Adapter>,
}

impl Linear {
    /// `x (..., in)` → `(..., out)`
    ///
    /// # Errors
    /// When the last size of `x` is not the layer's input size.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !self.adapters.is_empty() {
            return self.adapted(x);
        }
        let (n_out, n_in) = self.weight.dims2()?;
        if let Weight::Dense(weight) = &self.weight
            && is_fusable(&[x, weight])
        {
            return self.fused(x, weight);
        }
        let (x, mut dims) = as_rows(x, n_in)?;
        let y = match &self.weight {
            Weight::Packed(packed) => {
                packed.product(&x, self.bias.as_ref(), (&[n_out], self.compute))?.remove(0)
            }
            Weight::Dense(weight) => {
                let y = x.matmul(&weight.t()?)?;
                self.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))?
            }
        };
        dims.push(n_out);
        y.reshape(dims) // (..., out)
    }

    fn adapted(&self, x: &Tensor) -> Result<Tensor> {
        let plain = Linear { adapters: Vec::new(), bias: None, ..self.clone() };
        let how = (&self.weight, self.compute);
        let change = |y: Tensor, adapter: &Adapter| adapter.change(&y, x, how);
        let y = self.adapters.iter().try_fold(plain.forward(x)?, change)?;
        self.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
    }

    /// Without a change of shape on the way: each would be a step of its own going back.
    fn fused(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        if x.dims().last() != Some(&weight.dims2()?.1) {
            bail!("linear layer of {} inputs was given {:?}", weight.dims2()?.1, x.dims());
        }
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        match &self.bias {
            Some(bias) => x.apply_op3(&weight, bias, Product(self.compute)),
            None => x.apply_op2(&weight, Product(self.compute)),
        }
    }
}

/// `x (..., in)` as `(rows, in)`, and its leading sizes.
fn as_rows(x: &Tensor, n_in: usize) -> Result<(Tensor, Vec<usize>)> {
    match x.dims().split_last() {
        Some((&last, leading)) if last == n_in => {
            Ok((x.contiguous()?.reshape(((), n_in))?, leading.to_vec()))
        }
        _ => bail!("linear layer of {n_in} inputs was given {:?}", x.dims()),
    }
}

/// `N` linear layers that read the same input: one product when their weights lie together, packed
/// or as the checkpoint has them.
#[derive(Debug, Clone)]
pub enum Projections<const N: usize> {
    Each([Linear; N]),
    /// `adapters` are those of each layer alone.
    Together {
        all: Linear,
        widths: [usize; N],
        adapters: [Vec<Adapter>; N],
    },
}

impl<const N: usize> Projections<N> {
    /// `x (..., in)` → each `(..., out)`
    ///
    /// # Errors
    /// When the last size of `x` is not the layers' input size.
    pub fn forward(&self, x: &Tensor) -> Result<[Tensor; N]> {
        let outputs = match self {
            Projections::Each(layers) => {
                layers.iter().map(|layer| layer.forward(x)).collect::<Result<Vec<_>>>()?
            }
            Projections::Together { all, widths, adapters } => {
                let (rows, dims) = as_rows(x, all.weight.dims2()?.1)?;
                let parts = match &all.weight {
                    Weight::Packed(packed)
                        if all.adapters.is_empty()
                            && widths.iter().all(|n| n.is_multiple_of(GROUP)) =>
                    {
                        packed.product(&rows, all.bias.as_ref(), (widths, all.compute))?
                    }
                    _ => columns(&all.forward(&rows)?, widths)?,
                };
                let how = (&all.weight, all.compute);
                let changed = parts.into_iter().zip(adapters).map(|(part, adapters)| {
                    adapters.iter().try_fold(part, |y, adapter| adapter.change(&y, &rows, how))
                });
                let shaped = changed
                    .zip(widths)
                    .map(|(part, &width)| part?.reshape([dims.as_slice(), &[width]].concat()));
                shaped.collect::<Result<Vec<_>>>()?
            }
        };
        match outputs.try_into() {
            Ok(outputs) => Ok(outputs),
            Err(_) => bail!("{N} projections gave another number of outputs"),
        }
    }

    pub fn compute(&self) -> Compute {
        match self {
            Projections::Each(layers) => {
                layers.first().map_or_else(Compute::default, |l| l.compute)
            }
            Projections::Together { all, .. } => all.compute,
        }
    }
}

/// `(rows, sum of widths)` → each `(rows, width)`
fn columns(all: &Tensor, widths: &[usize]) -> Result<Vec<Tensor>> {
    let mut first = 0;
    let cut = |&width: &usize| {
        first += width;
        all.narrow(1, first - width, width)?.contiguous()
    };
    widths.iter().map(cut).collect()
}

/// `x (..., in)`, `W (out, in)`, `b (out)` → `(..., out)`
struct Product(Compute);

/// The rows of `x (..., in)` and the shape `(..., out)`.
fn rows_and_shape(x: &Layout, n_out: usize) -> (usize, Shape) {
    let (mut dims, n_in) = (x.dims().to_vec(), x.dims().last().copied().unwrap_or(1));
    if let Some(last) = dims.last_mut() {
        *last = n_out;
    }
    (x.shape().elem_count() / n_in.max(1), Shape::from(dims))
}

impl Product {
    fn forward(&self, x: (&[f32], usize), w: (&[f32], usize), start: Start) -> Vec<f32> {
        let ((x, rows), (w, n_out)) = (x, w);
        let n_in = w.len() / n_out.max(1);
        let mut out = uninit(rows * n_out);
        let (a, b) = (Mat::new(x, rows, n_in), Mat::new(w, n_out, n_in).t());
        gemm(Out { data: &mut out, row_stride: n_out }, a, b, start, self.0.precision());
        out
    }

    /// `dx = g W` and `dW = gᵀ x`, each only where it is wanted.
    fn backward(&self, x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (n_out, n_in) = w.dims2()?;
        let rows = x.elem_count() / n_in.max(1);
        let precision = self.0.precision();
        with_elements(grad, |g| {
            let g = Mat::new(g, rows, n_out);
            let dx = x.track_op().then(|| {
                let mut dx = uninit(rows * n_in);
                with_elements(w, |w| {
                    let out = Out { data: &mut dx, row_stride: n_in };
                    gemm(out, g, Mat::new(w, n_out, n_in), Start::Zero, precision);
                })?;
                shaped_like(dx, x)
            });
            let dw = w.track_op().then(|| {
                let mut dw = uninit(n_out * n_in);
                with_elements(x, |x| {
                    let out = Out { data: &mut dw, row_stride: n_in };
                    gemm(out, g.t(), Mat::new(x, rows, n_in), Start::Zero, precision);
                })?;
                shaped_like(dw, w)
            });
            Ok([dx.transpose()?, dw.transpose()?])
        })?
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let n_out = w_layout.dims()[0];
        let (rows, shape) = rows_and_shape(x_layout, n_out);
        let (x, w) = (elements(x, x_layout)?, elements(w, w_layout)?);
        let out = self.forward((x, rows), (w, n_out), Start::Zero);
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw] = self.backward(x, w, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Product {
    fn name(&self) -> &'static str {
        "linear with bias"
    }

    // tidy: allow(parameters): the trait's.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let n_out = w_layout.dims()[0];
        let (rows, shape) = rows_and_shape(x_layout, n_out);
        let (x, w) = (elements(x, x_layout)?, elements(w, w_layout)?);
        let out = self.forward((x, rows), (w, n_out), Start::Bias(elements(b, b_layout)?));
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw] = self.backward(x, w, grad)?;
        let db = b.track_op().then(|| {
            let mut db = vec![0f32; b.elem_count()];
            with_elements(grad, |g| kernels::norm::column_sum(&mut db, g))?;
            shaped_like(db, b)
        });
        Ok((dx, dw, db.transpose()?))
    }
}

/// `a (..., m, k) · b (..., k, n)` → `(..., m, n)`, the leading sizes equal.
///
/// # Errors
/// When the sizes do not fit.
pub fn matmul(a: &Tensor, b: &Tensor, compute: Compute) -> Result<Tensor> {
    match compute {
        Compute::Bf16 if is_fusable(&[a, b]) && a.rank() == 2 => {
            let w = b.t()?.contiguous()?;
            a.contiguous()?.apply_op2(&w, Product(compute))
        }
        _ => a.contiguous()?.matmul(&b.contiguous()?),
    }
}

/// A table of rows, looked up by id.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// (V, D)
    pub weight: Weight,
}

impl Embedding {
    /// `ids (...)` of u32 → `(..., D)`
    ///
    /// # Errors
    /// When an id is not below V.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut dims = ids.dims().to_vec();
        dims.push(self.weight.dims2()?.1);
        let ids = ids.flatten_all()?;
        let rows = match &self.weight {
            Weight::Dense(weight) => weight.contiguous()?.index_select(&ids, 0)?,
            Weight::Packed(packed) => packed.lookup(&ids.to_vec1::<u32>()?)?,
        };
        rows.reshape(dims)
    }
}
