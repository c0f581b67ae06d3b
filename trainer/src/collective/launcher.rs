//! Who started this process, and as which of how many.

use std::env;
use std::fmt;

use super::CollectiveError;

/// What started the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// `trainer launch` without MPI.
    Trainer,
    /// `mpirun` of Open MPI, or `prterun`.
    OpenMpi,
    /// `mpiexec` of MPICH, Intel MPI or MVAPICH.
    Mpich,
    /// `srun`.
    Slurm,
    /// torchrun, Kubernetes, or another that sets the variables of torch.distributed.
    Torchrun,
    /// Another, for which rank and world are given.
    Given,
}

/// The variables of a launcher: rank, world, rank and number of processes on this machine.
struct Variables {
    launcher: Launcher,
    rank: &'static str,
    world: &'static str,
    local_rank: &'static str,
    local_world: &'static str,
}

/// In the order of look-up: `srun` may start processes that MPICH's variables describe as well.
const VARIABLES: [Variables; 5] = [
    Variables {
        launcher: Launcher::Trainer,
        rank: "FOVEA_RANK",
        world: "FOVEA_WORLD",
        local_rank: "FOVEA_RANK",
        local_world: "FOVEA_WORLD",
    },
    Variables {
        launcher: Launcher::OpenMpi,
        rank: "OMPI_COMM_WORLD_RANK",
        world: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_world: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    // Only `srun` sets the number of a step's tasks; in a batch script SLURM_NTASKS is that of the job.
    Variables {
        launcher: Launcher::Slurm,
        rank: "SLURM_PROCID",
        world: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_world: "SLURM_STEP_TASKS_PER_NODE",
    },
    Variables {
        launcher: Launcher::Mpich,
        rank: "PMI_RANK",
        world: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_world: "MPI_LOCALNRANKS",
    },
    Variables {
        launcher: Launcher::Torchrun,
        rank: "RANK",
        world: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        local_world: "LOCAL_WORLD_SIZE",
    },
];

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trainer => "trainer launch",
            Self::OpenMpi => "Open MPI",
            Self::Mpich => "MPICH",
            Self::Slurm => "Slurm",
            Self::Torchrun => "torchrun",
            Self::Given => "--rank and --world",
        })
    }
}

/// A process among those of its run, as its launcher says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who started it.
    pub launcher: Launcher,
    /// Its number.
    pub rank: usize,
    /// The number of processes.
    pub world: usize,
    /// Its number among the processes of this machine; 0 if the launcher does not say.
    pub local_rank: usize,
    /// The number of processes of this machine; 1 if the launcher does not say.
    pub local_world: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} by {}", self.rank, self.world, self.launcher)
    }
}

impl Place {
    /// The place of this process; `None` if it was started by itself.
    ///
    /// # Errors
    /// [`CollectiveError::Environment`].
    pub fn from_env() -> Result<Option<Self>, CollectiveError> {
        Self::from_variables(&|name| env::var(name).ok())
    }

    /// The place of a process that an unknown launcher has started; `None` for a process by itself.
    ///
    /// # Errors
    /// [`CollectiveError::Given`].
    pub fn given(rank: usize, world: usize) -> Result<Option<Self>, CollectiveError> {
        if rank >= world {
            let reason = format!("ranks of {world} are 0 to {}", world.saturating_sub(1));
            return Err(CollectiveError::Given { rank, world, reason });
        }
        let given = Self { launcher: Launcher::Given, rank, world, local_rank: 0, local_world: 1 };
        Ok((world > 1).then_some(given))
    }

    /// The variables that give processes of `trainer launch` their places, with the values of one.
    #[must_use]
    pub fn variables(rank: usize, world: usize) -> [(&'static str, String); 2] {
        let Variables { rank: of_rank, world: of_world, .. } = VARIABLES[0];
        [(of_rank, rank.to_string()), (of_world, world.to_string())]
    }

    /// Checks that this is the place that was given.
    ///
    /// # Errors
    /// [`CollectiveError::Given`] with the variables that say otherwise.
    pub fn confirm(&self, rank: usize, world: usize) -> Result<(), CollectiveError> {
        if (self.rank, self.world) == (rank, world) {
            return Ok(());
        }
        let of_launcher = VARIABLES.iter().find(|variables| variables.launcher == self.launcher);
        let (of_rank, of_world) = of_launcher.map_or(("", ""), |variables| (variables.rank, variables.world));
        let reason = format!(
            "{} has set {of_rank}={} and {of_world}={} in the environment; leave the options out",
            self.launcher, self.rank, self.world
        );
        Err(CollectiveError::Given { rank, world, reason })
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, CollectiveError> {
        for variables in VARIABLES {
            let (Some(rank), Some(world)) = (get(variables.rank), get(variables.world)) else { continue };
            // MPICH's mpiexec starts one task of Slurm on each machine, which starts the processes.
            let is_of_mpich = variables.launcher == Launcher::Slurm
                && get("PMI_SIZE").is_some_and(|size| size.parse::<usize>() != world.parse());
            if is_of_mpich {
                continue;
            }
            let world_of = number(variables.world, &world, 1, usize::MAX)?;
            let rank = number(variables.rank, &rank, 0, world_of - 1)?;
            if world_of == 1 {
                continue;
            }
            let local = |name, least| get(name).and_then(|text| leading_number(&text)).unwrap_or(least);
            return Ok(Some(Self {
                launcher: variables.launcher,
                rank,
                world: world_of,
                local_rank: local(variables.local_rank, 0),
                local_world: local(variables.local_world, 1).clamp(1, world_of),
            }));
        }
        Ok(None)
    }
}

fn number(variable: &'static str, text: &str, least: usize, most: usize) -> Result<usize, CollectiveError> {
    let parsed = text.parse().ok().filter(|number| (least..=most).contains(number));
    parsed.ok_or_else(|| CollectiveError::Environment {
        variable,
        value: text.to_owned(),
        expected: if most == usize::MAX {
            format!("a number of at least {least}")
        } else {
            format!("a number from {least} to {most}")
        },
    })
}

/// The number that a text begins with: Slurm writes `4(x2),3`.
fn leading_number(text: &str) -> Option<usize> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Option<Place>, String> {
        let get = |name: &str| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        Place::from_variables(&get).map_err(|error| error.to_string())
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        for (variables, shown, local) in [
            (
                &[
                    ("OMPI_COMM_WORLD_RANK", "3"),
                    ("OMPI_COMM_WORLD_SIZE", "8"),
                    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                    ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
                ][..],
                "rank 3 of 8 by Open MPI",
                (1, 2),
            ),
            (
                &[("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("MPI_LOCALNRANKS", "2")],
                "rank 0 of 2 by MPICH",
                (0, 2),
            ),
            (
                &[
                    ("SLURM_PROCID", "5"),
                    ("SLURM_STEP_NUM_TASKS", "7"),
                    ("SLURM_LOCALID", "1"),
                    ("SLURM_STEP_TASKS_PER_NODE", "4(x1),3"),
                    ("PMI_RANK", "5"),
                    ("PMI_SIZE", "7"),
                ],
                "rank 5 of 7 by Slurm",
                (1, 4),
            ),
            (
                &[
                    ("SLURM_PROCID", "1"),
                    ("SLURM_STEP_NUM_TASKS", "2"),
                    ("PMI_RANK", "3"),
                    ("PMI_SIZE", "4"),
                    ("MPI_LOCALRANKID", "1"),
                    ("MPI_LOCALNRANKS", "2"),
                ],
                "rank 3 of 4 by MPICH",
                (1, 2),
            ),
            (&[("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")], "rank 1 of 2 by torchrun", (1, 1)),
            (&[("FOVEA_RANK", "1"), ("FOVEA_WORLD", "2")], "rank 1 of 2 by trainer launch", (1, 2)),
        ] {
            let place = place(variables).unwrap().unwrap();
            assert_eq!((place.to_string().as_str(), (place.local_rank, place.local_world)), (shown, local));
        }
    }

    #[test]
    fn a_process_by_itself_has_no_place() {
        assert_eq!(place(&[]), Ok(None));
        assert_eq!(place(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]), Ok(None));
        // A batch script of Slurm is one process, whatever the job has asked for.
        assert_eq!(place(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), Ok(None));
    }

    #[test]
    fn given_numbers_stand_for_an_unknown_launcher_and_must_agree_with_a_known_one() {
        let given = |rank, world| {
            let place = Place::given(rank, world).map_err(|error| error.to_string());
            place.map(|place| place.map(|place| place.to_string()))
        };
        assert_eq!(given(1, 2), Ok(Some("rank 1 of 2 by --rank and --world".into())));
        assert_eq!(given(0, 1), Ok(None));
        assert_eq!(given(2, 2).unwrap_err(), "--rank 2 --world 2: ranks of 2 are 0 to 1");
        let mpich = place(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")]).unwrap().unwrap();
        assert_eq!(mpich.confirm(1, 2), Ok(()));
        for (rank, world) in [(0, 2), (1, 3), (0, 1)] {
            let set = "MPICH has set PMI_RANK=1 and PMI_SIZE=2 in the environment; leave the options out";
            let expected = format!("--rank {rank} --world {world}: {set}");
            assert_eq!(mpich.confirm(rank, world).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn senseless_numbers_are_named() {
        let error = place(&[("PMI_RANK", "2"), ("PMI_SIZE", "2")]).unwrap_err();
        assert_eq!(error, "PMI_RANK=\"2\" in the environment is not a number from 0 to 1");
        let error = place(&[("RANK", "0"), ("WORLD_SIZE", "many")]).unwrap_err();
        assert_eq!(error, "WORLD_SIZE=\"many\" in the environment is not a number of at least 1");
    }
}
