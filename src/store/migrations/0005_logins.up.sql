-- Attempts to log in, counted by subject: a hash of an account's address or of a client's, never these themselves.
CREATE TABLE login_attempts (
  subject {id} NOT NULL PRIMARY KEY CHECK (length(subject) BETWEEN 1 AND 32),
  attempts {number} NOT NULL CHECK (attempts >= 0),
  last_ns {number} NOT NULL CHECK (last_ns >= 0)
){strict};
CREATE INDEX login_attempts_last ON login_attempts (last_ns);
