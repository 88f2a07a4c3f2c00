//! Messages to the user, on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use crate::foreign::{LONGEST_WORD, safe, with_bounded_words};

/// The maximum number of addresses of this machine that are told.
const MOST_ADDRESSES: usize = 8;

/// Writes a message, in one line. What others have sent may be part of it, so it is made safe for a terminal, and very long
/// words are cut.
///
/// If standard error cannot be written, the message is dropped and the program goes on; its exit code still has the
/// result. (`eprintln!` would panic.)
pub fn message(text: impl Display) {
    let text = text.to_string();
    let _ = writeln!(io::stderr(), "canary: {}", safe(&with_bounded_words(&text, LONGEST_WORD)));
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

/// The addresses at which machines in its networks reach a server that listens on `address`. The first one is the most
/// likely. There is none without a network.
pub fn in_networks(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter();
    let up = all.filter(|one| one.is_oper_up() && !one.is_link_local());
    let own: Vec<_> = up.map(|one| (one.ip(), one.is_p2p())).collect();
    let usable = by_likelihood(&routed(), &own).into_iter().filter(|ip| address.is_ipv6() || ip.is_ipv4());
    usable.map(|ip| SocketAddr::new(ip, address.port())).take(MOST_ADDRESSES).collect()
}

/// The addresses of this machine by how likely it is that machines in the same room reach them. `own` says for each
/// whether it is one end of a tunnel, as of a VPN.
fn by_likelihood(routed: &[IpAddr], own: &[(IpAddr, bool)]) -> Vec<IpAddr> {
    let unlisted = routed.iter().filter(|ip| own.iter().all(|(one, _)| one != *ip)).map(|ip| (*ip, false));
    let all = own.iter().copied().chain(unlisted);
    let mut all: Vec<_> = all.filter(|(ip, _)| !ip.is_loopback() && !ip.is_unspecified()).collect();
    // a network without a way out is on no route, and a VPN may be on all of them; IPv4 is easier to type
    all.sort_by_key(|(ip, is_tunnel)| (*is_tunnel, ip.is_ipv6(), !routed.contains(ip)));
    all.iter().map(|(ip, _)| *ip).collect()
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
    fn the_address_in_the_room_comes_before_a_tunnel_and_before_what_is_on_no_route() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let own = [
            (ip("127.0.0.1"), false),
            (ip("172.17.0.1"), false),
            (ip("fd00::2"), false),
            (ip("10.8.0.6"), true),
            (ip("192.168.1.20"), false),
        ];
        let order = |routed: &[&str]| {
            let routed: Vec<_> = routed.iter().map(|it| ip(it)).collect();
            by_likelihood(&routed, &own).iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["192.168.1.20", "fd00::2"]),
            ["192.168.1.20", "172.17.0.1", "fd00::2", "10.8.0.6"]
        );
        let by_vpn = order(&["10.8.0.6"]);
        assert_eq!(by_vpn, ["172.17.0.1", "192.168.1.20", "fd00::2", "10.8.0.6"], "phones are in no VPN");
        assert!(by_likelihood(&[], &own[..1]).is_empty(), "no network");
        assert_eq!(by_likelihood(&[own[4].0], &[]), [own[4].0], "where the addresses cannot be listed");
    }

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
