-- Events from outside are told again: each is looked up by its derived id before it is recorded. Only they are indexed.
create index events_external on events (event_id) where type = 'ExternalEventReceived';
