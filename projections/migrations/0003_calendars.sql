-- Exclusion calendars. A definition that changes later rebuilds its table at the next start; this file never changes again.
create table sched_calendar (
  id text collate "C",
  description text collate "C",
  timezone text collate "C",
  dates jsonb,
  ranges jsonb,
  yearly jsonb,
  weekdays jsonb,
  times jsonb,
  periods jsonb,
  imported_until_at timestamptz,
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_calendar add constraint sched_calendar_pkey primary key (id);
create index sched_calendar_by_created_at_id on sched_calendar (created_at, id);

do $$
begin
  if not exists (select from pg_roles where rolname = 'hetuflow_server') then return; end if;
  alter table sched_calendar owner to hetuflow_server;
exception when insufficient_privilege then
  raise notice 'the table stays with %: a server of role hetuflow_server cannot rebuild it', current_user;
end $$;
