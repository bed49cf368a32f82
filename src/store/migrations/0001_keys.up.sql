-- API keys: HMAC-SHA-256 of the key, never the key. Times are wall nanoseconds, 0 = never.
CREATE TABLE api_keys (
  id {id} NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
  prefix TEXT NOT NULL,
  tier TEXT NOT NULL,
  hash {bytes} NOT NULL UNIQUE CHECK (length(hash) = 32),
  created_ns {number} NOT NULL,
  expires_ns {number} NOT NULL,
  revoked_ns {number} NOT NULL
){strict};
CREATE UNIQUE INDEX api_keys_live_name ON api_keys (name) WHERE revoked_ns = 0;
