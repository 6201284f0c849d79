-- A snapshot may also be of a fold of the whole log: its version is then a position, which is a bigint.
alter table snapshots alter column version type bigint;
