-- What running instances use (few points of each: see projections/usage.py), and how agents do, a point a minute.
--
-- Both are partitioned by the day (UTC), and whole days are dropped. Best effort: what cannot be stored is not missed by
-- anything but a picture. The default partitions take what no day takes.

create table task_instance_usage (
  instance_id             uuid             not null,
  slot                    int              not null check (slot >= 0),  -- tens of seconds since the start
  at                      timestamptz      not null,
  elapsed_seconds         double precision not null,
  cpu_seconds             double precision not null,  -- since the start, as all but memory_bytes and processes
  memory_bytes            bigint           not null,
  memory_peak_bytes       bigint           not null,
  disk_read_bytes         bigint           not null,
  disk_write_bytes        bigint           not null,
  processes               int              not null,
  cpu_pressure_seconds    double precision not null,
  memory_pressure_seconds double precision not null,
  primary key (instance_id, slot, at)
) partition by range (at);
create table task_instance_usage_default partition of task_instance_usage default;

create table agent_usage (
  agent_id     text collate "C" not null,
  at           timestamptz      not null,
  cpu_usage    real             not null,  -- percent, as the next two
  memory_usage real             not null,
  disk_usage   real             not null,
  load         real             not null,
  active_tasks int              not null,
  slots        int              not null,
  primary key (agent_id, at)
) partition by range (at);
create table agent_usage_default partition of agent_usage default;

-- Partitions of both for today and the days ahead (UTC); the days that are older than wanted go. Returns how many were
-- made and dropped. What is in use just now is dropped the next time.
create function turn_usage(days_ahead int, instance_days int, agent_days int) returns int
language plpgsql security definer set search_path from current set lock_timeout = '2s' as $$
declare
  today date := (now() at time zone 'UTC')::date;
  parent text;
  kept int;
  day date;
  name text;
  old record;
  changed int := 0;
begin
  perform pg_advisory_xact_lock(7403018);
  foreach parent in array array['task_instance_usage', 'agent_usage'] loop
    kept := case parent when 'agent_usage' then agent_days else instance_days end;
    for day in select today + n from generate_series(0, least(days_ahead, 31)) as n loop
      name := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      continue when to_regclass(quote_ident(name)) is not null;
      begin
        execute format('create table %I (like %I including all)', name, parent);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, name,
                       day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
        changed := changed + 1;
      exception
        when check_violation then null;
      end;
    end loop;
    for old in
      select c.relname from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
       where i.inhparent = to_regclass(quote_ident(parent))
         and c.relname ~ format('^%s_[0-9]{8}$', parent)
         and to_date(right(c.relname, 8), 'YYYYMMDD') < today - greatest(kept, 1)
    loop
      begin
        execute format('drop table %I', old.relname);
        changed := changed + 1;
      exception
        when lock_not_available then null;
      end;
    end loop;
    execute format('delete from %I where at < $1', parent || '_default')
      using (today - greatest(kept, 1))::timestamp at time zone 'UTC';
  end loop;
  return changed;
end $$;
select turn_usage(2, 7, 1);

do $$
begin
  revoke all on function turn_usage(int, int, int) from public;
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    grant select, insert, delete on task_instance_usage, agent_usage to hetuflow_server;
    grant execute on function turn_usage(int, int, int) to hetuflow_server;
  end if;
end $$;
