-- $1 text[]: streams
select position, recorded_at, version, schema, event_id, stream_id, type, data, metadata
  from events
 where stream_id = any ($1::text[])
   and position between (select min(first_position) from streams where stream_id = any ($1::text[]))
                    and (select max(last_position) from streams where stream_id = any ($1::text[]))
 order by stream_id, version
