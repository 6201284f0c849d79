"""What is decided from memory of many streams: when schedules fire, which agent runs what, who is lost.

Reading order: `agenda` (the open work, pure) and `orders`, `leases` (the right to decide), `peers` (who else is there),
`trust` (how long one may believe in oneself), `clocks` (whether the wall clock is right), `ticker`,
`dispatcher`, `reaper` (the duties, each a loop over the agenda), `settling` (instances whose agent cannot say), `outside`
(the actors' intents performed), `reactions` (what follows an event elsewhere), `scheduler` (all of it as one thing).
"""
