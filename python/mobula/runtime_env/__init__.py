"""Runtime environments: what tasks run in. `RuntimeEnv`, `RuntimeEnvConfig`."""

from mobula.runtime_env.runtime_env import RuntimeEnv, RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
