//! The binding: names, types and errors of `auralink_native.pyi`, nothing else. The GIL is released around every call
//! that waits for the engine's thread; the others are posts.

use crate::core::carrier::Carrier;
use crate::core::codec::{Codec, Media, h265};
use crate::core::elements::Ids;
use crate::core::leg_plain::{Direction, LegConfig, MediumConfig, PayloadType};
use crate::core::mode::{Mode, Policy};
use crate::core::output;
use crate::core::srtp::{self, Master, Suite};
use crate::core::stats::Value;
use crate::core::{LegId, OutId, StreamId, Time};
use crate::engine::{self, Binding, Item, Stopped};
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[pyclass(frozen, get_all, module = "auralink_native")]
        struct $name { $($field: $type),* }

        #[pymethods]
        impl $name {
            fn __repr__(&self) -> String {
                let fields = [$(format!(concat!(stringify!($field), "={:?}"), self.$field)),*];
                format!(concat!(stringify!($name), "({})"), fields.join(", "))
            }
        }
    )*};
}

events! {
    StreamStarted {
        leg: u64, stream: u64, ssrc: u32, payload_type: u8, codec: &'static str, media: &'static str,
    }
    StreamEnded { stream: u64, reason: &'static str }
    StreamFailed { stream: u64, reason: &'static str }
    ModeApplied { stream: u64, mode: u8, frame_id: u64 }
    OutNeedsKey { out: u64, stream: u64 }
    KeyRequested { out: u64, stream: u64 }
    LegFailed { leg: u64, reason: String }
    FrameSent { stream: u64, frame_id: u64, t_sent: f64, payload_bytes: u64, packets: u64 }
    SubmitRefused { stream: u64, frame_id: u64, native: bool, reason: &'static str }
}

/// One complete access unit of a COMPRESS or SHADOW stream.
#[pyclass(frozen, get_all, module = "auralink_native")]
struct Frame {
    stream: u64,
    frame_id: u64,
    mode: u8,
    codec: &'static str,
    rtp_ts: i64,
    key: bool,
    discardable: bool,
    tid: u8,
    sid: u8,
    width: u32,
    height: u32,
    may_reorder: bool,
    t_first: f64,
    t_last: f64,
    t_complete: f64,
    native_bytes: usize,
    data: Py<PyBytes>,
}

#[pymethods]
impl Frame {
    fn __repr__(&self) -> String {
        format!("Frame(stream={}, frame_id={}, rtp_ts={}, key={})", self.stream, self.frame_id, self.rtp_ts, self.key)
    }
}

/// Sockets, timers and packets of one pod, on a thread that does not hold the GIL.
#[pyclass(frozen, module = "auralink_native")]
struct Engine {
    engine: engine::Engine,
}

fn stopped(_: Stopped) -> PyErr {
    PyRuntimeError::new_err("the engine is closed")
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, threads = None))]
    fn new(py: Python<'_>, threads: Option<usize>) -> PyResult<Engine> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(|| engine::threads_for(cores()));
        if !(1..=engine::MAX_THREADS).contains(&threads) {
            return Err(invalid("threads", &format!("must be 1 to {}", engine::MAX_THREADS)));
        }
        Ok(Engine { engine: py.detach(|| engine::Engine::start(threads))? })
    }

    fn fileno(&self) -> RawFd {
        self.engine.fileno()
    }

    #[pyo3(signature = (max = 256))]
    fn poll<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Bound<'py, PyList>> {
        let items = py.detach(|| self.engine.poll(max));
        let list = PyList::empty(py);
        for item in items {
            list.append(to_python(py, item)?)?;
        }
        Ok(list)
    }

    fn open_leg(&self, py: Python<'_>, room: String, config: &Bound<'_, PyDict>) -> PyResult<u64> {
        let (config, binding) = leg_config(room, config)?;
        let leg = py.detach(|| self.engine.open_leg(config, binding)).map_err(stopped)??;
        Ok(leg.0)
    }

    #[pyo3(signature = (leg, *, bye = true))]
    fn close_leg(&self, py: Python<'_>, leg: u64, bye: bool) -> PyResult<()> {
        py.detach(|| self.engine.close_leg(LegId(leg), bye)).map_err(stopped)
    }

    fn set_remote(&self, py: Python<'_>, leg: u64, medium: &str, remote: &str) -> PyResult<()> {
        let media = media_of(medium)?;
        let remote = address(remote, "remote")?;
        let found = py.detach(|| self.engine.set_remote(LegId(leg), media, remote));
        if found.map_err(stopped)? { Ok(()) } else { Err(PyValueError::new_err(format!("leg {leg} has no {medium}"))) }
    }

    fn local_ports<'py>(&self, py: Python<'py>, leg: u64) -> PyResult<Bound<'py, PyDict>> {
        let ports = py.detach(|| self.engine.local_ports(LegId(leg))).map_err(stopped)?;
        let dict = PyDict::new(py);
        for (media, port) in ports {
            dict.set_item(media.name(), port)?;
        }
        Ok(dict)
    }

    fn link(&self, py: Python<'_>, stream: u64, leg: u64) -> PyResult<u64> {
        let linked = py.detach(|| self.engine.link(StreamId(stream), LegId(leg)));
        linked.map_err(stopped)?.map(|out| out.0).map_err(PyValueError::new_err)
    }

    fn unlink(&self, py: Python<'_>, out: u64) -> PyResult<()> {
        py.detach(|| self.engine.unlink(OutId(out))).map_err(stopped)
    }

    #[pyo3(signature = (stream, mode, *, extension = true, degraded = false, at_frame = None))]
    fn set_mode(&self, stream: u64, mode: u8, extension: bool, degraded: bool, at_frame: Option<u64>) -> PyResult<()> {
        let mode = mode_of(mode)?;
        let policy = Policy { mode, extension, degraded };
        self.engine.set_mode(StreamId(stream), policy, at_frame).map_err(stopped)
    }

    fn hold(&self, stream: u64) -> PyResult<()> {
        self.engine.hold(StreamId(stream)).map_err(stopped)
    }

    fn submit(
        &self,
        stream: u64,
        frame_id: u64,
        data: Option<Bound<'_, PyBytes>>,
        ext16: Option<&Bound<'_, PyBytes>>,
        key: bool,
    ) -> PyResult<()> {
        let ext = ext16.map(|ext| <[u8; 16]>::try_from(ext.as_bytes())).transpose();
        let ext = ext.map_err(|_| PyValueError::new_err("ext16: must have 16 bytes"))?;
        // Python's own bytes: when the thread is done with them, pyo3 keeps the reference until somebody holds the GIL.
        let data = data.map(|data| Bytes::from_owner(PyBackedBytes::from(data)));
        self.engine.submit(StreamId(stream), frame_id, data, ext, key).map_err(stopped)
    }

    fn drop(&self, stream: u64, frame_id: u64) -> PyResult<()> {
        self.engine.drop_frame(StreamId(stream), frame_id).map_err(stopped)
    }

    fn request_key(&self, stream: u64) -> PyResult<()> {
        self.engine.request_key(StreamId(stream)).map_err(stopped)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = py.detach(|| self.engine.stats()).map_err(stopped)?;
        value_to_python(py, stats)
    }

    #[pyo3(signature = (*, bye = true))]
    fn close(&self, py: Python<'_>, bye: bool) {
        py.detach(|| self.engine.close(bye));
    }
}

fn to_python(py: Python<'_>, item: Item) -> PyResult<Py<PyAny>> {
    use output::Event as E;
    let secs = Time::as_secs_f64;
    Ok(match item {
        Item::Frame(frame) => Py::new(
            py,
            Frame {
                stream: frame.stream.0,
                frame_id: frame.frame_id,
                mode: frame.mode as u8,
                codec: frame.codec.name(),
                rtp_ts: frame.timestamp,
                key: frame.key,
                discardable: frame.discardable,
                tid: frame.tid,
                sid: frame.sid,
                width: frame.width,
                height: frame.height,
                may_reorder: frame.may_reorder,
                t_first: secs(frame.first),
                t_last: secs(frame.last),
                t_complete: secs(frame.completed),
                native_bytes: frame.native_bytes,
                data: PyBytes::new(py, &frame.data).unbind(),
            },
        )?
        .into_any(),
        Item::Event(E::StreamStarted { leg, stream, ssrc, payload_type, codec }) => {
            let (codec, media) = (codec.name(), codec.media().name());
            Py::new(py, StreamStarted { leg: leg.0, stream: stream.0, ssrc, payload_type, codec, media })?.into_any()
        }
        Item::Event(E::StreamEnded { stream, reason }) => {
            Py::new(py, StreamEnded { stream: stream.0, reason })?.into_any()
        }
        Item::Event(E::StreamFailed { stream, reason }) => {
            Py::new(py, StreamFailed { stream: stream.0, reason })?.into_any()
        }
        Item::Event(E::ModeApplied { stream, mode, frame_id }) => {
            Py::new(py, ModeApplied { stream: stream.0, mode: mode as u8, frame_id })?.into_any()
        }
        Item::Event(E::OutNeedsKey { out, stream }) => {
            Py::new(py, OutNeedsKey { out: out.0, stream: stream.0 })?.into_any()
        }
        Item::Event(E::KeyRequested { out, stream }) => {
            Py::new(py, KeyRequested { out: out.0, stream: stream.0 })?.into_any()
        }
        Item::Event(E::LegFailed { leg, reason }) => Py::new(py, LegFailed { leg: leg.0, reason })?.into_any(),
        Item::Event(E::FrameSent { stream, frame_id, at, payload_bytes, packets }) => {
            let t_sent = secs(at);
            Py::new(py, FrameSent { stream: stream.0, frame_id, t_sent, payload_bytes, packets })?.into_any()
        }
        Item::Event(E::SubmitRefused { stream, frame_id, native, reason }) => {
            Py::new(py, SubmitRefused { stream: stream.0, frame_id, native, reason: reason.name() })?.into_any()
        }
    })
}

fn value_to_python(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Int(n) => n.into_pyobject(py)?.into_any(),
        Value::Float(x) => x.into_pyobject(py)?.into_any(),
        Value::Text(text) => text.into_pyobject(py)?.into_any(),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(value_to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (name, value) in entries {
                dict.set_item(name, value_to_python(py, value)?)?;
            }
            dict.into_any()
        }
        Value::Table(rows) => {
            let dict = PyDict::new(py);
            for (id, value) in rows {
                dict.set_item(id, value_to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}

// ---- the config dict of open_leg; errors name the key at fault ----------------------------------------------------

fn invalid(key: &str, must: &str) -> PyErr {
    PyValueError::new_err(format!("{key}: {must}"))
}

fn get<'py, T: for<'a> FromPyObject<'a, 'py>>(dict: &Bound<'py, PyDict>, key: &str, path: &str) -> PyResult<Option<T>> {
    let at = format!("{path}{key}");
    match dict.get_item(key)? {
        Some(value) if !value.is_none() => {
            value.extract().map(Some).map_err(|_| invalid(&at, "has the wrong type or range"))
        }
        _ => Ok(None),
    }
}

fn need<'py, T: for<'a> FromPyObject<'a, 'py>>(dict: &Bound<'py, PyDict>, key: &str, path: &str) -> PyResult<T> {
    get(dict, key, path)?.ok_or_else(|| invalid(&format!("{path}{key}"), "is missing"))
}

fn leg_config(room: String, dict: &Bound<'_, PyDict>) -> PyResult<(LegConfig, Binding)> {
    let direction = match need::<String>(dict, "direction", "")?.as_str() {
        "Both" => Direction::Both,
        "Receive" => Direction::Receive,
        "Send" => Direction::Send,
        _ => return Err(invalid("direction", "must be Both, Receive or Send")),
    };
    let feedback = match get::<String>(dict, "feedback", "")?.as_deref() {
        None | Some("None") => false,
        Some("AVPF") => true,
        Some(_) => return Err(invalid("feedback", "must be None or AVPF")),
    };
    let carrier = match get::<String>(dict, "carrier", "")?.as_deref() {
        None | Some("None") => Carrier::None,
        Some("InBand") => Carrier::InBand,
        Some(_) => return Err(invalid("carrier", "must be None or InBand")),
    };
    let extension_id: u8 = get(dict, "extension_id", "")?.unwrap_or(14);
    if !(1..=14).contains(&extension_id) {
        return Err(invalid("extension_id", "must be 1 to 14"));
    }
    let ip: String = get(dict, "bind", "")?.unwrap_or_else(|| "0.0.0.0".to_owned());
    let ip: IpAddr = ip.parse().map_err(|_| invalid("bind", "must be an IP address"))?;
    let rtcp_mux = get(dict, "rtcp_mux", "")?.unwrap_or(false);
    let (mut media, mut ports) = (Vec::new(), Vec::new());
    for (name, value) in need::<Bound<'_, PyDict>>(dict, "media", "")?.iter() {
        let name: String = name.extract()?;
        let path = format!("media.{name}.");
        let medium = value.cast_into::<PyDict>().map_err(|_| invalid(&format!("media.{name}"), "must be a dict"))?;
        ports.push(get::<u16>(&medium, "listen_port", &path)?.unwrap_or(0));
        media.push(medium_config(media_of(&name)?, &medium, &path, rtcp_mux)?);
    }
    if media.is_empty() {
        return Err(invalid("media", "must have video or audio"));
    }
    let config = LegConfig {
        name: get(dict, "name", "")?.unwrap_or_default(),
        room,
        direction,
        feedback,
        rtcp_mux,
        extension_id,
        ids: extension_ids(dict, extension_id)?,
        carrier,
        media,
        srtp: get::<Bound<'_, PyDict>>(dict, "srtp", "")?.map(|dict| srtp_config(&dict)).transpose()?,
    };
    if let Some(problem) = config.problem() {
        return Err(PyValueError::new_err(problem));
    }
    Ok((config, Binding { ip, ports }))
}

/// Its errors say nothing of the keys.
fn srtp_config(dict: &Bound<'_, PyDict>) -> PyResult<srtp::Config> {
    let suite = Suite::from_name(&need::<String>(dict, "suite", "srtp.")?);
    let names = || Suite::ALL.map(Suite::name).join(" or ");
    let suite = suite.ok_or_else(|| invalid("srtp.suite", &format!("must be {}", names())))?;
    let master = |name: &str| {
        let bytes = need::<Bound<'_, PyBytes>>(dict, name, "srtp.")?;
        let must = format!("must have {} bytes: master key and salt", suite.master_bytes());
        Master::new(suite, bytes.as_bytes()).ok_or_else(|| invalid(&format!("srtp.{name}"), &must))
    };
    Ok(srtp::Config { rx: master("rx")?, tx: master("tx")? })
}

fn medium_config(media: Media, dict: &Bound<'_, PyDict>, path: &str, mux: bool) -> PyResult<MediumConfig> {
    let mut payloads = Vec::new();
    for (index, payload) in need::<Vec<Bound<'_, PyDict>>>(dict, "payloads", path)?.iter().enumerate() {
        let path = format!("{path}payloads[{index}].");
        let codec: String = need(payload, "codec", &path)?;
        let codec = Codec::from_name(&codec)
            .filter(|codec| codec.media() == media)
            .ok_or_else(|| invalid(&format!("{path}codec"), "is no codec of this medium"))?;
        let number: u8 = need(payload, "type", &path)?;
        payload_type(number, &format!("{path}type"), mux)?;
        let clock_rate: u32 = need(payload, "clock_rate", &path)?;
        if clock_rate == 0 {
            return Err(invalid(&format!("{path}clock_rate"), "must be above 0"));
        }
        let fmtp: Option<String> = get(payload, "fmtp", &path)?;
        let order_numbers = codec == Codec::H265 && h265::has_order_numbers(&fmtp.unwrap_or_default());
        let rtx = wrapping(payload, "rtx_type", &path, media == Media::Video, mux)?;
        let red = wrapping(payload, "red_type", &path, media == Media::Audio, mux)?;
        payloads.push(PayloadType { number, codec, clock_rate, order_numbers, rtx, red });
    }
    if payloads.is_empty() {
        return Err(invalid(&format!("{path}payloads"), "must have an entry"));
    }
    let remote: Option<String> = get(dict, "remote", path)?;
    let remote = remote.map(|remote| address(&remote, &format!("{path}remote"))).transpose()?;
    Ok(MediumConfig { media, payloads, remote })
}

/// With the marker bit set, 64 to 95 look like RTCP (RFC 5761 section 4).
fn payload_type(number: u8, key: &str, mux: bool) -> PyResult<u8> {
    let clear = number <= 127 && !(mux && (64..96).contains(&number));
    clear.then_some(number).ok_or_else(|| invalid(key, "must be 0 to 127, and with rtcp_mux not 64 to 95"))
}

/// The payload type that wraps another one, where the medium has such.
fn wrapping(dict: &Bound<'_, PyDict>, key: &str, path: &str, of_medium: bool, mux: bool) -> PyResult<Option<u8>> {
    let (number, at) = (get::<u8>(dict, key, path)?, format!("{path}{key}"));
    if number.is_some() && !of_medium {
        return Err(invalid(&at, "rtx_type is of video, red_type of audio"));
    }
    number.map(|number| payload_type(number, &at, mux)).transpose()
}

/// id -> URI of the leg's other header extensions.
fn extension_ids(dict: &Bound<'_, PyDict>, ours: u8) -> PyResult<Ids> {
    let Some(given) = get::<Bound<'_, PyDict>>(dict, "extensions", "")? else { return Ok(Ids::default()) };
    let mut ids: Vec<(u8, String)> = Vec::new();
    for (id, uri) in given.iter() {
        let wrong =
            || invalid("extensions", "must be ids from 1 to 255, neither 15 nor extension_id, each with one URI");
        let (id, uri): (u8, String) = (id.extract().map_err(|_| wrong())?, uri.extract().map_err(|_| wrong())?);
        if id == 0 || id == 15 || id == ours || ids.iter().any(|(_, known)| *known == uri) {
            return Err(wrong());
        }
        ids.push((id, uri));
    }
    Ok(Ids::new(ids))
}

fn address(text: &str, key: &str) -> PyResult<SocketAddr> {
    let address: SocketAddr = text.parse().map_err(|_| invalid(key, "must be ip:port"))?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn media_of(name: &str) -> PyResult<Media> {
    let known = Media::ALL.into_iter().find(|media| media.name() == name);
    known.ok_or_else(|| PyValueError::new_err(format!("{name}: must be video or audio")))
}

fn mode_of(mode: u8) -> PyResult<Mode> {
    [Mode::Bypass, Mode::Compress, Mode::Shadow]
        .into_iter()
        .find(|known| *known as u8 == mode)
        .ok_or_else(|| invalid("mode", "must be BYPASS, COMPRESS or SHADOW"))
}

#[pymodule]
fn auralink_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("BYPASS", Mode::Bypass as u8)?;
    module.add("COMPRESS", Mode::Compress as u8)?;
    module.add("SHADOW", Mode::Shadow as u8)?;
    module.add_class::<Engine>()?;
    module.add_class::<Frame>()?;
    module.add_class::<FrameSent>()?;
    module.add_class::<KeyRequested>()?;
    module.add_class::<LegFailed>()?;
    module.add_class::<ModeApplied>()?;
    module.add_class::<OutNeedsKey>()?;
    module.add_class::<StreamEnded>()?;
    module.add_class::<StreamFailed>()?;
    module.add_class::<StreamStarted>()?;
    module.add_class::<SubmitRefused>()?;
    Ok(())
}
