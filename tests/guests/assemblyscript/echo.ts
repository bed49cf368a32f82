// stdin to stdout through 64 KiB.
const piece = new ArrayBuffer(65536);

let length = process.stdin.read(piece);
while (length > 0) {
  process.stdout.write(piece.slice(0, length));
  length = process.stdin.read(piece);
}
