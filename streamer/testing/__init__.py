"""Fakes and a virtual clock, for tests of the scorer and of its extensions.

Guarantees: each fake passes the suite of the real thing (`tests/streamer/testing`); no test with them has to sleep.
`virtual_loop`: an event loop whose clock jumps. `consumer_group`: a Kafka consumer group in memory.
`model_servers`: model servers on the virtual clock, whose versions come, go and fail. The product never imports them.
"""
