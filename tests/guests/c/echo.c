/* stdin to stdout through 64 KiB, whatever the length and however short the reads and writes are. */
#include <unistd.h>

static char piece[65536];

int main(void)
{
    for (;;) {
        ssize_t length = read(STDIN_FILENO, piece, sizeof piece);
        if (length <= 0)
            return length < 0;
        for (ssize_t at = 0, written; at < length; at += written) {
            written = write(STDOUT_FILENO, piece + at, (size_t)(length - at));
            if (written <= 0)
                return 2;
        }
    }
}
