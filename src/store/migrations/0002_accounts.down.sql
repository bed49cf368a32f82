-- Owners are lost; so keys of two owners with one name get a part of their id behind it.
DROP TABLE sessions;
DROP TABLE audit_events;
ALTER TABLE api_keys RENAME TO old_api_keys;
DROP INDEX api_keys_live_name;
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
INSERT INTO api_keys (id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns)
  SELECT id, CASE WHEN user_id IS NULL THEN name ELSE substr(name, 1, 47) || '-' || id END,
    prefix, tier, hash, created_ns, expires_ns, revoked_ns FROM old_api_keys;
DROP TABLE old_api_keys;
CREATE UNIQUE INDEX api_keys_live_name ON api_keys (name) WHERE revoked_ns = 0;
DROP TABLE users;
DROP TABLE tiers;
DROP TABLE store_changes;
-- only postgres
DROP FUNCTION store_changed();
