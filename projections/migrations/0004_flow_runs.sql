-- Runs of flows: as the definition in projections/flow_runs.py was when this was written.
create table sched_flow_run (
  id uuid,
  job_id uuid,
  name text collate "C",
  namespace_id text collate "C",
  status integer,
  trigger text collate "C",
  schedule_id uuid,
  nominal_at timestamptz,
  parameters jsonb,
  task_count integer,
  outcome jsonb,
  completed_at timestamptz,
  cancel_requested_at timestamptz,
  retried_at timestamptz,
  graph jsonb,
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_flow_run add constraint sched_flow_run_pkey primary key (id);
create index sched_flow_run_by_created_at_id on sched_flow_run (created_at, id);
create index sched_flow_run_by_job_id_created_at_id on sched_flow_run (job_id, created_at, id);
create index sched_flow_run_by_schedule_id_created_at_id on sched_flow_run (schedule_id, created_at, id);
create index sched_flow_run_by_status_created_at_id on sched_flow_run (status, created_at, id);

do $$
begin
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    alter table sched_flow_run owner to hetuflow_server;
  end if;
exception when insufficient_privilege then
  raise notice 'the table stays with %: a server of role hetuflow_server cannot rebuild it', current_user;
end $$;
