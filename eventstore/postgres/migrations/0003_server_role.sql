-- The role of a running server owns nothing: it reads everything and appends. Made only where the migrating role may;
-- roles belong to the whole cluster, so another database may have made it first.
do $$
declare
  t text;
begin
  if not exists (select from pg_roles where rolname = 'hetuflow_server') then
    begin
      create role hetuflow_server nologin;
    exception
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise notice 'role hetuflow_server not created: this user may not create roles';
    end;
  end if;
  revoke all on function add_partition(bigint, bigint), extend_events(bigint, bigint) from public;
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    execute format('grant usage on schema %I to hetuflow_server', current_schema());
    grant select, insert on events to hetuflow_server;
    grant select, insert, update on streams to hetuflow_server;
    grant select, insert, update, delete on checkpoints, snapshots to hetuflow_server;
    grant select on schema_migrations to hetuflow_server;
    grant execute on function extend_events(bigint, bigint) to hetuflow_server;
  end if;
end $$;
