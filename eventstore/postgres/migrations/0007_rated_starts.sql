-- What a server that begins to decide has to know of jobs with a rate: their latest starts. Only these are indexed.
create index events_rated on events ((data->>'job_id'), position)
  where type = 'TaskDispatched' and data->>'rate' is not null;
