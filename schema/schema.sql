-- The whole schema as it is now: the sum of NNNN_*.sql. tests/unit/journal builds the database both
-- ways and compares them. Change it together with a new migration.

CREATE TABLE schema_info (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  min_writer INTEGER NOT NULL
);
INSERT INTO schema_info (id, min_writer) VALUES (1, 1);

-- The audit chain. event_id has no gaps; hash is SHA-256 of the canonical form, which holds previous.
CREATE TABLE events (
  event_id INTEGER PRIMARY KEY,
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  parent_span_id TEXT NOT NULL,
  node_name TEXT NOT NULL,
  app TEXT NOT NULL,
  event TEXT NOT NULL,
  stage TEXT NOT NULL,
  phase TEXT NOT NULL,
  status TEXT NOT NULL,
  timestamp_us INTEGER NOT NULL,
  duration_us INTEGER NOT NULL,
  from_version TEXT NOT NULL,
  to_version TEXT NOT NULL,
  actor TEXT NOT NULL,
  detail TEXT NOT NULL,
  previous BLOB NOT NULL CHECK (length(previous) = 32),
  hash BLOB NOT NULL CHECK (length(hash) = 32)
);
-- One for each filter of `updagent log`, all in the order in which it prints.
CREATE INDEX events_by_time ON events (timestamp_us);
CREATE INDEX events_by_trace ON events (trace_id, timestamp_us);
CREATE INDEX events_by_app ON events (app, timestamp_us);
CREATE INDEX events_by_stage ON events (stage, timestamp_us);
CREATE INDEX events_by_status ON events (status, timestamp_us);

-- updated_us, here and below: when the row was written; what comes late from the spool never replaces
-- what is newer.
CREATE TABLE apps (
  app TEXT PRIMARY KEY NOT NULL,
  high_water TEXT NOT NULL DEFAULT '',
  previous TEXT NOT NULL DEFAULT '',
  held INTEGER NOT NULL DEFAULT 0,
  held_by TEXT NOT NULL DEFAULT '',
  held_us INTEGER NOT NULL DEFAULT 0,
  updated_us INTEGER NOT NULL DEFAULT 0,
  stopped INTEGER NOT NULL DEFAULT 0,
  stopped_by TEXT NOT NULL DEFAULT '',
  stopped_us INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE deployments (
  trace_id TEXT PRIMARY KEY NOT NULL,
  root_span_id TEXT NOT NULL,
  app TEXT NOT NULL REFERENCES apps (app),
  kind TEXT NOT NULL,
  from_version TEXT NOT NULL,
  to_version TEXT NOT NULL,
  to_digest TEXT NOT NULL,
  source TEXT NOT NULL,
  actor TEXT NOT NULL,
  state TEXT NOT NULL,
  pre_upgrade_ran INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  started_us INTEGER NOT NULL,
  ended_us INTEGER NOT NULL,
  driver_pid INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  bytes_downloaded INTEGER NOT NULL,
  bytes_reused INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  committed_before TEXT NOT NULL DEFAULT '',
  allows_downgrade INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deployments_by_app ON deployments (app, started_us);
CREATE INDEX deployments_open ON deployments (app) WHERE state <> 'closed';

-- One row for each contents of a version that was ever here: the same version with another digest is
-- refused even after the tree is gone.
CREATE TABLE releases (
  app TEXT NOT NULL REFERENCES apps (app),
  version TEXT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  installed_us INTEGER NOT NULL,
  trace_id TEXT NOT NULL,
  removed INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  PRIMARY KEY (app, version, digest)
);

-- Spool files whose events are in the chain: a crash before the file is removed imports nothing twice.
CREATE TABLE spool_imports (
  file_name TEXT PRIMARY KEY NOT NULL
);
