"""Where older programs find `log_once` and its companions."""

from mobula.util._logging import (
    disable_log_once_globally,
    enable_periodic_logging,
    log_once,
    reset_log_once,
)

__all__ = ["disable_log_once_globally", "enable_periodic_logging", "log_once", "reset_log_once"]
