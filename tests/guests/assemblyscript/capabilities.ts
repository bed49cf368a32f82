// What a guest sees of the world: its environment, two clocks, random bytes, and an hour of sleep.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "poll_oneoff")
declare function poll_oneoff(subscriptions: usize, events: usize, count: usize, done: usize): u32;

// One subscription to the monotonic clock, relative, as WASI preview1 lays it out in memory.
function sleep(ns: u64): void {
  const subscription = new ArrayBuffer(48);
  const event = new ArrayBuffer(32);
  const done = new ArrayBuffer(4);
  const at = changetype<usize>(subscription);
  store<u32>(at, 1, 16); // CLOCK_MONOTONIC
  store<u64>(at, ns, 24);
  if (poll_oneoff(at, changetype<usize>(event), 1, changetype<usize>(done))) process.exit(2);
}

const names = process.env.keys();
process.stdout.write(`env ${names.length}\n`);
for (let i = 0; i < names.length; i++) {
  process.stdout.write(`env ${names[i]}=${process.env.get(names[i])}\n`);
}

process.stdout.write(`realtime_ns ${process.time() * 1000000}\n`);
const before = process.hrtime();
process.stdout.write(`monotonic_ns ${before}\n`);

const bytes = new Uint8Array(8);
crypto.getRandomValues(bytes);
let text = "";
for (let i = 0; i < 8; i++) text += bytes[i].toString(16).padStart(2, "0");
process.stdout.write(`random ${text}\n`);

sleep(3600 * 1000000000);
process.stdout.write(`slept_s ${(process.hrtime() - before) / 1000000000}\n`);
