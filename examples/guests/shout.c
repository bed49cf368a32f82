/* Reads stdin, writes it to stdout in capitals. The input may be of any length: it passes through
 * one small buffer.
 *
 *     clang --target=wasm32-wasi -O2 -o shout.wasm shout.c
 *     echo hello | wasmwiz run shout.wasm
 */
#include <ctype.h>
#include <stdio.h>

int main(void)
{
    char piece[16384];
    size_t length;

    while ((length = fread(piece, 1, sizeof piece, stdin)) > 0) {
        for (size_t i = 0; i < length; i++)
            piece[i] = (char)toupper((unsigned char)piece[i]);
        if (fwrite(piece, 1, length, stdout) != length)
            return 1;
    }
    return 0;
}
