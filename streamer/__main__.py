"""`python -m streamer`."""

from streamer.commands import main

main()
