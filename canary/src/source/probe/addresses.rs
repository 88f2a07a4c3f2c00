//! Chooses the address of each request.
//!
//! The name is resolved for each request. If it has IPv4 and IPv6 addresses, the family that connects first is
//! used, as in RFC 8305 ("Happy Eyeballs"). Within the family, each request goes to one address at random. If
//! this address fails, the request fails: a fallback from a dead canary to a live stable pod would hide the
//! failure.
//!
//! A request without an answer is attributed to the release of its address, if the name has several addresses and
//! this one has named one release only. An address that names several leads to a load balancer, such as the two
//! addresses of a dual-stack Service.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    select,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::source::Attribution;

/// The delay after which the next connection attempt starts in parallel: RFC 8305, section 8.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// A family is chosen again after this many failed attempts in a row, and after [`FAILED_TIME`] without a
/// connection.
const FAILED_ATTEMPTS: u32 = 20;
/// See [`FAILED_ATTEMPTS`].
const FAILED_TIME: Duration = Duration::from_secs(10);
/// The maximum number of addresses whose release is kept. A Deployment replaces its pods, so without a bound old
/// addresses could fill the memory.
const MOST_ADDRESSES: usize = 1000;
/// An address that names two releases within this time leads to a load balancer.
const ONE_POD_WITHIN: Duration = Duration::from_secs(60);
/// For how long an address counts as a load balancer after that. A canary with a small share of few requests answers
/// seldom. It ends, because an address may also be that of a pod whose label has changed, or of a new pod.
const BALANCER_FOR: Duration = Duration::from_secs(600);

/// The value of `--resolve`: the addresses of a host and port. They replace the result of the system's resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    pub(super) host: String,
    pub(super) port: u16,
    addresses: Vec<IpAddr>,
}

impl FromStr for Resolve {
    type Err = String;

    /// Parses `HOST:PORT:ADDRESS[,ADDRESS]…`, the format of curl's `--resolve`. An IPv6 address may be in
    /// brackets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted =
            || "want HOST:PORT:ADDRESS[,ADDRESS]..., for example appinfo:8080:10.0.0.7,10.0.0.8".to_owned();
        let mut parts = text.splitn(3, ':');
        let (Some(host), Some(port), Some(addresses)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wanted());
        };
        if host.is_empty() {
            return Err(wanted());
        }
        let port = port.parse().map_err(|_| format!("{port:?} is not a port: {}", wanted()))?;
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse().map_err(|_| format!("{text:?} is not an IP address: {}", wanted()))
        };
        let addresses = addresses.split(',').map(address).collect::<Result<_, _>>()?;
        Ok(Self { host: host.to_owned(), port, addresses })
    }
}

/// The addresses of a host and port.
#[derive(Debug)]
pub(super) struct Addresses {
    host: String,
    port: u16,
    /// The addresses of `--resolve`; empty to use the system's resolver.
    given: Vec<SocketAddr>,
    family: Arc<Mutex<Option<Family>>>,
    /// Held while a family is chosen, so that it is chosen once.
    choosing: tokio::sync::Mutex<()>,
    /// What the answers from each address have named.
    named: Mutex<HashMap<SocketAddr, Named>>,
}

/// The releases that the answers from an address have named.
#[derive(Debug)]
struct Named {
    /// The last one, and when it was named.
    last: (Attribution, Instant),
    /// Until when the address counts as a load balancer.
    balancer_until: Option<Instant>,
}

/// The chosen family, and its connection attempts.
#[derive(Clone, Copy, Debug)]
struct Family {
    is_ipv6: bool,
    /// Attempts since the last one that connected.
    attempts: u32,
    /// The time of the last connection, or of the choice.
    connected: Instant,
}

/// The address of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    /// Whether the name also has other addresses.
    is_one_of_several: bool,
}

/// The cause of a missing address.
pub(in crate::source) enum NoAddress {
    /// The name does not resolve.
    UnknownName(io::Error),
    /// Neither family connects.
    Unreachable(io::Error),
}

impl Addresses {
    pub(super) fn new(host: &str, port: u16, resolve: &[Resolve]) -> Self {
        let given =
            resolve.iter().flat_map(|it| &it.addresses).map(|address| SocketAddr::new(*address, port));
        Self {
            host: host.to_owned(),
            port,
            given: given.collect(),
            family: Arc::default(),
            choosing: tokio::sync::Mutex::default(),
            named: Mutex::default(),
        }
    }

    /// Resolves the name, and chooses the address of the next request.
    pub(super) async fn choose(&self) -> Result<Destination, NoAddress> {
        let all = self.resolve().await.map_err(NoAddress::UnknownName)?;
        let is_ipv6 = self.family_of(&all).await.map_err(NoAddress::Unreachable)?;
        let family: Vec<_> = all.iter().filter(|it| it.is_ipv6() == is_ipv6).collect();
        let address = **fastrand::choice(&family).ok_or_else(|| NoAddress::UnknownName(no_address()))?;
        Ok(Destination { address, is_one_of_several: all.len() > 1 })
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if !self.given.is_empty() {
            return Ok(self.given.clone());
        }
        let mut all = Vec::new();
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        Ok(all)
    }

    /// Whether IPv6 is used. The family is chosen once. It is chosen again if it has no address any more, or if
    /// it has not connected for a long time.
    async fn family_of(&self, all: &[SocketAddr]) -> io::Result<bool> {
        let first_is_ipv6 = all.first().ok_or_else(no_address)?.is_ipv6();
        if all.iter().all(|address| address.is_ipv6() == first_is_ipv6) {
            return Ok(first_is_ipv6);
        }
        if let Some(is_ipv6) = self.chosen_family(all) {
            return Ok(is_ipv6);
        }
        let _guard = self.choosing.lock().await;
        if let Some(is_ipv6) = self.chosen_family(all) {
            return Ok(is_ipv6);
        }
        let is_ipv6 = is_ipv6(&first_to_connect(alternating(all)).await?)?;
        *lock(&self.family) = Some(Family::chosen(is_ipv6));
        Ok(is_ipv6)
    }

    /// The chosen family, if there is one. If it does not connect for a long time, a task chooses again. Meanwhile
    /// requests still use the old family.
    fn chosen_family(&self, all: &[SocketAddr]) -> Option<bool> {
        let mut chosen = lock(&self.family);
        let family = chosen.as_mut()?;
        family.attempts = family.attempts.saturating_add(1);
        if family.attempts > FAILED_ATTEMPTS && family.connected.elapsed() > FAILED_TIME {
            (family.attempts, family.connected) = (0, Instant::now());
            let (all, family) = (alternating(all), Arc::clone(&self.family));
            tokio::spawn(async move {
                if let Ok(is_ipv6) = first_to_connect(all).await.and_then(|stream| is_ipv6(&stream)) {
                    *lock(&family) = Some(Family::chosen(is_ipv6));
                }
            });
        }
        Some(family.is_ipv6)
    }

    /// Records that `to` has connected.
    pub(super) fn connected(&self, to: Destination) {
        if let Some(family) = lock(&self.family).as_mut()
            && family.is_ipv6 == to.address.is_ipv6()
        {
            (family.attempts, family.connected) = (0, Instant::now());
        }
    }

    /// Records the attribution of an answer from `from`.
    pub(super) fn answered(&self, from: Destination, attribution: &Attribution) {
        if !from.is_one_of_several || *attribution == Attribution::Unnamed {
            return;
        }
        let mut named = lock(&self.named);
        if let Some(named) = named.get_mut(&from.address) {
            named.answered(attribution);
            return;
        }
        if named.len() >= MOST_ADDRESSES {
            named.clear();
        }
        let last = (attribution.clone(), Instant::now());
        named.insert(from.address, Named { last, balancer_until: None });
    }

    /// The attribution of a request to `destination` that has no answer: the release that this address names. It
    /// is unknown if the name has only one address, or if the address names several releases: a Service or a load
    /// balancer has one address for pods of both releases.
    pub(super) fn attribution_of(&self, destination: Option<Destination>) -> Attribution {
        let named = lock(&self.named);
        let named = destination.and_then(|it| named.get(&it.address));
        named.and_then(Named::release).unwrap_or(Attribution::NoAnswer)
    }
}

impl Named {
    fn answered(&mut self, attribution: &Attribution) {
        let now = Instant::now();
        let (last, at) = &mut self.last;
        if last != attribution {
            if now.duration_since(*at) <= ONE_POD_WITHIN {
                self.balancer_until = Some(now + BALANCER_FOR);
            }
            last.clone_from(attribution);
        }
        *at = now;
    }

    /// The release of the address, unless it is a load balancer.
    fn release(&self) -> Option<Attribution> {
        let is_balancer = self.balancer_until.is_some_and(|until| Instant::now() < until);
        (!is_balancer).then(|| self.last.0.clone())
    }
}

impl Family {
    fn chosen(is_ipv6: bool) -> Self {
        Self { is_ipv6, attempts: 0, connected: Instant::now() }
    }
}

fn no_address() -> io::Error {
    io::Error::other("the name has no address")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses, alternating between the families, with the family of the first address first: RFC 8305,
/// section 4.
fn alternating(all: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        all.iter().partition(|it| it.is_ipv6() == first_is_ipv6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut order = Vec::new();
    while order.len() < all.len() {
        order.extend(preferred.next());
        order.extend(other.next());
    }
    order
}

fn is_ipv6(stream: &TcpStream) -> io::Result<bool> {
    stream.peer_addr().map(|address| address.is_ipv6())
}

/// Connects to a server of which any address will do.
pub(in crate::source) async fn connect(host: &str, port: u16) -> Result<TcpStream, NoAddress> {
    let all: Vec<_> = lookup_host((host, port)).await.map_err(NoAddress::UnknownName)?.collect();
    first_to_connect(alternating(&all)).await.map_err(NoAddress::Unreachable)
}

/// The connection to the first address that connects. The next attempt starts when the last one has
/// failed, or after [`ATTEMPT_DELAY`].
async fn first_to_connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last_error = no_address();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last_error);
        }
        select! {
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other).and_then(|connected| connected) {
                Ok(stream) => return Ok(stream),
                Err(error) => last_error = error,
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use canary_judge::Release;

    use super::*;

    #[test]
    fn resolve_has_the_format_of_curl() {
        let resolve: Resolve = "appinfo:8080:10.0.0.7,[::1],::2".parse().expect("addresses");
        let addresses: Vec<IpAddr> =
            ["10.0.0.7", "::1", "::2"].map(|it| it.parse().expect("an address")).into();
        assert_eq!(resolve, Resolve { host: "appinfo".to_owned(), port: 8080, addresses });
        for bad in ["", "appinfo", "appinfo:8080", "appinfo:8080:", ":8080:::1", "appinfo:x:::1", "a:80:b"] {
            assert!(bad.parse::<Resolve>().is_err(), "{bad}");
        }
    }

    #[test]
    fn families_alternate_and_the_preferred_one_is_first() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 80)).collect()
        };
        assert_eq!(
            alternating(&all(&["::1", "::2", "::3", "10.0.0.1"])),
            all(&["::1", "10.0.0.1", "::2", "::3"])
        );
        assert_eq!(alternating(&all(&["10.0.0.1", "::1"])), all(&["10.0.0.1", "::1"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_does_not_connect_for_a_long_time_is_replaced() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let both: Resolve = format!("a:{port}:::1,127.0.0.1").parse().expect("addresses");
        let addresses = Addresses::new("a", port, &[both]);
        *lock(&addresses.family) = Some(Family::chosen(true)); // ::1 has no listener
        for _ in 0..FAILED_ATTEMPTS {
            assert!(addresses.choose().await.is_ok_and(|it| it.address.is_ipv6()));
        }
        tokio::time::advance(FAILED_TIME * 2).await;
        assert!(addresses.choose().await.is_ok_and(|it| it.address.is_ipv6()), "while it chooses");
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while addresses.choose().await.is_ok_and(|it| it.address.is_ipv6()) {
            assert!(std::time::Instant::now() < deadline, "still IPv6");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_names_two_releases_within_a_minute_attributes_nothing() {
        let [stable, canary] = Release::BOTH.map(Attribution::Release);
        let to = |address: &str| Destination {
            address: SocketAddr::new(address.parse().expect("an address"), 80),
            is_one_of_several: true,
        };
        let (one, other) = (to("10.0.0.1"), to("10.0.0.2"));
        let addresses = Addresses::new("a", 80, &[]);
        assert_eq!(addresses.attribution_of(Some(one)), Attribution::NoAnswer, "it has not answered");
        addresses.answered(one, &stable);
        addresses.answered(other, &canary);
        assert_eq!(addresses.attribution_of(Some(one)), stable);

        tokio::time::advance(ONE_POD_WITHIN).await;
        addresses.answered(one, &Attribution::Unnamed);
        assert_eq!(addresses.attribution_of(Some(one)), stable, "an answer without a name changes nothing");
        addresses.answered(one, &canary);
        assert_eq!(addresses.attribution_of(Some(one)), Attribution::NoAnswer, "a load balancer");
        assert_eq!(addresses.attribution_of(Some(other)), canary, "another address");

        // the canary is rare: between its answers, minutes pass
        for _ in 0..9 {
            tokio::time::advance(ONE_POD_WITHIN).await;
            addresses.answered(one, &canary);
            assert_eq!(addresses.attribution_of(Some(one)), Attribution::NoAnswer, "still a load balancer");
        }
        tokio::time::advance(ONE_POD_WITHIN).await;
        addresses.answered(one, &canary);
        assert_eq!(addresses.attribution_of(Some(one)), canary, "a pod whose label has changed");

        tokio::time::advance(ONE_POD_WITHIN + Duration::from_millis(1)).await;
        addresses.answered(one, &stable);
        assert_eq!(addresses.attribution_of(Some(one)), stable, "a new pod at an old address");
    }
}
