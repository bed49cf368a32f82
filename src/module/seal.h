/* The seal on compiled code in the disk cache. Native code is run as it is, so a file counts only when its tag
 * is right: AES-256-GMAC (NIST SP 800-38D, GCM without plaintext) under a key of this node, with a random nonce a file,
 * over the code, the module's hash, the engine's fingerprint and the facts. GMAC rather than HMAC-SHA-256 because the
 * whole code is read at the first use after a restart, and this is several times as fast (docs/decisions).
 *
 * The seal stands behind the code, so that the code can be mapped from the start of the file. */
#ifndef WW_MODULE_SEAL_H
#define WW_MODULE_SEAL_H

#include "base/err.h"
#include "module/precheck.h"

struct seal {
    char magic[8];
    unsigned char sha[32];
    char fingerprint[24];
    uint64_t code_bytes;
    uint64_t wasm_bytes;
    struct precheck_facts facts;
    unsigned char nonce[12];
    unsigned char tag[16];
};

/* Appends the seal to the code in `fd` (all of the file, opened for reading and writing). ERR_DISK_FAULT. */
MUST_CHECK enum err seal_put(int fd, const unsigned char key[static 32], const unsigned char sha[static 32],
                             const char *fingerprint, uint64_t wasm_bytes, const struct precheck_facts *facts,
                             struct err_info *reterr);
/* Whether the file in `fd` is whole and was sealed here for this module and engine. Fills *ret_seal. */
bool seal_check(int fd, const unsigned char key[static 32], const unsigned char sha[static 32],
                const char *fingerprint, struct seal *ret_seal);
/* The node's key: DATA_DIR/cache_key, 32 random bytes, mode 0600, made on first use. */
MUST_CHECK enum err seal_key_load(const char *data_dir, unsigned char ret_key[static 32],
                                  struct err_info *reterr);

#endif
