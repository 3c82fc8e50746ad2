"""Retry policies: data in the configuration, tenacity objects here and nowhere else."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pydantic

from northbound.errors import DeliveryError, Unauthorised, Unavailable
from northbound.fields import Duration

if TYPE_CHECKING:
    import tenacity

_SHORTEST = timedelta(milliseconds=1)  # none at all would be a busy loop
#: No wish of a destination is followed for longer than this: a header may say anything.
LONGEST_RETRY_AFTER = timedelta(hours=1)
#: After refused credentials no try comes sooner than this: fast ones lock accounts.
UNAUTHORISED_INITIAL = timedelta(seconds=30)

#: So many connections in a minute follow each other as the policy says: enough to find a message that is hung up on.
CONNECTS_AT_ONCE: Final = 6
_MINUTE: Final = 60.0
#: After them one in so many seconds, or in the policy's longest wait where that is shorter.
CONNECT_SPACING = timedelta(seconds=10)


class RetryPolicy(pydantic.BaseModel):
    """How long to wait between tries, and when to set a message aside.

    Without ``attempts`` and ``give_up_after`` a message is tried until it is taken.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    initial: Duration = pydantic.Field(
        timedelta(milliseconds=500), ge=_SHORTEST, description="The wait after the first failure."
    )
    maximum: Duration = pydantic.Field(
        timedelta(seconds=60),
        ge=_SHORTEST,
        description="No wait is longer than this, unless the destination asks for it. Also how far apart connections "
        "are that end again and again, though never more than 10 s: two clients with one id end each other's.",
    )
    multiplier: float = pydantic.Field(2.0, ge=1, le=10, description="Each wait is this many times the one before.")
    jitter: float = pydantic.Field(
        0.2,
        ge=0,
        le=1,
        description="Up to this share of a wait is random, so that many do not return at once.",
    )
    attempts: int | None = pydantic.Field(
        None, ge=1, description="After so many failed tries a message becomes a dead letter. Default: never."
    )
    give_up_after: Duration | None = pydantic.Field(
        None, description="After so long a failing message becomes a dead letter. Default: never."
    )


class Backoff:
    """Counts failures in a row and says how long to wait; one for each connector."""

    def __init__(self, policy: RetryPolicy) -> None:
        import tenacity  # noqa: PLC0415 - reading a configuration needs the policy, not this

        self._tenacity = tenacity
        self._policy = policy
        stops: list[tenacity.stop.stop_base] = []
        if policy.attempts is not None:
            stops.append(tenacity.stop_after_attempt(policy.attempts))
        if policy.give_up_after is not None:
            stops.append(tenacity.stop_after_delay(policy.give_up_after.total_seconds()))
        self._stop = tenacity.stop_any(*stops) if stops else tenacity.stop_never
        self._state: tenacity.RetryCallState | None = None

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._state.attempt_number - 1 if self._state else 0

    def succeeded(self) -> None:
        """Start over: the next failure is the first."""
        self._state = None

    def failed(self, error: DeliveryError) -> float:
        """Count a failure and return the seconds to wait before the next try."""
        if self._state is None:
            self._state = self._tenacity.RetryCallState(self._tenacity.Retrying(), None, (), {})
        delay = float(self._wait(error)(self._state))
        delay += float(self._tenacity.wait_random(0, delay * self._policy.jitter)(self._state))
        self._state.set_exception((type(error), error, error.__traceback__))
        self._state.attempt_number += 1
        if isinstance(error, Unavailable) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, LONGEST_RETRY_AFTER.total_seconds()))
        return delay

    @property
    def exhausted(self) -> bool:
        """Whether the policy says to give up on what keeps failing."""
        if self._state is None or self._state.attempt_number <= 1:
            return False
        state = self._tenacity.RetryCallState(self._state.retry_object, None, (), {})
        state.attempt_number = self._state.attempt_number - 1
        state.start_time = self._state.start_time
        state.outcome_timestamp = self._state.outcome_timestamp
        return bool(self._stop(state))

    def _wait(self, error: DeliveryError) -> tenacity.wait.wait_base:
        policy = self._policy
        initial, maximum = policy.initial, policy.maximum
        if isinstance(error, Unauthorised):
            initial, maximum = max(initial, UNAUTHORISED_INITIAL), max(maximum, UNAUTHORISED_INITIAL * 10)
        # What jitter adds must not lead beyond the maximum, and at the maximum there must be jitter still.
        return self._tenacity.wait_exponential(
            multiplier=initial.total_seconds(),
            exp_base=policy.multiplier,
            max=maximum.total_seconds() / (1 + policy.jitter),
        )


class Connects:
    """Keeps connections that end again and again from becoming a storm; one for each connector.

    Two services with one client id end each other's connection, and each lives long enough to carry something: so no
    failure is ever the second in a row, which is what :class:`Backoff` counts. The time is passed in.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.spacing = min(CONNECT_SPACING, policy.maximum).total_seconds()
        self._made: deque[float] = deque(maxlen=CONNECTS_AT_ONCE)

    def made(self, now: float) -> None:
        """Count a connection."""
        self._made.append(now)

    def wait(self, now: float) -> float:
        """Return the seconds until the next connection may be made."""
        if len(self._made) < CONNECTS_AT_ONCE or now - self._made[0] > _MINUTE:
            return 0.0
        return max(0.0, self._made[-1] + self.spacing - now)
