-- secret: as the program sealed it; events: words with blanks between them.
CREATE TABLE webhooks (
  id {id} NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  user_id {id} NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  url TEXT NOT NULL CHECK (length(url) BETWEEN 1 AND 1024),
  secret {bytes} NOT NULL,
  events TEXT NOT NULL,
  active {number} NOT NULL CHECK (active IN (0, 1)),
  created_ns {number} NOT NULL CHECK (created_ns >= 0)
){strict};
CREATE INDEX webhooks_user ON webhooks (user_id, created_ns, id);

-- The queue: a pending delivery is due at next_attempt_ns; who takes it moves that time on.
CREATE TABLE webhook_deliveries (
  id {id} NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  webhook_id {id} NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
  event TEXT NOT NULL,
  body TEXT NOT NULL,
  created_ns {number} NOT NULL CHECK (created_ns >= 0),
  next_attempt_ns {number} NOT NULL CHECK (next_attempt_ns >= 0),
  attempts {number} NOT NULL CHECK (attempts >= 0),
  state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
  error TEXT NOT NULL
){strict};
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_ns) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_settled ON webhook_deliveries (created_ns) WHERE state <> 'pending';
CREATE INDEX webhook_deliveries_hook ON webhook_deliveries (webhook_id, created_ns, id);
