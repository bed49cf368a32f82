/* base64url without padding (RFC 4648 section 5, RFC 7515 section 2), strictly: each run of bytes has one text, so
 * nobody can write the same token in two ways. */
#ifndef WW_AUTH_BASE64URL_H
#define WW_AUTH_BASE64URL_H

#include "base/str.h"

/* Enough room for what a text of this length decodes to. */
#define AUTH_BASE64URL_ROOM(text_bytes) ((text_bytes) / 4 * 3 + 2)

/* False: a character that is not of the alphabet ('=' too), a length that no bytes have, bits left over that are not
 * zero, or more than `size` bytes. */
MUST_CHECK bool auth_base64url_decode(struct str text, unsigned char *to, size_t size, size_t *ret_len);

#endif
