-- The log: events by global position, one row per stream, checkpoints of projections, snapshots (a cache).
-- Column order is by alignment. `collate "C"`: comparisons are memcmp, and no index depends on the system's locales.

create table events (
  position    bigint      not null,
  recorded_at timestamptz not null,
  version     int         not null check (version > 0),
  schema      smallint    not null,
  event_id    uuid        not null,
  stream_id   text collate "C" not null,
  type        text collate "C" not null,
  data        jsonb       not null,
  metadata    jsonb       not null,
  primary key (position)
) partition by range (position);
create index events_time on events using brin (recorded_at) with (pages_per_range = 32);

create table streams (
  stream_id      text collate "C" primary key,
  version        int    not null,
  first_position bigint not null,
  last_position  bigint not null
) with (fillfactor = 80);

create table checkpoints (
  name     text collate "C" primary key,
  position bigint not null
) with (fillfactor = 10);

create table snapshots (
  stream_id text collate "C" not null,
  schema    int   not null,
  version   int   not null,
  state     jsonb not null,
  primary key (stream_id, schema)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'events are append-only' using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on events
  for each statement execute function refuse_change();
-- "always": also where session_replication_role says replica.
alter table events enable always trigger append_only;

-- A parent's statement trigger does not fire for a partition named directly; a parent's unique index cannot hold
-- (stream_id, version). Both therefore belong to the partition. ATTACH does not wait for an open append;
-- PARTITION OF would. No default partition: each ATTACH would scan it.
create function add_partition(lo bigint, hi bigint) returns void language plpgsql as $$
declare
  name text := format('events_%s', lo);
begin
  if to_regclass(quote_ident(name)) is not null then return; end if;
  execute format('create table %I (like events including defaults including constraints including storage,
                  check (position >= %s and position < %s))
                  with (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000)',
                 name, lo, hi);
  execute format('create unique index on %I (stream_id, version)', name);
  execute format('create trigger append_only before update or delete or truncate on %I
                  for each statement execute function refuse_change()', name);
  execute format('alter table %I enable always trigger append_only', name);
  execute format('alter table events attach partition %I for values from (%s) to (%s)', name, lo, hi);
end $$;

-- Add partitions of `size` positions until `ahead` positions after the head fit; return the first that does not.
create function extend_events(ahead bigint, size bigint) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  head bigint;
  bound bigint;
begin
  perform pg_advisory_xact_lock(7403012);
  select e.position into head from events e order by e.position desc limit 1;
  select coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''(\d+)''\)')::bigint), 1) into bound
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'events'::regclass;
  while bound <= coalesce(head, 0) + ahead loop
    perform add_partition(bound, bound + size);
    bound := bound + size;
  end loop;
  return bound;
end $$;

select extend_events(1, 10000000);
