"""Attempts that can be cut off, and cancelling that has an effect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from northbound import NorthboundError

_CANCEL_SECONDS: Final = 0.5


async def until_cut_off(work: Callable[[], Awaitable[None]]) -> str:
    """Return why ``work``, which has no end of its own, could not go on."""
    try:
        await work()
    except NorthboundError as error:
        return str(error)
    except BaseExceptionGroup as group:  # raised again, unless all that failed is the other side's
        first = first_of(group)
        if not isinstance(first, NorthboundError):
            raise
        return str(first)
    return "it ended by itself"


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel until it has an effect: the databases' libraries may lose a cancelling that meets an answer."""
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=_CANCEL_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that says most: a defect's before one of ours, which it may have caused."""
    errors: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            errors.append(error)
    return next((error for error in errors if not isinstance(error, NorthboundError)), errors[0])
