-- The tables for people, and the server's own open_work: as the definitions in projections/ were when this was written.
-- A definition that changes later rebuilds its table at the next start; this file never changes again.
create table sched_job (
  id uuid,
  namespace_id text collate "C",
  name text collate "C",
  description text collate "C",
  environment jsonb,
  config jsonb,
  status integer,
  agent_id text collate "C",
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_job add constraint sched_job_pkey primary key (id);
create index sched_job_by_created_at_id on sched_job (created_at, id);
create index sched_job_by_name_id on sched_job (name, id);

create table sched_schedule (
  id uuid,
  job_id uuid,
  name text collate "C",
  description text collate "C",
  schedule_kind integer,
  cron_expression text collate "C",
  interval_secs bigint,
  max_count bigint,
  timezone text collate "C",
  start_time timestamptz,
  end_time timestamptz,
  event_type text collate "C",
  event_filter jsonb,
  status integer,
  misfire_policy text collate "C",
  misfire_grace_seconds bigint,
  overlap_policy text collate "C",
  jitter_seconds bigint,
  parameters jsonb,
  priority integer,
  next_run_at timestamptz,
  last_run_at timestamptz,
  fire_count bigint,
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_schedule add constraint sched_schedule_pkey primary key (id);
create index sched_schedule_by_created_at_id on sched_schedule (created_at, id);
create index sched_schedule_by_job_id_created_at_id on sched_schedule (job_id, created_at, id);
create index sched_schedule_by_name_id on sched_schedule (name, id);
create index sched_schedule_by_next_run_at_id on sched_schedule (next_run_at, id);

create table sched_task (
  id uuid,
  job_id uuid,
  name text collate "C",
  description text collate "C",
  namespace_id text collate "C",
  priority integer,
  status integer,
  schedule_id uuid,
  schedule_kind integer,
  scheduled_at timestamptz,
  completed_at timestamptz,
  environment jsonb,
  parameters jsonb,
  config jsonb,
  retry_count integer,
  dependencies jsonb,
  locked_at timestamptz,
  trigger text collate "C",
  instance_id uuid,
  attempt integer,
  next_retry_at timestamptz,
  cancel_requested_at timestamptz,
  created_by integer,
  updated_by integer,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_task add constraint sched_task_pkey primary key (id);
create index sched_task_by_created_at_id on sched_task (created_at, id);
create index sched_task_by_job_id_created_at_id on sched_task (job_id, created_at, id);
create index sched_task_by_schedule_id_created_at_id on sched_task (schedule_id, created_at, id);
create index sched_task_by_status_created_at_id on sched_task (status, created_at, id);

create table sched_task_instance (
  id uuid,
  task_id uuid,
  job_id uuid,
  agent_id text collate "C",
  status integer,
  started_at timestamptz,
  completed_at timestamptz,
  error_message text collate "C",
  exit_code integer,
  signal integer,
  reason text collate "C",
  metrics jsonb,
  attempt integer,
  epoch integer,
  external boolean,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) partition by range (created_at);
create table sched_task_instance_default partition of sched_task_instance default with (fillfactor = 80);
alter table sched_task_instance add constraint sched_task_instance_pkey primary key (id, created_at);
create index sched_task_instance_by_task_id on sched_task_instance (task_id);
create index sched_task_instance_by_created_at_id on sched_task_instance (created_at, id);
create index sched_task_instance_by_job_id_created_at_id on sched_task_instance (job_id, created_at, id);
create index sched_task_instance_by_status_created_at_id on sched_task_instance (status, created_at, id);

create table sched_agent (
  id text collate "C",
  name text collate "C",
  namespace_id text collate "C",
  description text collate "C",
  address text collate "C",
  status integer,
  capabilities jsonb,
  reported_labels jsonb,
  config jsonb,
  statistics jsonb,
  running_instances integer,
  draining boolean,
  drain jsonb,
  last_heartbeat_at timestamptz,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_agent add constraint sched_agent_pkey primary key (id);
create index sched_agent_by_created_at_id on sched_agent (created_at, id);

create table sched_server (
  id text collate "C",
  name text collate "C",
  address text collate "C",
  bind_namespaces jsonb,
  status integer,
  description text collate "C",
  last_heartbeat_at timestamptz,
  created_at timestamptz,
  updated_at timestamptz,
  version integer
) with (fillfactor = 80);
alter table sched_server add constraint sched_server_pkey primary key (id);
create index sched_server_by_created_at_id on sched_server (created_at, id);

create table open_work (
  stream_id text collate "C",
  category text collate "C",
  opened_at timestamptz
) with (fillfactor = 80);
alter table open_work add constraint open_work_pkey primary key (stream_id);
create index open_work_by_category_opened_at_stream_id on open_work (category, opened_at, stream_id);

-- Which definition each table is the fold of. No row: of none yet.
create table projection_tables (
  name        text collate "C" primary key,
  fingerprint text        not null,
  folded_at   timestamptz not null default now()
);

insert into checkpoints (name, position) values ('live', 0), ('open_work', 0);

-- A fresh table is filled here, under the names it will have, and then changes places with the live one.
create schema hetuflow_rebuild;

-- Unlike the log, the tables belong to the running server: it rebuilds them.
do $$
declare
  t text;
begin
  if not exists (select from pg_roles where rolname = 'hetuflow_server') then return; end if;
  execute format('grant usage, create on schema %I to hetuflow_server', current_schema());
  foreach t in array array['sched_job', 'sched_schedule', 'sched_task', 'sched_task_instance',
                           'sched_task_instance_default', 'sched_agent', 'sched_server', 'open_work',
                           'projection_tables'] loop
    execute format('alter table %I owner to hetuflow_server', t);
  end loop;
  alter schema hetuflow_rebuild owner to hetuflow_server;
exception when insufficient_privilege then
  raise notice 'the tables stay with %: a server of role hetuflow_server cannot rebuild them', current_user;
end $$;
