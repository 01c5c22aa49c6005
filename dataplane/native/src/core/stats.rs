//! Counters as a tree that the binding turns into dicts; the names are those of the `.pyi`.

use super::out::{LATENCY_BUCKETS_MS, Out};
use super::stream::Stream;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
    Text(String),
    None,
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// Keys are ids.
    Table(Vec<(u64, Value)>),
}

impl Value {
    /// Adds the counters of another shard: numbers of one name are summed up, rows stand beside each other.
    pub fn add(&mut self, other: Value) {
        match (self, other) {
            (Value::Int(n), Value::Int(more)) => *n += more,
            (Value::Float(x), Value::Float(more)) => *x += more,
            (Value::Map(entries), Value::Map(more)) => {
                for (name, value) in more {
                    match entries.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => known.add(value),
                        None => entries.push((name, value)),
                    }
                }
            }
            (Value::Table(rows), Value::Table(more)) => {
                rows.extend(more);
                rows.sort_by_key(|(id, _)| *id);
            }
            _ => {}
        }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn row(&self, id: u64) -> Option<&Value> {
        match self {
            Value::Table(rows) => rows.iter().find(|(row, _)| *row == id).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Value {
        Value::Int(n as i64)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Value {
        Value::Int(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::None, Into::into)
    }
}

pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

pub fn stream(stream: &Stream) -> Value {
    let Value::Map(mut entries) = map([
        ("leg", stream.leg.0.into()),
        ("codec", stream.codec.name().into()),
        ("media", stream.media().name().into()),
        ("ssrc", u64::from(stream.ssrc).into()),
        ("packets", stream.packets.into()),
        ("payload_bytes", stream.payload_bytes.into()),
        ("lost_packets", stream.reception.lost().max(0).into()),
        ("mode", Value::None),
    ]) else {
        return Value::None;
    };
    if let Some(video) = stream.video_ref() {
        entries.pop();
        let Value::Map(more) = map([
            ("mode", video.ledger.mode().map(|mode| mode as u64).into()),
            ("held", u64::from(video.ledger.held()).into()),
            ("in_flight", (video.ledger.in_flight() as u64).into()),
            ("frames", video.frames.into()),
            ("keys", video.key_frames.into()),
            ("frames_abandoned", video.abandoned.into()),
            ("markerless_frames", video.markerless_frames().into()),
            ("illegal_switch", video.illegal_switches.into()),
            ("key_requests_sent", video.keys.total.into()),
            ("nacks_sent", video.nacks_sent().into()),
            ("repaired_packets", stream.repaired.into()),
        ]) else {
            return Value::None;
        };
        entries.extend(more);
    }
    Value::Map(entries)
}

pub fn out(out: &Out) -> Value {
    let counts = &out.counts;
    map([
        ("stream", out.stream.map(|stream| stream.0).into()),
        ("leg", out.leg.0.into()),
        ("codec", out.codec.name().into()),
        ("ssrc", u64::from(out.generator.ssrc).into()),
        ("packets", out.generator.packets.into()),
        ("payload_bytes", out.generator.payload_bytes.into()),
        ("frames", counts.frames.into()),
        ("native_frames", counts.native_frames.into()),
        ("compressed_frames", counts.compressed_frames.into()),
        ("dropped_frames", counts.dropped_frames.into()),
        ("illegal_switch", counts.illegal_switches.into()),
        ("resent_packets", counts.resent_packets.into()),
        ("key_requests", counts.key_requests.into()),
        ("last_rtp_ts", out.generator.last_timestamp().map(u64::from).into()),
        ("round_trip_ms", out.round_trip.map_or(Value::None, |rtt| Value::Float(rtt.as_secs_f64() * 1000.0))),
        (
            "latency_ms",
            map([
                ("le", Value::List(LATENCY_BUCKETS_MS.iter().map(|bound| Value::Float(*bound)).collect())),
                ("count", Value::List(counts.latency.iter().map(|n| (*n).into()).collect())),
            ]),
        ),
    ])
}
