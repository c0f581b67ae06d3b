//! The kernels as operators of ONNX Runtime: the same as those on the CPU, by name, inputs and attributes.

use std::ffi::{CStr, c_void};
use std::ptr;

use ort::Error;
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::{DynTensorValueType, ValueRef};

use super::driver::Driver;
use crate::lrn::Lrn;
use crate::node::{Like, Signature, Windows, channel_sizes, lrn_of, shape_of};
use crate::operators::DOMAIN;
use crate::pool::MaxPool;

/// The operators that run on a GPU; ONNX Runtime must be loaded.
///
/// # Errors
/// NVIDIA's driver cannot be loaded, or ONNX Runtime refuses them.
pub fn cuda_operators() -> ort::Result<OperatorDomain> {
    let driver = Driver::shared().map_err(Error::new)?;
    ON_GPU
        .into_iter()
        .try_fold(OperatorDomain::new(DOMAIN)?, |domain, kernel| domain.add(OnDriver { kernel, driver }))
}

const ON_GPU: [OnGpu; 4] = [
    OnGpu {
        signature: Signature { name: "Lrn", inputs: 1, optional: 0, outputs: &[Like::Input(0)] },
        entry: c"lrn",
        sizes: lrn_sizes,
    },
    OnGpu {
        signature: Signature { name: "LrnGradient", inputs: 2, optional: 0, outputs: &[Like::Input(1)] },
        entry: c"lrn_gradient",
        sizes: lrn_sizes,
    },
    OnGpu {
        signature: Signature { name: "MaxPool", inputs: 1, optional: 0, outputs: &[Like::Attribute] },
        entry: c"max_pool",
        sizes: |context| {
            let (windows, shape) = (Windows::of(context)?, shape_of(context)?);
            Ok(Box::new(move |inputs| Ok(Sizes::of_pool(&windows.pool(inputs[0], &shape)?, false))))
        },
    },
    OnGpu {
        signature: Signature { name: "MaxPoolGradient", inputs: 2, optional: 0, outputs: &[Like::Input(1)] },
        entry: c"max_pool_gradient",
        sizes: |context| {
            let windows = Windows::of(context)?;
            Ok(Box::new(move |inputs| Ok(Sizes::of_pool(&windows.pool(inputs[1], inputs[0])?, true))))
        },
    },
];

fn lrn_sizes(context: &KernelContext<'_>) -> ort::Result<SizesOf> {
    let lrn = lrn_of(context)?;
    // All operands have the same shape.
    Ok(Box::new(move |inputs| Ok(Sizes::of_lrn(&lrn(channel_sizes(inputs[0])?)))))
}

/// An operator whose kernel takes the inputs, the output, the sizes and the number of threads.
#[derive(Clone, Copy)]
struct OnGpu {
    signature: Signature,
    /// The kernel's name.
    entry: &'static CStr,
    sizes: fn(&KernelContext<'_>) -> ort::Result<SizesOf>,
}

/// The sizes for inputs of these shapes.
type SizesOf = Box<dyn Fn(&[&[i64]]) -> ort::Result<Sizes> + Send>;

/// What a kernel computes, with the number of threads that it needs.
pub(super) struct Sizes {
    geometry: Geometry,
    threads: usize,
}

/// The structures of `kernels.cu`.
#[derive(Clone, Copy)]
enum Geometry {
    Lrn(LrnSizes),
    Pool(PoolSizes),
}

#[derive(Clone, Copy)]
#[repr(C)]
struct LrnSizes {
    channels: i32,
    plane: i32,
    reach: i32,
    alpha: f32,
    k: f32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct PoolSizes {
    input: [i32; 2],
    output: [i32; 2],
    kernel: [i32; 2],
    strides: [i32; 2],
    pads: [i32; 2],
}

impl Sizes {
    pub fn of_lrn(lrn: &Lrn) -> Self {
        let [channels, plane, reach] = [lrn.channels, lrn.plane, lrn.size / 2].map(|size| size as i32);
        let geometry = Geometry::Lrn(LrnSizes { channels, plane, reach, alpha: lrn.alpha, k: lrn.k });
        Self { geometry, threads: lrn.images * lrn.plane }
    }

    /// Of a pooling, or of its gradient.
    pub fn of_pool(pool: &MaxPool, is_gradient: bool) -> Self {
        let [input, output, kernel, strides, pads] =
            [pool.input, pool.output, pool.kernel, pool.strides, pool.pads]
                .map(|pair| pair.map(|size| size as i32));
        let [rows, columns] = if is_gradient { pool.input } else { pool.output };
        let geometry = Geometry::Pool(PoolSizes { input, output, kernel, strides, pads });
        Self { geometry, threads: pool.images * pool.channels * rows * columns }
    }

    /// Launches the kernel `entry` of `driver` for operands at these addresses, the output last.
    ///
    /// # Errors
    /// Those of the driver.
    ///
    /// # Safety
    /// The operands are in the memory of the GPU, of the sizes that these are for, and stay until the stream
    /// has come so far; `stream` is a stream of the GPU or null.
    pub unsafe fn launch(
        mut self,
        driver: &Driver,
        entry: &CStr,
        operands: &mut [*mut c_void],
        stream: *mut c_void,
    ) -> Result<(), String> {
        if self.threads == 0 {
            return Ok(());
        }
        let mut count = self.threads as i64;
        let geometry: *mut c_void = match &mut self.geometry {
            Geometry::Lrn(sizes) => ptr::from_mut(sizes).cast(),
            Geometry::Pool(sizes) => ptr::from_mut(sizes).cast(),
        };
        let operands = operands.iter_mut().map(|operand| ptr::from_mut(operand).cast());
        let mut arguments: Vec<*mut c_void> =
            operands.chain([geometry, ptr::from_mut(&mut count).cast()]).collect();
        let function = driver.function(entry)?;
        // SAFETY: the kernels of the table take these types, and the caller answers for the memory.
        unsafe { driver.launch(function, self.threads, stream, &mut arguments) }
    }
}

/// An operator of the table, on the GPUs of a driver.
struct OnDriver {
    kernel: OnGpu,
    driver: &'static Driver,
}

impl Operator for OnDriver {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        self.kernel.signature.name
    }

    fn execution_provider_type(&self) -> Option<&str> {
        Some("CUDAExecutionProvider")
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        self.kernel.signature.operator_inputs()
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        self.kernel.signature.operator_outputs()
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Self::Kernel<'attr>> {
        let (sizes, shape) =
            ((self.kernel.sizes)(context)?, context.get::<Vec<i64>>("shape").unwrap_or_default());
        let OnGpu { signature, entry, .. } = self.kernel;
        let driver = self.driver;
        Ok(Box::new(move |context: &ComputeContext| {
            compute(context, signature, &sizes, &shape, (driver, entry))
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        self.kernel.signature.infer_shape(context)
    }
}

/// Launches a node's kernel; `shape` is the attribute of this name.
fn compute(
    context: &ComputeContext,
    signature: Signature,
    sizes: &SizesOf,
    shape: &[i64],
    (driver, entry): (&Driver, &CStr),
) -> ort::Result<()> {
    let inputs: Vec<ValueRef<'_>> = (0..signature.inputs)
        .map(|at| context.input(at)?.ok_or_else(|| Error::new("an input is missing")))
        .collect::<ort::Result<_>>()?;
    let shapes: Vec<&[i64]> = inputs
        .iter()
        .map(|value| value.dtype().tensor_shape().map(|shape| &**shape).ok_or_else(not_a_tensor))
        .collect::<ort::Result<_>>()?;
    let output_shape = match signature.outputs[0] {
        Like::Input(at) => shapes[at].to_vec(),
        Like::Attribute => shape.to_vec(),
    };
    let sizes = sizes(&shapes)?;
    let output = context.output(0, output_shape)?.ok_or_else(|| Error::new("an output is missing"))?;
    let mut operands: Vec<*mut c_void> = inputs
        .into_iter()
        .map(|value| Ok(value.downcast::<DynTensorValueType>()?.data_ptr().cast_mut()))
        .collect::<ort::Result<_>>()?;
    operands.push(output.downcast::<DynTensorValueType>()?.data_ptr().cast_mut());
    let stream = context.stream()?.map_or(ptr::null_mut(), |stream| stream.as_ptr());
    // SAFETY: ONNX Runtime gives operands in the memory of its provider, of the shapes that the sizes are
    // made of, and keeps them until its stream has come so far.
    unsafe { sizes.launch(driver, entry, &mut operands, stream) }.map_err(Error::new)
}

fn not_a_tensor() -> Error {
    Error::new("an input is not a tensor")
}
