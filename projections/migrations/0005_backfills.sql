-- Backfills. A definition that changes later rebuilds its table at the next start; this file never changes again.
create table sched_backfill (
  id uuid,
  schedule_id uuid,
  job_id uuid,
  status text collate "C",
  from_at timestamptz,
  until_at timestamptz,
  total bigint,
  max_concurrent integer,
  cursor_at timestamptz,
  made bigint,
  left_out bigint,
  succeeded bigint,
  failed bigint,
  cancelled bigint,
  note text collate "C",
  finished_at timestamptz,
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_backfill add constraint sched_backfill_pkey primary key (id);
create index sched_backfill_by_created_at_id on sched_backfill (created_at, id);
create index sched_backfill_by_schedule_id_created_at_id on sched_backfill (schedule_id, created_at, id);

do $$
begin
  if not exists (select from pg_roles where rolname = 'hetuflow_server') then return; end if;
  alter table sched_backfill owner to hetuflow_server;
exception when insufficient_privilege then
  raise notice 'the table stays with %: a server of role hetuflow_server cannot rebuild it', current_user;
end $$;
