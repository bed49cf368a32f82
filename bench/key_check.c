/* What it costs to know a caller whose key was seen before: from the Authorization field to the principal, and back.
 *     key_check FOLDER [CHECKS]
 * makes a database in the folder, and prints a line of JSON: microseconds a check, the best and the mean of 20 batches. */
#include <inttypes.h>
#include <stdio.h>

#include "auth/key.h"
#include "base/clock.h"

enum { BATCHES = 20 };

static void need(enum err e, const struct err_info *err)
{
    if (e) {
        fprintf(stderr, "key_check: %s\n", err_text(err));
        exit(1);
    }
}

static uint64_t batch_ns(struct auth *auth, struct str authorization, uint64_t checks)
{
    uint64_t start = clock_now_ns();
    for (uint64_t i = 0; i < checks; i++) {
        struct auth_principal *who;
        WW_ASSERT(auth_cached(auth, auth_bearer_token(authorization), &who) == AUTH_KNOWN);
        auth_principal_unref(who);
    }
    return clock_now_ns() - start;
}

int main(int argc, char **argv)
{
    uint64_t checks = 1000000, best = UINT64_MAX, total = 0;
    if (argc < 2 || argc > 3 ||
        (argc > 2 && (!str_to_u64(str_of(argv[2]), 100000000, &checks) || checks < BATCHES))) {
        fprintf(stderr, "usage: key_check FOLDER [CHECKS, at least %d]\n", BATCHES);
        return 64;
    }
    char path[4096], token[AUTH_KEY_TOKEN_BYTES], authorization[AUTH_KEY_TOKEN_BYTES + 8];
    struct store *store;
    struct store_key row;
    struct auth_principal *who;
    struct err_info err = {0};
    const struct auth_key_request request = {.name = STR_LIT("bench"), .tier = STR_LIT("pro")};
    snprintf(path, sizeof path, "%s/key_check.db", argv[1]);
    need(store_open(path, &store, &err), &err);
    struct auth *auth = auth_new(store, STR_LIT("a salt of enough characters"), 10000);
    need(auth_key_create(auth, &request, &row, token, &err), &err);
    need(auth_find(auth, str_of(token), &who, &err), &err);
    auth_principal_unref(who);
    snprintf(authorization, sizeof authorization, "Bearer %s", token);
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t took = batch_ns(auth, str_of(authorization), checks / BATCHES);
        best = MIN(best, took);
        total += took;
    }
    printf("{\"best_us\":%.3f,\"mean_us\":%.3f}\n", (double)best / (double)(checks / BATCHES) / 1e3,
           (double)total / (double)(checks / BATCHES * BATCHES) / 1e3);
    auth_free(auth);
    store_close(store);
    return 0;
}
