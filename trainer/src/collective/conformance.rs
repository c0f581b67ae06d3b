//! What every collective does, and what [`Ranks`] makes of it.

use std::env;
use std::process::Command;
use std::time::Duration;

use super::fake::{Fake, Faults, ranks_with, run, with_ranks};
use super::{
    Alone, Collective, CollectiveError, Fingerprint, Mpi, Place, Ranks, Shares, check_parts, sum_in_tree,
};

/// Checks a collective from the inside; every rank calls it.
pub(super) fn conforms(collective: &mut dyn Collective) {
    let (rank, world) = (collective.rank() as u8, collective.world() as u8);
    assert!(rank < world);
    collective.set_deadline(Duration::from_secs(30));
    for piece in [0, 1, 3, 1000] {
        // Rank 1 sends nothing.
        let length = |from: u8, to: u8| if from == 1 { 0 } else { piece + 3 * usize::from(to) };
        let sent: Vec<Vec<u8>> = (0..world).map(|to| vec![10 * rank + to; length(rank, to)]).collect();
        let mut received: Vec<Vec<u8>> = (0..world).map(|from| vec![99; length(from, rank)]).collect();
        let send: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        let mut receive: Vec<&mut [u8]> = received.iter_mut().map(Vec::as_mut_slice).collect();
        collective.all_to_all(&send, &mut receive).unwrap();
        let value = |from: u8| if from == rank { 99 } else { 10 * from + rank };
        let expected: Vec<Vec<u8>> = (0..world).map(|from| vec![value(from); length(from, rank)]).collect();
        assert_eq!(received, expected, "all-to-all of {piece} bytes");

        let mut received = vec![0; piece * usize::from(world)];
        collective.all_gather(&vec![rank; piece], &mut received).unwrap();
        let expected: Vec<u8> = (0..world).flat_map(|from| vec![from; piece]).collect();
        assert_eq!(received, expected, "all-gather of {piece} bytes");

        let mut bytes = vec![rank + 5; piece];
        collective.broadcast(&mut bytes).unwrap();
        assert_eq!(bytes, vec![5; piece], "broadcast of {piece} bytes");
    }
}

fn ranks(fake: Fake) -> Ranks {
    Ranks::new(Box::new(fake), Duration::from_secs(30))
}

#[test]
fn collectives_conform() {
    conforms(&mut Alone);
    for world in 1..5 {
        with_ranks(world, |mut fake| conforms(&mut fake));
    }
}

/// The test below runs this as each process of a job.
#[test]
#[ignore = "a process of a job of MPI"]
fn process_of_mpi() {
    let place = Place::from_env().unwrap().expect("a launcher has started this");
    let give_up = |code, error: Option<&CollectiveError>| panic!("gives up with code {code}: {error:?}");
    let mut mpi = Mpi::join(&place, None, Duration::from_secs(30), give_up).unwrap();
    conforms(&mut mpi);
    println!("rank {} of {} conforms", mpi.rank(), mpi.world());
}

#[test]
fn every_mpi_conforms() {
    let Some(launchers) = env::var_os("FOVEA_TEST_MPIEXEC") else {
        println!("skipped: FOVEA_TEST_MPIEXEC is not set");
        return;
    };
    for mpiexec in env::split_paths(&launchers) {
        for world in ["2", "3"] {
            let mut command = Command::new(&mpiexec);
            if mpiexec.canonicalize().unwrap().ends_with("orterun") {
                command.arg("--oversubscribe");
            }
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            command.args(["-n", world]).arg(env::current_exe().unwrap());
            // One thread is the main one, from which MPI wants to be called.
            command.args(["--exact", "collective::conformance::process_of_mpi", "--ignored", "--nocapture"]);
            let output = command.arg("--test-threads=1").output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}: {output:?}", mpiexec.display());
            assert_eq!(shown.matches(&format!("of {world} conforms")).count().to_string(), world, "{shown}");
        }
    }
}

#[test]
fn sums_are_those_of_the_tree_for_any_shares_and_gathered_in_all_or_in_the_first() {
    let value = |rank: usize, at: usize| ((at * 7919 + rank * 104_729) % 1009) as f32 * 1.37e-3 - 0.6;
    for world in [1, 2, 3, 4] {
        for units in [&[][..], &[1], &[5], &[4096, 1, 2, 3], &[600_001, 30, 300_000, 7], &[20_000; 30]] {
            let shares = Shares::new(units.iter().copied(), world);
            let count = shares.len();
            let sums = with_ranks(world, |fake| {
                let mut ranks = ranks(fake);
                let own = shares.of(ranks.rank());
                let given: Vec<f32> = (0..count).map(|at| value(ranks.rank(), at)).collect();
                let mut values = given.clone();
                ranks.sum_share(&mut values, &shares).unwrap();
                let others = (0..count).filter(|at| !own.contains(at));
                assert!(others.into_iter().all(|at| values[at] == given[at]), "others' values change");
                let first = ranks.gather_to_first(&values[own], &shares).unwrap();
                ranks.gather_shares(&mut values, &shares).unwrap();
                (values, first)
            });
            let expected: Vec<f32> = (0..count)
                .map(|at| {
                    sum_in_tree((0..world).map(|rank| value(rank, at)), |sum, item| *sum += item).unwrap()
                })
                .collect();
            let place = || format!("{units:?} of {world} ranks");
            assert!(sums.iter().all(|(sum, _)| *sum == expected), "{}", place());
            assert!(
                sums[0].1 == expected && sums[1..].iter().all(|(_, none)| none.is_empty()),
                "{}",
                place()
            );
        }
    }
}

#[test]
fn values_are_shared_and_gathered() {
    let seen = with_ranks(3, |fake| {
        let mut ranks = ranks(fake);
        let rank = ranks.rank();
        let shared: String = ranks.share((rank == 0).then(|| "of the first".to_owned())).unwrap();
        let gathered: Vec<String> = ranks.gather(&"x".repeat(rank)).unwrap();
        let words = ranks.gather_words([rank as u64, f64::NAN.to_bits()]).unwrap();
        (shared, gathered, words)
    });
    for (shared, gathered, words) in seen {
        assert_eq!(shared, "of the first");
        assert_eq!(gathered, ["", "x", "xx"]);
        assert_eq!(words, [0, 1, 2].map(|rank| [rank, f64::NAN.to_bits()]));
    }
}

#[test]
fn a_handshake_names_the_rank_and_the_field_that_differ() {
    let fingerprint =
        |seed: u64| Fingerprint { fields: vec![("recipe", "demo".into()), ("seed", seed.to_string())] };
    let seen = with_ranks(3, |fake| {
        let mut ranks = ranks(fake);
        let seed = if ranks.rank() == 2 { 8 } else { 7 };
        ranks.handshake(&fingerprint(7)).unwrap();
        let differs = ranks.handshake(&fingerprint(seed)).unwrap_err();
        ranks.agree(Ok(())).unwrap();
        let missing = || Err(("no such data set".to_owned(), true));
        let failed = ranks.agree(if ranks.rank() == 1 { missing() } else { Ok(()) }).unwrap_err();
        assert!(failed.is_usage());
        assert_eq!(ranks.agree(missing()).unwrap_err().to_string(), "no such data set");
        (differs.to_string(), failed.to_string())
    });
    for (differs, failed) in seen {
        assert_eq!(
            differs,
            "rank 2 has seed 8, rank 0 has 7; start all processes with the same command and data"
        );
        assert_eq!(failed, "rank 1 of 3: no such data set");
    }
}

#[test]
fn slow_ranks_are_waited_for_and_lost_ones_end_in_an_error() {
    let slow = Faults { delay: Duration::from_millis(20), ..Faults::default() };
    let gather = |fake: Fake| ranks(fake).gather_words([1]).map(|all| all.len());
    assert_eq!(run(ranks_with(&[slow, Faults::default()]), gather), [Ok(2), Ok(2)]);

    let dead = Faults { dies_after: Some(0), ..Faults::default() };
    let results = run(ranks_with(&[Faults::default(), dead]), gather);
    assert!(matches!(&results[0], Err(CollectiveError::Failed { rank: 0, world: 2, .. })), "{results:?}");

    let hung = Faults { hangs_after: Some(0), ..Faults::default() };
    let results = run(ranks_with(&[Faults::default(), hung]), |fake| {
        let mut ranks = Ranks::new(Box::new(fake), Duration::from_millis(50));
        ranks.wait_for(Duration::ZERO);
        ranks.gather_words([1])
    });
    let error = results[0].as_ref().unwrap_err();
    assert!(matches!(error, CollectiveError::Deadline { rank: 0, world: 2, .. }), "{error}");
}

#[test]
fn processes_share_parts_in_whole_branches() {
    for (parts, fitting) in [(1, &[1][..]), (4, &[1, 2, 4]), (6, &[3, 6]), (7, &[7])] {
        let found: Vec<usize> = (1..9).filter(|&world| check_parts(parts, world).is_ok()).collect();
        assert_eq!(found, fitting, "{parts} parts");
    }
    let message = check_parts(4, 8).unwrap_err().to_string();
    assert!(message.contains("4 parts of a batch cannot be shared by 8 processes"), "{message}");
    assert!(message.contains("start 1 or 2 or 4 processes"), "{message}");
}
