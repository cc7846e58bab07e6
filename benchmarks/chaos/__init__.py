"""Faults on purpose while requests come; a reader outside of the scorer says what was lost or came twice."""
