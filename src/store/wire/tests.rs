use super::parser::{Generation, Parser};
use super::{Request, encode};
use crate::store::limits::{Limits, Refused};

const MAGIC: &[u8] = b"\x00\xce\xf7\x85\x3c";

fn limits() -> Limits {
    Limits::new(8 << 30, 1024)
}

fn all(bytes: &[u8]) -> (Vec<Request>, Result<Generation, Refused>) {
    let mut parser = Parser::new(limits());
    let mut input = bytes;
    let mut requests = Vec::new();
    loop {
        match parser.next(&mut input) {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return (requests, Ok(parser.generation())),
            Err(refused) => return (requests, Err(refused)),
        }
    }
}

fn key(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

/// A key or value on the wire.
fn s(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn every_request() -> Vec<Request> {
    let keys = || vec![key("/a"), key("/b")];
    vec![
        Request::Set { key: key("/k"), value: key("v") },
        Request::CompareSet { key: key("/k"), expected: key("old"), desired: key("new") },
        Request::Get { key: key("/k") },
        Request::Add { key: key("init/"), amount: -1 },
        Request::Check { keys: keys() },
        Request::Wait { keys: vec![key("/k")] },
        Request::NumKeys,
        Request::Delete { key: key("/k") },
        Request::Append { key: key("/k"), value: key("") },
        Request::MultiGet { keys: keys() },
        Request::MultiSet { pairs: vec![(key("/a"), key("1")), (key("/b"), key(""))] },
        Request::CancelWait,
        Request::Ping { nonce: 0xfeed_beef },
        Request::QueuePush { key: key("/q"), value: key("item") },
        Request::QueuePop { key: key("/q") },
        Request::QueueLen { key: key("/q") },
        Request::ListKeys,
        Request::Barrier { key: key("/b"), world_size: 8 },
    ]
}

/// The bytes that torch 2.15's client was seen to send.
#[test]
fn requests_of_torch_2_15() {
    let one = 1u64.to_le_bytes();
    let two = 2u64.to_le_bytes();
    let rows: Vec<Vec<u8>> = vec![
        [&b"\x01"[..], &s("/k"), &s("v")].concat(),
        [&b"\x02"[..], &s("/k"), &s("old"), &s("new")].concat(),
        [&b"\x03"[..], &s("/k")].concat(),
        [&b"\x04"[..], &s("init/"), &(-1i64).to_le_bytes()].concat(),
        [&b"\x05"[..], &two, &s("/a"), &s("/b")].concat(),
        [&b"\x06"[..], &one, &s("/k")].concat(),
        b"\x07".to_vec(),
        [&b"\x08"[..], &s("/k")].concat(),
        [&b"\x09"[..], &s("/k"), &s("")].concat(),
        [&b"\x0a"[..], &two, &s("/a"), &s("/b")].concat(),
        [&b"\x0b"[..], &two, &s("/a"), &s("1"), &s("/b"), &s("")].concat(),
        b"\x0c".to_vec(),
        b"\x0d\xef\xbe\xed\xfe".to_vec(),
        [&b"\x0e"[..], &s("/q"), &s("item")].concat(),
        [&b"\x0f"[..], &s("/q")].concat(),
        [&b"\x10"[..], &s("/q")].concat(),
        b"\x11".to_vec(),
        [&b"\x12"[..], &s("/b"), &8i64.to_le_bytes()].concat(),
    ];
    let mut stream = MAGIC.to_vec();
    for (bytes, request) in rows.iter().zip(every_request()) {
        let (requests, generation) = all(&[MAGIC, bytes].concat());
        assert_eq!(requests, [Request::Validate, request.clone()], "{bytes:?}");
        assert_eq!(generation, Ok(Generation::Current));
        let mut encoded = Vec::new();
        assert!(encode::encode(Generation::Current, &request, &mut encoded));
        assert_eq!(encoded, *bytes);
        stream.extend(bytes);
    }
    let (requests, _) = all(&stream);
    assert_eq!(requests[1..], every_request());
}

#[test]
fn requests_of_torch_2_1() {
    let requests = every_request();
    for request in &requests[..12] {
        let mut bytes = Vec::new();
        assert!(encode::encode(Generation::Old, request, &mut bytes));
        assert_eq!(all(&bytes), (vec![request.clone()], Ok(Generation::Old)));
    }
    // SET is operation 0, as VALIDATE is later; only the bytes after it tell.
    let set = [&b"\x00"[..], &s("/k"), &s("v")].concat();
    assert_eq!(all(&set), (vec![requests[0].clone()], Ok(Generation::Old)));
    for cut in 1..set.len() {
        let mut parser = Parser::new(limits());
        assert_eq!(parser.next(&mut &set[..cut]), Ok(None));
        assert_eq!(parser.next(&mut &set[cut..]), Ok(Some(requests[0].clone())), "{cut}");
    }
}

/// What cannot be told apart, as the table says: torch 2.0's `WATCH_KEY` and `DELETE_KEY`.
#[test]
fn requests_of_torch_2_0_from_7_on_are_read_as_those_of_2_1() {
    let watch = [&b"\x07"[..], &s("/k")].concat();
    assert_eq!(all(&watch).0, [Request::Delete { key: key("/k") }]);
    let delete = [&b"\x08"[..], &s("/k")].concat();
    assert_eq!(all(&delete), (vec![], Ok(Generation::Old)));
}

#[test]
fn the_magic_number_may_be_split() {
    for cut in 1..5 {
        let mut parser = Parser::new(limits());
        let mut first = &MAGIC[..cut];
        assert_eq!(parser.next(&mut first), Ok(None));
        assert!(first.is_empty() && !parser.proven());
        assert_eq!(parser.next(&mut &MAGIC[cut..]), Ok(Some(Request::Validate)));
        assert!(parser.proven());
    }
}

#[test]
fn what_is_no_client_is_refused() {
    for (bytes, text) in [
        (&b"GET / HTTP/1.1\r\n"[..], "not a store client: it began with `GET /`"),
        (b"\x16\x03\x01\x02\0\x01", r"not a store client: it began with `\x16\x03\x01\x02\x00`"),
        (b"\r\n\r\n", r"not a store client: it began with `\r\n\r\n\x00`"),
        (b"\x80\0\0\x28", r"not a store client: it began with `\x80\x00\x00(\x00`"),
        (b"SSH-2.0-x", "not a store client: it began with `SSH-2`"),
        // A name server's and a file server's greetings look like an old SET with a huge key.
        (
            b"\0\x1e\0\x06\x01\0\0\x01\0\0",
            r"not a store client: it began with `\x00\x1e\x00\x06\x01`",
        ),
        (b"\0\0\0\xa4\xffSMBr\0", r"not a store client: it began with `\x00\x00\x00\xa4\xff`"),
        (b"\0\xce\xf7\x85\x3d\0\0\0\0", r"not a store client: it began with `\x00\xce\xf7\x85=`"),
        (
            b"\x03\xff\xff\xff\xff\xff\xff\xff\xff",
            r"not a store client: it began with `\x03\xff\xff\xff\xff`",
        ),
    ] {
        let (requests, refused) = all(bytes);
        assert_eq!(requests, []);
        assert_eq!(refused.expect_err("no client").to_string(), text);
    }
}

#[test]
fn what_is_above_a_limit_is_refused() {
    let limits = limits();
    let long = |n: usize| (n as u64).to_le_bytes();
    let rows = [
        (vec![0x13], Refused::UnknownOperation(19)),
        (vec![0], Refused::UnknownOperation(0)),
        ([&b"\x03"[..], &long(8193)].concat(), Refused::KeyTooLong(8193)),
        ([&b"\x03"[..], &[255; 8]].concat(), Refused::KeyTooLong(u64::MAX)),
        (
            [&b"\x01"[..], &s("k"), &long(limits.value + 1)].concat(),
            Refused::ValueTooLong(limits.value as u64 + 1),
        ),
        ([&b"\x06"[..], &long(131_073)].concat(), Refused::TooManyKeys(131_073)),
        ([&b"\x0b"[..], &(-1i64).to_le_bytes()].concat(), Refused::TooManyKeys(u64::MAX)),
    ];
    for (bytes, refused) in rows {
        assert_eq!(all(&[MAGIC, &bytes].concat()).1, Err(refused));
    }
    // Exactly at the limit.
    let bytes = [MAGIC, b"\x03", &long(8192), &[b'k'; 8192]].concat();
    assert_eq!(all(&bytes).0.len(), 2);
}

#[test]
fn a_request_is_limited_as_a_whole() {
    let limits = Limits { request: 100, ..limits() };
    let mut parser = Parser::new(limits);
    let mut input = MAGIC;
    parser.next(&mut input).expect("a client");
    let pair = [s("/k"), s(&"v".repeat(48))].concat();
    let bytes = [b"\x0b\x03\0\0\0\0\0\0\0", &pair[..], &pair, &pair].concat();
    assert_eq!(parser.next(&mut &*bytes), Err(Refused::RequestTooLong(100)));
}

#[test]
fn counts_of_zero_are_complete() {
    for (op, request) in [
        (5, Request::Check { keys: vec![] }),
        (6, Request::Wait { keys: vec![] }),
        (10, Request::MultiGet { keys: vec![] }),
        (11, Request::MultiSet { pairs: vec![] }),
    ] {
        let (requests, _) = all(&[MAGIC, &[op], &[0; 8]].concat());
        assert_eq!(requests[1], request);
    }
}

/// A large value in the pieces that torch's client sends.
#[test]
fn a_large_value_takes_what_has_arrived() {
    let len = 8 << 20;
    let value = vec![7; len];
    let bytes = [MAGIC, b"\x01", &s("/k"), &(len as u64).to_le_bytes(), &value].concat();
    let mut parser = Parser::new(limits());
    let mut arrived = 0;
    let mut request = None;
    for piece in bytes.chunks(1440) {
        let mut input = piece;
        arrived += piece.len();
        while let Some(next) = parser.next(&mut input).expect("a client") {
            request = Some(next);
        }
        assert!(parser.allocated() <= 2 * arrived + 4096 + 1440, "{}", parser.allocated());
        assert!(parser.held() <= arrived + 64);
    }
    assert_eq!(request, Some(Request::Set { key: key("/k"), value: value.into() }));
    assert_eq!(parser.held(), 0);
    // An announced length alone takes nothing.
    let mut parser = Parser::new(limits());
    let mut input = &bytes[..MAGIC.len() + 19];
    while parser.next(&mut input).expect("a client").is_some() {}
    assert!(parser.allocated() < 200 && parser.held() < 64);
}
