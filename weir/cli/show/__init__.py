"""Commands that show the current state: status, get, describe, sync."""
