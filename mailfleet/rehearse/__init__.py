"""Playing a warm-up before it begins: a model of providers, the real policy, and a clock that runs by the hour. No I/O."""
