-- $1: where this database is now
update store_identity
   set generation = generation + (place is not null)::int, place = $1::text
 where place is distinct from $1::text
