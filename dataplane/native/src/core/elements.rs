//! Header extensions that are not ours: kept by URI, since each leg has ids of its own for them (RFC 8285 section 5). What
//! a sender says of a frame or of its sound goes on; what belongs to one hop or describes layers that may have changed
//! does not. Dependency descriptors are `dd`'s, packet by packet; a leg's id for them is here. `ext` reads and writes the
//! bytes.

use super::{dd, ext};
use bytes::Bytes;
use std::sync::Arc;

/// A picture's rotation (3GPP TS 26.114 section 7.4.5): on a frame's last packet.
pub const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";

/// Elements kept of one frame or audio packet, and bytes in each.
const MAX_ELEMENTS: usize = 4;
const MAX_BYTES: usize = 24;

/// Of one hop (RFC 8843, 8852, congestion control), or rewritten by whoever changes the layers.
const NOT_KEPT: [&str; 7] = [
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00",
];

/// One element, whatever its id is somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub uri: Arc<str>,
    pub value: Bytes,
}

/// The elements of one frame or audio packet.
pub type Elements = Vec<Element>;

/// A leg's ids.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    kept: Vec<(u8, Arc<str>)>,
    descriptor: Option<u8>,
}

impl Ids {
    /// `id -> URI`; what is never kept needs no id.
    pub fn new(ids: impl IntoIterator<Item = (u8, String)>) -> Ids {
        let mut read = Ids::default();
        for (id, uri) in ids {
            match uri.as_str() {
                dd::URI => read.descriptor = Some(id),
                uri if NOT_KEPT.contains(&uri) => {}
                _ => read.kept.push((id, uri.into())),
            }
        }
        read
    }

    /// None kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn descriptor_id(&self) -> Option<u8> {
        self.descriptor
    }

    /// The dependency descriptor of a packet of this leg.
    pub fn descriptor<'a>(&self, extension: Option<(u16, &'a [u8])>) -> Option<&'a [u8]> {
        let (id, (profile, body)) = self.descriptor.zip(extension)?;
        ext::find(profile, body, id)
    }

    /// What a packet of this leg carries.
    pub fn read(&self, extension: Option<(u16, &[u8])>) -> Elements {
        let Some((profile, body)) = extension.filter(|_| !self.is_empty()) else { return Elements::new() };
        let mut elements = Elements::new();
        for (id, value) in ext::each(profile, body) {
            if let Some((_, uri)) = self.kept.iter().find(|(own, _)| *own == id)
                && value.len() <= MAX_BYTES
            {
                add(&mut elements, Element { uri: uri.clone(), value: Bytes::copy_from_slice(value) });
            }
        }
        elements
    }

    /// As this leg writes them: those it has an id for.
    pub fn written<'a>(&'a self, elements: impl Iterator<Item = &'a Element>) -> impl Iterator<Item = (u8, &'a [u8])> {
        elements.filter_map(|element| {
            let (id, _) = self.kept.iter().find(|(_, uri)| *uri == element.uri)?;
            Some((*id, &element.value[..]))
        })
    }
}

/// The newest value of each URI counts; of more than [`MAX_ELEMENTS`] URIs the first ones do.
pub fn add(elements: &mut Elements, element: Element) {
    if let Some(known) = elements.iter_mut().find(|known| known.uri == element.uri) {
        *known = element;
    } else if elements.len() < MAX_ELEMENTS {
        elements.push(element);
    }
}

/// Belongs on the last packet of a frame, not on the first.
pub fn goes_last(element: &Element) -> bool {
    &*element.uri == VIDEO_ORIENTATION
}

/// Bytes of header extension that these, ours and a dependency descriptor (of no bytes: none) take at most, in whichever
/// form.
pub fn room(ours: bool, descriptor: usize, elements: &Elements) -> usize {
    let values = elements.iter().map(|element| element.value.len()).chain(ours.then_some(ext::VALUE_BYTES));
    let bytes: usize = values.chain((descriptor > 0).then_some(descriptor)).map(|value| 2 + value).sum();
    if bytes == 0 { 0 } else { 4 + bytes.next_multiple_of(4) }
}

/// Bytes of header extension with nothing but one element of at most 255 bytes; without these, none.
pub fn alone(id: u8, bytes: usize) -> usize {
    let value = [0; 255];
    if bytes == 0 { 0 } else { ext::bytes(&[(id, &value[..bytes])]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

    fn ids(ids: &[(u8, &str)]) -> Ids {
        Ids::new(ids.iter().map(|(id, uri)| (*id, (*uri).to_owned())))
    }

    /// Rule 20.
    #[test]
    fn an_element_has_the_id_of_the_leg_that_it_is_written_on() {
        let (here, there) = (ids(&[(1, LEVEL), (2, VIDEO_ORIENTATION)]), ids(&[(2, LEVEL), (1, VIDEO_ORIENTATION)]));
        let read = here.read(Some((0xbede, &[0x10, 0x8a, 0x20, 1, 0x30, 7])));
        assert_eq!(there.written(read.iter()).collect::<Vec<_>>(), [(2, &[0x8a][..]), (1, &[1][..])]);
        assert_eq!(ids(&[(5, LEVEL)]).written(read.iter()).collect::<Vec<_>>(), [(5, &[0x8a][..])], "no id, not sent");
    }

    #[test]
    fn what_belongs_to_one_hop_or_to_the_senders_layers_is_not_kept() {
        assert!(NOT_KEPT.iter().all(|uri| ids(&[(3, uri)]).is_empty()));
    }

    #[test]
    fn a_dependency_descriptor_is_found_under_the_legs_id_and_is_no_element() {
        let leg = ids(&[(4, dd::URI), (1, LEVEL)]);
        let extension = Some((0xbede, &[0x10, 0x8a, 0x42, 0xc0, 0x00, 0x01][..]));
        assert_eq!(leg.descriptor(extension), Some(&[0xc0, 0x00, 0x01][..]));
        assert_eq!(leg.read(extension).len(), 1);
        assert_eq!((leg.descriptor_id(), leg.descriptor(None)), (Some(4), None));
        assert_eq!(ids(&[(1, LEVEL)]).descriptor(extension), None);
    }

    #[test]
    fn the_newest_value_counts_and_the_number_of_elements_is_bounded() {
        let mut elements = Elements::new();
        for n in 0..100u8 {
            let uri = format!("urn:{}", n % 10);
            add(&mut elements, Element { uri: uri.into(), value: Bytes::copy_from_slice(&[n]) });
        }
        assert_eq!(elements.iter().map(|element| element.value[0]).collect::<Vec<_>>(), [90, 91, 92, 93]);
    }

    #[test]
    fn the_room_kept_is_no_less_than_what_is_written_in_either_form() {
        for sizes in [vec![], vec![1], vec![3, 8], vec![1, 8, 16, 24]] {
            for ours in [true, false] {
                let element = |size| Element { uri: format!("urn:{size}").into(), value: vec![7; size].into() };
                let elements: Elements = sizes.iter().map(|size| element(*size)).collect();
                for id in [1, 20] {
                    let mut all: Vec<(u8, &[u8])> = elements.iter().map(|element| (id, &element.value[..])).collect();
                    if ours {
                        all.push((14, &[0; ext::VALUE_BYTES]));
                    }
                    for descriptor in [0, 3, 16, 200] {
                        let bytes = [0; 200];
                        let all = [&all[..], &[(id, &bytes[..descriptor])]].concat();
                        let all = &all[..all.len() - usize::from(descriptor == 0)];
                        assert!(ext::bytes(all) <= room(ours, descriptor, &elements));
                        assert!(all.len() > 1 || ext::bytes(all) == alone(id, descriptor) || descriptor == 0);
                    }
                }
            }
        }
    }
}
