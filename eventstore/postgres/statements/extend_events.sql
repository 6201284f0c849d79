-- $1 bigint: positions needed after the head; $2 bigint: size of a partition
select extend_events($1, $2)
