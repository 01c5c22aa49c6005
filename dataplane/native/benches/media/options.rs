//! `WHAT --NAME=NUMBER...`, as `benchmarks/media` calls it.

pub struct Options {
    /// Empty: CPU per packet.
    pub what: String,
    numbers: Vec<(String, u64)>,
}

impl Options {
    /// Of the command line; cargo's own `--bench` is passed over.
    pub fn read() -> Options {
        let mut options = Options { what: String::new(), numbers: Vec::new() };
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            match argument.strip_prefix("--").map(|rest| rest.split_once('=')) {
                Some(Some((name, number))) => {
                    let number = number.parse().unwrap_or_else(|_| panic!("{argument}: not a number"));
                    options.numbers.push((name.to_owned(), number));
                }
                Some(None) => panic!("{argument}: has no number"),
                None => options.what = argument,
            }
        }
        options
    }

    pub fn get(&self, name: &str, otherwise: u64) -> u64 {
        self.numbers.iter().find(|(known, _)| known == name).map_or(otherwise, |(_, number)| *number)
    }
}
