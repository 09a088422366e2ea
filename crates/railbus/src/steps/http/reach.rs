//! Which addresses a request may go to, decided by the address that is connected to.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    vec,
};
use tower_service::Service;

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All there are.
    All,
    /// Those that are everybody's: not this machine, not the networks around it.
    #[cfg_attr(not(feature = "webhook"), allow(dead_code))]
    Public,
}

impl Reach {
    /// Tells whether an address may be connected to.
    pub(crate) fn allows(self, ip: IpAddr) -> bool {
        self == Self::All || is_public(ip)
    }
}

/// Looks names up, and leaves out the addresses that may not be connected to: what a name meant when it
/// was looked at before does not count.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    reach: Reach,
}

impl Resolver {
    pub(super) fn new(reach: Reach) -> Self {
        Self { system: GaiResolver::new(), reach }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (reach, looking) = (self.reach, self.system.call(name));
        Box::pin(async move {
            let all: Vec<_> = looking.await?.collect();
            let allowed: Vec<_> =
                all.iter().copied().filter(|address| reach.allows(address.ip())).collect();
            match allowed.is_empty() && !all.is_empty() {
                true => Err(io::Error::other(REFUSED)),
                false => Ok(allowed.into_iter()),
            }
        })
    }
}

/// What is said of an address that may not be connected to.
pub(crate) const REFUSED: &str =
    "the address is this machine's or a private network's, which must be allowed";

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Source: IANA IPv4 Special-Purpose Address Registry.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127, ..) | (169, 254, _) | (192, 168, _) => true,
        (100, 64..=127, _) | (172, 16..=31, _) | (198, 18..=19, _) => true,
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    };
    !special
}

/// Source: IANA IPv6 Special-Purpose Address Registry. Only 2000::/3 is given out to anybody.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, .., y, z] = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // Translated, and carried, addresses of IPv4 are what they carry.
        (0x64, 0xff9b) if ip.segments()[2..6] == [0; 4] => inner(y, z),
        (0x2002, _) => inner(b, ip.segments()[2]),
        // Teredo and other protocols, examples.
        (0x2001, 0..0x200 | 0xdb8) | (0x3fff, 0..0x1000) => false,
        _ => match ip.to_ipv4_mapped() {
            Some(ip) => is_public_v4(ip),
            None => a & 0xe000 == 0x2000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Reach;

    #[test]
    fn addresses_of_this_machine_and_of_networks_around_it_are_not_everybody_s() {
        for inside in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            let ip = inside.parse().unwrap();
            assert!(!Reach::Public.allows(ip) && Reach::All.allows(ip), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.167.1.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert!(Reach::Public.allows(outside.parse().unwrap()), "{outside}");
        }
    }
}
