//! The real binaries, run as a user runs them.
//!
//! | module | what |
//! | --- | --- |
//! | `support` | running a tool, pictures and folders of them, comparing folders |
//! | `prepare` | `prepare_imagenet`: what comes out, options, official archives |
//! | `resume` | killed, interrupted, full disk, two at once |
//! | `damage` | bad pictures, bad shards, bad folders |
//! | `train` | `trainer`: a demonstration, resuming, evaluation, prediction, export |
//! | `train_badly` | `trainer` with what cannot work |
//! | `look` | `preview_augmentations` and `bench_loader` |
//! | `python` | shards in pyarrow and Hugging Face `datasets`, graphs in Python's ONNX Runtime |

mod damage;
mod look;
mod prepare;
mod python;
mod resume;
mod support;
mod train;
mod train_badly;
