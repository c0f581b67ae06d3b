//! Where MPI is: the library of the launcher that started this process, and a launcher for `trainer launch`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::library::Library;
use crate::collective::{CollectiveError, Launcher, Place};

/// The variable that names the library.
const VARIABLE: &str = "FOVEA_MPI";

/// Loads the library at `path` or of the environment, else the one that belongs to the launcher.
pub(super) fn load(place: &Place, path: Option<&Path>) -> Result<Library, CollectiveError> {
    if let Some(path) = given(path, env::var_os(VARIABLE)) {
        return Library::load(&path).map_err(|reason| CollectiveError::NotMpi { path, reason });
    }
    let mut tried = Vec::new();
    for name in candidates(place.launcher, &programs()) {
        match Library::load(&name) {
            Ok(library) => return Ok(library),
            Err(reason) => tried.push(format!("{}: {reason}", name.display())),
        }
    }
    if matches!(place.launcher, Launcher::Torchrun | Launcher::Trainer) {
        let launcher = place.launcher.to_string();
        return Err(CollectiveError::NoMpi { launcher, rank: place.rank, world: place.world });
    }
    if place.launcher == Launcher::Given {
        let reason = format!(
            "no MPI library can be loaded ({}); install MPI and start the processes with its mpiexec, or name the \
             library with --mpi-library",
            tried.join("; ")
        );
        return Err(CollectiveError::Given { rank: place.rank, world: place.world, reason });
    }
    Err(CollectiveError::NoLibrary { launcher: place.launcher.to_string(), world: place.world, tried })
}

/// The library at `path`, or the one that is named in the environment.
fn given(path: Option<&Path>, named: Option<OsString>) -> Option<PathBuf> {
    let named = named.filter(|name| !name.is_empty());
    path.map(Path::to_owned).or_else(|| named.map(PathBuf::from))
}

/// File names of the libraries that a launcher's processes may use, the best first.
fn names(launcher: Launcher) -> &'static [&'static str] {
    match launcher {
        Launcher::OpenMpi => &["libmpi.so.40"],
        Launcher::Mpich => &["libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi.so.12"],
        Launcher::Slurm => &["libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi.so.12", "libmpi.so.40"],
        Launcher::Given => &["libmpi_abi.so.1", "libmpi_abi.so.0", "libmpi.so.40", "libmpi.so.12"],
        // Their processes have no connection by MPI.
        Launcher::Torchrun | Launcher::Trainer => &[],
    }
}

/// Libraries beside each of the programs that are installed with them, then those that the dynamic linker
/// finds.
fn candidates(launcher: Launcher, programs: &[PathBuf]) -> Vec<PathBuf> {
    let prefixes = programs.iter().filter_map(|program| program.parent()?.parent());
    let folders = prefixes.flat_map(|prefix| ["lib", "lib64"].map(|folder| prefix.join(folder)));
    let mut found: Vec<PathBuf> = folders
        .flat_map(|folder| names(launcher).iter().map(move |name| folder.join(name)))
        .filter(|path| path.exists())
        .collect();
    found.extend(names(launcher).iter().map(PathBuf::from));
    found
}

/// The program that started this process, and the `mpiexec` of the search path.
fn programs() -> Vec<PathBuf> {
    let parent = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        // The name of the program, in parentheses, may hold anything.
        let after = stat.rsplit_once(')')?.1;
        let parent = after.split_whitespace().nth(1)?;
        fs::read_link(format!("/proc/{parent}/exe")).ok()
    });
    parent.into_iter().chain(mpiexec()).collect()
}

/// The `mpiexec` of the search path.
fn mpiexec() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let programs = env::split_paths(&path).map(|folder| folder.join("mpiexec"));
    programs.into_iter().find(|program| program.is_file())
}

/// The command that starts `ranks` processes of this machine with MPI, before the program that they run:
/// `mpiexec` of the installation of the library, or of the search path.
///
/// # Errors
/// [`CollectiveError::NoLauncher`].
pub fn launch_command(ranks: usize, library: Option<&Path>) -> Result<Command, CollectiveError> {
    let beside = given(library, env::var_os(VARIABLE)).and_then(|library| {
        let program = library.parent()?.parent()?.join("bin/mpiexec");
        program.is_file().then_some(program)
    });
    let program = beside.or_else(mpiexec).ok_or(CollectiveError::NoLauncher { ranks })?;
    let is_open_mpi = is_open_mpi(&program);
    let mut command = Command::new(program);
    if is_open_mpi {
        // Open MPI: as many processes as asked for, whatever the number of cores, and as any user; without
        // its own words on how they end.
        command.args(["--oversubscribe", "--quiet"]);
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    command.args(["-n", &ranks.to_string()]);
    Ok(command)
}

/// Whether `mpiexec` is Open MPI's.
#[must_use]
pub fn is_open_mpi(mpiexec: &Path) -> bool {
    let real = mpiexec.canonicalize().unwrap_or_else(|_| mpiexec.to_owned());
    ["orterun", "prterun", "prte"].iter().any(|name| real.ends_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_beside_the_launcher_comes_first_and_fits_it() {
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path();
        for file in ["bin/mpiexec", "lib/libmpi.so.12", "lib/libmpi_abi.so.1", "lib/libmpi.so.40"] {
            let file = prefix.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let programs = [prefix.join("bin/mpiexec")];
        let found = candidates(Launcher::Mpich, &programs);
        assert_eq!(found[..2], [prefix.join("lib/libmpi_abi.so.1"), prefix.join("lib/libmpi.so.12")]);
        let found = candidates(Launcher::OpenMpi, &programs);
        assert_eq!(found, [prefix.join("lib/libmpi.so.40"), PathBuf::from("libmpi.so.40")]);
    }

    #[test]
    fn an_empty_name_in_the_environment_is_none() {
        let found = |path: Option<&str>, named: &str| given(path.map(Path::new), Some(named.into()));
        assert_eq!(found(None, ""), None);
        assert_eq!(found(None, "a.so"), Some("a.so".into()));
        assert_eq!(found(Some("b.so"), "a.so"), Some("b.so".into()));
    }

    #[test]
    fn what_is_no_mpi_library_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("libmpi.so.12");
        fs::write(&file, "text").unwrap();
        let place = Place { launcher: Launcher::Mpich, rank: 0, world: 2, local_rank: 0, local_world: 2 };
        let error = load(&place, Some(&file)).err().unwrap().to_string();
        assert!(
            error.starts_with(&file.display().to_string()) && error.contains("name a library"),
            "{error}"
        );
        // Shared, but without the functions.
        let other = load(&place, Some(Path::new("libc.so.6"))).err().unwrap().to_string();
        assert!(other.contains("it has no function MPI_Isend"), "{other}");
    }
}
