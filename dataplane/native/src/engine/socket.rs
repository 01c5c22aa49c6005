//! UDP sockets and their batched calls (recvmmsg, sendmmsg, UDP_GRO, UDP_SEGMENT).

use super::filter;
use crate::core::output::Transmit;
use crate::core::source::Senders;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn,
    SockaddrIn6, SockaddrLike, SockaddrStorage, bind, getsockname, recvmmsg, sendmmsg, sendmsg, setsockopt, socket,
    sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Datagrams per system call; 64 are enough to hide its cost.
pub const BATCH: usize = 64;
/// Receives per system call: each may bring a train of datagrams (UDP_GRO), and has its headers made anew.
const TRAINS: usize = 16;
/// The kernel puts no more than this into one train.
const TRAIN_BYTES: usize = 1 << 16;
/// Longest datagram we take: more than any path MTU.
const DATAGRAM_BYTES: usize = 2048;
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Tries to find an even port with its odd neighbour free.
const PAIR_TRIES: usize = 64;
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
/// The kernel cuts a datagram into at most this many.
const MAX_SEGMENTS: usize = 64;
const MAX_SEGMENTED_BYTES: usize = 65_000;
/// Shorter runs are no gain over a place in a batch.
const LEAST_RUN: usize = 4;

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
    /// As the kernel counted when it was last asked.
    dropped: u32,
}

impl Socket {
    /// "::" takes both families, and is "0.0.0.0" where the kernel knows no IPv6.
    pub fn bind(ip: IpAddr, port: u16) -> io::Result<Socket> {
        match Socket::bind_one(ip, port) {
            Err(error) if only_ipv4(&error) && ip == Ipv6Addr::UNSPECIFIED => {
                Socket::bind_one(Ipv4Addr::UNSPECIFIED.into(), port)
            }
            other => other,
        }
    }

    fn bind_one(ip: IpAddr, port: u16) -> io::Result<Socket> {
        let family = if ip.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let fd = socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
        if ip.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
        }
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; what the kernel grants is enough to run.
        if setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
        }
        if setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
            let _ = setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
        }
        // Without it (Linux before 5.0) every receive brings one datagram.
        let _ = setsockopt(&fd, sockopt::UdpGroSegment, &true);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(ip, port)))?;
        let local = getsockname::<SockaddrStorage>(fd.as_raw_fd())?;
        let local = to_std(&local).ok_or(Errno::EAFNOSUPPORT)?;
        Ok(Socket { fd, local, dropped: 0 })
    }

    /// An RTP port and the one above it for RTCP; `port` 0 looks for an even one.
    pub fn bind_pair(ip: IpAddr, port: u16) -> io::Result<(Socket, Socket)> {
        if port != 0 {
            let above = port.checked_add(1).ok_or(Errno::EADDRNOTAVAIL)?;
            return Ok((Socket::bind(ip, port)?, Socket::bind(ip, above)?));
        }
        let mut result = Err(Errno::EADDRINUSE.into());
        // Refused sockets stay open until the end, or the kernel would offer the same ports again.
        let mut refused = Vec::new();
        for _ in 0..PAIR_TRIES {
            let rtp = Socket::bind(ip, 0)?;
            if rtp.port() % 2 == 0 {
                match Socket::bind(ip, rtp.port() + 1) {
                    Ok(rtcp) => return Ok((rtp, rtcp)),
                    Err(error) => result = Err(error),
                }
            }
            refused.push(rtp);
        }
        result
    }

    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Whose datagrams the kernel keeps for us. False: it takes those of others too.
    pub fn admit(&self, senders: Senders) -> bool {
        filter::admit(&self.fd, senders)
    }

    /// Datagrams that the kernel dropped since this was last asked.
    pub fn unreceived(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.dropped, filter::dropped(&self.fd));
        self.dropped.wrapping_sub(before).into()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Buffers of one thread's batches, used again and again.
pub struct Batches {
    send: MultiHeaders<SockaddrStorage>,
    /// UDP_SEGMENT works, as far as we know.
    segments: bool,
    /// [`TRAINS`] of [`TRAIN_BYTES`]; the kernel gives memory to what was ever written.
    received: Vec<u8>,
    addresses: Vec<Option<SockaddrStorage>>,
}

/// One datagram of a batch; `None` if it was longer than [`DATAGRAM_BYTES`].
pub type Datagram<'a> = (SocketAddr, Option<&'a [u8]>);

impl Default for Batches {
    fn default() -> Batches {
        Batches {
            send: MultiHeaders::preallocate(BATCH, None),
            segments: true,
            received: vec![0; TRAINS * TRAIN_BYTES],
            addresses: Vec::with_capacity(BATCH),
        }
    }
}

impl Batches {
    /// Hands over what waits on a socket, at most [`TRAINS`] datagrams or trains of them.
    pub fn receive(&mut self, socket: &Socket, each: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        match socket.local {
            SocketAddr::V4(_) => receive::<SockaddrIn>(&mut self.received, socket, each),
            SocketAddr::V6(_) => receive::<SockaddrIn6>(&mut self.received, socket, each),
        }
    }

    /// Sends packets in order; returns how many the kernel did not take. Runs of equal size (a frame's fragments) go as one
    /// datagram that the kernel cuts (UDP_SEGMENT), the others in batches.
    pub fn send(&mut self, socket: &Socket, packets: &[Transmit]) -> u64 {
        let mut failed = 0;
        let (mut waiting, mut at) = (0, 0); // packets[waiting..at] go in the next batch
        while at < packets.len() {
            let run = if self.segments { run_length(&packets[at..]) } else { 1 };
            if run < LEAST_RUN {
                at += 1; // a run may begin behind it: parameter sets, or a first packet that made room for its extension
                continue;
            }
            failed += self.send_batches(socket, &packets[waiting..at]);
            if !self.send_run(socket, &packets[at..at + run]) {
                failed += self.send_batches(socket, &packets[at..at + run]);
            }
            at += run;
            waiting = at;
        }
        failed + self.send_batches(socket, &packets[waiting..])
    }

    fn send_batches(&mut self, socket: &Socket, packets: &[Transmit]) -> u64 {
        let mut failed = 0;
        for batch in packets.chunks(BATCH) {
            let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|packet| [IoSlice::new(&packet.bytes)]).collect();
            self.addresses.clear();
            self.addresses.extend(batch.iter().map(|packet| Some(address(socket, packet.dst))));
            let mut at = 0;
            while at < batch.len() {
                let fd = socket.fd.as_raw_fd();
                match sendmmsg(fd, &mut self.send, &slices[at..], &self.addresses[at..], [], SEND_FLAGS) {
                    Ok(sent) => at += sent.count().max(1),
                    Err(Errno::EINTR) => {}
                    Err(_) => {
                        // The first one failed: no route, no buffer, or an ICMP error of an earlier one.
                        failed += 1;
                        at += 1;
                    }
                }
            }
        }
        failed
    }

    /// False: not sent, try without segmentation.
    fn send_run(&mut self, socket: &Socket, run: &[Transmit]) -> bool {
        let slices: Vec<IoSlice<'_>> = run.iter().map(|packet| IoSlice::new(&packet.bytes)).collect();
        let size = run[0].bytes.len() as u16; // below the MTU
        let control = [ControlMessage::UdpGsoSegments(&size)];
        let to = address(socket, run[0].dst);
        match sendmsg(socket.fd.as_raw_fd(), &slices, &control, SEND_FLAGS, Some(&to)) {
            Ok(_) => true,
            Err(error) => {
                // An old kernel, or a device that cannot add the checksums.
                self.segments &= !matches!(error, Errno::EIO | Errno::EINVAL | Errno::EOPNOTSUPP);
                false
            }
        }
    }
}

/// How many packets from the first on can leave as segments of one datagram: one destination, one size, the last may be
/// shorter.
fn run_length(packets: &[Transmit]) -> usize {
    let Some(first) = packets.first() else { return 0 };
    let size = first.bytes.len();
    let most = MAX_SEGMENTS.min(MAX_SEGMENTED_BYTES / size.max(1)).max(1);
    let mut length = 1;
    while length < most.min(packets.len()) {
        let next = &packets[length];
        if next.dst != first.dst || next.bytes.len() > size {
            break;
        }
        length += 1;
        if next.bytes.len() < size {
            break;
        }
    }
    length
}

/// `S` is the socket's family: the kernel writes the length of an address back into its header.
fn receive<S: Family>(buffer: &mut [u8], socket: &Socket, mut each: impl FnMut(Datagram<'_>)) -> io::Result<()> {
    // Anew each time: the kernel also writes back how much of the control space it used, and nix leaves it at that.
    let mut headers = MultiHeaders::<S>::preallocate(TRAINS, Some(cmsg_space!(i32)));
    let mut slices: [[IoSliceMut<'_>; 1]; TRAINS] = std::array::from_fn(|_| [IoSliceMut::new(&mut [])]);
    for (slice, part) in slices.iter_mut().zip(buffer.chunks_exact_mut(TRAIN_BYTES)) {
        *slice = [IoSliceMut::new(part)];
    }
    let received = recvmmsg(socket.fd.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None);
    let received = match received {
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
        other => other?,
    };
    for message in received {
        let Some(from) = message.address.map(S::to_std) else { continue };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let train = message.iovs().next().unwrap_or_default();
        let size = message.cmsgs().ok().and_then(|mut found| found.find_map(segment_bytes));
        let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        for datagram in datagrams(train, size) {
            each((from, (whole && datagram.len() <= DATAGRAM_BYTES).then_some(datagram)));
        }
    }
    Ok(())
}

/// How long each datagram of a train is but the last, which may be shorter.
fn segment_bytes(message: ControlMessageOwned) -> Option<usize> {
    match message {
        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok().filter(|size| *size > 0),
        _ => None,
    }
}

/// A train's datagrams. One by itself comes without a size, and may be empty.
fn datagrams(train: &[u8], size: Option<usize>) -> impl Iterator<Item = &[u8]> {
    let size = size.unwrap_or(train.len()).max(1);
    let alone = train.is_empty().then_some(train);
    train.chunks(size).chain(alone)
}

trait Family: SockaddrLike + Copy {
    fn to_std(self) -> SocketAddr;
}

impl Family for SockaddrIn {
    fn to_std(self) -> SocketAddr {
        SocketAddr::V4(self.into())
    }
}

impl Family for SockaddrIn6 {
    fn to_std(self) -> SocketAddr {
        SocketAddr::V6(self.into())
    }
}

/// No such family (`ipv6.disable=1`); with the addresses alone switched off "::" can be bound and serves IPv4.
fn only_ipv4(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

/// IPv4 destinations of an IPv6 socket are written as mapped addresses.
fn address(socket: &Socket, to: SocketAddr) -> SockaddrStorage {
    match (socket.local, to) {
        (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
            let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
            SocketAddr::from((mapped, v4.port())).into()
        }
        _ => to.into(),
    }
}

fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|a| SocketAddr::V4((*a).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| SocketAddr::V6((*a).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::SockId;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn packets(to: u16, sizes: &[usize]) -> Vec<Transmit> {
        let packet = |(i, size): (usize, &usize)| Transmit {
            sock: SockId(0),
            dst: SocketAddr::new(LOCAL, to),
            bytes: vec![i as u8; *size].into(),
            last_of: None,
        };
        sizes.iter().enumerate().map(packet).collect()
    }

    fn received(batches: &mut Batches, socket: &Socket) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for _ in 0..10 {
            batches.receive(socket, |(_, data)| all.push(data.unwrap().to_vec())).unwrap();
        }
        all
    }

    #[test]
    fn runs_of_one_size_and_single_packets_arrive_in_order_either_way() {
        let (from, to) = (Socket::bind(LOCAL, 0).unwrap(), Socket::bind(LOCAL, 0).unwrap());
        let mut sizes = vec![30, 600, 600];
        sizes.extend([1200; 70]);
        sizes.extend([900, 1200, 1200, 1200, 1200, 50, 50]);
        for segments in [true, false] {
            let mut batches = Batches { segments, ..Batches::default() };
            let sent = packets(to.port(), &sizes);
            assert_eq!(batches.send(&from, &sent), 0);
            let expected: Vec<Vec<u8>> = sent.iter().map(|packet| packet.bytes.to_vec()).collect();
            assert_eq!(received(&mut batches, &to), expected);
        }
    }

    #[test]
    fn a_train_is_cut_where_its_datagrams_end_and_one_by_itself_is_left_whole() {
        let cut = |train: &[u8], size| datagrams(train, size).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(cut(&[0; 10], Some(4)), [4, 4, 2]);
        assert_eq!(cut(&[0; 8], Some(4)), [4, 4]);
        assert_eq!(cut(&[0; 10], None), [10]);
        assert_eq!(cut(&[], None), [0]);
    }

    #[test]
    fn a_train_comes_in_one_piece_and_leaves_nothing_behind_for_the_next() {
        let (from, to) = (Socket::bind(LOCAL, 0).unwrap(), Socket::bind(LOCAL, 0).unwrap());
        let mut batches = Batches::default();
        for sizes in [vec![1200; 40], vec![0, 7], vec![1200; 40], vec![DATAGRAM_BYTES + 1, 9]] {
            assert_eq!(batches.send(&from, &packets(to.port(), &sizes)), 0);
            let mut lengths = Vec::new();
            batches.receive(&to, |(_, data)| lengths.push(data.map_or(0, <[u8]>::len))).unwrap();
            let taken = sizes.iter().map(|size| if *size > DATAGRAM_BYTES { 0 } else { *size });
            assert_eq!(lengths, taken.collect::<Vec<_>>(), "in one call, though {TRAINS} is less than 40");
        }
    }

    #[test]
    fn a_run_is_one_destination_and_one_size_but_for_its_end() {
        assert_eq!(run_length(&packets(1, &[100, 100, 100, 90, 100])), 4);
        assert_eq!(run_length(&packets(1, &[100, 101])), 1);
        assert_eq!(run_length(&packets(1, &[1200; 100])), 54);
        let mut two = packets(1, &[100, 100, 100]);
        two[2].dst.set_port(2);
        assert_eq!(run_length(&two), 2);
    }

    #[test]
    fn a_socket_for_every_address_serves_both_families_and_calls_an_address_by_its_own_name() {
        let every = Socket::bind(Ipv6Addr::UNSPECIFIED.into(), 0).unwrap();
        let mut batches = Batches::default();
        for local in [LOCAL, Ipv6Addr::LOCALHOST.into()] {
            let Ok(peer) = Socket::bind(local, 0) else { continue }; // this machine has no ::1
            let mut sent = packets(every.port(), &[10; 6]);
            sent.iter_mut().for_each(|packet| packet.dst = SocketAddr::new(local, every.port()));
            assert_eq!(batches.send(&peer, &sent), 0);
            let mut sources = Vec::new();
            batches.receive(&every, |(from, _)| sources.push(from)).unwrap();
            assert_eq!(sources, [peer.local; 6]);
            sent.iter_mut().for_each(|packet| packet.dst = sources[0]);
            assert_eq!(batches.send(&every, &sent), 0);
            assert_eq!(received(&mut batches, &peer).len(), 6);
        }
    }

    #[test]
    fn a_packet_nobody_can_take_is_counted_and_the_others_leave() {
        let (from, to) = (Socket::bind(LOCAL, 0).unwrap(), Socket::bind(LOCAL, 0).unwrap());
        let mut batches = Batches::default();
        let mut sent = packets(to.port(), &[10, 70_000, 10]);
        sent[1].bytes = vec![0; 70_000].into();
        assert_eq!(batches.send(&from, &sent), 1);
        assert_eq!(received(&mut batches, &to).len(), 2);
    }
}
