//! stdin to stdout through 64 KiB.
const std = @import("std");

var piece: [65536]u8 = undefined;

pub fn main() !void {
    while (true) {
        const length = try std.fs.File.stdin().read(&piece);
        if (length == 0) return;
        try std.fs.File.stdout().writeAll(piece[0..length]);
    }
}
