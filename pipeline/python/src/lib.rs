//! The native part of the Python package `fovea_loader`: thin classes over `fovea-pipeline` and
//! `fovea-datasets`.
//!
//! What needs no speed is Python, in `python/fovea_loader`: parameters, positions, ranks, tensors. Workers
//! never touch Python, and a thread that waits for them has released the interpreter.

mod array;
mod attended;
mod config;
mod dataset;
mod dlpack;
mod elsewhere;
mod errors;
mod preparation;
mod process;
mod slots;
mod stream;
mod transforms;

use pyo3::prelude::*;

/// The module `fovea_loader._native`.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("DataError", module.py().get_type::<errors::DataError>())?;
    module.add_class::<array::Array>()?;
    module.add_class::<config::Config>()?;
    module.add_class::<dataset::Dataset>()?;
    module.add_class::<stream::Stream>()?;
    module.add_function(wrap_pyfunction!(preparation::prepare, module)?)?;
    module.add_function(wrap_pyfunction!(preparation::verify, module)?)?;
    module.add_function(wrap_pyfunction!(preparation::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(preparation::report_bus_errors, module)?)?;
    module.add_function(wrap_pyfunction!(elsewhere::bytes_of, module)?)?;
    module.add_function(wrap_pyfunction!(elsewhere::is_url, module)?)?;
    module.add_function(wrap_pyfunction!(transforms::transform_names, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
