//! How many requests of one address are served at the same time, so that one client does not keep all others out.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The requests of each address that are served now.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, u32>>);

/// The place of a request. Dropping it makes room for another one of this address.
#[derive(Debug)]
pub(super) struct Place {
    of: IpAddr,
    among: Arc<Addresses>,
}

impl Addresses {
    /// A place for one more request, if this address has fewer than `most`. This machine's own address has any number:
    /// a proxy's clients all have it.
    pub(super) fn place(self: &Arc<Self>, of: IpAddr, most: u32) -> Option<Place> {
        let of = of.to_canonical();
        let most = if is_own(of) { u32::MAX } else { most };
        let mut open = self.open();
        let number = open.get(&of).copied().unwrap_or(0);
        (number < most).then(|| {
            open.insert(of, number + 1);
            Place { of, among: Arc::clone(self) }
        })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.among.open();
        match open.get_mut(&self.of) {
            Some(number) if *number > 1 => *number -= 1,
            _ => {
                open.remove(&self.of);
            }
        }
    }
}

/// Whether it is the address by which a program reaches others on the same machine.
pub(super) fn is_own(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_its_end_makes_room() {
        let addresses = Arc::new(Addresses::default());
        let phone = |last| IpAddr::from([192, 168, 1, last]);
        let place = |address| addresses.place(address, 2);
        let (one, _two) = (place(phone(1)), place(phone(1)));
        assert!(one.is_some() && place(phone(1)).is_none());
        let mapped = "::ffff:192.168.1.1".parse().expect("an address");
        assert!(place(mapped).is_none(), "it is the same one");
        assert!(place(phone(2)).is_some(), "others have places of their own");
        drop(one);
        let again = place(phone(1));
        assert!(again.is_some() && place(phone(1)).is_none());
        assert_eq!(addresses.open().len(), 1, "an address without requests is forgotten");
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let own: IpAddr = own.parse().expect("an address");
            let all: Vec<_> = (0..9).map(|_| place(own)).collect();
            assert!(all.iter().all(Option::is_some), "{own}");
        }
    }
}
