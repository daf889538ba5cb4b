//! A D-Bus of the test's own, by the real dbus-daemon, and services on it that answer as they are told.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustbus::DuplexConn;
use rustbus::connection::Timeout;
use rustbus::message_builder::{MarshalledMessage, MessageType};
use rustbus::wire::ObjectPath;

use crate::process::{Process, wait_for};
use crate::skip::program_or_skip;

/// A bus that ends with its owner.
pub struct Bus {
    folder: tempfile::TempDir,
    _process: Process,
}

impl Bus {
    /// Starts it, or skips the test `name` aloud where there is no dbus-daemon.
    ///
    /// # Panics
    /// When it does not start.
    pub fn new(name: &str) -> Option<Self> {
        let daemon = program_or_skip(name, &["dbus-daemon"])?;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \"busconfig.dtd\">\n\
             <busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\n\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/>\n\
             <allow send_destination=\"*\"/><allow receive_type=\"*\"/></policy></busconfig>\n",
            folder.path().join("socket").display()
        );
        std::fs::write(folder.path().join("bus.conf"), config).expect("the folder can be written");
        let arguments =
            ["--nofork".to_owned(), format!("--config-file={}", folder.path().join("bus.conf").display())];
        let process = Process::start(&daemon, &arguments, &folder.path().join("bus.log"));
        let bus = Bus { folder, _process: process };
        // The socket is there before anybody listens on it.
        let is_up = wait_for(Duration::from_secs(10), || UnixStream::connect(bus.socket()).is_ok());
        assert!(is_up, "{}", std::fs::read_to_string(bus.folder.path().join("bus.log")).unwrap_or_default());
        Some(bus)
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// As `DBUS_SYSTEM_BUS_ADDRESS` has it.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// A folder for what the test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a service of that name on the bus.
    ///
    /// # Panics
    /// When the bus does not take it.
    pub fn serve(&self, name: &str, answers: Answers) -> Service {
        let address = nix_address(&self.socket());
        let mut connection = DuplexConn::connect_to_bus(address, false).expect("the bus lets us in");
        connection.send_hello(Timeout::Infinite).expect("the bus greets");
        let request = rustbus::standard_messages::request_name(name, 4);
        let serial = connection.send.send_message_write_all(&request).expect("the bus reads");
        while connection
            .recv
            .get_next_message(Timeout::Infinite)
            .expect("the bus answers")
            .dynheader
            .response_serial
            != Some(serial)
        {}
        let hangs = Arc::new(AtomicBool::new(false));
        let told = hangs.clone();
        std::thread::spawn(move || answer(connection, &answers, &told));
        Service { hangs }
    }
}

fn nix_address(path: &Path) -> nix::sys::socket::UnixAddr {
    nix::sys::socket::UnixAddr::new(path).expect("the path is short")
}

/// A value of a property.
#[derive(Clone, Debug)]
pub enum Value {
    Text(&'static str),
    Bool(bool),
    U32(u32),
    U64(u64),
}

/// What a service answers: methods by their names, and properties by object and `interface.name`.
#[derive(Default)]
pub struct Answers {
    pub methods: BTreeMap<&'static str, fn(&mut MarshalledMessage)>,
    pub properties: BTreeMap<(String, String), Value>,
}

/// A service that can be told to hang.
pub struct Service {
    hangs: Arc<AtomicBool>,
}

impl Service {
    pub fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }
}

/// Answers until the bus is gone.
fn answer(mut connection: DuplexConn, answers: &Answers, hangs: &AtomicBool) {
    while let Ok(call) = connection.recv.get_next_message(Timeout::Infinite) {
        if call.typ != MessageType::Call || hangs.load(Ordering::SeqCst) {
            continue;
        }
        let member = call.dynheader.member.clone().unwrap_or_default();
        let mut reply = call.dynheader.make_response();
        if member == "Get" {
            let (interface, name) = call.body.parser().get2::<&str, &str>().expect("Get has two arguments");
            let key = (call.dynheader.object.clone().unwrap_or_default(), format!("{interface}.{name}"));
            let pushed = match answers.properties.get(&key) {
                Some(Value::Text(text)) => reply.body.push_variant(*text),
                Some(Value::Bool(yes)) => reply.body.push_variant(*yes),
                Some(Value::U32(number)) => reply.body.push_variant(*number),
                Some(Value::U64(number)) => reply.body.push_variant(*number),
                None => {
                    let none = "org.freedesktop.DBus.Error.UnknownProperty";
                    reply = call.dynheader.make_error_response(none, None);
                    Ok(())
                }
            };
            pushed.expect("a value can be written");
        } else if let Some(write) = answers.methods.get(member.as_str()) {
            write(&mut reply);
        } else {
            reply = call.dynheader.make_error_response("org.freedesktop.DBus.Error.UnknownMethod", None);
        }
        if connection.send.send_message_write_all(&reply).is_err() {
            return;
        }
    }
}

/// A path that is known to be one.
///
/// # Panics
/// When it is not.
pub fn path(text: &str) -> ObjectPath<&str> {
    ObjectPath::new(text).expect("an object path")
}
