-- Retention: whole days of output and artifacts are dropped, the oldest first, one per transaction.
--
-- `retention.dropped_before`: what lies before is gone, or about to be: written by the transaction that drops. A reader who
-- finds nothing tells from it what was dropped from what never was.
--
-- Dropping a day takes the lock of the whole table for a moment. It waits half a second for it, because everybody else
-- waits behind, and is tried again later.

create table retention (
  what           text        not null primary key check (what in ('task_output', 'task_artifact')),
  dropped_before timestamptz not null,
  dropped_at     timestamptz not null
);

-- The days that end before so many whole days ago (UTC), the oldest first. `name` of what the default partition holds is
-- that of the default partition; it counts as older than every day.
create function old_days(parent text, days int, out name text, out day date, out bytes bigint)
returns setof record language plpgsql stable set search_path from current as $$
declare
  today date := (now() at time zone 'UTC')::date;
  column_name text := case parent when 'task_output' then 'at' when 'task_artifact' then 'collected_at' end;
  has_old boolean;
begin
  if column_name is null or not days between 1 and 36500 then
    raise exception 'old_days(%, %)', parent, days using errcode = 'invalid_parameter_value';
  end if;
  execute format('select exists (select from %I where %I < $1)', parent || '_default', column_name)
     into has_old using (today - days)::timestamp at time zone 'UTC';
  if has_old then
    name := parent || '_default'; day := null; bytes := pg_total_relation_size(to_regclass(quote_ident(name)));
    return next;
  end if;
  for name, day in
    select c.relname, to_date(right(c.relname, 8), 'YYYYMMDD')
      from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
     where i.inhparent = to_regclass(quote_ident(parent)) and c.relname ~ ('^' || parent || '_[0-9]{8}$')
     order by c.relname
  loop
    exit when day >= today - days;
    bytes := pg_total_relation_size(to_regclass(quote_ident(name)));
    return next;
  end loop;
end $$;

-- Drop the oldest of them; null when there is none, or when somebody else drops now. Of the default partition, rows: at
-- most 20000 at once, so that it may come again.
create function drop_oldest_day(parent text, days int, out name text, out day date, out bytes bigint)
language plpgsql security definer set search_path from current set lock_timeout = '500ms' as $$
declare
  cutoff timestamptz := ((now() at time zone 'UTC')::date - days)::timestamp at time zone 'UTC';
begin
  if not pg_try_advisory_xact_lock(7403018) then return; end if;
  select o.name, o.day, o.bytes into name, day, bytes from old_days(parent, days) as o limit 1;
  if name is null then return; end if;
  insert into retention (what, dropped_before, dropped_at) values (parent, cutoff, now())
      on conflict (what) do update set dropped_before = greatest(retention.dropped_before, excluded.dropped_before),
                                       dropped_at = excluded.dropped_at;
  if day is not null then
    execute format('drop table %I', name);
  elsif parent = 'task_output' then
    delete from task_output_default
     where ctid = any (array(select d.ctid from task_output_default as d where d.at < cutoff limit 20000));
  else
    delete from task_artifact_default
     where ctid = any (array(select d.ctid from task_artifact_default as d where d.collected_at < cutoff limit 20000));
  end if;
end $$;

do $$
begin
  revoke all on function old_days(text, int), drop_oldest_day(text, int) from public;
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    grant select on retention to hetuflow_server;
    grant execute on function old_days(text, int), drop_oldest_day(text, int) to hetuflow_server;
  end if;
end $$;
