"""The seven ports through which hetuflow meets the world: clock, random, ids, store, network, processes, disk.

Everything above them is deterministic given their answers; the simulation replaces them and nothing else. The store's
port is `eventstore.store`. `real` holds the implementations on the operating system for clock, random, ids and disk;
those of the network and of processes live where their libraries do (gateway, agent).
"""
