-- One call = one transaction = one round trip for a whole batch of independent appends.
--
-- c_*: claims (number of the append, stream, expected version); a claim without events is a guard.
-- e_*: events in the order they shall have, with the versions they get when their append wins.
-- Answers the head before the batch, how many events were appended, their time, and the claims that lost: their place
-- in c_* from 1, and the version the stream really has. An append that lost any claim wrote nothing; the others are
-- not disturbed. No two appends of one batch may write the same stream: the writer sees to it.
create function append_events(
  c_append int[], c_stream text[], c_expected int[],
  e_append int[], e_stream text[], e_version int[], e_schema smallint[],
  e_id uuid[], e_type text[], e_data jsonb[], e_meta jsonb[], origin text
) returns table (head bigint, appended int, recorded_at timestamptz, lost_claim int[], lost_actual int[])
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
declare
  h bigint; h_at timestamptz; stamp timestamptz; n int := 0; losers int[]; claims int[]; actuals int[];
begin
  perform pg_advisory_xact_lock(7403011);          -- alone: the next statement's snapshot must begin after the wait
  select array_agg(c.append), array_agg(c.place::int), array_agg(coalesce(s.version, 0)) into losers, claims, actuals
    from unnest(c_append, c_stream, c_expected) with ordinality as c(append, stream, expected, place)
    left join streams s on s.stream_id = c.stream
   where coalesce(s.version, 0) <> c.expected;
  losers := coalesce(losers, '{}');
  -- The last row of an insert-only index has no dead versions: constant cost also under an old open snapshot.
  select e.position, e.recorded_at into h, h_at from events e order by e.position desc limit 1;
  h := coalesce(h, 0);
  stamp := greatest(clock_timestamp(), h_at);
  insert into events (position, recorded_at, version, schema, event_id, stream_id, type, data, metadata)
  select h + row_number() over (order by u.ord), stamp, u.version, u.schema, u.event_id, u.stream_id, u.type,
         u.data, u.metadata
    from unnest(e_append, e_stream, e_version, e_schema, e_id, e_type, e_data, e_meta) with ordinality
      as u(append, stream_id, version, schema, event_id, type, data, metadata, ord)
   where not (u.append = any (losers));
  get diagnostics n = row_count;
  if n > 0 then
    -- The positions are the batch's range: a hint that covers the stream's events, for partition pruning.
    insert into streams as s (stream_id, version, first_position, last_position)
    select u.stream_id, max(u.version), h + 1, h + n
      from unnest(e_append, e_stream, e_version) as u(append, stream_id, version)
     where not (u.append = any (losers)) group by u.stream_id
    on conflict (stream_id) do update set version = excluded.version, last_position = excluded.last_position;
    perform pg_notify('events', (h + n)::text || ' ' || origin);
  end if;
  return query select h, n, stamp, claims, actuals;
end $$;
