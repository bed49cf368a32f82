-- A row a run, in the order of time: a run written twice has the same time and id. No foreign keys: billing
-- outlives keys and accounts.
CREATE TABLE usage_logs (
  time_ns {number} NOT NULL CHECK (time_ns >= 0),
  id {id} NOT NULL,
  key_id {id} NOT NULL,
  user_id {id},
  module_sha {bytes} NOT NULL CHECK (length(module_sha) = 32),
  duration_us {number} NOT NULL,
  cpu_us {number} NOT NULL,
  memory_peak_bytes {number} NOT NULL,
  cause TEXT NOT NULL,
  status {number} NOT NULL,
  error TEXT NOT NULL,
  wasm_bytes {number} NOT NULL,
  input_bytes {number} NOT NULL,
  output_bytes {number} NOT NULL,
  PRIMARY KEY (time_ns, id)
){clustered};
-- only postgres
CREATE INDEX usage_logs_key ON usage_logs (key_id, time_ns);
CREATE INDEX usage_logs_user ON usage_logs (user_id, time_ns) WHERE user_id IS NOT NULL;
-- both
-- In SQLite they would cost as much as the rows; there the days of a key or user, known from usage_daily, bound
-- the part of the table that is read.

-- The same added up per key, UTC day (days since 1970), cause and user, in the transaction that adds the rows;
-- kept when they are dropped. '' = no key, or nobody.
CREATE TABLE usage_daily (
  key_id {id} NOT NULL,
  day {number} NOT NULL,
  cause {id} NOT NULL,
  user_id {id} NOT NULL,
  runs {number} NOT NULL,
  duration_us {number} NOT NULL,
  cpu_us {number} NOT NULL,
  memory_peak_bytes {number} NOT NULL,
  wasm_bytes {number} NOT NULL,
  input_bytes {number} NOT NULL,
  output_bytes {number} NOT NULL,
  PRIMARY KEY (key_id, day, cause, user_id)
){clustered};
CREATE INDEX usage_daily_day ON usage_daily (day);
CREATE INDEX usage_daily_user ON usage_daily (user_id, day);
