//! What `supervisor.getAllProcessInfo` answers: an array of structs, in XML-RPC.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

use crate::sys::text;

/// Further processes are an error.
const MOST_PROCESSES: usize = 16_384;
/// What is nested deeper is no answer of supervisord.
const MOST_LEVELS: usize = 32;

/// What is given of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) group: String,
    /// In seconds since 1970.
    pub(super) start: i64,
    pub(super) state: i64,
    pub(super) exit_status: i64,
}

/// The members of one struct, as text.
#[derive(Default)]
struct Members {
    name: Option<String>,
    group: Option<String>,
    start: Option<String>,
    state: Option<String>,
    exit_status: Option<String>,
    fault: Option<String>,
}

/// # Errors
/// Why it is no such answer, or what fault supervisord names.
pub(super) fn parse_answer(body: &[u8]) -> Result<Vec<Process>, String> {
    let body = text::as_str(body).ok_or("an answer that is not UTF-8")?;
    let mut reader = Reader::from_str(body);
    let mut parser = Parser::default();
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => parser.open(element.local_name().as_ref())?,
            Ok(Event::End(element)) => parser.close(element.local_name().as_ref())?,
            Ok(Event::Text(text)) => parser.text.push_str(&text),
            Ok(Event::CData(text)) => parser.text.push_str(&text),
            Ok(Event::GeneralRef(entity)) => {
                let char = entity.resolve_char_ref().map_err(|error| format!("bad XML: {error}"))?;
                match (char, resolve_predefined_entity(&entity)) {
                    (Some(char), _) => parser.text.push(char),
                    (None, Some(text)) => parser.text.push_str(text),
                    (None, None) => return Err(format!("XML with an unknown entity {:?}", &*entity)),
                }
            }
            Ok(Event::Eof) => return parser.finish(),
            // An empty element says nothing: an empty text, or no parameters.
            Ok(_) => {}
            Err(error) => return Err(format!("bad XML: {error}")),
        }
    }
}

#[derive(Default)]
struct Parser {
    levels: usize,
    /// Text since the last element began.
    text: String,
    is_answer: bool,
    is_fault: bool,
    /// Of the member at hand.
    key: String,
    members: Option<Members>,
    processes: Vec<Process>,
}

impl Parser {
    fn open(&mut self, element: &str) -> Result<(), String> {
        self.levels += 1;
        if self.levels > MOST_LEVELS {
            return Err("XML that is nested too deeply".into());
        }
        match element {
            "methodResponse" if self.levels == 1 => self.is_answer = true,
            "fault" => self.is_fault = true,
            "struct" => self.members = Some(Members::default()),
            _ => {}
        }
        self.text.clear();
        Ok(())
    }

    fn close(&mut self, element: &str) -> Result<(), String> {
        self.levels = self.levels.saturating_sub(1);
        match element {
            "name" => self.key = std::mem::take(&mut self.text),
            "int" | "i4" | "string" | "value" => self.take_value(),
            "struct" => self.take_struct()?,
            _ => {}
        }
        Ok(())
    }

    /// The first text after the name of a member is its value.
    fn take_value(&mut self) {
        let Some(members) = &mut self.members else { return };
        let slot = match self.key.as_str() {
            "name" => &mut members.name,
            "group" => &mut members.group,
            "start" => &mut members.start,
            "state" => &mut members.state,
            "exitstatus" => &mut members.exit_status,
            "faultString" => &mut members.fault,
            _ => return,
        };
        if slot.is_none() {
            *slot = Some(std::mem::take(&mut self.text));
        }
    }

    fn take_struct(&mut self) -> Result<(), String> {
        let Some(members) = self.members.take() else { return Ok(()) };
        if self.is_fault {
            return Err(format!("fault: {}", members.fault.unwrap_or_default()));
        }
        let number = |text: Option<String>| text::parse_i64(text::trim(text?.as_bytes()));
        let Members { name, group, start, state, exit_status, .. } = members;
        let (Some(name), Some(group), Some(start), Some(state), Some(exit_status)) =
            (name, group, number(start), number(state), number(exit_status))
        else {
            return Err("a process without name, group, start, state or exit status".into());
        };
        if self.processes.len() == MOST_PROCESSES {
            return Err(format!("more than {MOST_PROCESSES} processes"));
        }
        self.processes.push(Process { name, group, start, state, exit_status });
        Ok(())
    }

    fn finish(self) -> Result<Vec<Process>, String> {
        if !self.is_answer || self.levels > 0 {
            return Err("expected the whole of a methodResponse".into());
        }
        Ok(self.processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n";
    const TAIL: &str = "</data></array></value>\n</param>\n</params>\n</methodResponse>\n";

    fn process(name: &str, state: &str) -> String {
        let member = |name: &str, value: &str| {
            format!("<member>\n<name>{name}</name>\n<value>{value}</value>\n</member>\n")
        };
        let members = [
            member("name", &format!("<string>{name}</string>")),
            member("group", "web &amp; &#x2764;"),
            member("start", "<int>1700000000</int>"),
            member("stop", "<int>0</int>"),
            member("state", state),
            member("statename", "<string>RUNNING</string>"),
            member("spawnerr", "<string></string>"),
            member("exitstatus", "<i4>-1</i4>"),
        ];
        format!("<value><struct>\n{}</struct></value>\n", members.concat())
    }

    #[test]
    fn processes_of_an_answer() {
        let text =
            [HEAD, &process("a", "<int>20</int>"), &process("<![CDATA[b<]]>", "<int>0</int>"), TAIL].concat();
        let expected = |name: &str, state| Process {
            name: name.into(),
            group: "web & \u{2764}".into(),
            start: 1_700_000_000,
            state,
            exit_status: -1,
        };
        assert_eq!(parse_answer(text.as_bytes()), Ok(vec![expected("a", 20), expected("b<", 0)]));
        assert_eq!(parse_answer([HEAD, TAIL].concat().as_bytes()), Ok(vec![]));
    }

    #[test]
    fn a_fault_is_named() {
        let text = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>6</int></value>\
            </member><member><name>faultString</name><value><string>SHUTDOWN_STATE</string></value></member>\
            </struct></value></fault></methodResponse>";
        assert_eq!(parse_answer(text.as_bytes()), Err("fault: SHUTDOWN_STATE".into()));
    }

    #[test]
    fn what_is_no_answer() {
        let whole = [HEAD, &process("a", "<int>20</int>"), TAIL].concat();
        for end in 0..whole.trim_end().len() {
            assert!(parse_answer(&whole.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        let deep = "<methodResponse>".to_owned() + &"<value>".repeat(100);
        for wrong in [
            &process("a", "<int>x</int>"),
            "<html></html>",
            "a<b",
            "<methodResponse>&x;</methodResponse>",
            &deep,
            "\u{0}",
        ] {
            assert!(parse_answer(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse_answer(&[0xff; 100]).is_err());
    }

    proptest::proptest! {
        #![proptest_config(crate::sys::bent::inputs())]

        #[test]
        fn bent_answers_are_refused_or_give_processes(
            bytes in crate::sys::bent::bent(vec![[HEAD, &process("a", "<int>20</int>"), TAIL].concat().into()])
        ) {
            match parse_answer(&bytes) {
                Ok(processes) => proptest::prop_assert!(processes.len() <= bytes.len() / 16),
                Err(why) => proptest::prop_assert!(!why.is_empty()),
            }
        }
    }
}
