//! Reads stdin, writes it to stdout in capitals. The input may be of any length: it passes through
//! one small buffer.
//!
//!     rustc --edition 2021 --target wasm32-wasip1 -O -o shout.wasm shout.rs   (wasm32-wasi before Rust 1.78)
//!     echo hello | wasmwiz run shout.wasm

use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut piece = [0; 16384];

    loop {
        let length = input.read(&mut piece)?;
        if length == 0 {
            return output.flush();
        }
        piece[..length].make_ascii_uppercase();
        output.write_all(&piece[..length])?;
    }
}
