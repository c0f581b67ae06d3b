//! Which form each gradient takes on which device: one table, no scattered conditions.
//!
//! All forms compute the same thing in standard operators; they differ in speed. The CPU column was measured with
//! ONNX Runtime's CPU provider on AlexNet at batch 128; the CUDA column follows from how its kernels work.

/// The kind of device that a graph is built for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// ONNX Runtime's CPU provider.
    #[default]
    Cpu,
    /// ONNX Runtime's CUDA provider.
    Cuda,
}

/// How the gradient of a convolution's weights is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvWeightForm {
    /// One convolution of the transposed input with the transposed gradient as its kernel, strides becoming dilations.
    DilatedConv,
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
    /// Weight gradient of convolutions whose strides are all 1.
    pub conv_weight_unit_stride: ConvWeightForm,
    /// Weight gradient of all other convolutions.
    pub conv_weight_strided: ConvWeightForm,
    /// Rows (offsets × channels of a group) up to which offsets share a matrix product.
    pub conv_weight_product_rows: usize,
    /// Local response normalisation.
    pub lrn: LrnForm,
}

impl Lowering {
    /// The forms that are fastest on `target` in a training step.
    pub fn training(target: Target) -> Self {
        match target {
            Target::Cpu => Self {
                conv_weight_unit_stride: ConvWeightForm::OffsetGemm,
                conv_weight_strided: ConvWeightForm::DilatedConv,
                conv_weight_product_rows: 64,
                lrn: LrnForm::BandedConv,
            },
            // cuDNN has no good algorithm for a convolution whose kernel is as large as its input.
            Target::Cuda => Self {
                conv_weight_unit_stride: ConvWeightForm::OffsetGemm,
                conv_weight_strided: ConvWeightForm::OffsetGemm,
                conv_weight_product_rows: 64,
                lrn: LrnForm::BandedConv,
            },
        }
    }

    /// The forms for graphs that only go forward.
    pub fn evaluation(target: Target) -> Self {
        Self { lrn: LrnForm::Operator, ..Self::training(target) }
    }
}
