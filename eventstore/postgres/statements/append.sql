-- $1 int[], $2 text[], $3 int[]: claims (append, stream, expected version)
-- $4 int[], $5 text[], $6 int[], $7 smallint[], $8 uuid[], $9 text[], $10 jsonb[], $11 jsonb[]: events
--   (append, stream, version, schema, id, type, data, metadata)
-- $12 text: origin of the wake-up
select head, appended, recorded_at, lost_claim, lost_actual
  from append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
