//! The real binaries, run as a user runs them.
//!
//! | module | what |
//! | --- | --- |
//! | `support` | helpers: running a tool, pictures and folders of them, comparing folders |
//! | `prepare` | `prepare_imagenet`: what comes out, options, official archives |
//! | `resume` | killed, interrupted, full disk, two at once |
//! | `labels` | photos with a table of labels: prepared, trained, predicted |
//! | `guides` | the commands of the guides in `docs` |
//! | `damage` | bad pictures, bad shards, bad folders |
//! | `train` | `trainer`: a demonstration, resuming, evaluation, prediction, export |
//! | `train_errors` | `trainer` with wrong input or broken surroundings |
//! | `compare` | `trainer compare`: stopping, runs made by hand, foreign folders, wrong usage |
//! | `machines` | a run of two machines, as network namespaces, one of which is cut off |
//! | `nccl` | several processes of one run, by a fake of NCCL and of the driver |
//! | `preview` | `preview_augmentations` and `bench_loader` |
//! | `ranks` | several processes of one run, by MPI |
//! | `remote` | data sets at URLs: folders, a web server, an S3 server (moto) |
//! | `report` | `trainer`: a run's report, features, search |
//! | `signals` | interrupts before training, ignored signals, limits on files and threads |
//! | `whole_photos` | photos in their own proportions: prepared, previewed, trained, predicted |
//! | `python` | shards in pyarrow and Hugging Face `datasets`, graphs in Python's ONNX Runtime |

mod compare;
mod damage;
mod guides;
mod labels;
mod machines;
mod nccl;
mod prepare;
mod preview;
mod python;
mod ranks;
mod remote;
mod report;
mod resume;
mod signals;
mod support;
mod train;
mod train_errors;
mod whole_photos;
