-- A log of :tasks tasks of fifty jobs on twenty agents, interleaved as a busy cluster writes it: each task is created,
-- locked, dispatched, started and ended; one in ten fails first and is retried. Members as the catalogue has them.
with agent as (
  select 'agent-' || a as id from generate_series(1, 20) as a
), task as (
  select n, n % 10 = 0 as fails, id, jsonb_build_object('task_id', id) as "task",
         jsonb_build_object('task_id', id, 'job_id', md5('job' || n % 50)::uuid) as "of",
         jsonb_build_object('instance_id', overlay(id::text placing 'a' from 20), 'attempt', 1) as first,
         jsonb_build_object('instance_id', overlay(id::text placing 'b' from 20), 'attempt', 2) as second,
         jsonb_build_object('agent_id', 'agent-' || 1 + n % 20, 'epoch', 1) as here,
         jsonb_build_object('agent_id', 'agent-' || 1 + n % 20, 'epoch', 2) as again,
         to_jsonb('2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second') as at
    from generate_series(1, :tasks) as n,
         lateral (select overlay(overlay(('019b' || lpad(to_hex(n), 8, '0') || md5(n::text))::char(32)
                                 placing '7' from 13) placing '8' from 17)::uuid as id) as x  -- ordered, as version 7
), life (v, type, happens, run) as (
  values (2, 'TaskLocked', null, 1), (3, 'TaskDispatched', null, 1), (4, 'InstanceStarted', null, 1),
         (5, 'InstanceSucceeded', false, 1), (6, 'TaskSucceeded', false, 1),
         (5, 'InstanceFailed', true, 1), (6, 'TaskRetryScheduled', true, 2), (7, 'TaskLocked', true, 2),
         (8, 'TaskDispatched', true, 2), (9, 'InstanceStarted', true, 2), (10, 'InstanceSucceeded', true, 2),
         (11, 'TaskSucceeded', true, 2)
), event (n, v, stream, type, data) as (
  select -1000, 1, 'agent-' || id, 'AgentRegistered',
         jsonb_build_object('agent_id', id, 'name', id, 'reported_labels', '{"os": "linux"}'::jsonb,
           'reported_metadata', '{}'::jsonb, 'effective_labels', '{"os": "linux"}'::jsonb,
           'effective_metadata', '{}'::jsonb, 'max_concurrent_tasks', 8, 'version', '0.1.0', 'host', id,
           'incarnation', 1, 'registered_at', '2026-01-01T00:00:00Z')
    from agent
  union all
  select n, 1, 'task-' || id, 'TaskCreated', "of" || first || jsonb_build_object(
           'job_version', 1, 'namespace_id', 'default', 'name', 'job ' || n % 50, 'description', null, 'priority', 0,
           'schedule_id', md5('schedule' || n % 50)::uuid, 'schedule_kind', 2, 'nominal_at', at, 'scheduled_at', at,
           'environment', '{"MESSAGE": "hello"}'::jsonb, 'parameters', '{}'::jsonb, 'agent_id', null,
           'retry_count', 0, 'dependencies', null, 'trigger', 'schedule', 'created_at', at, 'created_by', 1,
           'config', '{"timeout": 3600, "max_retries": 3, "retry_interval": 60, "cmd": "bash",
             "args": ["-c", "echo $MESSAGE"], "capture_output": true, "max_output_size": 10485760,
             "environment": null, "labels": null, "resource_limits": null}'::jsonb)
    from task
  union all
  select n, v, 'task-' || id, type,
         case type
           when 'TaskLocked' then "task" || jsonb_build_object('server_id', 'server-1', 'locked_at', at)
           when 'TaskDispatched' then
             "of" || instance || place || jsonb_build_object('session', '0123456789abcdef', 'dispatched_at', at)
           when 'InstanceStarted' then
             "of" || instance || place || jsonb_build_object('started_at', at, 'pid', n, 'isolation', null)
           when 'InstanceSucceeded' then "of" || instance || place || jsonb_build_object(
             'started_at', at, 'completed_at', at, 'duration_seconds', 0.5, 'exit_code', 0,
             'metrics', '{"cpu_time": 0.01, "memory_peak": 1000000, "disk_read": 0, "disk_write": 0, "network_in": 0,
               "network_out": 0}'::jsonb,
             'output', jsonb_build_object('dropped', 0,
               'stdout', jsonb_build_object('bytes', 6, 'kept', 6, 'sha256', md5(n::text) || md5(n::text)),
               'stderr', jsonb_build_object('bytes', 0, 'kept', 0, 'sha256', md5('') || md5(''))))
           when 'InstanceFailed' then "of" || instance || place || jsonb_build_object(
             'status', 90, 'reason', 'exit_code', 'error_message', 'exit status 1', 'started_at', at,
             'completed_at', at, 'duration_seconds', 0.5, 'exit_code', 1, 'signal', null, 'metrics', null,
             'output', null)
           when 'TaskRetryScheduled' then "of" || instance || jsonb_build_object('retry_at', at, 'retry_count', 1)
           when 'TaskSucceeded' then "of" || jsonb_build_object('completed_at', at)
         end
    from task join life on happens is null or happens = fails,
         lateral (select case run when 1 then first else second end as instance,
                         case run when 1 then here else again end as place) as x
)
insert into events (position, recorded_at, version, schema, event_id, stream_id, type, data, metadata)
select row_number() over story, '2026-01-01T00:00:00Z'::timestamptz + row_number() over story * interval '1 ms', v, 1,
       md5(stream || v)::uuid, stream, type, data,
       jsonb_build_object('correlation_id', md5(stream)::uuid, 'causation_id', null, 'principal', 'system',
         'command_id', md5(stream || v)::uuid, 'request_id', null)
  from event
window story as (order by n + 3 * v, n, v)
