//! Writes the files of a comparison.
//!
//! | file | content |
//! | --- | --- |
//! | `comparison.json` | [`Comparison`] |
//! | `comparison.csv` | a row for each epoch of each trial |
//! | `comparison.svg`, `comparison.png` | [`Comparison::chart`] |

use std::io::{self, Write};
use std::path::Path;

use fovea_files::write_atomically;
use fovea_pipeline::Split;
use fovea_trainer::metrics::Epoch;

use super::error::ComparisonError;
use super::result::{Comparison, TrialResult};
use crate::figure;

impl Comparison {
    /// Writes the files of the comparison into `folder`.
    ///
    /// # Errors
    /// [`ComparisonError::Write`], [`ComparisonError::Figure`].
    pub fn write(&self, folder: &Path) -> Result<(), ComparisonError> {
        let file = |name: &str, write: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
            let path = folder.join(name);
            write_atomically(&path, |out| write(out))
                .map_err(|reason| ComparisonError::Write { path, reason })
        };
        file("comparison.json", &|out| {
            serde_json::to_writer_pretty(&mut *out, self)?;
            writeln!(out)
        })?;
        file("comparison.csv", &|out| self.write_rows(out))?;
        let svg = self.chart().svg();
        let png = figure::png(&svg)?;
        file("comparison.svg", &|out| out.write_all(svg.standalone().as_bytes()))?;
        file("comparison.png", &|out| out.write_all(&png))
    }

    fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        let of = match self.split {
            Split::Val => "val",
            Split::Train => "train_images",
        };
        writeln!(out, "recipe,rate,seed,epoch,train_loss,train_error,{of}_loss,{of}_error,seconds")?;
        for result in &self.recipes {
            // The first of the runs is also among the trials of the tuning.
            for trial in result.tried.iter().chain(result.runs.iter().skip(1)) {
                for epoch in &trial.epochs {
                    let Epoch { train_loss, train_top1, val_loss, val_top1, seconds, .. } = epoch;
                    let (recipe, TrialResult { rate, seed, .. }) = (&result.recipe, trial);
                    write!(out, "{recipe},{rate},{seed},{},", epoch.epoch)?;
                    writeln!(out, "{train_loss},{train_top1},{val_loss},{val_top1},{seconds}")?;
                }
            }
        }
        Ok(())
    }
}
