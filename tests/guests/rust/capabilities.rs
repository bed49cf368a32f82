//! What a guest sees of the world: its environment, two clocks, random bytes, and an hour of sleep.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn random_get(to: *mut u8, length: usize) -> u32;
    fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
}

fn main() {
    println!("env {}", std::env::vars().count());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }

    println!("realtime_ns {}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    // An Instant has no number to print: this one asks the host.
    let mut monotonic = 0;
    assert_eq!(unsafe { clock_time_get(1, 0, &mut monotonic) }, 0);
    println!("monotonic_ns {monotonic}");

    let mut bytes = [0u8; 8];
    assert_eq!(unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) }, 0);
    println!("random {:016x}", u64::from_be_bytes(bytes));

    let before = Instant::now();
    std::thread::sleep(Duration::from_secs(3600));
    println!("slept_s {}", before.elapsed().as_secs());
}
