//! Says hello, then each argument on a line.

fn main() {
    println!("hello from Rust");
    for (i, arg) in std::env::args().enumerate().skip(1) {
        println!("arg {i}: {arg}");
    }
}
