//! The kernel drops what strangers send in front of a socket's buffer, where it would take the place of packets that are
//! waited for: classic BPF on the socket (SO_ATTACH_FILTER), which needs no privilege. Offsets count from the UDP header;
//! those of the network header in front of it are beyond [`NET`].
//!
//! ```text
//! UDP      source port, destination port | length, checksum | payload: for RTP and RTCP a byte, then the type
//! ```

use crate::core::source::Senders;
use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use std::net::IpAddr;
use std::os::fd::AsFd;

// asm-generic/socket.h; not in `libc`.
const SO_ATTACH_FILTER: libc::c_int = 26;
const SO_DETACH_FILTER: libc::c_int = 27;
const SO_MEMINFO: libc::c_int = 55;
/// u32s of SO_MEMINFO (sock_diag.h); the last of them is the number of datagrams dropped.
const MEMINFO_WORDS: usize = 9;

// linux/filter.h: load a word, half-word or byte; jump by comparison; and; return.
const LOAD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const IF_EQUAL: u16 = 0x15;
const IF_ABOVE: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
/// SKF_NET_OFF: offsets from here on are those in the IP header.
const NET: u32 = -0x10_0000_i32 as u32;
const WHOLE: u32 = u32::MAX;

const SOURCE_PORT: u32 = 0;
/// Behind the UDP header and the first byte: what RTCP is told by on a port that RTP shares (RFC 5761 section 4).
const TYPE: u32 = 8 + 1;
const RTCP_TYPES: [u32; 2] = [192, 223];

sockopt_impl!(Attach, SetOnly, libc::SOL_SOCKET, SO_ATTACH_FILTER, sock_fprog);
sockopt_impl!(Detach, SetOnly, libc::SOL_SOCKET, SO_DETACH_FILTER, libc::c_int);
sockopt_impl!(MemInfo, GetOnly, libc::SOL_SOCKET, SO_MEMINFO, [u32; MEMINFO_WORDS]);

/// False: the kernel knows no filters (a sandbox), and whatever comes has to be read and told apart.
pub fn admit(socket: &impl AsFd, senders: Senders) -> bool {
    let mut program = program(senders);
    if program.is_empty() {
        return matches!(setsockopt(socket, Detach, &0), Ok(()) | Err(Errno::ENOENT));
    }
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(socket, Attach, &program).is_ok()
}

/// Datagrams that never got into a socket's buffer, counted modulo 2^32: filtered, or without room.
pub fn dropped(socket: &impl AsFd) -> u32 {
    getsockopt(socket, MemInfo).map_or(0, |words| words[MEMINFO_WORDS - 1])
}

/// Where a step goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    Accept,
    Drop,
}

#[derive(Default)]
struct Steps(Vec<(u16, u32, To, To)>);

impl Steps {
    fn load(&mut self, how: u16, at: u32) {
        self.0.push((how, at, To::Next, To::Next));
    }

    fn jump(&mut self, how: u16, value: u32, yes: To, no: To) {
        self.0.push((how, value, yes, no));
    }

    fn word_is(&mut self, at: u32, value: u32) {
        self.load(LOAD, at);
        self.jump(IF_EQUAL, value, To::Next, To::Drop);
    }

    /// From this host; the low bits of the IP header's first byte vary.
    fn host(&mut self, host: IpAddr) {
        let version = if host.is_ipv4() { 0x40 } else { 0x60 };
        self.load(LOAD_BYTE, NET);
        self.load(AND, 0xf0);
        self.jump(IF_EQUAL, version, To::Next, To::Drop);
        match host {
            IpAddr::V4(host) => self.word_is(NET + 12, host.into()),
            IpAddr::V6(host) => {
                let words = u128::from(host);
                (0..4).for_each(|at| self.word_is(NET + 8 + 4 * at, (words >> (96 - 32 * at)) as u32));
            }
        }
    }

    fn port(&mut self, port: u16, yes: To, no: To) {
        self.load(LOAD_HALF, SOURCE_PORT);
        self.jump(IF_EQUAL, port.into(), yes, no);
    }

    /// Two returns stand behind the last step: to accept, and to drop.
    fn program(self) -> Vec<sock_filter> {
        let end = self.0.len();
        let to = |from: usize, to: To| match to {
            To::Next => 0,
            To::Accept => (end - from - 1) as u8,
            To::Drop => (end - from) as u8,
        };
        let step = |(at, (code, k, yes, no)): (usize, (u16, u32, To, To))| sock_filter {
            code,
            jt: to(at, yes),
            jf: to(at, no),
            k,
        };
        let verdict = |k| sock_filter { code: RETURN, jt: 0, jf: 0, k };
        self.0.into_iter().enumerate().map(step).chain([verdict(WHOLE), verdict(0)]).collect()
    }
}

/// Empty: whoever.
fn program(senders: Senders) -> Vec<sock_filter> {
    let mut steps = Steps::default();
    match senders {
        Senders::Anyone => return Vec::new(),
        Senders::Host(host) => steps.host(host),
        Senders::Address(address) => {
            steps.host(address.ip());
            steps.port(address.port(), To::Accept, To::Drop);
        }
        Senders::Multiplexed(address) => {
            steps.host(address.ip());
            steps.port(address.port(), To::Accept, To::Next);
            steps.load(LOAD_BYTE, TYPE);
            steps.jump(IF_AT_LEAST, RTCP_TYPES[0], To::Next, To::Drop);
            steps.jump(IF_ABOVE, RTCP_TYPES[1], To::Drop, To::Accept);
        }
    }
    steps.program()
}

#[cfg(test)]
mod tests {
    use super::super::socket::{Batches, Socket};
    use super::*;
    use crate::core::SockId;
    use crate::core::output::Transmit;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    fn send(from: &Socket, to: SocketAddr, bytes: &[u8]) {
        let bytes = bytes.to_vec().into();
        let packet = Transmit { sock: SockId(0), dst: to, bytes, last_of: None };
        assert_eq!(Batches::default().send(from, &[packet]), 0);
    }

    fn received(socket: &Socket) -> Vec<u8> {
        let mut firsts = Vec::new();
        Batches::default().receive(socket, |(_, data)| firsts.push(data.unwrap()[0])).unwrap();
        firsts
    }

    const RTP: u8 = 96;
    const RTCP: u8 = 200;

    /// Own address and the socket's for each pair of families, as far as the machine has them.
    fn pairs() -> Vec<(IpAddr, IpAddr)> {
        let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        let every = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let pairs = [(v4, v4), (v6, v6), (v4, every), (v6, every)];
        pairs.into_iter().filter(|(own, _)| Socket::bind(*own, 0).is_ok()).collect()
    }

    #[test]
    fn strangers_are_dropped_by_the_kernel_and_counted_until_anyone_may_send_again() {
        for (own, bound) in pairs() {
            let mut socket = Socket::bind(bound, 0).unwrap();
            let (peer, other) = (Socket::bind(own, 0).unwrap(), Socket::bind(own, 0).unwrap());
            let (to, address) = (SocketAddr::new(own, socket.port()), SocketAddr::new(own, peer.port()));
            let elsewhere = if own.is_ipv4() { [10, 0, 0, 1].into() } else { IpAddr::from([7; 16]) };
            let cases = [
                (Senders::Anyone, vec![1, 2, 3, 4]),
                (Senders::Address(address), vec![1, 2]),
                (Senders::Multiplexed(address), vec![1, 2, 4]),
                (Senders::Host(own), vec![1, 2, 3, 4]),
                (Senders::Host(elsewhere), vec![]),
                (Senders::Address(SocketAddr::new(elsewhere, peer.port())), vec![]),
                (Senders::Multiplexed(SocketAddr::new(elsewhere, peer.port())), vec![]),
                (Senders::Anyone, vec![1, 2, 3, 4]),
            ];
            let mut expected = 0;
            for (senders, seen) in cases {
                assert!(socket.admit(senders));
                send(&peer, to, &[1, RTP]);
                send(&peer, to, &[2, RTCP]);
                send(&other, to, &[3, RTP]);
                send(&other, to, &[4, RTCP]);
                expected += 4 - seen.len() as u64;
                assert_eq!(received(&socket), seen, "{own} to {bound}: {senders:?}");
            }
            assert_eq!((socket.unreceived(), socket.unreceived()), (expected, 0), "{own} to {bound}");
        }
    }

    /// The kernel refuses what it cannot run; here is what it accepts.
    #[test]
    fn a_multiplexed_port_takes_the_types_of_rtcp_from_other_ports_and_no_others() {
        let own = IpAddr::from(Ipv4Addr::LOCALHOST);
        let socket = Socket::bind(own, 0).unwrap();
        let other = Socket::bind(own, 0).unwrap();
        assert!(socket.admit(Senders::Multiplexed(SocketAddr::new(own, 9))));
        for kind in 0..=255 {
            send(&other, SocketAddr::new(own, socket.port()), &[kind, kind]);
        }
        let mut kinds = Vec::new();
        for _ in 0..4 {
            kinds.extend(received(&socket));
        }
        assert_eq!(kinds, (192..=223).collect::<Vec<u8>>());
        send(&other, SocketAddr::new(own, socket.port()), &[200]); // too short to tell
        assert_eq!(received(&socket), [0u8; 0]);
    }
}
