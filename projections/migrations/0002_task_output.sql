-- What processes print: one row per piece as it arrived, bytes by their offset within the instance's stream.
--
-- Partitioned by the day of arrival (UTC), so that retention drops whole tables. The default partition takes what no
-- day takes: storing never fails for want of a partition. No key can span the partitions without `at`, so that a
-- piece is kept once is the promise of `store_task_output`, the only writer.
--
-- Partitions are new every day and have no statistics yet: the functions keep the planner from sorting what an index
-- gives in order, which it finds cheap for the few rows it believes in.

create table task_output (
  instance_id uuid        not null,
  byte_offset bigint      not null check (byte_offset >= 0),
  seq         bigint      not null,
  at          timestamptz not null,
  stream      smallint    not null check (stream in (1, 2)),  -- 1 stdout, 2 stderr
  data        bytea       not null check (data <> ''),
  primary key (instance_id, stream, byte_offset, at)
) partition by range (at);
create index task_output_arrival on task_output (instance_id, seq, stream, byte_offset);
create table task_output_default partition of task_output default;

-- Keep the bytes that are not kept yet: a piece sent again adds nothing, one that overlaps adds what is new.
-- The pieces of one call must not overlap each other. One call = one statement of its own = durable when it returns.
create function store_task_output(
  instances uuid[], streams smallint[], offsets bigint[], seqs bigint[], ats timestamptz[], datas bytea[]
) returns bigint language plpgsql
set search_path from current set enable_sort = off set enable_bitmapscan = off as $$
declare
  stored bigint;
begin
  -- Two connections may bring the same piece at once: the second waits, and then sees what the first stored.
  perform pg_advisory_xact_lock(7403014, s.slot)
     from (select distinct uuid_hash(i) & 255 as slot from unnest(instances) as i order by 1) as s;
  insert into task_output (instance_id, stream, byte_offset, seq, at, data)
  select c.instance, c.stream, gap.lo, c.seq, c.at,
         case when gap.lo = c.lo and gap.hi = c.hi then c.data
              else substr(c.data, (gap.lo - c.lo)::int + 1, (gap.hi - gap.lo)::int) end
    from (select u.*, u.lo + octet_length(u.data) as hi
            from unnest(instances, streams, offsets, seqs, ats, datas) as u(instance, stream, lo, seq, at, data)) as c
   cross join lateral (
      -- What is stored from the last piece that begins at or before this one, up to its end; gaps lie between.
      with kept as materialized (
        select o.byte_offset as lo, o.byte_offset + octet_length(o.data) as hi
          from task_output as o
         where o.instance_id = c.instance and o.stream = c.stream and o.byte_offset < c.hi
           and o.byte_offset >= coalesce(
                 (select p.byte_offset from task_output as p
                   where p.instance_id = c.instance and p.stream = c.stream and p.byte_offset <= c.lo
                   order by p.byte_offset desc limit 1), c.lo)
      )
      select greatest(c.lo, coalesce(lag(k.hi) over (order by k.lo), c.lo)) as lo, k.lo as hi from kept as k
      union all
      select greatest(c.lo, coalesce(max(k.hi), c.lo)), c.hi from kept as k
   ) as gap
   where gap.lo < gap.hi
   -- Sorting comes between looking and inserting: else each look steps over what this statement has inserted so far.
   order by c.instance, c.stream, gap.lo;
  get diagnostics stored = row_count;
  return stored;
end $$;

-- The last bytes of an instance, both streams in order of arrival; null when it has none. Reads from the end, and
-- no further than it needs.
create function task_output_tail(instance uuid, bytes_max int, out data bytea, out is_whole boolean)
language plpgsql stable
set search_path from current set enable_sort = off set enable_bitmapscan = off as $$
declare
  piece record;
  parts bytea[];
  bytes_left int := bytes_max;
begin
  is_whole := true;
  for piece in
    select o.data, octet_length(o.data) as size from task_output as o
     where o.instance_id = instance order by o.seq desc, o.stream desc, o.byte_offset desc
  loop
    if piece.size > bytes_left then
      is_whole := false;
      parts := parts || substr(piece.data, piece.size - bytes_left + 1);
      exit;
    end if;
    parts := parts || piece.data;
    bytes_left := bytes_left - piece.size;
  end loop;
  select string_agg(p.part, ''::bytea order by p.place desc) into data
    from unnest(parts) with ordinality as p(part, place);
end $$;

-- Partitions for today and the days ahead (UTC); return how many were made. A day whose first rows are in the default
-- partition already stays there.
create function extend_task_output(days_ahead int) returns int
language plpgsql security definer set search_path from current as $$
declare
  today date := (now() at time zone 'UTC')::date;
  day date;
  name text;
  made int := 0;
begin
  perform pg_advisory_xact_lock(7403015);
  for day in select today + n from generate_series(0, least(days_ahead, 31)) as n loop
    name := format('task_output_%s', to_char(day, 'YYYYMMDD'));
    continue when to_regclass(quote_ident(name)) is not null;
    begin
      -- ATTACH does not keep the writers of other days waiting; PARTITION OF would.
      execute format('create table %I (like task_output including all)', name);
      execute format('alter table task_output attach partition %I for values from (%L) to (%L)', name,
                     day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
      made := made + 1;
    exception
      when check_violation then null;
    end;
  end loop;
  return made;
end $$;
select extend_task_output(2);

do $$
begin
  revoke all on function store_task_output(uuid[], smallint[], bigint[], bigint[], timestamptz[], bytea[]),
                         task_output_tail(uuid, int), extend_task_output(int) from public;
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    grant select, insert on task_output to hetuflow_server;
    grant execute on function store_task_output(uuid[], smallint[], bigint[], bigint[], timestamptz[], bytea[]),
                              task_output_tail(uuid, int), extend_task_output(int) to hetuflow_server;
  end if;
end $$;
