-- Jobs have a priority and a budget of retries. Those that were submitted
-- before get the defaults, and wait since they were submitted.
UPDATE jobs SET body = CAST(json_set(CAST(body AS TEXT),
    '$.spec.priority', 50,
    '$.spec.retries', 2,
    '$.tenant', json_extract(CAST(body AS TEXT), '$.owner'),
    '$.queued_at', json_extract(CAST(body AS TEXT), '$.created')) AS BLOB);
