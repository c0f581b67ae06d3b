//! Which form each operator and its gradient take on which device: one table, no scattered conditions.
//!
//! All forms compute the same thing in standard operators; they differ in speed. The columns were measured on AlexNet at
//! batch 128: that of the CPU on two cores, those of CUDA on an H100 (`docs/BENCHMARKS.md`).

/// Pieces, all alike, up to which kernels of CUDA that join or part them take their addresses as arguments, not from a list in
/// memory.
pub const ADDRESSES_AS_ARGUMENTS: usize = 32;

/// The kind of device that a graph is built for, and what it multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// ONNX Runtime's CPU provider.
    #[default]
    Cpu,
    /// ONNX Runtime's CUDA provider, products in full single precision.
    Cuda,
    /// The CUDA provider with products in TF32.
    CudaTf32,
    /// The CUDA provider with products in half precision.
    CudaF16,
}

/// How the gradient of a convolution's weights is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvWeightForm {
    /// One convolution of the transposed input with the transposed gradient as its kernel, strides becoming dilations. The
    /// images are cut into at most so many parts, whose sums are added in the end: work for more of a GPU's processors.
    DilatedConv {
        /// Parts.
        parts: usize,
    },
    /// Batch-last layout and a matrix product for every kernel offset, or for some of them together where channels are
    /// few; strides become extra channels first (space to depth).
    OffsetGemm,
}

/// How local response normalisation is computed in a graph that is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrnForm {
    /// The sum over neighbouring channels as a 1×1 convolution with a banded matrix, shared with the gradient.
    BandedConv,
    /// The `LRN` operator, the form for graphs that are only evaluated: its gradient still uses the banded sum.
    Operator,
}

/// The forms chosen for one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowering {
    /// Channels up to which a strided convolution is computed as one of stride 1 whose input has the pixels of a
    /// stride × stride square as channels (space to depth); 0 for never.
    pub space_to_depth_channels: usize,
    /// Number of groups up to which each group is a convolution of its own.
    pub groups_apart: usize,
    /// Whether the data gradient of convolutions whose strides are all 1 is a convolution too, not a transposed one.
    pub conv_data_by_flipped_kernel: bool,
    /// Weight gradient of convolutions whose strides are all 1.
    pub conv_weight_unit_stride: ConvWeightForm,
    /// Weight gradient of all other convolutions.
    pub conv_weight_strided: ConvWeightForm,
    /// Longest side of a convolution's output that [`ConvWeightForm::DilatedConv`] is good for, as it is the side of the
    /// kernel there; above it is [`ConvWeightForm::OffsetGemm`].
    pub conv_weight_dilated_px: usize,
    /// Rows (offsets × channels of a group) up to which offsets share a matrix product.
    pub conv_weight_product_rows: usize,
    /// Whether all these products are of as many offsets, at most 32: their joins leave a CUDA graph faithful.
    pub conv_weight_products_alike: bool,
    /// Local response normalisation.
    pub lrn: LrnForm,
    /// Whether the power ¾ is made of square roots.
    pub power_by_roots: bool,
    /// Whether a reduction over axes that are not neighbours is made of reductions over those that are.
    pub reduce_by_runs: bool,
}

impl Lowering {
    /// The forms that are fastest on `target` in a training step.
    pub fn training(target: Target) -> Self {
        let cuda = Self {
            // Three channels do not fill the smallest tile of a tensor core.
            space_to_depth_channels: 4,
            groups_apart: 1,
            conv_data_by_flipped_kernel: false,
            conv_weight_unit_stride: ConvWeightForm::DilatedConv { parts: 1 },
            conv_weight_strided: ConvWeightForm::OffsetGemm,
            conv_weight_dilated_px: 32,
            conv_weight_product_rows: 512,
            conv_weight_products_alike: true,
            lrn: LrnForm::BandedConv,
            power_by_roots: false,
            // cuDNN reduces N, H and W at once six to eight times slower than H and W, then N.
            reduce_by_runs: true,
        };
        match target {
            Target::Cpu => Self {
                space_to_depth_channels: 0,
                groups_apart: 1,
                conv_data_by_flipped_kernel: false,
                conv_weight_unit_stride: ConvWeightForm::OffsetGemm,
                conv_weight_strided: ConvWeightForm::DilatedConv { parts: 1 },
                conv_weight_dilated_px: usize::MAX,
                conv_weight_product_rows: 64,
                conv_weight_products_alike: false,
                lrn: LrnForm::BandedConv,
                power_by_roots: true,
                reduce_by_runs: false,
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

    /// The forms for graphs that only go forward.
    pub fn evaluation(target: Target) -> Self {
        Self { lrn: LrnForm::Operator, ..Self::training(target) }
    }
}
