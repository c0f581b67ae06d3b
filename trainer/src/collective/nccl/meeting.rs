//! How processes without MPI find each other: rank 0 listens, the others connect.
//!
//! The connections stay: one that ends without a farewell tells that its process is gone, and who ends the
//! run says so. Rank 0 passes it on.

use std::env;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{CollectiveError, Place};
use super::library::Id;

/// What a process sends first: this, the number of processes and its own.
const HELLO: &[u8; 8] = b"fovea-r1";
/// The last byte of a process that has come to the end of its run.
const FAREWELL: u8 = 0;
/// Followed by the exit code of a process that ends the run.
const ENDED: u8 = 1;
/// How often one connects again, and looks whether somebody has connected.
const AGAIN: Duration = Duration::from_millis(20);
/// How long one that has connected may take to say who it is.
const TO_SAY_WHO: Duration = Duration::from_secs(5);

/// Where rank 0 listens: `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    host: String,
    port: u16,
}

impl fmt::Display for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for Rendezvous {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts
            .filter(|(host, port)| !host.is_empty() && *port > 0)
            .ok_or_else(|| format!("`{text}` is not a host and a port, such as node1:29501"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Rendezvous {
    /// That of torch.distributed's variables: the port after `MASTER_PORT`, which torchrun uses itself.
    ///
    /// # Errors
    /// [`CollectiveError::NoAddress`].
    pub fn from_env() -> Result<Self, CollectiveError> {
        Self::from_variables(&|name| env::var(name).ok())
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, CollectiveError> {
        let none = |reason: String| CollectiveError::NoAddress { reason };
        let [host, port] = ["MASTER_ADDR", "MASTER_PORT"]
            .map(|name| get(name).ok_or_else(|| none(format!("{name} is not set in the environment"))));
        let (host, port) = (host?, port?);
        let next = port.parse::<u16>().ok().and_then(|port| port.checked_add(1));
        let port = next.ok_or_else(|| none(format!("MASTER_PORT={port:?} is no port with one after it")))?;
        Ok(Self { host, port })
    }

    /// An address of this machine whose port is free now.
    ///
    /// # Errors
    /// There is none.
    pub fn of_this_machine() -> io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Self { host: "127.0.0.1".into(), port })
    }
}

/// What a process learns of another.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This rank is gone.
    Gone(usize),
    /// A process ends the run with this exit code.
    Ended(i32),
}

/// The connections of a process: rank 0 has one to each other, the others have one to it.
pub(super) struct Meeting {
    /// With the rank at the other end; `None` when that has come to its end.
    peers: Vec<(usize, Option<TcpStream>)>,
}

impl Meeting {
    /// Connects the processes; gives all of them the id that `make` makes in rank 0.
    ///
    /// # Errors
    /// [`CollectiveError::NotMet`], and that of `make`.
    pub fn begin(
        place: &Place,
        address: &Rendezvous,
        limit: Duration,
        make: impl FnOnce() -> Result<Id, CollectiveError>,
    ) -> Result<(Self, Id), CollectiveError> {
        let (rank, world) = (place.rank, place.world);
        let not_met =
            |reason: String| CollectiveError::NotMet { rank, world, address: address.to_string(), reason };
        let end = Instant::now() + limit;
        if rank == 0 {
            let peers = received(place, address, end).map_err(not_met)?;
            let id = make()?;
            let mut meeting = Self { peers };
            for (other, peer) in &mut meeting.peers {
                let sent = peer.as_mut().map_or(Ok(()), |peer| peer.write_all(&id.0));
                sent.and_then(|()| set_polled(peer.as_ref()))
                    .map_err(|reason| not_met(format!("rank {other}: {reason}")))?;
            }
            return Ok((meeting, id));
        }
        let (stream, id) = connected(place, address, end).map_err(not_met)?;
        let stream = Some(stream);
        set_polled(stream.as_ref()).map_err(|reason| not_met(reason.to_string()))?;
        Ok((Self { peers: vec![(0, stream)] }, id))
    }

    /// What is to be known of the others: the first thing, if there are several.
    pub fn news(&mut self) -> Option<News> {
        for (rank, peer) in &mut self.peers {
            let Some(stream) = peer else { continue };
            let mut word = [0; 2];
            let read = match stream.peek(&mut word) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(_) => 0,
                Ok(read) => read,
            };
            match (read, word) {
                (1.., [FAREWELL, _]) => *peer = None,
                (2, [ENDED, code]) => return Some(News::Ended(code.into())),
                // The rest of it is on the way.
                (1, [ENDED, _]) => {}
                _ => return Some(News::Gone(*rank)),
            }
        }
        None
    }

    /// Tells the others that the run ends with an exit code.
    pub fn end(&mut self, code: i32) {
        self.tell(&[ENDED, u8::try_from(code).unwrap_or(1)]);
    }

    /// Ends the connections as when the process is killed.
    #[cfg(test)]
    pub fn break_off(&self) {
        for stream in self.peers.iter().filter_map(|(_, peer)| peer.as_ref()) {
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    fn tell(&mut self, word: &[u8]) {
        for (_, peer) in &mut self.peers {
            // Who is gone need not be told.
            let _ = peer.as_mut().map_or(Ok(()), |peer| peer.write_all(word));
        }
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        self.tell(&[FAREWELL]);
    }
}

/// Lets [`Meeting::news`] look without waiting.
fn set_polled(stream: Option<&TcpStream>) -> io::Result<()> {
    stream.map_or(Ok(()), |stream| stream.set_nonblocking(true))
}

/// In rank 0: the connections of the other processes, in the order of their ranks.
fn received(
    place: &Place,
    address: &Rendezvous,
    end: Instant,
) -> Result<Vec<(usize, Option<TcpStream>)>, String> {
    let taken = |reason: io::Error| format!("{reason}; give another port with --rendezvous HOST:PORT");
    let listener = TcpListener::bind(("0.0.0.0", address.port)).map_err(taken)?;
    listener.set_nonblocking(true).map_err(taken)?;
    let mut peers: Vec<(usize, Option<TcpStream>)> = (1..place.world).map(|rank| (rank, None)).collect();
    while let Some((missing, _)) = peers.iter().find(|(_, peer)| peer.is_none()) {
        match listener.accept() {
            Ok((stream, _)) => {
                // Who does not speak as a process of a run is none.
                let Ok((rank, world, stream)) = greeted(stream) else { continue };
                if world != place.world {
                    return Err(format!(
                        "a process there is of {world}, not of {}: another run's?",
                        place.world
                    ));
                }
                match peers.iter_mut().find(|(known, peer)| *known == rank && peer.is_none()) {
                    Some((_, peer)) => *peer = Some(stream),
                    None => return Err(format!("two processes there are rank {rank}: another run's?")),
                }
            }
            Err(_) if Instant::now() < end => thread::sleep(AGAIN),
            Err(_) => {
                return Err(format!(
                    "rank {missing} does not come; look at what it prints, and at firewalls"
                ));
            }
        }
    }
    Ok(peers)
}

/// What a process that has connected says: its rank and its number of processes.
fn greeted(mut stream: TcpStream) -> io::Result<(usize, usize, TcpStream)> {
    // Those of a listener that does not block may not block either.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TO_SAY_WHO))?;
    stream.set_nodelay(true)?;
    let mut hello = [0; 24];
    stream.read_exact(&mut hello)?;
    let number = |at: usize| {
        let word = hello[at..at + 8].try_into().expect("a word has 8 bytes");
        usize::try_from(u64::from_le_bytes(word)).map_err(|_| io::Error::from(ErrorKind::InvalidData))
    };
    match hello.starts_with(HELLO) {
        true => Ok((number(16)?, number(8)?, stream)),
        false => Err(ErrorKind::InvalidData.into()),
    }
}

/// In the other ranks: the connection to rank 0, and the id that it sends.
fn connected(place: &Place, address: &Rendezvous, end: Instant) -> Result<(TcpStream, Id), String> {
    let mut stream = loop {
        match TcpStream::connect((address.host.as_str(), address.port)) {
            Ok(stream) => break stream,
            Err(_) if Instant::now() < end => thread::sleep(AGAIN),
            Err(reason) => return Err(format!("{reason}; look at what rank 0 prints, and at firewalls")),
        }
    };
    let left = end.saturating_duration_since(Instant::now()).max(AGAIN);
    let mut id = Id([0; 128]);
    let mut greet = || -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(left))?;
        let numbers = [place.world, place.rank].map(|number| (number as u64).to_le_bytes());
        stream.write_all(&[&HELLO[..], &numbers[0], &numbers[1]].concat())?;
        stream.read_exact(&mut id.0)
    };
    match greet() {
        Ok(()) => Ok((stream, id)),
        Err(reason) => Err(format!("rank 0 does not answer ({reason}); look at what it prints")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Launcher;
    use super::*;

    fn place(rank: usize, world: usize) -> Place {
        Place { launcher: Launcher::Trainer, rank, world, local_rank: rank, local_world: world }
    }

    fn meet(rank: usize, world: usize, address: &Rendezvous, limit: u64) -> Result<(Meeting, Id), String> {
        let made = || Ok(Id([7; 128]));
        Meeting::begin(&place(rank, world), address, Duration::from_millis(limit), made)
            .map_err(|error| error.to_string())
    }

    /// All news of a meeting, waited for.
    fn news_of(meeting: &mut Meeting) -> Option<News> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match meeting.news() {
                None if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                news => return news,
            }
        }
    }

    /// A meeting of three, which a stranger disturbs.
    fn three() -> Vec<Meeting> {
        let address = Rendezvous::of_this_machine().unwrap();
        thread::scope(|scope| {
            let address = &address;
            let start = |rank| scope.spawn(move || meet(rank, 3, address, 20_000).unwrap());
            let first = start(0);
            let mut stranger = loop {
                match TcpStream::connect((address.host.as_str(), address.port)) {
                    Ok(stranger) => break stranger,
                    Err(_) => thread::sleep(AGAIN),
                }
            };
            stranger.write_all(b"GET / HTTP/1.1\r\n\r\nand more").unwrap();
            let ranks = [first, start(1), start(2)];
            let met = ranks.into_iter().map(|rank| rank.join().unwrap());
            met.inspect(|(_, id)| assert_eq!(id.0, [7; 128])).map(|(meeting, _)| meeting).collect()
        })
    }

    #[test]
    fn who_is_gone_is_known_by_its_rank_and_who_has_finished_is_no_news() {
        let mut ranks = three();
        // As when a process is killed.
        let killed = ranks.pop().unwrap();
        killed.break_off();
        assert_eq!(news_of(&mut ranks[0]), Some(News::Gone(2)));

        let mut ranks = three();
        drop(ranks.pop());
        drop(ranks.pop());
        let finished = |meeting: &Meeting| meeting.peers.iter().all(|(_, peer)| peer.is_none());
        let end = Instant::now() + Duration::from_secs(20);
        while !finished(&ranks[0]) && Instant::now() < end {
            assert_eq!(ranks[0].news(), None);
        }
        assert!(finished(&ranks[0]));
    }

    #[test]
    fn who_ends_the_run_tells_the_others_the_exit_code() {
        let mut ranks = three();
        ranks[1].end(130);
        assert_eq!(news_of(&mut ranks[0]), Some(News::Ended(130)));
        ranks[0].end(1);
        assert_eq!(news_of(&mut ranks[2]), Some(News::Ended(1)));
    }

    #[test]
    fn who_does_not_come_and_who_does_not_fit_is_named() {
        let address = Rendezvous::of_this_machine().unwrap();
        let error = meet(0, 2, &address, 50).err().unwrap();
        let expected = format!("rank 0 of 2 cannot meet the others at {address}: rank 1 does not come");
        assert!(error.starts_with(&expected), "{error}");
        let error = meet(1, 2, &address, 50).err().unwrap();
        assert!(error.contains("look at what rank 0 prints"), "{error}");
        for (rank, world, expected) in [(1, 5, "is of 5, not of 3"), (0, 3, "are rank 0: another run's?")] {
            let address = Rendezvous::of_this_machine().unwrap();
            let errors: Vec<String> = thread::scope(|scope| {
                let address = &address;
                let first = scope.spawn(move || meet(0, 3, address, 20_000).err().unwrap());
                let hello = || {
                    let place = Place { rank, world, ..place(1, 3) };
                    connected(&place, address, Instant::now() + Duration::from_secs(20)).err().unwrap()
                };
                vec![hello(), first.join().unwrap()]
            });
            assert!(errors[1].contains(expected), "{errors:?}");
            assert!(errors[0].contains("rank 0 does not answer"), "{errors:?}");
        }
    }

    #[test]
    fn the_address_is_a_host_and_a_port_or_that_after_torchruns() {
        let read = |text: &str| text.parse::<Rendezvous>();
        assert_eq!(read("node1:29501").unwrap().to_string(), "node1:29501");
        for text in ["node1", "node1:", ":29501", "node1:0", "node1:99999", ""] {
            assert!(read(text).unwrap_err().contains("such as node1:29501"), "{text}");
        }
        let of = |variables: &[(&str, &str)]| {
            let found = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            Rendezvous::from_variables(&found).map_err(|error| error.to_string())
        };
        let address = of(&[("MASTER_ADDR", "node1"), ("MASTER_PORT", "29500")]).unwrap();
        assert_eq!(address.to_string(), "node1:29501");
        let error = of(&[("MASTER_ADDR", "node1")]).unwrap_err();
        assert!(error.starts_with("MASTER_PORT is not set in the environment; give all"), "{error}");
        assert!(of(&[("MASTER_ADDR", "a"), ("MASTER_PORT", "65535")]).unwrap_err().contains("65535"));
    }
}
