// SPDX-License-Identifier: Apache-2.0
use super::*;

/// Gives its bytes one by one.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
        buffer[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

const SMALL: Limits = Limits { head: 256, body: 16 };

fn one(bytes: &[u8]) -> Result<Response, MessageError> {
    let whole = Reader::new(bytes).response("GET", SMALL);
    let dripped = Reader::new(Drip(bytes)).response("GET", SMALL);
    assert_eq!(format!("{whole:?}"), format!("{dripped:?}"));
    whole
}

fn error(bytes: &[u8]) -> String {
    one(bytes).unwrap_err().to_string()
}

#[test]
fn a_request_is_one_request() {
    let request = Request::send("PUT", "/x", "text/plain", "body").field("A", "b c");
    let bytes = request.encode("/base/x", "h:81", &[("Metadata", "true".into())]).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("PUT /base/x HTTP/1.1\r\nHost: h:81\r\n"), "{text}");
    assert!(text.contains("\r\nMetadata: true\r\nContent-Type: text/plain\r\nA: b c\r\n"), "{text}");
    assert!(text.ends_with("\r\nContent-Length: 4\r\n\r\nbody"), "{text}");
    for path in ["x", "/x y", "/x\r\nHost: evil", "/\u{e9}"] {
        assert!(Request::get(path).encode(path, "h", &[]).is_err(), "{path}");
    }
    assert!(Request::get("/").field("A", "b\r\nC: d").encode("/", "h", &[]).is_err());
}

#[test]
fn bodies_by_length_chunk_and_end() {
    let sized = one(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A:  b \r\n\r\nabc").unwrap();
    assert_eq!((sized.status, sized.body.as_slice(), sized.keep_alive), (200, b"abc".as_slice(), true));
    assert_eq!(sized.field("x-a"), Some("b"));
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n";
    assert_eq!(one(chunked).unwrap().body, b"abc");
    let ended = one(b"HTTP/1.1 200 OK\r\n\r\nabc").unwrap();
    assert_eq!((ended.body.as_slice(), ended.keep_alive), (b"abc".as_slice(), false));
    assert!(!one(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().keep_alive);
    assert!(!one(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap().keep_alive);
    assert_eq!(one(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().body, b"");
    assert_eq!(
        one(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").unwrap().status,
        404
    );
}

#[test]
fn answers_follow_one_another_on_a_connection() {
    let mut reader = Reader::new(Drip(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    ));
    assert_eq!(reader.response("GET", SMALL).unwrap().body, b"a");
    assert_eq!(reader.response("GET", SMALL).unwrap().body, b"b");
    assert_eq!(reader.response("GET", SMALL).unwrap().status, 404);
    assert!(matches!(reader.response("GET", SMALL), Err(MessageError::Closed)));
}

#[test]
fn what_breaks_off_is_no_answer() {
    for bytes in [
        b"HTTP/1.1 200 OK\r\nContent-Le".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
    ] {
        assert_eq!(error(bytes), "the connection was closed in the middle of the answer");
    }
    assert_eq!(error(b""), "the connection was closed before an answer");
}

#[test]
fn more_than_the_limit_is_an_error_and_never_cut() {
    let body = "the body has more than 16 bytes";
    assert_eq!(error(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n"), body);
    assert_eq!(
        error(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        "the answer is not HTTP: its length is not one number"
    );
    assert_eq!(error(b"HTTP/1.1 200 OK\r\n\r\n12345678901234567"), body);
    let chunks =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n8\r\n12345678\r\n0\r\n\r\n";
    assert_eq!(error(chunks), body);
    assert_eq!(error(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), body);
    let fields = "X: y\r\n".repeat(60);
    assert_eq!(error(format!("HTTP/1.1 200 OK\r\n{fields}").as_bytes()), "the head has more than 256 bytes");
    // Even where all of it has come at once.
    assert_eq!(
        error(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes()),
        "the head has more than 256 bytes"
    );
    let long = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;{}\r\na\r\n0\r\n\r\n",
        "x".repeat(256)
    );
    assert_eq!(error(long.as_bytes()), "the answer is not HTTP: a chunk without its size");
    let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let trailer = [endless.as_slice(), "X: y\r\n".repeat(99).as_bytes()].concat();
    assert_eq!(error(&trailer), "the head has more than 256 bytes");
}

#[test]
fn what_is_not_http_is_said_to_be_not() {
    for bytes in [
        b"SSH-2.0-OpenSSH\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ] {
        assert!(error(bytes).starts_with("the answer is not HTTP: "), "{}", bytes.escape_ascii());
    }
    let interim = b"HTTP/1.1 102 Wait\r\n\r\n".repeat(9);
    assert_eq!(error(&interim), "the answer is not HTTP: too many interim answers");
}

#[test]
fn many_small_chunks_are_not_moved_with_each_of_them() {
    let body = "1\r\nx\r\n".repeat(500_000);
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\nmore");
    let start = std::time::Instant::now();
    let mut reader = Reader::new(answer.as_bytes());
    let response = reader.response("GET", Limits::default()).unwrap();
    assert_eq!(response.body, b"x".repeat(500_000));
    assert!(reader.has_leftover());
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
}
