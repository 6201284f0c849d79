-- Files that instances leave behind (artifacts), and files that people upload for instances to read.
--
-- task_artifact: one row per piece, bytes by their offset within the file. Partitioned by the day (UTC) of `collected_at`,
-- which is one value for a whole file: a file lies in one partition, its key holds there, and retention drops whole
-- tables. Pieces are stored in order and without gaps, so that the end of the last one says how much of a file is here.
--
-- kept_file, kept_file_piece: by digest, so that the same bytes are kept once whoever uploads them.
--
-- Bytes are not compressed (`external`): most files that are worth collecting are already, and a piece in the middle is
-- read without the rest.

create table task_artifact (
  instance_id  uuid        not null,
  path         text collate "C" not null check (octet_length(path) between 1 and 1000),
  byte_offset  bigint      not null check (byte_offset >= 0),
  collected_at timestamptz not null,
  bytes_total  bigint      not null check (bytes_total >= 0),
  sha256       bytea       not null check (octet_length(sha256) = 32),
  data         bytea       not null check (data <> '' or bytes_total = 0),
  primary key (instance_id, path, collected_at, byte_offset)
) partition by range (collected_at);
alter table task_artifact alter column data set storage external;
create table task_artifact_default partition of task_artifact default;

-- Store the bytes that are not stored yet; of each file sent, say how far it goes now. A piece that begins beyond that is
-- left: it is sent again. One call = one statement of its own = durable when it returns.
create function store_task_artifact(
  instances uuid[], paths text[], ats timestamptz[], totals bigint[], digests bytea[], offsets bigint[], datas bytea[],
  out instance_id uuid, out path text, out stored bigint
) returns setof record language plpgsql set search_path from current as $$
#variable_conflict use_column
declare
  piece record;
  reached bigint;
begin
  -- Two connections may bring the same piece at once: the second waits, and then sees what the first stored.
  perform pg_advisory_xact_lock(7403016, s.slot)
     from (select distinct uuid_hash(i) & 255 as slot from unnest(instances) as i order by 1) as s;
  for piece in
    select * from unnest(instances, paths, ats, totals, digests, offsets, datas)
                  with ordinality as u(instance, path, at, total, digest, lo, data, place) order by u.place
  loop
    reached := (select a.byte_offset + octet_length(a.data) from task_artifact as a
                 where a.instance_id = piece.instance and a.path = piece.path and a.collected_at = piece.at
                 order by a.byte_offset desc limit 1);
    if reached is null and piece.lo = 0
       or reached between piece.lo and piece.lo + octet_length(piece.data) - 1 and reached < piece.total then
      insert into task_artifact (instance_id, path, byte_offset, collected_at, bytes_total, sha256, data)
      values (piece.instance, piece.path, coalesce(reached, 0), piece.at, piece.total, piece.digest,
              substr(piece.data, (coalesce(reached, 0) - piece.lo)::int + 1));
      reached := piece.lo + octet_length(piece.data);
    end if;
    instance_id := piece.instance; path := piece.path; stored := coalesce(reached, 0);
    return next;
  end loop;
end $$;

-- Partitions for today and the days ahead (UTC); return how many were made. As `extend_task_output`.
create function extend_task_artifact(days_ahead int) returns int
language plpgsql security definer set search_path from current as $$
declare
  today date := (now() at time zone 'UTC')::date;
  day date;
  name text;
  made int := 0;
begin
  perform pg_advisory_xact_lock(7403017);
  for day in select today + n from generate_series(0, least(days_ahead, 31)) as n loop
    name := format('task_artifact_%s', to_char(day, 'YYYYMMDD'));
    continue when to_regclass(quote_ident(name)) is not null;
    begin
      execute format('create table %I (like task_artifact including all)', name);
      execute format('alter table task_artifact attach partition %I for values from (%L) to (%L)', name,
                     day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
      made := made + 1;
    exception
      when check_violation then null;
    end;
  end loop;
  return made;
end $$;
select extend_task_artifact(2);

create table kept_file (
  sha256      bytea       not null primary key check (octet_length(sha256) = 32),
  bytes_total bigint      not null check (bytes_total >= 0),
  created_at  timestamptz not null default now()
);
create table kept_file_piece (
  sha256      bytea  not null references kept_file on delete cascade,
  byte_offset bigint not null check (byte_offset >= 0),
  data        bytea  not null,
  primary key (sha256, byte_offset)
);
alter table kept_file_piece alter column data set storage external;

do $$
begin
  revoke all on function store_task_artifact(uuid[], text[], timestamptz[], bigint[], bytea[], bigint[], bytea[]),
                         extend_task_artifact(int) from public;
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    grant select, insert on task_artifact to hetuflow_server;
    grant select, insert, delete on kept_file, kept_file_piece to hetuflow_server;
    grant execute on function store_task_artifact(uuid[], text[], timestamptz[], bigint[], bytea[], bigint[], bytea[]),
                              extend_task_artifact(int) to hetuflow_server;
  end if;
end $$;
