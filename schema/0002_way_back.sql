-- What a recovery must know of the deployment that it ends: where `committed` pointed before, and
-- whether the operator allowed to go below the mark. An older version writes the defaults: its rows
-- are ended as it would have ended them.
ALTER TABLE deployments ADD COLUMN committed_before TEXT NOT NULL DEFAULT '';
ALTER TABLE deployments ADD COLUMN allows_downgrade INTEGER NOT NULL DEFAULT 0;
