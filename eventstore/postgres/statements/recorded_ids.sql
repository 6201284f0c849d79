-- What stands at the versions some lost appends wanted to write?
-- $1 int[], $2 text[], $3 int[], $4 int[]: (append, stream, after version, until version)
select c.append, e.stream_id, e.event_id, e.position, e.recorded_at
  from unnest($1::int[], $2::text[], $3::int[], $4::int[]) as c(append, stream, after, until)
  join streams s on s.stream_id = c.stream
  join lateral (
    select * from events e
     where e.stream_id = c.stream and e.version > c.after and e.version <= c.until
       and e.position between s.first_position and s.last_position
  ) e on true
 order by c.append, e.stream_id, e.version
