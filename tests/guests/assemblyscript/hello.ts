// Says hello, then each argument on a line.
process.stdout.write("hello from AssemblyScript\n");
for (let i = 1; i < process.argv.length; i++) {
  process.stdout.write(`arg ${i}: ${process.argv[i]}\n`);
}
