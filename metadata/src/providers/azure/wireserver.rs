// SPDX-License-Identifier: Apache-2.0
//! Telling the platform that the machine is ready. One that never says so is
//! taken for broken, and started again or given up.
//!
//! There are two ways: one request in JSON, which newer hosts know, and the
//! older pair, a goal state to read and a health report to write, in XML.

use roxmltree::{Document, Node, ParsingOptions};

use crate::http::{Client, HttpError, Request};
use crate::providers::ProviderError;

const HEALTH: &str = "/provisioning/health";
const GOAL_STATE: &str = "/machine/?comp=goalstate";
const REPORT: &str = "/machine?comp=health";
/// How this program is called in requests.
const AGENT: &str = concat!("lkinit-metadata v", env!("CARGO_PKG_VERSION"));
/// The version of the older protocol.
const VERSION: (&str, &str) = ("x-ms-version", "2012-11-30");
/// Longest description of a failure, in characters.
const MAX_DESCRIPTION: usize = 512;
/// How often a goal state that has changed meanwhile is read again.
const ROUNDS: usize = 3;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The machine is what its owner wanted.
    Ready,
    /// It is not, and why.
    NotReady(String),
}

/// Which machine this is to the platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoalState {
    incarnation: String,
    container: String,
    role: String,
}

impl GoalState {
    /// Reads a goal state.
    ///
    /// # Errors
    /// In words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let options = ParsingOptions { allow_dtd: false, nodes_limit: 20_000, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
            .map_err(|error| format!("it is not XML: {error}"))?;
        let root = document.root_element();
        let value = |path: &[&str]| {
            let element = path.iter().try_fold(root, |node, name| child(node, name));
            let text = element.and_then(|element| element.text()).map(str::trim).unwrap_or_default();
            if text.is_empty() { Err(format!("it has no {}", path.join("/"))) } else { Ok(text.to_owned()) }
        };
        Ok(Self {
            incarnation: value(&["Incarnation"])?,
            container: value(&["Container", "ContainerId"])?,
            role: value(&["Container", "RoleInstanceList", "RoleInstance", "InstanceId"])?,
        })
    }

    /// The health report for this machine.
    pub fn report(&self, report: &Report) -> String {
        let (state, details) = match report {
            Report::Ready => ("Ready", String::new()),
            Report::NotReady(description) => {
                let description = escape(&shortened(description));
                let details = format!(
                    "<Details><SubStatus>ProvisioningFailed</SubStatus><Description>{description}</Description></Details>"
                );
                ("NotReady", details)
            }
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <Health xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\
             <GoalStateIncarnation>{}</GoalStateIncarnation>\
             <Container><ContainerId>{}</ContainerId>\
             <RoleInstanceList><Role><InstanceId>{}</InstanceId>\
             <Health><State>{state}</State>{details}</Health>\
             </Role></RoleInstanceList></Container></Health>",
            escape(&self.incarnation),
            escape(&self.container),
            escape(&self.role),
        )
    }
}

/// The first child of this name, whatever its namespace.
fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|node| node.tag_name().name() == name)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// At most so many characters, and none that XML cannot hold.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_DESCRIPTION).collect()
}

/// Tells the platform, in the newer way, or in the older where the host does
/// not know the newer.
///
/// # Errors
/// [`ProviderError`].
pub fn tell(service: &Client, report: &Report) -> Result<(), ProviderError> {
    let body = match report {
        Report::Ready => serde_json::json!({ "state": "Ready" }),
        Report::NotReady(description) => serde_json::json!({
            "state": "NotReady",
            "details": { "subStatus": "ProvisioningFailed", "description": shortened(description) },
        }),
    };
    let request = Request::send("POST", HEALTH, "application/json", body.to_string())
        .field("x-ms-guest-agent-name", AGENT);
    let response = service.send(&request)?;
    match response.status {
        200..=299 => Ok(()),
        404 | 405 => tell_classic(service, report),
        _ => Err(service.refusal(&response, "POST", HEALTH).into()),
    }
}

fn tell_classic(service: &Client, report: &Report) -> Result<(), ProviderError> {
    let common = |request: Request| request.field(VERSION.0, VERSION.1).field("x-ms-agent-name", AGENT);
    for _ in 0..ROUNDS {
        let response = service.send(&common(Request::get(GOAL_STATE)))?;
        let absent = || ProviderError::Absent(format!("{}: not found", service.url(GOAL_STATE)));
        let response = service.found(response, "GET", GOAL_STATE)?.ok_or_else(absent)?;
        let goal_state = GoalState::parse(&response.body)
            .map_err(|error| ProviderError::document(service.url(GOAL_STATE), error))?;
        let body = goal_state.report(report);
        let request = common(Request::send("POST", REPORT, "text/xml;charset=utf-8", body));
        let response = service.send(&request)?;
        match response.status {
            200..=299 => return Ok(()),
            // The goal state has changed meanwhile.
            410 => {}
            _ => return Err(service.refusal(&response, "POST", REPORT).into()),
        }
    }
    Err(HttpError::into(service.unexpected(REPORT, "the goal state changes faster than it can be read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: &str = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<GoalState>
        <Version>2012-11-30</Version><Incarnation>1</Incarnation>
        <Container><ContainerId>c-1</ContainerId><RoleInstanceList>
        <RoleInstance><InstanceId>r&amp;1</InstanceId></RoleInstance>
        <RoleInstance><InstanceId>r2</InstanceId></RoleInstance>
        </RoleInstanceList></Container></GoalState>";

    #[test]
    fn the_first_role_of_a_goal_state() {
        let goal = GoalState::parse(GOAL.as_bytes()).unwrap();
        let expected = GoalState { incarnation: "1".into(), container: "c-1".into(), role: "r&1".into() };
        assert_eq!(goal, expected);
        let without = GOAL.replace("ContainerId", "X");
        assert_eq!(GoalState::parse(without.as_bytes()).unwrap_err(), "it has no Container/ContainerId");
        assert!(GoalState::parse(b"{}").is_err());
    }

    #[test]
    fn reports_are_xml_whatever_is_in_them() {
        let goal = GoalState::parse(GOAL.as_bytes()).unwrap();
        let ready = goal.report(&Report::Ready);
        let document = Document::parse(&ready).unwrap();
        let text = |name: &str| {
            document.descendants().find(|node| node.has_tag_name(name)).and_then(|node| node.text())
        };
        assert_eq!(text("GoalStateIncarnation"), Some("1"));
        assert_eq!(text("InstanceId"), Some("r&1"));
        assert_eq!(text("State"), Some("Ready"));
        assert_eq!(text("Details"), None);

        let long = format!("a <b> \u{1b} & {}", "x".repeat(1000));
        let failed = goal.report(&Report::NotReady(long));
        let document = Document::parse(&failed).unwrap();
        let description =
            document.descendants().find(|node| node.has_tag_name("Description")).unwrap().text().unwrap();
        assert!(description.starts_with("a <b>   & xxx") && description.chars().count() == MAX_DESCRIPTION);
    }
}
