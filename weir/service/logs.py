"""Logging of a service: one line per event on standard error."""

import os
import sys

import structlog


def configure_logging() -> None:
    """Log JSON lines to standard error, or a readable form at a terminal.  WEIR_LOG=warning drops everything below a warning."""
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ) if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(30 if os.environ.get("WEIR_LOG") == "warning" else 20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
