//! The form of each operator and its gradient on each device: one table instead of scattered conditions.
//!
//! All forms compute the same in standard operators; they differ in speed. The choices were measured on
//! AlexNet at batch size 128: for the CPU on two cores, for CUDA on an H100; those for networks from files on
//! the layers of such networks at batch size 32 (`docs/BENCHMARKS.md`).

use crate::operator::Operator;

/// Largest number of tensors of equal shape whose addresses the CUDA kernels of Concat and Split take as
/// arguments, rather than from a list in memory.
pub const ADDRESSES_AS_ARGUMENTS: usize = 32;

/// The device that a graph is built for, and the precision of its matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// ONNX Runtime's CPU provider.
    #[default]
    Cpu,
    /// ONNX Runtime's CUDA provider, with products in single precision.
    Cuda,
    /// The CUDA provider with products in TF32.
    CudaTf32,
    /// The CUDA provider with products in half precision.
    CudaF16,
}

/// How the gradient of a convolution's weights is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvWeightForm {
    /// One convolution of the transposed input, with the transposed gradient as its kernel and strides as
    /// dilations. The batch is split into parts, whose results are added at the end, to occupy more of a
    /// GPU's multiprocessors.
    DilatedConv {
        /// Largest number of parts.
        parts: usize,
    },
    /// Batch-last layout and a matrix product per kernel offset, or per several offsets where channels are
    /// few; strides become extra channels first (space to depth).
    OffsetGemm,
    /// As [`OffsetGemm`](Self::OffsetGemm), with strides as steps between the rows and columns of a window.
    SteppedGemm,
}

/// How the gradient of a depthwise convolution's weights is computed, in a constant number of nodes for any
/// number of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthwiseForm {
    /// One grouped convolution, with the batch as channels of its groups and the gradient as its kernel.
    OneConv,
    /// One grouped convolution with a group for each channel of each image, and a sum over the images, where
    /// all sides of the output are of `px` or more; elsewhere as [`OneConv`](Self::OneConv).
    ConvOfImages {
        /// Shortest side of the output, in pixels.
        px: usize,
    },
    /// A product and a sum for each kernel offset: three nodes each.
    Sums,
}

/// How a gradient is kept where a mask is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskForm {
    /// By `Where`.
    Select,
    /// By a product with the mask as numbers.
    Product,
}

/// How local response normalisation is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrnForm {
    /// The sum over neighbouring channels as a 1×1 convolution with a banded matrix, shared with the
    /// gradient.
    BandedConv,
    /// The `LRN` operator, for graphs that are only evaluated; its gradient still uses the banded sum.
    Operator,
}

/// The forms chosen for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowering {
    /// The device that the forms are for.
    pub target: Target,
    /// Largest number of channels for which a strided convolution becomes one of stride 1, with the pixels of
    /// each stride × stride square as channels (space to depth); 0 for never.
    pub space_to_depth_channels: usize,
    /// Largest number of groups for which each group becomes a separate convolution.
    pub groups_apart: usize,
    /// Longest side of a plane for which a convolution of stride 1 with many channels is a matrix product
    /// over the whole batch; 0 for never.
    pub conv_by_product_px: usize,
    /// Whether the data gradient of a convolution of stride 1 is a convolution rather than a transposed
    /// convolution.
    pub conv_data_by_flipped_kernel: bool,
    /// Where that is false, the shortest side of a plane for which it is one all the same; for kernels of one
    /// element and for depthwise ones, on any plane. `None` for never.
    pub conv_data_flipped_px: Option<usize>,
    /// Weight gradient of convolutions of stride 1.
    pub conv_weight_unit_stride: ConvWeightForm,
    /// Weight gradient of all other convolutions.
    pub conv_weight_strided: ConvWeightForm,
    /// Longest side of a convolution's output for [`ConvWeightForm::DilatedConv`], where it becomes the side
    /// of the kernel; longer ones use [`ConvWeightForm::OffsetGemm`].
    pub conv_weight_dilated_px: usize,
    /// Whether the weight gradient of a 1×1 convolution is a product for each image and a sum over these,
    /// where the products have fewer values than the copies of input and gradient in another layout.
    pub conv_weight_by_images: bool,
    /// Largest number of rows (offsets × channels of a group) of a matrix product that several offsets share.
    /// [`ConvWeightForm::SteppedGemm`] has one product.
    pub conv_weight_product_rows: usize,
    /// Whether all these products have the same number of offsets, at most [`ADDRESSES_AS_ARGUMENTS`]: a CUDA
    /// graph then replays their Concats faithfully.
    pub conv_weight_products_alike: bool,
    /// Largest number of groups for which a weight gradient has nodes of its own for each group; above it,
    /// all groups share one convolution.
    pub conv_weight_groups_apart: usize,
    /// Weight gradient of depthwise convolutions of more groups than that.
    pub conv_weight_depthwise: DepthwiseForm,
    /// Gradients of rectifiers and limits.
    pub masks: MaskForm,
    /// Local response normalisation.
    pub lrn: LrnForm,
    /// Whether the power ¾ is computed by square roots.
    pub power_by_roots: bool,
    /// Whether a reduction over axes that are not adjacent becomes one reduction per run of adjacent axes.
    pub reduce_by_runs: bool,
    /// Whether graphs may hold operators of the domain [`DOMAIN`](crate::DOMAIN) that have a kernel on the
    /// target; only sessions that know them load such graphs.
    pub own_operators: bool,
}

impl Lowering {
    /// Whether graphs may hold `operator`, of the domain [`DOMAIN`](crate::DOMAIN).
    pub(crate) fn has_own(&self, operator: &Operator) -> bool {
        self.own_operators && (self.target == Target::Cpu || !operator.cuda.is_empty())
    }

    /// The forms that are fastest on `target` in a training step.
    #[must_use]
    pub fn training(target: Target) -> Self {
        let cuda = Self {
            target,
            // Three channels do not fill the smallest tile of a tensor core.
            space_to_depth_channels: 4,
            groups_apart: 1,
            conv_by_product_px: 0,
            conv_data_by_flipped_kernel: false,
            conv_data_flipped_px: None,
            conv_weight_unit_stride: ConvWeightForm::DilatedConv { parts: 1 },
            conv_weight_strided: ConvWeightForm::OffsetGemm,
            conv_weight_dilated_px: 32,
            conv_weight_by_images: false,
            conv_weight_product_rows: 512,
            conv_weight_products_alike: true,
            conv_weight_groups_apart: 4,
            // Not measured; these are element-wise kernels and reductions, which are fast for any shape.
            conv_weight_depthwise: DepthwiseForm::Sums,
            masks: MaskForm::Select,
            lrn: LrnForm::BandedConv,
            power_by_roots: false,
            // In cuDNN, reducing N, H and W at once is six to eight times slower than H and W first, then N.
            reduce_by_runs: true,
            own_operators: false,
        };
        match target {
            Target::Cpu => Self {
                space_to_depth_channels: 0,
                groups_apart: 1,
                target,
                conv_by_product_px: 0,
                conv_data_by_flipped_kernel: false,
                conv_data_flipped_px: None,
                conv_weight_unit_stride: ConvWeightForm::OffsetGemm,
                conv_weight_strided: ConvWeightForm::DilatedConv { parts: 1 },
                conv_weight_dilated_px: usize::MAX,
                conv_weight_by_images: false,
                conv_weight_product_rows: 64,
                conv_weight_products_alike: false,
                conv_weight_groups_apart: 2,
                // As fast as sums to 16 times as fast (kernels of 3 to 7, planes of 2 to 32 pixels).
                conv_weight_depthwise: DepthwiseForm::OneConv,
                masks: MaskForm::Select,
                lrn: LrnForm::BandedConv,
                power_by_roots: true,
                reduce_by_runs: false,
                own_operators: false,
            },
            // cuDNN has fast transforms for large kernels, and for small ones in a single group.
            Target::Cuda => Self {
                groups_apart: 4,
                conv_data_by_flipped_kernel: true,
                conv_weight_dilated_px: 64,
                ..cuda
            },
            Target::CudaTf32 => {
                Self { conv_weight_unit_stride: ConvWeightForm::DilatedConv { parts: 8 }, ..cuda }
            }
            Target::CudaF16 => cuda,
        }
    }

    /// The same, with the forms for networks from files, which were measured on the layers of residual and
    /// mobile networks and transformers. Layers of recipes keep theirs, so that they compute the same bits as
    /// before. A graph that only evaluates keeps the convolutions of the file.
    #[must_use]
    pub fn of_files(self, trains: bool) -> Self {
        match self.target {
            Target::Cpu => Self {
                // In a step, `Where` takes two to three times as long as the product with a mask.
                masks: MaskForm::Product,
                // At 14 px three quarters of the time of the transposed convolution, at 10 px three times
                // as long.
                conv_data_flipped_px: Some(12),
                // Of 3×3 on 10 to 4 px: a third to all of the time of the convolution, which depends on how
                // busy the memory is.
                conv_by_product_px: if trains { 10 } else { 0 },
                // Of 3×3, stride 2: half the time of the dilated convolution (28 to 7 px), of 7×7 nine
                // tenths.
                conv_weight_strided: ConvWeightForm::SteppedGemm,
                // With busy memory six to seven tenths of the time of a product for each offset, else up to a
                // fifth more.
                conv_weight_product_rows: 384,
                // From 56 to 14 px an eighth to nine tenths of the time.
                conv_weight_by_images: true,
                // From 28 to 14 px eight to nine tenths of the time of one convolution for all images, and no
                // copies in another layout; more below.
                conv_weight_depthwise: DepthwiseForm::ConvOfImages { px: 10 },
                ..self
            },
            Target::Cuda | Target::CudaTf32 | Target::CudaF16 => self,
        }
    }

    /// The forms for graphs without gradients.
    #[must_use]
    pub fn evaluation(target: Target) -> Self {
        Self { lrn: LrnForm::Operator, ..Self::training(target) }
    }
}
