//! Messages to the user, on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use crate::foreign::safe;

/// The maximum number of addresses of this machine that are told.
const MOST_ADDRESSES: usize = 8;

/// Writes a message, in one line. What others have sent may be part of it, so it is made safe for a terminal.
///
/// If standard error cannot be written, the message is dropped and the program goes on; its
/// exit code still has the result. (`eprintln!` would panic.)
pub fn message(text: impl Display) {
    let _ = writeln!(io::stderr(), "canary: {}", safe(&text.to_string()));
}

/// The address that clients on this machine use for a server that listens on `address`. All addresses of the machine,
/// as in `[::]:8090`, are none that a browser can open.
pub fn usable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// The address that other machines use for it, if it listens on all addresses and this machine has a network.
pub fn usable_elsewhere(address: SocketAddr) -> Option<SocketAddr> {
    if !address.ip().is_unspecified() {
        return None;
    }
    in_networks(address).into_iter().next()
}

/// All addresses at which machines in its networks reach a server that listens on `address`. The first one is that from
/// which this machine would send elsewhere. It is empty if there is no network.
pub fn in_networks(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    // a network without a way out has no such route, but it has an address
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let mut all: Vec<_> =
        all.filter(|one| one.is_oper_up() && !one.is_link_local()).map(|one| one.ip()).collect();
    all.sort_by_key(IpAddr::is_ipv6); // stable: IPv4 is easier to type
    let mut told: Vec<IpAddr> = Vec::new();
    for ip in routed().into_iter().chain(all) {
        let is_usable = !ip.is_loopback() && !ip.is_unspecified() && (address.is_ipv6() || ip.is_ipv4());
        if is_usable && !told.contains(&ip) && told.len() < MOST_ADDRESSES {
            told.push(ip);
        }
    }
    told.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect()
}

/// The addresses from which this machine would send elsewhere.
fn routed() -> Vec<IpAddr> {
    // The operating system chooses the address from which it would send. Nothing is sent. These destinations are for
    // documentation alone (RFC 5737 and RFC 3849).
    let routes: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let own = routes.into_iter().filter_map(|(own, other)| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((other, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    own.collect()
}

/// `"; from other machines: http://192.168.1.20:8090"`, where others can reach it.
pub fn elsewhere(address: SocketAddr) -> String {
    usable_elsewhere(address).map_or_else(String::new, |own| format!("; from other machines: http://{own}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_is_told_can_be_opened() {
        for (listens, told) in [
            ("[::]:8093", "127.0.0.1:8093"),
            ("0.0.0.0:8093", "127.0.0.1:8093"),
            ("127.0.0.1:8093", "127.0.0.1:8093"),
            ("[::1]:1", "[::1]:1"),
            ("192.168.1.20:80", "192.168.1.20:80"),
        ] {
            let listens: SocketAddr = listens.parse().expect("an address");
            assert_eq!(usable(listens).to_string(), told);
            assert!(!elsewhere(listens).contains("[::]"), "{}", elsewhere(listens));
            let is_all = listens.ip().is_unspecified();
            assert!(
                is_all || elsewhere(listens).is_empty(),
                "no other machine reaches {listens} by another address"
            );
        }
    }
}
