// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::testing::{Reply, Server};

fn url(server: &Server) -> Url {
    server.base().parse().unwrap()
}

fn client(server: &Server, retry: Retry) -> Client {
    let settings = Settings { endpoints: vec![url(server)], retry, ..Settings::default() };
    Client::new(settings, Arc::new(Budget::until(Deadline::after(Duration::from_secs(5)))))
}

#[test]
fn a_connection_is_kept() {
    let server = Server::start(|request| Reply::text(&request.path));
    let client = client(&server, Retry::default());
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.get(path).unwrap().unwrap().body, path.as_bytes());
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_connection_that_was_closed_is_opened_again() {
    let server = Server::start(|request| match request.path.as_str() {
        "/close" => Reply::text("x").closing(),
        // Promises to stay and goes away.
        "/liar" => Reply::text("x").hanging_up(),
        _ => Reply::text("x"),
    });
    let client = client(&server, Retry { broken: false, ..Retry::default() });
    for path in ["/a", "/close", "/a", "/liar", "/a"] {
        client.get(path).unwrap().unwrap();
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn not_found_is_no_error_and_anything_else_is() {
    let server = Server::start(|request| match request.path.as_str() {
        "/none" => Reply::status(404),
        "/elsewhere" => Reply::status(302).field("Location", "http://192.0.2.1/"),
        _ => Reply::status(403).with_body("\n  the service is off \x1b[2J\nmore"),
    });
    let client = client(&server, Retry::default());
    assert!(client.get("/none").unwrap().is_none());
    let url = url(&server);
    assert_eq!(
        client.get("/off").unwrap_err().to_string(),
        format!("GET {url}/off: status 403: the service is off [2J")
    );
    assert_eq!(
        client.get("/elsewhere").unwrap_err().to_string(),
        format!("GET {url}/elsewhere: status 302: redirects are not followed")
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_busy_server_is_asked_again() {
    let mut answers = vec![Reply::text("at last"), Reply::status(503), Reply::status(429)];
    let server = Server::start(move |_| answers.pop().unwrap());
    assert_eq!(client(&server, Retry::default()).get("/").unwrap().unwrap().body, b"at last");
}

#[test]
fn a_busy_server_is_not_asked_for_ever() {
    let server = Server::start(|_| Reply::status(500));
    let retry = Retry { attempts: 3, ..Retry::default() };
    let error = client(&server, retry).get("/x").unwrap_err();
    assert_eq!(error.status(), Some(500));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_that_wants_to_be_asked_at_once_is_not_flooded() {
    let server = Server::start(|_| Reply::status(429).field("Retry-After", "0"));
    let settings = Settings {
        endpoints: vec![url(&server)],
        retry: Retry { attempts: u32::MAX, ..Retry::default() },
        ..Settings::default()
    };
    let budget = Budget::until(Deadline::after(Duration::from_millis(700)));
    Client::new(settings, Arc::new(budget)).get("/").unwrap_err();
    let asked = server.requests().len();
    assert!((2..=12).contains(&asked), "asked {asked} times");
}

#[test]
fn retry_after_is_honoured_within_the_budget() {
    let mut answers = vec![Reply::text("x"), Reply::status(503).field("Retry-After", "1")];
    let server = Server::start(move |_| answers.pop().unwrap());
    let start = std::time::Instant::now();
    client(&server, Retry::default()).get("/").unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());

    let server = Server::start(|_| Reply::status(503).field("Retry-After", "3600"));
    let settings = Settings { endpoints: vec![url(&server)], ..Settings::default() };
    let budget = Arc::new(Budget::until(Deadline::after(Duration::from_millis(300))));
    let start = std::time::Instant::now();
    assert_eq!(Client::new(settings, budget).get("/").unwrap_err().status(), Some(503));
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_drips_is_left_at_the_deadline() {
    let server = Server::start(|_| Reply::text("0123456789").dripping(Duration::from_millis(200)));
    let settings = Settings { endpoints: vec![url(&server)], ..Settings::default() };
    let budget = Arc::new(Budget::until(Deadline::after(Duration::from_millis(300))));
    let start = std::time::Instant::now();
    let error = Client::new(settings, budget).get("/").unwrap_err();
    assert!(error.is_silence(), "{error}");
    // All of it would take 2 s.
    assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
}

#[test]
fn several_requests_take_the_time_of_one() {
    let server = Server::start(|request| Reply::text(&request.path).after(Duration::from_millis(100)));
    let client = client(&server, Retry::default());
    let requests: Vec<Request> = (0..8).map(|n| Request::get(format!("/{n}"))).collect();
    let start = std::time::Instant::now();
    let results = client.send_all(&requests, 8);
    // One after the other would take 800 ms.
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap().body, format!("/{n}").into_bytes());
    }
    assert!(client.send_all(&[], 8).is_empty());
}

#[test]
fn a_server_that_serves_one_connection_at_a_time_is_served_out() {
    let server = Server::one_at_a_time(|request| Reply::text(&request.path));
    let client = client(&server, Retry::default());
    client.get("/first").unwrap().unwrap();
    let requests: Vec<Request> = (0..6).map(|n| Request::get(format!("/{n}"))).collect();
    let start = std::time::Instant::now();
    assert!(client.send_all(&requests, 4).iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn what_is_given_up_stays_so() {
    let server = Server::start(|_| Reply::text(""));
    let settings = Settings { endpoints: vec![url(&server)], ..Settings::default() };
    let budget = Arc::new(Budget::until(Deadline::after(Duration::from_secs(5))));
    let client = Client::new(settings, Arc::clone(&budget));
    budget.cancel();
    budget.set(Deadline::after(Duration::from_secs(5)));
    assert!(matches!(client.get("/"), Err(HttpError::Cancelled)));
}

#[test]
fn the_endpoint_that_answers_is_the_one_that_is_used() {
    let server = Server::start(|request| Reply::text(&request.path));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody: Url = format!("http://{nobody}").parse().unwrap();
    let mut base = url(&server);
    base.path = "/base".into();
    let settings = Settings { endpoints: vec![nobody, base], ..Settings::default() };
    let budget = Arc::new(Budget::until(Deadline::after(Duration::from_secs(5))));
    let client = Client::new(settings, budget);
    assert_eq!(client.get("/x").unwrap().unwrap().body, b"/base/x");
    assert!(client.url("/x").ends_with("/base/x"));
}
