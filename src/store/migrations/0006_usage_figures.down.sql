ALTER TABLE usage_logs DROP COLUMN host_calls;
ALTER TABLE usage_logs DROP COLUMN stderr_bytes;
ALTER TABLE usage_logs DROP COLUMN fuel;
ALTER TABLE usage_logs DROP COLUMN compile_us;
ALTER TABLE usage_logs DROP COLUMN queue_us;
ALTER TABLE usage_logs DROP COLUMN exit_code;
