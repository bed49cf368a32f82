#include "module/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[8] = "WWCODE1";

/* GCM takes int lengths; compiled code is far below that, and bounded by the caller. */
static bool compute_tag(const unsigned char key[static 32], const struct seal *seal, const void *code,
                        unsigned char ret_tag[static 16])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;
    bool ok =
        ctx && seal->code_bytes <= INT32_MAX &&
        EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, seal->nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &len, (const unsigned char *)seal, offsetof(struct seal, nonce)) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &len, code, (int)seal->code_bytes) == 1 &&
        EVP_EncryptFinal_ex(ctx, ret_tag, &len) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, ret_tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok;
}

static bool map_file(int fd, size_t *ret_len, void **ret_bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size <= 0)
        return false;
    *ret_len = (size_t)st.st_size;
    *ret_bytes = mmap(NULL, *ret_len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    return *ret_bytes != MAP_FAILED;
}

enum err seal_put(int fd, const unsigned char key[static 32], const unsigned char sha[static 32],
                  const char *fingerprint, uint64_t wasm_bytes, const struct precheck_facts *facts,
                  struct err_info *reterr)
{
    struct seal seal;
    memset(&seal, 0, sizeof seal); /* its padding is under the tag, too */
    void *code;
    size_t len;
    if (!map_file(fd, &len, &code))
        return err_set(reterr, ERR_DISK_FAULT, "compiled code could not be read: %s", strerror(errno));
    memcpy(seal.magic, magic, sizeof magic);
    memcpy(seal.sha, sha, sizeof seal.sha);
    snprintf(seal.fingerprint, sizeof seal.fingerprint, "%s", fingerprint);
    seal.code_bytes = len;
    seal.wasm_bytes = wasm_bytes;
    memcpy(&seal.facts, facts, sizeof seal.facts);
    bool ok = RAND_bytes(seal.nonce, sizeof seal.nonce) == 1 && compute_tag(key, &seal, code, seal.tag);
    munmap(code, len);
    if (!ok)
        return err_set(reterr, ERR_INTERNAL, "compiled code could not be sealed");
    if (pwrite(fd, &seal, sizeof seal, (off_t)len) != (ssize_t)sizeof seal)
        return err_set(reterr, ERR_DISK_FAULT, "the seal could not be written: %s", strerror(errno));
    return OK;
}

bool seal_check(int fd, const unsigned char key[static 32], const unsigned char sha[static 32],
                const char *fingerprint, struct seal *ret_seal)
{
    void *bytes;
    size_t len;
    unsigned char tag[16];
    if (!map_file(fd, &len, &bytes))
        return false;
    bool ok = len > sizeof *ret_seal;
    if (ok) {
        memcpy(ret_seal, (char *)bytes + len - sizeof *ret_seal, sizeof *ret_seal);
        ok = memcmp(ret_seal->magic, magic, sizeof magic) == 0 &&
             ret_seal->code_bytes == len - sizeof *ret_seal &&
             memcmp(ret_seal->sha, sha, sizeof ret_seal->sha) == 0 &&
             strncmp(ret_seal->fingerprint, fingerprint, sizeof ret_seal->fingerprint) == 0 &&
             compute_tag(key, ret_seal, bytes, tag) && CRYPTO_memcmp(tag, ret_seal->tag, sizeof tag) == 0;
    }
    munmap(bytes, len);
    return ok;
}

enum err seal_key_load(const char *data_dir, unsigned char ret_key[static 32], struct err_info *reterr)
{
    char path[4096], fresh[4096 + 24];
    snprintf(path, sizeof path, "%s/cache_key", data_dir);
    for (int tries = 0; tries < 2; tries++) {
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0) {
            if (read(fd, ret_key, 32) == 32)
                return OK;
            return err_set(reterr, ERR_DISK_FAULT, "%s is not a key of 32 bytes; delete it to get a new one",
                           path);
        }
        if (errno != ENOENT)
            break;
        /* Written aside and linked in: of several processes that start at once, one wins and all read the same. */
        snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid());
        CLEANUP(closep) int out = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (out < 0 || RAND_bytes(ret_key, 32) != 1 || write(out, ret_key, 32) != 32 || fsync(out) < 0 ||
            (link(fresh, path) < 0 && errno != EEXIST)) {
            int error = errno;
            unlink(fresh);
            return err_set(reterr, ERR_DISK_FAULT, "%s could not be made: %s", path, strerror(error));
        }
        unlink(fresh);
    }
    return err_set(reterr, ERR_DISK_FAULT, "%s could not be read: %s", path, strerror(errno));
}
