-- $1 text: stream; $2 int: schema of the state
select version, state from snapshots where stream_id = $1 and schema = $2
