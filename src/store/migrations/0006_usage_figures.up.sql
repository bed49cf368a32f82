-- What the receipt says besides: rows of before have none of it.
ALTER TABLE usage_logs ADD COLUMN exit_code {number} NOT NULL DEFAULT 0;
ALTER TABLE usage_logs ADD COLUMN queue_us {number} NOT NULL DEFAULT 0;
ALTER TABLE usage_logs ADD COLUMN compile_us {number} NOT NULL DEFAULT 0;
ALTER TABLE usage_logs ADD COLUMN fuel {number} NOT NULL DEFAULT 0;
ALTER TABLE usage_logs ADD COLUMN stderr_bytes {number} NOT NULL DEFAULT 0;
ALTER TABLE usage_logs ADD COLUMN host_calls {number} NOT NULL DEFAULT 0;
