//! How many requests a second of one address are answered in a rehearsal, and how many at the same time. Others wait or are
//! refused, so a phone that sends too many slows down only itself. All of a rehearsal runs in one process: its own requests
//! would be late, and its trial would be wrong.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, sleep_until};

use super::{
    access::Refusal,
    addresses::{Addresses, is_own},
};

/// The time between two answers at one address. A phone asks once in two seconds, and needs four files at first; phones behind the
/// same router may share an address.
const EVERY: Duration = Duration::from_millis(10);
/// From this number of addresses on, those that have no turn to wait for are forgotten.
const MANY: usize = 512;

/// How many requests of one address are served at the same time: a quarter of the connections for phones. A request whose
/// body does not come holds its connection.
const MOST_AT_ONCE: u32 = 64;

/// The requests of each address.
#[derive(Debug, Default)]
pub(super) struct Paces {
    /// When the next answer is due.
    next: Mutex<HashMap<IpAddr, Instant>>,
    open: Arc<Addresses>,
}

impl Paces {
    /// The turn of a request from this address, which comes `now`. This machine's own address waits for none: it is that of all
    /// phones behind a tunnel.
    fn turn(&self, address: IpAddr, now: Instant) -> Instant {
        if is_own(address) {
            return now;
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= MANY {
            next.retain(|_, due| *due > now);
        }
        let due = next.entry(address).or_insert(now);
        let turn = now.max(*due);
        *due = turn + EVERY;
        turn
    }
}

/// Answers a request when it is its turn, or at once with 429 if too many of its address are served.
pub(super) async fn in_turn(State(paces): State<Arc<Paces>>, request: Request, next: Next) -> Response {
    let Some(ConnectInfo(remote)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return next.run(request).await;
    };
    let Some(_place) = paces.open.place(remote.ip(), MOST_AT_ONCE) else {
        let error = format!("more than {MOST_AT_ONCE} requests of this address at the same time");
        return ([(CONNECTION, "close")], Refusal::new(StatusCode::TOO_MANY_REQUESTS, error)).into_response();
    };
    sleep_until(paces.turn(remote.ip(), Instant::now())).await;
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_address_take_turns_and_those_of_others_do_not_wait_for_them() {
        let (paces, now) = (Paces::default(), Instant::now());
        let phone = |number: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
        let after = |number, at| paces.turn(phone(number), at) - now;
        let turns: Vec<_> = (0..4).map(|_| after(1, now)).collect();
        assert_eq!(turns, [0, 1, 2, 3].map(|before| before * EVERY));
        assert_eq!(after(2, now), Duration::ZERO);
        assert_eq!(after(1, now + 9 * EVERY), 9 * EVERY, "who has waited long enough has a turn at once");
        let own = IpAddr::from([127, 0, 0, 1]);
        assert!((0..9).all(|_| paces.turn(own, now) == now));
        for number in 0..5000 {
            after(number, now + number * EVERY);
        }
        assert!(paces.next.lock().expect("no panic").len() <= MANY, "old addresses are forgotten");
    }
}
