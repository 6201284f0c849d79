-- $1 bigint: after; $2 bigint: limit
select position, recorded_at, version, schema, event_id, stream_id, type, data, metadata
  from events
 where position > $1
 order by position
 limit $2
