//! Tests of the sources as their users see them, through [`open`](crate::open).
//!
//! * `fixtures`: small data sets in every layout, made in a temporary folder
//! * `mat_writer`: writes the `meta.mat` of the fixtures
//! * `conformance`: what every source must do; `layouts` runs it on each of them
//! * `labels`: folders of photos with a table of labels
//! * `layouts`: what each layout in particular must do
//! * `bad_input`: one test for each way in which the input can be wrong
//! * `passed_over`: what is not taken is said, and unclear folders are asked about
//! * `other_programs`: archives made by GNU tar and by Python
//! * `real_data`: real photos from the folder named by `FOVEA_TEST_DATA`

mod bad_input;
mod conformance;
mod fixtures;
mod labels;
mod layouts;
mod mat_writer;
mod other_programs;
mod passed_over;
mod real_data;

pub(crate) use fixtures::{gzip, tar_bytes};
pub(crate) use mat_writer::{MatWriter, Synset};
