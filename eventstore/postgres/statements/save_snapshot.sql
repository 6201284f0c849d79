-- $1 text: stream; $2 int: schema of the state; $3 int: version; $4 jsonb: state
insert into snapshots as s (stream_id, schema, version, state) values ($1, $2, $3, $4)
on conflict (stream_id, schema) do update set version = excluded.version, state = excluded.state
 where s.version < excluded.version
