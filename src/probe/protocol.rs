//! What a probe's child says on its pipe: one JSON object for each line.
//!
//! `{"stage":"nvmlInit_v2"}` comes before each call that may not return, `{"answer":…}` last. What
//! else stands on the pipe is a library's own chatter and is passed over: a child begins with a
//! line end, and moves its standard output away before the first call.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest line that is read; the answer for 1,024 GPUs has about a fifth of it.
const LINE_LIMIT: usize = 4 << 20;

/// One line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message<T> {
    /// The call that is made next.
    Stage(String),
    /// The answer.
    Answer(T),
}

/// The line for a message.
pub fn line<T: Serialize>(message: &Message<T>) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message has text keys only");
    line.push(b'\n');
    line
}

/// Puts the bytes of the pipe together to messages.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    is_too_long: bool,
}

impl Reader {
    /// The messages that are whole with these bytes.
    pub fn read<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Vec<Message<T>> {
        let mut messages = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + piece.len() > LINE_LIMIT {
                self.is_too_long = true;
                self.line.clear();
            }
            if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                messages.extend(serde_json::from_slice(&self.line).ok());
                self.line.clear();
                self.is_too_long = false;
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stage(text: &str) -> Message<u32> {
        Message::Stage(text.to_owned())
    }

    #[test]
    fn lines_have_the_form_that_every_child_writes() {
        assert_eq!(line(&stage("nvmlInit_v2")), b"{\"stage\":\"nvmlInit_v2\"}\n");
        assert_eq!(line(&Message::Answer(7)), b"{\"answer\":7}\n");
    }

    #[test]
    fn chatter_is_passed_over() {
        let said =
            b"NVML: hello\n\xff\n{\"stage\":3}\n[]\nno end\n{\"stage\":\"a\"}\n{\"answer\":7}\n";
        assert_eq!(Reader::default().read(said), [stage("a"), Message::Answer(7)]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut reader = Reader::default();
        for _ in 0..1000 {
            assert_eq!(reader.read::<u32>(&[b'x'; 10_000]), []);
        }
        assert!(reader.line.capacity() <= 2 * LINE_LIMIT);
        assert_eq!(reader.read(b"\n{\"answer\":7}\n"), [Message::Answer(7)]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_pipe_cuts(cuts in prop::collection::vec(0usize..200, 0..9)) {
            let mut said = b"\n".to_vec();
            for message in [stage("nvmlInit_v2"), stage("a(1)"), Message::Answer(42)] {
                said.extend(line(&message));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(said.len())).collect();
            cuts.extend([0, said.len()]);
            cuts.sort_unstable();
            let mut reader = Reader::default();
            let pieces = cuts.windows(2).map(|pair| &said[pair[0]..pair[1]]);
            let read: Vec<Message<u32>> = pieces.flat_map(|piece| reader.read(piece)).collect();
            prop_assert_eq!(read, [stage("nvmlInit_v2"), stage("a(1)"), Message::Answer(42)]);
        }
    }
}
