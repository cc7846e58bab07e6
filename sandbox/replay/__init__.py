"""Public data through the real scorer: the Avazu click log, and raw OpenRTB and AdX bid requests."""
