//! Says hello, then each argument on a line.
const std = @import("std");

pub fn main() !void {
    const stdout = std.fs.File.stdout();
    try stdout.writeAll("hello from Zig\n");

    const args = try std.process.argsAlloc(std.heap.wasm_allocator);
    for (args[1..], 1..) |arg, i| {
        var line: [4096]u8 = undefined;
        try stdout.writeAll(try std.fmt.bufPrint(&line, "arg {d}: {s}\n", .{ i, arg }));
    }
}
