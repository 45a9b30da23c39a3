-- Old outcomes are removed: of what no experiment counts, by the prediction's
-- time.
CREATE INDEX outcomes_outside ON outcomes (predicted) WHERE experiment = 0;

-- A step of a pipeline looks for jobs of its spec.
CREATE INDEX jobs_spec ON jobs (spec_digest, number);
