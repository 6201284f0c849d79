-- $1 name, $2 a stream, $3 whether to count, $4 names that have ended
with counted as (
  insert into beats as b (name, counter) select $1::text, 1 where $3::boolean
  on conflict (name) do update set counter = b.counter + 1
), ended as (
  delete from beats where name = any ($4::text[]) and name <> $1::text
)
select clock_timestamp() as at,
       coalesce((select s.version from streams s where s.stream_id = $2::text), 0) as version,
       array(select b.name from beats b order by b.name) as names,
       array(select b.counter from beats b order by b.name) as counters
