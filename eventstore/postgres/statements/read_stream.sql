-- $1 text: stream; $2 int: after version; $3 bigint: until position
-- The range from `streams` prunes the partitions: without it every one is probed.
select position, recorded_at, version, schema, event_id, stream_id, type, data, metadata
  from events
 where stream_id = $1 and version > $2
   and position between (select first_position from streams where stream_id = $1)
                    and least($3::bigint, (select last_position from streams where stream_id = $1))
 order by version
