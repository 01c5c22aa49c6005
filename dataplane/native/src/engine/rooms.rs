//! Which thread serves which room: the one with the fewest legs when the room's first leg opens, and then all of its legs.

use crate::core::LegId;
use std::collections::HashMap;

struct Place {
    thread: usize,
    legs: usize,
}

/// Bounded by the legs that are open.
pub struct Rooms {
    places: HashMap<String, Place>,
    legs: HashMap<LegId, String>,
    /// Legs by thread.
    load: Vec<usize>,
}

impl Rooms {
    pub fn new(threads: usize) -> Rooms {
        Rooms { places: HashMap::new(), legs: HashMap::new(), load: vec![0; threads] }
    }

    /// The thread of a room that gets a leg; each has to be followed by `opened` or `left`.
    pub fn enter(&mut self, room: &str) -> usize {
        let idle = (0..self.load.len()).min_by_key(|thread| self.load[*thread]).unwrap_or(0);
        let place = self.places.entry(room.to_owned()).or_insert(Place { thread: idle, legs: 0 });
        place.legs += 1;
        self.load[place.thread] += 1;
        place.thread
    }

    pub fn opened(&mut self, leg: LegId, room: String) {
        self.legs.insert(leg, room);
    }

    /// A leg of the room did not come to be, or is no more.
    pub fn left(&mut self, room: &str) {
        let Some(place) = self.places.get_mut(room) else { return };
        place.legs -= 1;
        self.load[place.thread] -= 1;
        if place.legs == 0 {
            self.places.remove(room);
        }
    }

    pub fn closed(&mut self, leg: LegId) {
        if let Some(room) = self.legs.remove(&leg) {
            self.left(&room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_stays_on_its_thread_and_the_next_goes_where_there_are_fewest_legs() {
        let mut rooms = Rooms::new(2);
        assert_eq!([rooms.enter("a"), rooms.enter("a"), rooms.enter("a")], [0, 0, 0]);
        assert_eq!([rooms.enter("b"), rooms.enter("c"), rooms.enter("d")], [1, 1, 1]);
        assert_eq!([rooms.enter("e"), rooms.enter("a"), rooms.enter("b")], [0, 0, 1]);
    }

    #[test]
    fn what_is_closed_or_failed_makes_room_and_is_forgotten() {
        let mut rooms = Rooms::new(2);
        assert_eq!(rooms.enter("a"), 0);
        rooms.opened(LegId(1), "a".to_owned());
        assert_eq!(rooms.enter("a"), 0);
        rooms.left("a");
        rooms.closed(LegId(1));
        rooms.closed(LegId(1));
        rooms.closed(LegId(7));
        assert_eq!((rooms.places.len(), rooms.legs.len(), &rooms.load[..]), (0, 0, &[0, 0][..]));
        assert_eq!([rooms.enter("b"), rooms.enter("a")], [0, 1]);
    }
}
