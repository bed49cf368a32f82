//! What a guest sees of the world: its environment, two clocks, random bytes, and an hour of sleep.
const std = @import("std");
const wasi = std.os.wasi;

fn now(clock: wasi.clockid_t) u64 {
    var ns: wasi.timestamp_t = 0;
    if (wasi.clock_time_get(clock, 0, &ns) != .SUCCESS) std.process.exit(1);
    return ns;
}

fn say(comptime format: []const u8, values: anytype) !void {
    var line: [4096]u8 = undefined;
    try std.fs.File.stdout().writeAll(try std.fmt.bufPrint(&line, format ++ "\n", values));
}

pub fn main() !void {
    const env = try std.process.getEnvMap(std.heap.wasm_allocator);
    try say("env {d}", .{env.count()});
    var pairs = env.iterator();
    while (pairs.next()) |pair| try say("env {s}={s}", .{ pair.key_ptr.*, pair.value_ptr.* });

    try say("realtime_ns {d}", .{now(.REALTIME)});
    const before = now(.MONOTONIC);
    try say("monotonic_ns {d}", .{before});

    var bytes: [8]u8 = undefined;
    std.crypto.random.bytes(&bytes);
    try say("random {x}", .{std.mem.readInt(u64, &bytes, .big)});

    std.Thread.sleep(3600 * std.time.ns_per_s);
    try say("slept_s {d}", .{(now(.MONOTONIC) - before) / std.time.ns_per_s});
}
