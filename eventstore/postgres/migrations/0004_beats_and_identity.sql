-- Signs of life of the processes on this database. Not history: unlogged, so that a beat flushes nothing to disk.
create unlogged table beats (
  name text collate "C" primary key,
  counter bigint not null
) with (fillfactor = 10);

-- Which store this is, and which restoration of it. `place` is where it was last opened (cluster, timeline, database):
-- a store that is opened elsewhere was restored from a backup, or failed over, and is the next generation of itself.
create table store_identity (
  is_only boolean primary key default true check (is_only),
  store_id uuid not null default gen_random_uuid(),
  generation int not null default 0,
  place text
);
insert into store_identity default values;

do $$
begin
  if exists (select from pg_roles where rolname = 'hetuflow_server') then
    grant select, insert, update, delete on beats to hetuflow_server;
    grant select, update on store_identity to hetuflow_server;
  end if;
end $$;
