//! Panics two calls deep: a message on stderr and a trap.

#[inline(never)]
fn look_up(values: &[u32], at: usize) -> u32 {
    values[at]
}

fn main() {
    println!("before the panic");
    let values: Vec<u32> = std::env::args().map(|arg| arg.len() as u32).collect();
    println!("never printed: {}", look_up(&values, values.len() + 6));
}
