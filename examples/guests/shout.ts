// AssemblyScript: reads stdin, writes it to stdout in capitals. The input may be of any length: it
// passes through one small buffer.
//
//     npm install assemblyscript @assemblyscript/wasi-shim
//     npx asc shout.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json -O -o shout.wasm
//     echo hello | wasmwiz run shout.wasm

const piece = new Uint8Array(16384);

let length = process.stdin.read(piece.buffer);
while (length > 0) {
  for (let i = 0; i < length; i++) {
    const letter = piece[i];
    if (letter >= 97 && letter <= 122) piece[i] = letter - 32; // a to z
  }
  process.stdout.write(piece.buffer.slice(0, length));
  length = process.stdin.read(piece.buffer);
}
