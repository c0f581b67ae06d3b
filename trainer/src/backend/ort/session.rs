//! Creation of sessions.

use fovea_graph::Graph;
use fovea_runtime::{Device, OnnxRuntime, first_alone};
use ort::ep::cuda::{CUDA, ConvAlgorithmSearch};
use ort::ep::{self, ArenaExtendStrategy, ExecutionProviderDispatch};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::OrtOptions;
use crate::backend::{BackendError, Precision};

/// The use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Like `Step`; a GPU may record it as a CUDA graph.
    Train,
    /// Runs repeatedly: it keeps its allocated memory.
    Step,
    /// Runs rarely: on the CPU it frees its memory after each run.
    Seldom,
}

/// The key of the setting that names optimizers which do not run.
const DISABLED_OPTIMIZERS: &str = "optimization.disable_specified_optimizers";

/// Opens a session over `graph`.
pub(super) fn open(
    loaded: &OnnxRuntime,
    options: &OrtOptions,
    graph: &Graph,
    role: Role,
) -> Result<Session, BackendError> {
    let builder = general(loaded).map_err(BackendError::session("set up a session"))?;
    let mut builder = provide(builder, loaded, options, role)?;
    first_alone(|| builder.commit_from_memory(&graph.to_bytes())).map_err(|reason| match options.device {
        Device::Cpu => BackendError::Session { doing: "load a graph", reason },
        Device::Cuda(id) => BackendError::Cuda { id, reason },
    })
}

fn general(loaded: &OnnxRuntime) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(&loaded.environment)?
        // Everything except changes of layout, which cost more here than they save.
        .with_optimization_level(GraphOptimizationLevel::Level2)?
        // One block for all tensors of a step would take a quarter more memory than the arena.
        .with_memory_pattern(false)?)
}

fn provide(
    builder: SessionBuilder,
    loaded: &OnnxRuntime,
    options: &OrtOptions,
    role: Role,
) -> Result<SessionBuilder, BackendError> {
    match options.device {
        Device::Cpu => {
            let arena = role != Role::Seldom;
            let provider = ep::CPU::default().with_arena_allocator(arena).build();
            with_provider(builder, provider)
                // A product that takes over an addition has it written to the whole output first, by one
                // thread.
                .and_then(|builder| Ok(builder.with_config_entry(DISABLED_OPTIMIZERS, "MatMulAddFusion")?))
                .and_then(|builder| Ok(builder.with_operators(fovea_kernels::operators(loaded.threads)?)?))
                .map_err(BackendError::session("set up a session on the CPU"))
        }
        // A node on the CPU would see the inputs of the first run in every run: they are bound once, and
        // copied there only then.
        Device::Cuda(id) => with_provider(builder, cuda(id, options, role))
            .and_then(|builder| match options.own_operators {
                true => Ok(builder.with_operators(fovea_kernels::cuda_operators()?)?),
                false => Ok(builder),
            })
            .and_then(|builder| Ok(builder.with_disable_cpu_fallback()?))
            .map_err(|reason| BackendError::Cuda { id, reason }),
    }
}

fn with_provider(
    builder: SessionBuilder,
    provider: ExecutionProviderDispatch,
) -> ort::Result<SessionBuilder> {
    Ok(builder.with_execution_providers([provider])?)
}

/// The CUDA provider; without `error_on_failure` a session without CUDA would silently run on the CPU.
fn cuda(id: u32, options: &OrtOptions, role: Role) -> ExecutionProviderDispatch {
    CUDA::default()
        .with_device_id(id as i32)
        // In half precision the products that stay f32, those of the normalisation, need no more bits than
        // the others.
        .with_tf32(options.precision != Precision::F32)
        // The exhaustive search runs every algorithm once, which is cheap over many thousand steps.
        .with_conv_algorithm_search(ConvAlgorithmSearch::Exhaustive)
        .with_conv_max_workspace(true)
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .with_cuda_graph(options.records() && role == Role::Train)
        .build()
        .error_on_failure()
}

/// Memory on the device that `session` computes on.
pub(super) fn device_allocator(session: &Session, device: Device) -> Result<Allocator, BackendError> {
    match device {
        Device::Cpu => Ok(Allocator::default()),
        Device::Cuda(id) => {
            MemoryInfo::new(AllocationDevice::CUDA, id as i32, AllocatorType::Device, MemoryType::Default)
                .and_then(|info| Allocator::new(session, info))
                .map_err(|reason| BackendError::Cuda { id, reason })
        }
    }
}

/// Memory of the host that the device reads fastest.
pub(super) fn staging_allocator(session: &Session, device: Device) -> Result<Allocator, BackendError> {
    match device {
        Device::Cpu => Ok(Allocator::default()),
        Device::Cuda(id) => MemoryInfo::new(
            AllocationDevice::CUDA_PINNED,
            id as i32,
            AllocatorType::Device,
            MemoryType::CPUInput,
        )
        .and_then(|info| Allocator::new(session, info))
        .map_err(|reason| BackendError::Cuda { id, reason }),
    }
}
