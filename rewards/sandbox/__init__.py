"""A local sandbox for programs that a policy has written, and an adapter for remote ones."""

from rewards.sandbox.limits import Limits, Ran, SandboxError
from rewards.sandbox.runner import Sandbox

__all__ = ["Limits", "Ran", "Sandbox", "SandboxError"]
