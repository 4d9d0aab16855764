-- `updagent stop`: the app is to stay stopped, also after a boot, until `start` or a commit. An older
-- version leaves the columns as they are, and starts the app when it is told to.
ALTER TABLE apps ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE apps ADD COLUMN stopped_by TEXT NOT NULL DEFAULT '';
ALTER TABLE apps ADD COLUMN stopped_us INTEGER NOT NULL DEFAULT 0;
