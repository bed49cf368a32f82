-- Tiers: what an account may use. Rows are data: change them as you like.
CREATE TABLE tiers (
  name {id} NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 16),
  per_minute {number} NOT NULL CHECK (per_minute > 0),
  per_day {number} NOT NULL CHECK (per_day > 0),
  concurrency {number} NOT NULL CHECK (concurrency > 0)
){strict};
INSERT INTO tiers (name, per_minute, per_day, concurrency) VALUES
  ('free', 10, 500, 4), ('basic', 100, 10000, 20), ('pro', 500, 50000, 100);

-- email_folded is the address in lower case (ASCII), as the program folds it: the same in every database.
CREATE TABLE users (
  id {id} NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  email TEXT NOT NULL CHECK (length(email) BETWEEN 1 AND 254),
  email_folded {id} NOT NULL,
  password_hash TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
  tier {id} NOT NULL REFERENCES tiers (name),
  active {number} NOT NULL CHECK (active IN (0, 1)),
  created_ns {number} NOT NULL CHECK (created_ns >= 0),
  updated_ns {number} NOT NULL CHECK (updated_ns >= 0)
){strict};
CREATE UNIQUE INDEX users_email ON users (email_folded);
CREATE INDEX users_created ON users (created_ns, id);
CREATE INDEX users_tier ON users (tier);

-- Keys get an owner and the time of their last use; a name is taken per owner. SQLite can't add a foreign key
-- to a column, so the table is made anew.
ALTER TABLE api_keys RENAME TO old_api_keys;
DROP INDEX api_keys_live_name;
CREATE TABLE api_keys (
  id {id} NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
  prefix TEXT NOT NULL,
  tier {id} NOT NULL REFERENCES tiers (name),
  hash {bytes} NOT NULL CHECK (length(hash) = 32),
  created_ns {number} NOT NULL,
  expires_ns {number} NOT NULL,
  revoked_ns {number} NOT NULL,
  user_id {id} REFERENCES users (id) ON DELETE CASCADE,
  last_used_ns {number} NOT NULL DEFAULT 0
){strict};
INSERT INTO api_keys (id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns)
  SELECT id, name, prefix, tier, hash, created_ns, expires_ns, revoked_ns FROM old_api_keys;
DROP TABLE old_api_keys;
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);
CREATE UNIQUE INDEX api_keys_live_name ON api_keys (coalesce(user_id, ''), name) WHERE revoked_ns = 0;
CREATE INDEX api_keys_created ON api_keys (created_ns, id);
CREATE INDEX api_keys_user ON api_keys (user_id, created_ns, id);
CREATE INDEX api_keys_tier ON api_keys (tier);

-- Sessions of the browser: hashes of the cookie and of the CSRF secret.
CREATE TABLE sessions (
  id_hash {bytes} NOT NULL PRIMARY KEY CHECK (length(id_hash) = 32),
  user_id {id} NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  csrf_hash {bytes} NOT NULL CHECK (length(csrf_hash) = 32),
  created_ns {number} NOT NULL CHECK (created_ns >= 0),
  expires_ns {number} NOT NULL CHECK (expires_ns >= 0),
  last_seen_ns {number} NOT NULL CHECK (last_seen_ns >= 0),
  address TEXT NOT NULL
){strict};
CREATE INDEX sessions_user ON sessions (user_id, created_ns);
CREATE INDEX sessions_expires ON sessions (expires_ns);

-- Who did what. No foreign keys: an event outlives those that it tells of.
CREATE TABLE audit_events (
  id {serial},
  time_ns {number} NOT NULL CHECK (time_ns >= 0),
  actor {id} NOT NULL,
  action TEXT NOT NULL,
  target {id} NOT NULL,
  address TEXT NOT NULL,
  detail TEXT NOT NULL
){strict};
CREATE INDEX audit_events_time ON audit_events (time_ns);
CREATE INDEX audit_events_actor ON audit_events (actor, id);
CREATE INDEX audit_events_target ON audit_events (target, id);

-- One row, whose number grows when a tier, a user or a key changes in a way that caches must hear of (the time
-- of last use is none). Triggers do it, so that changes made by hand are heard of, too.
CREATE TABLE store_changes (
  one {number} NOT NULL PRIMARY KEY CHECK (one = 1),
  version {number} NOT NULL
){strict};
INSERT INTO store_changes (one, version) VALUES (1, 1);
-- only sqlite
CREATE TRIGGER tiers_inserted AFTER INSERT ON tiers BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER tiers_changed AFTER UPDATE ON tiers BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER tiers_deleted AFTER DELETE ON tiers BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys
  BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER api_keys_changed AFTER UPDATE OF id, name, tier, hash, expires_ns, revoked_ns, user_id ON api_keys
  BEGIN UPDATE store_changes SET version = version + 1; END;
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys
  BEGIN UPDATE store_changes SET version = version + 1; END;
-- only postgres
CREATE FUNCTION store_changed() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN UPDATE store_changes SET version = version + 1; RETURN NULL; END';
CREATE TRIGGER tiers_changed AFTER INSERT OR UPDATE OR DELETE ON tiers
  FOR EACH STATEMENT EXECUTE FUNCTION store_changed();
CREATE TRIGGER users_changed AFTER INSERT OR UPDATE OR DELETE ON users
  FOR EACH STATEMENT EXECUTE FUNCTION store_changed();
CREATE TRIGGER api_keys_changed
  AFTER INSERT OR UPDATE OF id, name, tier, hash, expires_ns, revoked_ns, user_id OR DELETE ON api_keys
  FOR EACH STATEMENT EXECUTE FUNCTION store_changed();
