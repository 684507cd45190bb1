"""Commands that query the event log: tail, replay, diff, why, dump, verify."""
